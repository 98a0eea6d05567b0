//! `kubernetes/suspend`: `CronJobs` begin to run at the site that will serve, or no longer do at the one that is left.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    change::{Change, Target},
    field::Field,
};
use crate::{
    model::{
        check::CheckItem,
        secret::SecretRef,
        site::Site,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        kubernetes::{Cluster, name_problem},
    },
};

/// `kubernetes/suspend`.
pub const KIND: Kind = Kind::new::<SuspendWith>(
    "kubernetes/suspend",
    "suspends CronJobs, or has them run from now on (`suspend: false`)",
    "namespace: shop\ncronJobs: [shop-mail, shop-invoices]\nsuspend: false\n",
    Make::Action(make),
);

/// Settings of `kubernetes/suspend`. What was before is set again when the step is taken back.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuspendWith {
    /// A kubeconfig, whole. Default: the service account of the Pod that this runs in. The account needs get and patch
    /// on the `CronJobs`.
    #[serde(default)]
    pub kubeconfig: Option<SecretRef>,
    /// The `CronJobs`' namespace.
    pub namespace: String,
    /// Their names.
    pub cron_jobs: Vec<String>,
    /// True: none of them starts a Job any more; those that run go on. False: they do from now on.
    pub suspend: bool,
    /// Takes the field from another field manager, such as kubectl or Helm. Default: false; the step then fails.
    #[serde(default)]
    pub force: bool,
}

impl With for SuspendWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = name_problem("namespace", &self.namespace)
            .into_iter()
            .collect();
        if self.cron_jobs.is_empty() {
            problems.push(Problem::new("cronJobs", "expected at least one name"));
        }
        let jobs = self.cron_jobs.iter().enumerate();
        problems.extend(jobs.filter_map(|(n, job)| name_problem(&format!("cronJobs[{n}]"), job)));
        problems
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: SuspendWith = read(with)?;
    let cluster = Arc::new(Cluster::new(with.kubeconfig, wiring));
    let field = Field::new("/spec/suspend").map_err(MakeError)?;
    let changes = with.cron_jobs.into_iter().map(|name| Change {
        cluster: Arc::clone(&cluster),
        target: Target {
            api_version: "batch/v1".to_owned(),
            kind: "CronJob".to_owned(),
            namespace: Some(with.namespace.clone()),
            name,
        },
        field: field.clone(),
        value: json!(with.suspend),
        expected: None,
        until: None,
        force: with.force,
    });
    Ok(Arc::new(Suspension(changes.collect())))
}

struct Suspension(Vec<Change>);

#[async_trait]
impl Action for Suspension {
    async fn perform(&self, step: &StepContext) -> StepResult {
        together(join_all(self.0.iter().map(|change| change.perform(step))).await)
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let looks = self.0.iter().map(|change| change.observe(step));
        seen_together(join_all(looks).await)
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        Some(together(
            join_all(self.0.iter().map(|change| change.undo(step))).await,
        ))
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        join_all(self.0.iter().map(Change::check)).await.concat()
    }
}

/// Where this step has set one of them, the others' absence leaves something half-done.
fn seen_together(seen: Vec<Presence>) -> Presence {
    let (mut told, mut absent, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_begun = false;
    for presence in seen {
        match presence {
            Presence::InPlace(proof) => {
                is_begun |= proof.facts.contains_key("before");
                told.push(proof.summary);
            }
            Presence::Absent { reason } => absent.push(reason),
            Presence::Unknown { reason } => unknown.push(reason),
        }
    }
    if unknown.is_empty() && absent.is_empty() {
        return Presence::in_place(told.join("; "));
    }
    if unknown.is_empty() && !is_begun {
        return Presence::absent(absent.join("; "));
    }
    Presence::unknown([absent, unknown, told].concat().join("; "))
}

/// Where one of them is done, the others' failure leaves something half-done.
fn together(results: Vec<StepResult>) -> StepResult {
    let (mut done, mut failed, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
    for result in results {
        match result {
            StepResult::Done(proof) => done.push(proof.summary),
            StepResult::Failed { reason } => failed.push(reason),
            StepResult::Indeterminate { reason } => unclear.push(reason),
        }
    }
    if failed.is_empty() && unclear.is_empty() {
        return StepResult::Done(Proof::new(done.join("; ")));
    }
    if done.is_empty() && unclear.is_empty() {
        return StepResult::failed(failed.join("; "));
    }
    StepResult::indeterminate([failed, unclear, done].concat().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_in_part_is_neither_there_nor_absent() {
        let set = || Presence::InPlace(Proof::new("a").with("before", "true"));
        let was = || Presence::in_place("a");
        let absent = || Presence::absent("b");
        let unknown = || Presence::unknown("c");
        assert_eq!(
            seen_together(vec![set(), was()]),
            Presence::in_place("a; a")
        );
        assert_eq!(seen_together(vec![was(), absent()]), absent());
        assert_eq!(
            seen_together(vec![set(), absent()]),
            Presence::unknown("b; a")
        );
        assert_eq!(
            seen_together(vec![absent(), unknown()]),
            Presence::unknown("b; c")
        );
    }

    #[test]
    fn a_failure_beside_something_done_is_no_failure() {
        let done = || StepResult::done("a");
        let failed = || StepResult::failed("b");
        let unclear = || StepResult::indeterminate("c");
        assert_eq!(together(vec![done(), done()]), StepResult::done("a; a"));
        assert_eq!(
            together(vec![failed(), failed()]),
            StepResult::failed("b; b")
        );
        assert_eq!(
            together(vec![done(), failed()]),
            StepResult::indeterminate("b; a")
        );
        assert_eq!(
            together(vec![done(), unclear()]),
            StepResult::indeterminate("c; a")
        );
    }
}
