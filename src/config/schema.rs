//! The JSON Schema of the configuration, made of the structs that read it and of the kinds' own schemas.

use profilesync_target::Kind;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::raw;

/// JSON Schema draft 7, which is what editors of TOML understand. A target is one of the kinds, by its `type`.
#[must_use]
pub fn schema(kinds: &[Kind]) -> Value {
    let mut generator = SchemaSettings::draft07().for_deserialize().into_generator();
    let options = generator.subschema_for::<raw::Options>();
    let mut root = generator.into_root_schema_for::<raw::Root>().to_value();
    let options = definition(&root, &options.to_value());
    let mut types = Vec::new();
    for kind in kinds {
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
