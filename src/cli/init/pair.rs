//! Which of two servers is the primary, and what is to be said of the pair.

use super::{
    login::Given,
    server::{Sender, Server, Unseen},
};
use crate::error::Error;

/// Settings that a standby must have at least as high as its primary: it stops replaying otherwise.
const NOT_LOWER: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

/// From this on `postgres/fence` works without being a superuser.
const PARAMETER_GRANTS: u32 = 15;

/// A primary, and its standby as far as it was seen.
pub struct Pair {
    /// How the primary was named.
    pub primary: Given,
    /// How the standby was named.
    pub standby: Given,
    /// The primary.
    pub first: Server,
    /// The standby, or why it was not seen.
    pub second: Result<Server, String>,
    swapped: bool,
}

impl Pair {
    /// Looks at both.
    ///
    /// # Errors
    /// Where they are no pair, or the primary cannot be seen.
    pub async fn look(primary: Given, standby: Given) -> Result<Self, Error> {
        let (first, second) =
            futures::future::join(Server::look(&primary.login), Server::look(&standby.login)).await;
        match (seen(&primary, first)?, seen(&standby, second)?) {
            (Ok(first), Ok(second)) => both(primary, standby, first, second),
            (Ok(first), Err(away)) => alone(primary, standby, first, away, false),
            (Err(away), Ok(second)) => alone(standby, primary, second, away, true),
            (Err(away), Err(_)) => Err(cannot_look(&primary, away)),
        }
    }

    /// Whether commits wait for a standby.
    #[must_use]
    pub fn is_synchronous(&self) -> bool {
        let waits = |s: &Sender| matches!(s.sync.as_deref(), Some("sync" | "quorum"));
        self.first.senders.iter().any(waits)
    }

    /// The primary's host as the standby's replication names it.
    #[must_use]
    pub fn sender(&self) -> Option<String> {
        self.second.as_ref().ok()?.receiver.as_ref()?.host.clone()
    }

    /// Whether a role can be given the right to make the old primary refuse writers.
    #[must_use]
    pub fn can_refuse_writers(&self) -> bool {
        self.first.major >= PARAMETER_GRANTS
    }

    /// What was seen, a line each.
    #[must_use]
    pub fn found(&self) -> Vec<String> {
        let first = &self.first;
        let mut lines = vec![format!(
            "primary: {}, PostgreSQL {}, takes writes; system {}",
            first.place, first.version, first.system
        )];
        lines.push(match &self.second {
            Ok(second) => format!(
                "standby: {}, PostgreSQL {}, in recovery; system {}",
                second.place, second.version, second.system
            ),
            Err(why) => format!("standby: not seen: {why}"),
        });
        lines.extend(first.senders.iter().map(streaming));
        if let Some(receiver) = self.second.as_ref().ok().and_then(|s| s.receiver.as_ref()) {
            lines.push(format!(
                "the standby's receiver: {}, from {}, slot {}{}",
                receiver.status.as_deref().unwrap_or("not visible"),
                receiver
                    .host
                    .as_deref()
                    .unwrap_or("a host that is not visible"),
                receiver.slot.as_deref().unwrap_or("none"),
                behind(receiver.behind),
            ));
        }
        for slot in &first.slots {
            let active = if slot.active { "active" } else { "inactive" };
            lines.push(format!("slot {}: {}, {active}", slot.name, slot.kind));
        }
        let setting = |name: &str| {
            let of = |s: &Server| s.settings.get(name).cloned();
            let theirs = self.second.as_ref().ok().and_then(of);
            match (of(first), theirs) {
                (Some(one), Some(two)) if one != two => {
                    format!("{name} {one}, on the standby {two}")
                }
                (Some(one), _) => format!("{name} {one}"),
                (None, _) => format!("{name} not visible"),
            }
        };
        lines.push(
            ["max_connections", "wal_log_hints", "data_checksums"]
                .map(setting)
                .join("; "),
        );
        lines
    }

    /// What somebody should look at.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = [&self.primary, &self.standby]
            .into_iter()
            .filter_map(|given| given.remark.clone())
            .collect();
        if self.swapped {
            remarks.push(format!(
                "--primary and --standby were named the wrong way round: {} takes writes",
                self.first.place
            ));
        }
        remarks.extend(self.first_remarks());
        match &self.second {
            Ok(second) => remarks.extend(self.second_remarks(second)),
            Err(why) => remarks.push(format!(
                "the standby was not seen ({why}): whether it belongs to this primary, streams, and has fitting \
                 settings is not known; run 'failover check' when it is back"
            )),
        }
        remarks
    }

    fn first_remarks(&self) -> Vec<String> {
        let first = &self.first;
        let mut remarks = Vec::new();
        if !first.privileged {
            remarks.push(format!(
                "{} may not see the state of replication at {}: grant pg_monitor, or name a superuser, and look again",
                self.primary.login.conninfo.user, first.place
            ));
        } else if first
            .senders
            .iter()
            .all(|s| s.state.as_deref() != Some("streaming"))
        {
            remarks.push(format!("no standby streams from {} now", first.place));
        }
        if first.slots.iter().all(|s| s.kind != "physical") {
            remarks.push(
                "the primary has no physical replication slot: a standby that falls behind may need a new base backup"
                    .to_owned(),
            );
        }
        for slot in first.slots.iter().filter(|s| !s.active) {
            remarks.push(format!(
                "nobody streams through the slot {}: the primary keeps WAL for it until its disk is full",
                slot.name
            ));
        }
        for slot in &first.slots {
            if slot.wal.as_deref() == Some("lost") {
                remarks.push(format!(
                    "the slot {} has lost WAL that its standby needs",
                    slot.name
                ));
            }
        }
        if !(first.is_on("wal_log_hints") || first.is_on("data_checksums")) {
            remarks.push(
                "neither wal_log_hints nor data checksums are on: pg_rewind will not work, so the old primary must be \
                 copied anew after a failover"
                    .to_owned(),
            );
        }
        if self.is_synchronous() && first.senders.len() == 1 {
            remarks.push(
                "commits wait for the only standby: when it is gone the primary stops taking writes".to_owned(),
            );
        }
        if !self.can_refuse_writers() {
            remarks.push(format!(
                "PostgreSQL {} lets only a superuser refuse writers: the step refuse-writers will fail and is passed \
                 over, the fence is proved by stop-primary",
                first.version
            ));
        }
        remarks
    }

    fn second_remarks(&self, second: &Server) -> Vec<String> {
        let mut remarks = Vec::new();
        if second.version != self.first.version {
            remarks.push(format!(
                "the primary runs PostgreSQL {}, the standby {}",
                self.first.version, second.version
            ));
        }
        match &second.receiver {
            None => remarks.push(format!(
                "{} is in recovery but streams from nobody: look at primary_conninfo and its log",
                second.place
            )),
            Some(receiver) => match receiver.status.as_deref() {
                Some("streaming") => {}
                Some(status) => remarks.push(format!("the standby's receiver is {status}, not streaming")),
                None => remarks.push(format!(
                    "{} may not see what {} streams from: grant pg_monitor, or name a superuser, and look again",
                    self.standby.login.conninfo.user, second.place
                )),
            },
        }
        for name in NOT_LOWER {
            if let (Some(one), Some(two)) = (self.first.number(name), second.number(name))
                && two < one
            {
                remarks.push(format!(
                    "{name} is {two} on the standby and {one} on the primary: it would stop replaying"
                ));
            }
        }
        if second
            .number("recovery_min_apply_delay")
            .is_some_and(|ms| ms > 0)
        {
            remarks.push(
                "the standby replays with a delay (recovery_min_apply_delay): a failover waits for it".to_owned(),
            );
        }
        remarks
    }
}

fn streaming(sender: &Sender) -> String {
    let lag = sender
        .lag
        .as_ref()
        .map_or_else(String::new, |lag| format!(", replay lag {lag} s"));
    format!(
        "stream to {}: {}, {}{}{lag}",
        sender.name,
        sender.state.as_deref().unwrap_or("state not visible"),
        match sender.sync.as_deref() {
            Some("async") => "asynchronous",
            Some("sync" | "quorum") => "synchronous",
            Some("potential") => "potentially synchronous",
            Some(_) | None => "synchronous or not is not visible",
        },
        behind(sender.behind),
    )
}

fn behind(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |n| format!(", {n} bytes behind now"))
}

/// A server that does not answer may be there all the same; anything else must be put right first.
fn seen(given: &Given, look: Result<Server, Unseen>) -> Result<Result<Server, String>, Error> {
    match look {
        Ok(server) => Ok(Ok(server)),
        Err(Unseen::Away(why)) => Ok(Err(why)),
        Err(Unseen::Wrong(reason)) => Err(cannot_look(given, reason)),
    }
}

fn cannot_look(given: &Given, reason: String) -> Error {
    Error::InitDatabase {
        which: given.which,
        reason,
    }
}

fn no_pair(reason: String) -> Error {
    Error::InitPair { reason }
}

fn both(primary: Given, standby: Given, first: Server, second: Server) -> Result<Pair, Error> {
    let (one, two) = (&first.place, &second.place);
    let alike = first.system == second.system;
    match (first.standby, second.standby) {
        (false, false) if alike => Err(no_pair(format!(
            "{one} and {two} both take writes and have the same system identifier {}: either both strings lead to one \
             server, or the standby was promoted and the data is split",
            first.system
        ))),
        (false, false) => Err(no_pair(format!(
            "{one} and {two} both take writes, and they are two systems: {} and {}",
            first.system, second.system
        ))),
        (true, true) => Err(no_pair(format!(
            "{one} and {two} are both in recovery: name the primary that they stream from, and one of them"
        ))),
        _ if !alike => Err(no_pair(format!(
            "{one} and {two} are different systems: their system identifiers are {} and {}",
            first.system, second.system
        ))),
        (false, true) => Ok(Pair {
            primary,
            standby,
            first,
            second: Ok(second),
            swapped: false,
        }),
        (true, false) => Ok(Pair {
            primary: standby,
            standby: primary,
            first: second,
            second: Ok(first),
            swapped: true,
        }),
    }
}

/// One server answers: it must be the primary.
fn alone(
    seen: Given,
    away: Given,
    first: Server,
    why: String,
    swapped: bool,
) -> Result<Pair, Error> {
    if first.standby {
        return Err(cannot_look(
            &away,
            format!("{why}; {} answers, but it is in recovery", first.place),
        ));
    }
    Ok(Pair {
        primary: seen,
        standby: away,
        first,
        second: Err(why),
        swapped,
    })
}
