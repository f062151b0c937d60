//! Names of accounts that a directory cannot mix up: it compares DNs without regard to case, to repeated spaces and
//! to the form of Unicode, while every byte of an account counts.

use data_encoding::HEXLOWER;
use profilesync_target::Document;
use profilesync_template::caseless;
use sha2::{Digest as _, Sha256};

/// Bytes of a name. OpenLDAP holds an RDN twice in a key of 511 bytes, and an app's id stands before it.
const MAX: usize = 120;

/// Bytes kept of a longer name, before its hash.
const KEPT: usize = 50;

/// The value of the default RDN: `APP.ACCOUNT`.
pub(crate) fn rdn_value(document: &Document) -> String {
    let mut name = caseless(&document.account);
    if name.len() > MAX {
        // A tilde is always encoded, so no short name looks like this.
        name.truncate(KEPT);
        let hash = Sha256::digest(&document.account);
        name = format!("{name}~{}", HEXLOWER.encode(&hash));
    }
    format!("{}.{name}", document.sdk_app_id)
}

/// What an entry of ours says about whose it is.
pub(crate) fn mark(document: &Document) -> String {
    format!(
        "{MARK}{}/{}",
        document.sdk_app_id,
        caseless(&document.account)
    )
}

/// How each mark begins.
pub(crate) const MARK: &str = "profilesync:";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use profilesync_target::{Document, Status};
    use proptest::prelude::{any, proptest};

    use super::{mark, rdn_value};

    fn document(sdk_app_id: u64, account: &str) -> Document {
        Document {
            sdk_app_id,
            account: account.into(),
            revision: 1,
            status: Status::Active,
            name: None,
            introduction: None,
            face_url: None,
            organization: None,
            owner: None,
            operator: None,
            event_time: 0,
            extra: serde_json::Map::new(),
        }
    }

    #[test]
    fn long_names_are_short_and_apart() {
        let long = "#".repeat(254);
        let names: HashSet<_> = ["", "1", "2"]
            .map(|end| rdn_value(&document(1, &format!("{long}{end}"))))
            .into();
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|name| name.len() < 150), "{names:?}");
    }

    proptest! {
        #[test]
        fn no_two_accounts_share_a_name(
            one in "[aA.%~2e/\u{e9} ]{1,3}|.{1,99}", two in "[aA.%~2e/\u{e9} ]{1,3}",
            app in any::<u64>(), other in 0_u64..12,
        ) {
            let (one, two) = (document(app, &one), document(other, &two));
            let same = one.account == two.account && app == other;
            assert_eq!(rdn_value(&one) == rdn_value(&two), same);
            assert_eq!(mark(&one) == mark(&two), same);
            let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "%.-_~".contains(c);
            assert!(rdn_value(&one).chars().all(safe));
        }
    }
}
