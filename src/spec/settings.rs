//! Everything wrong with an adapter's `with`, as the adapter itself sees it.

use schemars::SchemaGenerator;
use serde_json::{Map, Value};

use super::{
    mend::{self, Found, Tried},
    misfit::Misfit,
    path::FieldPath,
};
use crate::port::kind::Kind;

/// The schema of a kind's `with`, whole in itself.
#[must_use]
pub fn schema(kind: &Kind) -> Value {
    let mut generator = SchemaGenerator::default();
    let mut schema = (kind.schema)(&mut generator).to_value();
    let definitions: Map<String, Value> = generator.take_definitions(true);
    if let Some(object) = schema.as_object_mut() {
        object.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

/// Everything wrong with a `with`; null stands for one that is left out.
#[must_use]
pub fn check(kind: &Kind, with: &Value) -> Vec<Found> {
    let problems = (kind.check)(with);
    if problems.is_empty() {
        return Vec::new();
    }
    let with = if with.is_null() {
        Value::Object(Map::new())
    } else {
        with.clone()
    };
    let mended = mend::mend(with, &schema(kind), |value| {
        let found: Vec<_> = (kind.check)(value)
            .into_iter()
            .map(|problem| Found {
                hint: problem.hint,
                ..Found::new(FieldPath::parse(&problem.path), &problem.message)
            })
            .collect();
        if found.is_empty() {
            Tried::Fits(())
        } else {
            Tried::Misfits(found)
        }
    });
    mended.found
}

/// Whether a misfit only says that something is missing.
#[must_use]
pub fn is_missing(found: &Found) -> bool {
    matches!(found.misfit, Misfit::MissingField(_))
}
