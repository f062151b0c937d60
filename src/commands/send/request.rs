//! One request as the sender makes it (protocol §1-2, §4). Pure: time and values are given.

use data_encoding::HEXLOWER;
use reqwest::Url;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::clock::Millis;

/// The body of an event, its members in the order in which the sender's documentation shows them.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Body {
    #[serde(rename = "CallbackCommand")]
    pub(super) command: String,
    #[serde(rename = "Official_Account")]
    pub(super) account: String,
    #[serde(rename = "Operator_Account", skip_serializing_if = "Option::is_none")]
    pub(super) operator: Option<String>,
    #[serde(rename = "Owner_Account", skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
    #[serde(rename = "Introduction", skip_serializing_if = "Option::is_none")]
    pub(super) introduction: Option<String>,
    #[serde(rename = "Name", skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(rename = "FaceUrl", skip_serializing_if = "Option::is_none")]
    pub(super) face_url: Option<String>,
    #[serde(rename = "Organization", skip_serializing_if = "Option::is_none")]
    pub(super) organization: Option<String>,
    #[serde(rename = "EventTime")]
    pub(super) event_time: Millis,
}

/// `sha256(token ‖ RequestTime)` in hex.
pub(super) fn sign(token: &str, request_time: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(format!("{token}{request_time}")))
}

/// The configured URL with the sender's parameters; all of them sorted by name, as captured ones are.
pub(super) fn url(
    configured: &Url,
    app: u64,
    command: &str,
    token: Option<&str>,
    now: Millis,
) -> Url {
    let mut query: Vec<(String, String)> = configured.query_pairs().into_owned().collect();
    let mut add = |name: &str, value: String| query.push((name.into(), value));
    add("CallbackCommand", command.into());
    add("ClientIP", "127.0.0.1".into());
    add("OptPlatform", "RESTAPI".into());
    add("SdkAppid", app.to_string());
    add("contenttype", "json".into());
    if let Some(token) = token {
        let request_time = (now / 1000).to_string();
        add("Sign", sign(token, &request_time));
        add("RequestTime", request_time);
    }
    query.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut url = configured.clone();
    url.query_pairs_mut().clear().extend_pairs(query);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_as_the_documentation_does() {
        assert_eq!(
            sign("xxxxyyyy", "1669872112"),
            "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061"
        );
    }

    #[test]
    fn the_query_is_sorted_with_what_the_url_had() {
        let configured = "http://h/hook?appId=own".parse().unwrap();
        let url = url(
            &configured,
            1_400_000_000,
            "OfficialAccount.X",
            Some("xxxxyyyy"),
            1_669_872_112_999,
        );
        assert_eq!(
            url.as_str(),
            "http://h/hook?CallbackCommand=OfficialAccount.X&ClientIP=127.0.0.1&OptPlatform=RESTAPI\
             &RequestTime=1669872112&SdkAppid=1400000000\
             &Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061\
             &appId=own&contenttype=json"
        );
    }

    #[test]
    fn without_a_token_nothing_is_signed() {
        let configured = "http://h/".parse().unwrap();
        let url = url(&configured, 1, "C", None, 0);
        assert_eq!(
            url.query(),
            Some(
                "CallbackCommand=C&ClientIP=127.0.0.1&OptPlatform=RESTAPI&SdkAppid=1&contenttype=json"
            )
        );
    }

    #[test]
    fn members_that_are_not_given_are_not_there() {
        let body = Body {
            command: "C".into(),
            account: "@TOA#_a".into(),
            name: Some(String::new()),
            event_time: 7,
            ..Body::default()
        };
        assert_eq!(
            serde_json::to_string(&body).unwrap(),
            r##"{"CallbackCommand":"C","Official_Account":"@TOA#_a","Name":"","EventTime":7}"##
        );
    }
}
