//! Effects become calls of adapters: the only match on effects. Each runs beside the loop and reports back.

mod team;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt, StreamExt,
    channel::mpsc::UnboundedSender,
    future::{AbortHandle, Abortable, BoxFuture},
    select_biased,
    stream::FuturesUnordered,
};
use tracing::Instrument;

pub use team::team_of;

use super::{
    fitting::Fitting,
    metrics::Metrics,
    service::Input,
    tenure::{Ended, Tenure},
};
use crate::{
    announce::{
        fanout::{self, Fanout, Patience},
        template,
    },
    decide::{
        core::Core,
        event::{Call, Effect, Event, Trouble},
        state::{Run, Step},
        terms,
        view::StepOf,
    },
    journal::{copy::Copy, succession::Succession},
    model::{
        announcement::Announcement,
        id::{ChannelName, RunId, Seq, SiteName},
        plan::{Action as Doing, End, PlanStep},
        service::{Service, Template},
        span::Span,
        step::{Presence, StepResult},
        time::Time,
    },
    port::{
        action::{SharedAction, StepContext},
        cause,
        channel::{Notice, SharedChannel},
        ledger::{Mailing, SharedLedger},
        runtime::SharedRuntime,
    },
};

/// Looks have this time, whatever the step's own time-out is, if that is longer.
const LOOK: Span = Span::from_secs(10);

/// Performs effects for one service.
#[derive(Clone)]
pub struct Performer {
    /// Makes adapters.
    pub fitting: Fitting,
    /// Channels to customers.
    pub customers: Arc<BTreeMap<ChannelName, SharedChannel>>,
    /// Channels to the team.
    pub team: Arc<BTreeMap<ChannelName, SharedChannel>>,
    /// Who was told what.
    pub ledger: SharedLedger,
    /// Time and tasks.
    pub runtime: SharedRuntime,
    /// Where results go.
    pub results: UnboundedSender<Input>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// What is under way.
    pub running: Underway,
    /// The journal's copy, which knows whether another controller leads; none where there is none.
    pub copy: Option<Arc<Copy>>,
    /// How long this process leads for sure; none where it was not elected.
    pub tenure: Option<Arc<Tenure>>,
}

/// Steps that are performed or looked for now, and can be broken off.
#[derive(Clone, Default)]
pub struct Underway(Arc<Mutex<BTreeMap<StepOf, AbortHandle>>>);

impl Underway {
    fn break_off(&self, run: &RunId) {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, handle) in running.iter().filter(|((of, _), _)| of == run) {
            handle.abort();
        }
    }

    /// Does something that can be broken off; none where it was.
    async fn until_broken_off<T>(&self, of: StepOf, task: impl Future<Output = T>) -> Option<T> {
        let (handle, registration) = AbortHandle::new_pair();
        let running = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running().insert(of.clone(), handle);
        let done = Abortable::new(task, registration).await;
        running().remove(&of);
        done.ok()
    }
}

impl Performer {
    /// Begins an effect; its result comes back as an event.
    pub fn begin(&self, effect: Effect, core: &Core) {
        match effect {
            Effect::Perform(call) => self.step(core, call, Deed::Perform),
            Effect::Observe(call) => self.step(core, call, Deed::Observe),
            Effect::Undo(call) => self.step(core, call, Deed::Undo),
            Effect::Break(run) => self.running.break_off(&run),
            Effect::Announce(id) => {
                if let Some(told) = core.state().announcements.get(&id) {
                    let known = core.state().seq;
                    self.tell(core.service(), known, told.announcement.clone());
                }
            }
            Effect::Page(message) => self.page(core, message),
            Effect::PageOver(pages) => self.page_over(core, &pages),
        }
    }

    fn step(&self, core: &Core, call: Call, doing: Deed) {
        let service = core.service().name.clone();
        let prepared = prepared(core, &call);
        let span = tracing::info_span!("step", %service, run = %call.run, step = %call.step, attempt = call.attempt.0);
        let performer = self.clone();
        let known = core.state().seq;
        let task = async move {
            if doing.acts(&prepared) && performer.is_deposed().await {
                return;
            }
            let (runtime, step) = (&performer.runtime, call.step.clone());
            let began = runtime.now();
            let event = match prepared {
                Ok((context, planned)) => {
                    let broken = doing.unanswered(&call, true, FAULT);
                    let stopped = doing.unanswered(&call, true, "it was broken off");
                    let of = (call.run.clone(), call.step.clone());
                    let answered = caught(async {
                        if doing.changes() && performer.is_overtaken(known).await {
                            return None;
                        }
                        let began = runtime.now();
                        let action = performer.action(&planned);
                        Some(match doing {
                            Deed::Perform => perform(action, &context, runtime, call, began).await,
                            Deed::Observe => observe(action, &context, runtime, call, began).await,
                            Deed::Undo => undo(action, &context, runtime, call).await,
                        })
                    });
                    match performer.running.until_broken_off(of, answered).await {
                        None => stopped,
                        Some(None) => broken,
                        Some(Some(None)) => return,
                        Some(Some(Some(event))) => event,
                    }
                }
                Err(reason) => doing.unanswered(&call, false, &reason),
            };
            let took = runtime.now().since(began);
            performer.metrics.stepped(&service, &step, took);
            drop(performer.results.unbounded_send(Input::Event(event)));
        };
        self.runtime.spawn("step", Box::pin(task.instrument(span)));
    }

    /// Whether another controller took over from this one, which then does nothing any more.
    async fn is_deposed(&self) -> bool {
        let succession = self.successor().await;
        let is_deposed = succession.is_some();
        if let Some(succession) = succession {
            drop(self.results.unbounded_send(Input::Deposed(succession)));
        }
        is_deposed
    }

    /// Which other controller took over from this one, as far as the journal's copy says.
    pub async fn successor(&self) -> Option<Succession> {
        let copy = self.copy.as_ref()?;
        let asked = copy.confirm(&self.fitting.wiring().service.name).await;
        asked.err()
    }

    /// Whether another replica was elected and has begun, as far as the journal beyond `known` says.
    async fn is_overtaken(&self, known: Seq) -> bool {
        let Some(tenure) = &self.tenure else {
            return false;
        };
        match tenure
            .confirm(&self.fitting.wiring().service.name, known)
            .await
        {
            Ok(()) => false,
            Err(ended) => {
                tracing::error!(?ended, "another replica leads: nothing more is done");
                if let Ended::Overtaken(seq) = ended {
                    drop(self.results.unbounded_send(Input::Overtaken(seq)));
                }
                true
            }
        }
    }

    fn action(&self, step: &PlanStep) -> Result<SharedAction, String> {
        match &step.action {
            Doing::Adapter(uses) => self.fitting.action(uses).map_err(|e| cause::in_full(&e)),
            Doing::Manual { .. } => Err("a manual step is done by a person".to_owned()),
        }
    }

    /// Tells customers; what comes of it is an event. `known` is the last record that this rests on.
    pub fn tell(&self, of: &Service, known: Seq, announcement: Announcement) {
        let template = template::of(&of.announcements, announcement.phase);
        let service = of.name.clone();
        let (results, performer) = (self.results.clone(), self.clone());
        let task = async move {
            if performer.is_overtaken(known).await || performer.is_deposed().await {
                return;
            }
            let id = announcement.id.clone();
            let sending: FuturesUnordered<BoxFuture<'_, (ChannelName, fanout::Outcome)>> =
                announcement
                    .channels
                    .iter()
                    .filter_map(|name| performer.customers.get(name).map(|channel| (name, channel)))
                    .map(|(name, channel)| {
                        let mailing = Mailing {
                            service: service.clone(),
                            message: id.to_string(),
                            channel: name.clone(),
                        };
                        let notice = notice(&announcement, &template);
                        let (performer, name) = (&performer, name.clone());
                        let since = announcement.at;
                        async move {
                            let told = caught(async {
                                let message = channel.compile(&notice);
                                performer
                                    .fanout(channel, &mailing, Patience::default(), since)
                                    .drive(&message)
                                    .await
                            });
                            (name, told.await.unwrap_or_else(broken_off))
                        }
                        .boxed()
                    })
                    .collect();
            let outcomes: Vec<_> = sending.collect().await;
            let mut tallies = BTreeMap::new();
            let mut broken = BTreeMap::new();
            for (channel, outcome) in outcomes {
                performer
                    .metrics
                    .announced(&service, &channel, &outcome.tally);
                if let Some(reason) = problems(&outcome.problems) {
                    tracing::warn!(%service, %channel, reason, "an announcement did not reach everybody");
                }
                tallies.insert(channel.clone(), outcome.tally);
                broken.extend(outcome.broken.map(|reason| (channel, reason)));
            }
            let event = Event::Announced {
                announcement: id,
                tallies,
                broken,
            };
            drop(results.unbounded_send(Input::Event(event)));
        };
        self.runtime.spawn("announce", Box::pin(task));
    }

    /// Tells everybody of a channel. Those who are not reached at once are tried again.
    fn fanout<'a>(
        &'a self,
        channel: &'a SharedChannel,
        mailing: &'a Mailing,
        patience: Patience,
        since: Time,
    ) -> Fanout<'a> {
        Fanout {
            runtime: self.runtime.as_ref(),
            ledger: self.ledger.as_ref(),
            channel: channel.as_ref(),
            mailing,
            patience,
            since,
            stalled: Box::new(|reason| self.troubled(&mailing.channel, reason)),
        }
    }

    /// A channel cannot send: those who can still be reached hear of it.
    fn troubled(&self, channel: &ChannelName, reason: &str) {
        tracing::error!(service = %self.fitting.wiring().service.name, %channel, reason, "a channel cannot send");
        let trouble = Trouble::Channel {
            channel: channel.to_string(),
            reason: reason.to_owned(),
        };
        drop(
            self.results
                .unbounded_send(Input::Event(Event::Trouble(trouble))),
        );
    }
}

/// Who was not reached, and why, in one sentence without addresses.
fn problems(problems: &BTreeMap<String, u64>) -> Option<String> {
    let told: Vec<String> = problems
        .iter()
        .map(|(reason, times)| match times {
            1 => reason.clone(),
            _ => format!("{reason} ({times} times)"),
        })
        .collect();
    (!told.is_empty()).then(|| format!("not everybody was reached: {}", told.join("; ")))
}

/// What is done about a step.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Perform,
    Observe,
    Undo,
}

impl Deed {
    /// Whether another controller's leave is to be looked for first. A fence may come from anybody: it opens nothing. Guards
    /// refuse an older epoch; but one that was raised by somebody who does not lead any more may be none.
    fn acts(self, prepared: &Result<(StepContext, PlanStep), String>) -> bool {
        let is_fence = prepared.as_ref().is_ok_and(|(_, step)| match &step.action {
            Doing::Adapter(uses) => uses.uses.as_str() == terms::FENCE,
            Doing::Manual { .. } => false,
        });
        match self {
            Self::Perform | Self::Undo => !is_fence,
            Self::Observe => false,
        }
    }

    /// Whether it does anything to the outside.
    const fn changes(self) -> bool {
        match self {
            Self::Perform | Self::Undo => true,
            Self::Observe => false,
        }
    }

    /// The event of a deed that no adapter answered for; one that was not begun has changed nothing.
    fn unanswered(self, call: &Call, begun: bool, reason: &str) -> Event {
        let result = if begun {
            StepResult::indeterminate(reason)
        } else {
            StepResult::failed(reason)
        };
        let (run, step, attempt) = (call.run.clone(), call.step.clone(), call.attempt);
        let took = Span::ZERO;
        match self {
            Self::Perform => Event::Performed {
                run,
                step,
                attempt,
                result,
                took,
            },
            Self::Observe => Event::Looked {
                run,
                step,
                attempt,
                presence: Presence::unknown(reason),
                took,
            },
            Self::Undo => Event::Undone {
                run,
                step,
                result: Some(result),
            },
        }
    }
}

/// What is said of an adapter that panicked. It must not, but then nothing may hang on it.
const FAULT: &str = "it broke off: this is a fault of failover, its log says where";

/// What a task comes to; `None` where it panics.
async fn caught<T>(task: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(task).catch_unwind().await.ok()
}

fn broken_off() -> fanout::Outcome {
    fanout::Outcome {
        broken: Some(FAULT.to_owned()),
        ..fanout::Outcome::default()
    }
}

/// A step and what its adapter is told, or why there is nothing to tell.
fn prepared(core: &Core, call: &Call) -> Result<(StepContext, PlanStep), String> {
    let run = core.state().run_of(&call.run).ok_or("the run is over")?;
    let planned = run
        .plan
        .step(&call.step)
        .ok_or("the plan has no such step")?;
    let site = |name: &SiteName| {
        let known = core.service().site(name).cloned();
        known.ok_or_else(|| format!("site {name} is not in the documents any more"))
    };
    let at = match planned.phase.end() {
        End::From => &run.plan.from,
        End::To => &run.plan.to,
    };
    let context = StepContext {
        service: core.service().name.clone(),
        run: call.run.clone(),
        kind: run.kind,
        step: call.step.clone(),
        attempt: call.attempt,
        epoch: call.epoch,
        key: call.key.clone(),
        site: site(at)?,
        from: site(&run.plan.from)?,
        to: site(&run.plan.to)?,
        facts: facts(run),
        timeout: planned.timeout,
    };
    Ok((context, planned.clone()))
}

fn notice(announcement: &Announcement, template: &Template) -> Notice {
    Notice::Announcement {
        announcement: Box::new(announcement.clone()),
        template: template.clone(),
    }
}

/// Facts of the steps that are done, as `<step>.<fact>`.
fn facts(run: &Run) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (id, step) in &run.steps {
        if let Step::Done(proof) = step {
            out.extend(
                proof
                    .facts
                    .iter()
                    .map(|(k, v)| (format!("{id}.{k}"), v.clone())),
            );
        }
    }
    out
}

async fn perform(
    action: Result<SharedAction, String>,
    context: &StepContext,
    runtime: &SharedRuntime,
    call: Call,
    began: Time,
) -> Event {
    let result = match action {
        Err(reason) => StepResult::failed(reason),
        // The time is asked first: a process that was frozen beyond it does not go on where it stood.
        Ok(action) => select_biased! {
            () = runtime.sleep_until(began.after(context.timeout)).fuse() => {
                StepResult::indeterminate(format!("no outcome within {}", context.timeout))
            }
            result = action.perform(context).fuse() => result,
        },
    };
    match &result {
        StepResult::Done(proof) => tracing::info!(summary = %proof.summary, "step done"),
        StepResult::Failed { reason } => tracing::warn!(%reason, "step failed"),
        StepResult::Indeterminate { reason } => {
            tracing::warn!(%reason, "step's outcome cannot be told");
        }
    }
    Event::Performed {
        run: call.run,
        step: call.step,
        attempt: call.attempt,
        result,
        took: runtime.now().since(began),
    }
}

async fn observe(
    action: Result<SharedAction, String>,
    context: &StepContext,
    runtime: &SharedRuntime,
    call: Call,
    began: Time,
) -> Event {
    let presence = match action {
        Err(reason) => Presence::unknown(reason),
        Ok(action) => select_biased! {
            presence = action.observe(context).fuse() => presence,
            () = runtime.sleep_until(began.after(context.timeout.max(LOOK))).fuse() => Presence::unknown("no answer in time"),
        },
    };
    tracing::info!(?presence, "looked for the step's effect");
    Event::Looked {
        run: call.run,
        step: call.step,
        attempt: call.attempt,
        presence,
        took: runtime.now().since(began),
    }
}

async fn undo(
    action: Result<SharedAction, String>,
    context: &StepContext,
    runtime: &SharedRuntime,
    call: Call,
) -> Event {
    let deadline = runtime.now().after(context.timeout);
    let result = match action {
        Err(reason) => Some(StepResult::failed(reason)),
        Ok(action) => select_biased! {
            () = runtime.sleep_until(deadline).fuse() => Some(StepResult::indeterminate(format!("no outcome within {}", context.timeout))),
            result = action.undo(context).fuse() => result,
        },
    };
    tracing::info!(?result, "took the step's effect back");
    Event::Undone {
        run: call.run,
        step: call.step,
        result,
    }
}
