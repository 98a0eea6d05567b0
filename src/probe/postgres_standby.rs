//! `probe/postgres-standby`: asks the standby whether it still hears the primary.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use tokio_postgres::SimpleQueryRow;

use super::postgres::{NoAnswer, enter, fairly, seconds};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        observation::{DatabaseFacts, DatabaseRole, Evidence, Look, Lsn, Sight},
        secret::SecretRef,
        span::Span,
    },
    port::{
        kind::{Kind, Make, MakeError, Wiring, With, read},
        postgres::{Conninfo, Login},
        probe::{LookContext, Probe, SharedProbe},
    },
};

/// Up to this silence the primary counts as heard unless documents say otherwise.
const HEARD: Span = Span::from_secs(10);
/// How much later than PostgreSQL promises a sign of life may come.
const LATE: Duration = Duration::from_secs(3);

/// `probe/postgres-standby`.
pub const KIND: Kind = Kind::new::<StandbyWith>(
    "probe/postgres-standby",
    "asks a PostgreSQL standby whether it still hears its primary, and how far it lags",
    "connection: host=db-b.example.com user=failover sslmode=verify-full\n\
     password: {env: FAILOVER_DB_PASSWORD}\n\
     sender: db-a.example.com\n",
    Make::Probe(make),
)
.giving(Evidence::Stream);

/// Settings of `probe/postgres-standby`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StandbyWith {
    /// How to connect to the standby itself. The role needs `pg_monitor`; `failover init` prints the SQL.
    pub connection: Conninfo,
    /// The role's password.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// The primary's host as the standby's `primary_conninfo` names it. A stream from elsewhere says nothing
    /// about the primary. Default: any.
    #[serde(default)]
    pub sender: Option<String>,
    /// Up to this silence the primary counts as heard. An idle primary may be silent for half of the standby's
    /// `wal_receiver_timeout` (60s unless set): a longer silence is unknown, and down once the primary has not
    /// answered the standby's own question.
    #[serde(default = "heard")]
    pub heard_within: Span,
}

fn heard() -> Span {
    HEARD
}

impl With for StandbyWith {
    fn hosts(&self) -> Vec<String> {
        self.connection.hosts()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedProbe, MakeError> {
    let with: StandbyWith = read(with)?;
    Ok(Arc::new(StandbyProbe {
        login: Login {
            conninfo: with.connection,
            password: with.password,
            secrets: Arc::clone(&wiring.secrets),
        },
        sender: with.sender,
        heard_within: with.heard_within,
    }))
}

struct StandbyProbe {
    login: Login,
    sender: Option<String>,
    heard_within: Span,
}

const LOOK: &str = "
SELECT pg_is_in_recovery() AS recovery,
       pg_last_wal_receive_lsn() AS received,
       pg_last_wal_replay_lsn() AS replayed,
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS replay_age,
       (SELECT setting FROM pg_settings WHERE name = 'wal_receiver_timeout') AS timeout_ms,
       receiver.pid IS NOT NULL AS receiving,
       receiver.status, receiver.sender_host, receiver.latest_end_lsn,
       coalesce(receiver.received_tli, (SELECT greatest(r.min_recovery_end_timeline, c.timeline_id)
         FROM pg_control_recovery() AS r, pg_control_checkpoint() AS c)) AS timeline,
       extract(epoch FROM clock_timestamp() - receiver.last_msg_receipt_time) AS silence
FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver AS receiver ON true";

#[async_trait]
impl Probe for StandbyProbe {
    async fn look(&self, context: &LookContext) -> Look {
        let started = Instant::now();
        let mut look = match self.ask(context).await {
            Ok((_, look)) => look,
            // Whatever ails the standby says nothing about the primary.
            Err(e) => Look::new(
                Sight::Unknown,
                format!("the standby cannot be asked: {}", e.told()),
            ),
        };
        look.latency = Some(Span::from(started.elapsed()));
        look
    }

    async fn check(&self, context: &LookContext) -> Vec<CheckItem> {
        let name = format!("probe/postgres-standby {}", self.login.conninfo.server());
        vec![match self.ask(context).await {
            Ok((stream, look)) => self.item(stream, name, look.detail),
            Err(e) => e.into_item(name),
        }]
    }
}

/// What the standby says of its stream.
#[derive(Clone, Copy)]
enum Stream {
    /// The primary was heard.
    Heard,
    /// It was not heard for a while, as an idle one is not.
    Quiet,
    /// The primary cannot be heard, or did not answer.
    Broken,
    /// It is the stream of another server.
    Elsewhere,
    /// The role may not see it.
    Hidden,
    /// The server is no standby.
    Primary,
}

impl Stream {
    const fn sight(self) -> Sight {
        match self {
            Self::Heard => Sight::Up,
            Self::Broken => Sight::Down,
            Self::Quiet | Self::Elsewhere | Self::Hidden | Self::Primary => Sight::Unknown,
        }
    }
}

impl StandbyProbe {
    async fn ask(&self, context: &LookContext) -> Result<(Stream, Look), NoAnswer> {
        fairly(&self.login, context, self.ask_at_once(context)).await
    }

    async fn ask_at_once(&self, context: &LookContext) -> Result<(Stream, Look), NoAnswer> {
        let session = enter(&self.login, context).await?;
        let row = session.row(LOOK).await?;
        let (stream, detail) = self.judge(&row);
        let mut look = Look::new(stream.sight(), detail);
        look.facts.database = Some(facts(&row));
        Ok((stream, look))
    }

    fn item(&self, stream: Stream, name: String, detail: String) -> CheckItem {
        let fix = match stream {
            Stream::Heard => return CheckItem::ok(name, detail),
            Stream::Quiet => {
                let fix = format!(
                    "an idle primary is no fault; to have it heard within {}, on the primary: ALTER SYSTEM SET \
                     wal_sender_timeout = '{}ms'; SELECT pg_reload_conf()",
                    self.heard_within,
                    self.heard_within.as_millis()
                );
                return CheckItem::untold(name, detail, fix);
            }
            Stream::Broken => "look into the standby's log; check its primary_conninfo",
            Stream::Elsewhere => {
                "name as `sender` the host that the standby's primary_conninfo names, or leave it out"
            }
            Stream::Hidden => "grant pg_monitor to the role, on the primary",
            Stream::Primary => "name the standby in `connection`",
        };
        CheckItem::bad(name, CheckStatus::Fail, detail, fix)
    }

    fn judge(&self, row: &SimpleQueryRow) -> (Stream, String) {
        let yes = |column| row.get(column) == Some("t");
        if !yes("recovery") {
            let detail = "it is a primary itself, and streams from nobody";
            return (Stream::Primary, detail.to_owned());
        }
        if !yes("receiving") {
            let detail = "the standby's stream from the primary is broken: no WAL receiver";
            return (Stream::Broken, detail.to_owned());
        }
        let Some(status) = row.get("status") else {
            let detail = "the state of the WAL receiver may not be seen: grant pg_monitor";
            return (Stream::Hidden, detail.to_owned());
        };
        let sender = row.get("sender_host").unwrap_or("an unknown host");
        if let Some(expected) = self.sender.as_deref().filter(|s| *s != sender) {
            let detail = format!("it streams from {sender}, not from {expected}");
            return (Stream::Elsewhere, detail);
        }
        let Some(silence) = seconds(row.get("silence")).filter(|_| status == "streaming") else {
            let detail = format!("the standby's WAL receiver is {status}, not streaming");
            return (Stream::Broken, detail);
        };
        self.heard(sender, silence, timeout(row))
    }

    fn heard(
        &self,
        sender: &str,
        silence: Span,
        receiver_timeout: Option<Duration>,
    ) -> (Stream, String) {
        if silence <= self.heard_within {
            let detail = format!("streams from {sender}, heard {silence} ago");
            return (Stream::Heard, detail);
        }
        // After half of its time-out the receiver asks for a sign of life.
        match receiver_timeout.map(|t| Span::from(t / 2 + LATE)) {
            Some(limit) if silence > limit => (
                Stream::Broken,
                format!(
                    "{sender} has been silent for {silence} and did not answer the standby's question"
                ),
            ),
            Some(_) | None => (
                Stream::Quiet,
                format!("{sender} has been silent for {silence}: idle or dead"),
            ),
        }
    }
}

/// The standby's `wal_receiver_timeout`; none where it waits for ever.
fn timeout(row: &SimpleQueryRow) -> Option<Duration> {
    let ms = row.get("timeout_ms")?.parse().ok().filter(|ms| *ms > 0)?;
    Some(Duration::from_millis(ms))
}

fn facts(row: &SimpleQueryRow) -> DatabaseFacts {
    let lsn = |column| row.get(column).and_then(Lsn::parse);
    let standby = row.get("recovery") == Some("t");
    let heard = lsn("latest_end_lsn").zip(seconds(row.get("silence")));
    DatabaseFacts {
        role: if standby {
            DatabaseRole::Standby
        } else {
            DatabaseRole::Primary
        },
        timeline: row.get("timeline").and_then(|t| t.parse().ok()),
        current: None,
        received: lsn("received").filter(|_| standby),
        replayed: lsn("replayed").filter(|_| standby),
        streaming: standby.then(|| row.get("status") == Some("streaming")),
        replay_age: seconds(row.get("replay_age")).filter(|_| standby),
        heard,
        synchronous: None,
    }
}
