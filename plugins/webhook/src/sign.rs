//! Signatures by Standard Webhooks: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit as _, Mac as _};
use profilesync_target::Document;
use sha2::{Digest as _, Sha256};

/// A key to sign with.
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// `whsec_` begins base64, as Standard Webhooks writes keys; any other text is the key itself.
    pub(crate) fn parse(secret: &str) -> Result<Self, String> {
        match secret.strip_prefix("whsec_") {
            Some("") => Err(
                "the signing secret is `whsec_`, and no key follows; `openssl rand -base64 32` makes one".into(),
            ),
            Some(encoded) => BASE64.decode(encoded.as_bytes()).map(Self).map_err(|_| {
                "the signing secret begins with `whsec_`, but what follows is not base64".into()
            }),
            None => Ok(Self(secret.as_bytes().to_vec())),
        }
    }

    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
    }
}

/// The value of `webhook-signature`: one signature for each key, so that the receiver can change keys.
pub(crate) fn signatures(keys: &[Key], id: &str, timestamp: i64, body: &[u8]) -> String {
    keys.iter()
        .map(|key| key.sign(id, timestamp, body))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The value of `webhook-id`: the same for every attempt to deliver the same revision of an account.
pub(crate) fn message_id(document: &Document) -> String {
    // An account holds no control characters, so no two triples read the same.
    let Document {
        sdk_app_id,
        account,
        revision,
        ..
    } = document;
    let digest = Sha256::digest(format!("{sdk_app_id}\n{account}\n{revision}"));
    format!("msg_{}", HEXLOWER.encode(&digest[..16]))
}

/// The value of `webhook-id` for an array of documents: the same for every attempt to deliver these.
pub(crate) fn batch_id(documents: &[&Document]) -> String {
    let mut digest = Sha256::new();
    for document in documents {
        digest.update(message_id(document));
    }
    format!("msg_{}", HEXLOWER.encode(&digest.finalize()[..16]))
}

#[cfg(test)]
mod tests {
    use super::{Key, signatures};

    /// The vector that the Standard Webhooks libraries are tested with.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";

    #[test]
    fn the_published_vector_is_met() {
        let keys = [Key::parse(SECRET).unwrap()];
        assert_eq!(
            signatures(&keys, ID, 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn each_key_signs() {
        let keys = [Key::parse(SECRET).unwrap(), Key::parse("plain").unwrap()];
        let both = signatures(&keys, ID, 1, b"{}");
        assert_eq!(
            both.split(' ').filter(|one| one.starts_with("v1,")).count(),
            2
        );
    }

    #[test]
    fn a_broken_key_is_told_without_showing_it() {
        let error = Key::parse("whsec_not base64!").err().unwrap();
        assert!(
            error.contains("base64") && !error.contains("not base64!"),
            "{error}"
        );
    }
}
