//! `postgres/follow`: has a further standby follow the site that serves now. Without it a third copy goes on waiting for
//! the primary that was left.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::SiteName,
        plan::StepPhase,
        secret::SecretRef,
        site::Site,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        postgres::{Answer, Conninfo, Login, PostgresError, Session, Whose, keys},
    },
};

/// Time between two looks at the stream.
const AGAIN: Duration = Duration::from_millis(50);
/// How long the standby may take to answer a check.
const LIMIT: Duration = Duration::from_secs(10);

/// `postgres/follow`.
pub const KIND: Kind = Kind::new::<FollowWith>(
    "postgres/follow",
    "has a further PostgreSQL standby follow the site that serves now, and waits until it streams from there",
    "connection: host=db-c.example.com user=failover sslmode=verify-full\n\
     password: {env: FAILOVER_DB_PASSWORD}\n\
     upstreams:\n\
     \x20 west: host=db-b.example.com user=replicator passfile=/etc/postgresql/pgpass sslmode=verify-full\n\
     \x20 east: host=db-a.example.com user=replicator passfile=/etc/postgresql/pgpass sslmode=verify-full\n",
    Make::Action(make),
)
.in_phase(StepPhase::Protect)
.both_ways();

/// Settings of `postgres/follow`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FollowWith {
    /// How to connect to the standby that is to follow. The role needs `pg_monitor`, `ALTER SYSTEM` on the parameter
    /// `primary_conninfo` (PostgreSQL 15; before, a superuser) and `EXECUTE` on `pg_reload_conf()`.
    pub connection: Conninfo,
    /// The role's password.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// What the standby's `primary_conninfo` is for each site that may serve, as libpq has it. Passwords stand in a
    /// `passfile` of the standby's host.
    pub upstreams: BTreeMap<SiteName, String>,
}

impl With for FollowWith {
    fn hosts(&self) -> Vec<String> {
        self.connection.hosts()
    }

    fn problems(&self) -> Vec<Problem> {
        let problem = |site: &SiteName, message: String| Problem {
            path: format!("upstreams.{site}"),
            message,
            hint: None,
        };
        let mut found = Vec::new();
        for (site, upstream) in &self.upstreams {
            match keys(upstream) {
                Err(e) => found.push(problem(site, e.to_string())),
                Ok(keys) if keys.contains_key("password") => found.push(problem(
                    site,
                    "a password would stand in the server's settings: name a passfile of the standby's host".to_owned(),
                )),
                Ok(keys) if !keys.contains_key("host") && !keys.contains_key("hostaddr") => {
                    found.push(problem(site, "no host is named".to_owned()));
                }
                Ok(_) => {}
            }
        }
        found
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: FollowWith = read(with)?;
    Ok(Arc::new(PostgresFollow {
        login: Login {
            conninfo: with.connection,
            password: with.password,
            secrets: Arc::clone(&wiring.secrets),
        },
        upstreams: with.upstreams,
    }))
}

struct PostgresFollow {
    login: Login,
    upstreams: BTreeMap<SiteName, String>,
}

/// What a standby says of its stream.
struct Stream {
    recovery: bool,
    setting: String,
    streams_from: Option<String>,
    receiver: String,
    slot: String,
    may_reload: bool,
    timeline: String,
}

const LOOK: &str = "
SELECT pg_is_in_recovery() AS recovery,
       current_setting('primary_conninfo') AS setting,
       current_setting('primary_slot_name') AS slot,
       has_function_privilege('pg_reload_conf()', 'EXECUTE') AS reload,
       receiver.pid, receiver.status, receiver.sender_host, receiver.sender_port, receiver.received_tli
FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver AS receiver ON true";

impl Stream {
    async fn of(session: &Session) -> Result<Self, PostgresError> {
        let row = session.row(LOOK).await?;
        let text = |column| row.get(column).unwrap_or_default().to_owned();
        let is_streaming = row.get("status") == Some("streaming");
        Ok(Self {
            recovery: row.get("recovery") == Some("t"),
            setting: text("setting"),
            streams_from: is_streaming
                .then(|| format!("{}:{}", text("sender_host"), text("sender_port"))),
            receiver: text("pid"),
            slot: text("slot"),
            may_reload: row.get("reload") == Some("t"),
            timeline: text("received_tli"),
        })
    }

    fn proof(&self, server: &str, from: &str) -> Proof {
        Proof::new(format!(
            "{server} streams from {from}, timeline {}",
            self.timeline
        ))
        .with("timeline", self.timeline.clone())
    }
}

#[async_trait]
impl Action for PostgresFollow {
    async fn perform(&self, step: &StepContext) -> StepResult {
        match self.follow(step).await {
            Ok(result) => result,
            Err(e) if e.is_timeout() => StepResult::indeterminate(e.told()),
            Err(e) => {
                let fix = e.fix().map_or_else(String::new, |fix| format!("; {fix}"));
                StepResult::failed(format!("nothing was changed: {}{fix}", e.told()))
            }
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let Some(upstream) = self.upstreams.get(&step.to.name) else {
            return Presence::absent(self.nowhere(&step.to.name));
        };
        let looked = async {
            let session = self.login.open(step.limit()).await?;
            Stream::of(&session).await
        };
        match looked.await {
            Ok(stream) if !stream.recovery => Presence::absent(self.leads()),
            Ok(stream) if stream.setting != *upstream => {
                Presence::absent(format!("{} is set to follow another server", self.server()))
            }
            Ok(stream) => match &stream.streams_from {
                Some(from) => Presence::InPlace(stream.proof(&self.server(), from)),
                None => {
                    Presence::unknown(format!("{} is set to, and does not stream", self.server()))
                }
            },
            Err(e) => Presence::unknown(e.told()),
        }
    }

    async fn check(&self, _from: &Site, to: &Site) -> Vec<CheckItem> {
        let mut items = vec![self.check_rights().await];
        if !self.upstreams.contains_key(&to.name) {
            items.push(CheckItem::bad(
                "follow/upstreams",
                CheckStatus::Fail,
                self.nowhere(&to.name),
                "name in 'upstreams' what primary_conninfo is for each site that may serve",
            ));
        }
        items
    }
}

impl PostgresFollow {
    fn server(&self) -> String {
        self.login.conninfo.server()
    }

    fn nowhere(&self, site: &SiteName) -> String {
        format!(
            "'upstreams' does not say how {} follows {site}",
            self.server()
        )
    }

    fn leads(&self) -> String {
        format!(
            "{} is a primary itself: it follows nobody before a person has looked",
            self.server()
        )
    }

    /// An error where nothing was changed yet.
    async fn follow(&self, step: &StepContext) -> Result<StepResult, PostgresError> {
        let Some(upstream) = self.upstreams.get(&step.to.name) else {
            return Ok(StepResult::failed(self.nowhere(&step.to.name)));
        };
        let session = self.login.open(step.limit()).await?;
        let before = Stream::of(&session).await?;
        if !before.recovery {
            return Ok(StepResult::failed(self.leads()));
        }
        if before.setting != *upstream {
            if !before.may_reload {
                return Ok(StepResult::failed(format!(
                    "nothing was changed: the role may not have {} read its settings again (EXECUTE on pg_reload_conf())",
                    self.server()
                )));
            }
            match set(&session, upstream).await {
                Ok(()) => {}
                Err(e) if e.answer() == Some(Answer::Forbidden) => return Err(e),
                Err(e) => return Ok(StepResult::indeterminate(e.told())),
            }
        }
        Ok(self.streaming(&session, &before, upstream).await)
    }

    /// Waits until it streams; a setting in vain is taken back.
    async fn streaming(&self, session: &Session, before: &Stream, upstream: &str) -> StepResult {
        // What takes the setting back has to be done within the step's time as well.
        let reserve = session.left() / 5;
        loop {
            match Stream::of(session).await {
                Ok(stream) => match &stream.streams_from {
                    // Until the server has read its settings it streams as before.
                    Some(from) if stream.setting == upstream && !is_stale(before, &stream) => {
                        return StepResult::Done(stream.proof(&self.server(), from));
                    }
                    Some(_) | None => {}
                },
                Err(e) => return StepResult::indeterminate(e.told()),
            }
            if session.left() <= reserve {
                return self.take_back(session, before, upstream).await;
            }
            sleep(AGAIN).await;
        }
    }

    async fn take_back(&self, session: &Session, before: &Stream, upstream: &str) -> StepResult {
        let host = keys(upstream).ok().and_then(|k| k.get("host").cloned());
        let host = host.unwrap_or_else(|| "there".to_owned());
        let reason = format!(
            "{} does not stream from {host}: its log says why; where it says that its starting point is ahead of the \
             primary's, it has what the new primary never got, and is to be copied anew{}",
            self.server(),
            slot_words(&before.slot)
        );
        if before.setting == upstream {
            return StepResult::failed(reason);
        }
        match set(session, &before.setting).await {
            Ok(()) => StepResult::failed(reason),
            Err(e) => StepResult::indeterminate(format!(
                "{reason}; and primary_conninfo could not be set back: {}",
                e.told()
            )),
        }
    }

    async fn check_rights(&self) -> CheckItem {
        const NAME: &str = "follow/grants";
        // Before PostgreSQL 15 there is no such right to ask for.
        const SQL: &str = "
SELECT pg_is_in_recovery() AS recovery,
       current_setting('primary_slot_name') AS slot,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS super,
       current_setting('server_version_num')::int >= 150000 AS rights,
       has_function_privilege('pg_reload_conf()', 'EXECUTE') AS reload";
        const SET: &str =
            "SELECT has_parameter_privilege('primary_conninfo', 'ALTER SYSTEM') AS set";
        const FIX: &str = "on the primary: GRANT ALTER SYSTEM ON PARAMETER primary_conninfo TO the role; GRANT EXECUTE ON \
                           FUNCTION pg_reload_conf() TO it (before PostgreSQL 15: a superuser)";
        let asked = async {
            let session = self.login.open(LIMIT).await?;
            let row = session.row(SQL).await?;
            let yes = |column| row.get(column) == Some("t");
            let slot = row.get("slot").unwrap_or_default().to_owned();
            let may_set =
                yes("super") || yes("rights") && session.row(SET).await?.get("set") == Some("t");
            Ok::<_, PostgresError>((yes("recovery"), may_set && yes("reload"), slot))
        };
        match asked.await {
            Ok((false, ..)) => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                self.leads(),
                "let connection name a standby that is not promoted by this plan",
            ),
            Ok((true, true, slot)) if !slot.is_empty() => CheckItem::bad(
                NAME,
                CheckStatus::Warn,
                format!(
                    "{} streams by the slot {slot}: where the site that serves then has no such slot, it follows nobody",
                    self.server()
                ),
                "make the slot at every site that may serve, or ALTER SYSTEM RESET primary_slot_name there",
            ),
            Ok((true, true, _)) => {
                CheckItem::ok(NAME, format!("{} can be led elsewhere", self.server()))
            }
            Ok((true, false, _)) => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                format!("{} may not be led elsewhere by this role", self.server()),
                FIX,
            ),
            Err(e) => {
                let status = match e.whose() {
                    Whose::Theirs if e.is_timeout() => CheckStatus::Unknown,
                    Whose::Ours | Whose::Busy | Whose::Theirs => CheckStatus::Fail,
                };
                let fix = e
                    .fix()
                    .unwrap_or("start the standby, with hot_standby = on");
                CheckItem::bad(NAME, status, e.told(), fix)
            }
        }
    }
}

/// A slot is its primary's alone.
fn slot_words(slot: &str) -> String {
    if slot.is_empty() {
        return String::new();
    }
    format!("; its primary_slot_name is {slot}, and that slot has to be there")
}

/// Whether this is still the stream of before, although the setting is another one: the receiver ends a moment later.
fn is_stale(before: &Stream, now: &Stream) -> bool {
    before.setting != now.setting && before.receiver == now.receiver
}

async fn set(session: &Session, conninfo: &str) -> Result<(), PostgresError> {
    let quoted = conninfo.replace('\'', "''");
    session
        .rows(&format!("ALTER SYSTEM SET primary_conninfo = '{quoted}'"))
        .await?;
    session.row("SELECT pg_reload_conf() AS done").await?;
    Ok(())
}
