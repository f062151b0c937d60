//! What a result code of the server says about a delivery.

use ldap3::LdapResult;
use profilesync_target::{Mask, Outcome};

/// Characters of the server's words that a reason quotes.
const MAX_QUOTE: usize = 200;

pub(crate) const NO_SUCH_ATTRIBUTE: u32 = 16;
pub(crate) const ATTRIBUTE_OR_VALUE_EXISTS: u32 = 20;
pub(crate) const NO_SUCH_OBJECT: u32 = 32;
pub(crate) const ENTRY_ALREADY_EXISTS: u32 = 68;
pub(crate) const ASSERTION_FAILED: u32 = 122;

/// The outcome of a result that is no success. `what` is what was tried, as in "host: what answered …".
pub(crate) fn judge(what: &str, result: &LdapResult, secret: &str) -> Outcome {
    let reason = reason(what, result, secret);
    match result.rc {
        // The value: too long, against a rule of the server, taken by another entry.
        19 => Outcome::Rejected { reason },
        // The entry has children, which are not ours to remove.
        66 => Outcome::Rejected { reason },
        // Could be the account's odd value, or an attribute that is mapped to what it cannot hold.
        21 | 34 | 64 | 65 => Outcome::Denied { reason },
        // Could be a rule for this entry, or for all.
        11 | 50 | 53 | 80 => Outcome::Denied { reason },
        // Others change the same entry.
        NO_SUCH_ATTRIBUTE | ATTRIBUTE_OR_VALUE_EXISTS | ENTRY_ALREADY_EXISTS | ASSERTION_FAILED => {
            Outcome::Retry {
                reason,
                after: None,
            }
        }
        3 => Outcome::Retry {
            reason,
            after: None,
        },
        _ => Outcome::Fault {
            reason,
            after: None,
        },
    }
}

/// `cannot add uid=x,dc=y: constraintViolation (19): the server's words`
pub(crate) fn reason(what: &str, result: &LdapResult, secret: &str) -> String {
    let LdapResult { rc, .. } = result;
    let mut text = match name(*rc) {
        Some(name) => format!("{what}: {name} ({rc})"),
        None => format!("{what}: the result code {rc}"),
    };
    let words = quote(&result.text, secret);
    if !words.is_empty() {
        text = format!("{text}: {words}");
    }
    if let Some(help) = help(*rc) {
        text = format!("{text}; {help}");
    }
    text
}

/// The first words of a server's text, on one line.
fn quote(text: &str, secret: &str) -> String {
    let mut mask = Mask::default();
    mask.add(secret);
    let printable: String = mask
        .hide(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let mut words = printable.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(MAX_QUOTE) {
        words.truncate(end);
        words.push('…');
    }
    words
}

fn name(code: u32) -> Option<&'static str> {
    Some(match code {
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        10 => "referral",
        11 => "adminLimitExceeded",
        12 => "unavailableCriticalExtension",
        13 => "confidentialityRequired",
        NO_SUCH_ATTRIBUTE => "noSuchAttribute",
        17 => "undefinedAttributeType",
        18 => "inappropriateMatching",
        19 => "constraintViolation",
        ATTRIBUTE_OR_VALUE_EXISTS => "attributeOrValueExists",
        21 => "invalidAttributeSyntax",
        NO_SUCH_OBJECT => "noSuchObject",
        33 => "aliasProblem",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        54 => "loopDetect",
        64 => "namingViolation",
        65 => "objectClassViolation",
        66 => "notAllowedOnNonLeaf",
        67 => "notAllowedOnRDN",
        ENTRY_ALREADY_EXISTS => "entryAlreadyExists",
        69 => "objectClassModsProhibited",
        71 => "affectsMultipleDSAs",
        80 => "other",
        ASSERTION_FAILED => "assertionFailed",
        _ => return None,
    })
}

/// The way out, where there is one for everybody.
fn help(code: u32) -> Option<&'static str> {
    Some(match code {
        8 | 13 => "the server wants TLS: use ldaps:// or `start_tls`",
        10 => "this server cannot be written to: set `url` to the one that can",
        17 => "`attributes` names an attribute that the server's schema does not have",
        65 => {
            "`object_class` and `attributes` do not fit together, or a required attribute has no value: give it \
             several sources, such as [\"name\", \"account\"]"
        }
        48 | 49 => "check `bind_dn` and `password`",
        50 => "`bind_dn` lacks the right to do so",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ldap3::LdapResult;
    use profilesync_target::Outcome;

    use super::{judge, reason};

    fn result(rc: u32, text: &str) -> LdapResult {
        LdapResult {
            rc,
            matched: String::new(),
            text: text.into(),
            refs: Vec::new(),
            ctrls: Vec::new(),
        }
    }

    fn kind(rc: u32) -> &'static str {
        match judge("x", &result(rc, ""), "secret") {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Retry { .. } => "retry",
            Outcome::Rejected { .. } => "rejected",
            Outcome::Denied { .. } => "denied",
            Outcome::Fault { .. } => "fault",
        }
    }

    #[test]
    fn only_what_is_surely_the_accounts_fault_is_rejected() {
        for code in 1..=200 {
            let expected = match code {
                19 | 66 => "rejected",
                11 | 21 | 34 | 50 | 53 | 64 | 65 | 80 => "denied",
                3 | 16 | 20 | 68 | 122 => "retry",
                _ => "fault",
            };
            assert_eq!(kind(code), expected, "{code}");
        }
    }

    #[test]
    fn reasons_are_short_and_without_the_password() {
        let text = reason("cannot add x", &result(19, "no\nhunter2\0 here"), "hunter2");
        assert_eq!(text, "cannot add x: constraintViolation (19): no *** here");
        let text = reason("cannot add x", &result(4711, ""), "hunter2");
        assert_eq!(text, "cannot add x: the result code 4711");
        let long = reason("x", &result(80, &"\u{fc}".repeat(999)), "hunter2");
        assert!(long.ends_with('…') && long.chars().count() < 230, "{long}");
    }
}
