//! Many services in one process: each has its loop; journal, ledger, status page and figures are shared.

mod groups;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use futures::{
    FutureExt, StreamExt,
    channel::{mpsc, oneshot},
    future::BoxFuture,
    select_biased,
};

use super::{
    backups,
    drills::Sweep,
    fitting::{Fitting, FittingError},
    group::Board,
    guards::{Post, Ward},
    metrics::Metrics,
    perform::{Performer, Underway},
    publisher::{self, Publisher, Slot},
    readiness::{self, Found, Scene},
    service::{Input, Leader, LoopError, Parts, Reloaded, ServiceLoop},
    ttl, vantage,
    watch::{self, LookoutError, Lookouts, Watch},
};
use crate::{
    decide::{
        core::Core,
        event::{Command, Event, Reply, Trouble},
        readiness as earned,
    },
    journal::{copy::Copy, succession::Succession},
    model::{
        check::CheckItem,
        id::{ChannelName, RunId, Seq, ServiceName, SiteName},
        record::Record,
        service::{Mode, Service},
        span::Span,
    },
    port::{
        cause, channel::SharedChannel, guard::SharedGuards, journal::SharedJournal, kind::Kinds,
        ledger::SharedLedger, runtime::SharedRuntime, secret::SharedSecrets, target::SharedTarget,
        upkeep::upkeep,
    },
    publish::listener::Pages,
};

/// Whether readiness is to be checked again is asked so often.
const ASK_EVERY: Span = Span::from_secs(15);
/// The first check waits until probes have looked.
const FIRST_CHECK: Span = Span::from_secs(5);
/// A loop that has not answered after this waits for its journal.
const ANSWER: Span = Span::from_secs(5);
/// Addresses of those who were told are kept for so long, for questions about an incident.
const KEEP_ADDRESSES: Span = Span::from_secs(30 * 86_400);

/// What a controller works with.
#[derive(Clone)]
pub struct Means {
    /// The kinds that documents may name.
    pub kinds: Kinds,
    /// The journal.
    pub journal: SharedJournal,
    /// The copy that follows it, where there is one.
    pub copy: Option<Arc<Copy>>,
    /// Who was told what.
    pub ledger: SharedLedger,
    /// Time and tasks.
    pub runtime: SharedRuntime,
    /// Where secrets come from.
    pub secrets: SharedSecrets,
    /// A folder for what adapters keep.
    pub state: PathBuf,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Where guards ask for leases, where this process listens for them.
    pub guards: Option<Arc<Post>>,
    /// The built-in listener's pages.
    pub pages: Pages,
    /// How this process came to lead, where it was elected.
    pub leader: Option<Leader>,
    /// Whether checks and TTLs are looked after in the background.
    pub upkeep: bool,
}

/// Why a controller cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A service cannot be fitted out.
    #[error("service {service} cannot be set up")]
    Fitting {
        /// The service.
        service: ServiceName,
        /// The cause.
        #[source]
        source: FittingError,
    },
    /// A probe cannot be made.
    #[error("service {service} cannot be watched")]
    Lookouts {
        /// The service.
        service: ServiceName,
        /// The cause.
        #[source]
        source: LookoutError,
    },
    /// An open run needs a site that the documents no longer have.
    #[error(
        "run {run} of {service} needs site {site}, which is not in the documents any more: put it back until the run has ended"
    )]
    SiteOfRun {
        /// The service.
        service: ServiceName,
        /// The run.
        run: RunId,
        /// The site.
        site: SiteName,
    },
    /// Its chain cannot be used.
    #[error(transparent)]
    Loop(LoopError),
}

impl StartError {
    /// The service that it is about.
    #[must_use]
    pub fn service(&self) -> Option<ServiceName> {
        match self {
            Self::Fitting { service, .. }
            | Self::Lookouts { service, .. }
            | Self::SiteOfRun { service, .. } => Some(service.clone()),
            Self::Loop(
                LoopError::Replay { service, .. }
                | LoopError::Panicked { service }
                | LoopError::Deposed { service, .. },
            ) => Some(service.as_str().into()),
            Self::Loop(LoopError::TakenOver(_)) => None,
        }
    }
}

/// Why a command could not be given.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such service.
    #[error("no service {0} runs here")]
    NoService(ServiceName),
    /// The loop has ended.
    #[error("the loop of {0} has ended: look at the controller's log")]
    Ended(ServiceName),
    /// The journal cannot be read.
    #[error("the journal cannot be read: {0}")]
    Unread(String),
    /// The journal cannot be written.
    #[error("nothing was done, since the journal cannot be written: {0}")]
    Journal(String),
}

/// A running controller.
pub struct Controller {
    means: Means,
    running: Mutex<BTreeMap<ServiceName, Running>>,
    slot: Slot,
    targets: Arc<Mutex<BTreeMap<ServiceName, Vec<SharedTarget>>>>,
    observers: Arc<vantage::Desk>,
    board: Board,
    ended: mpsc::UnboundedSender<(ServiceName, Result<(), LoopError>)>,
}

#[derive(Clone)]
struct Running {
    service: Arc<Service>,
    inbox: mpsc::UnboundedSender<Input>,
    fitted: Arc<Fitted>,
}

/// A service with its adapters.
struct Fitted {
    fitting: Fitting,
    ward: Option<Arc<Ward>>,
    lookouts: Arc<Lookouts>,
    customers: Arc<BTreeMap<ChannelName, SharedChannel>>,
    team: Arc<BTreeMap<ChannelName, SharedChannel>>,
    targets: Vec<SharedTarget>,
}

/// How the loops ended, as they do.
pub type Ends = mpsc::UnboundedReceiver<(ServiceName, Result<(), LoopError>)>;

impl Controller {
    /// Begins to protect services: replays their chains and starts their loops.
    ///
    /// # Errors
    /// Where one of them cannot be set up; none is then running.
    pub async fn start(
        services: Vec<Service>,
        means: Means,
    ) -> Result<(Arc<Self>, Ends), StartError> {
        let (slot, rung) = publisher::slot();
        let (ended, ends) = mpsc::unbounded();
        let targets = Arc::new(Mutex::new(BTreeMap::new()));
        let controller = Arc::new(Self {
            means: means.clone(),
            running: Mutex::default(),
            slot: slot.clone(),
            targets: targets.clone(),
            observers: Arc::new(vantage::Desk::new(
                means.secrets.clone(),
                means.runtime.clone(),
                means.metrics.clone(),
            )),
            board: Board::default(),
            ended,
        });
        let mut ready = Vec::new();
        controller.keep_groups(&services).await?;
        for service in services {
            ready.push(controller.prepare(Arc::new(service)).await?);
        }
        for (service, inbox, task) in ready {
            controller.begin(service, inbox, task);
        }
        let publisher = Publisher {
            slot,
            rung,
            targets,
            pages: means.pages.clone(),
            runtime: means.runtime.clone(),
            metrics: means.metrics.clone(),
            tenure: means.leader.as_ref().map(|l| l.tenure.clone()),
        };
        means.runtime.spawn("publish", Box::pin(publisher.run()));
        Ok((controller, ends))
    }

    async fn prepare(
        self: &Arc<Self>,
        service: Arc<Service>,
    ) -> Result<(Arc<Fitted>, mpsc::UnboundedSender<Input>, ServiceLoop), StartError> {
        let fitted = Arc::new(self.fit(&service)?);
        let (inbox, received) = mpsc::unbounded();
        let parts = Parts {
            service: service.clone(),
            journal: self.means.journal.clone(),
            runtime: self.means.runtime.clone(),
            performer: self.performer(&fitted, inbox.clone()),
            ward: fitted.ward.clone(),
            metrics: self.means.metrics.clone(),
            inbox: received,
            observations: self.watch(&service, &fitted),
            shown: self.slot.clone(),
            leader: self.means.leader.clone(),
            board: self.board.clone(),
            version: env!("CARGO_PKG_VERSION"),
        };
        let looping = ServiceLoop::new(parts).await.map_err(StartError::Loop)?;
        if self.means.upkeep
            && let Some(sweep) = Sweep::of(looping.core())
        {
            let sweep = sweep.run(SystemTime::now());
            self.means.runtime.spawn("sweep", Box::pin(sweep));
        }
        Ok((fitted, inbox, looping))
    }

    fn begin(
        self: &Arc<Self>,
        fitted: Arc<Fitted>,
        inbox: mpsc::UnboundedSender<Input>,
        looping: ServiceLoop,
    ) {
        let service = fitted.fitting.wiring().service.clone();
        let name = service.name.clone();
        self.connect_guards(&service);
        self.targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone(), fitted.targets.clone());
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(
                name.clone(),
                Running {
                    service,
                    inbox,
                    fitted,
                },
            );
        let ended = self.ended.clone();
        let controller = Arc::downgrade(self);
        let loop_name = name.clone();
        let task: BoxFuture<'static, ()> = Box::pin(async move {
            let end = AssertUnwindSafe(Box::pin(looping.run()))
                .catch_unwind()
                .await;
            if let Some(controller) = controller.upgrade() {
                controller.forget_retired(&loop_name);
            }
            let end = end.unwrap_or_else(|_| {
                let service = loop_name.to_string();
                Err(LoopError::Panicked { service })
            });
            drop(ended.unbounded_send((loop_name, end)));
        });
        self.means.runtime.spawn("service", task);
        let (this, runtime) = (Arc::downgrade(self), self.means.runtime.clone());
        self.upkeep(backups::keep(this.clone(), runtime.clone(), name.clone()));
        self.upkeep(backups::keep_trying(
            this.clone(),
            runtime.clone(),
            name.clone(),
        ));
        self.upkeep(backups::taking::keep_taking(this, runtime, name.clone()));
        self.keep_up(name);
    }

    /// Looks after a service for as long as it runs here.
    fn keep_up(self: &Arc<Self>, service: ServiceName) {
        let (controller, runtime) = (Arc::downgrade(self), self.means.runtime.clone());
        let (observers, this) = (self.observers.clone(), controller.clone());
        self.upkeep(async move {
            observers.assembled(&service).await;
            let (mut last, mut count) = (runtime.now(), 0);
            let mut is_due = true;
            while let Some(controller) = controller.upgrade() {
                if is_due {
                    (last, count) = (runtime.now(), count + 1);
                    if !controller.is_looked_after(&service).await {
                        return;
                    }
                }
                drop(controller);
                runtime.sleep_until(runtime.now().after(ASK_EVERY)).await;
                is_due = match this.upgrade() {
                    Some(controller) => match controller.show(&service).await {
                        Ok(core) => {
                            earned::is_due(core.service(), core.state(), last, count, runtime.now())
                        }
                        Err(_) => return,
                    },
                    None => return,
                };
            }
        });
    }

    /// Looks after a service whose documents changed: what was earned was earned with others.
    fn look_soon(self: &Arc<Self>, service: ServiceName) {
        let controller = Arc::downgrade(self);
        self.upkeep(async move {
            if let Some(controller) = controller.upgrade() {
                drop(backups::look(&controller, &service).await);
                controller.is_looked_after(&service).await;
            }
        });
    }

    /// Begins a task of upkeep once probes have looked.
    fn upkeep(&self, task: impl Future<Output = ()> + Send + 'static) {
        if self.means.upkeep {
            let runtime = self.means.runtime.clone();
            let first = runtime.sleep_until(runtime.now().after(FIRST_CHECK));
            runtime.spawn("upkeep", first.then(|()| task).boxed());
        }
    }

    /// Whether the service still runs here, and was looked after as far as that could be done.
    async fn is_looked_after(&self, service: &ServiceName) -> bool {
        let looked = AssertUnwindSafe(upkeep(self.look_after(service))).catch_unwind();
        looked.await.map_or_else(
            |_| {
                tracing::error!(%service, "its upkeep broke off: this is a fault of failover");
                true
            },
            |looked| looked.is_ok(),
        )
    }

    fn fit(&self, service: &Arc<Service>) -> Result<Fitted, StartError> {
        let means = &self.means;
        let bad = |source| StartError::Fitting {
            service: service.name.clone(),
            source,
        };
        let fitting = Fitting::new(
            service,
            means.kinds,
            means.runtime.clone(),
            means.secrets.clone(),
            &means.state,
        )
        .map_err(bad)?;
        let post = means.guards.as_ref();
        let ward = post.map_or(Ok(None), |post| post.ward(service));
        let ward = ward.map_err(|e| bad(FittingError::Guards(e)))?;
        let fitting = fitting.with_guards(ward.clone().map(|w| w as SharedGuards));
        let lookouts = Lookouts::new(
            service,
            &means.runtime,
            watch::maker(means.kinds, fitting.wiring()),
        );
        let lookouts = Arc::new(lookouts.map_err(|source| StartError::Lookouts {
            service: service.name.clone(),
            source,
        })?);
        let fitting = fitting.with_lookouts(lookouts.clone());
        let customers = fitting
            .channels(&service.announcements.channels)
            .map_err(bad)?;
        let team = fitting.channels(&service.team.channels).map_err(bad)?;
        let targets = service
            .publication
            .iter()
            .flat_map(|p| &p.targets)
            .map(|t| fitting.target(t))
            .collect::<Result<_, _>>()
            .map_err(bad)?;
        Ok(Fitted {
            fitting,
            ward,
            lookouts,
            customers: Arc::new(customers.into_iter().collect()),
            team: Arc::new(team.into_iter().collect()),
            targets,
        })
    }

    fn connect_guards(&self, service: &Service) {
        if let Some(post) = &self.means.guards {
            post.connect(service);
        }
    }

    fn performer(&self, fitted: &Arc<Fitted>, results: mpsc::UnboundedSender<Input>) -> Performer {
        Performer {
            fitting: fitted.fitting.clone(),
            customers: fitted.customers.clone(),
            team: fitted.team.clone(),
            ledger: self.means.ledger.clone(),
            runtime: self.means.runtime.clone(),
            results,
            metrics: self.means.metrics.clone(),
            running: Underway::default(),
            copy: self.means.copy.clone(),
            tenure: self.means.leader.as_ref().map(|l| l.tenure.clone()),
        }
    }

    fn watch(
        &self,
        service: &Arc<Service>,
        fitted: &Arc<Fitted>,
    ) -> futures::stream::BoxStream<'static, crate::model::observation::Observation> {
        let own = Watch::new(service, &fitted.lookouts, &self.means.runtime, 0);
        futures::stream::select(own, self.observers.expect(service)).boxed()
    }

    /// Where observers elsewhere report to.
    #[must_use]
    pub fn observers(&self) -> &Arc<vantage::Desk> {
        &self.observers
    }

    fn running(&self, service: &ServiceName) -> Result<Running, CommandError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running
            .get(service)
            .cloned()
            .ok_or_else(|| CommandError::NoService(service.clone()))
    }

    /// The services that run here.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<Service>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.values().map(|r| r.service.clone()).collect()
    }

    /// Gives a command; the reply comes once its records are durable.
    ///
    /// # Errors
    /// Where it could not be taken at all; a refusal is a reply.
    pub async fn command(
        &self,
        service: &ServiceName,
        command: Command,
    ) -> Result<Reply, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.send(service, Input::Command(command, answer))?;
        let answer = answered
            .await
            .map_err(|_| CommandError::Ended(service.clone()))?;
        answer.map_err(CommandError::Journal)
    }

    /// Where a service stands now.
    ///
    /// # Errors
    /// Where it does not run here.
    pub async fn show(&self, service: &ServiceName) -> Result<Box<Core>, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.send(service, Input::Show(answer))?;
        answered
            .await
            .map_err(|_| CommandError::Ended(service.clone()))
    }

    /// The last records of a service, oldest first.
    ///
    /// # Errors
    /// Where the service does not run here, or its journal cannot be read.
    pub async fn records(
        &self,
        service: &ServiceName,
        last: usize,
    ) -> Result<Vec<Record>, CommandError> {
        let seq = self.show(service).await?.state().seq;
        let from = Seq(seq.0.saturating_sub(last as u64) + 1);
        let read = self.means.journal.read(service, from).await;
        read.map_err(|e| CommandError::Unread(cause::in_full(&e)))
    }

    /// Records from now on.
    ///
    /// # Errors
    /// Where the service does not run here.
    pub fn follow(
        &self,
        service: &ServiceName,
    ) -> Result<mpsc::UnboundedReceiver<Record>, CommandError> {
        let (follower, records) = mpsc::unbounded();
        self.send(service, Input::Follow(follower))?;
        Ok(records)
    }

    /// Checks readiness now and records what came of it.
    ///
    /// # Errors
    /// Where the service does not run here.
    pub async fn check(&self, service: &ServiceName) -> Result<Vec<CheckItem>, CommandError> {
        let running = self.running(service)?;
        let core = self.show(service).await?;
        let fitted = &running.fitted;
        let Found { items, plan } = readiness::check(Scene {
            core: &core,
            fitting: &fitted.fitting,
            lookouts: &fitted.lookouts,
            customers: &fitted.customers,
            team: &fitted.team,
            observers: self.observers.check(core.service()),
            copy: self.means.copy.as_deref(),
            ledger: Some(&self.means.ledger),
        })
        .await;
        self.send(
            service,
            Input::Event(Event::Checked {
                config: core.service().config.clone(),
                plan,
                items: items.clone(),
            }),
        )?;
        Ok(items)
    }

    /// What makes a service's adapters.
    ///
    /// # Errors
    /// Where the service does not run here.
    pub fn fitting(&self, service: &ServiceName) -> Result<Fitting, CommandError> {
        Ok(self.running(service)?.fitted.fitting.clone())
    }

    /// Tells a service's loop of something that happened.
    ///
    /// # Errors
    /// Where the service does not run here.
    pub fn tell(&self, service: &ServiceName, event: Event) -> Result<(), CommandError> {
        self.send(service, Input::Event(event))
    }

    /// The channels to customers, for previews.
    ///
    /// # Errors
    /// Where the service does not run here.
    pub fn channels(
        &self,
        service: &ServiceName,
    ) -> Result<Arc<BTreeMap<ChannelName, SharedChannel>>, CommandError> {
        Ok(self.running(service)?.fitted.customers.clone())
    }

    fn send(&self, service: &ServiceName, input: Input) -> Result<(), CommandError> {
        let running = self.running(service)?;
        running
            .inbox
            .unbounded_send(input)
            .map_err(|_| CommandError::Ended(service.clone()))
    }

    /// Lists, TTLs and readiness of one service.
    async fn look_after(&self, service: &ServiceName) -> Result<(), CommandError> {
        let running = self.running(service)?;
        for (name, channel) in running
            .fitted
            .customers
            .iter()
            .chain(running.fitted.team.iter())
        {
            if let Some(item) = channel.refresh().await {
                tracing::info!(%service, channel = %name, status = %item.status, detail = %item.detail, "list refreshed");
            }
        }
        let before = self.means.runtime.now().before(KEEP_ADDRESSES);
        if let Err(error) = self.means.ledger.forget(before).await {
            tracing::warn!(error = %cause::in_full(&error), "old addresses could not be forgotten");
        }
        let core = self.show(service).await?;
        let mode = earned::mode(core.service(), core.state(), self.means.runtime.now());
        if mode != Mode::Observe && self.leads() {
            ttl::keep(&core, &running.fitted.fitting, &running.inbox).await;
        }
        self.check(service).await.map(drop)
    }

    /// Begins to use changed documents. A run in flight keeps its plan. Services that are gone stop unless a run is
    /// open; those whose documents are as before are left alone.
    ///
    /// # Errors
    /// Where a changed service cannot be set up, or an open run needs a site that is gone; nothing was changed then.
    pub async fn reload(
        self: &Arc<Self>,
        services: Vec<Service>,
    ) -> Result<Vec<String>, StartError> {
        let mut changes = Vec::new();
        let mut fitted = Vec::new();
        let mut fresh = Vec::new();
        let names: BTreeSet<ServiceName> = services.iter().map(|s| s.name.clone()).collect();
        self.keep_groups(&services).await?;
        for service in services {
            match self.running(&service.name) {
                Ok(old) if groups::is_same(&old.service, &service) => {}
                Ok(old) => {
                    self.keeps_sites_of_run(&service).await?;
                    let service = Arc::new(service);
                    let new = Arc::new(self.fit(&service)?);
                    fitted.push((service, old.inbox, new));
                }
                Err(_) => fresh.push(self.prepare(Arc::new(service)).await?),
            }
        }
        for (service, inbox, new) in fitted {
            self.connect_guards(&service);
            let reloaded = Reloaded {
                service: service.clone(),
                performer: self.performer(&new, inbox.clone()),
                ward: new.ward.clone(),
                observations: self.watch(&service, &new),
            };
            drop(inbox.unbounded_send(Input::Reload(Box::new(reloaded))));
            self.targets
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(service.name.clone(), new.targets.clone());
            changes.push(format!("{} changed", service.name));
            self.running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(
                    service.name.clone(),
                    Running {
                        service: service.clone(),
                        inbox,
                        fitted: new,
                    },
                );
            self.look_soon(service.name.clone());
        }
        for (new, inbox, looping) in fresh {
            changes.push(format!("{} is new", new.fitting.wiring().service.name));
            self.begin(new, inbox, looping);
        }
        for gone in self.services().iter().filter(|s| !names.contains(&s.name)) {
            changes.push(self.retire(&gone.name).await);
        }
        Ok(changes)
    }

    /// A run in flight keeps its plan, and so it needs the sites of that.
    async fn keeps_sites_of_run(&self, changed: &Service) -> Result<(), StartError> {
        let runtime = &self.means.runtime;
        // A loop that has ended has no run that goes on, and one that waits for its journal is not waited for.
        let core = select_biased! {
            core = Box::pin(self.show(&changed.name)).fuse() => core.ok(),
            () = runtime.sleep_until(runtime.now().after(ANSWER)).fuse() => None,
        };
        let Some(run) = core.as_ref().and_then(|core| core.state().run.as_ref()) else {
            return Ok(());
        };
        let mut sites = [&run.plan.from, &run.plan.to].into_iter();
        match sites.find(|site| changed.site(site).is_none()) {
            Some(site) => Err(StartError::SiteOfRun {
                service: changed.name.clone(),
                run: run.id.clone(),
                site: site.clone(),
            }),
            None => Ok(()),
        }
    }

    async fn retire(&self, service: &ServiceName) -> String {
        match self.show(service).await {
            Ok(core) if core.state().run.is_some() => {
                format!("{service} has no document any more, but a run is open: it goes on")
            }
            Ok(_) | Err(_) => {
                let running = self
                    .running
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(service);
                if let Some(running) = running {
                    drop(running.inbox.unbounded_send(Input::Stop));
                }
                format!("{service} is not protected any more")
            }
        }
    }

    /// Forgets a service whose loop has ended, where it was retired: only then does nothing put it back.
    fn forget_retired(&self, service: &ServiceName) {
        if self.running(service).is_ok() {
            return;
        }
        self.targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(service);
        self.slot.forget(service);
        self.board.forget(service);
        self.observers.forget(service);
        if let Some(post) = &self.means.guards {
            post.forget(service);
        }
        self.means.metrics.gone(service);
    }

    /// Tells every service that its documents cannot be used, or can be again.
    pub fn documents(&self, problem: Option<&str>) {
        for service in self.services() {
            self.documents_of(&service.name, problem);
        }
    }

    /// Tells one service that its documents cannot be used, or can be again.
    pub fn documents_of(&self, service: &ServiceName, problem: Option<&str>) {
        let trouble = problem.map_or(Trouble::DocumentsFixed, |p| {
            Trouble::Documents(p.to_owned())
        });
        drop(self.send(service, Input::Event(Event::Trouble(trouble))));
    }

    /// Ends the loop of a chain that another controller took up; whatever was recorded stays.
    pub fn depose(&self, succession: Succession) {
        let chain = succession.chain.clone();
        if let Err(error) = self.send(&chain, Input::Deposed(succession)) {
            tracing::debug!(error = %cause::in_full(&error), "already ended");
        }
    }

    /// Whether no other process can lead now; upkeep that changes anything waits for that.
    #[must_use]
    pub fn leads(&self) -> bool {
        let leader = self.means.leader.as_ref();
        leader.is_none_or(|leader| leader.tenure.lasts())
    }

    /// Asks every loop to stop; they end after what they are recording.
    pub fn stop(&self) {
        self.board.close();
        for service in self.services() {
            if let Err(error) = self.send(&service.name, Input::Stop) {
                tracing::debug!(error = %cause::in_full(&error), "already ended");
            }
        }
    }
}
