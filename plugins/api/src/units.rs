//! Durations, sizes and rates as the configuration writes them: `"30s"`, `"64KiB"`, `"50/s"`.

use std::{borrow::Cow, fmt, marker::PhantomData, num::NonZeroU32, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

/// A duration: `"30s"`, `"5min"`, `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes: `"64KiB"`, `"1GiB"`, `"1500B"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// So many in so long: `"50/s"`, `"100/min"`, `"5000/h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many…
    pub count: NonZeroU32,
    /// …in how long.
    pub per: Duration,
}

/// A value that the configuration writes as text.
trait Unit: FromStr<Err = String> + fmt::Display {
    /// Its name in the schema.
    const NAME: &str;
    /// What it is and how it looks, for errors and the schema.
    const FORM: &str;
}

impl Unit for Period {
    const NAME: &str = "Period";
    const FORM: &str = r#"a duration such as "30s", "5min" or "1h 30m""#;
}

impl Unit for Size {
    const NAME: &str = "Size";
    const FORM: &str = r#"a size such as "64KiB", "10MB" or "1500B""#;
}

impl Unit for Rate {
    const NAME: &str = "Rate";
    const FORM: &str = r#"a rate such as "50/s", "100/min" or "5000/h""#;
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|error| format!("{text:?} is not {}: {error}", Self::FORM))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Days and hours as people write them; humantime makes months of 90 days.
        let seconds = self.0.as_secs();
        match (seconds / DAY, seconds % DAY, self.0.subsec_nanos()) {
            (days @ 2..=YEAR, 0, 0) => write!(f, "{days}d"),
            _ => humantime::format_duration(self.0).fmt(f),
        }
    }
}

/// Seconds.
const DAY: u64 = 24 * 60 * 60;
/// Days.
const YEAR: u64 = 365;

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_number(text);
        SIZE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, bytes)| number.parse::<u64>().ok()?.checked_mul(*bytes))
            .map(Self)
            .ok_or_else(|| {
                let units = SIZE_UNITS.map(|(name, _)| name).join(", ");
                format!("{text:?} is not {}; the units are {units}", Self::FORM)
            })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = SIZE_UNITS[..5]
            .iter()
            .rfind(|(_, bytes)| self.0 != 0 && self.0.is_multiple_of(*bytes))
            .unwrap_or(&SIZE_UNITS[0]);
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

const RATE_UNITS: [(&str, u64); 4] = [("s", 1), ("min", 60), ("m", 60), ("h", 3600)];

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (count, unit) = split_number(text);
        RATE_UNITS
            .iter()
            .find(|(name, _)| unit.strip_prefix('/').map(str::trim_start) == Some(name))
            .and_then(|&(_, seconds)| {
                Some(Self {
                    count: count.parse().ok()?,
                    per: Duration::from_secs(seconds),
                })
            })
            .ok_or_else(|| format!("{text:?} is not {}", Self::FORM))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.per.as_secs();
        let unit = RATE_UNITS.iter().find(|&&(_, unit)| unit == seconds);
        match unit {
            Some((name, _)) => write!(f, "{}/{name}", self.count),
            None => write!(f, "{} per {}", self.count, Period(self.per)),
        }
    }
}

/// The digits a text begins with, and what follows them.
fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

struct Text<T>(PhantomData<T>);

impl<T: Unit> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::FORM)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! as_text {
    ($($unit:ty),+) => {$(
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }

        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $unit {
            fn schema_name() -> Cow<'static, str> {
                Self::NAME.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": Self::FORM })
            }
        }
    )+};
}

as_text!(Period, Size, Rate);

#[cfg(test)]
mod tests {
    use super::{Period, Rate, Size};

    #[test]
    fn texts_become_values_and_texts_again() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("0B", 0),
            ("1500B", 1500),
            ("1GiB", 1 << 30),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string()), (bytes, text.to_owned()));
        }
        assert_eq!("10MB".parse(), Ok(Size(10_000_000)));
        for text in ["50/s", "100/min", "5000/h"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("1h 30m".parse::<Period>().unwrap().0.as_secs(), 5400);
    }

    #[test]
    fn what_is_wrong_is_refused_with_an_example() {
        for text in ["", "64", "64KB", "KiB", "-1B", "99999999TiB", "1.5GiB"] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.contains("64KiB"), "{error}");
        }
        for text in ["0/s", "50", "/s", "50/d", "5000000000/s"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.contains("50/s"), "{error}");
        }
        let error = "30".parse::<Period>().unwrap_err();
        assert!(error.contains("30s"), "{error}");
    }
}
