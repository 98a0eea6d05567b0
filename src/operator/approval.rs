//! What becomes of an `Approval`: a person's answer to a question, given by kubectl.

use kube::{ResourceExt as _, api::DynamicObject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resource::Condition;
use crate::{
    decide::event::{Command, Reply},
    model::{
        id::{AskId, PersonName, UserName},
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

    /// The reply to the command of the object with this UID: what was said to another one that had the name is not said to
    /// this one.
    pub fn take(&mut self, name: &str, uid: Option<&str>, answer: Result<Reply, String>) {
        if self.object.uid().as_deref() != uid {
            return;
        }
        match answer {
            Ok(Reply::Ok(said)) => self.outcome = Some((Reception::Taken, said)),
            Ok(Reply::Refused(refusal)) => {
                self.outcome = Some((Reception::Refused, refusal.to_string()));
            }
            // Nothing was recorded: it is tried again.
            Err(error) => {
                tracing::warn!(approval = name, error, "the command could not be given");
                self.is_given = false;
            }
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
        let known = service.team.known_as(&self.approver.as_str().into());
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
                user: Some(self.approver.as_str().into()),
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
        let signed = UserName::from(self.approver.as_str());
        records.iter().any(|record| match self.answer {
            Answer::Approve => {
                matches!(&record.body, RecordBody::Approved { ask, by, user, .. }
                    if *ask == asked && (by == who || user.as_ref() == Some(&signed)))
            }
            Answer::Deny => {
                matches!(&record.body, RecordBody::AskClosed { ask, outcome: AskOutcome::Denied { by, .. } } if *ask == asked && by == who)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use kube::{api::ApiResource, core::GroupVersionKind};

    use super::*;

    fn object(uid: &str) -> DynamicObject {
        let gvk = GroupVersionKind::gvk("failover.rs", "v1alpha1", "Approval");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "approvals");
        let mut object = DynamicObject::new("mine", &resource);
        object.metadata.uid = Some(uid.to_owned());
        object
    }

    #[test]
    fn a_reply_to_one_that_was_made_anew_since_is_none_of_its_own() {
        let mut answered = Answered::new(object("yes"));
        answered.is_given = true;
        answered.see(object("no"));
        answered.take("mine", Some("yes"), Ok(Reply::Ok("noted".to_owned())));
        assert_eq!(answered.outcome, None);
        assert!(!answered.is_given);
        answered.take("mine", Some("no"), Ok(Reply::Ok("denied".to_owned())));
        assert_eq!(
            answered.outcome,
            Some((Reception::Taken, "denied".to_owned()))
        );
    }
}
