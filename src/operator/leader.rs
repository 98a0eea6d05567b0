//! The replica that leads: what is seen of the resources becomes services, requests become commands, and what the services
//! come to is written back.

mod approvals;
mod documents;
mod groups;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt,
    channel::mpsc,
    stream::{BoxStream, SelectAll},
};
use kube::{
    Resource as _, ResourceExt as _,
    api::DynamicObject,
    runtime::{
        events::{Recorder, Reporter},
        watcher::Event,
    },
};
use serde_json::{Value, json};
use tokio::time;

use super::{
    approval::Answered,
    cluster::{Cluster, Watched, Written},
    document::{DocumentKind, Documents, Key, Remarks},
    event,
    request::{Asked, Request},
    resource::{Condition, DocumentStatus, FailoverRunStatus, Progress, ServiceStatus},
    revision::Revisions,
    secret::ClusterSecrets,
    standing::{self, Claim},
};
use crate::{
    decide::{
        core::Core,
        event::{Command, Reply},
    },
    driver::{
        engine::{Engine, EngineError},
        service::LoopError,
    },
    journal::kubernetes::KubernetesJournal,
    model::{
        id::{Seq, ServiceName},
        record::{Record, RecordBody},
        span::Span,
        time::Time,
    },
    port::{cause, journal::Journal as _, runtime::SharedRuntime},
};

/// Keeps a service from going while a run is open: it would be left midway.
const FINALIZER: &str = "failover.rs/run";
/// Several changes are taken together when they come within this.
const STILL: Span = Span::from_millis(200);
/// What could not be written is tried again after this, and each further time after twice the wait.
const AGAIN: Span = Span::from_secs(2);
/// The longest wait before a service that could not be set up is tried again; the first is [`AGAIN`].
const LONGEST_WAIT: Span = Span::from_secs(60);
/// A loop that has not answered after this waits for its journal.
const ANSWER: Duration = Duration::from_secs(1);
/// What changes without a record, such as a lag, is looked at so often.
const LOOK: Span = Span::from_secs(30);

/// Why a leader stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// A service's loop ended.
    #[error("the loop of {service} ended")]
    Loop {
        /// The service.
        service: ServiceName,
        /// The cause.
        #[source]
        source: LoopError,
    },
    /// What waited for the documents cannot begin.
    #[error(transparent)]
    Opening(EngineError),
}

/// What is done once the documents are in force: until then everybody's token is nobody's.
pub type Opening = Box<dyn FnOnce(&mut Engine) -> Result<(), EngineError> + Send>;

/// What a leader works with.
pub struct Means {
    /// The resources.
    pub cluster: Cluster,
    /// The controller, without a service yet.
    pub engine: Engine,
    /// What waits for its documents; none once it has begun.
    pub opening: Option<Opening>,
    /// Its journal, in which requests are looked for.
    pub journal: Arc<KubernetesJournal>,
    /// Its secrets.
    pub secrets: Arc<ClusterSecrets>,
    /// Time.
    pub runtime: SharedRuntime,
    /// What this replica is called.
    pub identity: String,
    /// Whether it takes approvals by kubectl: something else must see to it that each is signed by who made it.
    pub approvals: bool,
}

/// The replica that leads.
pub struct Leader {
    means: Means,
    documents: Documents,
    /// Names that were listed since a list began.
    listed: BTreeMap<Watched, BTreeSet<String>>,
    /// Kinds that were listed whole.
    whole: BTreeSet<Watched>,
    remarks: BTreeMap<Key, Remarks>,
    troubles: BTreeMap<ServiceName, String>,
    /// Documents of services that were last in force.
    revisions: Revisions,
    /// Services whose documents of now are in force, with these.
    in_force: BTreeMap<ServiceName, Vec<String>>,
    /// Services that nobody protects.
    unprotected: BTreeSet<ServiceName>,
    /// What services were told of their documents.
    told: BTreeMap<ServiceName, Option<String>>,
    requests: BTreeMap<String, Asked>,
    followed: BTreeSet<ServiceName>,
    records: SelectAll<BoxStream<'static, Record>>,
    approvals: BTreeMap<String, Answered>,
    answers: mpsc::UnboundedSender<Said>,
    /// Documents have changed.
    changed: bool,
    /// Services whose status may be another one.
    stale: BTreeSet<ServiceName>,
    /// When to settle all that.
    due: Option<Time>,
    /// When to try services again that could not be set up, and the wait until then: what was missing may come without any
    /// document's changing.
    retry: Option<(Time, Span)>,
    /// The wait before what could not be written is tried again.
    again: Span,
    recorder: Recorder,
}

/// What a service's loop said of itself.
enum Shown {
    Core(Box<Core>),
    Absent,
    Busy,
}

/// What a loop said to the command of a resource.
pub struct Said {
    of: Watched,
    name: String,
    /// The object of that name that gave it: another one may have its name by now.
    uid: Option<String>,
    answer: Result<Reply, String>,
}
type Answers = mpsc::UnboundedReceiver<Said>;

impl Leader {
    /// A leader that has seen nothing yet.
    #[must_use]
    pub fn new(means: Means) -> (Self, Answers) {
        let (answers, answered) = mpsc::unbounded();
        let reporter = Reporter {
            controller: "failover".to_owned(),
            instance: Some(means.identity.clone()),
        };
        let recorder = Recorder::new(means.cluster.client(), reporter);
        let leader = Self {
            revisions: Revisions::new(means.cluster.client(), means.cluster.namespace()),
            in_force: BTreeMap::new(),
            unprotected: BTreeSet::new(),
            told: BTreeMap::new(),
            means,
            documents: Documents::default(),
            listed: BTreeMap::new(),
            whole: BTreeSet::new(),
            remarks: BTreeMap::new(),
            troubles: BTreeMap::new(),
            requests: BTreeMap::new(),
            approvals: BTreeMap::new(),
            followed: BTreeSet::new(),
            records: SelectAll::new(),
            answers,
            changed: true,
            stale: BTreeSet::new(),
            due: None,
            retry: None,
            again: AGAIN,
            recorder,
        };
        (leader, answered)
    }

    /// Leads until `stop` ends, which it gives back.
    ///
    /// # Errors
    /// Where a service's loop ends by itself: another leader writes to its chain, or failover is at fault. Where what
    /// waited for the documents cannot begin.
    pub async fn lead<T>(
        &mut self,
        mut answered: Answers,
        stop: impl Future<Output = T>,
    ) -> Result<T, LeaderError> {
        let mut seen = self.means.cluster.watch();
        let mut stop = Box::pin(stop);
        loop {
            let runtime = self.means.runtime.clone();
            let wake = self.due.unwrap_or_else(|| runtime.now().after(LOOK));
            let wake = self.retry.map_or(wake, |(at, _)| wake.min(at));
            tokio::select! {
                biased;
                end = &mut stop => return Ok(end),
                Some((service, end)) = self.means.engine.ends.next() => {
                    if let Err(source) = end {
                        return Err(LeaderError::Loop { service, source });
                    }
                    self.look_again(service);
                }
                Some((watched, event)) = seen.next() => self.see(watched, event),
                Some(said) = answered.next() => self.answered(said),
                Some(record) = self.records.next(), if !self.records.is_empty() => self.recorded(&record),
                () = runtime.sleep_until(wake) => {
                    // Whoever leads no longer waits for nobody's answer.
                    tokio::select! {
                        biased;
                        end = &mut stop => return Ok(end),
                        settled = self.settle() => settled?,
                    }
                }
            }
        }
    }

    /// Stops the controller; its loops end after what they are recording.
    pub async fn stop(self) {
        self.means.engine.stop().await;
    }

    fn soon(&mut self) {
        let due = self.means.runtime.now().after(STILL);
        self.due = Some(self.due.map_or(due, |later| later.min(due)));
    }

    fn look_again(&mut self, service: ServiceName) {
        self.stale.insert(service);
        self.soon();
    }

    fn see(&mut self, watched: Watched, event: Event<DynamicObject>) {
        match event {
            Event::Init => drop(self.listed.insert(watched, BTreeSet::new())),
            Event::InitApply(object) => {
                self.listed
                    .entry(watched)
                    .or_default()
                    .insert(object.name_any());
                self.put(watched, object);
            }
            Event::InitDone => {
                let names = self.listed.remove(&watched).unwrap_or_default();
                match watched {
                    Watched::Document(kind) => self.changed |= self.documents.keep(kind, &names),
                    Watched::Run => self.requests.retain(|name, _| names.contains(name)),
                    Watched::Approval => self.approvals.retain(|name, _| names.contains(name)),
                }
                self.whole.insert(watched);
            }
            Event::Apply(object) => self.put(watched, object),
            Event::Delete(object) => match watched {
                Watched::Document(kind) => {
                    let name = object.name_any();
                    self.changed |= self.documents.remove(&Key { kind, name });
                }
                Watched::Run => drop(self.requests.remove(&object.name_any())),
                Watched::Approval => drop(self.approvals.remove(&object.name_any())),
            },
        }
        self.soon();
    }

    fn put(&mut self, watched: Watched, object: DynamicObject) {
        let name = object.name_any();
        match watched {
            Watched::Document(kind) => {
                if kind == DocumentKind::Service {
                    self.stale.insert(name.as_str().into());
                }
                self.changed |= self.documents.put(Key { kind, name }, object);
            }
            Watched::Run => {
                let request = Request::of(&object);
                match self.requests.get_mut(&name) {
                    Some(asked) if asked.request.uid == request.uid => asked.see(object),
                    Some(_) | None => drop(self.requests.insert(name, Asked::new(object))),
                }
            }
            Watched::Approval => match self.approvals.get_mut(&name) {
                Some(answered) => answered.see(object),
                None => drop(self.approvals.insert(name, Answered::new(object))),
            },
        }
    }

    fn recorded(&mut self, record: &Record) {
        for asked in self.requests.values_mut() {
            asked.follow(record);
        }
        // A service that is to go waits for this.
        if matches!(
            record.body,
            RecordBody::RunClosed { .. } | RecordBody::DrillClosed { .. }
        ) {
            self.changed = true;
        }
        self.tell(record);
        self.look_again(record.chain.clone());
    }

    /// Beside the loop: nobody waits for an Event.
    fn tell(&self, record: &Record) {
        if let Some(event) = event::of(record) {
            self.publish(&record.chain, event);
        }
    }

    fn publish(&self, service: &ServiceName, event: kube::runtime::events::Event) {
        let Some(held) = self.documents.get(&Key::of_service(service)) else {
            return;
        };
        let about = held
            .object
            .object_ref(&super::cluster::resource(Watched::Document(
                DocumentKind::Service,
            )));
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            if let Err(error) = recorder.publish(&event, &about).await {
                tracing::debug!(error = %cause::in_full(&error), "an Event could not be written");
            }
        });
    }

    fn answered(&mut self, said: Said) {
        match said.of {
            Watched::Approval => {
                if let Some(answered) = self.approvals.get_mut(&said.name) {
                    answered.take(&said.name, said.uid.as_deref(), said.answer);
                }
            }
            Watched::Run | Watched::Document(_) => self.run_answered(said),
        }
        self.soon();
    }

    fn run_answered(&mut self, said: Said) {
        let name = said.name.as_str();
        let Some(asked) = self.requests.get_mut(name) else {
            return;
        };
        if asked.object.uid() != said.uid {
            return;
        }
        match said.answer {
            Ok(Reply::Ok(said)) => tracing::info!(run = name, said, "taken"),
            Ok(Reply::Refused(refusal)) => asked.refused = Some(refusal.to_string()),
            // Nothing was recorded: it is tried again.
            Err(error) => {
                tracing::warn!(run = name, error, "the command could not be given");
                asked.is_given = false;
            }
        }
    }

    /// Everything that is due.
    async fn settle(&mut self) -> Result<(), LeaderError> {
        self.due = None;
        // Nothing waits for approvals: a cluster may not have their definition yet.
        let mut needed = DocumentKind::ALL.map(Watched::Document).into_iter();
        let has_all = needed.all(|kind| self.whole.contains(&kind));
        if !has_all || !self.whole.contains(&Watched::Run) {
            return Ok(());
        }
        let now = self.means.runtime.now();
        if std::mem::take(&mut self.changed) || self.retry.is_some_and(|(at, _)| at <= now) {
            self.load().await;
            self.plan_retry();
            self.open()?;
        } else if self.stale.is_empty() {
            // Every chain was read long since that anybody reads at the start.
            self.means.journal.clear_stock();
            // What changes without a record: a certificate of the listeners, too.
            self.means.engine.renew_certificate();
            self.stale.extend(self.followed.iter().cloned());
        }
        let mut works = self.keep_services().await;
        works &= self.keep_revisions().await;
        works &= self.write_documents().await;
        works &= self.write_services().await;
        works &= self.write_requests().await;
        works &= self.write_approvals().await;
        self.again = if works {
            AGAIN
        } else {
            self.due = Some(self.means.runtime.now().after(self.again));
            self.again.saturating_mul(2).min(LONGEST_WAIT)
        };
        Ok(())
    }

    /// Begins what waited for the documents.
    fn open(&mut self) -> Result<(), LeaderError> {
        let Some(opening) = self.means.opening.take() else {
            return Ok(());
        };
        opening(&mut self.means.engine).map_err(LeaderError::Opening)?;
        if let Some(url) = &self.means.engine.desk {
            tracing::info!("the desk is at {url}/");
        }
        Ok(())
    }

    /// Where a service stands. A loop that waits for its journal is not waited for.
    async fn show(&self, service: &ServiceName) -> Shown {
        let shown = self.means.engine.controller.show(service);
        match time::timeout(ANSWER, shown).await {
            Ok(Ok(core)) => Shown::Core(core),
            Ok(Err(_)) => Shown::Absent,
            Err(_) => Shown::Busy,
        }
    }

    /// Writes what there is to say of runbooks and policies. Whether all could be written.
    async fn write_documents(&mut self) -> bool {
        let now = self.means.runtime.now();
        let wanted: Vec<_> = self
            .documents
            .all()
            .filter(|(key, _)| key.kind != DocumentKind::Service)
            .map(|(key, held)| {
                let remarks = self.remarks.get(key).cloned().unwrap_or_default();
                let claims = vec![standing::valid(&remarks, None, false)];
                let generation = held.generation();
                let status = DocumentStatus {
                    observed_generation: generation,
                    conditions: standing::conditions(
                        claims,
                        &before(held.status()),
                        generation,
                        now,
                    ),
                };
                (key.clone(), json!(status))
            })
            .collect();
        let mut works = true;
        for (key, status) in wanted {
            works &= self.write(key, &status).await;
        }
        works
    }

    /// Writes the statuses of services that may be other ones. Whether all could be written.
    async fn write_services(&mut self) -> bool {
        let mut works = true;
        for name in std::mem::take(&mut self.stale) {
            let key = Key::of_service(&name);
            let Some(held) = self.documents.get(&key) else {
                continue;
            };
            let now = self.means.runtime.now();
            let generation = held.generation();
            let core = match self.show(&name).await {
                Shown::Core(core) => Some(core),
                Shown::Absent => None,
                Shown::Busy => {
                    self.stale.insert(name);
                    works = false;
                    continue;
                }
            };
            let remarks = self.remarks.get(&key).cloned().unwrap_or_default();
            let trouble = self.troubles.get(&name).cloned();
            let trouble =
                trouble.or_else(|| (!self.in_force.contains_key(&name)).then(|| unused(&remarks)));
            let valid = standing::valid(&remarks, trouble.as_deref(), core.is_some());
            let (mut status, claims) = core.as_ref().map_or_else(
                || {
                    let why = "it is not protected: see the condition Valid";
                    let ready = Claim::new("Ready", false, "NotProtected", why);
                    (ServiceStatus::default(), vec![ready])
                },
                |core| standing::status(core, now),
            );
            let claims = [valid].into_iter().chain(claims).collect();
            status.observed_generation = generation;
            status.conditions =
                standing::conditions(claims, &before(held.status()), generation, now);
            if !self.write(key, &json!(status)).await {
                self.stale.insert(name);
                works = false;
            }
        }
        works
    }

    async fn write(&mut self, key: Key, status: &Value) -> bool {
        let Some(held) = self.documents.get(&key) else {
            return true;
        };
        let kind = Watched::Document(key.kind);
        let cluster = &self.means.cluster;
        match cluster.write_status(kind, &held.object, status).await {
            Written::Done(object) => {
                self.changed |= self.documents.put(key, *object);
                true
            }
            Written::Same | Written::Overtaken => true,
            Written::Later => false,
        }
    }

    /// Gives commands that were asked for, and writes what became of them. Whether all could be written.
    async fn write_requests(&mut self) -> bool {
        let open: Vec<String> = self
            .requests
            .iter()
            .filter(|(_, asked)| !asked.request.is_over())
            .map(|(name, _)| name.clone())
            .collect();
        let mut works = true;
        for name in open {
            let status = self.advance(&name).await;
            let Some(asked) = self.requests.get_mut(&name) else {
                continue;
            };
            let Some(mut status) = status else {
                works = false;
                continue;
            };
            status.observed_generation = asked.request.generation;
            let claims = outcome(&status);
            let now = self.means.runtime.now();
            let before = before(&asked.request.status);
            status.conditions =
                standing::conditions(claims, &before, asked.request.generation, now);
            let cluster = &self.means.cluster;
            let status = json!(status);
            match cluster
                .write_status(Watched::Run, &asked.object, &status)
                .await
            {
                Written::Done(object) => asked.see(*object),
                Written::Same | Written::Overtaken => {}
                Written::Later => works = false,
            }
        }
        works
    }

    /// Where a request stands, once it was given what it needs to go on; none where that cannot be told now.
    async fn advance(&mut self, name: &str) -> Option<FailoverRunStatus> {
        let asked = self.requests.get(name)?;
        let at = |progress, message: String| {
            Some(FailoverRunStatus {
                progress,
                message,
                ..FailoverRunStatus::default()
            })
        };
        let spec = match &asked.request.asked {
            Ok(spec) => spec.clone(),
            Err(error) => return at(Progress::Refused, error.clone()),
        };
        if let Some(refused) = &asked.refused {
            return at(Progress::Refused, refused.clone());
        }
        let service = ServiceName::from(spec.service.as_str());
        let core = match self.show(&service).await {
            Shown::Core(core) => Some(core),
            Shown::Absent => None,
            Shown::Busy => return None,
        };
        let asked = self.requests.get_mut(name)?;
        if !asked.is_read() {
            match self.means.journal.read(&service, Seq(1)).await {
                Ok(records) => asked.read(&records),
                Err(error) => {
                    tracing::warn!(run = name, error = %cause::in_full(&error), "the journal cannot be read; trying again");
                    return None;
                }
            }
        }
        if !asked.trace.is_begun() && !asked.is_given {
            if core.is_none() {
                let message = format!("no service {service} is protected here");
                return at(Progress::Waiting, message);
            }
            asked.is_given = true;
            let command = asked.request.command(&spec);
            let uid = asked.object.uid();
            self.command(Watched::Run, name, uid, service, command);
        }
        let asked = self.requests.get(name)?;
        Some(
            asked
                .trace
                .status(asked.request.generation, core.as_deref()),
        )
    }

    /// Gives a command that an object asks for; its reply comes as [`Said`].
    fn command(
        &self,
        of: Watched,
        name: &str,
        uid: Option<String>,
        service: ServiceName,
        command: Command,
    ) {
        let controller = self.means.engine.controller.clone();
        let answers = self.answers.clone();
        let name = name.to_owned();
        tokio::spawn(async move {
            let answer = controller.command(&service, command).await;
            let answer = answer.map_err(|e| cause::in_full(&e));
            drop(answers.unbounded_send(Said {
                of,
                name,
                uid,
                answer,
            }));
        });
    }
}

/// Why a service that nothing is wrong with does not run: something that it names is at fault.
fn unused(remarks: &Remarks) -> String {
    if remarks.errors.is_empty() {
        "its runbook or its backup policy cannot be used: see their condition Valid".to_owned()
    } else {
        String::new()
    }
}

fn before(status: &Value) -> Vec<Condition> {
    let conditions = status.get("conditions").cloned().unwrap_or_default();
    serde_json::from_value(conditions).unwrap_or_default()
}

/// The conditions of a request.
fn outcome(status: &FailoverRunStatus) -> Vec<Claim> {
    let reason = match status.progress {
        Progress::Waiting => "Waiting",
        Progress::Asking => "Asking",
        Progress::Running => "Running",
        Progress::Done => "Done",
        Progress::Unwound => "Unwound",
        Progress::Stuck => "Stuck",
        Progress::Aborted => "Aborted",
        Progress::Refused => "Refused",
    };
    let is_over = status.progress.is_over();
    let mut claims = vec![Claim::new("Complete", is_over, reason, &status.message)];
    if is_over {
        let is_done = status.progress == Progress::Done;
        claims.push(Claim::new("Succeeded", is_done, reason, &status.message));
    }
    claims
}
