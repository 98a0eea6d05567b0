//! Answers that people give by kubectl become commands, and what came of them is written back.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{Leader, Shown, before};
use crate::{
    model::{
        id::{Seq, ServiceName},
        record::Record,
    },
    operator::{
        approval::{ApprovalStatus, Reception},
        cluster::{Watched, Written},
        standing::{self, Claim},
    },
    port::{cause, journal::Journal as _},
};

/// What an approval gets where the operator does not take any.
const OFF: &str = "approvals by kubectl are off: without the chart's admission policy anybody could sign for anybody \
                   (failover operator --approvals)";

/// Chains that were read, or could not be.
type Chains = BTreeMap<ServiceName, Option<Vec<Record>>>;

impl Leader {
    /// Gives answers that people have given, and writes what became of them. Whether all could be written.
    pub(super) async fn write_approvals(&mut self) -> bool {
        let open = self.approvals.iter().filter(|(_, a)| !a.is_over());
        let open: Vec<String> = open.map(|(name, _)| name.clone()).collect();
        let mut works = true;
        let mut chains = Chains::new();
        for name in open {
            let Some(status) = self.answer(&name, &mut chains).await else {
                works = false;
                continue;
            };
            works &= self.write_approval(&name, status).await;
        }
        works
    }

    /// What became of an answer; none where that cannot be told now.
    async fn answer(&mut self, name: &str, chains: &mut Chains) -> Option<ApprovalStatus> {
        let answered = self.approvals.get(name)?;
        let at = |(reception, message): (Reception, String)| ApprovalStatus {
            reception,
            message,
            ..ApprovalStatus::default()
        };
        let refused = |why: String| Some(at((Reception::Refused, why)));
        let spec = match answered.spec() {
            Ok(spec) => spec,
            Err(error) => return refused(error),
        };
        if !self.means.approvals {
            return refused(OFF.to_owned());
        }
        let service = ServiceName::from(spec.service.as_str());
        let core = match self.show(&service).await {
            Shown::Core(core) => core,
            Shown::Absent => {
                let message = format!("no service {service} is protected here");
                return Some(at((Reception::Waiting, message)));
            }
            Shown::Busy => return None,
        };
        let person = match spec.person(core.service()) {
            Ok(person) => person,
            Err(why) => return refused(why),
        };
        let outcome = self.approvals.get(name)?.outcome.clone();
        if let Some((reception, message)) = outcome {
            // Whoever was told that nothing is asked may have answered it under the leader before.
            let is_known = reception == Reception::Refused && {
                let records = self.chain(&service, chains).await?;
                spec.is_in(records, &person)
            };
            let outcome = if is_known {
                (Reception::Taken, "it stands in the journal".to_owned())
            } else {
                (reception, message)
            };
            return Some(ApprovalStatus {
                person: Some(person.to_string()),
                ..at(outcome)
            });
        }
        let answered = self.approvals.get_mut(name)?;
        if !answered.is_given {
            answered.is_given = true;
            let uid = answered.object.uid();
            let command = spec.command(person);
            self.command(Watched::Approval, name, uid, service, command);
        }
        Some(at((Reception::Waiting, "not taken yet".to_owned())))
    }

    /// A whole chain, read once while answers are settled; none where it cannot be read now.
    async fn chain<'a>(
        &self,
        service: &ServiceName,
        chains: &'a mut Chains,
    ) -> Option<&'a [Record]> {
        if !chains.contains_key(service) {
            let records = match self.means.journal.read(service, Seq(1)).await {
                Ok(records) => Some(records),
                Err(error) => {
                    tracing::warn!(%service, error = %cause::in_full(&error), "the journal cannot be read; trying again");
                    None
                }
            };
            chains.insert(service.clone(), records);
        }
        chains.get(service)?.as_deref()
    }

    async fn write_approval(&mut self, name: &str, mut status: ApprovalStatus) -> bool {
        let now = self.means.runtime.now();
        let Some(answered) = self.approvals.get_mut(name) else {
            return true;
        };
        let object = &answered.object;
        let generation = object.metadata.generation.unwrap_or_default();
        status.observed_generation = generation;
        let earlier = before(object.data.get("status").unwrap_or(&Value::Null));
        status.conditions = standing::conditions(claims(&status), &earlier, generation, now);
        let cluster = &self.means.cluster;
        let status = json!(status);
        match cluster
            .write_status(Watched::Approval, object, &status)
            .await
        {
            Written::Done(object) => answered.see(*object),
            Written::Same | Written::Overtaken => {}
            Written::Later => return false,
        }
        true
    }
}

fn claims(status: &ApprovalStatus) -> Vec<Claim> {
    let (reason, is_taken) = match status.reception {
        Reception::Waiting => ("Waiting", None),
        Reception::Taken => ("Taken", Some(true)),
        Reception::Refused => ("Refused", Some(false)),
    };
    let complete = Claim::new("Complete", is_taken.is_some(), reason, &status.message);
    let succeeded = is_taken.map(|taken| Claim::new("Succeeded", taken, reason, &status.message));
    [complete].into_iter().chain(succeeded).collect()
}
