//! Whether a request is signed with one of an app's tokens: `Sign` = hex `sha256(token ‖ RequestTime)`.
//!
//! The signature covers neither the body nor the app nor the command, and two genuine events of one second carry
//! the same one: it keeps strangers out, and is no use against replays within the window.

use std::time::Duration;

use data_encoding::HEXLOWER_PERMISSIVE;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::query::{Given, Query};
use crate::{clock::Millis, config::Token};

/// Why a request is not taken for the app's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsigned {
    #[error("Sign and RequestTime must each be given once")]
    NotOnce,
    #[error("Sign is wrong")]
    Wrong,
    #[error("RequestTime is too far from this clock")]
    Stale,
}

/// Checks `Sign` and `RequestTime`. An app without tokens takes everything.
pub(super) fn check(
    tokens: &[Token],
    query: &Query,
    now: Millis,
    window: Duration,
) -> Result<(), Unsigned> {
    if tokens.is_empty() {
        return Ok(());
    }
    let (Given::Once(sign), Given::Once(request_time)) = (&query.sign, &query.request_time) else {
        return Err(Unsigned::NotOnce);
    };
    let Ok(sign) = HEXLOWER_PERMISSIVE.decode(sign.as_bytes()) else {
        return Err(Unsigned::Wrong);
    };
    // Every token is tried whatever the ones before gave, so that the time taken tells nothing.
    let matches = tokens.iter().fold(Choice::from(0), |matches, token| {
        matches | expected(token, request_time).as_slice().ct_eq(&sign)
    });
    if !bool::from(matches) {
        return Err(Unsigned::Wrong);
    }
    match request_time.parse::<u64>() {
        Ok(time) if time.abs_diff(now / 1000) <= window.as_secs() => Ok(()),
        _ => Err(Unsigned::Stale),
    }
}

/// Over the text of `RequestTime` as it was received.
fn expected(token: &Token, request_time: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(&token.0)
        .chain_update(request_time)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[derive(Deserialize)]
    struct Vector {
        token: String,
        request_time: String,
        sign: String,
    }

    fn vectors() -> Vec<Vector> {
        serde_json::from_str(include_str!("../../tests/fixtures/sign-vectors.json")).unwrap()
    }

    fn query(sign: &str, request_time: &str) -> Query {
        Query {
            sign: Given::Once(sign.to_owned()),
            request_time: Given::Once(request_time.to_owned()),
            ..Query::default()
        }
    }

    fn tokens(tokens: &[&str]) -> Vec<Token> {
        tokens
            .iter()
            .map(|&token| Token(token.to_owned()))
            .collect()
    }

    #[test]
    fn the_published_vectors_hold() {
        for vector in vectors() {
            let seconds: u64 = vector.request_time.parse().unwrap();
            let check = |sign: &str, names: &[&str], now_s: u64| {
                check(
                    &tokens(names),
                    &query(sign, &vector.request_time),
                    now_s * 1000 + 999,
                    WINDOW,
                )
            };
            let own: &[&str] = &["another", &vector.token];
            assert_eq!(check(&vector.sign, own, seconds), Ok(()));
            assert_eq!(check(&vector.sign.to_uppercase(), own, seconds), Ok(()));
            assert_eq!(check(&vector.sign, own, seconds + 60), Ok(()));
            assert_eq!(check(&vector.sign, own, seconds - 60), Ok(()));
            assert_eq!(check(&vector.sign, own, seconds + 61), Err(Unsigned::Stale));
            assert_eq!(check(&vector.sign, own, seconds - 61), Err(Unsigned::Stale));
            assert_eq!(
                check(&vector.sign, &["another"], seconds),
                Err(Unsigned::Wrong)
            );
            assert_eq!(check(&vector.sign, &[], 0), Ok(()));
        }
    }

    #[test]
    fn the_signature_is_over_the_text_received() {
        let token = tokens(&["t"]);
        let now = 1_669_872_112_000;
        for text in ["1669872112", "01669872112"] {
            let sign = HEXLOWER_PERMISSIVE.encode(&expected(&token[0], text));
            assert_eq!(check(&token, &query(&sign, text), now, WINDOW), Ok(()));
        }
        for text in ["1669872112.0", "x", "-1", "99999999999999999999999"] {
            let sign = HEXLOWER_PERMISSIVE.encode(&expected(&token[0], text));
            let checked = check(&token, &query(&sign, text), now, WINDOW);
            assert_eq!(checked, Err(Unsigned::Stale), "{text}");
        }
    }

    #[test]
    fn what_is_no_hex_or_too_short_is_wrong() {
        let vector = &vectors()[0];
        let own = tokens(&[&vector.token]);
        for sign in ["g", "17", &vector.sign[..62], &format!("{}00", vector.sign)] {
            let checked = check(&own, &query(sign, &vector.request_time), 0, WINDOW);
            assert_eq!(checked, Err(Unsigned::Wrong), "{sign}");
        }
        assert_eq!(
            check(&own, &Query::default(), 0, WINDOW),
            Err(Unsigned::NotOnce)
        );
    }
}
