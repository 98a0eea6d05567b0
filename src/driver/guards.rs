//! The guards of a service as its controller has them: who was granted a lease, what each site's guard said last, and
//! what it has to be told.
//!
//! A grant rests on what the journal says at the moment that the request is answered: the loop of the service tells its
//! [`Ward`] of every record as soon as it is durable, and before any effect that it announces.

mod post;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, channel::mpsc::UnboundedSender, select_biased};
use tokio::sync::Notify;

pub use self::post::Post;
use super::{service::Input, tenure::Tenure};
use crate::{
    decide::{
        event::Event,
        grant::{Grants, Standing},
        state::State,
        terms,
    },
    guard::wire::{Way, Ways},
    model::{
        action::{ActOrder, ActQuery, ActReport, ActState},
        guard::{
            Boot, Database, DrainOrder, FenceAck, FenceOrder, Grant, Lease, LeaseRequest,
            PromoteOrder, Report, ResyncOrder, Role, Terms,
        },
        id::{ActionName, Epoch, IdempotencyKey, SiteName},
        span::Span,
        time::Time,
    },
    port::{
        guard::{Act, Acted, Guards, Heard, Order},
        runtime::SharedRuntime,
    },
};

/// What a controller says to a guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A request is granted.
    Grant(Grant),
    /// Stop writing for good.
    Fence(FenceOrder),
    /// Become the primary.
    Promote(PromoteOrder),
    /// Stop the database in order.
    Drain(DrainOrder),
    /// Bring the data into line.
    Resync(ResyncOrder),
    /// Run an action.
    Act(ActOrder),
    /// What became of an action?
    Recall(ActQuery),
    /// How does the site stand?
    Look,
}

/// What a guard says to a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It asks for a lease.
    Ask(LeaseRequest),
    /// It was fenced.
    Fenced(FenceAck),
    /// That became of an action.
    Acted(ActReport),
    /// So it stood at that moment of its own clock.
    Report(Time, Report),
}

/// How what is said gets to the guards, now or never and by which way, and by which clock leases are counted.
pub trait Carrier: Send + Sync {
    /// The sites whose guards can be spoken to.
    fn sites(&self) -> Vec<SiteName>;

    /// Says something to the guard of a site.
    fn say(&self, site: &SiteName, what: Said, ways: Ways);

    /// Now, on a clock that nobody steps and nobody slews (`CLOCK_MONOTONIC_RAW`).
    fn now(&self) -> Time;
}

/// A guard that said nothing for so long is silent.
const SILENCE: Span = Span::from_secs(5);
/// A loop that could not record that an epoch is held is told again after this.
const TELL_AGAIN: Span = Span::from_secs(1);

/// The guards of one service.
pub struct Ward {
    carrier: Arc<dyn Carrier>,
    runtime: SharedRuntime,
    inner: Mutex<Inner>,
    news: Notify,
}

/// How often loops took up a ward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term(u64);

#[derive(Default)]
struct Inner {
    term: Term,
    /// None until the journal was read.
    standing: Option<Stand>,
    heard: BTreeMap<SiteName, Word>,
    silent: BTreeSet<SiteName>,
    /// The newest request of each guard's life.
    asked: BTreeMap<SiteName, (Boot, Time)>,
    /// When the loop was told last what each guard says.
    repeated: BTreeMap<SiteName, Time>,
    acknowledged: BTreeMap<SiteName, FenceAck>,
    /// What guards said last of actions.
    acted: BTreeMap<(SiteName, IdempotencyKey), (ActState, Time)>,
    /// The life of each guard that lost its state, and the epoch in which it was first heard.
    lost: BTreeMap<SiteName, (Boot, Epoch)>,
    tell: Option<UnboundedSender<Input>>,
}

/// What a guard said last.
struct Word {
    report: Report,
    /// When, on its own clock.
    said: Time,
    /// When it was heard, on this one.
    at: Time,
}

/// What the journal says, as far as leases go.
struct Stand {
    grants: Grants,
    epoch: Epoch,
    terms: Option<Terms>,
    is_fencing: bool,
    is_moving: bool,
    leads: bool,
    /// How long this process leads for sure; none where it was not elected.
    tenure: Option<Arc<Tenure>>,
    held: Option<Epoch>,
    /// Another controller may grant in this epoch as well: its end cannot be waited for.
    shared: Option<Epoch>,
    /// When the loop was told last that the epoch is held.
    told: Option<Time>,
}

impl Stand {
    /// Grants are not recorded: whoever was frozen would not find out that they are another's to make.
    fn leads_now(&self) -> bool {
        self.leads && self.tenure.as_ref().is_none_or(|tenure| tenure.lasts())
    }
}

impl Ward {
    /// Guards that are spoken to in this way, of which nothing is known yet.
    #[must_use]
    pub fn new(carrier: Arc<dyn Carrier>, runtime: SharedRuntime) -> Self {
        Self {
            carrier,
            runtime,
            inner: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// The loop of the service takes up its journal: grants of an earlier process, or of an earlier loop, are assumed to
    /// have been made just now. What was heard before is told. Gives what [`Ward::leave`] is to be called with.
    /// Where this process was elected, nothing is granted beyond its `tenure`.
    pub fn take_up(
        &self,
        state: &State,
        tell: UnboundedSender<Input>,
        tenure: Option<Arc<Tenure>>,
    ) -> Term {
        let mut inner = lock(&self.inner);
        inner.tell = Some(tell);
        let is_led = inner.standing.as_ref().is_some_and(|s| s.leads);
        if !is_led {
            inner.term = Term(inner.term.0 + 1);
            inner.standing = Some(Stand {
                grants: Grants::new(self.carrier.now(), state.longest_lease),
                epoch: state.epoch,
                terms: None,
                is_fencing: true,
                is_moving: false,
                leads: true,
                tenure,
                held: None,
                shared: None,
                told: None,
            });
        }
        let reports = inner.heard.values().map(|word| &word.report);
        let lost = reports.filter(|r| r.promise.is_none());
        let lost: Vec<_> = lost.map(|r| (r.site.clone(), r.boot)).collect();
        for (site, boot) in lost {
            inner.lost.insert(site, (boot, state.epoch));
        }
        for word in inner.heard.values() {
            inner.tell(Event::Guard(Box::new(word.report.clone())));
        }
        let term = inner.term;
        drop(inner);
        self.follow(state);
        term
    }

    /// What the journal says now; called when a record is durable, before anything is done because of it.
    pub fn follow(&self, state: &State) {
        let mut inner = lock(&self.inner);
        let Some(stand) = &mut inner.standing else {
            return;
        };
        let terms = state.terms.as_ref().filter(|t| t.epoch == state.epoch);
        if let Some(terms) = terms.filter(|terms| stand.terms.as_ref() != Some(*terms)) {
            stand.grants.opened(terms);
        }
        for site in self.carrier.sites() {
            if !state.endless.contains(&site) {
                stand.grants.left_endless(&site);
            }
        }
        for site in &state.endless {
            stand.grants.endless(site.clone());
        }
        stand.terms = terms.cloned();
        stand.epoch = state.epoch;
        stand.is_fencing = terms::is_fencing(state);
        // From the fence on a run says itself whom it promotes.
        let is_promoting = state.run.as_ref().is_some_and(|r| r.epoch.is_some());
        stand.is_moving = stand.is_fencing || is_promoting;
        stand.held = state.held;
        stand.shared = state.shared;
    }

    /// The loop that took it up has ended: this process leads no longer, unless another loop has taken it up since.
    pub fn leave(&self, term: Term) {
        let mut inner = lock(&self.inner);
        if inner.term == term
            && let Some(stand) = &mut inner.standing
        {
            stand.leads = false;
        }
    }

    /// Asks every guard how its site stands, and tells the one of the newest epoch's site of that epoch where it does not
    /// know it; whoever promotes in a run says so itself.
    pub fn ask(&self) {
        for site in self.carrier.sites() {
            self.carrier.say(&site, Said::Look, Ways::Both);
            let mut inner = lock(&self.inner);
            inner.listen(&site, self.carrier.now());
            let overdue = inner.overdue(&site);
            drop(inner);
            if let Some(order) = overdue {
                self.order(&site, order);
            }
        }
    }

    /// Takes in what the guard of a site says, and answers by the way that it came.
    pub fn hear(&self, site: &SiteName, told: Told, way: Way) {
        let now = self.carrier.now();
        let mut inner = lock(&self.inner);
        let granted = match told {
            Told::Ask(request) => {
                inner.note(site, &request.report, request.sent, now);
                inner.note_request(site, &request);
                inner.grant(&request, now)
            }
            Told::Fenced(ack) => {
                tracing::info!(%site, epoch = ack.epoch.0, "the guard acknowledges a fence");
                let known = inner.acknowledged.get(site).map(|a| a.epoch);
                if known < Some(ack.epoch) {
                    inner.acknowledged.insert(site.clone(), ack);
                }
                None
            }
            Told::Acted(report) => {
                inner.acted(site, report, now);
                None
            }
            Told::Report(at, report) => {
                inner.note(site, &report, at, now);
                None
            }
        };
        drop(inner);
        if let Some(grant) = granted {
            self.carrier.say(site, Said::Grant(grant), Ways::Only(way));
        }
        self.news.notify_waiters();
        // For whoever is about to wait.
        self.news.notify_one();
    }
}

impl Inner {
    /// Takes in a report, unless a later one of the same life has come before it.
    fn note(&mut self, site: &SiteName, report: &Report, said: Time, now: Time) {
        let known = self.heard.get(site);
        if known.is_some_and(|k| k.report.boot == report.boot && said < k.said) {
            return;
        }
        let mut report = report.clone();
        // A request leaves out what an earlier word of the same life told.
        if let Some(known) = known.filter(|k| k.report.boot == report.boot) {
            report.seen.disk = report.seen.disk.or(known.report.seen.disk);
            report.seen.wall = report.seen.wall.or(known.report.seen.wall);
        }
        let report = &report;
        let epoch = self.standing.as_ref().map_or(Epoch(0), |s| s.epoch);
        let is_known = self.lost.get(site).is_some_and(|l| l.0 == report.boot);
        if report.promise.is_none() && !is_known && self.standing.is_some() {
            self.lost.insert(site.clone(), (report.boot, epoch));
        }
        let word = Word {
            report: report.clone(),
            said,
            at: now,
        };
        let before = self.heard.insert(site.clone(), word);
        let was_silent = self.silent.remove(site);
        if was_silent || before.is_none_or(|word| !word.report.is_like(report)) {
            self.tell(Event::Guard(Box::new(report.clone())));
        }
    }

    fn note_request(&mut self, site: &SiteName, request: &LeaseRequest) {
        let newest = self.asked.entry(site.clone()).or_default();
        if newest.0 != request.report.boot {
            *newest = (request.report.boot, request.sent);
        }
        newest.1 = newest.1.max(request.sent);
    }

    /// Remembers what became of an action, of the last ones.
    fn acted(&mut self, site: &SiteName, report: ActReport, now: Time) {
        const MOST: usize = 64;
        let key = (site.clone(), report.key);
        let oldest = self.acted.iter().min_by_key(|(_, (_, at))| *at);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone())
            && self.acted.len() >= MOST
            && !self.acted.contains_key(&key)
        {
            self.acted.remove(&oldest);
        }
        self.acted.insert(key, (report.state, now));
    }

    /// Notices that a guard has become silent.
    fn listen(&mut self, site: &SiteName, now: Time) {
        let is_silent = self
            .heard
            .get(site)
            .is_some_and(|word| now.since(word.at) > SILENCE);
        if is_silent && self.silent.insert(site.clone()) {
            self.tell(Event::GuardSilent(site.clone()));
        }
        // A loop that could not write its journal has not taken in what it was told.
        let last = self.repeated.get(site);
        if !is_silent && last.is_none_or(|at| now.since(*at) >= SILENCE) {
            self.repeated.insert(site.clone(), now);
            if let Some(word) = self.heard.get(site) {
                self.tell(Event::Guard(Box::new(word.report.clone())));
            }
        }
    }

    /// Answers a request; what is granted is noted before.
    fn grant(&mut self, request: &LeaseRequest, now: Time) -> Option<Grant> {
        let stand = self.standing.as_mut()?;
        let terms = stand.terms.clone()?;
        let standing = Standing {
            terms: &terms,
            is_fencing: stand.is_fencing,
            leads: stand.leads_now(),
        };
        match stand.grants.grant(standing, request, now) {
            Ok(grant) => {
                // It writes again: what it acknowledged before proves nothing any more.
                self.acknowledged.remove(&terms.site);
                let is_new = grant.lease != Lease::Unbounded && stand.held != Some(terms.epoch);
                if is_new && stand.told.is_none_or(|at| now.since(at) >= TELL_AGAIN) {
                    stand.told = Some(now);
                    self.tell(Event::Held {
                        site: terms.site,
                        epoch: terms.epoch,
                    });
                }
                Some(grant)
            }
            Err(why) => {
                tracing::debug!(site = %request.report.site, epoch = request.epoch.0, ?why, "no lease is granted");
                None
            }
        }
    }

    /// The order that a guard should have had: the newest epoch of its site, or, where it lost its state, that it has no
    /// part in what was before.
    fn overdue(&self, site: &SiteName) -> Option<Order> {
        let stand = self
            .standing
            .as_ref()
            .filter(|s| s.leads_now() && !s.is_moving)?;
        let terms = stand.terms.as_ref()?;
        let report = &self.heard.get(site)?.report;
        let promote = Order::Promote {
            acknowledged: false,
        };
        match &report.promise {
            Some(p) if p.epoch >= terms.epoch => None,
            Some(_) | None if terms.site == *site => Some(promote),
            // It believes in an epoch that is over, or grants leases in it: nobody else tells it.
            Some(p) => {
                let grants = p.role == Role::Standby
                    && terms.deputy.as_ref() != Some(site)
                    && report.database == Some(Database::Following);
                (p.role == Role::Primary || grants).then_some(Order::Fence(terms.epoch))
            }
            None => Some(Order::Fence(terms.epoch)),
        }
    }

    /// What an order comes to, said to the guard of a site that was heard last in this life.
    fn said(&self, site: &SiteName, order: Order) -> Option<Said> {
        let boot = self.heard.get(site).map(|word| word.report.boot);
        Some(match order {
            Order::Look => Said::Look,
            Order::Fence(epoch) => Said::Fence(FenceOrder {
                epoch,
                boot,
                drained: false,
            }),
            Order::FenceDrained(epoch) => Said::Fence(FenceOrder {
                epoch,
                boot,
                drained: true,
            }),
            Order::Drain(hold) => {
                let terms = self.standing.as_ref()?.terms.as_ref();
                let (boot, asked) = *self.asked.get(site)?;
                Said::Drain(DrainOrder {
                    epoch: terms.filter(|t| t.site == *site)?.epoch,
                    boot,
                    asked,
                    hold,
                })
            }
            Order::Resync => Said::Resync(ResyncOrder {
                epoch: self.heard.get(site)?.report.promise.as_ref()?.epoch,
                boot: boot?,
            }),
            Order::Promote { acknowledged } => {
                let terms = self.standing.as_ref()?.terms.clone();
                let terms = terms.filter(|t| t.site == *site)?;
                // It answers to nothing that it may have forgotten.
                let lost = self.lost.get(site).filter(|l| Some(l.0) == boot);
                if lost.is_some_and(|l| terms.epoch <= l.1) {
                    return None;
                }
                Said::Promote(PromoteOrder {
                    terms,
                    acknowledged,
                    boot,
                })
            }
        })
    }

    fn tell(&self, event: Event) {
        if let Some(tell) = &self.tell {
            drop(tell.unbounded_send(Input::Event(event)));
        }
    }
}

#[async_trait]
impl Guards for Ward {
    fn heard(&self, site: &SiteName) -> Option<Heard> {
        let inner = lock(&self.inner);
        let word = inner.heard.get(site)?;
        Some(Heard {
            report: word.report.clone(),
            age: self.carrier.now().since(word.at),
            said: word.said,
        })
    }

    fn acknowledged(&self, site: &SiteName) -> Option<FenceAck> {
        lock(&self.inner).acknowledged.get(site).cloned()
    }

    fn left(&self, site: &SiteName) -> Option<Span> {
        let inner = lock(&self.inner);
        let stand = inner.standing.as_ref()?;
        // A holder of an earlier epoch may have another deputy, of whose grants nothing is known.
        let is_held = stand.terms.as_ref().is_some_and(|t| {
            let is_own = stand.shared != Some(t.epoch);
            t.site == *site && stand.held == Some(t.epoch) && is_own
        });
        let left = stand.grants.left(site, self.carrier.now());
        left.filter(|_| is_held)
    }

    fn terms(&self) -> Option<Terms> {
        let inner = lock(&self.inner);
        inner.standing.as_ref().and_then(|s| s.terms.clone())
    }

    fn order(&self, site: &SiteName, order: Order) {
        let said = lock(&self.inner).said(site, order);
        if let Some(said) = said {
            self.carrier.say(site, said, Ways::Both);
        }
    }

    fn act(&self, site: &SiteName, action: &ActionName, key: &IdempotencyKey, act: Act) {
        let boot = lock(&self.inner).heard.get(site).map(|w| w.report.boot);
        let (action, key) = (action.clone(), key.clone());
        let said = match (act, boot) {
            (Act::Run { attempt, epoch }, Some(boot)) => Said::Act(ActOrder {
                action,
                key,
                attempt,
                epoch,
                boot,
            }),
            // Which life of it is meant is not known yet.
            (Act::Run { .. }, None) => Said::Look,
            (Act::Recall, _) => Said::Recall(ActQuery { action, key }),
        };
        self.carrier.say(site, said, Ways::Both);
    }

    fn acted(&self, site: &SiteName, key: &IdempotencyKey) -> Option<Acted> {
        let inner = lock(&self.inner);
        let (state, at) = inner.acted.get(&(site.clone(), key.clone()))?;
        Some(Acted {
            state: state.clone(),
            age: self.carrier.now().since(*at),
        })
    }

    async fn news(&self, within: Duration) {
        let within = Span::from_millis(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let until = self.runtime.now().after(within);
        select_biased! {
            () = Box::pin(self.news.notified()).fuse() => {}
            () = self.runtime.sleep_until(until).fuse() => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
