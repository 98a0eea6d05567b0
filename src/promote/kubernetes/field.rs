//! A field of any object, by its JSON Pointer: what it holds, and the JSON Patch that sets it, with a note on what was
//! there before.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::model::id::IdempotencyKey;

/// Where the field is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pointer: String,
    segments: Vec<String>,
}

/// What was there before a step set the field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// Which step's effect it is.
    pub key: IdempotencyKey,
    /// What it held; null where it was not there.
    pub value: Value,
}

impl Field {
    /// Reads a JSON Pointer (RFC 6901).
    ///
    /// # Errors
    /// Where it is none, or leads to what a step may not set.
    pub fn new(pointer: &str) -> Result<Self, String> {
        let Some(rest) = pointer.strip_prefix('/') else {
            return Err(format!("{pointer:?} is no JSON Pointer: it begins with /"));
        };
        let segments: Vec<String> = rest
            .split('/')
            .map(|s| s.replace("~1", "/").replace("~0", "~"))
            .collect();
        if segments.iter().any(String::is_empty) {
            return Err(format!("{pointer:?} names nothing between two /"));
        }
        let is_meta = matches!(
            segments.first().map(String::as_str),
            Some("metadata" | "apiVersion" | "kind" | "status")
        );
        let may = matches!(
            segments.get(1).map(String::as_str),
            Some("annotations" | "labels")
        ) && segments[0] == "metadata"
            && segments.len() == 3;
        if is_meta && !may {
            return Err(format!(
                "{pointer:?} is not for a step to set: expected a field below /spec or the like, a label or an annotation"
            ));
        }
        Ok(Self {
            pointer: pointer.to_owned(),
            segments,
        })
    }

    /// As documents have it.
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// The names from the object's root.
    #[must_use]
    pub fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// The annotation that holds what was before, one for each field.
    #[must_use]
    pub fn note(&self) -> String {
        let hash = hex::encode(Sha256::digest(self.pointer.as_bytes()));
        format!("failover.rs/before-{}", &hash[..12])
    }

    /// What it holds in an object; null where it is not there.
    #[must_use]
    pub fn held(&self, object: &Value) -> Value {
        object.pointer(&self.pointer).cloned().unwrap_or_default()
    }

    /// What was before, as an object says.
    #[must_use]
    pub fn before(&self, annotations: Option<&BTreeMap<String, String>>) -> Option<Before> {
        serde_json::from_str(annotations?.get(&self.note())?).ok()
    }

    /// The JSON Patch that has the field hold a value, and the note that; null takes either away. It counts only for the
    /// very version of the object that was seen.
    ///
    /// # Errors
    /// Where the field cannot be there.
    pub fn patch(
        &self,
        object: &Value,
        value: &Value,
        before: Option<&Before>,
    ) -> Result<Value, String> {
        let version = &object["metadata"]["resourceVersion"];
        let mut operations =
            vec![json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version})];
        operations.extend(self.set(object, value)?);
        let note = Self {
            pointer: format!("/metadata/annotations/{}", self.note().replace('/', "~1")),
            segments: vec!["metadata".to_owned(), "annotations".to_owned(), self.note()],
        };
        let text = match before {
            Some(before) => json!(serde_json::to_string(before).unwrap_or_default()),
            None => Value::Null,
        };
        operations.extend(note.set(object, &text)?);
        Ok(Value::Array(operations))
    }

    fn set(&self, object: &Value, value: &Value) -> Result<Option<Value>, String> {
        let operation = |op: &str, path: &str, value: &Value| {
            Some(json!({"op": op, "path": path, "value": value}))
        };
        if object.pointer(&self.pointer).is_some() {
            return Ok(if value.is_null() {
                Some(json!({"op": "remove", "path": self.pointer}))
            } else {
                operation("replace", &self.pointer, value)
            });
        }
        if value.is_null() {
            return Ok(None);
        }
        // The nearest that is there gets what is missing on the way.
        let mut there = object;
        let mut path = String::new();
        for (depth, segment) in self.segments.iter().enumerate() {
            path.push('/');
            path.push_str(&segment.replace('~', "~0").replace('/', "~1"));
            let Value::Object(fields) = there else {
                return Err(format!(
                    "{} is not there, and cannot be made: what would hold it is no object",
                    self.pointer
                ));
            };
            let Some(next) = fields.get(segment) else {
                let below = self.segments[depth + 1..].iter().rev();
                let whole = below.fold(value.clone(), |inner, name| {
                    Value::Object(Map::from_iter([(name.clone(), inner)]))
                });
                return Ok(operation("add", &path, &whole));
            };
            there = next;
        }
        Ok(None)
    }
}

/// An object as JSON.
pub fn whole(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Value {
        json!({
            "metadata": {"resourceVersion": "7"},
            "spec": {"replica": {"enabled": true}, "list": [{"a": 1}]},
        })
    }

    fn operations(pointer: &str, value: &Value) -> Result<Value, String> {
        Field::new(pointer).unwrap().patch(&object(), value, None)
    }

    #[test]
    fn a_field_is_replaced_added_with_its_way_or_removed() {
        let guard = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"});
        for (pointer, value, expected) in [
            (
                "/spec/replica/enabled",
                json!(false),
                json!({"op": "replace", "path": "/spec/replica/enabled", "value": false}),
            ),
            (
                "/spec/a~1b/c",
                json!(1),
                json!({"op": "add", "path": "/spec/a~1b", "value": {"c": 1}}),
            ),
            (
                "/spec/list/0/a",
                json!(2),
                json!({"op": "replace", "path": "/spec/list/0/a", "value": 2}),
            ),
            (
                "/spec/replica",
                Value::Null,
                json!({"op": "remove", "path": "/spec/replica"}),
            ),
        ] {
            assert_eq!(operations(pointer, &value), Ok(json!([guard, expected])));
        }
        assert_eq!(operations("/spec/none", &Value::Null), Ok(json!([guard])));
        assert!(operations("/spec/list/3/a", &json!(1)).is_err());
        assert!(operations("/spec/replica/enabled/deeper", &json!(1)).is_err());
    }

    #[test]
    fn what_was_before_is_written_in_the_same_change() {
        let field = Field::new("/spec/replica/enabled").unwrap();
        let before = Before {
            key: IdempotencyKey::new("k"),
            value: json!(true),
        };
        let patch = field
            .patch(&object(), &json!(false), Some(&before))
            .unwrap();
        let noted = &patch[2];
        assert_eq!(noted["path"], "/metadata/annotations");
        let text = noted["value"][field.note()].as_str().unwrap();
        let annotations = BTreeMap::from([(field.note(), text.to_owned())]);
        assert_eq!(field.before(Some(&annotations)), Some(before));
    }

    #[test]
    fn a_step_sets_no_status_and_no_name() {
        for bad in [
            "",
            "spec",
            "/",
            "/spec//a",
            "/status/phase",
            "/metadata/name",
            "/kind",
            "/metadata/annotations",
        ] {
            assert!(Field::new(bad).is_err(), "{bad}");
        }
        for good in [
            "/spec",
            "/data/mode",
            "/metadata/labels/role",
            "/metadata/annotations/a~1b",
        ] {
            assert!(Field::new(good).is_ok(), "{good}");
        }
    }
}
