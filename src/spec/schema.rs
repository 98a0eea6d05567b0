//! The JSON Schema of all documents, for editors.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    backup::BackupPolicySpec,
    document::{API_VERSION, Document, KINDS},
    group::ServiceGroupSpec,
    runbook::RunbookSpec,
    scope::Family,
    service::ProtectedServiceSpec,
};
use crate::port::kind::{Kind, Kinds};

/// What the types mark places with where an adapter is named.
const MARK: &str = "x-uses";

/// The schema of all documents: `uses` lists the adapters that fit, and `with` follows from it.
#[must_use]
pub fn schema(kinds: Kinds) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let service = envelope::<ProtectedServiceSpec>(&mut generator, KINDS[0]);
    let runbook = envelope::<RunbookSpec>(&mut generator, KINDS[1]);
    let backups = envelope::<BackupPolicySpec>(&mut generator, KINDS[2]);
    let groups = envelope::<ServiceGroupSpec>(&mut generator, KINDS[3]);
    let settings: Vec<_> = kinds
        .0
        .iter()
        .map(|kind| (kind, (kind.schema)(&mut generator).to_value()))
        .collect();
    let mut definitions = generator.take_definitions(true);
    for (kind, mut schema) in settings {
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".to_owned(), kind.summary.into());
        }
        definitions.insert(settings_name(kind), schema);
    }
    let known = definitions.clone();
    for definition in definitions.values_mut() {
        name_adapters(definition, kinds, &known);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://failover.rs/schema/v1alpha1.json",
        "title": "Documents of failover",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"enum": KINDS},
        },
        "allOf": [
            {"if": {"properties": {"kind": {"const": KINDS[0]}}}, "then": service},
            {"if": {"properties": {"kind": {"const": KINDS[1]}}}, "then": runbook},
            {"if": {"properties": {"kind": {"const": KINDS[2]}}}, "then": backups},
            {"if": {"properties": {"kind": {"const": KINDS[3]}}}, "then": groups},
        ],
        "$defs": definitions,
    })
}

/// The adapters that fit where a type is marked so.
#[must_use]
pub fn adapters(kinds: Kinds, mark: &str) -> Vec<&'static str> {
    let fitting = kinds.0.iter().filter(|k| Family::of(k).mark() == mark);
    fitting.map(|kind| kind.name).collect()
}

fn envelope<S: JsonSchema>(generator: &mut SchemaGenerator, kind: &str) -> Value {
    let mut schema = Document::<S>::json_schema(generator).to_value();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("apiVersion".to_owned(), json!({"const": API_VERSION}));
        properties.insert("kind".to_owned(), json!({"const": kind}));
    }
    schema
}

fn settings_name(kind: &Kind) -> String {
    format!("with:{}", kind.name.replace('/', "-"))
}

/// Where a type marks that an adapter is named, lists the adapters and ties `with` to `uses`.
fn name_adapters(schema: &mut Value, kinds: Kinds, known: &Map<String, Value>) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let Some(mark) = object.remove(MARK) else {
        return;
    };
    let fitting: Vec<_> = kinds
        .0
        .iter()
        .filter(|k| Some(Family::of(k).mark()) == mark.as_str())
        .collect();
    let names: Vec<_> = fitting.iter().map(|k| k.name).collect();
    let summaries: Vec<_> = fitting.iter().map(|k| k.summary).collect();
    if let Some(uses) = object
        .get_mut("properties")
        .and_then(|p| p.get_mut("uses"))
        .and_then(Value::as_object_mut)
    {
        let description = uses.get("description").cloned();
        let mut listed = Map::new();
        listed.insert("enum".to_owned(), json!(names));
        listed.insert("enumDescriptions".to_owned(), json!(summaries));
        if let Some(description) = description {
            listed.insert("description".to_owned(), description);
        }
        *uses = listed;
    }
    let partly = mark == Family::Step.mark();
    let rules: Vec<_> = fitting
        .iter()
        .map(|kind| rule(kind, partly, known))
        .collect();
    if !rules.is_empty() {
        object.insert("allOf".to_owned(), Value::Array(rules));
    }
}

/// What `with` holds for a kind. A runbook's step may leave settings to the service, so nothing is required there.
fn rule(kind: &Kind, partly: bool, known: &Map<String, Value>) -> Value {
    let mut own = known.get(&settings_name(kind)).cloned().unwrap_or_default();
    let needs_some = own
        .as_object_mut()
        .is_some_and(|o| o.remove("required").is_some());
    let mut then = Map::new();
    let with = if partly {
        own
    } else {
        json!({"$ref": format!("#/$defs/{}", settings_name(kind))})
    };
    then.insert("properties".to_owned(), json!({"with": with}));
    if needs_some && !partly {
        then.insert("required".to_owned(), json!(["with"]));
    }
    json!({
        "if": {"properties": {"uses": {"const": kind.name}}, "required": ["uses"]},
        "then": then,
    })
}
