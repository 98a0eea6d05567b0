//! When a drill begins by itself, and when it is left out.

use sha2::{Digest, Sha256};

use super::{Wanted, begin};
use crate::{
    decide::{state::State, view::View},
    model::{
        drill::DrillPolicy, id::ServiceName, record::RecordBody, service::Service, span::Span,
        time::Time,
    },
};

/// Begins the drill that is due, or says why it is left out.
#[must_use]
pub fn turn(service: &Service, state: &State, view: &View, now: Time) -> Vec<RecordBody> {
    // Right after a start nothing is known of the service yet.
    let mut policies = service.drills.iter().filter(|_| view.started.is_some());
    let found = policies.find_map(|policy| {
        let slot = due(&service.name, state, view, policy, now)?;
        let wanted = Wanted {
            by: None,
            reason: "its schedule",
            slot: Some(slot),
        };
        match begin(service, state, view, policy, &wanted, now) {
            Ok(records) => Some(records),
            Err(_) if now < last_call(policy, slot) => None,
            Err(reasons) => Some(vec![RecordBody::DrillSkipped {
                policy: policy.name.clone(),
                slot,
                reason: reasons.join("; "),
            }]),
        }
    });
    found.unwrap_or_default()
}

/// The moment of its schedule that a policy has come to and has not answered yet.
///
/// What was due while no controller ran is not made up for: it is answered, as left out, where an earlier one was.
fn due(
    service: &ServiceName,
    state: &State,
    view: &View,
    policy: &DrillPolicy,
    now: Time,
) -> Option<Time> {
    let schedule = policy.schedule.as_ref()?;
    // The newest moment whose jitter is over.
    let mut slot = schedule.until(now)?;
    if begins(service, policy, slot) > now {
        slot = schedule.until(slot.before(Span::from_millis(1)))?;
    }
    let answered = state.drills.slots.get(&policy.name);
    if answered.is_some_and(|last| *last >= slot) {
        return None;
    }
    let is_known = answered.is_some() || view.started.is_some_and(|at| at <= slot);
    (is_known || now < last_call(policy, slot)).then_some(slot)
}

/// When it is left out at the latest.
fn last_call(policy: &DrillPolicy, slot: Time) -> Time {
    slot.after(policy.jitter).after(policy.grace)
}

/// When a policy's next drill begins by itself.
#[must_use]
pub fn next(service: &ServiceName, policy: &DrillPolicy, now: Time) -> Option<Time> {
    let schedule = policy.schedule.as_ref()?;
    // One whose jitter is not over yet comes first.
    let current = schedule.until(now).map(|s| begins(service, policy, s));
    let coming = || schedule.after(now).map(|s| begins(service, policy, s));
    current.filter(|at| *at > now).or_else(coming)
}

/// Jitter drawn from the names and the moment alone: each controller comes to the same.
fn begins(service: &ServiceName, policy: &DrillPolicy, slot: Time) -> Time {
    let most = policy.jitter.as_millis();
    if most == 0 {
        return slot;
    }
    let seed = format!("{service}/{}/{slot}", policy.name);
    let digest = Sha256::digest(seed.as_bytes());
    let number = digest
        .iter()
        .take(8)
        .fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
    slot.after(Span::from_millis(number % most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{drill::Depth, schedule::Schedule};

    fn policy(cron: &str, zone: &str, jitter: Span) -> DrillPolicy {
        DrillPolicy {
            name: "monthly".into(),
            depth: Depth::Paper,
            runbook: None,
            schedule: Some(Schedule::parse(cron, zone).unwrap()),
            jitter,
            grace: Span::from_secs(600),
            stay: Span::ZERO,
            blocked: Vec::new(),
            inject: Vec::new(),
        }
    }

    fn at(text: &str) -> Time {
        Time::parse(text).unwrap()
    }

    /// When a controller that looks every minute begins it, each time answering the slot.
    fn begun(policy: &DrillPolicy, from: &str, to: &str) -> Vec<String> {
        let shop = ServiceName::from("shop");
        let mut state = State::default();
        let (mut now, end) = (at(from), at(to));
        let mut out = Vec::new();
        while now < end {
            if let Some(slot) = due(&shop, &state, &View::default(), policy, now) {
                out.push(now.to_string());
                state.drills.slots.insert(policy.name.clone(), slot);
            }
            now = now.after(Span::from_secs(60));
        }
        out
    }

    #[test]
    fn a_night_without_half_past_two_has_its_drill_and_one_with_two_of_them_has_one() {
        let nightly = policy("30 2 * * *", "Europe/Berlin", Span::ZERO);
        assert_eq!(
            begun(&nightly, "2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z"),
            [
                "2026-03-28T01:30:00.000Z",
                "2026-03-29T01:00:00.000Z",
                "2026-03-30T00:30:00.000Z"
            ]
        );
        assert_eq!(
            begun(&nightly, "2026-10-24T00:00:00Z", "2026-10-26T12:00:00Z"),
            [
                "2026-10-24T00:30:00.000Z",
                "2026-10-25T00:30:00.000Z",
                "2026-10-26T01:30:00.000Z"
            ]
        );
    }

    #[test]
    fn jitter_is_another_each_time_and_never_too_long() {
        let jittery = policy("0 3 * * *", "UTC", Span::from_secs(3600));
        let found = begun(&jittery, "2026-06-01T00:00:00Z", "2026-06-15T00:00:00Z");
        assert_eq!(found.len(), 14);
        let minutes: std::collections::BTreeSet<_> =
            found.iter().map(|t| t[14..16].to_owned()).collect();
        assert!(minutes.len() > 7, "{minutes:?}");
        assert!(
            found
                .iter()
                .all(|t| &t[11..13] == "03" || &t[11..16] == "04:00"),
            "{found:?}"
        );
    }

    #[test]
    fn what_was_due_while_nobody_ran_is_not_made_up_for_but_answered() {
        let daily = policy("0 3 * * *", "UTC", Span::ZERO);
        let shop = ServiceName::from("shop");
        let mut state = State::default();
        // A new controller: nothing was ever answered, and the morning is long over.
        let noon = at("2026-06-02T12:00:00Z");
        let mut view = View {
            started: Some(noon),
            ..View::default()
        };
        assert_eq!(due(&shop, &state, &view, &daily, noon), None);
        // One that ran and was kept from it.
        view.started = Some(at("2026-06-02T01:00:00Z"));
        assert_eq!(
            due(&shop, &state, &view, &daily, noon),
            Some(at("2026-06-02T03:00:00Z"))
        );
        view.started = Some(noon);
        state
            .drills
            .slots
            .insert(daily.name.clone(), at("2026-06-01T03:00:00Z"));
        let missed = due(&shop, &state, &view, &daily, noon).unwrap();
        assert_eq!(missed, at("2026-06-02T03:00:00Z"));
        assert!(noon > last_call(&daily, missed));
    }

    #[test]
    fn the_next_one_is_told() {
        let daily = policy("0 3 * * *", "Europe/Berlin", Span::ZERO);
        let shop = ServiceName::from("shop");
        let next = next(&shop, &daily, at("2026-10-24T12:00:00Z")).unwrap();
        assert_eq!(next, at("2026-10-25T02:00:00Z"));
    }
}
