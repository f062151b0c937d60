//! Values of the configuration that check themselves while they are read, so that a mistake is reported at the
//! value's own position. What a value means together with others is checked by `load` and `target`.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use globset::Glob;
use ipnet::IpNet;
use profilesync_target::{Period, Size};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected, Visitor},
};
use toml::Spanned;

use crate::{config::Address, event::Field};

/// The longest duration that can be configured: ten years. It keeps additions to a clock from overflowing.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A value and where it stands, for checks that come after reading.
#[derive(Clone, Debug, Default)]
pub(super) struct At<T> {
    /// Bytes of the [`Sources`](super::sources::Sources); empty for a default.
    pub(super) span: Range<usize>,
    pub(super) value: T,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        Ok(Self {
            span: spanned.span(),
            value: spanned.into_inner(),
        })
    }
}

impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

/// A duration above zero and at most [`LONGEST`].
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Period", into = "Period")]
#[schemars(with = "Period")]
pub(super) struct Time(pub(super) Duration);

impl TryFrom<Period> for Time {
    type Error = String;

    fn try_from(period: Period) -> Result<Self, String> {
        if period.0.is_zero() {
            return Err("the duration must be above zero".into());
        }
        TimeOrZero::try_from(period).map(|TimeOrZero(time)| Self(time))
    }
}

impl From<Time> for Period {
    fn from(time: Time) -> Self {
        Self(time.0)
    }
}

/// A duration of at most [`LONGEST`].
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Period", into = "Period")]
#[schemars(with = "Period")]
pub(super) struct TimeOrZero(pub(super) Duration);

impl TryFrom<Period> for TimeOrZero {
    type Error = String;

    fn try_from(period: Period) -> Result<Self, String> {
        if period.0 > LONGEST {
            return Err(format!(
                "{period} is longer than ten years, the longest a duration may be"
            ));
        }
        Ok(Self(period.0))
    }
}

impl From<TimeOrZero> for Period {
    fn from(time: TimeOrZero) -> Self {
        Self(time.0)
    }
}

/// A number of bytes from 1 to `MAX`: a plain number, or with a unit.
#[derive(Clone, Copy)]
pub(super) struct Bytes<const MAX: u64 = { i64::MAX as u64 }>(pub(super) u64);

struct BytesVisitor<const MAX: u64>;

impl<const MAX: u64> BytesVisitor<MAX> {
    fn within<E: Error>(bytes: u64) -> Result<Bytes<MAX>, E> {
        if bytes == 0 {
            return Err(E::custom("the size must be above zero"));
        }
        if bytes > MAX {
            return Err(E::custom(format!(
                "{} is more than {}, the most it may be",
                Size(bytes),
                Size(MAX)
            )));
        }
        Ok(Bytes(bytes))
    }
}

impl<const MAX: u64> Visitor<'_> for BytesVisitor<MAX> {
    type Value = Bytes<MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a size such as "64KiB" or "2MiB", or a number of bytes"#)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Bytes<MAX>, E> {
        let bytes = u64::try_from(number)
            .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))?;
        Self::within(bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes<MAX>, E> {
        let Size(bytes) = text.parse().map_err(E::custom)?;
        Self::within(bytes)
    }
}

impl<'de, const MAX: u64> Deserialize<'de> for Bytes<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

impl<const MAX: u64> Serialize for Bytes<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Size(self.0).serialize(serializer)
    }
}

impl<const MAX: u64> JsonSchema for Bytes<MAX> {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = generator.subschema_for::<Size>();
        json_schema!({ "anyOf": [text, { "type": "integer", "minimum": 1, "maximum": MAX }] })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A whole number from 1 to `MAX`.
#[derive(Clone, Copy)]
pub(super) struct Count<const MAX: u32>(pub(super) u32);

impl<'de, const MAX: u32> Deserialize<'de> for Count<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u32::try_from(number) {
            Ok(count @ 1..) if count <= MAX => Ok(Self(count)),
            _ => Err(D::Error::custom(format!(
                "{number} is not a whole number from 1 to {MAX}"
            ))),
        }
    }
}

impl<const MAX: u32> Serialize for Count<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<const MAX: u32> JsonSchema for Count<MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Count{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": MAX })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Reads a text and parses it. Parsing is done by the visitor, for then its errors get the position of the text.
struct Text<T> {
    /// What the text must be.
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

macro_rules! texts {
    ($($(#[$meta:meta])* $name:ident($value:ty), $expected:literal, $parse:expr;)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub(super) struct $name(pub(super) $value);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer
                    .deserialize_str(Text {
                        expected: $expected,
                        parse: $parse,
                    })
                    .map(Self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $expected })
            }

            fn inline_schema() -> bool {
                true
            }
        }
    )+};
}

texts! {
    /// Where the listener listens.
    ListenAddress(Address), r#"an address such as "127.0.0.1:8700" or "unix:/run/profilesync/listen.sock""#, listen_address;

    /// Where the admin API listens on TCP.
    TcpAddress(SocketAddr), r#"an IP address and a port such as "127.0.0.1:8701""#, tcp_address;

    /// The path of the webhook's URL.
    UrlPath(String), r#"a path such as "/" or "/callback""#, url_path;

    /// A URL that can be posted to.
    HttpUrl(reqwest::Url), r#"an http or https URL such as "https://example.com/callback""#, http_url;

    /// A network, or one address.
    Network(IpNet), r#"a network such as "183.192.202.0/25", or an IP address"#, network;

    /// A pattern that account ids match.
    Pattern(Glob), r#"a pattern such as "@TOA#_*""#, pattern;

    /// A field of the document.
    FieldName(Field), r#"a field of the document such as "name" or "extra.Level""#, field;
}

/// Those that have defaults, which the schema shows.
macro_rules! shown {
    ($($name:ident)+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }
    )+};
}

shown! { ListenAddress UrlPath Network }

fn listen_address(text: &str) -> Result<Address, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("the path of the Unix socket is missing after unix:".into()),
        Some(path) => Ok(Address::Unix(PathBuf::from(path))),
        None => tcp_address(text).map(Address::Tcp),
    }
}

fn tcp_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            r#"{text:?} is not an IP address and a port such as "127.0.0.1:8700" or "[::]:8700""#
        )
    })
}

fn url_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} does not begin with \"/\""));
    }
    if let Some(bad) = text
        .chars()
        .find(|c| matches!(c, '?' | '#') || !c.is_ascii_graphic())
    {
        return Err(format!(
            "{text:?} is not the path of a URL: it contains {bad:?}"
        ));
    }
    Ok(text.to_owned())
}

fn http_url(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text)
        .map_err(|error| format!(r#"not a URL such as "https://example.com/callback": {error}"#))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "the URL must begin with http:// or https://, not {}:",
            url.scheme()
        ));
    }
    Ok(url)
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            format!(r#"{text:?} is not a network such as "183.192.202.0/25", nor an IP address"#)
        })
}

fn pattern(text: &str) -> Result<Glob, String> {
    Glob::new(text).map_err(|error| format!("{text:?} is not a pattern: {}", error.kind()))
}

fn field(text: &str) -> Result<Field, String> {
    match text {
        "name" => Ok(Field::Name),
        "introduction" => Ok(Field::Introduction),
        "face_url" => Ok(Field::FaceUrl),
        "organization" => Ok(Field::Organization),
        "owner" => Ok(Field::Owner),
        "operator" => Ok(Field::Operator),
        _ => match text.strip_prefix("extra.") {
            Some(name) if !name.is_empty() => Ok(Field::Extra(name.to_owned())),
            _ => Err(format!(
                "unknown variant `{text}`, expected one of `name`, `introduction`, `face_url`, \
                 `organization`, `owner`, `operator`, `extra.…`"
            )),
        },
    }
}

/// An app as a target's `apps` names it.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub(super) enum AppRef {
    /// NAME of `[apps.NAME]`.
    Name(String),
    /// `sdk_app_id`
    Id(u64),
}

impl<'de> Deserialize<'de> for AppRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AppVisitor;

        impl Visitor<'_> for AppVisitor {
            type Value = AppRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name or the sdk_app_id of an app")
            }

            fn visit_i64<E: Error>(self, id: i64) -> Result<AppRef, E> {
                u64::try_from(id)
                    .map(AppRef::Id)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(id), &self))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<AppRef, E> {
                Ok(AppRef::Name(name.to_owned()))
            }
        }

        deserializer.deserialize_any(AppVisitor)
    }
}
