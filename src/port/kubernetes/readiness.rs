//! What a check says of a field that a step will set: whether the server would take it, and who would set it back.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Api, Client, api::ListParams};

use super::{ApiError, CHECK, Note, Owner, REPLICAS, Standing, Workload};
use crate::model::check::{CheckItem, CheckStatus};

/// The server would not take a change.
#[must_use]
pub fn refused(name: &str, field: &str, error: &ApiError) -> CheckItem {
    let rivals = error.rivals();
    if let Some(first) = rivals.first() {
        let owner = Owner::new(first, None);
        let told: Vec<String> = rivals.iter().map(|r| Owner::new(r, None).told()).collect();
        return CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!("{field} belongs to {}", told.join(" and ")),
            owner.fix(field),
        );
    }
    let (status, fix) = match (error, error.code()) {
        (ApiError::Secret(_) | ApiError::Settings(_), _) => (
            CheckStatus::Fail,
            "correct the step's `kubeconfig`, or leave it out where this runs in that cluster",
        ),
        (ApiError::NoKind(_), _) => (
            CheckStatus::Fail,
            "correct apiVersion and kind, or install the operator that brings them",
        ),
        (_, Some(401)) => (CheckStatus::Fail, "renew the credential of the kubeconfig"),
        (_, Some(403)) => (
            CheckStatus::Fail,
            "give the account these rights there; in this cluster the chart's `workloads` do",
        ),
        (_, Some(404)) => (
            CheckStatus::Fail,
            "correct namespace and name, or create it",
        ),
        (_, Some(_)) => (CheckStatus::Fail, "see what the API server says against it"),
        (_, None) => (
            CheckStatus::Unknown,
            "make the API server reachable from here",
        ),
    };
    CheckItem::bad(name, status, error.told(), fix)
}

/// Asks the server whether it would take so many replicas.
pub async fn scalable(
    name: &str,
    workload: &Workload,
    standing: &Standing,
    replicas: u32,
    force: bool,
) -> CheckItem {
    let note = Note {
        key: "check".into(),
        before: standing.wanted,
        ending: None,
    };
    let how = Workload::applying(force).dry_run();
    let asked = workload.scale(standing, replicas, Some(&note), how, CHECK);
    match asked.await {
        Ok(()) => {
            let number = match replicas {
                0 => "zero".to_owned(),
                more => more.to_string(),
            };
            CheckItem::ok(
                name,
                format!(
                    "{workload} has {}, and may be scaled to {number}",
                    standing.told()
                ),
            )
        }
        Err(e) => refused(name, REPLICAS, &e),
    }
}

/// An owner beside failover that sets the field back by itself, although the documents force it.
#[must_use]
pub fn rival(name: &str, field: &str, owners: &[Owner]) -> Option<CheckItem> {
    let owner = owners.iter().find(|owner| owner.insists())?;
    Some(CheckItem::bad(
        name,
        CheckStatus::Warn,
        format!(
            "{field} is taken from {} by force, which may set it back",
            owner.told()
        ),
        owner.fix(field),
    ))
}

/// Autoscalers that would set a workload's replicas back from this number.
pub async fn autoscalers(
    client: &Client,
    workload: &Workload,
    replicas: u32,
    within: Duration,
) -> Option<CheckItem> {
    let name = format!(
        "kubernetes/autoscaler/{}/{}",
        workload.namespace, workload.name
    );
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &workload.namespace);
    let all = match ApiError::within(within, api.list(&ListParams::default())).await {
        Ok(all) => all,
        Err(e) => {
            return Some(CheckItem::untold(
                name,
                format!(
                    "whether {workload} has an autoscaler cannot be told: {}",
                    e.told()
                ),
                "allow the account to list horizontalpodautoscalers of the group autoscaling there",
            ));
        }
    };
    let found = all.items.into_iter().find(|scaler| {
        let target = scaler.spec.as_ref().map(|spec| &spec.scale_target_ref);
        target.is_some_and(|t| t.kind == workload.kind.word() && t.name == workload.name)
    })?;
    let owners = found.metadata.owner_references.unwrap_or_default();
    let keda = owners.into_iter().find(|o| o.kind == "ScaledObject");
    let hpa = found.metadata.name.unwrap_or_default();
    match keda {
        Some(keda) => Some(CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!(
                "KEDA's ScaledObject {} scales {workload}, and sets replicas back",
                keda.name
            ),
            format!(
                "before this step set the ScaledObject's annotation autoscaling.keda.sh/paused-replicas to \
                 \"{replicas}\" with kubernetes/patch, or take the ScaledObject away"
            ),
        )),
        // At zero replicas it does nothing.
        None if replicas == 0 => None,
        None => Some(CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!("the HorizontalPodAutoscaler {hpa} scales {workload}, and sets replicas back"),
            format!(
                "set its /spec/minReplicas to {replicas} with kubernetes/patch instead, or take the \
                 HorizontalPodAutoscaler away"
            ),
        )),
    }
}
