//! The loop of one service: event, decide, journal, effects, whose results come back as events.

use std::sync::Arc;

use futures::{
    FutureExt, StreamExt,
    channel::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    select_biased,
    stream::{BoxStream, Fuse},
};

use super::{history::History, metrics::Metrics, perform::Performer, publisher::Slot};
use crate::{
    decide::{
        core::Core,
        event::{Command, Event, Output, Reply},
    },
    model::{
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
/// The team is told again that the journal cannot be written after this.
const REPEAT: Span = Span::from_secs(300);

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
    /// Stop cleanly.
    Stop,
}

/// What changed documents bring.
pub struct Reloaded {
    /// The service as it is now.
    pub service: Arc<Service>,
    /// Performs its effects.
    pub performer: Performer,
    /// What its vantage points see.
    pub observations: BoxStream<'static, Observation>,
}

/// The loop of one service.
pub struct ServiceLoop {
    core: Core,
    journal: SharedJournal,
    runtime: SharedRuntime,
    performer: Performer,
    metrics: Arc<Metrics>,
    inbox: UnboundedReceiver<Input>,
    observations: Fuse<BoxStream<'static, Observation>>,
    followers: Vec<UnboundedSender<Record>>,
    shown: Slot,
    history: History,
    trouble: Option<Trouble>,
    version: &'static str,
}

/// The journal cannot be written.
struct Trouble {
    since: Time,
    reason: String,
    told: Option<Time>,
    times: u32,
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
    /// Another controller writes to the chain: this one may not act any more.
    #[error("another controller writes to the chain of {service}: this one stops")]
    Deposed {
        /// The service.
        service: String,
        /// The cause.
        #[source]
        source: JournalError,
    },
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
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// What comes in.
    pub inbox: UnboundedReceiver<Input>,
    /// What vantage points see.
    pub observations: BoxStream<'static, Observation>,
    /// Where the status page takes its content from.
    pub shown: Slot,
    /// The program's version, for the journal.
    pub version: &'static str,
}

impl ServiceLoop {
    /// Replays the chain.
    ///
    /// # Errors
    /// Where the chain cannot be read or does not fit together.
    pub async fn new(parts: Parts) -> Result<Self, LoopError> {
        let mut core = Core::new(parts.service.clone());
        let records = parts
            .journal
            .read(&parts.service.name, crate::model::id::Seq(1))
            .await;
        let records = records.map_err(|source| LoopError::Replay {
            service: parts.service.name.to_string(),
            source,
        })?;
        let mut history = History::default();
        for record in &records {
            core.replay(record);
            history.apply(record);
        }
        Ok(Self {
            core,
            journal: parts.journal,
            runtime: parts.runtime,
            performer: parts.performer,
            metrics: parts.metrics,
            inbox: parts.inbox,
            observations: parts.observations.fuse(),
            followers: Vec::new(),
            shown: parts.shown,
            history,
            trouble: None,
            version: parts.version,
        })
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// `Deposed` where another controller took over the chain.
    pub async fn run(mut self) -> Result<(), LoopError> {
        let mut opening = self.core.start(self.version, self.runtime.now());
        loop {
            if !opening.is_empty() && self.commit(opening.clone()).await? {
                opening.clear();
            }
            let wake = if opening.is_empty() {
                self.settle(Event::Tick, None).await?
            } else {
                self.runtime.now().after(RETRY)
            };
            self.metrics.turned(&self.core, self.runtime.now());
            let mut sleep = self.runtime.sleep_until(wake).fuse();
            select_biased! {
                input = self.inbox.next() => match input {
                    None | Some(Input::Stop) => return Ok(()),
                    Some(input) => self.take(input).await?,
                },
                seen = self.observations.next() => if let Some(seen) = seen {
                    self.observed(seen).await?;
                },
                () = sleep => {}
            }
        }
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
                self.performer = new.performer;
                self.observations = new.observations.fuse();
                self.commit(records).await?;
            }
            Input::Stop => {}
        }
        Ok(())
    }

    async fn observed(&mut self, seen: Observation) -> Result<(), LoopError> {
        self.metrics.observed(&self.core.service().name, &seen);
        self.settle(Event::Observed(seen), None).await.map(drop)
    }

    /// Steps until nothing is left to record; then begins effects. Returns when to be called again.
    async fn settle(
        &mut self,
        event: Event,
        mut answer: Option<oneshot::Sender<Result<Reply, String>>>,
    ) -> Result<Time, LoopError> {
        let mut event = event;
        loop {
            let now = self.runtime.now();
            let Output {
                records,
                effects,
                wake,
                reply,
            } = self.core.step(event, now);
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
                return Ok(now.after(RETRY));
            }
            if let Some(wake) = wake {
                for effect in effects {
                    self.performer.begin(effect, &self.core);
                }
                return Ok(wake.at);
            }
            event = Event::Tick;
        }
    }

    /// Makes records durable and applies them; `false` where the journal cannot be written just now.
    async fn commit(&mut self, mut bodies: Vec<RecordBody>) -> Result<bool, LoopError> {
        if let Some(trouble) = &self.trouble {
            // Only an append proves that the journal works again.
            let resumed = RecordBody::JournalResumed {
                since: trouble.since,
                reason: trouble.reason.clone(),
            };
            bodies.insert(0, resumed);
        }
        if bodies.is_empty() {
            return Ok(true);
        }
        let now = self.runtime.now();
        // Every record carries the epoch in force; one that raises it carries the new one.
        let epoch = self.core.state().epoch;
        let drafts = bodies
            .into_iter()
            .map(|body| {
                let epoch = if let RecordBody::EpochRaised { epoch, .. } = &body {
                    *epoch
                } else {
                    epoch
                };
                Draft {
                    epoch,
                    at: now,
                    body,
                }
            })
            .collect();
        let chain = self.core.service().name.clone();
        match self
            .journal
            .append(&chain, self.core.state().seq, drafts)
            .await
        {
            Ok(records) => {
                self.metrics.appended(
                    &chain,
                    self.runtime.now().since(now),
                    records.last().map(|r| r.seq),
                );
                self.recovered();
                for record in records {
                    tracing::info!(service = %chain, seq = record.seq.0, kind = record.body.kind(), "recorded");
                    self.core.committed(&record);
                    self.history.apply(&record);
                    self.metrics.recorded(&self.core.service().name, &record);
                    self.followers
                        .retain(|f| f.unbounded_send(record.clone()).is_ok());
                }
                self.shown.put(&self.core, &self.history);
                Ok(true)
            }
            Err(source @ (JournalError::Conflict { .. } | JournalError::Locked { .. })) => {
                Err(LoopError::Deposed {
                    service: chain.to_string(),
                    source,
                })
            }
            Err(error) => {
                self.failed(&error, now);
                Ok(false)
            }
        }
    }

    fn failed(&mut self, error: &JournalError, now: Time) {
        let reason = cause::in_full(error);
        let trouble = self.trouble.get_or_insert(Trouble {
            since: now,
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
            commands: vec!["df -h".to_owned(), "failover journal verify".to_owned()],
        };
        self.performer.page_at_once(&self.core, page, times);
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!(service = %self.core.service().name, "the journal can be written again");
            self.metrics.journal_works(&self.core.service().name);
        }
    }

    fn trouble_words(&self) -> String {
        self.trouble
            .as_ref()
            .map_or_else(String::new, |t| t.reason.clone())
    }
}
