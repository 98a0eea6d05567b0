//! The status page follows the records: rendered anew when something changed, written to every target, never in the
//! way of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt, StreamExt, channel::mpsc, future::BoxFuture, select_biased, stream::FuturesUnordered,
};

use super::{
    history::{History, PastIncident},
    metrics::Metrics,
    tenure::Tenure,
};
use crate::{
    announce::{message::Message, template},
    decide::{core::Core, phase, state::Step},
    model::{
        announcement::{Announcement, Phase},
        id::ServiceName,
        service::Template,
        span::Span,
        time::Time,
        verdict::Verdict,
    },
    port::{
        cause,
        channel::Notice,
        runtime::SharedRuntime,
        target::{PageFile, SharedTarget},
    },
    publish::{
        self,
        listener::Pages,
        view::{
            ComponentView, CutOver, Fallback, IncidentView, ServiceView, Status, StatusView,
            UpdateView,
        },
    },
};

/// A page that could not be written is tried again after this.
const RETRY: Span = Span::from_secs(10);
/// A target that has not taken a page in this time is tried again.
const WRITE: Span = Span::from_secs(30);
/// A page that did not change is written again after this, so that its readers see that it is alive.
const REFRESH: Span = Span::from_secs(60);

/// What the page shows of a service.
type Shown = Arc<(Core, History)>;

/// Where loops put what the page shows; the newest of each service counts.
#[derive(Clone)]
pub struct Slot {
    latest: Arc<Mutex<BTreeMap<ServiceName, Shown>>>,
    bell: mpsc::Sender<()>,
}

/// A slot and what rings when something was put there.
#[must_use]
pub fn slot() -> (Slot, mpsc::Receiver<()>) {
    let (bell, rung) = mpsc::channel(1);
    (
        Slot {
            latest: Arc::default(),
            bell,
        },
        rung,
    )
}

impl Slot {
    /// Puts the newest state of a service, where somebody shows it.
    pub fn put(&self, core: &Core, history: &History) {
        if self.bell.is_closed() {
            return;
        }
        let shown = Arc::new((core.clone(), history.clone()));
        self.lock().insert(core.service().name.clone(), shown);
        self.ring();
    }

    /// A service is shown no longer.
    pub fn forget(&self, service: &ServiceName) {
        self.lock().remove(service);
        self.ring();
    }

    fn ring(&self) {
        // A full bell has been rung already.
        drop(self.bell.clone().try_send(()));
    }

    fn all(&self) -> Vec<Shown> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Shown>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where pages go.
pub struct Publisher {
    /// What is shown.
    pub slot: Slot,
    /// Rings when it changed.
    pub rung: mpsc::Receiver<()>,
    /// Each service's own targets.
    pub targets: Arc<Mutex<BTreeMap<ServiceName, Vec<SharedTarget>>>>,
    /// The built-in listener's pages, all services on one.
    pub pages: Pages,
    /// Time and tasks.
    pub runtime: SharedRuntime,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// How long this process leads for sure; none where it was not elected.
    pub tenure: Option<Arc<Tenure>>,
}

/// The page of all services takes as long as there are services: of many it is rendered so much less often.
fn pace(services: usize) -> Span {
    let steps = u64::try_from(services / 50).unwrap_or_default();
    Span::from_millis(steps * 50)
}

/// A target: whose, and which of them.
type Place = (ServiceName, usize);

/// What woke the publisher.
enum Woken {
    Changed,
    Written(Place, bool),
    Due,
    Over,
}

impl Publisher {
    /// Publishes for ever. Each target has its own pace: one that is slow or dead keeps nothing from the others.
    pub async fn run(mut self) {
        let mut due: BTreeMap<Place, Time> = BTreeMap::new();
        let mut writing = FuturesUnordered::new();
        let mut busy: BTreeSet<Place> = BTreeSet::new();
        let mut shown: Vec<Shown> = Vec::new();
        let mut woken = Woken::Due;
        let mut refresh = self.runtime.now();
        let mut rendered = Time::from_millis(0);
        loop {
            let now = self.runtime.now();
            match woken {
                Woken::Changed => {
                    // One page shows all that changed until now.
                    while let Ok(()) = self.rung.try_recv() {}
                    shown = self.slot.all();
                    due = self.places().into_iter().map(|p| (p, now)).collect();
                    refresh = now.max(rendered.after(pace(shown.len())));
                }
                Woken::Written(place, well) => {
                    busy.remove(&place);
                    self.metrics.published(&place.0, well);
                    let pause = if well { REFRESH } else { RETRY };
                    due.entry(place).or_insert(now.after(pause));
                }
                Woken::Due => {}
                Woken::Over => return,
            }
            if refresh <= now {
                if !shown.is_empty() && self.pages.are_served() {
                    rendered = now;
                    self.pages.show(&publish::render(&view(&shown, now)));
                }
                refresh = now.after(REFRESH);
            }
            let ready: Vec<Place> = due
                .iter()
                .filter(|(place, at)| **at <= now && !busy.contains(*place))
                .map(|(place, _)| place.clone())
                .collect();
            let mut pages: BTreeMap<ServiceName, Arc<[PageFile]>> = BTreeMap::new();
            for place in ready {
                due.remove(&place);
                // Another replica may lead, and know better.
                if self.tenure.as_ref().is_some_and(|tenure| !tenure.lasts()) {
                    due.insert(place, now.after(RETRY));
                    continue;
                }
                let Some(own) = shown.iter().find(|s| s.0.service().name == place.0) else {
                    continue;
                };
                let render = || publish::render(&view(std::slice::from_ref(own), now)).into();
                let files = pages.entry(place.0.clone()).or_insert_with(render);
                if let Some(write) = self.write(&place, files.clone(), now) {
                    busy.insert(place);
                    writing.push(write);
                }
            }
            let next = due
                .iter()
                .filter(|(place, _)| !busy.contains(*place))
                .map(|(_, at)| *at)
                .fold(refresh, Time::min);
            woken = select_biased! {
                rung = self.rung.next() => rung.map_or(Woken::Over, |()| Woken::Changed),
                written = writing.select_next_some() => Woken::Written(written.0, written.1),
                () = self.runtime.sleep_until(next).fuse() => Woken::Due,
            };
        }
    }

    fn places(&self) -> Vec<Place> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets
            .iter()
            .flat_map(|(name, all)| (0..all.len()).map(|n| (name.clone(), n)))
            .collect()
    }

    /// Writes a service's own page to one of its targets; `None` where there is no such target any more.
    fn write(
        &self,
        place: &Place,
        files: Arc<[PageFile]>,
        now: Time,
    ) -> Option<BoxFuture<'static, (Place, bool)>> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let target = targets.get(&place.0)?.get(place.1)?.clone();
        drop(targets);
        let (place, runtime) = (place.clone(), self.runtime.clone());
        Some(Box::pin(async move {
            let written = select_biased! {
                written = target.write(&files).fuse() => written.map_err(|e| cause::in_full(&e)),
                () = runtime.sleep_until(now.after(WRITE)).fuse() => Err(format!("no answer within {WRITE}")),
            };
            if let Err(error) = &written {
                tracing::warn!(service = %place.0, %error, "the status page could not be written; it is tried again");
            }
            (place, written.is_ok())
        }))
    }
}

/// The page of these services.
fn view(shown: &[Shown], now: Time) -> StatusView {
    let services: Vec<ServiceView> = shown
        .iter()
        .map(|shown| service(&shown.0, &shown.1, now))
        .collect();
    let mut incidents: Vec<IncidentView> = shown
        .iter()
        .flat_map(|shown| {
            let (core, history) = shown.as_ref();
            history
                .incidents
                .iter()
                .filter(|i| !i.told.is_empty())
                .map(|i| incident(core, history, i, now))
        })
        .collect();
    incidents.sort_by_key(|i| std::cmp::Reverse(i.started));
    let alone = match shown {
        [shown] => Some(shown.0.service()),
        _ => None,
    };
    let title = alone.map_or_else(
        || "Service status".to_owned(),
        |service| format!("{} status", service.title),
    );
    let url = alone
        .and_then(|service| service.publication.as_ref())
        .and_then(|p| p.url.clone());
    StatusView {
        title,
        url,
        generated: now,
        services,
        incidents,
    }
}

fn service(core: &Core, history: &History, now: Time) -> ServiceView {
    let (service, state) = (core.service(), core.state());
    let measured = &history.measured;
    let components: Vec<ComponentView> = service
        .components
        .iter()
        .map(|c| {
            let verdict = state.verdicts.get(&c.name);
            let mut status = verdict.map_or(Status::Operational, |v| status(v.0));
            if status == Status::MajorOutage && measured.is_planned(service, &c.name, now) {
                status = Status::Maintenance;
            }
            ComponentView {
                name: c.name.clone(),
                title: c.title.clone(),
                status,
                since: verdict.map(|v| v.1),
                availability: measured.component(service, &c.name, now),
            }
        })
        .collect();
    let worst = components
        .iter()
        .map(|c| c.status)
        .max()
        .unwrap_or(Status::Operational);
    let open = state.incident.as_ref();
    let last = open.and_then(|i| {
        state
            .announcements
            .values()
            .filter(|t| t.announcement.incident == i.id)
            .max_by_key(|t| t.announcement.at)
    });
    ServiceView {
        name: service.name.clone(),
        title: service.title.clone(),
        status: worst,
        symptom: (worst >= Status::PartialOutage)
            .then(|| service.announcements.symptom.clone())
            .filter(|s| !s.is_empty()),
        components,
        availability: measured.service(service, now),
        promised: service.objectives.availability,
        fallback: fallback(core),
        dns: service.dns.as_ref().map(|_| cut_over(core)),
        next_update: last.and_then(|t| t.announcement.next_update),
    }
}

/// A verdict as customers should hear it: only what is proved is called an outage.
fn status(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Healthy | Verdict::Inconclusive | Verdict::Suspect => Status::Operational,
        Verdict::Degraded => Status::Degraded,
        Verdict::Down => Status::MajorOutage,
    }
}

fn fallback(core: &Core) -> Option<Fallback> {
    let state = core.state();
    let incident = state.incident.as_ref();
    let incident = incident.filter(|i| i.phase == Some(Phase::OnStandby))?;
    let url = phase::fallback(state, incident, Phase::OnStandby)?;
    let run = state.run.as_ref().or(state.last_run.as_ref())?;
    let published = run
        .steps()
        .filter(|(s, _)| s.action.kind() == Some("publish/fallback"))
        .find_map(|(s, _)| run.times.get(&s.id)?.1)?;
    Some(Fallback {
        url,
        since: published,
        verified: published,
    })
}

fn cut_over(core: &Core) -> CutOver {
    let state = core.state();
    let Some(run) = state.run.as_ref().or(state.last_run.as_ref()) else {
        return CutOver::Unchanged;
    };
    let is_done = |kind| {
        run.steps()
            .filter(|(s, _)| s.action.kind() == Some(kind))
            .map(|(_, at)| matches!(at, Some(Step::Done(_))))
            .fold(None, |all: Option<bool>, one| {
                Some(all.unwrap_or(true) && one)
            })
    };
    match (is_done("dns/repoint"), is_done("dns/cutover")) {
        (Some(true), Some(true)) => CutOver::Switched,
        (Some(true), _) => CutOver::Switching,
        (Some(false) | None, _) => CutOver::Unchanged,
    }
}

fn incident(core: &Core, history: &History, past: &PastIncident, now: Time) -> IncidentView {
    let service = core.service();
    let mut updates: Vec<UpdateView> = past
        .told
        .iter()
        .map(|a| UpdateView {
            id: a.id.clone(),
            phase: a.phase,
            at: a.at,
            text: text(a, template::of(&service.announcements, a.phase)),
        })
        .collect();
    updates.reverse();
    IncidentView {
        id: past.id.clone(),
        service: service.name.clone(),
        components: past.components.clone(),
        title: past.told.first().map_or_else(
            || service.title.clone(),
            |a| format!("{}: {}", service.title, a.symptom),
        ),
        impact: if past.outage && !history.measured.began_planned(service, past.since, now) {
            Status::MajorOutage
        } else {
            Status::Maintenance
        },
        started: past.since,
        ended: past.ended,
        drill: past.told.iter().any(|a| a.drill),
        updates,
    }
}

fn text(announcement: &Announcement, template: Template) -> String {
    let notice = Notice::Announcement {
        announcement: Box::new(announcement.clone()),
        template,
    };
    Message::of(&notice).long.text()
}
