//! What people should see of a record, as a Kubernetes Event.

use kube::runtime::events::{Event, EventType};

use crate::model::{
    drill::DrillOutcome,
    record::{AskOutcome, Record, RecordBody, RunOutcome},
    verdict::Verdict,
};

/// The longest note that the server takes.
const LONGEST: usize = 1024;

/// A service cannot be protected.
#[must_use]
pub fn unprotected(why: &str) -> Event {
    written(true, "NotProtected", why)
}

/// The Event of a record; none where it says nothing that people must act on or remember.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a projection of a few kinds of record"
)]
#[must_use]
pub fn of(record: &Record) -> Option<Event> {
    let (warns, reason, note) = match &record.body {
        RecordBody::VerdictChanged {
            component,
            to,
            reason,
            ..
        } => (
            *to == Verdict::Down,
            "Verdict",
            format!("{component} is {to}: {reason}"),
        ),
        RecordBody::IncidentOpened { reason, .. } => (true, "IncidentOpened", reason.clone()),
        RecordBody::IncidentClosed { reason, .. } => (false, "IncidentClosed", reason.clone()),
        RecordBody::Held { reasons, .. } if !reasons.is_empty() => {
            (true, "Held", reasons.join("; "))
        }
        RecordBody::AskOpened { ask, .. } => (true, "ApprovalNeeded", ask.reasons.join("; ")),
        RecordBody::AskClosed {
            outcome: AskOutcome::Approved,
            ask,
        } => (false, "Approved", format!("{ask} is approved")),
        RecordBody::RunOpened {
            kind, plan, reason, ..
        } => (
            true,
            "RunOpened",
            format!("{kind} from {} to {}: {reason}", plan.from, plan.to),
        ),
        RecordBody::EpochRaised { epoch, site, .. } => (
            false,
            "Promoting",
            format!("{site} is promoted, epoch {epoch}"),
        ),
        RecordBody::Verified {
            run,
            downtime,
            within_rto,
        } => (
            !within_rto,
            "Verified",
            format!("{run}: the service answers again after {downtime}"),
        ),
        RecordBody::RunClosed {
            run,
            outcome,
            reason,
            ..
        } => (
            *outcome != RunOutcome::Done,
            "RunClosed",
            format!("{run}: {reason}"),
        ),
        RecordBody::DrillJudged {
            drill,
            outcome,
            reasons,
        } => (
            *outcome != DrillOutcome::Passed,
            "DrillJudged",
            format!("{drill} {outcome}: {}", reasons.join("; ")),
        ),
        RecordBody::LeaderTaken { term, leader } => {
            (false, "LeaderTaken", format!("{leader} leads, term {term}"))
        }
        _ => return None,
    };
    Some(written(warns, reason, &note))
}

fn written(warns: bool, reason: &str, note: &str) -> Event {
    Event {
        type_: if warns {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: reason.to_owned(),
        note: Some(note.chars().take(LONGEST / 4).collect()),
        action: reason.to_owned(),
        secondary: None,
    }
}
