//! The JSON Schema of the configuration, made of the structs that read it and of the kinds' own schemas.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Kinds, raw};

/// JSON Schema draft 7, which is what editors of TOML understand. A target is one of the kinds, by its `type`.
#[must_use]
pub fn schema(kinds: Kinds<'_>) -> Value {
    let mut generator = SchemaSettings::draft07().for_deserialize().into_generator();
    let options = generator.subschema_for::<raw::Options>();
    let mut root = generator.into_root_schema_for::<raw::Root>().to_value();
    let options = definition(&root, &options.to_value());
    let mut types = Vec::new();
    for kind in kinds.built {
        let mut own = (kind.schema)().to_value();
        rename_references(&mut own, kind.name);
        for name in ["definitions", "$defs"] {
            if let Some(Value::Object(definitions)) = own.get_mut(name).map(Value::take) {
                for (key, definition) in definitions {
                    root["definitions"][format!("{}.{key}", kind.name)] = definition;
                }
            }
        }
        types.push(of_type(kind.name, own, &options));
    }
    root["properties"]["targets"] = json!({
        "description": "What is kept in sync, each under a name of its own.",
        "type": "object",
        "additionalProperties": { "oneOf": types },
    });
    root
}

/// A target's table: `type`, the daemon's keys and the kind's.
fn of_type(name: &str, mut own: Value, options: &Value) -> Value {
    let mut properties = Map::new();
    properties.insert("type".into(), json!({ "const": name }));
    for table in [options, &own] {
        properties.extend(
            table["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, schema)| (key.clone(), schema.clone())),
        );
    }
    let mut required = vec![json!("type")];
    required.extend(own["required"].as_array().into_iter().flatten().cloned());
    json!({
        "title": name,
        "description": own["description"].take(),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// What a reference points to.
fn definition(root: &Value, reference: &Value) -> Value {
    let name = reference["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next());
    name.map_or_else(Value::default, |name| root["definitions"][name].clone())
}

/// Points a kind's references at its definitions under their names in the whole schema.
fn rename_references(schema: &mut Value, kind: &str) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(path) if key == "$ref" => {
                        let name = path.rsplit('/').next().unwrap_or_default();
                        *path = format!("#/definitions/{kind}.{name}");
                    }
                    value => rename_references(value, kind),
                }
            }
        }
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| rename_references(value, kind)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{raw::OPTION_KEYS, schema};
    use crate::config::tests::KINDS;

    /// All references, and all tables that let unknown keys through.
    fn walk<'a>(schema: &'a Value, references: &mut Vec<&'a str>, open: &mut Vec<&'a Value>) {
        if schema["type"] == "object" && schema.get("additionalProperties").is_none() {
            open.push(schema);
        }
        match schema {
            Value::Object(members) => {
                references.extend(members.get("$ref").and_then(Value::as_str));
                members
                    .values()
                    .for_each(|value| walk(value, references, open));
            }
            Value::Array(values) => values
                .iter()
                .for_each(|value| walk(value, references, open)),
            _ => {}
        }
    }

    #[test]
    fn references_lead_somewhere_and_tables_are_closed() {
        let schema = schema(KINDS);
        let (mut references, mut open) = (Vec::new(), Vec::new());
        walk(&schema, &mut references, &mut open);
        assert!(
            references.contains(&"#/definitions/post.Style"),
            "{references:?}"
        );
        for reference in references {
            let found = schema.pointer(reference.trim_start_matches('#'));
            assert!(found.is_some_and(Value::is_object), "{reference}");
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn a_target_has_its_type_the_daemons_keys_and_the_kinds() {
        let schema = schema(KINDS);
        let post = &schema["properties"]["targets"]["additionalProperties"]["oneOf"][0];
        assert_eq!(post["properties"]["type"]["const"], "post");
        assert_eq!(post["required"], serde_json::json!(["type", "url"]));
        for key in OPTION_KEYS.iter().chain(&["url", "secret"]) {
            assert!(post["properties"].get(key).is_some(), "{key}");
        }
        // Every option is taken out of the table before the kind sees it.
        assert_eq!(
            schema["definitions"]["Options"]["properties"]
                .as_object()
                .unwrap()
                .len(),
            OPTION_KEYS.len()
        );
        assert_eq!(post["properties"]["timeout"]["default"], "10s");
        assert_eq!(
            schema["definitions"]["Listener"]["properties"]["address"]["default"],
            "127.0.0.1:8700"
        );
    }
}
