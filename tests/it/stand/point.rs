//! Where a controller can be killed: before and after each record, named so that the same point is found again in
//! another run, whatever stands around it.

use std::collections::BTreeMap;

use failover::model::record::RecordBody;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A moment in the life of a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The record, as [`Names`] calls it.
    pub record: String,
    /// On which side of it.
    pub side: Side,
}

/// Which side of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The journal does not have it.
    Before,
    /// It is durable, but whoever appended it was never told.
    After,
}

/// Gives each record a name that says what it is about, and counts those that would have the same.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<String, u32>);

impl Names {
    /// The next record's name.
    pub fn of(&mut self, body: &RecordBody) -> String {
        let value = serde_json::to_value(body).unwrap();
        let fields = ["component", "from", "to", "step", "attempt", "phase"].map(|f| &value[f]);
        let topic = &value["page"]["topic"];
        let topic = topic
            .as_object()
            .and_then(|with_more| with_more.keys().next().cloned())
            .or_else(|| topic.as_str().map(str::to_owned));
        let mut name = body.kind().to_owned();
        for field in fields {
            match field {
                Value::String(text) => name.extend([" ", text]),
                Value::Number(number) => name.extend([" ", &number.to_string()]),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
            }
        }
        name.extend(topic.iter().flat_map(|topic| [" ", topic]));
        let count = self.0.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            name.extend([" #", &count.to_string()]);
        }
        name
    }
}
