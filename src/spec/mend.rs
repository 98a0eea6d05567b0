//! Finds every misfit of a value at once: each one found is noted, mended, and the value is tried again.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    misfit::{self, Misfit},
    nearest::nearest,
    path::{FieldPath, Segment},
};

/// More misfits than anybody reads at once.
const MOST: usize = 200;

/// A misfit and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The field.
    pub path: FieldPath,
    /// What is wrong with it.
    pub misfit: Misfit,
    /// What to do, where the adapter said so.
    pub hint: Option<String>,
}

impl Found {
    /// A deserialiser's message about a field.
    #[must_use]
    pub fn new(path: FieldPath, message: &str) -> Self {
        let misfit = misfit::classify(message);
        // A bare word where a map was expected is blamed on the map's key that it names.
        let is_word = matches!(&misfit, Misfit::Type { found, .. } if found == "unit variant");
        let path = match path.split() {
            Some((above, _)) if is_word => above,
            Some(_) | None => path,
        };
        Self {
            path,
            misfit,
            hint: None,
        }
    }
}

/// What one try came to.
pub enum Tried<T> {
    /// It fits.
    Fits(T),
    /// It does not, there.
    Misfits(Vec<Found>),
}

/// A value after all its misfits were found.
pub struct Mended<T> {
    /// What it reads as with its misfits mended; none where they could not be.
    pub value: Option<T>,
    /// The misfits, as found.
    pub found: Vec<Found>,
    /// The fields that hold a stand-in or were left out: nothing may be concluded from them.
    pub tainted: BTreeSet<FieldPath>,
}

/// Reads a value as `T`.
pub fn read<T: DeserializeOwned>(value: Value, schema: &Value) -> Mended<T> {
    mend(
        value,
        schema,
        |value| match serde_path_to_error::deserialize::<_, T>(value) {
            Ok(read) => Tried::Fits(read),
            Err(e) => Tried::Misfits(vec![Found::new(
                FieldPath::from(e.path()),
                &e.inner().to_string(),
            )]),
        },
    )
}

/// Tries a value until it fits, mending it by its schema in between.
pub fn mend<T>(
    mut value: Value,
    schema: &Value,
    attempt: impl Fn(&Value) -> Tried<T>,
) -> Mended<T> {
    let mut mended = Mended {
        value: None,
        found: Vec::new(),
        tainted: BTreeSet::new(),
    };
    mended.lists_for_maps(&mut value, schema);
    let mut meant: BTreeMap<FieldPath, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..MOST {
        let misfits = match attempt(&value) {
            Tried::Fits(fits) => {
                mended.value = Some(fits);
                break;
            }
            Tried::Misfits(misfits) => misfits,
        };
        let last_word = misfits.len() != 1
            || misfits
                .iter()
                .any(|m| matches!(m.misfit, Misfit::Other(_)) && m.path.is_root());
        let mut goes_on = !last_word;
        for found in misfits {
            let spot = spot(&found);
            let again = mended.tainted.iter().any(|t| spot.is_within(t));
            if again && !matches!(found.misfit, Misfit::MissingField(_)) {
                goes_on = false;
                continue;
            }
            goes_on &= repair(&mut value, schema, &found, &spot);
            if let Misfit::UnknownField { field, known } = &found.misfit
                && let (Some(near), Some((above, _))) = (nearest(field, known), found.path.split())
            {
                meant.entry(above).or_default().insert(near.to_owned());
            }
            let is_meant = matches!(&found.misfit, Misfit::MissingField(field)
                if meant.get(&found.path).is_some_and(|m| m.contains(field)));
            if !again && !is_meant {
                let meaning = meaning(&found, schema, &spot);
                mended.found.push(Found {
                    hint: found.hint.clone().or(meaning),
                    ..found
                });
            }
            mended.tainted.insert(spot);
        }
        if !goes_on {
            break;
        }
    }
    mended
}

impl<T> Mended<T> {
    /// Lists where maps belong: the deserialiser would take their items for the fields in order.
    fn lists_for_maps(&mut self, value: &mut Value, schema: &Value) {
        let mut lists = Vec::new();
        misplaced_lists(value, schema, schema, &FieldPath::root(), &mut lists);
        for path in lists {
            let found = Found {
                misfit: Misfit::Type {
                    found: "sequence".to_owned(),
                    expected: "a map".to_owned(),
                },
                path,
                hint: None,
            };
            repair(value, schema, &found, &found.path);
            self.tainted.insert(found.path.clone());
            self.found.push(found);
        }
    }
}

fn misplaced_lists(
    value: &Value,
    schema: &Value,
    root: &Value,
    path: &FieldPath,
    lists: &mut Vec<FieldPath>,
) {
    match value {
        Value::Array(_) if is_map(schema, root, 0) => lists.push(path.clone()),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                if let Some(schema) = below(schema, root, &Segment::Index(n), 0) {
                    misplaced_lists(item, schema, root, &path.index(n), lists);
                }
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                if let Some(schema) = below(schema, root, &Segment::Key(key.clone()), 0) {
                    misplaced_lists(item, schema, root, &path.key(key), lists);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a schema takes nothing but a map, or a map and nothing.
fn is_map(schema: &Value, root: &Value, depth: usize) -> bool {
    if depth > 16 {
        return false;
    }
    if let Some(target) = referred(schema, root) {
        return is_map(target, root, depth + 1);
    }
    let is_type = |schema: &Value, name: &str| schema.get("type").is_some_and(|t| t == name);
    let or_nothing = schema
        .get("type")
        .is_some_and(|t| *t == serde_json::json!(["object", "null"]));
    let mut options = alternatives(schema).peekable();
    is_type(schema, "object")
        || or_nothing
        || (options.peek().is_some()
            && options.all(|o| is_type(o, "null") || is_map(o, root, depth + 1)))
}

/// The field that a misfit is about: a missing one lies below where it was missed.
fn spot(found: &Found) -> FieldPath {
    match &found.misfit {
        Misfit::MissingField(field) => found.path.key(field),
        Misfit::UnknownField { .. }
        | Misfit::UnknownVariant { .. }
        | Misfit::SecretValue
        | Misfit::Type { .. }
        | Misfit::Unit(_)
        | Misfit::Other(_) => found.path.clone(),
    }
}

/// What a missing field is for, as its type says.
fn meaning(found: &Found, schema: &Value, spot: &FieldPath) -> Option<String> {
    let Misfit::MissingField(field) = &found.misfit else {
        return None;
    };
    let text = schema_at(schema, spot)?.get("description")?.as_str()?;
    let sentence = text.split(". ").next()?.split("\n\n").next()?;
    let sentence = sentence.replace('\n', " ");
    Some(format!("`{field}`: {}", sentence.trim_end_matches('.')))
}

/// Takes an unknown field away, and puts a stand-in in the place of a wrong or missing value.
fn repair(value: &mut Value, schema: &Value, found: &Found, spot: &FieldPath) -> bool {
    let Some((above, last)) = spot.split() else {
        return false;
    };
    let Some(parent) = find(value, &above) else {
        return false;
    };
    let below = || schema_at(schema, spot).map(|s| stand_in(s, schema, 0));
    match (parent, last) {
        (Value::Object(map), Segment::Key(key)) => {
            if matches!(found.misfit, Misfit::MissingField(_)) {
                let Some(stand_in) = below() else {
                    return false;
                };
                return map.insert(key.clone(), stand_in).is_none();
            }
            map.remove(key).is_some()
        }
        (Value::Array(items), Segment::Index(index)) => match (items.get_mut(*index), below()) {
            (Some(item), Some(stand_in)) => {
                *item = stand_in;
                true
            }
            (_, _) => false,
        },
        (_, _) => false,
    }
}

fn find<'a>(value: &'a mut Value, path: &FieldPath) -> Option<&'a mut Value> {
    path.segments()
        .iter()
        .try_fold(value, |value, segment| match segment {
            Segment::Key(key) => value.get_mut(key),
            Segment::Index(index) => value.get_mut(index),
        })
}

/// The schema of the field at a path.
fn schema_at<'a>(root: &'a Value, path: &FieldPath) -> Option<&'a Value> {
    path.segments()
        .iter()
        .try_fold(root, |schema, segment| below(schema, root, segment, 0))
}

fn below<'a>(
    schema: &'a Value,
    root: &'a Value,
    segment: &Segment,
    depth: usize,
) -> Option<&'a Value> {
    if depth > 16 {
        return None;
    }
    if let Some(target) = referred(schema, root) {
        return below(target, root, segment, depth + 1);
    }
    let direct = match segment {
        Segment::Key(key) => schema
            .get("properties")
            .and_then(|p| p.get(key))
            .or_else(|| schema.get("additionalProperties").filter(|a| a.is_object())),
        Segment::Index(_) => schema.get("items"),
    };
    direct
        .or_else(|| alternatives(schema).find_map(|option| below(option, root, segment, depth + 1)))
}

fn referred<'a>(schema: &Value, root: &'a Value) -> Option<&'a Value> {
    let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    root.pointer(pointer)
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf", "allOf"]
        .into_iter()
        .filter_map(|word| schema.get(word)?.as_array())
        .flatten()
}

/// The smallest value that a schema allows.
fn stand_in(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > 16 {
        return Value::Null;
    }
    if let Some(target) = referred(schema, root) {
        return stand_in(target, root, depth + 1);
    }
    let first = |word: &str| schema.get(word)?.as_array()?.first().cloned();
    if let Some(value) = schema
        .get("const")
        .or_else(|| schema.get("default"))
        .cloned()
        .or_else(|| first("enum"))
        .or_else(|| first("examples"))
    {
        return value;
    }
    if let Some(option) = alternatives(schema).next() {
        return stand_in(option, root, depth + 1);
    }
    let kind = schema.get("type").map(|t| t.get(0).unwrap_or(t));
    match kind.and_then(Value::as_str) {
        Some("string") => Value::from("x"),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(Value::from(1)),
        Some("boolean") => Value::from(false),
        Some("array") => Value::Array(Vec::new()),
        Some("object") => {
            let required = schema.get("required").and_then(Value::as_array);
            Value::Object(
                required
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(|key| {
                        let below = schema.get("properties").and_then(|p| p.get(key));
                        let value = below.map_or(Value::Null, |s| stand_in(s, root, depth + 1));
                        (key.to_owned(), value)
                    })
                    .collect(),
            )
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::secret::SecretRef, model::span::Span};
    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Deserialize, JsonSchema, Debug)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only the shape matters")]
    struct Top {
        name: String,
        waits: Vec<Span>,
        inner: Vec<Inner>,
        token: SecretRef,
    }

    #[derive(Deserialize, JsonSchema, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the shape matters")]
    struct Inner {
        port: u16,
        #[serde(default)]
        host: Option<String>,
    }

    fn found(value: Value) -> (Vec<String>, bool) {
        let schema = schemars::schema_for!(Top).to_value();
        let mended = read::<Top>(value, &schema);
        let found = mended
            .found
            .iter()
            .map(|f| format!("{} {}", f.misfit.code(), f.path))
            .collect();
        (found, mended.value.is_some())
    }

    #[test]
    fn finds_all_misfits_at_once_and_still_reads_the_rest() {
        let (found, read) = found(json!({
            "nam": "a",
            "waits": ["3s", 5, "7x"],
            "inner": [{"port": "x", "host": 3}, 7, {"hots": "a"}, [80]],
            "token": "hunter2",
        }));
        assert_eq!(
            found,
            [
                "FO-112 inner[3]",
                "FO-112 inner[0].host",
                "FO-112 inner[0].port",
                "FO-112 inner[1]",
                "FO-110 inner[2].hots",
                "FO-111 inner[2]",
                "FO-110 nam",
                "FO-116 token",
                "FO-114 waits[1]",
                "FO-114 waits[2]",
            ]
        );
        assert!(read);
    }

    #[test]
    fn gives_up_without_going_round_in_circles() {
        assert_eq!(found(json!([1])), (vec!["FO-112 ".to_owned()], false));
        assert_eq!(found(json!("x")).0.len(), 1);
    }
}
