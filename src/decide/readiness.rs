//! Readiness: what the last check still says, and whether `automatic` is earned. A check speaks for the plan that it was
//! made for, and for so long as the policy has it.

use super::state::State;
use crate::model::{
    check::{CheckItem, CheckStatus},
    id::{ConfigHash, PlanHash, SiteName},
    readiness::{Readiness, ReadinessPolicy},
    record::RecordBody,
    service::{Mode, Service},
    span::Span,
    time::Time,
    verdict::Verdict,
};

/// Drills that are older are spoken of, where documents do not say how old one may be.
const DRILL_AGE: Span = Span::from_secs(90 * 24 * 3600);
/// The item that speaks of the last drill.
pub const DRILL: &str = "drill";
/// What is found again unchanged is recorded again after this at the latest, so that the journal shows that it was looked.
const REPEAT: Span = Span::from_secs(3600);
/// A plan that changed is checked soon, and not at every turn of a run that goes to and fro.
const AGAIN: Span = Span::from_secs(60);

/// What was not green is looked at again soon: somebody mends it.
const MENDED: Span = Span::from_secs(120);
/// For so long a verdict is news, and what is found meanwhile is what the verdict says already.
const NEWS: Span = Span::from_secs(300);
/// Probes that look once a minute see an outage so much later than a check that happens to be made in it.
const BEFORE: Span = Span::from_secs(60);

/// A readiness check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The documents that it was made for.
    pub config: ConfigHash,
    /// The plan that it was made for, where one could be made.
    pub plan: Option<PlanHash>,
    /// The active site at that time.
    pub active: Option<SiteName>,
    /// The program that made it.
    pub version: String,
    /// When.
    pub at: Time,
    /// Whether nothing failed or was unknown.
    pub green: bool,
    /// What is not ok.
    pub problems: Vec<CheckItem>,
}

/// What the last check still says, with the reason in one sentence. It speaks for the documents, the direction and the
/// program that it was made with: where one of them changed, the plan is another one.
#[must_use]
pub fn verdict(service: &Service, state: &State, now: Time) -> (Readiness, String) {
    let Some(check) = speaking(state) else {
        let text = format!("`failover check {}` was never run", service.name);
        return (Readiness::Unknown, text);
    };
    if let Some(change) = changed(state, check) {
        return (Readiness::Unknown, change);
    }
    let max_age = service.readiness.max_age;
    if now.since(check.at) > max_age {
        let text = format!("the last check is older than {max_age}");
        return (Readiness::Unknown, text);
    }
    // A check of an earlier version counted what was not ok by itself.
    let named = |status| {
        let mut found = check.problems.iter();
        found.find(|p| p.hinders() && p.status == status)
    };
    let first = check.problems.first().map_or("", |p| p.name.as_str());
    match (check.green, named(CheckStatus::Fail)) {
        (true, _) => match wanting(&service.readiness, state, now) {
            None => (Readiness::Ready, "every item is ok or a warning".to_owned()),
            Some(drill) => (Readiness::NotReady, drill),
        },
        (false, Some(problem)) => (
            Readiness::NotReady,
            format!("the last check was not green ({})", problem.name),
        ),
        (false, None) => {
            let name = named(CheckStatus::Unknown).map_or(first, |p| p.name.as_str());
            (
                Readiness::Unknown,
                format!("the last check was not green ({name})"),
            )
        }
    }
}

/// The last check, where it still says something.
#[must_use]
pub fn standing<'a>(service: &Service, state: &'a State, now: Time) -> Option<&'a Check> {
    let check = speaking(state)?;
    let is_young = now.since(check.at) <= service.readiness.max_age;
    (is_young && changed(state, check).is_none()).then_some(check)
}

/// The check that counts. One that was made in an outage finds the outage, which must not keep the failover from being made
/// that the check before it had earned.
fn speaking(state: &State) -> Option<&Check> {
    let check = state.check.as_ref()?;
    if check.green || !saw_outage(state, check) {
        return Some(check);
    }
    state.check_before.as_ref().or(Some(check))
}

/// Whether a check was made in the outage that is open now, or so shortly before its first sign that it may be the first
/// sign itself.
#[must_use]
pub fn saw_outage(state: &State, check: &Check) -> bool {
    let incident = state.incident.as_ref();
    incident.is_some_and(|i| check.at >= i.outage.before(BEFORE))
}

/// Whether something goes wrong or is being put right just now: then a check finds nothing else.
fn is_disturbed(state: &State, now: Time) -> bool {
    let is_news = |(verdict, since): &(Verdict, Time)| match verdict {
        Verdict::Suspect | Verdict::Down => now.since(*since) < NEWS,
        Verdict::Healthy | Verdict::Degraded | Verdict::Inconclusive => false,
    };
    state.run.is_some() || state.verdicts.values().any(is_news)
}

/// What changed since a check, so that the plan is another one now.
fn changed(state: &State, check: &Check) -> Option<String> {
    if check.config != state.config {
        return Some("the documents changed since the last check".to_owned());
    }
    if check.active != state.active {
        let now = state.active.as_ref().map_or("nobody", |s| s.as_str());
        return Some(format!(
            "the plan is another one since the last check: {now} is the active site now"
        ));
    }
    (check.version != state.version)
        .then(|| format!("failover is {} since the last check", state.version))
}

/// Why the last drill does not do, where documents require one.
fn wanting(policy: &ReadinessPolicy, state: &State, now: Time) -> Option<String> {
    let item = drill(policy, state.drills.last_passed(), now);
    item.hinders().then_some(item.detail)
}

/// What there is to say of the last passed drill. Where the policy has a greatest age, a drill that is older or was
/// never passed is a failure; else it is a warning.
#[must_use]
pub fn drill(policy: &ReadinessPolicy, passed: Option<Time>, now: Time) -> CheckItem {
    let limit = policy.drill_max_age.unwrap_or(DRILL_AGE);
    let status = match policy.drill_max_age {
        Some(_) => CheckStatus::Fail,
        None => CheckStatus::Warn,
    };
    let detail = match passed {
        Some(at) if now.since(at) <= limit => {
            return CheckItem::ok(
                DRILL,
                format!(
                    "a drill was passed on {}, no longer than {limit} ago",
                    at.date()
                ),
            );
        }
        Some(at) => format!(
            "the last drill was passed on {}, longer than {limit} ago",
            at.date()
        ),
        None => "no drill was ever passed: nobody knows whether the plan works".to_owned(),
    };
    CheckItem::bad(DRILL, status, detail, "exercise the plan: `failover drill`")
}

/// Whether a check that is ready is there for exactly this plan, and a drill where one is required.
#[must_use]
pub fn earned(service: &Service, state: &State, now: Time) -> bool {
    verdict(service, state, now).0 == Readiness::Ready
}

/// Why `automatic` is not earned.
#[must_use]
pub fn unearned(service: &Service, state: &State, now: Time) -> String {
    verdict(service, state, now).1
}

/// The mode in force: what the documents ask for, lowered by a person, and `automatic` only where earned.
#[must_use]
pub fn mode(service: &Service, state: &State, now: Time) -> Mode {
    let mode = state
        .lowered
        .map_or(state.wanted, |lowered| lowered.min(state.wanted));
    if mode == Mode::Automatic && !earned(service, state, now) {
        Mode::Ask
    } else {
        mode
    }
}

/// The record of a verdict that is not what it was.
#[must_use]
pub fn turn(service: &Service, state: &State, now: Time) -> Option<RecordBody> {
    let (to, reason) = verdict(service, state, now);
    (to != state.readiness).then_some(RecordBody::ReadinessTurned {
        from: state.readiness,
        to,
        reason,
    })
}

/// The record of a check that ended, where it is news or the last one is about to say nothing any more.
#[must_use]
pub fn checked(
    service: &Service,
    state: &State,
    config: ConfigHash,
    plan: Option<PlanHash>,
    items: &[CheckItem],
    now: Time,
) -> Option<RecordBody> {
    let green = !items.iter().any(CheckItem::hinders);
    if !green && is_disturbed(state, now) {
        return None;
    }
    let problems: Vec<_> = items
        .iter()
        .filter(|i| i.status != CheckStatus::Ok)
        .cloned()
        .collect();
    let names = |items: &[CheckItem]| -> Vec<_> {
        let named = items.iter().map(|i| (i.name.clone(), i.status));
        named.collect()
    };
    let half = Span::from_millis(service.readiness.max_age.as_millis() / 2);
    let is_same = state.check.as_ref().is_some_and(|c| {
        c.config == config
            && c.plan == plan
            && c.green == green
            && changed(state, c).is_none()
            && names(&c.problems) == names(&problems)
            && now.since(c.at) < half.min(REPEAT)
    });
    (!is_same).then_some(RecordBody::Checked {
        config,
        green,
        problems,
        plan,
    })
}

/// Whether the controller checks again by itself: after the policy's time, which differs a little from service to
/// service and from check to check, soon where the last one was not green, and as soon as what was checked says nothing
/// any more; not in the first minutes of an outage, nor while something is being put right. `last` is when it did so
/// last, `count` how often it did.
#[must_use]
pub fn is_due(service: &Service, state: &State, last: Time, count: u64, now: Time) -> bool {
    let is_stale = state
        .check
        .as_ref()
        .is_none_or(|c| changed(state, c).is_some());
    if is_disturbed(state, now) {
        return false;
    }
    let gone = now.since(last);
    let is_red = state.check.as_ref().is_some_and(|c| !c.green);
    if is_red && gone >= MENDED {
        return true;
    }
    gone >= jittered(service, count) || (is_stale && gone >= AGAIN.min(service.readiness.every))
}

/// The time between two checks, up to a tenth shorter: many services do not ask their servers all at once.
fn jittered(service: &Service, count: u64) -> Span {
    let every = service.readiness.every.as_millis();
    // FNV-1a over name and number.
    let bytes = service.name.as_str().bytes().chain(count.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Span::from_millis(every - every / 10 * (hash % 1000) / 1000)
}

#[cfg(test)]
mod tests;
