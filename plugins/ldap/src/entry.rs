//! What the entry of an account is to hold, what has to change for it, and the same as LDIF. Pure.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
};

use data_encoding::BASE64;
use ldap3::{Mod, dn_escape};
use profilesync_target::{Document, State, Status};
use profilesync_template::{Source, Template};
use serde_json::Value;

use crate::{
    name::{self, MARK},
    rdn, source,
};

/// How documents become entries.
pub(crate) struct Mapping {
    pub(crate) base: String,
    pub(crate) naming: Naming,
    pub(crate) object_class: Vec<String>,
    /// Attributes by name, each with its sources.
    pub(crate) attributes: Vec<(String, Vec<Source>)>,
    /// The attribute that holds the mark.
    pub(crate) owner: String,
    /// The one of `attributes` that holds the revision.
    pub(crate) revision: Option<String>,
}

/// How an entry is named below the base.
pub(crate) enum Naming {
    /// `uid=APP.ACCOUNT`, the same for no two accounts however a directory compares.
    Apart,
    /// As the operator wants it; two accounts may have the same.
    Template(Box<Template>),
}

/// The entry that a document is to have.
pub(crate) struct Wanted {
    pub(crate) dn: String,
    /// The values it is named by.
    pub(crate) naming: Vec<(String, String)>,
    pub(crate) mark: String,
    pub(crate) revision: u64,
    /// `None`: it is to be gone.
    pub(crate) values: Option<Vec<(String, Option<String>)>>,
}

/// An entry as it is: values by the name of the attribute in small letters.
#[derive(Default)]
pub(crate) struct Held(pub(crate) BTreeMap<String, Vec<Vec<u8>>>);

/// What brings an entry to what is wanted.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing; why.
    Nothing(&'static str),
    Add(Vec<(String, HashSet<String>)>),
    Modify(Vec<Mod<String>>),
    /// Only if the entry still has this revision, where it has one.
    Delete {
        revision: Option<String>,
    },
    /// The entry is another's; why.
    Refuse(String),
}

impl Mapping {
    /// # Errors
    /// Why the document has no DN.
    pub(crate) fn wanted(&self, document: &Document) -> Result<Wanted, String> {
        let name = self.naming.name(document)?;
        let naming = rdn::parse(&name)
            .map_err(|error| format!("`dn` is {name:?} for this account, and {error}"))?;
        let values = match document.status {
            Status::Destroyed => None,
            Status::Active => Some(
                self.attributes
                    .iter()
                    .map(|(name, sources)| match source::first(sources, document) {
                        Ok(value) => Ok((name.clone(), value)),
                        Err(error) => Err(format!("the attribute `{name}` has no value: {error}")),
                    })
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Wanted {
            dn: format!("{name},{}", self.base),
            naming,
            mark: name::mark(document),
            revision: document.revision,
            values,
        })
    }

    /// The attributes to read of an entry.
    pub(crate) fn read(&self) -> Vec<String> {
        let mapped = self.attributes.iter().map(|(name, _)| name.clone());
        ["objectClass".to_owned(), self.owner.clone()]
            .into_iter()
            .chain(mapped)
            .collect()
    }

    /// What must be done about an entry that is so, or not there.
    pub(crate) fn step(&self, wanted: &Wanted, held: Option<&Held>) -> Step {
        let Some(held) = held else {
            return match &wanted.values {
                Some(values) => Step::Add(self.add(wanted, values)),
                None => Step::Nothing("there is no entry"),
            };
        };
        if !held.has(&self.owner, &wanted.mark) {
            return match &wanted.values {
                Some(_) => Step::Refuse(self.refusal(wanted, held)),
                None => Step::Nothing("the entry is another's"),
            };
        }
        let revision = self.held_revision(held);
        if revision
            .as_ref()
            .is_some_and(|(_, number)| *number > wanted.revision)
        {
            return Step::Nothing("the entry is newer");
        }
        match &wanted.values {
            None => Step::Delete {
                revision: revision.map(|(text, _)| text),
            },
            Some(values) => {
                let changes = self.changes(values, held, revision);
                match changes.is_empty() {
                    true => Step::Nothing("the entry is as it should be"),
                    false => Step::Modify(changes),
                }
            }
        }
    }

    fn add(
        &self,
        wanted: &Wanted,
        values: &[(String, Option<String>)],
    ) -> Vec<(String, HashSet<String>)> {
        let classes = self.object_class.iter().cloned().collect();
        let mut attributes = vec![("objectClass".to_owned(), classes)];
        let naming = wanted.naming.iter().cloned();
        let owner = (self.owner.clone(), wanted.mark.clone());
        let given = values
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        attributes.extend(
            naming
                .chain([owner])
                .chain(given)
                .map(|(name, value)| (name, HashSet::from([value]))),
        );
        attributes
    }

    fn changes(
        &self,
        values: &[(String, Option<String>)],
        held: &Held,
        revision: Option<(String, u64)>,
    ) -> Vec<Mod<String>> {
        let mut changes = Vec::new();
        for (name, value) in values {
            if held.is(name, value.as_deref()) {
                continue;
            }
            match (&revision, value) {
                // The value that was read is taken out by name: the server refuses all of it when another came
                // between reading and writing.
                (Some((read, _)), Some(value)) if self.revision.as_ref() == Some(name) => {
                    let one = |text: &String| HashSet::from([text.clone()]);
                    changes.insert(0, Mod::Delete(name.clone(), one(read)));
                    changes.insert(1, Mod::Add(name.clone(), one(value)));
                }
                _ => changes.push(Mod::Replace(name.clone(), value.iter().cloned().collect())),
            }
        }
        let missing: HashSet<_> = self
            .object_class
            .iter()
            .filter(|class| !held.has_class(class))
            .cloned()
            .collect();
        if !missing.is_empty() {
            // The classes first allow the attributes.
            changes.insert(0, Mod::Add("objectClass".to_owned(), missing));
        }
        changes
    }

    /// The revision of an entry, as it is written there and as a number.
    fn held_revision(&self, held: &Held) -> Option<(String, u64)> {
        let [value] = held.values(self.revision.as_ref()?) else {
            return None;
        };
        let text = String::from_utf8(value.clone()).ok()?;
        let number = text.trim().parse().ok()?;
        Some((text, number))
    }

    fn refusal(&self, wanted: &Wanted, held: &Held) -> String {
        let Wanted { dn, mark, .. } = wanted;
        let owner = &self.owner;
        let other = held
            .values(owner)
            .iter()
            .filter_map(|value| std::str::from_utf8(value).ok())
            .find(|value| value.starts_with(MARK));
        match other {
            Some(other) => format!(
                "{dn} is the entry of another account: its `{owner}` is {other:?}, and not {mark:?}; `dn` gives both \
                 the same name, for a directory does not regard case, spaces and forms of Unicode"
            ),
            None => format!(
                "{dn} is there, and not of our making; to let it be kept in sync, add {mark:?} to its `{owner}`"
            ),
        }
    }

    /// What an entry of this account holds of what a delivery sets.
    pub(crate) fn state(&self, wanted: &Wanted, held: &Held) -> Option<State> {
        if !held.has(&self.owner, &wanted.mark) {
            return None;
        }
        let shown = |value: &Vec<u8>| Value::from(String::from_utf8_lossy(value));
        let pairs = self.attributes.iter().filter_map(|(name, _)| {
            let value = match held.values(name) {
                [] => return None,
                [value] => shown(value),
                several => several.iter().map(shown).collect(),
            };
            Some((name.clone(), value))
        });
        Some(pairs.collect())
    }
}

impl Naming {
    /// The DN without the base.
    pub(crate) fn name(&self, document: &Document) -> Result<String, String> {
        match self {
            Self::Apart => Ok(format!("uid={}", dn_escape(name::rdn_value(document)))),
            Self::Template(template) => template
                .render(document)
                .map_err(|error| format!("`dn` gives no name for this account: {error}")),
        }
    }
}

impl Wanted {
    /// What [`Mapping::state`] says once it is so.
    pub(crate) fn state(self) -> Option<State> {
        let given = |(name, value): (String, Option<String>)| Some((name, Value::from(value?)));
        Some(self.values?.into_iter().filter_map(given).collect())
    }

    /// The entry as LDIF.
    pub(crate) fn ldif(&self, mapping: &Mapping) -> String {
        let mut text = ldif_line("dn", &self.dn);
        match &self.values {
            None => text.push_str("changetype: delete\n"),
            Some(values) => {
                text.push_str("changetype: add\n");
                for (name, values) in mapping.add(self, values) {
                    let mut values: Vec<_> = values.into_iter().collect();
                    values.sort();
                    for value in values {
                        text.push_str(&ldif_line(&name, &value));
                    }
                }
            }
        }
        text
    }
}

impl Held {
    fn values(&self, attribute: &str) -> &[Vec<u8>] {
        self.0
            .get(&attribute.to_ascii_lowercase())
            .map_or(&[], Vec::as_slice)
    }

    fn has(&self, attribute: &str, value: &str) -> bool {
        self.values(attribute)
            .iter()
            .any(|held| held == value.as_bytes())
    }

    fn has_class(&self, class: &str) -> bool {
        self.values("objectClass")
            .iter()
            .any(|held| held.eq_ignore_ascii_case(class.as_bytes()))
    }

    fn is(&self, attribute: &str, value: Option<&str>) -> bool {
        match (self.values(attribute), value) {
            ([], None) => true,
            ([held], Some(value)) => held == value.as_bytes(),
            _ => false,
        }
    }
}

fn ldif_line(name: &str, value: &str) -> String {
    // RFC 2849: what is no SAFE-STRING is written in base64.
    let safe = value.bytes().all(|byte| (b' '..0x7f).contains(&byte))
        && !value.starts_with([' ', ':', '<'])
        && !value.ends_with(' ');
    let mut line = String::new();
    match safe {
        true => writeln!(line, "{name}: {value}"),
        false => writeln!(line, "{name}:: {}", BASE64.encode(value.as_bytes())),
    }
    .expect("a String takes everything");
    line
}
