//! The settings: the keys as written, and the check that turns them into a producer's configuration.

use std::{collections::BTreeMap, time::Duration};

use profilesync_target::{OpenContext, SettingsError};
use profilesync_template::{Escape, Template, samples};
use rdkafka::{ClientConfig, error::KafkaError, producer::BaseProducer};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use toml::Spanned;

use crate::{
    link::{Link, Words},
    record::{Destroyed, Form, Format},
};

/// Kafka's own limit.
const MAX_TOPIC: usize = 249;

/// Properties that are not the operator's to set, and why.
const DENIED: &[(&str, &str)] = &[
    ("acks", KEPT),
    ("api.version.", KEPT),
    ("background_event", KEPT),
    ("bootstrap.servers", "it is `brokers`"),
    ("debug", "the log of librdkafka goes nowhere"),
    ("default_topic_conf", KEPT),
    ("delivery.", KEPT),
    ("enable.gapless.guarantee", KEPT),
    ("enable.idempotence", KEPT),
    ("enable.ssl.", TLS),
    ("enable.sasl.", TLS),
    ("enabled_events", KEPT),
    ("internal.", KEPT),
    ("log", "the log of librdkafka goes nowhere"),
    ("max.in.flight", KEPT),
    ("message.send.max.retries", KEPT),
    ("message.timeout.ms", "it follows the target's `timeout`"),
    ("metadata.broker.list", "it is `brokers`"),
    ("msg_order_cmp", KEPT),
    ("partitioner", KEPT),
    ("plugin.", "it would load programs into the daemon"),
    ("queuing.strategy", KEPT),
    ("request.required.acks", KEPT),
    ("request.timeout.ms", "it follows the target's `timeout`"),
    ("retries", KEPT),
    ("sasl", TLS),
    ("security.", TLS),
    ("socket.timeout.ms", "it follows the target's `timeout`"),
    ("ssl", TLS),
    ("statistics.", "nobody reads the statistics"),
    ("test.", KEPT),
    ("transaction", KEPT),
];

const KEPT: &str = "the target's promises rest on it";

const TLS: &str = "this program's librdkafka is built without TLS and SASL, for which it would need OpenSSL: let it \
                   reach the brokers over a network that is trusted, such as a WireGuard tunnel";

/// Writes every profile to a Kafka topic.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// Some of the cluster's brokers: `["kafka-1.example.com:9092"]`. The others are learnt from them.
    #[schemars(with = "Vec<String>")]
    brokers: Spanned<Vec<Spanned<String>>>,
    /// The topic, which should exist.
    #[schemars(with = "String")]
    topic: Spanned<String>,
    /// A template of the key, over `sdk_app_id` and `account` alone. With one app, `"{{ account }}"` does.
    #[serde(default = "default_key")]
    #[schemars(with = "String", default = "default_key_text")]
    key: Spanned<String>,
    /// The shape of the value.
    #[serde(default)]
    format: Format,
    /// What becomes of a destroyed account.
    #[serde(default)]
    destroyed: Destroyed,
    /// Further properties of librdkafka's producer: `{ "compression.type" = "lz4" }`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Property>")]
    properties: BTreeMap<Spanned<String>, Property>,
}

/// The value of a property.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Property {
    Flag(bool),
    Number(i64),
    Text(String),
}

fn default_key_text() -> String {
    "{{ sdk_app_id }}:{{ account }}".into()
}

fn default_key() -> Spanned<String> {
    Spanned::new(0..0, default_key_text())
}

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) link: Link,
    pub(crate) form: Form,
    pub(crate) identity: serde_json::Value,
}

impl Raw {
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let brokers = brokers(&self.brokers)?;
        check_topic(&self.topic)?;
        let key = key(&self.key)?;
        // Time is up at the producer before it is for the daemon, whose next try must not meet this one's records.
        // librdkafka looks once a second.
        let patience = context.timeout.mul_f32(0.75);
        let mut config = config(context, patience);
        for (name, property) in &self.properties {
            set(&mut config, name, property)?;
        }
        // Without brokers it checks how the properties fit, and connects to nobody.
        config
            .create_with_context::<_, BaseProducer<_>>(Words::default())
            .map(drop)
            .map_err(|error: KafkaError| {
                SettingsError::whole(format!("`properties` do not fit together: {error}"))
            })?;
        config.set("bootstrap.servers", brokers.join(","));
        let topic = self.topic.into_inner();
        Ok(Checked {
            identity: json!({
                "brokers": brokers,
                "topic": topic,
                "key": self.key.get_ref(),
                "format": self.format,
                "destroyed": self.destroyed,
            }),
            link: Link::new(config, topic.clone(), patience),
            form: Form {
                topic,
                key,
                format: self.format,
                destroyed: self.destroyed,
            },
        })
    }
}

/// What every producer has.
fn config(context: &OpenContext, patience: Duration) -> ClientConfig {
    let millis = patience.as_millis().clamp(100, 300_000);
    let mut config = ClientConfig::new();
    let client = format!("profilesync-{}", context.name);
    for (name, value) in [
        ("client.id", client.as_str()),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("max.in.flight.requests.per.connection", "5"),
        // That of the Java client, so that both put an account into the same partition.
        ("partitioner", "murmur2"),
        ("message.timeout.ms", &millis.to_string()),
        ("request.timeout.ms", &millis.to_string()),
        ("socket.timeout.ms", &millis.to_string()),
        // A topic that is missing is to be told of before time is up.
        (
            "topic.metadata.propagation.max.ms",
            &(millis / 2).to_string(),
        ),
        ("socket.keepalive.enable", "true"),
        ("socket.nagle.disable", "true"),
        // Brokers that are back are met soon; how often to try is the daemon's decision.
        ("reconnect.backoff.ms", "100"),
        ("reconnect.backoff.max.ms", "1000"),
    ] {
        config.set(name, value);
    }
    config
}

fn brokers(list: &Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>, SettingsError> {
    let mut brokers = Vec::new();
    for broker in list.get_ref() {
        let text = broker.get_ref();
        let wrong = |why: &str| {
            SettingsError::at(broker.span(), format!("a broker {why}"))
                .help("write each as host:port")
        };
        if text.contains("://") {
            return Err(wrong(
                "is no URL; a protocol cannot be chosen: it is PLAINTEXT",
            ));
        }
        let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(wrong("has no port"));
        }
        if text.contains([',', ' ', '/', '@']) || text.starts_with(':') {
            return Err(wrong("is no host and port"));
        }
        brokers.push(text.clone());
    }
    if brokers.is_empty() {
        return Err(SettingsError::at(list.span(), "`brokers` names none"));
    }
    brokers.sort();
    Ok(brokers)
}

fn check_topic(topic: &Spanned<String>) -> Result<(), SettingsError> {
    let text = topic.get_ref();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty()
        || text.len() > MAX_TOPIC
        || matches!(text.as_str(), "." | "..")
        || !text.chars().all(legal)
    {
        let message = format!(
            "`topic` is no name of a topic: 1 to {MAX_TOPIC} letters, digits, dots, underscores and hyphens"
        );
        return Err(SettingsError::at(topic.span(), message));
    }
    Ok(())
}

/// Compiles the key, which must be of the account and of nothing that changes.
fn key(text: &Spanned<String>) -> Result<Template, SettingsError> {
    let template = Template::compile_name("key", text, Escape::None)?;
    let wrong = |why: &str| {
        SettingsError::at(text.span(), format!("`key` {why}"))
            .help("make it of `sdk_app_id` and `account`")
    };
    let mut keys = Vec::new();
    let mut others = Vec::new();
    for sample in samples() {
        let mut document = sample.document;
        let rendered = |document: &_| template.render(document).map_err(|error| wrong(&error));
        keys.push(rendered(&document)?);
        "another".clone_into(&mut document.account);
        others.push(rendered(&document)?);
    }
    keys.dedup();
    if keys.len() > 1 {
        return Err(wrong(
            "changes with the profile, so that an account's records would not replace each other",
        ));
    }
    if keys[0].is_empty() || others.contains(&keys[0]) {
        return Err(wrong("is the same for different accounts"));
    }
    Ok(template)
}

fn set(
    config: &mut ClientConfig,
    name: &Spanned<String>,
    property: &Property,
) -> Result<(), SettingsError> {
    let key = name.get_ref();
    if let Some((_, why)) = denied(key) {
        let message = format!("`properties` cannot set {key}: {why}");
        return Err(SettingsError::at(name.span(), message));
    }
    let value = match property {
        Property::Flag(flag) => flag.to_string(),
        Property::Number(number) => number.to_string(),
        Property::Text(text) => text.clone(),
    };
    let mut alone = ClientConfig::new();
    alone.set(key, &value);
    if let Err(error) = alone.create_native_config() {
        let why = match error {
            KafkaError::ClientConfig(_, why, _, _) => why,
            other => other.to_string(),
        };
        let message = format!("`properties`: {key}: {why}");
        return Err(SettingsError::at(name.span(), message));
    }
    config.set(key, value);
    Ok(())
}

/// A name ending in a dot stands for all that begin so, as do the names of groups without one.
fn denied(key: &str) -> Option<&'static (&'static str, &'static str)> {
    DENIED
        .iter()
        .find(|(name, _)| key.starts_with(name))
        .or_else(|| key.contains("_cb").then_some(&("_cb", KEPT)))
}
