//! What becomes of an `Approval`: a person's answer to a question, given by kubectl.

use kube::{ResourceExt as _, api::DynamicObject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::Condition;
use crate::{
    decide::event::Command,
    model::{
        id::{AskId, PersonName},
        record::{AskOutcome, Record, RecordBody},
        service::Service,
    },
};

/// A person's answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalSpec {
    /// The service that asks.
    pub service: String,
    /// The question, as the service's `status.asks` has it.
    pub ask: String,
    /// What is answered.
    pub answer: Answer,
    /// Why; compulsory for a yes that attests to something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who answers: the user of the API server.
    pub approver: String,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Reception {
    /// Nobody has taken it yet.
    #[default]
    Waiting,
    /// It counts, and stands in the journal.
    Taken,
    /// It does not count.
    Refused,
}

/// What became of an `Approval`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ApprovalStatus {
    /// The generation that this is about.
    pub observed_generation: i64,
    /// What became of it.
    pub reception: Reception,
    /// In one sentence.
    pub message: String,
    /// The person of the documents that it counts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// `Complete`, `Succeeded`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An `Approval` as it was last seen.
pub struct Answered {
    /// The resource.
    pub object: DynamicObject,
    /// Whether the command was given and its reply is awaited.
    pub is_given: bool,
    /// What came of it, before it is written.
    pub outcome: Option<(Reception, String)>,
}

impl Answered {
    /// One that was just seen.
    #[must_use]
    pub const fn new(object: DynamicObject) -> Self {
        Self {
            object,
            is_given: false,
            outcome: None,
        }
    }

    /// Takes in the resource as it is now; one of the same name that was made anew is another one.
    pub fn see(&mut self, object: DynamicObject) {
        if self.object.uid() == object.uid() {
            self.object = object;
        } else {
            *self = Self::new(object);
        }
    }

    /// What is answered.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn spec(&self) -> Result<ApprovalSpec, String> {
        let spec = self.object.data.get("spec").cloned().unwrap_or_default();
        serde_json::from_value(spec).map_err(|e| e.to_string())
    }

    /// Whether nothing more will come of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let status = self.object.data.get("status").cloned().unwrap_or_default();
        let status = serde_json::from_value::<ApprovalStatus>(status).unwrap_or_default();
        status.reception != Reception::Waiting
    }
}

impl ApprovalSpec {
    /// The person of the documents who answers.
    ///
    /// # Errors
    /// Where nobody is known to the API server by that name.
    pub fn person(&self, service: &Service) -> Result<PersonName, String> {
        let people = &service.team.people;
        let known = people
            .iter()
            .find(|p| p.kubernetes.as_ref() == Some(&self.approver));
        known.map(|person| person.name.clone()).ok_or_else(|| {
            format!(
                "nobody in spec.team.people of {} has kubernetes: {}; add it there, or approve by token",
                service.name, self.approver
            )
        })
    }

    /// The command that it is.
    #[must_use]
    pub fn command(&self, by: PersonName) -> Command {
        let ask = Some(AskId::from(self.ask.as_str()));
        let reason = self.reason.clone();
        match self.answer {
            Answer::Approve => Command::Approve {
                ask,
                by,
                reason,
                break_glass: false,
            },
            Answer::Deny => Command::Deny { ask, by, reason },
        }
    }

    /// Whether the journal has this very answer: a leader before may have taken it.
    #[must_use]
    pub fn is_in(&self, records: &[Record], who: &PersonName) -> bool {
        let asked = AskId::from(self.ask.as_str());
        records.iter().any(|record| match self.answer {
            Answer::Approve => {
                matches!(&record.body, RecordBody::Approved { ask, by, .. } if *ask == asked && by == who)
            }
            Answer::Deny => {
                matches!(&record.body, RecordBody::AskClosed { ask, outcome: AskOutcome::Denied { by, .. } } if *ask == asked && by == who)
            }
        })
    }
}
