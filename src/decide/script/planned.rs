//! Scripts of planned work: a shop whose steps lead either way.

use std::collections::BTreeMap;

use insta::assert_snapshot;

use super::{Stage, probe, shop, site, step};
use crate::model::{
    observation::Evidence,
    plan::{Action, OnFailure, RunKind, StepPhase, Uses},
    service::Service,
    site::SiteRole,
};

/// Its steps have their settings by site, and take part in planned work.
pub(super) fn either_way() -> Service {
    let mut service = shop();
    let steps = &mut service.runbook.steps;
    steps.insert(
        0,
        step(
            "return",
            StepPhase::Prepare,
            "guard/rejoin",
            &[],
            OnFailure::Ask,
        ),
    );
    steps.push(step(
        "follow",
        StepPhase::Protect,
        "guard/rejoin",
        &["promote"],
        OnFailure::Ask,
    ));
    for step in steps {
        let planned = [RunKind::Switchover, RunKind::Failback];
        step.on = match step.phase {
            StepPhase::Prepare => vec![RunKind::Failback],
            StepPhase::Protect => planned.to_vec(),
            StepPhase::Fence
            | StepPhase::Promote
            | StepPhase::Traffic
            | StepPhase::Verify
            | StepPhase::Tell => step.on.iter().copied().chain(planned).collect(),
        };
        if matches!(step.phase, StepPhase::Fence | StepPhase::Promote) {
            let own = |site: &str| (site.into(), serde_json::json!({"host": site}));
            step.sites = BTreeMap::from(["ams", "fra", "waw"].map(own));
        } else {
            step.both_ways = true;
        }
    }
    service
}

fn play(script: &str) -> String {
    Stage::new(either_way()).play(script)
}

#[test]
fn a_switchover_is_maintenance_and_asks_nobody_afterwards() {
    let mut stage = Stage::new(either_way());
    assert_snapshot!(stage.play(
        "well
        open anna switchover
        done fence
        done attempt
        done promote
        done repoint
        done verify
        done follow
        done fallback"
    ));
    let well = "up web-fra a b c
        up db-fra a b c
        wait 2s
        "
    .repeat(40);
    let said = stage.play(&well);
    let told: Vec<_> = said.lines().filter(|l| !l.starts_with('>')).collect();
    assert_snapshot!(told.join("\n"));
}

#[test]
fn nothing_is_switched_over_while_something_is_down() {
    assert_snapshot!(play(
        "well
        down web a b c
        open anna switchover"
    ));
}

#[test]
fn what_was_left_behind_is_measured_and_settled_before_the_site_comes_back() {
    assert_snapshot!(play(
        "well
        check green
        down db a b c
        done fence
        done attempt
        done promote
        done repoint
        done verify
        done fallback
        ack anna
        up web-fra a b c
        up db-fra a b c
        up db-ams a b c
        open anna failback
        approve anna
        kept return
        wait 1s
        approve anna
        approve anna entered again by hand"
    ));
}

#[test]
fn an_outage_that_overtakes_planned_work_is_failed_over_from() {
    assert_snapshot!(play(
        "well
        check green
        open anna switchover
        abort anna
        done fence
        stays fence
        wait 2s
        down db a b c
        wait 60s
        done fence"
    ));
}

#[test]
fn the_primary_of_the_documents_is_not_brought_back_to_itself() {
    assert_snapshot!(play(
        "well
        open anna failback"
    ));
}

#[test]
fn of_several_standbys_the_newest_takes_over() {
    let mut service = either_way();
    service.sites.push(site("waw", SiteRole::Standby));
    for component in &mut service.components {
        if component.name.as_str() == "db" {
            component
                .probes
                .push(probe("db-waw", "waw", Evidence::Database));
        }
    }
    let script = "lag 500
        well
        check green
        up db-waw a b c
        down db a b c";
    assert_snapshot!(Stage::new(service.clone()).play(script));
    // Steps that lead to one of them only lead there.
    for step in &mut service.runbook.steps {
        if let Action::Adapter(Uses { .. }) = step.action {
            step.sites.clear();
        }
    }
    assert_snapshot!(Stage::new(service).play(script));
}

#[test]
fn a_planned_fence_that_fails_gives_the_site_back_and_asks_nobody_to_attest() {
    assert_snapshot!(play(
        "well
        open anna switchover
        failed fence
        wait 2s
        failed fence
        wait 2s"
    ));
}
