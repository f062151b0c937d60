//! The query parameters that matter, of a webhook's URL. Any order, unknown ones ignored, spelling exact.

use form_urlencoded::parse;

/// The parameters, percent-decoded once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// `SdkAppid`
    pub(super) app: Given,
    /// `CallbackCommand`
    pub(super) command: Given,
    /// `Sign`
    pub(super) sign: Given,
    /// `RequestTime`
    pub(super) request_time: Given,
}

/// How a parameter is given. One that is given twice is never resolved to either value: whoever is in front of
/// the daemon may have looked at the other one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Given {
    /// Not, or empty.
    #[default]
    No,
    /// Once.
    Once(String),
    /// More than once.
    Repeated,
}

impl Query {
    /// Reads a raw query string.
    pub(super) fn parse(raw: &str) -> Self {
        let mut query = Self::default();
        let mut seen = [false; 4];
        for (name, value) in parse(raw.as_bytes()) {
            let (given, seen) = match &*name {
                "SdkAppid" => (&mut query.app, &mut seen[0]),
                "CallbackCommand" => (&mut query.command, &mut seen[1]),
                "Sign" => (&mut query.sign, &mut seen[2]),
                "RequestTime" => (&mut query.request_time, &mut seen[3]),
                _ => continue,
            };
            *given = match std::mem::replace(seen, true) {
                true => Given::Repeated,
                false if value.is_empty() => Given::No,
                false => Given::Once(value.into_owned()),
            };
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(value: &str) -> Given {
        Given::Once(value.to_owned())
    }

    #[test]
    fn order_and_strangers_do_not_matter() {
        let query = Query::parse(
            "CallbackCommand=A.B&ClientIP=127.0.0.1&own=1&SdkAppid=14&contenttype=json&sdkappid=15",
        );
        assert_eq!(query.app, once("14"));
        assert_eq!(query.command, once("A.B"));
        assert_eq!((query.sign, query.request_time), (Given::No, Given::No));
    }

    #[test]
    fn values_are_decoded_once() {
        assert_eq!(Query::parse("SdkAppid=%3124").app, once("124"));
        assert_eq!(Query::parse("SdkAppid=%253124").app, once("%3124"));
        assert_eq!(Query::parse("SdkAppid=+14").app, once(" 14"));
    }

    #[test]
    fn a_repeated_parameter_has_no_value() {
        assert_eq!(Query::parse("SdkAppid=14&SdkAppid=14").app, Given::Repeated);
        assert_eq!(Query::parse("Sign=a&x&Sign=b&Sign=c").sign, Given::Repeated);
        assert_eq!(Query::parse("Sign=a&Sign").sign, Given::Repeated);
        assert_eq!(Query::parse("Sign&Sign=a").sign, Given::Repeated);
        assert_eq!(Query::parse("").sign, Given::No);
        assert_eq!(Query::parse("Sign=").sign, Given::No);
    }
}
