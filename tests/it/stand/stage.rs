//! A controller under virtual time, over services that are made of doubles.

use std::sync::Arc;

use failover::{
    decide::{
        core::Core,
        event::{Command, Reply},
    },
    driver::{
        controller::{CommandError, Controller, Ends, Means, StartError},
        metrics::Metrics,
    },
    model::{
        id::{Seq, ServiceName},
        plan::{RunKind, Uses},
        record::{Record, RecordBody},
        service::Service,
        span::Span,
        time::Time,
    },
    port::{journal::Journal, runtime::Runtime, secret::HostSecrets},
    publish::listener::Pages,
};
use futures::{FutureExt, channel::oneshot};
use serde_json::json;
use tempfile::TempDir;

use super::{
    doubles::{MemoryLedger, MoodyJournal, Props, kinds},
    virtual_time::{VirtualRuntime, VirtualTime},
};

/// A controller, and everything around it.
pub struct Stage {
    /// Its time.
    pub time: Arc<VirtualTime>,
    /// Its journal.
    pub journal: Arc<MoodyJournal>,
    /// What its services are made of.
    pub props: Arc<Props>,
    /// What the controller works with.
    pub means: Means,
    /// How the loops of the last controller ended.
    pub ends: Option<Ends>,
    key: usize,
    controller: Option<Arc<Controller>>,
    _folder: TempDir,
}

impl Stage {
    /// Nothing runs yet.
    pub fn new() -> Self {
        // Whoever comes first installs it; all install the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let time = VirtualTime::at(Time::parse("2026-11-21T14:00:00Z").unwrap());
        let runtime = Arc::new(VirtualRuntime(time.clone()));
        let journal = Arc::new(MoodyJournal::default());
        let folder = TempDir::new().unwrap();
        let (key, props) = Props::new();
        Self {
            means: Means {
                kinds: kinds(),
                journal: journal.clone(),
                leader: None,
                copy: None,
                ledger: Arc::new(MemoryLedger::default()),
                runtime: runtime.clone(),
                secrets: Arc::new(HostSecrets),
                state: folder.path().to_owned(),
                metrics: Arc::new(Metrics::new(runtime, "test")),
                guards: None,
                pages: Pages::default(),
                upkeep: false,
            },
            time,
            journal,
            props,
            ends: None,
            key,
            controller: None,
            _folder: folder,
        }
    }

    /// A controller that protects the shop, and has looked once.
    pub fn running() -> Self {
        let mut stage = Self::new();
        stage.start(vec![stage.shop()]);
        stage.time.pass(Span::from_secs(2));
        stage
    }

    /// The service `shop`, in the mode `ask`.
    pub fn shop(&self) -> Service {
        self.service("shop")
    }

    /// A service with the sites east and west, whose runbook is fence, promote, verify.
    pub fn service(&self, name: &str) -> Service {
        let with = |name: &str| json!({"props": self.key, "name": name});
        let uses = |kind: &str, name: &str| json!({"uses": kind, "with": with(name)});
        let site = |name: &str, role: &str| json!({"name": name, "role": role, "location": {}, "addresses": []});
        let probe = |site: &str| {
            json!({
                "id": format!("app-{site}"), "action": uses("double/probe", site), "site": site,
                "evidence": "outside", "every": "1s", "timeout": "1s", "from": [],
            })
        };
        let step = |id: &str, needs: &[&str]| {
            json!({
                "id": id, "name": id, "phase": id, "action": {"adapter": uses("double/step", id)}, "needs": needs,
                "timeout": "10s", "retry": {"attempts": 3, "backoff": "1s"}, "on": ["failover"], "onFailure": "stop",
            })
        };
        let channel = |name: &str, phases: &[&str]| json!({"name": name, "action": uses("double/channel", name), "phases": phases});
        let phases = ["failingOver", "onStandby", "recovered"];
        serde_json::from_value(json!({
            "name": name, "title": name, "mode": "ask",
            "objectives": {"rto": "5m", "rpo": "0s"},
            "sites": [site("east", "primary"), site("west", "standby")],
            "residency": [],
            "vantagePoints": [{"name": "here", "network": "here", "looker": {"controller": "direct"}, "sentinels": []}],
            "quorum": {"networks": 1, "failures": 1, "successes": 1},
            "components": [{
                "name": "app", "title": "App", "kind": "application", "probes": [probe("east"), probe("west")],
            }],
            "trigger": "immediate",
            "gates": {"maxLagAge": "1m", "overRpo": "ask", "maintenance": []},
            "fencing": "infrastructure",
            "publication": {"url": null, "targets": [uses("double/target", name)]},
            "announcements": {
                "channels": [channel("hook", &phases), channel("mail", &phases)],
                "templates": {}, "symptom": "", "cadence": "20m",
            },
            "team": {
                "people": [{"name": "ann"}], "channels": [channel("team", &[])], "repeat": "5m",
            },
            "approvals": {
                "required": 1, "approvers": ["ann"], "breakGlass": [], "expiry": "1h", "onTimeout": "hold",
            },
            "runbook": {"name": "move", "title": "Move", "steps": [
                step("fence", &[]), step("promote", &["fence"]), step("verify", &["promote"]),
            ]},
            "config": "first",
        }))
        .unwrap()
    }

    /// Starts a controller.
    pub fn start(&mut self, services: Vec<Service>) {
        self.try_start(services).unwrap();
    }

    /// The same, where it may be refused.
    pub fn try_start(&mut self, services: Vec<Service>) -> Result<(), StartError> {
        let starting = Controller::start(services, self.means.clone());
        let (controller, ends) = self.now(starting)?;
        self.means.metrics.documents_loaded();
        self.controller = Some(controller);
        self.ends = Some(ends);
        Ok(())
    }

    /// Stops it.
    pub fn stop(&mut self) {
        self.controller.take().unwrap().stop();
        self.time.pass(Span::ZERO);
    }

    /// Its documents are these now.
    pub fn reload(&self, services: Vec<Service>) -> Result<Vec<String>, StartError> {
        let controller = self.controller.clone().unwrap();
        self.now(async move { controller.reload(services).await })
    }

    /// Where a service stands.
    pub fn core_of(&self, service: &ServiceName) -> Box<Core> {
        let (controller, service) = (self.controller.clone().unwrap(), service.clone());
        self.now(async move { controller.show(&service).await })
            .unwrap()
    }

    /// Gives a command, which is answered at once.
    pub fn order(&self, service: &ServiceName, command: Command) -> Reply {
        let (controller, service) = (self.controller.clone().unwrap(), service.clone());
        self.now(async move { controller.command(&service, command).await })
            .unwrap()
    }

    /// The records of a chain.
    pub fn chain(&self, chain: &ServiceName) -> Vec<Record> {
        let (journal, chain) = (self.journal.clone(), chain.clone());
        self.now(async move { journal.read(&chain, Seq(1)).await })
            .unwrap()
    }

    /// A channel that tells who was told what.
    pub fn channel(&self, name: &str) -> Uses {
        Uses {
            uses: "double/channel".into(),
            with: json!({"props": self.key, "name": name}),
        }
    }

    /// Where the shop stands.
    pub fn core(&self) -> Box<Core> {
        let controller = self.controller.clone().unwrap();
        self.now(async move { controller.show(&"shop".into()).await })
            .unwrap()
    }

    /// Gives a command to the shop's loop, which answers when it can.
    pub fn say(&self, command: Command) -> oneshot::Receiver<Result<Reply, CommandError>> {
        let controller = self.controller.clone().unwrap();
        self.begin(async move { controller.command(&"shop".into(), command).await })
    }

    /// Ann writes a note.
    pub fn note(&self, text: &str) -> oneshot::Receiver<Result<Reply, CommandError>> {
        self.say(Command::Note {
            by: "ann".into(),
            text: text.to_owned(),
        })
    }

    /// Ann begins a failover.
    pub fn fail_over(&self) {
        let open = self.say(Command::Open {
            kind: RunKind::Failover,
            to: None,
            plan: None,
            by: "ann".into(),
            reason: "try".to_owned(),
        });
        let said = open.now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(said, Reply::Ok("the failover to west begins".to_owned()));
    }

    /// The shop's records.
    pub fn records(&self) -> Vec<Record> {
        let journal = self.journal.clone();
        self.now(async move { journal.read(&ServiceName::from("shop"), Seq(1)).await })
            .unwrap()
    }

    /// Its records of this kind.
    pub fn recorded(&self, kind: &str) -> Vec<RecordBody> {
        let bodies = self.records().into_iter().map(|r| r.body);
        bodies.filter(|b| b.kind() == kind).collect()
    }

    /// What comes of a task without any time passing.
    fn now<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        let ended = self.begin(task).now_or_never();
        ended.expect("it takes time").unwrap()
    }

    fn begin<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (end, ended) = oneshot::channel();
        let task = task.map(|came| drop(end.send(came)));
        VirtualRuntime(self.time.clone()).spawn("test", task.boxed());
        self.time.pass(Span::ZERO);
        ended
    }
}
