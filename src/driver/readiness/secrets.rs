//! Secrets: whether every reference of the documents leads to a value on this host. The value never shows.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        secret::SecretRef,
        service::Service,
    },
    port::{cause, secret::Secrets},
};

/// Parts of a service that a failover does without: what is missing there is told, and holds nothing back.
const BESIDE: [&str; 2] = ["backups", "drills"];

/// An item for each secret that is missing, and one for all that are there.
pub fn check(service: &Service, secrets: &dyn Secrets) -> Vec<CheckItem> {
    let references = references(service);
    let mut items = Vec::new();
    for (reference, places) in &references {
        if let Err(error) = secrets.read(reference) {
            items.push(CheckItem::bad(
                format!("secret/{}", short(reference)),
                weight(places),
                format!(
                    "{}; it is used at {}",
                    cause::in_full(&error),
                    places.join(", ")
                ),
                "give it to the controller's user on this host",
            ));
        }
    }
    let there = references.len() - items.len();
    if there > 0 {
        items.push(CheckItem::ok(
            "secrets",
            format!(
                "{there} of {} secrets that the documents name are there",
                references.len()
            ),
        ));
    }
    items
}

/// What it weighs that a secret is missing, by where it is used.
fn weight(places: &[String]) -> CheckStatus {
    let is_beside = |place: &String| {
        let part = place.split(['.', '[']).next().unwrap_or_default();
        BESIDE.contains(&part)
    };
    if places.iter().all(is_beside) {
        CheckStatus::Warn
    } else {
        CheckStatus::Fail
    }
}

fn short(reference: &SecretRef) -> String {
    match reference {
        SecretRef::Env(name) => name.clone(),
        SecretRef::File(path) => path.clone(),
        SecretRef::SecretRef(key) => format!("{}/{}", key.name, key.key),
    }
}

/// Every reference, with the places that name it.
#[must_use]
pub fn references(service: &Service) -> BTreeMap<SecretRef, Vec<String>> {
    let mut found = BTreeMap::new();
    if let Ok(value) = serde_json::to_value(service) {
        walk(&value, "", &mut found);
    }
    found
}

/// Where nothing but a secret can be meant: elsewhere `file` may be a file.
fn walk(value: &Value, path: &str, found: &mut BTreeMap<SecretRef, Vec<String>>) {
    match value {
        Value::Object(fields) => {
            let alone = fields.len() == 1;
            let reference = alone.then(|| serde_json::from_value::<SecretRef>(value.clone()).ok());
            if let Some(reference) = reference.flatten() {
                let places: &mut Vec<String> = found.entry(reference).or_default();
                places.push(path.to_owned());
                return;
            }
            for (key, below) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(below, &path, found);
            }
        }
        Value::Array(items) => {
            for (n, below) in items.iter().enumerate() {
                walk(below, &format!("{path}[{n}]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failover_does_without_holds_nothing_back() {
        let of = |places: &[&str]| {
            let places: Vec<String> = places.iter().map(ToString::to_string).collect();
            weight(&places)
        };
        assert_eq!(of(&["backups.take.password"]), CheckStatus::Warn);
        assert_eq!(of(&["drills[0].runbook.steps[0]"]), CheckStatus::Warn);
        assert_eq!(of(&["dns.provider.with.token"]), CheckStatus::Fail);
        assert_eq!(
            of(&["drills[0].runbook", "runbook.steps[2]"]),
            CheckStatus::Fail
        );
    }
}
