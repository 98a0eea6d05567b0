//! `probe/guard`: what the guard of a site says at first hand of its database.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        guard::{Database, Report, Role},
        id::SiteName,
        observation::{DatabaseFacts, DatabaseRole, Evidence, Look, Sight},
    },
    port::{
        guard::{Order, SharedGuards},
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        probe::{LookContext, Probe, SharedProbe},
    },
};

/// The kind.
pub const KIND: Kind = Kind::new::<GuardProbeWith>(
    "probe/guard",
    "what a site's guard says at first hand: whether its database runs and does what it is to do",
    "site: paris\n",
    Make::Probe(make),
)
.giving(Evidence::Guard);

/// Settings of `probe/guard`. Only the controller's own vantage points hear guards.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardProbeWith {
    /// The site, one of the service's `guards`.
    pub site: String,
}

impl With for GuardProbeWith {
    fn problems(&self) -> Vec<Problem> {
        let is_empty = self.site.is_empty();
        is_empty
            .then(|| Problem::new("site", "expected the name of a site"))
            .into_iter()
            .collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedProbe, MakeError> {
    let with: GuardProbeWith = read(with)?;
    Ok(Arc::new(GuardProbe {
        guards: wiring.guards()?,
        site: SiteName::new(with.site),
    }))
}

struct GuardProbe {
    guards: SharedGuards,
    site: SiteName,
}

#[async_trait]
impl Probe for GuardProbe {
    async fn look(&self, context: &LookContext) -> Look {
        self.guards.order(&self.site, Order::Look);
        let site = &self.site;
        match self.guards.heard(site) {
            None => Look::new(
                Sight::Unknown,
                format!("the guard of {site} was never heard"),
            ),
            // A guard that cannot be heard says nothing of its database.
            Some(heard) if heard.age > context.timeout => Look::new(
                Sight::Unknown,
                format!("the guard of {site} was last heard {} ago", heard.age),
            ),
            Some(heard) => told(&heard.report),
        }
    }
}

/// With what the database is, and with what is wrong with its disk.
fn told(report: &Report) -> Look {
    let mut look = judged(report);
    let role = match report.database {
        Some(Database::Writable) => Some(DatabaseRole::Primary),
        Some(Database::Following) => Some(DatabaseRole::Standby),
        Some(Database::Gone) | None => None,
    };
    look.facts.database = role.map(|role| DatabaseFacts {
        role,
        timeline: None,
        // It is as old as the report, which is told to nobody here.
        current: None,
        received: None,
        replayed: None,
        streaming: None,
        replay_age: None,
        heard: None,
        synchronous: None,
    });
    for (is_so, what) in [
        (report.seen.is_full, "the disk of its data is full"),
        (
            report.seen.is_read_only,
            "the file system of its data takes no writes",
        ),
    ] {
        if is_so {
            look.detail = format!("{}; {what}", look.detail);
        }
    }
    look
}

fn judged(report: &Report) -> Look {
    let role = report.promise.as_ref().map(|p| p.role);
    match (role, report.database) {
        (_, None) => Look::new(Sight::Unknown, "its guard has not seen the database yet"),
        (_, Some(Database::Gone)) => {
            Look::new(Sight::Down, "its guard says that no process of it runs")
        }
        (_, Some(_)) if !report.answers => Look::new(
            Sight::Down,
            "its guard says that it runs and does not answer",
        ),
        (Some(Role::Primary), Some(Database::Writable)) => {
            Look::new(Sight::Up, "its guard says that it takes writes")
        }
        (Some(Role::Primary), Some(Database::Following)) => {
            Look::new(Sight::Down, "its guard says that it takes no writes")
        }
        (Some(Role::Standby | Role::Fenced) | None, Some(Database::Following)) => {
            Look::new(Sight::Up, "its guard says that it follows")
        }
        (Some(Role::Standby | Role::Fenced) | None, Some(Database::Writable)) => Look::new(
            Sight::Down,
            "its guard says that it takes writes without a right to",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::guard::{Boot, FirstHand, Promise};

    fn role(database: Database) -> Option<DatabaseRole> {
        let report = Report {
            site: "west".into(),
            boot: Boot(1),
            promise: Some(Promise::first()),
            database: Some(database),
            answers: true,
            seen: FirstHand::default(),
            can_fence: true,
            kill: None,
            leased: false,
            drained: None,
            resync: None,
        };
        told(&report).facts.database.map(|d| d.role)
    }

    /// Whoever takes the site for the active one must not take it for well.
    #[test]
    fn a_database_that_follows_is_told_to_be_a_standby() {
        assert_eq!(role(Database::Following), Some(DatabaseRole::Standby));
        assert_eq!(role(Database::Writable), Some(DatabaseRole::Primary));
        assert_eq!(role(Database::Gone), None);
    }
}
