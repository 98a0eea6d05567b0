//! One showing of the demo: what is done, what is waited for, and what is found.

use std::{path::Path, time::Duration};

use clap::ValueEnum;
use futures::StreamExt;
use tokio::time;

use super::{
    address::Spot,
    auditor,
    customer::{self, Acknowledged, Customers},
    documents::{self, NAME, SERVICE, STANDBY, Tuning},
    findings::{self, FallbackChecks, Findings, Outcome, StepFinding},
    outside::now,
    stage::Stage,
    story::{Story, seconds},
};
use crate::{
    cli::{
        arguments::{self, Listen, Scenario},
        documents as loading,
        engine::{self, Engine, Outlets},
        journal,
        line::Weight,
        output::Output,
        place::Place,
        socket::{desk::Events, message::Event},
    },
    decide::explain::{self, Report, StepReport},
    error::Error,
    journal::verify,
    model::{
        announcement::{Announcement, Phase},
        check::CheckStatus,
        id::ServiceName,
        record::{Record, RecordBody, RunOutcome},
        span::Span,
        step::StepResult,
        time::Time,
        verdict::Verdict,
    },
};

/// How long the service may take to be well and ready at first.
const READY: Duration = Duration::from_mins(1);
/// How long the controller may take to come to its decision.
const DECISION: Duration = Duration::from_mins(2);
/// Orders that are acknowledged before the outage.
const WARM: usize = 100;
/// How far the standby is behind before the primary is killed, in `lagging`; above the RPO of the documents.
const BEHIND: Duration = Duration::from_secs(6);
/// How long the primary is down each time, in `flapping`.
const DOWN: Duration = Duration::from_millis(500);
/// How long it is up in between.
const UP: Duration = Duration::from_secs(4);
/// How often it goes down.
const FLAPS: usize = 3;
/// How long customers go on after the failover.
const AFTER: Duration = Duration::from_secs(2);
/// The RPO of the documents.
const RPO: Span = Span::from_secs(3);

/// A showing.
pub struct Show<'a> {
    scenario: Scenario,
    stage: &'a Stage,
    place: Place,
    engine: Engine,
    events: Events,
    story: Story,
    customers: Customers,
    records: Vec<Record>,
    /// The run as it stood when it began, for what its steps were expected to take.
    begun: Option<Report>,
    told: usize,
    outages: Vec<Time>,
    dns_before: Vec<String>,
}

impl<'a> Show<'a> {
    /// Writes the documents, starts the controller on them, and lets customers in.
    ///
    /// # Errors
    /// Where the controller does not start, or the service does not become ready.
    pub async fn open(
        args: &arguments::Demo,
        stage: &'a Stage,
        story: Story,
        output: Output,
    ) -> Result<Self, Error> {
        let tuning = Tuning { patience: "4s" };
        let failed = |source| Error::File {
            verb: "write",
            path: stage.folder().join("documents"),
            source,
        };
        let folder = documents::write(stage, tuning).map_err(failed)?;
        story.fact("documents", &folder.display().to_string());
        let services = loading::load(&[folder], output)?;
        let kept = stage.folder().join("state");
        let place = Place {
            socket: kept.join("control").join("failover.sock"),
            state: kept,
        };
        let outlets = Outlets {
            page: Listen::At(stage.addresses.page),
            metrics: Listen::Off,
            journal_copy: None,
        };
        let engine = Engine::start(services, &place, &outlets).await?;
        let events = engine.desk.watch(None).map_err(|_| Error::DemoStart {
            part: "the controller".to_owned(),
            reason: "it does not know the service".to_owned(),
        })?;
        let customers = Customers::start(NAME, stage.addresses.shop_port, stage.addresses.dns)
            .map_err(|reason| Error::DemoStart {
                part: "the customers".to_owned(),
                reason,
            })?;
        let mut show = Self {
            scenario: args.scenario,
            stage,
            place,
            engine,
            events,
            story,
            customers,
            records: Vec::new(),
            begun: None,
            told: 0,
            outages: Vec::new(),
            dns_before: Vec::new(),
        };
        show.wait_until_ready().await?;
        Ok(show)
    }

    /// Makes the outage, watches what comes of it, and looks whether it is true. Beside the findings: what of them is not
    /// as it should be.
    ///
    /// # Errors
    /// Where the controller does not come to a decision.
    pub async fn play(&mut self) -> Result<(Findings, Option<String>), Error> {
        match self.scenario {
            Scenario::Crash => {
                self.outage("The outage: PostgreSQL and shop at the primary are killed (SIGKILL)");
                self.stage.crash().await?;
                self.until_decided().await?;
            }
            Scenario::Freeze => {
                self.outage(
                    "The outage: every process at the primary is stopped (SIGSTOP), none is gone",
                );
                self.stage.freeze();
                self.until_decided().await?;
            }
            Scenario::Partition => {
                self.outage("The outage: the network drops everything to and from the primary, which still runs");
                self.stage.partition();
                self.until_decided().await?;
            }
            Scenario::Lagging => {
                self.story
                    .heading("The network between the sites goes silent: the standby falls behind");
                self.stage.replication.silence();
                self.pass(BEHIND).await;
                self.outage("The outage: PostgreSQL and shop at the primary are killed (SIGKILL)");
                self.stage.crash().await?;
                self.stage.replication.cut();
                self.until_decided().await?;
            }
            Scenario::Flapping => self.flap().await?,
        }
        self.pass(AFTER).await;
        self.find().await
    }

    /// Says where everything is, for whoever wants to look around.
    pub fn addresses(&self) {
        let folder = self.stage.folder();
        self.story
            .heading("It goes on until Ctrl-C. In another terminal:");
        self.story.fact(
            "export",
            &format!("FAILOVER_STATE={}", self.place.state.display()),
        );
        self.story.fact(
            "export",
            &format!(
                "FAILOVER_TOKEN=$(cat {})",
                self.stage.secret("ann").display()
            ),
        );
        for command in [
            "failover status",
            "failover explain shop",
            "failover timeline shop",
            "failover journal verify",
        ] {
            self.story.fact("try", command);
        }
        let status = self.stage.addresses.page;
        self.story.fact("status page", &format!("http://{status}/"));
        let dns = self.stage.addresses.dns;
        self.story.fact(
            "DNS",
            &format!("dig @{} -p {} {NAME}", dns.ip(), dns.port()),
        );
        self.story.fact("shop", &self.stage.standby_url());
        self.story.fact("folder", &folder.display().to_string());
    }

    /// Exports the journal to a file of its own.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn export(&self, path: &Path) -> Result<(), Error> {
        journal::export_to(&self.place, path).map(drop)
    }

    /// What was found, in sentences.
    pub fn summary(&self, findings: &Findings) {
        let story = &self.story;
        story.heading("What came of it");
        let outcome = match findings.outcome {
            Outcome::FailedOver => "the standby took over",
            Outcome::Asks => "it asks: a person has to decide",
            Outcome::Stayed => "the primary kept serving",
            Outcome::Stuck => "the run is stuck",
        };
        story.fact("outcome", &format!("{outcome} ({})", findings.reason));
        let secs =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |s| format!("{s:.2} s"));
        story.fact("detected", &format!("after {}", secs(findings.detection_s)));
        story.fact(
            "downtime",
            &match findings.downtime_s {
                Some(_) => format!(
                    "{} without an order, as customers saw it",
                    secs(findings.downtime_s)
                ),
                None => "orders have not come back".to_owned(),
            },
        );
        let kept = match findings.lost_writes {
            Some(0) => "every one was read back from the site that serves now".to_owned(),
            Some(n) => format!(
                "{n} are not at the site that serves now: replication was asynchronous (forecast: {})",
                findings.loss_forecast.as_deref().unwrap_or("none")
            ),
            None => format!(
                "no site serves; a failover now would lose {}",
                findings
                    .loss_forecast
                    .as_deref()
                    .unwrap_or("what is not known")
            ),
        };
        story.fact(
            "orders",
            &format!("{} acknowledged; {kept}", findings.acknowledged_writes),
        );
        let accepted: Vec<String> = findings
            .announcements
            .iter()
            .map(|(channel, n)| format!("{channel} {n}"))
            .collect();
        story.fact(
            "customers",
            &format!(
                "{}; first told after {}; {} of {} fallback URLs in their messages work",
                accepted.join(", "),
                secs(findings.time_to_first_announcement_s),
                findings.fallback_checks.worked,
                findings.fallback_checks.messages
            ),
        );
        story.fact(
            "DNS",
            &format!(
                "{} -> {}",
                findings.dns_before.join(", "),
                findings.dns_after.join(", ")
            ),
        );
        for step in &findings.steps {
            let took = secs(step.took_s);
            story.fact(
                "step",
                &format!(
                    "{:<16} {:<9} {took:>9}  (expected at most {} s)",
                    step.id, step.outcome, step.expected_s
                ),
            );
        }
        let whole = if findings.journal_verified {
            "its chain is whole"
        } else {
            "its chain is BROKEN"
        };
        story.fact(
            "journal",
            &format!("{} records, {whole}", findings.journal_records),
        );
    }

    /// Goes on telling, for ever.
    pub async fn keep(&mut self) {
        loop {
            self.pass(Duration::from_hours(1)).await;
        }
    }

    /// Stops the controller cleanly.
    pub async fn close(self) {
        drop(self.customers);
        self.engine.stop().await;
    }

    fn outage(&mut self, text: &str) {
        let at = now();
        self.outages.push(at);
        if self.outages.len() == 1 {
            self.story.outage(at, text);
        } else {
            self.story.moment(at, "outage", text, Weight::Bad);
        }
    }

    async fn flap(&mut self) -> Result<(), Error> {
        for n in 1..=FLAPS {
            self.outage(&format!(
                "The primary goes down and comes back, {n} of {FLAPS}"
            ));
            self.stage.crash().await?;
            self.pass(DOWN).await;
            self.stage.restart().await?;
            let down = self.outages.last().copied().unwrap_or_default();
            self.until("orders after the primary came back", DECISION, |show| {
                show.customers
                    .first_after(down.after(Span::from(DOWN)))
                    .is_some()
            })
            .await?;
            let at = now();
            self.story.moment(
                at,
                "shop",
                "the primary is back: orders are taken again",
                Weight::Normal,
            );
            self.pass(UP).await;
        }
        Ok(())
    }

    /// Until the run has ended and everybody was told, or a person is asked.
    async fn until_decided(&mut self) -> Result<(), Error> {
        self.until("the controller's decision", DECISION, |show| {
            let asked = show
                .records
                .iter()
                .any(|r| matches!(r.body, RecordBody::AskOpened { .. }));
            asked || (show.run_outcome().is_some() && show.everybody_was_told())
        })
        .await
    }

    fn run_outcome(&self) -> Option<(RunOutcome, &str)> {
        self.records.iter().find_map(|r| {
            if let RecordBody::RunClosed {
                outcome, reason, ..
            } = &r.body
            {
                Some((*outcome, reason.as_str()))
            } else {
                None
            }
        })
    }

    /// Whether the announcement that the standby serves has nothing left to send.
    fn everybody_was_told(&self) -> bool {
        let Some(on_standby) = self.on_standby() else {
            return false;
        };
        self.records.iter().any(|r| {
            if let RecordBody::AnnouncementSettled { announcement, .. } = &r.body {
                *announcement == on_standby.id
            } else {
                false
            }
        })
    }

    /// Until everything is seen to be well, the check is green, and customers are at work.
    async fn wait_until_ready(&mut self) -> Result<(), Error> {
        let service = ServiceName::from(SERVICE);
        self.until("a healthy service", READY, |show| {
            show.is_healthy("app") && (show.stage.standby.is_none() || show.is_healthy("database"))
        })
        .await?;
        let deadline = time::Instant::now() + READY;
        loop {
            let items = self
                .engine
                .controller
                .check(&service)
                .await
                .map_err(|e| engine::cannot_start(&e))?;
            let bad: Vec<_> = items
                .iter()
                .filter(|i| matches!(i.status, CheckStatus::Fail | CheckStatus::Unknown))
                .collect();
            if bad.is_empty() {
                self.story
                    .fact("check", &format!("green: {} items", items.len()));
                break;
            }
            if time::Instant::now() >= deadline {
                let said: Vec<_> = bad
                    .iter()
                    .map(|i| format!("{}: {}", i.name, i.detail))
                    .collect();
                return Err(Error::DemoStart {
                    part: "a service that is ready".to_owned(),
                    reason: said.join("; "),
                });
            }
            self.pass(Duration::from_millis(500)).await;
        }
        self.until("orders", READY, |show| show.customers.count() >= WARM)
            .await?;
        self.dns_before = self.dns().await;
        let dns = self.dns_before.join(", ");
        self.story.fact("DNS", &format!("{NAME} A {dns} (TTL 2 s)"));
        self.story.fact(
            "status page",
            &format!("http://{}/", self.stage.addresses.page),
        );
        self.story.fact(
            "customers",
            &format!(
                "{} orders acknowledged so far, and on they go",
                self.customers.count()
            ),
        );
        Ok(())
    }

    /// Whether a component's last verdict is healthy.
    fn is_healthy(&self, name: &str) -> bool {
        let last = self.records.iter().rev().find_map(|r| {
            if let RecordBody::VerdictChanged { component, to, .. } = &r.body {
                (component.as_str() == name).then_some(*to)
            } else {
                None
            }
        });
        last == Some(Verdict::Healthy)
    }

    /// What the name leads to, asked anew.
    async fn dns(&self) -> Vec<String> {
        let Ok(resolver) = customer::resolver(self.stage.addresses.dns) else {
            return Vec::new();
        };
        match resolver.lookup_ip(format!("{NAME}.")).await {
            Ok(answer) => answer.iter().map(|ip| ip.to_string()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Tells what happens until something is true.
    async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), Error> {
        let deadline = time::Instant::now() + limit;
        while !done(self) {
            if time::Instant::now() >= deadline {
                return Err(Error::DemoOutcome(format!(
                    "{what}: not within {} s",
                    limit.as_secs()
                )));
            }
            self.pass(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Tells what happens in this time.
    async fn pass(&mut self, span: Duration) {
        let end = time::Instant::now() + span;
        let mut inbox = self.stage.inbox.count();
        loop {
            self.read_inbox();
            tokio::select! {
                () = time::sleep_until(end) => break,
                event = self.events.next() => match event {
                    Some(event) => self.take(event).await,
                    None => break,
                },
                changed = inbox.changed() => if changed.is_err() { break },
            }
        }
        self.read_inbox();
    }

    fn read_inbox(&mut self) {
        let all = self.stage.inbox.all();
        for message in &all[self.told.min(all.len())..] {
            if !self.outages.is_empty() {
                self.story.message(message);
            }
        }
        self.told = all.len();
    }

    async fn take(&mut self, event: Event) {
        self.story.record(&event);
        let cut_over = matches!(&event.record.body,
            RecordBody::StepOutcome { step, result: StepResult::Done(_), .. } if step.as_str() == "cutover");
        if cut_over {
            let text = format!(
                "{NAME} A {} (before: {})",
                self.dns().await.join(", "),
                self.dns_before.join(", ")
            );
            self.story.moment(now(), "DNS", &text, Weight::Heavy);
        }
        if matches!(event.record.body, RecordBody::RunOpened { .. }) {
            self.begun = Some((*event.report).clone());
        }
        self.records.push(event.record);
    }

    /// Looks at everything from outside.
    async fn find(&mut self) -> Result<(Findings, Option<String>), Error> {
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
            downtime_s: findings::downtime(&orders, &self.outages).map(seconds),
            acknowledged_writes: orders.len(),
            lost_writes: lost.as_ref().map(Vec::len),
            detection_s: self.detected().map(seconds_after),
            time_to_first_announcement_s: told.iter().map(|m| m.at).min().map(seconds_after),
            dns_before: self.dns_before.clone(),
            dns_after: self.dns().await,
            fallback_url: fallback,
            announcements: findings::by_channel(&told),
            fallback_checks: FallbackChecks::of(&checked),
            loss_forecast: self.loss_forecast(),
            steps: self.steps(&report),
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
        if let Some((outcome, reason)) = self.run_outcome() {
            let outcome = match outcome {
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
            Some(reasons) => (Outcome::Asks, reasons),
            None => (
                Outcome::Stayed,
                "the primary came back within its patience: nothing was begun".to_owned(),
            ),
        }
    }

    /// The announcement that the standby serves.
    fn on_standby(&self) -> Option<&Announcement> {
        self.records.iter().find_map(|r| {
            if let RecordBody::PhaseEntered {
                phase: Phase::OnStandby,
                announcement,
            } = &r.body
            {
                Some(announcement.as_ref())
            } else {
                None
            }
        })
    }

    /// When the first verdict of Down after the outage was.
    fn detected(&self) -> Option<Time> {
        let first = self.outages.first().copied()?;
        self.records.iter().find_map(|r| {
            let down = matches!(
                r.body,
                RecordBody::VerdictChanged {
                    to: Verdict::Down,
                    ..
                }
            );
            (down && r.at >= first).then_some(r.at)
        })
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

    /// Acknowledged orders that the site which serves now does not have; none where no site serves.
    async fn lost(
        &self,
        outcome: Outcome,
        orders: &[Acknowledged],
    ) -> Result<Option<Vec<i64>>, Error> {
        let standby = match outcome {
            Outcome::FailedOver => true,
            Outcome::Stayed => false,
            Outcome::Asks | Outcome::Stuck => return Ok(None),
        };
        let found = if let Some(cluster) = &self.stage.standby {
            let at = if standby {
                cluster.listen
            } else {
                self.stage.addresses.primary_database
            };
            let mut config = cluster
                .superuser(at)
                .map_err(|e| Error::DemoOutcome(e.to_string()))?;
            config.dbname(SERVICE);
            auditor::missing_rows(&config, orders).await
        } else {
            let spot = if standby {
                Spot::Standby
            } else {
                Spot::Primary
            };
            auditor::refused_receipts(&self.stage.url(spot), orders).await
        };
        found.map(Some).map_err(Error::DemoOutcome)
    }

    /// What is not as it should be; none where all is.
    fn fault(&self, findings: &Findings, lost: &[i64], orders: &[Acknowledged]) -> Option<String> {
        let wanted = match self.scenario {
            Scenario::Crash => Outcome::FailedOver,
            // Without data there is nothing to be behind with.
            Scenario::Lagging if self.stage.standby.is_none() => Outcome::FailedOver,
            Scenario::Freeze | Scenario::Partition | Scenario::Lagging => Outcome::Asks,
            Scenario::Flapping => Outcome::Stayed,
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
        let allowed = self.outages.first()?.before(RPO);
        let unexplained = orders
            .iter()
            .filter(|o| lost.contains(&o.receipt.id) && o.at < allowed)
            .count();
        if unexplained > 0 {
            return Some(format!(
                "{unexplained} orders are missing that were acknowledged more than {RPO} before the outage"
            ));
        }
        if findings.outcome != Outcome::FailedOver {
            return None;
        }
        let standby = self.stage.block.at(Spot::Standby).to_string();
        if findings.dns_after != [standby] {
            return Some(format!(
                "{NAME} does not lead to the standby: {}",
                findings.dns_after.join(", ")
            ));
        }
        let urls = findings.fallback_checks;
        if urls.messages == 0 || urls.worked < urls.messages {
            return Some(format!(
                "{} of {} messages with the fallback URL led to an open shop",
                urls.worked, urls.messages
            ));
        }
        None
    }
}
