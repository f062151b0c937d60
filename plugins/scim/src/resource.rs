//! What the resource of an account is to hold, and what has to change for it. Pure.

use profilesync_target::{Document, State, Status};
use profilesync_template::{Source, Template};
use serde_json::{Map, Value, json};

use crate::{
    path::{self, Path},
    source,
};

const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// How a resource that is there is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    /// Only what differs.
    Patch,
    /// All that is there, with what differs.
    Put,
}

/// How documents become resources.
pub(crate) struct Mapping {
    /// The schema of the resource itself.
    pub(crate) schema: &'static str,
    pub(crate) external_id: Template,
    pub(crate) attributes: Vec<(Path, Vec<Source>)>,
    /// Which of the attributes holds the revision.
    pub(crate) revision: Option<usize>,
    pub(crate) update: Update,
    /// The attribute that a lookup leaves out.
    pub(crate) left_out: Option<&'static str>,
}

/// The resource that a document is to have.
pub(crate) struct Wanted {
    pub(crate) external_id: String,
    revision: u64,
    /// In the order of the mapping; `None`: it is to be gone.
    pub(crate) values: Option<Vec<Option<Value>>>,
}

/// What brings a resource to what is wanted.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing; why.
    Nothing(&'static str),
    Create(Value),
    Update(Value),
    Delete,
}

impl Mapping {
    /// # Errors
    /// Why there can be no resource for this document.
    pub(crate) fn wanted(&self, document: &Document) -> Result<Wanted, String> {
        let external_id = self.external_id.render(document)?;
        if external_id.is_empty() {
            return Err("`external_id` is empty for this account".into());
        }
        let values = match document.status {
            Status::Destroyed => None,
            Status::Active => Some(
                self.attributes
                    .iter()
                    .map(|(path, sources)| value(path, sources, document))
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Wanted {
            external_id,
            revision: document.revision,
            values,
        })
    }

    /// What must be done about a resource that is so, or not there.
    pub(crate) fn step(&self, wanted: &Wanted, held: Option<&Map<String, Value>>) -> Step {
        let Some(held) = held else {
            return match &wanted.values {
                Some(values) => Step::Create(self.whole(wanted, values)),
                None => Step::Nothing("there is no resource"),
            };
        };
        let revision = self.revision.and_then(|at| self.attributes[at].0.get(held));
        let number = revision.and_then(|value| match value {
            Value::String(text) => text.parse().ok(),
            number => number.as_u64(),
        });
        if number.is_some_and(|number: u64| number > wanted.revision) {
            return Step::Nothing("the resource is newer");
        }
        let Some(values) = &wanted.values else {
            return Step::Delete;
        };
        let differing: Vec<_> = self
            .attributes
            .iter()
            .map(|(path, _)| path)
            .zip(values)
            .filter(|(path, value)| path.get(held) != value.as_ref())
            .collect();
        if differing.is_empty() {
            return Step::Nothing("the resource is as it should be");
        }
        Step::Update(match self.update {
            Update::Patch => {
                let operations = differing
                    .iter()
                    .map(|(path, value)| path.operation(held, value.as_ref()));
                json!({ "schemas": [PATCH], "Operations": operations.collect::<Vec<_>>() })
            }
            Update::Put => {
                let mut whole = held.clone();
                whole.remove("meta");
                for (path, value) in differing {
                    path.set(&mut whole, value.as_ref());
                }
                whole.insert("schemas".into(), self.schemas(held, values).into());
                Value::Object(whole)
            }
        })
    }

    /// The resource as it is created.
    pub(crate) fn whole(&self, wanted: &Wanted, values: &[Option<Value>]) -> Value {
        let mut whole = Map::new();
        whole.insert("schemas".into(), self.schemas(&Map::new(), values).into());
        whole.insert("externalId".into(), wanted.external_id.as_str().into());
        for ((path, _), value) in self.attributes.iter().zip(values) {
            if value.is_some() {
                path.set(&mut whole, value.as_ref());
            }
        }
        Value::Object(whole)
    }

    /// The schemas of a resource that has these values, beside those it has now.
    fn schemas(&self, held: &Map<String, Value>, values: &[Option<Value>]) -> Vec<String> {
        let now = path::member(held, "schemas").and_then(Value::as_array);
        let now = now.into_iter().flatten().filter_map(Value::as_str);
        let mut schemas: Vec<_> = now.map(str::to_owned).collect();
        let used = self.attributes.iter().zip(values);
        let used = used
            .filter_map(|((path, _), value)| path.schema.as_deref().filter(|_| value.is_some()));
        for schema in [self.schema].into_iter().chain(used) {
            if !schemas.iter().any(|one| one.eq_ignore_ascii_case(schema)) {
                schemas.push(schema.to_owned());
            }
        }
        schemas
    }

    /// What a resource holds of what a delivery sets.
    pub(crate) fn state(&self, held: &Map<String, Value>) -> State {
        let paths = self.attributes.iter().map(|(path, _)| path);
        paths
            .filter_map(|path| Some((path.text.clone(), path.get(held)?.clone())))
            .collect()
    }

    /// What [`Mapping::state`] says once it is so.
    pub(crate) fn wanted_state(&self, wanted: Wanted) -> Option<State> {
        let paths = self.attributes.iter().map(|(path, _)| path.text.clone());
        let pairs = paths.zip(wanted.values?);
        Some(
            pairs
                .filter_map(|(path, value)| Some((path, value?)))
                .collect(),
        )
    }
}

fn value(path: &Path, sources: &[Source], document: &Document) -> Result<Option<Value>, String> {
    let value = source::first(sources, document)
        .map_err(|error| format!("the attribute `{}` has no value: {error}", path.text))?;
    // Services refuse a whole user for a photo that is no URL, and what an app's admin wrote need not be one.
    let is_url = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    };
    Ok(value.filter(|value| path.text != "photos" || is_url(value)))
}
