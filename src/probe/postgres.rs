//! `probe/postgres`: speaks PostgreSQL's own protocol to a server.
//!
//! Each look is a session of its own: one that was kept would hide what a new client meets.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use tokio_postgres::SimpleQueryRow;

use super::{
    dial::{self, Endpoint, dial},
    fault::Fault,
    progress::Progress,
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        observation::{DatabaseFacts, DatabaseRole, Evidence, Look, Lsn, Sight},
        secret::SecretRef,
        service::Via,
        span::Span,
    },
    port::{
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        postgres::{Conninfo, Host, Login, PostgresError, Session, Whose},
        probe::{LookContext, Probe, SharedProbe},
    },
};

/// `probe/postgres`.
pub const KIND: Kind = Kind::new::<PostgresWith>(
    "probe/postgres",
    "logs in at a PostgreSQL server and asks for its role and positions",
    "connection: host=db-a.example.com user=failover sslmode=verify-full\n\
     password: {env: FAILOVER_DB_PASSWORD}\n\
     role: primary\n",
    Make::Probe(make),
)
.giving(Evidence::Database);

/// Settings of `probe/postgres`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresWith {
    /// How to connect to the server itself, never through a pooler or a name that moves. The role needs
    /// `pg_monitor`; `failover init` prints the SQL.
    pub connection: Conninfo,
    /// The role's password.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// What the server must be; another role is down.
    #[serde(default)]
    pub role: Role,
    /// A query that must succeed besides, in a read-only transaction; its rows do not matter.
    #[serde(default)]
    pub query: Option<String>,
}

/// What a server must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It takes writes.
    #[default]
    Primary,
    /// It replays another's log.
    Standby,
    /// Either.
    Any,
}

impl With for PostgresWith {
    fn problems(&self) -> Vec<Problem> {
        match &self.query {
            Some(query) if query.trim().is_empty() => {
                vec![Problem::new("query", "the query is empty")]
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn hosts(&self) -> Vec<String> {
        self.connection.hosts()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedProbe, MakeError> {
    let with: PostgresWith = read(with)?;
    Ok(Arc::new(PostgresProbe {
        login: Login {
            conninfo: with.connection,
            password: with.password,
            secrets: Arc::clone(&wiring.secrets),
        },
        role: with.role,
        query: with.query,
    }))
}

struct PostgresProbe {
    login: Login,
    role: Role,
    query: Option<String>,
}

/// Commits of a role or database that is set not to wait are not waited for, whatever this session would do; what a client
/// sets for itself nobody else can see. Roles of replicas show only to those who may read all statistics: their state is null for others. Where commits wait
/// for a standby that is not there just now they wait for it to come back, and nothing is told that was not so before;
/// where one of several is away, commits may not have waited for that one.
const LOOK: &str = "
SELECT r AS recovery,
       CASE WHEN NOT r THEN pg_current_wal_lsn() END AS current,
       CASE WHEN NOT r THEN pg_walfile_name(pg_current_wal_lsn()) END AS walfile,
       CASE WHEN r THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
         (SELECT greatest(a.min_recovery_end_timeline, c.timeline_id)
          FROM pg_control_recovery() AS a, pg_control_checkpoint() AS c)) END AS timeline,
       pg_last_wal_receive_lsn() AS received,
       pg_last_wal_replay_lsn() AS replayed,
       CASE WHEN r THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END AS replay_age,
       (SELECT CASE
                 WHEN current_setting('synchronous_standby_names') = '' THEN false
                 WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN false
                 WHEN EXISTS (SELECT FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c
                              WHERE c ~* '^synchronous_commit=(off|local|false|no|0)$') THEN false
                 WHEN count(*) = 0 THEN NULL
                 WHEN count(*) < cardinality(string_to_array(current_setting('synchronous_standby_names'), ','))
                   THEN false
                 ELSE bool_and(sync_state = 'sync') OR count(*) = 1 AND bool_and(sync_state = 'quorum')
               END
        FROM pg_stat_replication WHERE state = 'streaming') AS synchronous,
       current_setting('transaction_read_only') AS read_only
FROM (SELECT pg_is_in_recovery() AS r) AS server";

#[async_trait]
impl Probe for PostgresProbe {
    async fn look(&self, context: &LookContext) -> Look {
        let started = Instant::now();
        let mut look = match self.ask(context).await {
            Ok(look) => look,
            Err(e) => Look::new(e.sight(), e.told()),
        };
        look.latency = Some(Span::from(started.elapsed()));
        look
    }

    async fn check(&self, context: &LookContext) -> Vec<CheckItem> {
        let name = format!("probe/postgres {}", self.login.conninfo.server());
        vec![match self.ask(context).await {
            Ok(look) if look.sight == Sight::Up => CheckItem::ok(name, look.detail),
            // Before a failover the server that shall take over is a standby: it can be asked, that is what counts.
            Ok(look) if self.role == Role::Primary && look.facts.database.is_some() => {
                CheckItem::ok(name, look.detail)
            }
            Ok(look) => CheckItem::bad(
                name,
                CheckStatus::Fail,
                look.detail,
                "let connection name the right server, or set role",
            ),
            Err(e) => e.into_item(name),
        }]
    }
}

impl PostgresProbe {
    async fn ask(&self, context: &LookContext) -> Result<Look, NoAnswer> {
        fairly(&self.login, context, self.ask_at_once(context)).await
    }

    async fn ask_at_once(&self, context: &LookContext) -> Result<Look, NoAnswer> {
        let session = enter(&self.login, context).await?;
        let row = session.row(LOOK).await?;
        if let Some(query) = &self.query {
            let sql = format!("BEGIN READ ONLY; {query}\n; ROLLBACK");
            session.rows(&sql).await?;
        }
        let database = facts(&row);
        let mut look = self.judge(&row, database.role);
        look.facts.database = Some(database);
        Ok(look)
    }

    fn judge(&self, row: &SimpleQueryRow, role: DatabaseRole) -> Look {
        match (self.role, role) {
            (Role::Primary, DatabaseRole::Standby) => Look::new(
                Sight::Down,
                "it answers, but as a standby that takes no writes",
            ),
            (Role::Standby, DatabaseRole::Primary) => Look::new(
                Sight::Down,
                "it answers, but as a primary that takes writes",
            ),
            // A person may have chosen that, for the server or for this role only: no reason to promote another.
            (Role::Primary | Role::Any, DatabaseRole::Primary)
                if row.get("read_only") == Some("on") =>
            {
                Look::new(Sight::Up, "answers as primary, read-only by default")
            }
            (Role::Primary | Role::Any, DatabaseRole::Primary) => {
                Look::new(Sight::Up, "answers as primary")
            }
            (Role::Standby | Role::Any, DatabaseRole::Standby) => {
                Look::new(Sight::Up, "answers as standby")
            }
        }
    }
}

fn facts(row: &SimpleQueryRow) -> DatabaseFacts {
    let lsn = |column| row.get(column).and_then(Lsn::parse);
    let standby = row.get("recovery") == Some("t");
    let writes = row.get("walfile").and_then(|f| f.get(..8));
    let writes = writes.and_then(|t| u32::from_str_radix(t, 16).ok());
    let follows = row.get("timeline").and_then(|t| t.parse().ok());
    DatabaseFacts {
        role: if standby {
            DatabaseRole::Standby
        } else {
            DatabaseRole::Primary
        },
        timeline: writes.or(follows),
        current: lsn("current"),
        // A promoted server remembers what it replayed: that is history.
        received: lsn("received").filter(|_| standby),
        replayed: lsn("replayed").filter(|_| standby),
        streaming: None,
        replay_age: seconds(row.get("replay_age")),
        heard: None,
        synchronous: row.get("synchronous").map(|s| s == "t"),
    }
}

/// Seconds as PostgreSQL writes them. The two servers' clocks may differ: nothing is younger than now.
pub(super) fn seconds(text: Option<&str>) -> Option<Span> {
    let seconds: f64 = text?.parse().ok()?;
    Some(Span::from(
        Duration::try_from_secs_f64(seconds.max(0.0)).ok()?,
    ))
}

/// Asks, and blames nobody for what went wrong while this host itself stood still.
pub(super) async fn fairly<T>(
    login: &Login,
    context: &LookContext,
    asking: impl Future<Output = Result<T, NoAnswer>>,
) -> Result<T, NoAnswer> {
    let progress = Progress::start();
    let answer = asking.await;
    match (answer, progress.stalled(context.timeout)) {
        (Err(e), Some(stalled)) if e.sight() == Sight::Down => {
            Err(NoAnswer::Way(login.conninfo.server(), stalled))
        }
        (answer, _) => answer,
    }
}

/// Opens a session the vantage point's way.
pub(super) async fn enter(login: &Login, context: &LookContext) -> Result<Session, NoAnswer> {
    let within = context.timeout.to_std();
    let at = &login.conninfo;
    let host = match &at.host {
        // A socket of this machine has no way to choose.
        Host::Socket(_) => return Ok(login.open(within).await?),
        Host::Name(name) => {
            let Ok(host) = name.parse::<dial::Host>();
            host
        }
        Host::Address(address, _) => dial::Host::Address(*address),
    };
    let endpoint = Endpoint {
        host,
        port: at.port,
    };
    let via: &Via = &context.via;
    let progress = Progress::start();
    let stream = progress
        .within(context.timeout, dial(&endpoint, via, None, &progress))
        .await
        .map_err(|fault| NoAnswer::Way(at.server(), fault))?;
    let left = within.saturating_sub(progress.elapsed().to_std());
    Ok(login.over(stream, left).await?)
}

/// Why a look did not come to an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// No connection.
    #[error("{0}")]
    Way(String, #[source] Fault),
    /// No session, or an error in it.
    #[error(transparent)]
    Server(#[from] PostgresError),
}

impl NoAnswer {
    fn sight(&self) -> Sight {
        match self {
            Self::Way(_, fault) => fault.sight(),
            Self::Server(e) => match e.whose() {
                Whose::Ours => Sight::Unknown,
                Whose::Theirs => Sight::Down,
                // A server without a free connection lives: promoting another would not give it more.
                Whose::Busy => Sight::Up,
            },
        }
    }

    /// In one line, with what to do where that is on our side.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Way(server, fault) => format!("{server}: {}", fault.detail()),
            Self::Server(e) => match (e.whose(), e.fix()) {
                (Whose::Busy, _) => format!("alive, but {}", e.told()),
                (Whose::Ours, Some(fix)) => format!("{}; {fix}", e.told()),
                (Whose::Ours | Whose::Theirs, _) => e.told(),
            },
        }
    }

    /// The same for `failover check`.
    pub(super) fn into_item(self, name: String) -> CheckItem {
        let (status, detail, fix) = match self {
            Self::Way(..) => {
                let status = match self.sight() {
                    Sight::Unknown => CheckStatus::Unknown,
                    Sight::Up | Sight::Down => CheckStatus::Fail,
                };
                (status, self.told(), None)
            }
            Self::Server(e) if e.is_timeout() => (CheckStatus::Unknown, e.told(), None),
            Self::Server(e) => (CheckStatus::Fail, e.told(), e.fix()),
        };
        let fix = fix.unwrap_or("look whether the server runs, and at the way to it");
        CheckItem::bad(name, status, detail, fix)
    }
}
