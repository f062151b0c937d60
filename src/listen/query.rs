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
        for (name, value) in parse(raw.as_bytes()) {
            let given = match &*name {
                "SdkAppid" => &mut query.app,
                "CallbackCommand" => &mut query.command,
                "Sign" => &mut query.sign,
                "RequestTime" => &mut query.request_time,
                _ => continue,
            };
            *given = match given {
                Given::No if value.is_empty() => Given::No,
                Given::No => Given::Once(value.into_owned()),
                Given::Once(_) | Given::Repeated => Given::Repeated,
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
        assert_eq!(Query::parse("").sign, Given::No);
        assert_eq!(Query::parse("Sign=").sign, Given::No);
    }
}
