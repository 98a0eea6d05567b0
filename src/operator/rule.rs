//! What is checked at admission, beyond what the types say: as CEL, with bounds that keep its cost known.
//!
//! The controller checks everything again, and much more (`spec/`): what is left out here is seen in the condition
//! `Valid`. A rule stands here where the object alone shows that it is broken.

use serde_json::{Value, json};

/// What is asked of a place in a schema, such as `spec.sites[].name`.
pub type Rules = &'static [(&'static str, Check)];

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// A rule, and what whoever breaks it reads.
    Holds(&'static str, &'static str),
    /// As many items at most.
    MaxItems(u32),
    /// As many items at least.
    MinItems(u32),
    /// So many characters at most.
    MaxLength(u32),
    /// So many characters at least.
    MinLength(u32),
    /// No two items have this field alike, and each is merged by itself.
    KeyedBy(&'static str),
}

use Check::{Holds, KeyedBy, MaxItems, MaxLength, MinItems, MinLength};

/// Longest name that is a label.
const LABEL: u32 = 63;

/// Names become labels and parts of other names.
const NAME: (&str, Check) = (
    "",
    Holds(
        "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
        "metadata.name must have at most 63 characters, and no dot",
    ),
);

/// Of a `ProtectedService`.
pub const SERVICE: Rules = &[
    NAME,
    ("spec.sites", MinItems(2)),
    ("spec.sites", MaxItems(16)),
    ("spec.sites", KeyedBy("name")),
    ("spec.sites[].name", MaxLength(LABEL)),
    (
        "spec.sites",
        Holds(
            "self.filter(s, s.role == 'primary').size() == 1",
            "exactly one site must have the role primary",
        ),
    ),
    ("spec.vantagePoints", MaxItems(64)),
    ("spec.vantagePoints", KeyedBy("name")),
    ("spec.vantagePoints[].name", MaxLength(LABEL)),
    ("spec.components", MinItems(1)),
    ("spec.components", MaxItems(32)),
    ("spec.components", KeyedBy("name")),
    ("spec.components[].name", MaxLength(LABEL)),
    ("spec.components[].probes", MinItems(1)),
    ("spec.components[].probes", MaxItems(32)),
    ("spec.components[].probes[].site", MaxLength(LABEL)),
    (
        "spec.components[].probes[]",
        Holds(
            "!has(self.cold) || !self.cold || has(self.site)",
            "a cold probe must name its site",
        ),
    ),
    (
        "spec",
        Holds(
            "self.components.all(c, c.probes.all(p, !has(p.site) || self.sites.exists(s, s.name == p.site)))",
            "a probe names a site that is not in spec.sites",
        ),
    ),
    ("spec.runbook", MinLength(1)),
    ("spec.announcements.channels", MaxItems(32)),
    ("spec.announcements.channels", KeyedBy("name")),
    ("spec.team.people", MaxItems(256)),
    ("spec.team.people", KeyedBy("name")),
    ("spec.team.channels", MaxItems(32)),
    ("spec.team.channels", KeyedBy("name")),
    ("spec.team.escalation", MaxItems(32)),
    ("spec.drills", MaxItems(32)),
    ("spec.drills", KeyedBy("name")),
    (
        "spec.drills[]",
        Holds(
            "self.depth != 'isolated' || has(self.runbook)",
            "an isolated drill must name its runbook, such as postgres-drill",
        ),
    ),
];

/// Of a `Runbook`.
pub const RUNBOOK: Rules = &[
    NAME,
    ("spec.steps", MinItems(1)),
    ("spec.steps", MaxItems(64)),
    ("spec.steps", KeyedBy("id")),
    ("spec.steps[].id", MaxLength(LABEL)),
    ("spec.steps[].insteadOf", MaxLength(LABEL)),
    ("spec.steps[].needs", MaxItems(32)),
    ("spec.steps[].needs[]", MaxLength(LABEL)),
    (
        "spec.steps[]",
        Holds(
            "has(self.uses) != has(self.manual)",
            "a step has either uses or manual",
        ),
    ),
    (
        "spec.steps[]",
        Holds(
            "!has(self.manual) || has(self.phase)",
            "a manual step must say its phase",
        ),
    ),
    (
        "spec.steps[]",
        Holds(
            "!has(self.needs) || !self.needs.exists(n, n == self.id)",
            "a step cannot need itself",
        ),
    ),
    (
        "spec.steps",
        Holds(
            "self.all(s, !has(s.needs) || s.needs.all(n, self.exists(t, t.id == n)))",
            "a step needs one that is not in this runbook",
        ),
    ),
];

/// Of a `BackupPolicy`.
pub const POLICY: Rules = &[
    NAME,
    ("spec.service", MinLength(1)),
    ("spec.sources", MinItems(1)),
    ("spec.sources", MaxItems(32)),
    ("spec.sources", KeyedBy("name")),
    ("spec.sources[].name", MaxLength(LABEL)),
];

/// Of a `ServiceGroup`.
pub const SERVICE_GROUP: Rules = &[
    NAME,
    ("spec.waves", MinItems(1)),
    ("spec.waves", MaxItems(16)),
    ("spec.waves[].services", MinItems(1)),
    ("spec.waves[].services", MaxItems(256)),
    ("spec.waves[].services[]", MaxLength(LABEL)),
    ("spec.announcements.channels", MaxItems(32)),
    ("spec.announcements.channels", KeyedBy("name")),
    ("spec.announcements.channels[].name", MaxLength(LABEL)),
    (
        "spec.announcements",
        Holds(
            "!has(self.symptom)",
            "a group names its services where others say what customers see: leave announcements.symptom out",
        ),
    ),
];

/// Of a `FailoverRun`.
pub const RUN: Rules = &[
    NAME,
    ("spec.service", MinLength(1)),
    ("spec.reason", MinLength(1)),
    ("spec.reason", MaxLength(500)),
    ("spec.requester", MinLength(1)),
    ("spec.plan", MinLength(8)),
    (
        "spec",
        Holds(
            "self == oldSelf",
            "a request is not changed once it was made: create another one",
        ),
    ),
    (
        "spec",
        Holds(
            "!has(self.drill) || self.kind == 'drill'",
            "spec.drill is only for kind drill",
        ),
    ),
    (
        "spec",
        Holds(
            "self.kind != 'drill' || (!has(self.to) && !has(self.plan))",
            "a drill has neither spec.to nor spec.plan",
        ),
    ),
];

/// Of an `Approval`.
pub const APPROVAL: Rules = &[
    NAME,
    ("spec.service", MinLength(1)),
    ("spec.ask", MinLength(1)),
    ("spec.approver", MinLength(1)),
    ("spec.reason", MinLength(1)),
    ("spec.reason", MaxLength(500)),
    (
        "spec",
        Holds(
            "self == oldSelf",
            "an answer is not changed once it was given",
        ),
    ),
];

/// Of a `JournalEntry`.
pub const ENTRY: Rules = &[
    (
        "spec",
        Holds("self == oldSelf", "what is in the journal is never changed"),
    ),
    (
        "spec",
        Holds(
            "self.last - self.first + 1 == self.lines.size()",
            "first, last and lines must agree",
        ),
    ),
    ("spec.lines", MinItems(1)),
    ("spec.lines", MaxItems(1024)),
];

/// Of a `LedgerChunk`.
pub const CHUNK: Rules = &[("spec.recipients", MaxItems(10_000))];

/// Of a `ServiceRevision`.
pub const REVISION: Rules = &[
    ("spec.documents", MinItems(1)),
    ("spec.documents", MaxItems(1024)),
];

/// Writes rules into a schema. A test sees to it that each of them finds its place.
pub fn apply(schema: &mut Value, rules: Rules) {
    for (at, check) in rules {
        if let Some(place) = find(schema, at) {
            write(place, *check);
        }
    }
}

/// A place in a schema.
pub fn find<'a>(schema: &'a mut Value, at: &str) -> Option<&'a mut Value> {
    let mut place = schema;
    for part in at.split('.').filter(|part| !part.is_empty()) {
        let field = part.trim_end_matches("[]");
        place = place.get_mut("properties")?.get_mut(field)?;
        if field.len() < part.len() {
            place = place.get_mut("items")?;
        }
    }
    Some(place)
}

fn write(place: &mut Value, check: Check) {
    match check {
        Holds(rule, message) => {
            let rule = json!({"rule": rule, "message": message});
            match place["x-kubernetes-validations"].as_array_mut() {
                Some(rules) => rules.push(rule),
                None => place["x-kubernetes-validations"] = json!([rule]),
            }
        }
        MaxItems(most) => place["maxItems"] = most.into(),
        MinItems(least) => place["minItems"] = least.into(),
        MaxLength(most) => place["maxLength"] = most.into(),
        MinLength(least) => place["minLength"] = least.into(),
        KeyedBy(field) => {
            place["x-kubernetes-list-type"] = "map".into();
            place["x-kubernetes-list-map-keys"] = json!([field]);
        }
    }
}
