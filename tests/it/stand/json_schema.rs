//! A JSON Schema validator for the keywords that the project's schema uses; any other keyword is an error.

use serde_json::{Map, Value};

/// Everything in which a value differs from a schema, as `path: what`.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(schema, schema, value, "", &mut faults);
    faults
}

/// The same for a schema that is a part of a document.
pub fn faults_in(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(document, schema, value, "", &mut faults);
    faults
}

const NOTES: [&str; 13] = [
    "$schema",
    "$id",
    "$defs",
    "title",
    "description",
    "default",
    "examples",
    "format",
    "pattern",
    "enumDescriptions",
    "then",
    "properties",
    "x-kubernetes-preserve-unknown-fields",
];

fn check(root: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else {
        if schema == &Value::Bool(false) {
            faults.push(format!("{at}: nothing may stand here"));
        }
        return;
    };
    for (keyword, says) in schema {
        let fits = |option: &Value| {
            let mut inner = Vec::new();
            check(root, option, value, at, &mut inner);
            inner.is_empty()
        };
        let options = || says.as_array().unwrap().iter();
        let right = match keyword.as_str() {
            "$ref" => {
                let pointer = says.as_str().unwrap().trim_start_matches('#');
                check(root, root.pointer(pointer).unwrap(), value, at, faults);
                true
            }
            "allOf" => {
                options().for_each(|o| check(root, o, value, at, faults));
                true
            }
            "anyOf" => options().any(fits),
            "oneOf" => options().filter(|o| fits(o)).count() == 1,
            "if" => {
                if fits(says)
                    && let Some(then) = schema.get("then")
                {
                    check(root, then, value, at, faults);
                }
                true
            }
            "const" => says == value,
            "enum" => options().any(|o| o == value),
            "type" => is_type(says, value),
            "minimum" => value.as_f64().is_none_or(|n| n >= says.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|n| n <= says.as_f64().unwrap()),
            "minItems" => value
                .as_array()
                .is_none_or(|a| a.len() as u64 >= says.as_u64().unwrap()),
            "maxItems" => value
                .as_array()
                .is_none_or(|a| a.len() as u64 <= says.as_u64().unwrap()),
            "minProperties" => value
                .as_object()
                .is_none_or(|o| o.len() as u64 >= says.as_u64().unwrap()),
            "maxProperties" => value
                .as_object()
                .is_none_or(|o| o.len() as u64 <= says.as_u64().unwrap()),
            "required" => value
                .as_object()
                .is_none_or(|o| options().all(|k| o.contains_key(k.as_str().unwrap()))),
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, says, item, &format!("{at}[{n}]"), faults);
                }
                true
            }
            "additionalProperties" => {
                fields(root, schema, says, value, at, faults);
                true
            }
            known if NOTES.contains(&known) => true,
            unknown => panic!("the schema uses `{unknown}`, which this validator does not know"),
        };
        if !right {
            faults.push(format!("{at}: {keyword} {says}"));
        }
    }
    if !schema.contains_key("additionalProperties") {
        fields(root, schema, &Value::Bool(true), value, at, faults);
    }
}

fn fields(
    root: &Value,
    schema: &Map<String, Value>,
    others: &Value,
    value: &Value,
    at: &str,
    faults: &mut Vec<String>,
) {
    for (key, field) in value.as_object().into_iter().flatten() {
        let own = schema.get("properties").and_then(|p| p.get(key));
        check(
            root,
            own.unwrap_or(others),
            field,
            &format!("{at}.{key}"),
            faults,
        );
    }
}

fn is_type(says: &Value, value: &Value) -> bool {
    if let Some(options) = says.as_array() {
        return options.iter().any(|o| is_type(o, value));
    }
    match says.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("there is no type {other}"),
    }
}
