//! What the documents of the demo have besides where no outage is shown: the drill, and the runbook of a switchover.

use std::io;

use super::{NAME, connection, quoted, secret};
use crate::{
    cli::{
        arguments::Scenario,
        demo::stage::{DRILL_ROLE, Stage},
    },
    decide::drill::PAPER,
};

/// The runbook of the switchover.
pub const RUNBOOK: &str = "shop-moves";
/// The drill of a copy of the standby.
const COPY: &str = "copy";

/// Which drill this stage can have: an isolated one of its database, or one on paper.
pub fn drill(stage: &Stage) -> &'static str {
    if stage.standby.is_some() { COPY } else { PAPER }
}

/// What a scenario adds to the end of the documents.
///
/// # Errors
/// Where this program's path cannot be told.
pub fn of(stage: &Stage, scenario: Scenario) -> io::Result<String> {
    match scenario {
        Scenario::Crash
        | Scenario::Freeze
        | Scenario::Partition
        | Scenario::Flapping
        | Scenario::Lagging => Ok(String::new()),
        Scenario::Drill => Ok(drills(stage)),
        Scenario::Switchover => switchover(stage),
    }
}

/// The drill that exercises the promotion on a copy of the standby; one on paper needs no line.
fn drills(stage: &Stage) -> String {
    if stage.standby.is_none() {
        return String::new();
    }
    let standby = connection(stage, super::STANDBY, DRILL_ROLE);
    format!(
        "  drills:
    - name: {COPY}
      depth: isolated
      runbook: postgres-drill
      steps:
        clone:
          with:
            connection: {standby}
            password: {password}
            folder: {folder}
            maxRate: 256
            keepFree: 128
            checkpoint: fast
          timeout: 2m
        promote:
          timeout: 1m
        query:
          with:
            queries:
              - {{name: orders, sql: select count(*) from orders, atLeast: 100}}
              - {{name: newest, sql: select max(taken) from orders, newest: true}}
          timeout: 20s
",
        password = secret(stage, "drill"),
        folder = quoted(stage.folder()),
    )
}

/// The rest of the steps' settings, and the runbook. Nothing here has a guard: writes are stopped in order by a command.
fn switchover(stage: &Stage) -> io::Result<String> {
    let program = quoted(&std::env::current_exe()?);
    let at = &stage.addresses;
    let (agent, standby) = (at.agent, at.standby_agent);
    let primary = at.standby_database;
    let verb = |part: &str, verb: &str, more: &str| {
        format!("{verb}: [{program}, part-of-demo, {part}, {verb}, --agent, \"{agent}\"{more}]")
    };
    let other = format!(", --standby, \"{standby}\"");
    let new = format!(", --primary, \"{primary}\"");
    let drain = ["perform", "observe", "undo"].map(|v| verb("drain", v, &other));
    let follow = ["perform", "observe"].map(|v| verb("follow", v, &new));
    let [perform, observe, undo] = drain;
    let [begin, look] = follow;
    let release = verb("fence", "undo", "");
    Ok(format!(
        "    drain:
      with:
        {perform}
        {observe}
        {undo}
      timeout: 20s
    follow:
      with:
        {begin}
        {look}
      timeout: 30s
---
# {NAME} moves while both sites work. With guards beside the databases: runbook postgres-guarded.
apiVersion: failover.rs/v1alpha1
kind: Runbook
metadata:
  name: {RUNBOOK}
spec:
  title: Move the shop to its standby site in order
  steps:
    - id: drain
      name: Stop the database in order, and wait until the standby has all of its log
      uses: command/drain
      runs: [switchover]
    - id: stop-primary
      name: Have the old primary's host start nothing any more
      uses: command/fence
      needs: [drain]
      runs: [failover, switchover]
      with: {{{release}}}
    - id: write-attempt
      name: Try to write at the old primary
      uses: postgres/write-attempt
      needs: [stop-primary]
      runs: [failover, switchover]
    - id: promote
      name: Promote the standby
      uses: postgres/promote
      runs: [failover, switchover]
    - id: repoint
      name: Repoint DNS to the standby
      uses: dns/repoint
    - id: cutover
      name: Wait until DNS answers with the standby
      uses: dns/cutover
      needs: [repoint]
    - id: verify
      name: See the service work at the standby
      uses: service/verify
    - id: follow
      name: Have the site that was left follow the new one
      uses: command/promote
      phase: protect
"
    ))
}
