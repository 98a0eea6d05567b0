//! The loop of one service: event, decide, journal, effects, whose results come back as events.

use std::{collections::VecDeque, pin::pin, sync::Arc};

use futures::{
    FutureExt, StreamExt,
    channel::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    select_biased,
    stream::{BoxStream, Fuse},
};

use super::{
    group::Board,
    guards::{self, Ward},
    history::History,
    metrics::Metrics,
    perform::Performer,
    publisher::Slot,
    tenure::Tenure,
};
use crate::{
    decide::{
        core::Core,
        event::{Command, Event, Output, Reply, Trouble as Noticed},
        turn::Report,
    },
    journal::succession::Succession,
    model::{
        id::{Seq, ServiceName, Term},
        observation::Observation,
        page::{Page, PageTopic, Severity},
        record::{Record, RecordBody},
        service::Service,
        span::Span,
        time::Time,
    },
    port::{
        cause,
        journal::{Draft, JournalError, SharedJournal},
        runtime::SharedRuntime,
    },
};

/// After a journal error the loop tries again after this.
const RETRY: Span = Span::from_secs(1);
/// An append that has not answered after this is told to the team.
const HANGS: Span = Span::from_secs(10);
/// Looks that are taken in before a decision is made on them, at most.
const AT_ONCE: usize = 256;
/// The team is told again that the journal cannot be written after this.
const REPEAT: Span = Span::from_secs(300);

/// Whoever did nothing for so long asks first whether another controller took over: it may have stood still.
const STILL: Span = Span::from_secs(10);

/// Whoever was deposed has so long to say so.
const LAST_WORDS: Span = Span::from_secs(5);

/// What comes in.
pub enum Input {
    /// A result, or something that the driver noticed.
    Event(Event),
    /// Something that must be in the journal before the sender goes on; answers whether it is.
    Record(Event, oneshot::Sender<bool>),
    /// A person wants something.
    Command(Command, oneshot::Sender<Result<Reply, String>>),
    /// A front end wants to see where things stand.
    Show(oneshot::Sender<Box<Core>>),
    /// A front end wants to follow the records.
    Follow(UnboundedSender<Record>),
    /// The documents changed.
    Reload(Box<Reloaded>),
    /// Another controller took the chain up.
    Deposed(Succession),
    /// Another controller wrote this to the chain.
    Overtaken(Seq),
    /// Stop cleanly.
    Stop,
}

/// What changed documents bring.
pub struct Reloaded {
    /// The service as it is now.
    pub service: Arc<Service>,
    /// Performs its effects.
    pub performer: Performer,
    /// Its guards.
    pub ward: Option<Arc<Ward>>,
    /// What its vantage points see.
    pub observations: BoxStream<'static, Observation>,
}

/// The loop of one service.
pub struct ServiceLoop {
    core: Core,
    journal: SharedJournal,
    runtime: SharedRuntime,
    performer: Performer,
    ward: Option<Arc<Ward>>,
    /// Its own at the ward; none until it has taken that up.
    term: Option<guards::Term>,
    metrics: Arc<Metrics>,
    inbox: UnboundedReceiver<Input>,
    observations: Fuse<BoxStream<'static, Observation>>,
    followers: Vec<UnboundedSender<Record>>,
    shown: Slot,
    history: History,
    /// What has to be durable before anything is decided: how this process took up the chain, and changed documents.
    pending: Vec<RecordBody>,
    /// What nobody will say again, and could not be recorded yet, oldest first.
    backlog: VecDeque<Event>,
    trouble: Option<Trouble>,
    /// When it last began to decide.
    settled: Option<Time>,
    leader: Option<Leader>,
    board: Board,
    version: &'static str,
}

impl Drop for ServiceLoop {
    /// Whoever decides no more must not grant any more.
    fn drop(&mut self) {
        if let (Some(ward), Some(term)) = (&self.ward, self.term) {
            ward.leave(term);
        }
    }
}

/// The journal cannot be written.
struct Trouble {
    since: Time,
    reason: String,
    told: Option<Time>,
    times: u32,
}

impl Trouble {
    /// The record that says that it is over.
    fn over(&self) -> RecordBody {
        RecordBody::JournalResumed {
            since: self.since,
            reason: self.reason.clone(),
        }
    }
}

/// Whether nobody will say it again: what came of an effect, and what the driver noticed. Everything else is seen,
/// checked or wanted anew.
fn is_told_once(event: &Event) -> bool {
    match event {
        Event::Performed { .. }
        | Event::Looked { .. }
        | Event::Undone { .. }
        | Event::Announced { .. }
        | Event::BackupTaken(_)
        | Event::BackupVerified(_)
        | Event::Trouble(
            Noticed::Documents(_)
            | Noticed::DocumentsFixed
            | Noticed::Channel { .. }
            | Noticed::Ttl { done: true, .. },
        ) => true,
        // Whoever is about to change a TTL leaves it where that cannot be recorded.
        Event::Trouble(Noticed::Ttl { done: false, .. })
        | Event::Guard(_)
        | Event::GuardSilent(_)
        | Event::Held { .. }
        | Event::Turn(_)
        | Event::Tick
        | Event::Observed(_)
        | Event::Checked { .. }
        | Event::BackupsJudged { .. }
        | Event::Command(_) => false,
    }
}

/// Why a loop ended.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The chain cannot be read.
    #[error("the chain of {service} cannot be read")]
    Replay {
        /// The service.
        service: String,
        /// The cause.
        #[source]
        source: JournalError,
    },
    /// It panicked, which is a fault of failover.
    #[error("the loop of {service} broke off: this is a fault of failover, its log says where")]
    Panicked {
        /// The service.
        service: String,
    },
    /// Another controller writes to the chain: this one may not act any more.
    #[error("another controller writes to the chain of {service}: this one stops")]
    Deposed {
        /// The service.
        service: String,
        /// The cause.
        #[source]
        source: JournalError,
    },
    /// Another controller took the chain up from its copy.
    #[error("{0}: that controller leads, and this one stops")]
    TakenOver(Succession),
}

impl LoopError {
    /// Another controller writes to the chain, as the journal has said.
    pub(super) fn deposed(service: &ServiceName, source: JournalError) -> Self {
        Self::Deposed {
            service: service.to_string(),
            source,
        }
    }

    /// Another controller wrote this to the chain.
    pub(super) fn overtaken(chain: &ServiceName, seq: Seq) -> Self {
        let conflict = JournalError::Conflict {
            chain: chain.clone(),
            seq,
        };
        Self::deposed(chain, conflict)
    }
}

/// What a loop is made of.
pub struct Parts {
    /// The service.
    pub service: Arc<Service>,
    /// Its journal.
    pub journal: SharedJournal,
    /// Time and tasks.
    pub runtime: SharedRuntime,
    /// Performs its effects.
    pub performer: Performer,
    /// Its guards, where this process hears any.
    pub ward: Option<Arc<Ward>>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// What comes in.
    pub inbox: UnboundedReceiver<Input>,
    /// What vantage points see.
    pub observations: BoxStream<'static, Observation>,
    /// Where the status page takes its content from.
    pub shown: Slot,
    /// How this process came to lead, where it was elected.
    pub leader: Option<Leader>,
    /// What services and groups know of each other.
    pub board: Board,
    /// The program's version, for the journal.
    pub version: &'static str,
}

/// How a process came to lead.
#[derive(Clone, Debug)]
pub struct Leader {
    /// Its term.
    pub term: Term,
    /// What it is called.
    pub name: String,
    /// How long it leads for sure.
    pub tenure: Arc<Tenure>,
}

impl Leader {
    /// What it writes to a chain before it decides anything there.
    pub(super) fn taken(self) -> RecordBody {
        RecordBody::LeaderTaken {
            term: self.term,
            leader: self.name,
        }
    }

    /// Whether another replica led at a later term when it wrote this.
    fn is_followed_by(&self, record: &Record) -> bool {
        matches!(record.body, RecordBody::LeaderTaken { term, .. } if term > self.term)
    }
}

/// All records of a chain, for whoever takes it up: whoever froze between its election and this look must not write there
/// any more.
///
/// # Errors
/// Where the chain cannot be read or does not fit together, or a later leader has written to it.
pub(super) async fn take_up(
    journal: &SharedJournal,
    chain: &ServiceName,
    leader: Option<&Leader>,
) -> Result<Vec<Record>, LoopError> {
    let records = journal.read(chain, Seq(1)).await;
    let records = records.map_err(|source| LoopError::Replay {
        service: chain.to_string(),
        source,
    })?;
    let later = leader.and_then(|leader| records.iter().find(|r| leader.is_followed_by(r)));
    match later {
        Some(later) => Err(LoopError::overtaken(chain, later.seq)),
        None => Ok(records),
    }
}

impl ServiceLoop {
    /// Replays the chain.
    ///
    /// # Errors
    /// Where the chain cannot be read or does not fit together, or a later leader has written to it.
    pub async fn new(parts: Parts) -> Result<Self, LoopError> {
        let mut core = Core::new(parts.service.clone());
        let (chain, leader) = (&parts.service.name, parts.leader.as_ref());
        let mut history = History::default();
        for record in &take_up(&parts.journal, chain, leader).await? {
            core.replay(record);
            history.apply(record);
        }
        Ok(Self {
            core,
            journal: parts.journal,
            runtime: parts.runtime,
            performer: parts.performer,
            ward: parts.ward,
            term: None,
            metrics: parts.metrics,
            inbox: parts.inbox,
            observations: parts.observations.fuse(),
            followers: Vec::new(),
            shown: parts.shown,
            history,
            pending: Vec::new(),
            backlog: VecDeque::new(),
            trouble: None,
            settled: None,
            leader: parts.leader,
            board: parts.board,
            version: parts.version,
        })
    }

    /// What it begins with.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// `Deposed` where another controller took over the chain.
    pub async fn run(mut self) -> Result<(), LoopError> {
        let taken = self.leader.take().map(Leader::taken);
        let started = self.core.start(self.version, self.runtime.now());
        self.pending = taken.into_iter().chain(started).collect();
        // Nobody else can be elected in place of one that was not.
        if self.performer.tenure.is_none() {
            self.take_up_guards();
        }
        loop {
            let wake = self.settle(Event::Tick, None).await?;
            self.metrics.turned(&self.core, self.runtime.now());
            self.report();
            let mut sleep = self.runtime.sleep_until(wake).fuse();
            select_biased! {
                input = self.inbox.next() => match input {
                    None | Some(Input::Stop) => return Ok(()),
                    Some(input) => self.take(input).await?,
                },
                seen = self.observations.next() => if let Some(seen) = seen {
                    self.observed(seen);
                },
                () = sleep => {}
            }
        }
    }

    /// Its group learns where it stands.
    fn report(&self) {
        let (core, now) = (&self.core, self.runtime.now());
        let report = Report::of(core.service(), core.state(), core.view(), now);
        self.board.report(core.service(), report);
    }

    fn take_up_guards(&mut self) {
        let tell = &self.performer.results;
        let ward = self.ward.as_ref();
        let tenure = self.performer.tenure.as_ref();
        self.term = ward.map(|ward| ward.take_up(self.core.state(), tell.clone(), tenure.cloned()));
    }

    async fn take(&mut self, input: Input) -> Result<(), LoopError> {
        match input {
            Input::Event(event) => drop(self.settle(event, None).await?),
            Input::Record(event, answer) => {
                self.settle(event, None).await?;
                answer.send(self.trouble.is_none()).ok();
            }
            Input::Command(command, answer) => {
                self.settle(Event::Command(command), Some(answer)).await?;
            }
            Input::Show(answer) => drop(answer.send(Box::new(self.core.clone()))),
            Input::Follow(follower) => self.followers.push(follower),
            Input::Reload(new) => {
                let records = self.core.reload(new.service);
                self.pending.extend(records);
                // What is under way was begun by the old one, and can be broken off all the same.
                let running = self.performer.running.clone();
                self.performer = Performer {
                    running,
                    ..new.performer
                };
                self.ward = new.ward;
                if self.term.take().is_some() {
                    self.take_up_guards();
                }
                self.observations = new.observations.fuse();
            }
            Input::Deposed(succession) => return Err(self.taken_over(succession).await),
            Input::Overtaken(seq) => {
                let chain = &self.core.service().name;
                return Err(LoopError::overtaken(chain, seq));
            }
            Input::Stop => {}
        }
        Ok(())
    }

    /// Takes in what was seen, and whatever else waits: one decision is made on all of it.
    fn observed(&mut self, seen: Observation) {
        self.look(seen);
        for _ in 1..AT_ONCE {
            let Some(Some(seen)) = self.observations.next().now_or_never() else {
                return;
            };
            self.look(seen);
        }
    }

    fn look(&mut self, seen: Observation) {
        self.metrics.observed(&self.core.service().name, &seen);
        self.core.observe(seen);
    }

    /// Whoever did nothing for a while may have stood still, and another controller have taken over. It is asked before
    /// anything is decided: guards are told of that without anybody asking.
    async fn ask_after_stillness(&mut self) -> Result<(), LoopError> {
        let now = self.runtime.now();
        let settled = self.settled.replace(now);
        if settled.is_some_and(|at| now.since(at) >= STILL)
            && let Some(succession) = self.performer.successor().await
        {
            return Err(self.taken_over(succession).await);
        }
        Ok(())
    }

    /// Another controller leads now: the team hears so.
    async fn taken_over(&mut self, succession: Succession) -> LoopError {
        self.page_that_it_was_deposed(&succession).await;
        LoopError::TakenOver(succession)
    }

    /// Takes in an event, and before it whatever had to wait for the journal; then begins effects. Returns when to be
    /// called again. While the journal cannot be written nothing is decided: what the core hands out is handed out once.
    async fn settle(
        &mut self,
        event: Event,
        answer: Option<oneshot::Sender<Result<Reply, String>>>,
    ) -> Result<Time, LoopError> {
        self.ask_after_stillness().await?;
        let mut works = self.prove().await?;
        // Whoever was elected grants nothing before the journal has taken its word.
        if works && self.term.is_none() {
            self.take_up_guards();
        }
        while works && let Some(event) = self.backlog.pop_front() {
            works = self.step(event, None).await?.is_some();
        }
        let wake = if works {
            self.step(event, answer).await?
        } else {
            self.keep(event);
            if let Some(answer) = answer {
                drop(answer.send(Err(self.trouble_words())));
            }
            None
        };
        Ok(wake.unwrap_or_else(|| self.runtime.now().after(RETRY)))
    }

    /// Steps until nothing is left to record; `None` where the journal cannot be written.
    async fn step(
        &mut self,
        mut event: Event,
        mut answer: Option<oneshot::Sender<Result<Reply, String>>>,
    ) -> Result<Option<Time>, LoopError> {
        loop {
            let now = self.runtime.now();
            // What could not be recorded has not happened for the core either.
            let before = is_told_once(&event).then(|| (self.core.clone(), event.clone()));
            let is_tick = matches!(event, Event::Tick);
            let Output {
                records,
                effects,
                wake,
                reply,
            } = self.core.step(event, now);
            let is_idle = records.is_empty();
            let recorded = self.commit(records).await?;
            if let (Some(answer), Some(reply)) = (answer.take(), reply) {
                let reply = if recorded {
                    Ok(reply)
                } else {
                    Err(self.trouble_words())
                };
                drop(answer.send(reply));
            }
            if !recorded {
                if let Some((core, event)) = before {
                    self.core = core;
                    self.backlog.push_front(event);
                }
                return Ok(None);
            }
            if let Some(wake) = wake {
                for effect in effects {
                    self.performer.begin(effect, &self.core);
                }
                return Ok(Some(wake.at));
            }
            if is_tick && is_idle {
                return Ok(Some(now.after(RETRY)));
            }
            event = Event::Tick;
        }
    }

    /// Keeps what nobody will say again until the journal can be written.
    fn keep(&mut self, event: Event) {
        if is_told_once(&event) {
            self.backlog.push_back(event);
        }
    }

    /// Makes durable what has to be before anything is decided. Only an append proves that the journal works again.
    async fn prove(&mut self) -> Result<bool, LoopError> {
        let pending = std::mem::take(&mut self.pending);
        let resumed = self.trouble.as_ref().map(Trouble::over);
        let first = resumed.into_iter().chain(pending.clone()).collect();
        let proved = self.commit(first).await?;
        if !proved {
            self.pending = pending;
        }
        Ok(proved)
    }

    /// Makes records durable and applies them; `false` where the journal cannot be written just now.
    async fn commit(&mut self, bodies: Vec<RecordBody>) -> Result<bool, LoopError> {
        if bodies.is_empty() {
            return Ok(true);
        }
        let now = self.runtime.now();
        // Every record carries the epoch in force; one that raises it carries the new one.
        let epoch = self.core.state().epoch;
        let drafts = bodies
            .into_iter()
            .map(|body| {
                let epoch = body.opens().unwrap_or(epoch);
                Draft {
                    epoch,
                    at: now,
                    body,
                }
            })
            .collect();
        let chain = self.core.service().name.clone();
        let was_troubled = self.trouble.is_some();
        match self.append(&chain, drafts).await {
            Ok(records) => {
                self.metrics.appended(
                    &chain,
                    self.runtime.now().since(now),
                    records.last().map(|r| r.seq),
                );
                if let Some(hung) = self.recovered().filter(|_| !was_troubled) {
                    self.pending.push(hung.over());
                }
                for record in records {
                    tracing::info!(service = %chain, seq = record.seq.0, kind = record.body.kind(), "recorded");
                    self.core.committed(&record);
                    if let Some(ward) = &self.ward {
                        ward.follow(self.core.state());
                    }
                    self.history.apply(&record);
                    self.metrics.recorded(&self.core.service().name, &record);
                    self.followers
                        .retain(|f| f.unbounded_send(record.clone()).is_ok());
                }
                self.shown.put(&self.core, &self.history);
                Ok(true)
            }
            Err(source @ (JournalError::Conflict { .. } | JournalError::Locked { .. })) => {
                Err(LoopError::deposed(&chain, source))
            }
            Err(error) => {
                self.troubled(cause::in_full(&error), now);
                Ok(false)
            }
        }
    }

    /// Appends, however long that takes: what does not answer may still be written, so it is never tried a second time.
    async fn append(
        &mut self,
        chain: &ServiceName,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, JournalError> {
        let began = self.runtime.now();
        let journal = self.journal.clone();
        let mut appending = journal.append(chain, self.core.state().seq, drafts).fuse();
        let mut limit = began.after(HANGS);
        loop {
            let mut waiting = self.runtime.sleep_until(limit).fuse();
            select_biased! {
                appended = appending => return appended,
                () = waiting => {}
            }
            let now = self.runtime.now();
            let reason = format!("the journal has not answered for {}", now.since(began));
            self.troubled(reason, began);
            limit = now.after(REPEAT);
        }
    }

    fn troubled(&mut self, reason: String, since: Time) {
        let now = self.runtime.now();
        let trouble = self.trouble.get_or_insert(Trouble {
            since,
            reason: reason.clone(),
            told: None,
            times: 0,
        });
        trouble.reason = reason;
        let due = trouble.told.is_none_or(|told| now.since(told) >= REPEAT);
        if !due {
            return;
        }
        trouble.told = Some(now);
        trouble.times += 1;
        let (times, reason) = (trouble.times - 1, trouble.reason.clone());
        tracing::error!(service = %self.core.service().name, %reason, "the journal cannot be written: nothing is done until it can");
        self.metrics
            .journal_failed(&self.core.service().name, &reason);
        let page = Page {
            topic: PageTopic::Journal,
            severity: Severity::Critical,
            title: format!(
                "{}: the journal cannot be written",
                self.core.service().title
            ),
            body: vec![
                reason,
                "Nothing is decided or done until it can. Nothing that was recorded is lost."
                    .to_owned(),
            ],
            commands: self.journal.remedies(),
        };
        self.performer.page_at_once(&self.core, page, times);
    }

    async fn page_that_it_was_deposed(&mut self, succession: &Succession) {
        let page = Page {
            topic: PageTopic::Journal,
            severity: Severity::Critical,
            title: format!(
                "{}: the controller that was taken over from still ran",
                self.core.service().title
            ),
            body: vec![
                succession.to_string(),
                "It has stopped, and does nothing any more. The other controller leads.".to_owned(),
            ],
            commands: vec!["systemctl disable --now failover-controller".to_owned()],
        };
        let service = self.core.service().name.clone();
        let mut paged = pin!(self.performer.page_unrecorded(&service, page, 0).fuse());
        let limit = self.runtime.now().after(LAST_WORDS);
        let mut limit = self.runtime.sleep_until(limit).fuse();
        select_biased! {
            () = paged => {}
            () = limit => {}
        }
    }

    fn recovered(&mut self) -> Option<Trouble> {
        let trouble = self.trouble.take()?;
        tracing::info!(service = %self.core.service().name, "the journal can be written again");
        self.metrics.journal_works(&self.core.service().name);
        Some(trouble)
    }

    fn trouble_words(&self) -> String {
        self.trouble
            .as_ref()
            .map_or_else(String::new, |t| t.reason.clone())
    }
}
