//! What a server says of itself, as far as a promotion needs it.

use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

use crate::{
    model::{observation::Lsn, step::Proof},
    port::postgres::{PostgresError, Session},
};

/// One look at a server.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a column of its own, and any may be combined"
)]
pub(super) struct State {
    pub(super) recovery: bool,
    pub(super) paused: bool,
    pub(super) delayed: bool,
    pub(super) read_only: bool,
    pub(super) received: Option<Lsn>,
    pub(super) replayed: Option<Lsn>,
    pub(super) retry_interval: Duration,
    timeline: Option<u32>,
    system: Option<String>,
    checksums: bool,
    waits_for: String,
}

const LOOK: &str = "
SELECT r AS recovery,
       CASE WHEN r THEN pg_is_wal_replay_paused() END AS paused,
       CASE WHEN NOT r THEN pg_walfile_name(pg_current_wal_lsn()) END AS walfile,
       pg_last_wal_receive_lsn() AS received,
       pg_last_wal_replay_lsn() AS replayed,
       current_setting('transaction_read_only') AS read_only,
       current_setting('recovery_min_apply_delay') AS delay,
       (SELECT setting FROM pg_settings WHERE name = 'wal_retrieve_retry_interval') AS retry_ms,
       current_setting('synchronous_standby_names') AS waits_for,
       current_setting('data_checksums') AS checksums,
       (SELECT system_identifier FROM pg_control_system()) AS system
FROM (SELECT pg_is_in_recovery() AS r) AS server";

impl State {
    pub(super) async fn of(session: &Session) -> Result<Self, PostgresError> {
        let row = session.row(LOOK).await?;
        let lsn = |column| row.get(column).and_then(Lsn::parse);
        Ok(Self {
            recovery: is(&row, "recovery"),
            paused: is(&row, "paused"),
            delayed: row.get("delay").is_some_and(|d| d != "0"),
            read_only: row.get("read_only") == Some("on"),
            received: lsn("received"),
            replayed: lsn("replayed"),
            retry_interval: row
                .get("retry_ms")
                .and_then(|ms| ms.parse().ok())
                .map_or(Duration::MAX, Duration::from_millis),
            timeline: row.get("walfile").and_then(timeline),
            system: row.get("system").map(str::to_owned),
            checksums: row.get("checksums") == Some("on"),
            waits_for: row.get("waits_for").unwrap_or_default().to_owned(),
        })
    }

    /// What the rejoin of the old primary needs: `pg_rewind` or a fresh copy must end on `timeline`, and what the
    /// old primary wrote beyond `lsn` is on it alone.
    pub(super) fn proof(&self, summary: String) -> Proof {
        let mut proof =
            Proof::new(summary).with("dataChecksums", if self.checksums { "on" } else { "off" });
        if let Some(timeline) = self.timeline {
            proof = proof.with("timeline", timeline.to_string());
        }
        // Where replay ended is where the new timeline begins; a restart of the server forgets it.
        if let Some(lsn) = self.replayed {
            proof = proof.with("lsn", lsn.to_string());
        }
        if let Some(system) = &self.system {
            proof = proof.with("systemIdentifier", system.clone());
        }
        proof
    }

    /// A warning where each commit waits for standbys that may not be there.
    pub(super) fn waits_for_standbys(&self) -> Option<String> {
        (!self.waits_for.is_empty()).then(|| {
            format!(
                "commits there wait for a standby ({}): without one, run ALTER SYSTEM RESET synchronous_standby_names; \
                 SELECT pg_reload_conf()",
                self.waits_for
            )
        })
    }
}

fn is(row: &SimpleQueryRow, column: &str) -> bool {
    row.get(column) == Some("t")
}

/// The first eight digits of a log file's name.
fn timeline(walfile: &str) -> Option<u32> {
    u32::from_str_radix(walfile.get(..8)?, 16).ok()
}
