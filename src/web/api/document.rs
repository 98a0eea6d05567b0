//! The API's description as OpenAPI 3.1, made from the operations and from the very types that they take and give.

use std::collections::BTreeMap;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    ROOT,
    operation::{Form, Operation, Verb, operations},
};
use crate::web::problem::Problem;

/// The whole document.
#[must_use]
pub fn document() -> Value {
    let settings = || {
        SchemaSettings::draft2020_12().with(|s| {
            s.definitions_path = "/components/schemas".into();
            s.meta_schema = None;
        })
    };
    let mut taken = settings().for_deserialize().into_generator();
    let mut given = settings().for_serialize().into_generator();
    let problem = given.subschema_for::<Problem>();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for operation in operations() {
        let verb = match operation.verb {
            Verb::Get => "get",
            Verb::Post => "post",
        };
        let described = describe(&operation, &mut taken, &mut given);
        let path = format!("{ROOT}{}", operation.path);
        let at = paths.entry(path).or_default();
        at.insert(verb.to_owned(), described);
    }
    let mut schemas = taken.take_definitions(true);
    schemas.extend(given.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "failover desk",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Disaster-recovery failover: look, ask, approve.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "It was not done: why, and what to do (RFC 9457).",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Your personal token, as 'failover token' prints it.",
                },
            },
        },
    })
}

fn describe(
    operation: &Operation,
    taken: &mut SchemaGenerator,
    given: &mut SchemaGenerator,
) -> Value {
    let (content_type, words) = match operation.form {
        Form::Json => ("application/json", "It was done."),
        Form::Events => (
            "text/event-stream",
            "Events named record; the data of each is as the schema says.",
        ),
    };
    let answer = (operation.answer)(given);
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters(operation, taken),
        "responses": {
            "200": { "description": words, "content": { content_type: { "schema": answer } } },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    });
    if let Some(body) = operation.body {
        described["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": body(taken) } },
        });
    }
    described
}

fn parameters(operation: &Operation, taken: &mut SchemaGenerator) -> Vec<Value> {
    let mut parameters = Vec::new();
    if operation.path.contains("{service}") {
        parameters.push(json!({
            "name": "service",
            "in": "path",
            "required": true,
            "description": "The service, as metadata.name of its document.",
            "schema": { "type": "string", "minLength": 1 },
        }));
    }
    let asked = operation.asked.map(|shape| shape(taken).to_value());
    let fields = asked
        .as_ref()
        .and_then(|asked| asked["properties"].as_object());
    for (name, schema) in fields.into_iter().flatten() {
        parameters.push(json!({
            "name": name,
            "in": "query",
            "required": false,
            "description": schema["description"],
            "schema": present(schema),
        }));
    }
    parameters
}

/// A parameter is there or not; it is never null.
fn present(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("description");
        fields.remove("default");
    }
    if let Some(types) = schema["type"].as_array() {
        schema["type"] = types
            .iter()
            .find(|t| *t != "null")
            .cloned()
            .unwrap_or_default();
    }
    let alone = schema["anyOf"].as_array().and_then(|options| {
        let mut real = options.iter().filter(|o| o["type"] != "null");
        real.next().cloned()
    });
    alone.unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every reference within a value.
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 30, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let operations = operations();
        let names: BTreeSet<_> = operations.iter().map(|o| o.id).collect();
        assert_eq!(names.len(), operations.len());
    }

    #[test]
    fn what_is_taken_and_what_is_given_under_one_name_is_one_thing() {
        let settings = || {
            SchemaSettings::draft2020_12().with(|s| {
                s.definitions_path = "/components/schemas".into();
                s.meta_schema = None;
            })
        };
        let mut taken = settings().for_deserialize().into_generator();
        let mut given = settings().for_serialize().into_generator();
        for operation in operations() {
            describe(&operation, &mut taken, &mut given);
        }
        let given = given.take_definitions(true);
        for (name, schema) in taken.take_definitions(true) {
            if let Some(other) = given.get(&name) {
                assert_eq!(*other, schema, "{name}");
            }
        }
    }

    #[test]
    fn a_parameter_is_never_null() {
        let text = document().to_string();
        assert!(text.contains("\"showPlan\"") && text.contains("\"in\":\"query\""));
        let document = document();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().values() {
                for parameter in method["parameters"].as_array().unwrap() {
                    let schema = parameter["schema"].to_string();
                    assert!(!schema.contains("null"), "{path}: {schema}");
                }
            }
        }
    }
}
