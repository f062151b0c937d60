//! What an error means: whose fault it is, and a sentence for the operator.

use object_store::{Error, client::HttpError};
use profilesync_target::{Mask, Outcome};

use crate::client::{Noted, root_cause};

/// Characters of a service's words that a reason quotes.
const MAX_EXCERPT: usize = 200;

/// Codes of answers that are about one account's data.
const OF_THE_ACCOUNT: [&str; 7] = [
    "EntityTooLarge",
    "InvalidBlobOrBlock",
    "KeyTooLongError",
    "MaxMessageLengthExceeded",
    "MetadataTooLarge",
    "RequestBodyTooLarge",
    "XMinioInvalidObjectName",
];

/// Codes of answers that ask for a later try.
const OF_THE_MOMENT: [&str; 7] = [
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "RequestTimeout",
    "ServerBusy",
    "TooManyRequests",
    "OperationTimedOut",
];

/// Codes of a 400 or 403 that are about the target: credentials, region, clock.
const OF_THE_TARGET: [&str; 24] = [
    "AccountIsDisabled",
    "AllAccessDisabled",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "AuthorizationHeaderMalformed",
    "AuthorizationProtocolMismatch",
    "AuthorizationQueryParametersError",
    "AuthorizationResourceTypeMismatch",
    "AuthorizationServiceMismatch",
    "AuthorizationSourceIPMismatch",
    "ExpiredToken",
    "IllegalLocationConstraintException",
    "IncorrectEndpoint",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "InvalidBucketName",
    "InvalidSecurity",
    "InvalidToken",
    "KMS.DisabledException",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UserProjectAccountProblem",
];

/// Sorts errors, and words them without the target's secrets.
pub(crate) struct Faults {
    /// The bucket's URL, for messages.
    pub(crate) place: String,
    /// What no text may hold.
    pub(crate) mask: Mask,
}

impl Faults {
    /// The outcome of requests that ended in this error; `noted` is the answer that led to it.
    pub(crate) fn judge(&self, error: &Error, noted: Option<&Noted>) -> Outcome {
        let reason = self.reason(error, noted);
        let Some(noted) = noted else {
            return Outcome::Fault {
                reason,
                after: None,
            };
        };
        let after = noted.after;
        let is = |codes: &[&str]| codes.contains(&noted.code.as_str());
        match noted.status {
            408 | 429 => Outcome::Retry { reason, after },
            _ if is(&OF_THE_MOMENT) => Outcome::Retry { reason, after },
            413 | 414 => Outcome::Rejected { reason },
            400 if is(&OF_THE_ACCOUNT) => Outcome::Rejected { reason },
            400 | 403 if is(&OF_THE_TARGET) => Outcome::Fault { reason, after },
            // Where credentials come from answers too, but not with these codes.
            400 | 403 if !noted.code.is_empty() => Outcome::Denied { reason },
            403 if matches!(error, Error::PermissionDenied { .. }) => Outcome::Denied { reason },
            // The changed object of a condition that was not met in so many rounds.
            409 | 412 => Outcome::Retry { reason, after },
            _ => Outcome::Fault { reason, after },
        }
    }

    /// What happened, as a sentence.
    pub(crate) fn reason(&self, error: &Error, noted: Option<&Noted>) -> String {
        let place = &self.place;
        let text = match (noted, transport(error)) {
            (Some(noted), _) => {
                let mut text = format!("{place} answered {}", noted.status);
                for part in [&noted.code, &noted.message] {
                    if !part.is_empty() {
                        text = format!("{text}: {}", excerpt(&self.mask.hide(part)));
                    }
                }
                text + hint(noted)
            }
            (None, Some(cause)) => format!("{place} cannot be reached: {cause}"),
            (None, None) => format!("{place}: {}", root_cause(error)),
        };
        self.masked(&text)
    }

    /// On one line, and without secrets.
    pub(crate) fn masked(&self, text: &str) -> String {
        let masked = self.mask.hide(text);
        let words = masked.split(|c: char| c.is_control() || c.is_whitespace());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        words.join(" ")
    }
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The way out.
fn hint(noted: &Noted) -> &'static str {
    match (noted.status, noted.code.as_str()) {
        (301 | 307 | 308, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
            "; set `region` to the bucket's"
        }
        (_, "NoSuchBucket" | "ContainerNotFound") => "; create it, or correct `url`",
        (404 | 405, "") => "; `endpoint` is none of an object store",
        (_, "NoSuchKey" | "NoSuchVersion") => "",
        (501, _) | (_, "NotImplemented") => {
            "; if it does not know conditional puts, set conditional = false"
        }
        (403, "AccessDenied") => {
            "; it takes the rights to get, put and delete objects, and to list the bucket: without that one S3 \
             answers so where there is no object"
        }
        (_, "RequestTimeTooSkewed") => "; correct this machine's clock",
        _ => "",
    }
}

/// What kept a request from being answered.
fn transport(error: &Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.downcast_ref::<HttpError>().is_some() {
            return Some(root_cause(current));
        }
        cause = current.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::Error;
    use profilesync_target::{Mask, Outcome};

    use super::{Faults, MAX_EXCERPT};
    use crate::client::Noted;

    fn judge(status: u16, code: &str) -> Outcome {
        let mut mask = Mask::default();
        mask.add("hunter2");
        let faults = Faults {
            place: "s3://bucket".into(),
            mask,
        };
        let noted = Noted {
            status,
            code: code.into(),
            message: "the words\r\nof hunter2".into(),
            after: Some(Duration::from_secs(3)),
        };
        let error = Error::Generic {
            store: "S3",
            source: "hunter2".into(),
        };
        faults.judge(&error, Some(&noted))
    }

    #[test]
    fn faults_are_sorted() {
        for (status, code, wanted) in [
            (400, "EntityTooLarge", "Rejected"),
            (400, "KeyTooLongError", "Rejected"),
            (413, "", "Rejected"),
            (413, "RequestBodyTooLarge", "Rejected"),
            (400, "SomethingElse", "Denied"),
            (403, "AccessDenied", "Denied"),
            (400, "", "Fault"),
            (400, "ExpiredToken", "Fault"),
            (403, "SignatureDoesNotMatch", "Fault"),
            (403, "InvalidAccessKeyId", "Fault"),
            (403, "AuthorizationFailure", "Fault"),
            (403, "AuthorizationPermissionMismatch", "Denied"),
            (401, "InvalidAuthenticationInfo", "Fault"),
            (404, "NoSuchBucket", "Fault"),
            (404, "", "Fault"),
            (301, "PermanentRedirect", "Fault"),
            (500, "InternalError", "Fault"),
            (501, "NotImplemented", "Fault"),
            (503, "ServiceUnavailable", "Fault"),
            (503, "SlowDown", "Retry"),
            (429, "", "Retry"),
            (400, "RequestTimeout", "Retry"),
            (409, "ConditionalRequestConflict", "Retry"),
            (412, "PreconditionFailed", "Retry"),
        ] {
            let outcome = judge(status, code);
            let is = format!("{outcome:?}");
            assert!(is.starts_with(wanted), "{status} {code}: {is}");
            assert!(!is.contains("hunter2") && !outcome.text().contains('\n'));
            assert!(outcome.text().contains(code), "{is}");
        }
    }

    #[test]
    fn an_excerpt_ends_in_no_half_of_a_secret() {
        let mut mask = Mask::default();
        mask.add("hunter2");
        let faults = Faults {
            place: "s3://bucket".into(),
            mask,
        };
        let noted = Noted {
            status: 400,
            message: format!("{}hunter2", "x".repeat(MAX_EXCERPT - 3)),
            ..Noted::default()
        };
        let error = Error::NotImplemented {
            operation: String::new(),
            implementer: String::new(),
        };
        let reason = faults.reason(&error, Some(&noted));
        assert!(reason.ends_with("x***"), "{reason}");
    }

    #[test]
    fn the_way_out_is_told() {
        for (status, code, hint) in [
            (404, "NoSuchBucket", "create it"),
            (403, "AccessDenied", "list the bucket"),
            (501, "NotImplemented", "conditional = false"),
            (301, "", "`region`"),
            (404, "", "`endpoint`"),
        ] {
            let outcome = judge(status, code);
            assert!(outcome.text().contains(hint), "{outcome:?}");
        }
    }
}
