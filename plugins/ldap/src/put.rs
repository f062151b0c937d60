//! Bringing one entry to what is wanted: read, compare, change only what differs.

use ldap3::{
    Ldap, LdapError, LdapResult, Scope, SearchEntry, SearchOptions,
    controls::{Assertion, MakeCritical as _},
    ldap_escape,
};
use profilesync_target::{Document, Outcome};

use crate::{
    code::{
        self, ASSERTION_FAILED, ATTRIBUTE_OR_VALUE_EXISTS, ENTRY_ALREADY_EXISTS, NO_SUCH_ATTRIBUTE,
        NO_SUCH_OBJECT,
    },
    connection::Connection,
    entry::{Held, Mapping, Step},
};

/// How often an entry is read anew when it changed between reading and writing.
const ATTEMPTS: usize = 2;

/// A way to the server, and how documents become entries.
pub(crate) struct Writer<'a> {
    pub(crate) mapping: &'a Mapping,
    pub(crate) connection: &'a Connection,
    /// What no text may hold.
    pub(crate) password: &'a str,
}

/// What stands at a DN.
pub(crate) enum Found {
    Entry(Held),
    Nothing,
    Failed(LdapResult),
}

impl Writer<'_> {
    /// Brings the document's entry to what it should be. An error is the connection's, and nothing is known then.
    pub(crate) async fn put(&self, document: &Document) -> Result<Outcome, LdapError> {
        let wanted = match self.mapping.wanted(document) {
            Ok(wanted) => wanted,
            Err(reason) => return Ok(Outcome::Rejected { reason }),
        };
        let mut ldap = self.connection.ldap.clone();
        let dn = &wanted.dn;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let held = match read(&mut ldap, dn, self.mapping.read()).await? {
                Found::Entry(held) => Some(held),
                Found::Nothing => None,
                Found::Failed(result) => {
                    return Ok(self.judge(&format!("cannot read {dn}"), &result));
                }
            };
            let (what, done, result) = match self.mapping.step(&wanted, held.as_ref()) {
                Step::Nothing(why) => return Ok(delivered(why)),
                Step::Refuse(reason) => return Ok(Outcome::Rejected { reason }),
                Step::Add(attributes) => ("add", "added", ldap.add(dn, attributes).await?),
                Step::Modify(changes) => ("modify", "modified", ldap.modify(dn, changes).await?),
                Step::Delete { revision } => {
                    let result = self.delete(&mut ldap, dn, revision).await?;
                    ("delete", "deleted", result)
                }
            };
            let what_failed = format!("cannot {what} {dn}");
            match result.rc {
                0 => return Ok(delivered(done)),
                NO_SUCH_OBJECT if what == "delete" => return Ok(delivered("there is no entry")),
                rc if is_race(what, rc) => last = Some((what_failed, result)),
                _ => return Ok(self.judge(&what_failed, &result)),
            }
        }
        let (what, result) = last.expect("each attempt that does not return leaves a result");
        Ok(match result.rc {
            // It was read twice as absent: it is there, and hidden from us.
            ENTRY_ALREADY_EXISTS => Outcome::Denied {
                reason: format!("{dn} exists, and `bind_dn` lacks the right to read it"),
            },
            _ => self.judge(&what, &result),
        })
    }

    async fn delete(
        &self,
        ldap: &mut Ldap,
        dn: &str,
        revision: Option<String>,
    ) -> Result<LdapResult, LdapError> {
        if let (Some(revision), Some(attribute), true) =
            (revision, &self.mapping.revision, self.connection.asserts)
        {
            let filter = format!("({attribute}={})", ldap_escape(revision));
            ldap.with_controls(Assertion { filter }.critical());
        }
        ldap.delete(dn).await
    }

    fn judge(&self, what: &str, result: &LdapResult) -> Outcome {
        code::judge(what, result, self.password)
    }
}

/// Whether a refusal shows that the entry changed after it was read.
fn is_race(what: &str, code: u32) -> bool {
    match what {
        "add" => code == ENTRY_ALREADY_EXISTS,
        "modify" => matches!(
            code,
            NO_SUCH_OBJECT | NO_SUCH_ATTRIBUTE | ATTRIBUTE_OR_VALUE_EXISTS
        ),
        _ => code == ASSERTION_FAILED,
    }
}

fn delivered(answer: &str) -> Outcome {
    Outcome::Delivered {
        answer: answer.to_owned(),
    }
}

/// Reads one entry: this one alone, and the attributes that are asked for.
pub(crate) async fn read(
    ldap: &mut Ldap,
    dn: &str,
    attributes: Vec<String>,
) -> Result<Found, LdapError> {
    let one = SearchOptions::new().sizelimit(1);
    let mut answer = ldap
        .with_search_options(one)
        .streaming_search(dn, Scope::Base, "(objectClass=*)", attributes)
        .await?;
    let mut first = None;
    // There is one at most; what else a server may send is let go as it comes.
    while let Some(item) = answer.next().await? {
        if !item.is_ref() && !item.is_intermediate() {
            first.get_or_insert(item);
        }
    }
    let result = answer.finish().await;
    match result.rc {
        0 => (),
        NO_SUCH_OBJECT => return Ok(Found::Nothing),
        _ => return Ok(Found::Failed(result)),
    }
    let Some(entry) = first else {
        return Ok(Found::Nothing);
    };
    let SearchEntry {
        attrs, bin_attrs, ..
    } = SearchEntry::construct(entry);
    let mut held = Held::default();
    for (name, values) in attrs {
        let values = values.into_iter().map(String::into_bytes).collect();
        held.0.insert(name.to_ascii_lowercase(), values);
    }
    for (name, values) in bin_attrs {
        held.0.insert(name.to_ascii_lowercase(), values);
    }
    Ok(Found::Entry(held))
}
