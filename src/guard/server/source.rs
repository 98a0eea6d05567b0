//! The site that serves, as one that was left asks it: which history it has, and whether a log is part of its own.

use std::time::Duration;

use super::{ServerError, control::Control, fork, resync::ResyncError};
use crate::{
    guard::config,
    model::observation::Lsn,
    port::{
        cause,
        postgres::{Login, Session},
        secret::SharedSecrets,
    },
};

/// How long the session with the serving site may live.
const SESSION: Duration = Duration::from_mins(30);
/// Between two looks at the serving site's control file.
const AGAIN: Duration = Duration::from_millis(200);

/// The server that takes writes.
pub struct Source {
    session: Session,
    /// The timeline that it writes.
    pub timeline: u32,
    /// Where every timeline before was left; its own one has no end.
    pub history: String,
}

impl Source {
    /// Asks it.
    ///
    /// # Errors
    /// Where it does not answer, takes no writes, or is another cluster than this one.
    pub async fn open(
        resync: &config::Resync,
        secrets: &SharedSecrets,
        own: &Control,
    ) -> Result<Self, ServerError> {
        let login = Login {
            conninfo: resync.conninfo().map_err(ResyncError::from)?,
            password: resync.password.clone(),
            secrets: secrets.clone(),
        };
        let session = login.open(SESSION).await?;
        let row = session
            .row(
                "SELECT pg_is_in_recovery() AS standby, system_identifier AS system, \
                 CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END \
                 AS timeline FROM pg_control_system()",
            )
            .await?;
        if row.get("standby") != Some("f") {
            return Err(ResyncError::Standby.into());
        }
        let system = row.get("system").and_then(|s| s.parse().ok());
        let other: u64 = system.ok_or(ResyncError::Answer(
            "the system identifier of the serving site",
        ))?;
        if other != own.system {
            return Err(ResyncError::Stranger {
                own: own.system,
                other,
            }
            .into());
        }
        let name = row
            .get("timeline")
            .ok_or(ResyncError::Answer("the timeline of the serving site"))?;
        let timeline = u32::from_str_radix(name, 16)
            .map_err(|_| ResyncError::Answer("the timeline of the serving site"))?;
        let history = history(&session, name, timeline).await?;
        settled(&session, timeline).await?;
        Ok(Self {
            session,
            timeline,
            history,
        })
    }

    /// Where the timeline began that it writes; none for the first.
    #[must_use]
    pub fn began(&self) -> Option<Lsn> {
        fork::began(self.timeline, &self.history)
    }

    /// SHA-256 of the first bytes of a file of its log, in hexadecimal digits; none where it has that file no more.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn digest(&self, segment: &str, bytes: u64) -> Result<Option<String>, ServerError> {
        // Only hexadecimal digits are in the name of a segment.
        let sql = format!(
            "SELECT encode(sha256(pg_read_binary_file('pg_wal/{segment}', 0, {bytes}, true)), 'hex') AS digest"
        );
        let row = self.session.row(&sql).await?;
        Ok(row.get("digest").map(str::to_owned))
    }
}

/// Waits until the serving site's control file knows the timeline that it writes: `pg_rewind` goes by that file, and
/// after a promotion the first checkpoint brings it up to date.
async fn settled(session: &Session, number: u32) -> Result<(), ServerError> {
    // Whoever may not order one waits for the one that the promotion began.
    if let Err(error) = session.rows("CHECKPOINT").await {
        tracing::debug!(error = %cause::in_full(&error), "no checkpoint can be ordered");
    }
    loop {
        let row = session
            .row("SELECT timeline_id FROM pg_control_checkpoint()")
            .await?;
        if row.get("timeline_id").and_then(|t| t.parse().ok()) == Some(number) {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The lines of a timeline's history; the first timeline has none.
async fn history(session: &Session, timeline: &str, number: u32) -> Result<String, ServerError> {
    let own = format!("{number}\tFFFFFFFF/FFFFFFFF\n");
    if number <= 1 {
        return Ok(own);
    }
    // Only hexadecimal digits came from the server.
    let sql = format!("SELECT pg_read_file('pg_wal/{timeline}.history') AS history");
    let row = session.row(&sql).await?;
    let text = row.get("history").unwrap_or_default();
    Ok(format!("{text}\n{own}"))
}
