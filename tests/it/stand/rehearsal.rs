//! A rehearsal: the documents of an example, with hosts, ports and paths put in their place by a declared list, run by
//! a real controller as `failover run` does.
//!
//! Durations are shortened by the same list. A faster clock would not do: name servers refuse updates that are signed
//! in the future, X refuses such posts, and PostgreSQL counts the age of what it heard by a clock of its own.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use failover::{
    announce::ledger::SqliteLedger,
    decide::{
        core::Core,
        event::{Command, Reply},
        explain::{self, Report},
    },
    driver::{
        clock::HostRuntime,
        controller::{Controller, Ends, Means},
        metrics::Metrics,
        registry,
    },
    journal::sqlite::SqliteJournal,
    model::{
        id::{Seq, ServiceName},
        record::{Record, RecordBody},
        secret::{Secret, SecretRef},
        service::Service,
        step::StepResult,
        time::Time,
    },
    port::{
        journal::Journal as _,
        runtime::{Runtime, SharedRuntime},
        secret::{SecretError, Secrets},
    },
    publish::listener::Pages,
    spec::{self, Loaded},
};
use futures::{StreamExt as _, future::BoxFuture};
use tempfile::TempDir;
use tokio::task::AbortHandle;

/// How long anything may take on a machine that does ten things at once.
const LONG: Duration = Duration::from_mins(1);

/// A copy of an example's folder, and a place for programs and lists.
pub struct Script {
    folder: TempDir,
}

impl Script {
    /// The documents of `examples/<story>`. Every replacement must find what it replaces.
    pub fn of(story: &str, replacements: &[(&str, &str)]) -> Self {
        let folder = TempDir::with_prefix("failover-story-").unwrap();
        // A mail server or a database may be another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let documents = folder.path().join("documents");
        fs::create_dir(&documents).unwrap();
        let home = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(story);
        let mut found = vec![false; replacements.len()];
        let place = folder.path().display().to_string();
        for entry in fs::read_dir(home).unwrap() {
            let path = entry.unwrap().path();
            let mut text = fs::read_to_string(&path).unwrap();
            for ((from, to), found) in replacements.iter().zip(&mut found) {
                *found |= text.contains(from);
                text = text.replace(from, &to.replace("FOLDER", &place));
            }
            fs::write(documents.join(path.file_name().unwrap()), text).unwrap();
        }
        for ((from, _), found) in replacements.iter().zip(found) {
            assert!(found, "the documents of {story} do not hold {from:?}");
        }
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, such as a list of customers.
    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes a shell program, in which `FOLDER` is this folder; every call of it goes to `calls`, one a line.
    pub fn program(&self, name: &str, body: &str) {
        let body = body.replace("FOLDER", &self.folder.path().display().to_string());
        let calls = self.path("calls");
        let text = format!(
            "#!/bin/sh\necho \"{name} $*\" >> {}\n{body}\n",
            calls.display()
        );
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The calls of programs that did something, in order.
    pub fn deeds(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let looks = |call: &&str| call.contains(" is-") || call.contains(" has-");
        let deeds = calls.lines().filter(|call| !looks(call));
        deeds.map(str::to_owned).collect()
    }

    pub fn load(&self) -> Loaded {
        spec::load(&[self.path("documents")], registry::kinds())
    }

    fn service(&self) -> Service {
        let loaded = self.load();
        assert!(loaded.is_usable(), "{:#?}", loaded.diagnostics);
        let [service] = <[Service; 1]>::try_from(loaded.services).unwrap();
        service
    }
}

/// A running controller on such documents.
pub struct Rehearsal {
    pub script: Script,
    pub service: ServiceName,
    controller: Arc<Controller>,
    ends: Ends,
    tasks: Arc<Tasks>,
    journal: Arc<SqliteJournal>,
    keys: Keys,
}

/// The host's time, and tasks that end when the rehearsal does.
#[derive(Default)]
struct Tasks {
    host: HostRuntime,
    running: Mutex<Vec<AbortHandle>>,
}

impl Runtime for Tasks {
    fn now(&self) -> Time {
        self.host.now()
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        self.host.sleep_until(at)
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        let mut running = self.running.lock().unwrap();
        running.retain(|task| !task.is_finished());
        running.push(tokio::spawn(task).abort_handle());
    }
}

impl Tasks {
    fn end(&self) {
        for task in self.running.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

/// Secrets by the names that documents give them.
#[derive(Clone)]
pub struct Keys(BTreeMap<String, String>);

impl Keys {
    pub fn new(keys: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(keys.iter().map(owned).collect())
    }
}

impl Secrets for Keys {
    fn read(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        let name = match at {
            SecretRef::Env(name) => name.clone(),
            SecretRef::File(path) => path.clone(),
            SecretRef::SecretRef(key) => key.name.clone(),
        };
        let value = self.0.get(&name).cloned();
        value.map(Secret::new).ok_or(SecretError::Env(name))
    }
}

impl Rehearsal {
    pub async fn start(script: Script, keys: Keys) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let service = script.service();
        let name = service.name.clone();
        let tasks = Arc::new(Tasks::default());
        fs::create_dir(script.path("state")).unwrap();
        let journal = SqliteJournal::open(&script.path("state/journal.sqlite")).unwrap();
        let journal = Arc::new(journal);
        let (controller, ends) = begin(&script, service, &keys, &tasks, &journal).await;
        Self {
            script,
            service: name,
            controller,
            ends,
            tasks,
            journal,
            keys,
        }
    }

    /// Stops it cleanly, and starts another on the same journal after this time.
    pub async fn restart(&mut self, after: Duration) {
        self.controller.stop();
        let (_, end) = self.ends.next().await.unwrap();
        end.unwrap();
        self.tasks.end();
        tokio::time::sleep(after).await;
        let (controller, ends) = begin(
            &self.script,
            self.script.service(),
            &self.keys,
            &self.tasks,
            &self.journal,
        )
        .await;
        self.controller = controller;
        self.ends = ends;
    }

    pub async fn core(&self) -> Box<Core> {
        self.controller.show(&self.service).await.unwrap()
    }

    pub async fn explain(&self) -> Report {
        explain::report(&*self.core().await, self.tasks.now())
    }

    /// Gives a command that must be taken.
    pub async fn command(&self, command: Command) -> String {
        match self
            .controller
            .command(&self.service, command)
            .await
            .unwrap()
        {
            Reply::Ok(text) => text,
            Reply::Refused(refusal) => panic!("{refusal}"),
        }
    }

    /// Waits until that is so of where the service stands.
    pub async fn until(&self, what: &str, so: impl Fn(&Core) -> bool) -> Box<Core> {
        let end = Instant::now() + LONG;
        loop {
            let core = self.core().await;
            if so(&core) {
                return core;
            }
            if Instant::now() > end {
                let report = explain::report(&core, self.tasks.now());
                panic!(
                    "waited in vain until {what}: {report:#?}\n{:#?}",
                    core.state().check
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for the green check that `automatic` is earned by.
    pub async fn green(&self) {
        let core = self
            .until("readiness was checked", |c| c.state().check.is_some())
            .await;
        let check = core.state().check.clone().unwrap();
        assert!(check.green, "{:#?}", check.problems);
    }

    /// The journal as it stands.
    pub async fn records(&self) -> Vec<Record> {
        self.journal.read(&self.service, Seq(1)).await.unwrap()
    }

    /// The kinds of the records, in order.
    pub async fn kinds(&self) -> Vec<String> {
        let records = self.records().await;
        records.iter().map(|r| r.body.kind().to_owned()).collect()
    }

    /// The steps that were done, in the order in which they ended.
    pub async fn done(&self) -> Vec<String> {
        let records = self.records().await;
        records
            .iter()
            .filter_map(|r| {
                let RecordBody::StepOutcome {
                    step,
                    result: StepResult::Done(_),
                    ..
                } = &r.body
                else {
                    return None;
                };
                Some(step.to_string())
            })
            .collect()
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        self.tasks.end();
        // What is written just now may stand in the way of taking the folder away.
        let end = Instant::now() + Duration::from_secs(5);
        let folder = self.script.folder.path();
        while fs::remove_dir_all(folder).is_err() && folder.exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

async fn begin(
    script: &Script,
    service: Service,
    keys: &Keys,
    tasks: &Arc<Tasks>,
    journal: &Arc<SqliteJournal>,
) -> (Arc<Controller>, Ends) {
    let state = script.path("state");
    let runtime: SharedRuntime = tasks.clone();
    let means = Means {
        kinds: registry::kinds(),
        journal: journal.clone(),
        leader: None,
        copy: None,
        ledger: Arc::new(SqliteLedger::open(&state.join("ledger.sqlite")).unwrap()),
        runtime: runtime.clone(),
        secrets: Arc::new(keys.clone()),
        state,
        metrics: Arc::new(Metrics::new(runtime.clone(), "0")),
        guards: None,
        pages: Pages::default(),
        upkeep: true,
    };
    Controller::start(vec![service], means).await.unwrap()
}
