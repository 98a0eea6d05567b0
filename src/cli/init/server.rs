//! One look at a PostgreSQL server. Nothing is changed.

use std::{collections::BTreeMap, time::Duration};

use tokio_postgres::SimpleQueryRow;

use crate::port::postgres::{Answer, Login, PostgresError, Session, Whose};

/// How long a server may take to answer everything.
const LIMIT: Duration = Duration::from_secs(10);

/// The oldest version that is supported, as `server_version_num` counts.
const OLDEST: u32 = 130_000;

const SETTINGS: &str = "
SELECT name, setting FROM pg_settings WHERE name IN (
  'data_checksums', 'max_connections', 'max_locks_per_transaction', 'max_prepared_transactions', 'max_wal_senders',
  'max_worker_processes', 'recovery_min_apply_delay', 'synchronous_standby_names', 'wal_log_hints')";

const SENDERS: &str = "
SELECT application_name AS name, client_addr, state, sync_state,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS behind,
       round(extract(epoch FROM replay_lag)::numeric, 1) AS lag
FROM pg_stat_replication ORDER BY application_name, client_addr";

const SLOTS: &str = "
SELECT slot_name AS name, slot_type, active, wal_status FROM pg_replication_slots ORDER BY slot_name";

const RECEIVER: &str = "
SELECT status, sender_host, sender_port, slot_name,
       pg_wal_lsn_diff(latest_end_lsn, pg_last_wal_replay_lsn())::bigint AS behind
FROM pg_stat_wal_receiver";

/// What a server says of itself.
#[derive(Clone, Debug)]
pub struct Server {
    /// `host:port`.
    pub place: String,
    /// Whether it is in recovery.
    pub standby: bool,
    /// `15.18`.
    pub version: String,
    /// 15.
    pub major: u32,
    /// What a pair has in common.
    pub system: String,
    /// The database that was logged in to.
    pub database: String,
    /// Whether positions and senders may be seen.
    pub privileged: bool,
    /// Whether the login is a superuser's.
    pub superuser: bool,
    /// Where the server sees us, as `pg_hba.conf` has it; none over a Unix socket.
    pub from: Option<String>,
    /// What a line of `pg_hba.conf` begins with that lets us in: `hostssl` where it takes encrypted connections.
    pub access: &'static str,
    /// Settings by name.
    pub settings: BTreeMap<String, String>,
    /// Standbys that stream from it.
    pub senders: Vec<Sender>,
    /// Its replication slots.
    pub slots: Vec<Slot>,
    /// What it streams from.
    pub receiver: Option<Receiver>,
}

/// A standby that streams, as the primary sees it.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Its `application_name`.
    pub name: String,
    /// `streaming`; none where it may not be seen.
    pub state: Option<String>,
    /// `async`, `sync`, `quorum` or `potential`.
    pub sync: Option<String>,
    /// Bytes not replayed yet.
    pub behind: Option<u64>,
    /// Seconds that replay is behind; none while nothing is written.
    pub lag: Option<String>,
}

/// A replication slot.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether somebody streams through it.
    pub active: bool,
    /// `physical` or `logical`.
    pub kind: String,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal: Option<String>,
}

/// What a standby streams from.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// `streaming`; none where it may not be seen.
    pub status: Option<String>,
    /// The primary's host as the standby's settings name it.
    pub host: Option<String>,
    /// The slot that it uses.
    pub slot: Option<String>,
    /// Bytes not replayed yet.
    pub behind: Option<u64>,
}

/// Why a server was not seen.
#[derive(Debug)]
pub enum Unseen {
    /// It does not answer now: it may be there all the same.
    Away(String),
    /// Something is wrong with the way it was named, or with what answers there.
    Wrong(String),
}

impl Server {
    /// Logs in and looks.
    ///
    /// # Errors
    /// Where it does not answer, or not as it should.
    pub async fn look(login: &Login) -> Result<Self, Unseen> {
        let session = login.open(LIMIT).await.map_err(|e| unseen(&e))?;
        let server = Self::ask(&session, login).await.map_err(|e| unseen(&e))?;
        if server.major < OLDEST / 10_000 {
            return Err(Unseen::Wrong(format!(
                "{} is PostgreSQL {}: 13 or newer is needed",
                server.place, server.version
            )));
        }
        Ok(server)
    }

    async fn ask(session: &Session, login: &Login) -> Result<Self, PostgresError> {
        let row = session
            .row(
                "SELECT pg_is_in_recovery() AS recovery, current_setting('server_version') AS version,
                        current_setting('server_version_num') AS number,
                        (SELECT system_identifier FROM pg_control_system()) AS system,
                        current_database() AS database, current_setting('is_superuser') = 'on' AS superuser,
                        pg_has_role('pg_read_all_stats', 'USAGE') AS privileged,
                        text(inet_client_addr()) AS client, current_setting('ssl') = 'on' AS tls",
            )
            .await?;
        let text = |column| row.get(column).unwrap_or_default().to_owned();
        let number: u32 = row.get("number").and_then(|n| n.parse().ok()).unwrap_or(0);
        let standby = row.get("recovery") == Some("t");
        let mut server = Self {
            place: login.conninfo.server(),
            standby,
            // A distribution's name may follow the number.
            version: text("version")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            major: number / 10_000,
            system: text("system"),
            database: text("database"),
            privileged: row.get("privileged") == Some("t"),
            superuser: row.get("superuser") == Some("t"),
            from: row.get("client").map(ToOwned::to_owned),
            access: match row.get("tls") {
                Some("t") => "hostssl",
                Some(_) | None => "host",
            },
            settings: BTreeMap::new(),
            senders: Vec::new(),
            slots: Vec::new(),
            receiver: None,
        };
        if number < OLDEST {
            return Ok(server);
        }
        let pair = |r: &SimpleQueryRow| Some((r.get("name")?.into(), r.get("setting")?.into()));
        server.settings = session
            .rows(SETTINGS)
            .await?
            .iter()
            .filter_map(pair)
            .collect();
        server.slots = session.rows(SLOTS).await?.iter().map(slot).collect();
        if standby {
            server.receiver = session.rows(RECEIVER).await?.first().map(receiver);
        } else {
            server.senders = session.rows(SENDERS).await?.iter().map(sender).collect();
        }
        Ok(server)
    }

    /// A setting's number; none where it may not be seen.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.settings.get(name)?.parse().ok()
    }

    /// Whether a setting is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.settings.get(name).is_some_and(|s| s == "on")
    }
}

fn owned(row: &SimpleQueryRow, column: &str) -> Option<String> {
    row.get(column)
        .filter(|t| !t.is_empty())
        .map(ToOwned::to_owned)
}

/// A distance; one that is negative, because replay went on in between, is none.
fn bytes(row: &SimpleQueryRow) -> Option<u64> {
    let behind: i64 = row.get("behind")?.parse().ok()?;
    Some(u64::try_from(behind).unwrap_or(0))
}

fn sender(row: &SimpleQueryRow) -> Sender {
    Sender {
        name: owned(row, "name")
            .or_else(|| owned(row, "client_addr"))
            .unwrap_or_else(|| "a standby".to_owned()),
        state: owned(row, "state"),
        sync: owned(row, "sync_state"),
        behind: bytes(row),
        lag: owned(row, "lag"),
    }
}

fn slot(row: &SimpleQueryRow) -> Slot {
    Slot {
        name: owned(row, "name").unwrap_or_default(),
        active: row.get("active") == Some("t"),
        kind: owned(row, "slot_type").unwrap_or_default(),
        wal: owned(row, "wal_status"),
    }
}

fn receiver(row: &SimpleQueryRow) -> Receiver {
    Receiver {
        status: owned(row, "status"),
        host: owned(row, "sender_host"),
        slot: owned(row, "slot_name"),
        behind: bytes(row),
    }
}

fn unseen(error: &PostgresError) -> Unseen {
    let told = error.told();
    let away = match error {
        PostgresError::NoWay { .. } => true,
        PostgresError::Protocol { .. } => false,
        PostgresError::Password { .. }
        | PostgresError::Certificates { .. }
        | PostgresError::Resolve { .. }
        | PostgresError::Refused { .. }
        | PostgresError::Unreachable { .. }
        | PostgresError::Timeout { .. }
        | PostgresError::Closed { .. }
        | PostgresError::Tls { .. }
        | PostgresError::Login { .. }
        | PostgresError::Answer { .. } => error.whose() != Whose::Ours,
    };
    if away {
        return Unseen::Away(told);
    }
    Unseen::Wrong(match error.answer() {
        Some(Answer::Denied) => {
            format!("{told}; check user, password, dbname and the server's pg_hba.conf")
        }
        Some(_) | None => told,
    })
}
