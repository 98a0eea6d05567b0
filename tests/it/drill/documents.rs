//! Documents of a real pair with an isolated drill of its standby.

use tempfile::TempDir;

use crate::stand::{controller::Stand, postgres::Pair};

/// The service with a real pair, and an isolated drill of its standby.
pub fn documents(stand: &Stand, pair: &Pair, folder: &TempDir) -> String {
    let (east, west) = (pair.primary.superuser(), pair.standby.superuser());
    let look = "every: 500ms, timeout: 450ms";
    let database = format!(
        "    - name: database\n      kind: database\n      probes:\n        \
         - {{id: db-east, uses: probe/postgres, site: east, {look}, with: {{connection: \"{east}\"}}}}\n        \
         - {{id: db-west, uses: probe/postgres, site: west, {look}, with: {{connection: \"{west}\"}}}}\n        \
         - {{id: stream, uses: probe/postgres-standby, site: west, {look}, with: {{connection: \"{west}\"}}}}\n  dns:\n"
    );
    let drill = format!(
        "  runbook: move\n  drills:\n    - name: monthly\n      depth: isolated\n      runbook: postgres-drill\n      \
         schedule: {{cron: \"0 3 1 * *\", timeZone: Africa/Johannesburg}}\n      jitter: 30m\n      steps:\n        \
         clone:\n          with: {{connection: \"{west}\", folder: \"{folder}\", maxRate: 1024, keepFree: 64, checkpoint: fast}}\n        \
         query:\n          with:\n            queries:\n              \
         - {{name: orders, sql: select count(*) from orders, atLeast: 1000}}\n              \
         - {{name: newest, sql: select max(at) from orders, newest: true}}\n",
        folder = folder.path().display(),
    );
    stand
        .document()
        .replace("  dns:\n", &database)
        .replace("rto: 5m, rpo: 0s", "rto: 15m, rpo: 5m")
        .replacen("  runbook: move\n", &drill, 1)
}
