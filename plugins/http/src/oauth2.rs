//! Bearer tokens by OAuth 2.0 client credentials (RFC 6749, section 4.4).
//!
//! A token is fetched by the delivery that needs it, while others wait for that one; nothing is left running. A
//! delivery that is dropped meanwhile lets the next one fetch.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use data_encoding::BASE64;
use form_urlencoded::byte_serialize;
use profilesync_target::Outcome;
use reqwest::{
    Client, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    answer,
    auth::{ClientAuth, sensitive},
    client::host,
    secrets::Secrets,
    transport,
};

/// A token is not used in its last seconds: it must still be good when it arrives.
const MARGIN: Duration = Duration::from_secs(30);

/// A client of a token issuer.
pub(crate) struct OAuth2 {
    pub(crate) url: Url,
    form: String,
    basic: Option<HeaderValue>,
    /// Held while a token is fetched.
    current: Mutex<Option<Arc<Token>>>,
}

/// A token.
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    /// To mask it.
    pub(crate) text: String,
    /// `None` when the issuer did not say: then it is good until it is refused.
    until: Option<Instant>,
}

/// What became of a wish for a token.
pub(crate) enum Issued {
    /// It was at hand.
    Kept(Arc<Token>),
    /// It was fetched just now.
    New(Arc<Token>),
}

#[derive(Deserialize)]
struct Grant {
    access_token: String,
    token_type: Option<String>,
    /// Seconds; a text with some issuers.
    expires_in: Option<Value>,
}

impl OAuth2 {
    pub(crate) fn new(
        url: Url,
        (id, secret): (&str, &str),
        auth: ClientAuth,
        params: BTreeMap<String, String>,
        secrets: &mut Secrets,
    ) -> Self {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        form.extend_pairs(params);
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let basic = match auth {
            ClientAuth::Post => {
                form.append_pair("client_id", id);
                form.append_pair("client_secret", secret);
                None
            }
            ClientAuth::Basic => {
                let pair = format!("{}:{}", encoded(id), encoded(secret));
                let pair = BASE64.encode(pair.as_bytes());
                secrets.keep(&pair);
                Some(sensitive(&format!("Basic {pair}")).expect("base64 is ASCII"))
            }
        };
        Self {
            url,
            form: form.finish(),
            basic,
            current: Mutex::new(None),
        }
    }

    /// A token that is good now, and is not the one that was refused.
    pub(crate) async fn token(
        &self,
        client: &Client,
        secrets: &Secrets,
        refused: Option<&Arc<Token>>,
    ) -> Result<Issued, Outcome> {
        let mut current = self.current.lock().await;
        if let Some(token) = &*current
            && token.until.is_none_or(|until| Instant::now() < until)
            && refused.is_none_or(|refused| !Arc::ptr_eq(refused, token))
        {
            return Ok(Issued::Kept(Arc::clone(token)));
        }
        *current = None;
        let token = Arc::new(self.fetch(client, secrets).await?);
        *current = Some(Arc::clone(&token));
        Ok(Issued::New(token))
    }

    async fn fetch(&self, client: &Client, secrets: &Secrets) -> Result<Token, Outcome> {
        let started = Instant::now();
        let mut request = client
            .post(self.url.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(self.form.clone());
        if let Some(basic) = &self.basic {
            request = request.header(AUTHORIZATION, basic);
        }
        let issuer = host(&self.url);
        let fault = |what: String| Outcome::Fault {
            reason: format!("no token from {issuer}: {what}"),
            after: None,
        };
        let response = request
            .send()
            .await
            .map_err(|error| fault(secrets.hide(&transport(&issuer, error))))?;
        let status = response.status();
        let after = answer::retry_after(response.headers(), jiff::Timestamp::now());
        let (body, whole) = answer::read_body(response, None).await;
        if !status.is_success() {
            let quote = secrets.quote(&body, whole, None);
            return Err(Outcome::Fault {
                reason: format!("no token from {issuer}: it answered {status}: {quote}"),
                after,
            });
        }
        // Its text is not quoted: it may hold a token.
        let grant = serde_json::from_slice::<Grant>(&body)
            .ok()
            .filter(|grant| !grant.access_token.trim().is_empty())
            .ok_or_else(|| fault(format!("it answered {status} without an access_token")))?;
        if let Some(other) = grant
            .token_type
            .filter(|kind| !kind.eq_ignore_ascii_case("bearer"))
        {
            let other = secrets.quote(other.as_bytes(), true, Some(&grant.access_token));
            return Err(fault(format!("its token is of type {other}, not bearer")));
        }
        let header = sensitive(&format!("Bearer {}", grant.access_token))
            .ok_or_else(|| fault("its token cannot be sent in a header".into()))?;
        Ok(Token {
            header,
            text: grant.access_token,
            until: grant.expires_in.as_ref().and_then(seconds).map(|lifetime| {
                started + Duration::from_secs(lifetime.min(MAX_LIFETIME)).saturating_sub(MARGIN)
            }),
        })
    }
}

/// Longest time that a token is kept.
const MAX_LIFETIME: u64 = 30 * 24 * 60 * 60;

fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    }
}
