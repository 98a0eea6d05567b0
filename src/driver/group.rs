//! The loop of one group: what members report, decide, journal, effects. It runs beside the loops of its members, on a
//! chain of its own, and does nothing to any site: what it does is to say whose turn it is, and to tell an audience.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt, StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender},
    select_biased,
};

use super::{
    perform::Performer,
    service::{Input, Leader, LoopError, take_up},
};
use crate::{
    decide::{
        event::{Event, Trouble},
        group::{Core, Effect},
        turn::Report,
    },
    model::{
        group::ServiceGroup,
        id::{Epoch, ServiceGroupName, ServiceName},
        record::RecordBody,
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
/// While an append does not answer, members hear again where they stand.
const BEAT: Span = Span::from_secs(10);
/// Lists of recipients are read again so often.
const REFRESH: Span = Span::from_secs(900);

/// What comes to a group.
pub enum Heard {
    /// Where a member stands.
    Report(Box<Report>),
    /// A member does not run here any more.
    Gone(ServiceName),
    /// The document changed; this performs its effects.
    Changed(Box<(ServiceGroup, Performer)>),
}

/// What the loops of services and of groups know of each other.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Pinned>>);

#[derive(Default)]
struct Pinned {
    groups: BTreeMap<ServiceGroupName, Joined>,
    reports: BTreeMap<ServiceName, (ServiceGroupName, Report)>,
}

/// A group whose loop runs.
#[derive(Clone)]
pub struct Joined {
    /// As its loop knows it.
    pub whole: Arc<ServiceGroup>,
    /// Where its members speak to it.
    pub heard: UnboundedSender<Heard>,
    /// Where results of its effects go.
    pub results: UnboundedSender<Input>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Pinned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where a service stands; news alone are passed on.
    pub fn report(&self, service: &Service, report: Option<Report>) {
        let now = service.group.as_ref().map(|own| own.group.clone());
        let now = now.zip(report);
        let mut pinned = self.lock();
        let before = pinned.reports.get(&service.name);
        if before == now.as_ref() {
            return;
        }
        let group = |pin: &(ServiceGroupName, Report)| pin.0.clone();
        if before.map(group) != now.as_ref().map(group) {
            pinned.take_down(&service.name);
        }
        if let Some((group, report)) = now {
            pinned.send(&group, Heard::Report(Box::new(report.clone())));
            pinned.reports.insert(service.name.clone(), (group, report));
        }
    }

    /// A service does not run here any more.
    pub fn forget(&self, service: &ServiceName) {
        self.lock().take_down(service);
    }

    /// A group that hears from now on, beginning with what is known already.
    pub fn join(&self, joined: Joined) {
        let mut pinned = self.lock();
        let group = joined.whole.name.clone();
        let known = pinned.reports.values().filter(|(of, _)| *of == group);
        for (_, report) in known {
            let report = Heard::Report(Box::new(report.clone()));
            drop(joined.heard.unbounded_send(report));
        }
        pinned.groups.insert(group, joined);
    }

    /// The groups whose loops run.
    #[must_use]
    pub fn groups(&self) -> BTreeMap<ServiceGroupName, Joined> {
        self.lock().groups.clone()
    }

    /// What a group's loop knows of it changed.
    pub fn change(&self, group: ServiceGroupName, joined: Joined) {
        self.lock().groups.insert(group, joined);
    }

    /// A group that is gone: its loop ends.
    pub fn leave(&self, group: &ServiceGroupName) {
        self.lock().groups.remove(group);
    }

    /// Ends the loops of all groups, after what they are recording.
    pub fn close(&self) {
        self.lock().groups.clear();
    }
}

impl Pinned {
    fn send(&self, group: &ServiceGroupName, heard: Heard) {
        if let Some(to) = self.groups.get(group) {
            drop(to.heard.unbounded_send(heard));
        }
    }

    fn take_down(&mut self, service: &ServiceName) {
        if let Some((group, _)) = self.reports.remove(service) {
            self.send(&group, Heard::Gone(service.clone()));
        }
    }
}

/// Says something to the loop of a member.
pub type Tell = Box<dyn Fn(&ServiceName, Event) + Send + Sync>;

/// What a group's loop is made of.
pub struct Parts {
    /// The group.
    pub group: ServiceGroup,
    /// Its journal.
    pub journal: SharedJournal,
    /// Time and tasks.
    pub runtime: SharedRuntime,
    /// Performs its effects.
    pub performer: Performer,
    /// What comes of them.
    pub inbox: UnboundedReceiver<Input>,
    /// What members say.
    pub heard: UnboundedReceiver<Heard>,
    /// Reaches members.
    pub tell: Tell,
    /// How this process came to lead, where it was elected.
    pub leader: Option<Leader>,
}

/// The loop of a group.
pub struct GroupLoop {
    core: Core,
    chain: ServiceName,
    journal: SharedJournal,
    runtime: SharedRuntime,
    performer: Performer,
    inbox: UnboundedReceiver<Input>,
    heard: UnboundedReceiver<Heard>,
    tell: Tell,
    /// What has to be durable before anything is decided.
    pending: Vec<RecordBody>,
}

/// A service that has nothing but a name and what is announced: what channels are made for.
#[must_use]
pub fn voice(group: &ServiceGroup) -> Service {
    Service {
        title: group.title.clone(),
        announcements: group.announcements.clone(),
        ..Service::bare(group.chain())
    }
}

/// The voices of all groups that these services are in.
#[must_use]
pub fn voices<'a>(services: impl IntoIterator<Item = &'a Service>) -> Vec<Service> {
    let own = services.into_iter().filter_map(|s| s.group.as_ref());
    let groups: BTreeMap<_, _> = own.map(|own| (&own.group, &own.whole)).collect();
    groups.into_values().map(|whole| voice(whole)).collect()
}

impl GroupLoop {
    /// Replays the chain.
    ///
    /// # Errors
    /// Where the chain cannot be read or does not fit together, or a later leader has written to it.
    pub async fn new(parts: Parts) -> Result<Self, LoopError> {
        let chain = parts.group.chain();
        let mut core = Core::new(parts.group);
        for record in &take_up(&parts.journal, &chain, parts.leader.as_ref()).await? {
            core.apply(record);
        }
        let taken = parts.leader.map(Leader::taken);
        Ok(Self {
            core,
            chain,
            journal: parts.journal,
            runtime: parts.runtime,
            performer: parts.performer,
            inbox: parts.inbox,
            heard: parts.heard,
            tell: parts.tell,
            pending: taken.into_iter().collect(),
        })
    }

    /// Runs until its group is gone or it is told to stop.
    ///
    /// # Errors
    /// `Deposed` where another controller took over the chain.
    pub async fn run(mut self) -> Result<(), LoopError> {
        self.core.start(self.runtime.now());
        let mut refresh = self.runtime.now();
        loop {
            if self.runtime.now() >= refresh {
                refresh = self.runtime.now().after(REFRESH);
                self.refresh();
            }
            let wake = self.settle().await?;
            let mut sleep = self.runtime.sleep_until(wake.min(refresh)).fuse();
            select_biased! {
                input = self.inbox.next() => match input {
                    None | Some(Input::Stop) => return Ok(()),
                    Some(input) => self.take(input).await?,
                },
                heard = self.heard.next() => match heard {
                    None => return Ok(()),
                    Some(heard) => {
                        self.hear(heard);
                        // Many members speak at once: one decision is made on all that they said.
                        while let Some(Some(heard)) = self.heard.next().now_or_never() {
                            self.hear(heard);
                        }
                    }
                },
                () = sleep => {}
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Report(report) => self.core.report(*report),
            Heard::Gone(member) => self.core.forget(&member),
            Heard::Changed(changed) => {
                let (group, performer) = *changed;
                self.core.reload(group);
                self.performer = performer;
            }
        }
    }

    /// What came of its effects.
    async fn take(&mut self, input: Input) -> Result<(), LoopError> {
        match input {
            Input::Event(Event::Announced {
                announcement,
                tallies,
                broken,
            }) => {
                let now = self.runtime.now();
                for (channel, reason) in &broken {
                    let (channel, reason) = (channel.to_string(), reason.clone());
                    self.page(Trouble::Channel { channel, reason });
                }
                let settled = self.core.announced(announcement, tallies, &broken, now);
                while !self.commit(settled.clone()).await? {
                    self.runtime
                        .sleep_until(self.runtime.now().after(RETRY))
                        .await;
                }
            }
            Input::Event(Event::Trouble(trouble)) => self.page(trouble),
            Input::Overtaken(seq) => {
                return Err(LoopError::overtaken(&self.chain, seq));
            }
            Input::Deposed(succession) => return Err(LoopError::TakenOver(succession)),
            Input::Event(_)
            | Input::Record(..)
            | Input::Command(..)
            | Input::Show(_)
            | Input::Follow(_)
            | Input::Reload(_)
            | Input::Stop => {}
        }
        Ok(())
    }

    /// A group has no team of its own: that of a member which is in it hears what is wrong.
    fn page(&self, trouble: Trouble) {
        let affected = self.core.state().incident.as_ref();
        let affected = affected.and_then(|incident| incident.members.first());
        let first = self.core.group().members().map(|(_, m)| &m.service).next();
        if let Some(member) = affected.or(first) {
            (self.tell)(member, Event::Trouble(trouble));
        }
    }

    /// Decides until nothing is left to record, then does what follows. Returns when to decide again.
    async fn settle(&mut self) -> Result<Time, LoopError> {
        let pending = std::mem::take(&mut self.pending);
        if !self.commit(pending.clone()).await? {
            self.pending = pending;
            return Ok(self.runtime.now().after(RETRY));
        }
        loop {
            let now = self.runtime.now();
            let output = self.core.turn(now);
            if !output.records.is_empty() {
                if self.commit(output.records).await? {
                    continue;
                }
                return Ok(self.runtime.now().after(RETRY));
            }
            for effect in output.effects {
                match effect {
                    Effect::Say(member, word) => (self.tell)(&member, Event::Turn(word)),
                    Effect::Announce(id) => self.announce(&id),
                }
            }
            return Ok(output.wake.unwrap_or_else(|| now.after(RETRY)));
        }
    }

    fn announce(&self, id: &crate::model::id::AnnouncementId) {
        let state = self.core.state();
        if let Some(told) = state.announcements.get(id) {
            let voice = voice(self.core.group());
            self.performer
                .tell(&voice, state.seq, told.announcement.clone());
        }
    }

    /// Makes records durable and applies them; `false` where the journal cannot be written just now. Members hear all the
    /// while that the group is there.
    async fn commit(&mut self, bodies: Vec<RecordBody>) -> Result<bool, LoopError> {
        if bodies.is_empty() {
            return Ok(true);
        }
        let at = self.runtime.now();
        let draft = |body| Draft {
            epoch: Epoch::default(),
            at,
            body,
        };
        let drafts = bodies.into_iter().map(draft).collect();
        let (journal, chain) = (self.journal.clone(), self.chain.clone());
        let mut appending = journal.append(&chain, self.core.state().seq, drafts).fuse();
        let appended = loop {
            let beat = self.runtime.now().after(BEAT);
            let mut waiting = self.runtime.sleep_until(beat).fuse();
            select_biased! {
                appended = appending => break appended,
                () = waiting => {}
            }
            tracing::error!(group = %self.chain, "the journal does not answer: no turn is given until it does");
            self.beat();
        };
        match appended {
            Ok(records) => {
                for record in records {
                    tracing::info!(group = %self.chain, seq = record.seq.0, kind = record.body.kind(), "recorded");
                    self.core.apply(&record);
                }
                Ok(true)
            }
            Err(source @ (JournalError::Conflict { .. } | JournalError::Locked { .. })) => {
                Err(LoopError::deposed(&self.chain, source))
            }
            Err(error) => {
                let error = cause::in_full(&error);
                tracing::error!(group = %self.chain, error, "the journal cannot be written: no turn is given until it can");
                self.beat();
                Ok(false)
            }
        }
    }

    /// Says again what was said last.
    fn beat(&mut self) {
        for (member, word) in self.core.said() {
            (self.tell)(&member, Event::Turn(word));
        }
    }

    fn refresh(&self) {
        for (name, channel) in self.performer.customers.as_ref() {
            let (name, channel, chain) = (name.clone(), channel.clone(), self.chain.clone());
            let task = async move {
                if let Some(item) = channel.refresh().await {
                    tracing::info!(group = %chain, channel = %name, status = %item.status, detail = %item.detail, "list refreshed");
                }
            };
            self.runtime.spawn("refresh", Box::pin(task));
        }
    }
}
