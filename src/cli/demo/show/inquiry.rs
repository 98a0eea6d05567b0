//! What came of a showing, looked at from outside, and whether it is as it should be.

use clap::ValueEnum;

use super::Show;
use crate::{
    cli::{
        arguments::Scenario,
        demo::{
            address::Spot,
            auditor,
            customer::Acknowledged,
            documents::{NAME, RPO, SERVICE, STANDBY},
            findings::{self, FallbackChecks, Findings, Outcome, StepFinding},
            outside::now,
            postgres::Cluster,
            stage::Stage,
            story::seconds,
        },
        engine, journal,
    },
    decide::explain::{self, Report, StepReport},
    error::Error,
    journal::verify,
    model::{
        drill::DrillOutcome,
        id::ServiceName,
        record::{RecordBody, RunOutcome},
        time::Time,
    },
};

/// Why a frozen or cut-off primary ends in a question, and what would change that.
const NO_GUARD: &str = "from outside nobody can tell a dead primary from one that will wake up or still serves others, \
     and no guard stands beside the databases of this demo: it would end a primary whose lease has run out, which is \
     proof enough to go on without a person (failover help guards)";

impl Show<'_> {
    /// Looks at everything from outside.
    ///
    /// # Errors
    /// Where something cannot be looked at.
    pub(super) async fn find(&mut self) -> Result<(Findings, Option<String>), Error> {
        self.customers.stop();
        let orders = self.customers.acknowledged();
        let report = self.report().await?;
        let (outcome, reason) = self.outcome();
        let first = self.outages.first().copied().unwrap_or_default();
        let messages = self.stage.inbox.all();
        let told: Vec<_> = messages
            .iter()
            .filter(|m| m.at >= first && findings::is_to_customers(m))
            .cloned()
            .collect();
        let fallback = self.on_standby().and_then(|a| a.fallback_url.clone());
        let checked = match &fallback {
            Some(url) => auditor::follow(&told, url, STANDBY)
                .await
                .map_err(Error::DemoOutcome)?,
            None => Vec::new(),
        };
        let lost = self.lost(outcome, &orders).await?;
        let would_lose = match &self.stage.standby {
            Some(standby) if outcome == Outcome::Asked => {
                Some(missing(standby, standby.listen, &orders).await?.len())
            }
            Some(_) | None => None,
        };
        let drill = self.drill_report().await?;
        let journal = self.place.journal();
        let verified = journal::open(&self.place).and_then(|file| Ok(verify::journal(&file)?))?;
        let seconds_after = |at: Time| seconds(at.since(first));
        let findings = Findings {
            scenario: self
                .scenario
                .to_possible_value()
                .map(|v| v.get_name().to_owned())
                .unwrap_or_default(),
            database: self
                .stage
                .programs
                .as_ref()
                .map(|p| format!("PostgreSQL {}", p.version)),
            outcome,
            reason,
            downtime_s: match outcome {
                Outcome::FailedOver
                | Outcome::Stayed
                | Outcome::SwitchedOver
                | Outcome::Drilled => findings::downtime(&orders, &self.outages).map(seconds),
                Outcome::Asked | Outcome::Stuck => None,
            },
            acknowledged_writes: orders.len(),
            lost_writes: lost.as_ref().map(Vec::len),
            would_lose,
            standby_promoted: self.standby_promoted().await?,
            detection_s: match outcome {
                // The primary is stopped on purpose: nothing is to be detected.
                Outcome::SwitchedOver | Outcome::Drilled => None,
                Outcome::FailedOver | Outcome::Asked | Outcome::Stayed | Outcome::Stuck => {
                    self.down_since(first).map(seconds_after)
                }
            },
            time_to_first_announcement_s: told.iter().map(|m| m.at).min().map(seconds_after),
            dns_before: self.dns_before.clone(),
            dns_after: self.dns().await,
            fallback_url: fallback,
            announcements: findings::by_channel(&told),
            fallback_checks: FallbackChecks::of(&checked),
            loss_forecast: self.loss_forecast(),
            steps: self.steps(&report),
            report: drill.as_ref().map(|_| self.report.clone()),
            drill,
            journal,
            journal_records: verified.iter().map(|f| f.records).sum(),
            journal_verified: !verified.is_empty() && verified.iter().all(|f| f.broken.is_none()),
        };
        let fault = self.fault(&findings, lost.as_deref().unwrap_or_default(), &orders);
        Ok((findings, fault))
    }

    async fn report(&self) -> Result<Report, Error> {
        let core = self
            .engine
            .controller
            .show(&ServiceName::from(SERVICE))
            .await
            .map_err(|e| engine::cannot_start(&e))?;
        Ok(explain::report(&core, now()))
    }

    fn outcome(&self) -> (Outcome, String) {
        if self.scenario == Scenario::Drill {
            let reason = self.judged().unwrap_or_default();
            return (Outcome::Drilled, reason);
        }
        if let Some((outcome, reason)) = self.run_outcome() {
            let outcome = match outcome {
                RunOutcome::Done if self.scenario == Scenario::Switchover => Outcome::SwitchedOver,
                RunOutcome::Done => Outcome::FailedOver,
                RunOutcome::Unwound | RunOutcome::Aborted => Outcome::Stayed,
                RunOutcome::Stuck => Outcome::Stuck,
            };
            return (outcome, reason.to_owned());
        }
        let asked = self.records.iter().find_map(|r| {
            if let RecordBody::AskOpened { ask, .. } = &r.body {
                Some(ask.reasons.join("; "))
            } else {
                None
            }
        });
        match asked {
            Some(reasons) => match self.scenario {
                Scenario::Freeze | Scenario::Partition => {
                    (Outcome::Asked, format!("{reasons}; {NO_GUARD}"))
                }
                Scenario::Crash
                | Scenario::Flapping
                | Scenario::Lagging
                | Scenario::Drill
                | Scenario::Switchover => (Outcome::Asked, reasons),
            },
            None => (
                Outcome::Stayed,
                "the primary came back within its patience: nothing was begun".to_owned(),
            ),
        }
    }

    fn loss_forecast(&self) -> Option<String> {
        self.records.iter().find_map(|r| {
            if let RecordBody::RunOpened { loss, .. } = &r.body {
                Some(loss.to_string())
            } else if let RecordBody::AskOpened { ask, .. } = &r.body {
                Some(ask.loss.to_string())
            } else {
                None
            }
        })
    }

    fn steps(&self, report: &Report) -> Vec<StepFinding> {
        let expected = |step: &StepReport| {
            let begun = self.begun.as_ref().and_then(|r| r.run.as_ref());
            begun
                .and_then(|run| run.steps.iter().find(|s| s.id == step.id))
                .map_or(step.expected, |s| s.expected)
        };
        let steps = report.run.iter().flat_map(|run| &run.steps);
        steps
            .map(|step| StepFinding {
                id: step.id.clone(),
                outcome: step.state.clone(),
                expected_s: seconds(expected(step)),
                took_s: step.took.map(seconds),
            })
            .collect()
    }

    /// Acknowledged orders that are not at the site which holds the data; none where that cannot be looked into.
    async fn lost(
        &self,
        outcome: Outcome,
        orders: &[Acknowledged],
    ) -> Result<Option<Vec<i64>>, Error> {
        let Some(standby) = &self.stage.standby else {
            let spot = match outcome {
                Outcome::Stayed | Outcome::Drilled => Spot::Primary,
                // A receipt is honoured by every shop, whether it takes orders or not.
                Outcome::FailedOver | Outcome::Asked | Outcome::Stuck | Outcome::SwitchedOver => {
                    Spot::Standby
                }
            };
            let refused = auditor::refused_receipts(&self.stage.url(spot), orders).await;
            return refused.map(Some).map_err(Error::DemoOutcome);
        };
        let [_, _, behind_network] = self.stage.addresses.host;
        let found = match (outcome, self.scenario) {
            (Outcome::FailedOver | Outcome::SwitchedOver, _) => {
                missing(standby, standby.listen, orders).await?
            }
            (Outcome::Stayed | Outcome::Drilled, _)
            | (Outcome::Asked, Scenario::Partition | Scenario::Switchover | Scenario::Drill) => {
                missing(standby, behind_network, orders).await?
            }
            (Outcome::Asked, Scenario::Freeze) => {
                // Only its database, and only for this look: whoever keeps the demo finds it frozen.
                let thaw = |on| self.frozen.into_iter().for_each(|f| Stage::thaw(f, on));
                thaw(true);
                let found = missing(standby, behind_network, orders).await;
                thaw(false);
                found?
            }
            (Outcome::Asked, Scenario::Crash | Scenario::Flapping | Scenario::Lagging)
            | (Outcome::Stuck, _) => return Ok(None),
        };
        Ok(Some(found))
    }

    async fn standby_promoted(&self) -> Result<bool, Error> {
        let promoted = match &self.stage.standby {
            Some(standby) => auditor::takes_writes(&login(standby, standby.listen)?).await,
            None => auditor::is_open(&self.stage.standby_url()).await,
        };
        promoted.map_err(Error::DemoOutcome)
    }

    /// What is not as it should be; none where all is.
    fn fault(&self, findings: &Findings, lost: &[i64], orders: &[Acknowledged]) -> Option<String> {
        let wanted = match self.scenario {
            Scenario::Crash => Outcome::FailedOver,
            // Without data there is nothing to be behind with.
            Scenario::Lagging if self.stage.standby.is_none() => Outcome::FailedOver,
            Scenario::Freeze | Scenario::Partition | Scenario::Lagging => Outcome::Asked,
            Scenario::Flapping => Outcome::Stayed,
            Scenario::Drill => Outcome::Drilled,
            Scenario::Switchover => Outcome::SwitchedOver,
        };
        if findings.outcome != wanted {
            return Some(format!(
                "the outcome is {:?} where {wanted:?} was called for: {}",
                findings.outcome, findings.reason
            ));
        }
        if !findings.journal_verified {
            return Some("the journal's chain is not whole".to_owned());
        }
        // What an asynchronous standby may miss is what was acknowledged within the RPO before the outage.
        let first = self.outages.first().copied().unwrap_or_default();
        let allowed = match wanted {
            Outcome::FailedOver => first.before(RPO),
            Outcome::Asked
            | Outcome::Stayed
            | Outcome::Stuck
            | Outcome::SwitchedOver
            | Outcome::Drilled => now(),
        };
        let unexplained = orders
            .iter()
            .filter(|o| lost.contains(&o.receipt.id) && o.at < allowed)
            .count();
        if unexplained > 0 {
            return Some(format!(
                "{unexplained} orders are missing that were acknowledged before {}",
                allowed.clock()
            ));
        }
        match wanted {
            Outcome::FailedOver => self
                .fault_of_move(findings)
                .or_else(|| Self::fault_of_messages(findings)),
            Outcome::SwitchedOver => self.fault_of_move(findings),
            Outcome::Drilled => {
                Self::fault_of_drill(findings).or_else(|| Self::fault_of_restraint(findings))
            }
            Outcome::Asked | Outcome::Stayed | Outcome::Stuck => Self::fault_of_restraint(findings),
        }
    }

    fn fault_of_move(&self, findings: &Findings) -> Option<String> {
        let standby = self.stage.block.at(Spot::Standby).to_string();
        if findings.dns_after != [standby] {
            return Some(format!(
                "{NAME} does not lead to the standby: {}",
                findings.dns_after.join(", ")
            ));
        }
        (!findings.standby_promoted).then(|| "the standby takes no writes".to_owned())
    }

    fn fault_of_messages(findings: &Findings) -> Option<String> {
        let urls = findings.fallback_checks;
        (urls.messages == 0 || urls.worked < urls.messages).then(|| {
            format!(
                "{} of {} messages with the fallback URL led to an open shop",
                urls.worked, urls.messages
            )
        })
    }

    fn fault_of_drill(findings: &Findings) -> Option<String> {
        let Some(drill) = &findings.drill else {
            return Some("there is no report of the drill".to_owned());
        };
        if drill.report.outcome != Some(DrillOutcome::Passed) {
            return Some(format!("the drill: {}", findings.reason));
        }
        let left = drill.left.join("; ");
        (!left.is_empty()).then(|| format!("the drill left something behind: {left}"))
    }

    fn fault_of_restraint(findings: &Findings) -> Option<String> {
        if findings.standby_promoted {
            return Some("the standby takes writes although nobody decided that".to_owned());
        }
        if findings.dns_after != findings.dns_before {
            return Some(format!(
                "{NAME} was repointed to {} although nobody decided that",
                findings.dns_after.join(", ")
            ));
        }
        let told: usize = findings.announcements.values().sum();
        let quiet = matches!(findings.outcome, Outcome::Stayed | Outcome::Drilled);
        (quiet && told > 0)
            .then(|| format!("customers were sent {told} messages although the primary serves"))
    }
}

fn login(cluster: &Cluster, at: std::net::SocketAddr) -> Result<tokio_postgres::Config, Error> {
    let mut config = cluster
        .superuser(at)
        .map_err(|e| Error::DemoOutcome(e.to_string()))?;
    config.dbname(SERVICE);
    Ok(config)
}

async fn missing(
    cluster: &Cluster,
    at: std::net::SocketAddr,
    orders: &[Acknowledged],
) -> Result<Vec<i64>, Error> {
    auditor::missing_rows(&login(cluster, at)?, orders)
        .await
        .map_err(Error::DemoOutcome)
}
