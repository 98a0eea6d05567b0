//! One showing of the demo: what is done, what is waited for, and what is found.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt;
use tokio::time;

use super::{
    address::Spot,
    customer::{self, Customers},
    documents::{self, NAME, SERVICE, Tuning},
    findings::Findings,
    outside::now,
    stage::Stage,
    story::Story,
    summary,
};
use crate::{
    cli::{
        arguments::{self, Scenario},
        documents as loading, engine, journal,
        output::Output,
        place::Place,
    },
    decide::explain::Report,
    desk::{clerk::Events, line::Weight, message::Event, speaker::Speaker},
    driver::engine::{DeskOutlet, Engine, Outlets},
    error::Error,
    model::{
        announcement::{Announcement, Phase},
        id::ServiceName,
        record::{Record, RecordBody, RunOutcome},
        step::StepResult,
        time::Time,
        verdict::Verdict,
    },
};

mod inquiry;
mod planned;

/// How long the service may take to be well and ready at first.
const READY: Duration = Duration::from_mins(1);
/// How long the controller may take to come to its decision.
const DECISION: Duration = Duration::from_mins(2);
/// Orders that are acknowledged before the outage.
const WARM: usize = 100;
/// How far the standby is behind before the primary is killed, in `lagging`; above the RPO of the documents.
const BEHIND: Duration = Duration::from_secs(6);
/// How long the primary stays down each time after that was seen, in `flapping`.
const DOWN: Duration = Duration::from_millis(500);
/// How long it is up in between after that was seen.
const UP: Duration = Duration::from_secs(2);
/// How often it goes down.
const FLAPS: usize = 3;
/// How long customers go on after the failover.
const AFTER: Duration = Duration::from_secs(2);
/// Where the report of a drill is written unless it is said.
pub const REPORT: &str = "failover-drill.html";
/// Records and messages of one moment come within this time.
const TOGETHER: Duration = Duration::from_millis(250);

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
    /// When each outage, or the planned work, began.
    outages: Vec<Time>,
    /// Where the report of a drill is written.
    report: PathBuf,
    /// The primary's database, where it is stopped but not ended.
    frozen: Option<u32>,
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
        let tuning = Tuning {
            patience: match args.scenario {
                _ if args.immediate => None,
                // Longer than the primary is away each time, on a machine that does other things too.
                Scenario::Flapping => Some("20s"),
                Scenario::Crash
                | Scenario::Freeze
                | Scenario::Partition
                | Scenario::Lagging
                | Scenario::Drill
                | Scenario::Switchover => Some("4s"),
            },
            scenario: args.scenario,
        };
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
            server: None,
            token: None,
        };
        let outlets = Outlets {
            page: Some(stage.addresses.page),
            desk: args.keep.then(|| DeskOutlet {
                address: SocketAddr::from(([127, 0, 0, 1], 0)),
                certificate: None,
            }),
            ..Outlets::default()
        };
        let (engine, desk) = engine::start(services, &place, &outlets, None).await?;
        let events = desk
            .watch(None, &Speaker::host())
            .map_err(|_| Error::DemoStart {
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
            report: args.report.clone().unwrap_or_else(|| REPORT.into()),
            frozen: None,
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
                self.frozen = self.stage.freeze().await?;
                self.until_decided().await?;
            }
            Scenario::Partition => {
                self.outage("The outage: the network drops everything to and from the primary, which still runs");
                self.stage.partition();
                self.until_decided().await?;
            }
            Scenario::Lagging => {
                self.story.heading(&format!(
                    "The network between the sites goes silent: for {} s the standby falls behind",
                    BEHIND.as_secs()
                ));
                self.stage.replication.silence();
                // It is behind from the first order on that it lacks, however slow this machine takes them.
                let silent = now();
                self.until("an order that the standby lacks", DECISION, |show| {
                    show.customers.first_after(silent).is_some()
                })
                .await?;
                self.pass(BEHIND).await;
                self.outage("The outage: PostgreSQL and shop at the primary are killed (SIGKILL)");
                self.stage.crash().await?;
                self.stage.replication.cut();
                self.until_decided().await?;
            }
            Scenario::Flapping => self.flap().await?,
            Scenario::Drill => self.drill().await?,
            Scenario::Switchover => self.switch_over().await?,
        }
        self.pass(AFTER).await;
        self.find().await
    }

    /// Says where everything is, for whoever wants to look around.
    pub fn addresses(&mut self) {
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
        if let Some(url) = &self.engine.desk {
            let said = format!("{url}/, where one logs in with that token");
            self.story.fact("desk", &said);
        }
        let status = self.stage.addresses.page;
        self.story.fact("status page", &format!("http://{status}/"));
        let dns = self.stage.addresses.dns;
        self.story.fact(
            "DNS",
            &format!("dig @{} -p {} {NAME}", dns.ip(), dns.port()),
        );
        let spot = match self.scenario {
            Scenario::Drill => Spot::Primary,
            Scenario::Crash
            | Scenario::Freeze
            | Scenario::Partition
            | Scenario::Flapping
            | Scenario::Lagging
            | Scenario::Switchover => Spot::Standby,
        };
        self.story.fact("shop", &self.stage.url(spot));
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
    pub fn summary(&mut self, findings: &Findings) {
        summary::tell(&mut self.story, findings);
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
        drop(self.story);
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
                "Outage {n} of {FLAPS}: PostgreSQL and shop at the primary are killed (SIGKILL), and will be started again"
            ));
            let began = self.outages.last().copied().unwrap_or_default();
            self.stage.crash().await?;
            self.until("a verdict of down", DECISION, |show| {
                show.down_since(began).is_some()
            })
            .await?;
            self.pass(DOWN).await;
            self.stage.restart().await?;
            let back = now();
            self.until("orders after the primary came back", DECISION, |show| {
                show.customers.first_after(back).is_some()
            })
            .await?;
            self.story.moment(
                now(),
                "shop",
                "the primary is back: orders are taken again",
                Weight::Heavy,
            );
            self.until("a healthy service", DECISION, Self::is_well)
                .await?;
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
        self.until("a healthy service", READY, Self::is_well)
            .await?;
        let deadline = time::Instant::now() + READY;
        loop {
            let items = self
                .engine
                .controller
                .check(&service)
                .await
                .map_err(|e| engine::cannot_start(&e))?;
            let bad: Vec<_> = items.iter().filter(|i| i.hinders()).collect();
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

    /// Whether every component's last verdict is healthy.
    fn is_well(&self) -> bool {
        self.is_healthy("app") && (self.stage.standby.is_none() || self.is_healthy("database"))
    }

    /// When the first verdict of Down was, from a moment on.
    fn down_since(&self, moment: Time) -> Option<Time> {
        self.records.iter().find_map(|r| {
            let down = matches!(
                r.body,
                RecordBody::VerdictChanged {
                    to: Verdict::Down,
                    ..
                }
            );
            (down && r.at >= moment).then_some(r.at)
        })
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
            self.story.catch_up(Some(now().before(TOGETHER.into())));
            tokio::select! {
                () = time::sleep_until(end) => break,
                event = self.events.next() => match event {
                    Some(event) => self.take(event).await,
                    None => break,
                },
                changed = inbox.changed() => if changed.is_err() { break },
                () = time::sleep(TOGETHER) => {}
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
}
