//! Attributes of a resource: where they are in its JSON, and what a change of one looks like.

use serde_json::{Map, Value, json};

/// Attributes that are lists of `{ type, value }`, and the type of the element that is ours.
const LISTS: [(&str, &str); 3] = [
    ("emails", "work"),
    ("phoneNumbers", "work"),
    ("photos", "photo"),
];

/// `displayName`, `name.formatted`, `photos`, `urn:…:User:department`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// As it is written.
    pub(crate) text: String,
    /// The schema of an extension.
    pub(crate) schema: Option<String>,
    name: String,
    part: Option<String>,
}

impl Path {
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (schema, attribute) = match text.rsplit_once(':') {
            Some((schema, attribute)) if schema.to_ascii_lowercase().starts_with("urn:") => {
                (Some(schema.to_owned()), attribute)
            }
            Some(_) => return Err("has a colon, and does not begin with `urn:`".into()),
            None => (None, text),
        };
        // A version such as 2.0 has a dot too, but never after the last colon.
        let (name, part) = match attribute.split_once('.') {
            Some((name, part)) => (name, Some(part)),
            None => (attribute, None),
        };
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '$')
                && name[1..]
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        if !is_name(name) || !part.is_none_or(is_name) {
            return Err("is no name of an attribute".into());
        }
        Ok(Self {
            text: text.to_owned(),
            schema,
            name: name.to_owned(),
            part: part.map(str::to_owned),
        })
    }

    /// Whether it is this attribute of the resource itself, or a part of it.
    pub(crate) fn is_of(&self, name: &str) -> bool {
        self.schema.is_none() && self.name.eq_ignore_ascii_case(name)
    }

    /// The type of our element, if this is a list.
    fn list(&self) -> Option<&'static str> {
        let list = LISTS.iter().find(|(name, _)| *name == self.name)?;
        (self.part.is_none() && self.schema.is_none()).then_some(list.1)
    }

    /// What a resource holds here.
    pub(crate) fn get<'a>(&self, resource: &'a Map<String, Value>) -> Option<&'a Value> {
        let resource = match &self.schema {
            Some(schema) => member(resource, schema)?.as_object()?,
            None => resource,
        };
        let mut value = member(resource, &self.name)?;
        if let Some(ours) = self.list() {
            let element = value.as_array()?.iter().find(|one| one["type"] == ours)?;
            value = element.get("value")?;
        }
        if let Some(part) = &self.part {
            value = member(value.as_object()?, part)?;
        }
        Some(value).filter(|value| !value.is_null() && **value != "")
    }

    /// Puts a value here, or nothing.
    pub(crate) fn set(&self, resource: &mut Map<String, Value>, value: Option<&Value>) {
        let mut place = resource;
        for name in self
            .schema
            .iter()
            .chain(self.part.as_ref().map(|_| &self.name))
        {
            let inner = place.entry(key(place, name)).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            place = inner.as_object_mut().expect("it was just made one");
        }
        let name = key(place, self.part.as_ref().unwrap_or(&self.name));
        let value = match self.list() {
            Some(ours) => self.elements(place.get(&name), ours, value),
            None => value.cloned(),
        };
        match value {
            Some(value) => place.insert(name, value),
            None => place.remove(&name),
        };
    }

    /// The list with our element changed, added or gone; others' stay.
    fn elements(&self, held: Option<&Value>, ours: &str, value: Option<&Value>) -> Option<Value> {
        let held = held.and_then(Value::as_array).cloned().unwrap_or_default();
        let mut list: Vec<_> = held.into_iter().filter(|one| one["type"] != ours).collect();
        list.extend(value.map(|value| json!({ "type": ours, "value": value })));
        (!list.is_empty()).then_some(Value::Array(list))
    }

    /// The operation of a PATCH that brings a resource to this value.
    pub(crate) fn operation(&self, held: &Map<String, Value>, value: Option<&Value>) -> Value {
        let value = match self.list() {
            Some(ours) => self.elements(member(held, &self.name), ours, value),
            None => value.cloned(),
        };
        match value {
            Some(value) => json!({ "op": "replace", "path": self.text, "value": value }),
            None => json!({ "op": "remove", "path": self.text }),
        }
    }
}

/// The member of this name; SCIM's names have no case.
pub(crate) fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.get(&key(object, name)))
}

/// The name that an object has for this member.
fn key(object: &Map<String, Value>, name: &str) -> String {
    let held = object.keys().find(|held| held.eq_ignore_ascii_case(name));
    held.map_or(name, String::as_str).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::Path;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn values_are_put_where_they_are_found() {
        for text in [
            "displayName",
            "name.formatted",
            "photos",
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
            "urn:x:2.0:User:manager.value",
        ] {
            let path = Path::parse(text).unwrap();
            let mut resource = object(
                json!({ "DISPLAYNAME": "old", "photos": [{ "type": "thumbnail", "value": "t" }] }),
            );
            path.set(&mut resource, Some(&json!("new")));
            assert_eq!(path.get(&resource), Some(&json!("new")), "{text}");
            assert!(!resource.contains_key("displayName"));
            path.set(&mut resource, None);
            assert_eq!(path.get(&resource), None, "{text}");
            assert_eq!(resource["photos"][0]["value"], "t");
        }
    }

    #[test]
    fn operations_spare_what_is_others() {
        let photos = Path::parse("photos").unwrap();
        let other = json!({ "type": "thumbnail", "value": "t" });
        let held = object(json!({ "photos": [{ "type": "photo", "value": "old" }, other] }));
        assert_eq!(
            photos.operation(&held, None),
            json!({ "op": "replace", "path": "photos", "value": [other] })
        );
        let title = Path::parse("title").unwrap();
        assert_eq!(
            title.operation(&held, None),
            json!({ "op": "remove", "path": "title" })
        );
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "a b",
            "x:y",
            "urn:x:",
            "name.",
            "name.a.b",
            "emails[0]",
            "\u{e9}",
        ] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }
}
