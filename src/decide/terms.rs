//! The terms of epochs where guards stand beside the databases: what they are to be, and when a new epoch is opened at
//! the site that serves because those of the one in force do not fit any more.

use super::{
    incident,
    state::{Run, State, Step},
    view::View,
};
use crate::model::{
    guard::{Database, Lease, Promise, Report, Role, Terms},
    id::{Epoch, SiteName},
    lease,
    plan::PlanStep,
    record::RecordBody,
    service::Service,
};

/// The kind that fences through a guard.
pub const FENCE: &str = "guard/fence";

/// The terms of an epoch at a site; none where no guard stands there. A site that nobody could replace gets a lease
/// without an end: a lone site must not stop because the controller does.
#[must_use]
pub fn of(service: &Service, view: &View, epoch: Epoch, site: &SiteName) -> Option<Terms> {
    let guards = service.guards.as_ref()?;
    guards.sites.get(site)?;
    let deputy = candidate(service, view, site).filter(|deputy| guards.sites.contains_key(deputy));
    let heard = view.guards.get(site);
    let is_enforced = heard.is_some_and(|r| lease::is_enforced(r.kill, guards.lease));
    // Whoever was fenced replaces nobody before its data was looked after.
    let is_fenced = |deputy: &SiteName| {
        let promise = view.guards.get(deputy).and_then(|r| r.promise.as_ref());
        promise.is_some_and(|p| p.role == Role::Fenced)
    };
    let deputy = deputy.filter(|deputy| is_enforced && !is_fenced(deputy));
    Some(Terms {
        service: service.name.clone(),
        epoch,
        site: site.clone(),
        lease: deputy
            .as_ref()
            .map_or(Lease::Unbounded, |_| Lease::Bounded(guards.lease)),
        deputy,
    })
}

/// The site that would take over. After a failover that is nobody until the site that was left follows again: before, it
/// holds data of the past.
fn candidate(service: &Service, view: &View, site: &SiteName) -> Option<SiteName> {
    let other = incident::target(service, site)?;
    let is_usual = service.primary().is_some_and(|p| p.name == *site);
    let follows = |report: &Report| {
        let role = report.promise.as_ref().map(|p| p.role);
        role == Some(Role::Standby) && report.database == Some(Database::Following)
    };
    (is_usual || view.guards.get(&other).is_some_and(follows)).then_some(other)
}

/// Whether the site of the epoch in force is being fenced, or was: then it is granted nothing. Once the next epoch is
/// raised it is that one's site which asks.
#[must_use]
pub fn is_fencing(state: &State) -> bool {
    let run = state.run.as_ref();
    let open = run.filter(|run| run.unwinding.is_none() && run.epoch.is_none());
    open.is_some_and(|run| fences(run).any(|(_, at)| at.is_some()))
}

fn fences(run: &Run) -> impl Iterator<Item = (&PlanStep, Option<&Step>)> {
    run.steps().filter(|(s, _)| s.action.kind() == Some(FENCE))
}

/// Opens an epoch at the site that serves where the one in force does not fit: its terms are others than the documents
/// ask for, or its guard has promised more than the journal knows, as after a fence that was taken back.
#[must_use]
pub fn turn(service: &Service, state: &State, view: &View) -> Vec<RecordBody> {
    let is_free = match &state.run {
        None => state.stuck.is_none(),
        Some(run) => run.unwinding.is_some() && run.epoch.is_none(),
    };
    let Some(site) = state.active.as_ref().filter(|_| is_free) else {
        return Vec::new();
    };
    if doubt(service, state, view).is_some() {
        return Vec::new();
    }
    // What its host can do is known once its guard was heard.
    let Some(report) = view.guards.get(site) else {
        return Vec::new();
    };
    let Some(terms) = of(service, view, next(state, view), site) else {
        return Vec::new();
    };
    let Some(reason) = reason(state, view, report, &terms) else {
        return Vec::new();
    };
    vec![RecordBody::EpochOpened { terms, reason }]
}

/// Whether the guard of a site says just now that its database takes writes in an epoch that is no earlier than the one
/// in force.
#[must_use]
pub fn is_held(state: &State, view: &View, site: &SiteName) -> bool {
    let report = view
        .guards
        .get(site)
        .filter(|_| !view.silent.contains(site));
    report.is_some_and(|r| {
        let is_newest = |p: &Promise| {
            p.role == Role::Primary && (p.epoch >= state.epoch || state.terms.is_none())
        };
        r.database == Some(Database::Writable) && r.promise.as_ref().is_some_and(is_newest)
    })
}

/// The next epoch: higher than every one that a guard has promised.
#[must_use]
pub fn next(state: &State, view: &View) -> Epoch {
    let promises = view.guards.values().filter_map(|r| r.promise.as_ref());
    let highest = promises.map(|p| p.epoch).max().unwrap_or_default();
    highest.max(state.epoch).next()
}

/// Why nobody may go beyond what guards have promised: a guard keeps a promise that this journal has not asked for, so
/// another controller has led since, and may lead still. A fence that was begun here asks for the epoch after the one that
/// was in force then, at that site alone. Whoever has taken over goes beyond all that there is, once.
#[must_use]
pub fn stranger(service: &Service, state: &State, view: &View) -> Option<String> {
    if state.goes_beyond {
        return None;
    }
    let promised = view.guards.values().find_map(|report| {
        let promise = report.promise.as_ref()?;
        let asked = match promise.role {
            Role::Primary => state.epoch,
            // Whoever was fenced and follows since keeps the epoch of that fence.
            Role::Standby | Role::Fenced => {
                let fence = state.fences.get(&report.site).copied();
                fence.unwrap_or_default().max(state.epoch)
            }
        };
        (promise.epoch > asked).then_some((&report.site, promise.epoch))
    });
    promised.map(|(site, epoch)| {
        let known = if state.terms.is_none() && state.epoch == Epoch(1) {
            "this journal, which is new, knows of none: another controller has led before".to_owned()
        } else {
            let epoch = state.epoch;
            format!("this journal knows of none after {epoch}: another controller has led since")
        };
        format!(
            "the guard of {site} has promised epoch {epoch}, and {known}. Stop this one where that one leads still; where \
             none does (the journal was lost, or restored from a backup), begin anew with `failover takeover {}`",
            service.name
        )
    })
}

/// Why no epoch may be opened at the site that the journal takes for the active one: the guard of another site may hold
/// a later epoch than the journal knows, as after a journal was lost or an old copy was taken up.
#[must_use]
pub fn doubt(service: &Service, state: &State, view: &View) -> Option<String> {
    let guards = service.guards.as_ref()?;
    let active = state.active.as_ref()?;
    if let Some(stranger) = stranger(service, state, view) {
        return Some(stranger);
    }
    let others = guards.sites.keys().filter(|site| *site != active);
    for site in others {
        let Some(report) = view.guards.get(site) else {
            if state.terms.is_none() && (state.taken_over.is_some() || state.epoch == Epoch(1)) {
                return Some(format!(
                    "the guard of {site} was not heard yet: it may hold an epoch that this journal does not know; where \
                     you know that it does not, say so with `failover ack`"
                ));
            }
            continue;
        };
        let writes = report.database == Some(Database::Writable);
        let holds = |p: &Promise| {
            p.role == Role::Primary && (p.epoch >= state.epoch || state.terms.is_none() && writes)
        };
        if report.promise.as_ref().is_some_and(holds) {
            return Some(format!(
                "the journal says that {active} serves, and the guard of {site} holds a later epoch: where the service \
                 runs there, say so with `failover moved {site}`"
            ));
        }
    }
    None
}

/// Why the epoch in force does not fit; none where it does.
fn reason(state: &State, view: &View, report: &Report, wanted: &Terms) -> Option<String> {
    let site = &wanted.site;
    let Some(terms) = state.terms.as_ref().filter(|t| t.epoch == state.epoch) else {
        return Some(format!(
            "the guard of {site} is to hold it from now on{}",
            with(wanted)
        ));
    };
    if report
        .promise
        .as_ref()
        .is_some_and(|p| p.epoch > state.epoch)
    {
        return Some(format!("{site} serves again after a fence was taken back"));
    }
    if state.shared == Some(state.epoch) {
        return Some(
            "this controller took over in the middle of a run, and the one before it may still grant leases in its epoch"
                .to_owned(),
        );
    }
    if view.is_lost(site, state.epoch) {
        return Some(format!("the guard of {site} lost its state"));
    }
    if next(state, view) > state.epoch.next() {
        return Some("a guard has promised a later epoch than this journal knows".to_owned());
    }
    (terms.lease != wanted.lease || terms.deputy != wanted.deputy)
        .then(|| format!("the terms at {site} change{}", with(wanted)))
}

fn with(terms: &Terms) -> String {
    match (&terms.lease, &terms.deputy) {
        (Lease::Bounded(lease), Some(deputy)) => {
            format!(", with leases of {lease} that the guard of {deputy} grants as well")
        }
        (Lease::Bounded(lease), None) => format!(", with leases of {lease}"),
        (Lease::Unbounded, _) => ", without an end to its lease".to_owned(),
    }
}
