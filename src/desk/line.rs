//! One record in one line, for timelines and for whoever watches.

use crate::model::{
    announcement::Tally,
    backup::{Restored, Verification},
    drill::DrillOutcome,
    group::GroupRecord,
    id::{PersonName, ServiceName, UserName},
    readiness::Readiness,
    record::{AskOutcome, Record, RecordBody, Settlement},
    step::{Presence, Proof, StepResult},
};

/// How much a record matters to a person who reads a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// A detail.
    Detail,
    /// Worth a line.
    Normal,
    /// What everybody wants to see.
    Heavy,
    /// Bad news.
    Bad,
}

/// A record in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What part of the work it belongs to, in one word.
    pub topic: &'static str,
    /// What happened.
    pub text: String,
    /// How much it matters.
    pub weight: Weight,
}

fn line(topic: &'static str, weight: Weight, text: impl Into<String>) -> Line {
    Line {
        topic,
        text: text.into(),
        weight,
    }
}

fn group(record: &GroupRecord) -> Line {
    use Weight::{Bad, Heavy, Normal};
    match record {
        GroupRecord::Affected { members, .. } => {
            let names: Vec<&str> = members.iter().map(ServiceName::as_str).collect();
            let text = format!("in an incident: {}", names.join(", "));
            line("incident", Bad, text)
        }
        GroupRecord::TurnGiven { member, wave } => {
            line("turn", Heavy, format!("{member} (wave {wave}) may begin"))
        }
        GroupRecord::TurnOver { member, reason } => {
            line("turn", Normal, format!("{member}: {reason}"))
        }
        GroupRecord::Passed { member, reason } => {
            line("turn", Bad, format!("nobody waits for {member}: {reason}"))
        }
    }
}

/// Puts a record into one line.
#[must_use]
pub fn of(record: &Record) -> Line {
    use Weight::{Bad, Detail, Heavy, Normal};
    match &record.body {
        RecordBody::ControllerStarted { version, mode, .. } => line(
            "controller",
            Normal,
            format!("controller {version} takes up the service, mode {mode}"),
        ),
        RecordBody::LeaderTaken { term, leader } => {
            line("controller", Normal, format!("{leader} leads, term {term}"))
        }
        RecordBody::DocumentsChanged { mode, .. } => line(
            "documents",
            Normal,
            format!("the documents changed; they ask for mode {mode}"),
        ),
        RecordBody::ModeChanged { mode, by, reason } => line(
            "mode",
            Normal,
            format!("mode {mode}{}: {reason}", by_whom(by.as_ref())),
        ),
        RecordBody::Checked {
            green: true,
            problems,
            ..
        } if problems.is_empty() => line("check", Detail, "the check is green"),
        RecordBody::Checked {
            green, problems, ..
        } => {
            let names: Vec<_> = problems.iter().map(|p| p.name.as_str()).collect();
            let (weight, word) = if *green {
                (Detail, "green, with remarks")
            } else {
                (Normal, "not green")
            };
            line(
                "check",
                weight,
                format!("the check is {word}: {}", names.join(", ")),
            )
        }
        RecordBody::VerdictChanged {
            component,
            from,
            to,
            reason,
            ..
        } => {
            let bad = matches!(
                to,
                crate::model::verdict::Verdict::Down | crate::model::verdict::Verdict::Suspect
            );
            line(
                "verdict",
                if bad { Heavy } else { Normal },
                format!("{component}: {from} -> {to} ({reason})"),
            )
        }
        // Of what a person asked for no component was the cause.
        RecordBody::IncidentOpened {
            components, reason, ..
        } if components.is_empty() => line("incident", Heavy, format!("begins: {reason}")),
        RecordBody::IncidentOpened { since, reason, .. } => line(
            "incident",
            Bad,
            format!("an outage since {}: {reason}", since.clock()),
        ),
        RecordBody::IncidentClosed { reason, .. } => {
            line("incident", Heavy, format!("is over: {reason}"))
        }
        RecordBody::Held { reasons, .. } if reasons.is_empty() => {
            line("gate", Normal, "nothing holds it back any more")
        }
        RecordBody::Held { reasons, .. } => line(
            "gate",
            Heavy,
            format!("nothing is begun: {}", reasons.join("; ")),
        ),
        RecordBody::WouldAct {
            kind, plan, loss, ..
        } => line(
            "observe",
            Heavy,
            format!(
                "would have begun a {kind} from {} to {}; loss {loss}",
                plan.from, plan.to
            ),
        ),
        RecordBody::AskOpened { ask, .. } => line(
            "ask",
            Bad,
            format!(
                "asks about {}: {}",
                crate::decide::event::subject_words(&ask.subject),
                ask.reasons.join("; ")
            ),
        ),
        RecordBody::Approved {
            ask,
            by,
            user,
            reason,
            break_glass,
        } => line(
            "ask",
            Heavy,
            format!(
                "{} approved {ask}{}{}",
                signed(by, user.as_ref()),
                if *break_glass {
                    " alone, breaking the glass"
                } else {
                    ""
                },
                because(reason.as_deref())
            ),
        ),
        RecordBody::AskClosed { ask, outcome } => {
            line("ask", Normal, format!("{ask} {}", ended(outcome)))
        }
        RecordBody::RunOpened {
            kind,
            plan,
            reason,
            loss,
            ..
        } => line(
            "run",
            Heavy,
            format!(
                "{kind} from {} to {} begins: {reason}; loss {loss}; plan {}",
                plan.from,
                plan.to,
                plan.hash().short()
            ),
        ),
        RecordBody::EpochRaised {
            epoch,
            site,
            evidence,
            ..
        } => line(
            "epoch",
            Normal,
            format!("epoch {epoch} belongs to {site}: {evidence}"),
        ),
        RecordBody::EpochOpened { terms, reason } => line(
            "epoch",
            Normal,
            format!("epoch {} belongs to {}: {reason}", terms.epoch, terms.site),
        ),
        RecordBody::TakenOver { epoch, by, reason } => line(
            "epoch",
            Heavy,
            format!("epoch {epoch}: {by} had this controller take over: {reason}"),
        ),
        RecordBody::EpochHeld { site, epoch } => line(
            "epoch",
            Detail,
            format!("the guard of {site} holds epoch {epoch}"),
        ),
        RecordBody::StepIntent { step, attempt, .. } => line(
            "step",
            Detail,
            if attempt.0 > 1 {
                format!("{step} begins, attempt {attempt}")
            } else {
                format!("{step} begins")
            },
        ),
        RecordBody::StepOutcome {
            step, result, took, ..
        } => match result {
            StepResult::Done(proof) => line(
                "step",
                Normal,
                format!("{step} done in {took}: {}{}", proof.summary, facts(proof)),
            ),
            StepResult::Failed { reason } => {
                line("step", Bad, format!("{step} failed after {took}: {reason}"))
            }
            StepResult::Indeterminate { reason } => line(
                "step",
                Bad,
                format!("{step} cannot be told after {took}: {reason}"),
            ),
        },
        RecordBody::StepObserved { step, presence, .. } => match presence {
            Presence::InPlace(proof) => line(
                "step",
                Normal,
                format!("{step} is in place: {}", proof.summary),
            ),
            Presence::Absent { reason } => {
                line("step", Normal, format!("{step} is not in place: {reason}"))
            }
            Presence::Unknown { reason } => line(
                "step",
                Bad,
                format!("whether {step} is in place cannot be told: {reason}"),
            ),
        },
        RecordBody::StepSettled { step, how, .. } => {
            line("step", Normal, format!("{step} {}", settled(how)))
        }
        RecordBody::Attested { by, statement, .. } => line(
            "fence",
            Heavy,
            format!("{by} attests that the old primary cannot write: {statement}"),
        ),
        RecordBody::Unwinding { by, reason, .. } => line(
            "run",
            Heavy,
            format!("the run goes back{}: {reason}", by_whom(by.as_ref())),
        ),
        RecordBody::Verified {
            downtime,
            within_rto,
            ..
        } => line(
            "run",
            Heavy,
            format!(
                "verified: the service works again after {downtime}, {} the RTO",
                if *within_rto { "within" } else { "beyond" }
            ),
        ),
        RecordBody::LossMeasured {
            run,
            forecast,
            bytes,
            commits,
        } => line(
            "loss",
            Heavy,
            format!(
                "failover {run} really left {commits} committed transactions behind ({bytes} bytes of log); its forecast was: {forecast}"
            ),
        ),
        RecordBody::RunClosed {
            outcome,
            reason,
            active,
            ..
        } => line(
            "run",
            Heavy,
            format!(
                "run ended {}: {reason}; {active} serves",
                format!("{outcome:?}").to_lowercase()
            ),
        ),
        RecordBody::PhaseEntered {
            phase,
            announcement,
        } => {
            let channels: Vec<_> = announcement
                .channels
                .iter()
                .map(crate::model::id::ChannelName::as_str)
                .collect();
            if channels.is_empty() {
                line(
                    "tell",
                    Detail,
                    format!("{phase}: no channel tells customers of it"),
                )
            } else {
                let text = format!("customers hear: {phase}, on {}", channels.join(", "));
                line("tell", Normal, text)
            }
        }
        RecordBody::AnnouncementSettled {
            announcement,
            tallies,
        } => {
            let counts: Vec<_> = tallies
                .iter()
                .map(|(channel, tally)| format!("{channel} {}", counted(tally)))
                .collect();
            let (weight, told) = if counts.is_empty() {
                (Detail, "there is no channel to tell anybody on".to_owned())
            } else {
                (Normal, counts.join(", "))
            };
            line("tell", weight, format!("{announcement}: {told}"))
        }
        RecordBody::PageRaised { page } => line("page", Normal, page.title.clone()),
        RecordBody::TeamPaged { pages, level, to } => {
            let pages: Vec<_> = pages.keys().map(ToString::to_string).collect();
            let who = match level {
                0 => "to",
                _ => "nobody has acknowledged yet: also to",
            };
            let text = format!("{}: {who} {}", pages.join(", "), to.join(", "));
            line("page", Detail, text)
        }
        RecordBody::PageClosed { page, by } => line(
            "page",
            Detail,
            match by {
                Some(by) => format!("{by} acknowledged {page}"),
                None => format!("{page} is no longer needed"),
            },
        ),
        RecordBody::Paused { by, reason } => {
            line("pause", Heavy, format!("{by} paused it: {reason}"))
        }
        RecordBody::Resumed { by } => line("pause", Heavy, format!("{by} ended the pause")),
        RecordBody::Moved {
            site,
            epoch,
            by,
            reason,
            ..
        } => line(
            "epoch",
            Heavy,
            format!("epoch {epoch}: {by} says that it runs at {site} now: {reason}"),
        ),
        RecordBody::FailoverAcknowledged { by } => line(
            "run",
            Normal,
            format!("{by} acknowledged the last failover: another may follow"),
        ),
        RecordBody::TtlChanged {
            name,
            from,
            to,
            done,
        } => line(
            "dns",
            Detail,
            format!(
                "TTL of {name} {} from {from} s to {to} s",
                if *done { "changed" } else { "is being changed" }
            ),
        ),
        RecordBody::BackupVerified { result } => restored(result),
        RecordBody::BackupTaken { result } => match result.problem() {
            None => {
                let names: Vec<_> = result.places.keys().map(ToString::to_string).collect();
                let text = format!(
                    "a backup was taken in {}: it is in {}",
                    result.took,
                    names.join(", ")
                );
                line("backups", Normal, text)
            }
            Some(reason) => {
                let text = format!("no backup was taken as it should be: {reason}");
                line("backups", Bad, text)
            }
        },
        RecordBody::BackupsJudged { breaches } if breaches.is_empty() => {
            line("backups", Normal, "the backups keep their policy")
        }
        RecordBody::BackupsJudged { breaches } => {
            let texts: Vec<_> = breaches.iter().map(|b| b.text.as_str()).collect();
            line("backups", Bad, texts.join("; "))
        }
        RecordBody::DrillOpened {
            drill,
            requester,
            reason,
        } => line(
            "drill",
            Heavy,
            format!(
                "drill {} ({}) begins{}: {reason}",
                drill.policy,
                drill.depth,
                by_whom(requester.as_ref())
            ),
        ),
        RecordBody::DrillJudged {
            outcome, reasons, ..
        } => line(
            "drill",
            match outcome {
                DrillOutcome::Passed => Heavy,
                DrillOutcome::Failed | DrillOutcome::BrokenOff => Bad,
            },
            match reasons.as_slice() {
                [] => format!("the drill {}", past(*outcome)),
                reasons => format!("the drill {}: {}", past(*outcome), reasons.join("; ")),
            },
        ),
        RecordBody::DrillClosed { left, .. } if left.is_empty() => {
            line("drill", Normal, "nothing of the drill is left")
        }
        RecordBody::DrillClosed { left, .. } => line("drill", Bad, left.join("; ")),
        RecordBody::DrillSkipped {
            policy,
            slot,
            reason,
        } => line(
            "drill",
            Bad,
            format!("drill {policy} of {} was left out: {reason}", slot.date()),
        ),
        RecordBody::ReadinessTurned { to, reason, .. } => {
            let weight = match to {
                Readiness::Ready => Normal,
                Readiness::NotReady => Bad,
                Readiness::Unknown => Heavy,
            };
            line("ready", weight, format!("readiness is {to}: {reason}"))
        }
        RecordBody::JournalResumed { since, reason } => line(
            "journal",
            Bad,
            format!(
                "the journal could not be written from {} on: {reason}; nothing was done in that time",
                since.clock()
            ),
        ),
        RecordBody::Declared { by, reason, .. } => {
            line("incident", Heavy, format!("{by} declares it: {reason}"))
        }
        RecordBody::Resolved { by, reason, .. } => line(
            "incident",
            Heavy,
            format!("{by} says that it is over: {reason}"),
        ),
        RecordBody::DutyTaken {
            duty, person, by, ..
        } => line(
            "people",
            Normal,
            if person == by {
                format!("{person} is {duty}")
            } else {
                format!("{person} is {duty}, says {by}")
            },
        ),
        RecordBody::HandOverOffered { to, by, .. } => {
            line("people", Normal, format!("{by} asks {to} to lead"))
        }
        RecordBody::Refused { by, what, reason } => line(
            "refused",
            Normal,
            format!("{by} wanted to {what}: {reason}"),
        ),
        RecordBody::Group(record) => group(record),
        RecordBody::Note { by, text } => line("note", Normal, format!("{by}: {text}")),
    }
}

fn restored(result: &Verification) -> Line {
    let what = format!("{} in {}", result.copy, result.source);
    let (weight, text) = match &result.outcome {
        Restored::Good => (
            Weight::Normal,
            format!(
                "{what} was restored in {} and answers as it should",
                result.took
            ),
        ),
        Restored::Bad { reason } => (Weight::Bad, format!("{what} cannot be used: {reason}")),
        Restored::Wrong { reason } => (
            Weight::Bad,
            format!("{what} answers otherwise than it should: {reason}"),
        ),
        Restored::Unknown { reason } => (
            Weight::Heavy,
            format!("{what} could not be tried to the end: {reason}"),
        ),
    };
    line("backups", weight, text)
}

fn by_whom(by: Option<&crate::model::id::PersonName>) -> String {
    by.map(|by| format!(" by {by}")).unwrap_or_default()
}

/// A person, and the user of the API server that they were.
pub fn signed(by: &PersonName, user: Option<&UserName>) -> String {
    user.map_or_else(|| by.to_string(), |user| format!("{by} ({user})"))
}

fn because(reason: Option<&str>) -> String {
    reason.map(|r| format!(": {r}")).unwrap_or_default()
}

fn ended(outcome: &AskOutcome) -> String {
    match outcome {
        AskOutcome::Approved => "has enough approvals".to_owned(),
        AskOutcome::Denied { by, reason } => {
            format!("was denied by {by}{}", because(reason.as_deref()))
        }
        AskOutcome::Expired { proceed: true } => {
            "was not answered in time; the policy is to proceed".to_owned()
        }
        AskOutcome::Expired { proceed: false } => {
            "was not answered in time; nothing is done".to_owned()
        }
        AskOutcome::Void { reason } => format!("is void: {reason}"),
    }
}

fn settled(how: &Settlement) -> String {
    match how {
        Settlement::Manual { by } => format!("was done by {by}"),
        Settlement::Skipped { reason } => format!("is left out: {reason}"),
        Settlement::Undone { summary } => format!("was taken back: {summary}"),
        Settlement::Left { reason } => format!("could not be taken back: {reason}"),
    }
}

/// Only what is not zero.
fn counted(tally: &Tally) -> String {
    let parts: Vec<_> = [
        (tally.sent, "sent"),
        (tally.queued, "queued"),
        (tally.unknown, "unknown"),
        (tally.failed, "failed"),
        (tally.suppressed, "suppressed"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, word)| format!("{n} {word}"))
    .collect();
    if parts.is_empty() {
        "nobody to tell".to_owned()
    } else {
        parts.join(" ")
    }
}

/// What a step learned that a later rejoin needs.
fn facts(proof: &Proof) -> String {
    ["timeline", "lsn"]
        .iter()
        .filter_map(|name| Some(format!(", {name} {}", proof.facts.get(*name)?)))
        .collect()
}

fn past(outcome: DrillOutcome) -> &'static str {
    match outcome {
        DrillOutcome::Passed => "is passed",
        DrillOutcome::Failed => "failed",
        DrillOutcome::BrokenOff => "was broken off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{id::AnnouncementId, record::FORMAT};

    #[test]
    fn nobody_is_told_in_words() {
        let mut record = Record {
            format: FORMAT,
            chain: "shop".into(),
            seq: crate::model::id::Seq(9),
            epoch: crate::model::id::Epoch(1),
            at: crate::model::time::Time::from_millis(0),
            prev: String::new(),
            body: RecordBody::AnnouncementSettled {
                announcement: AnnouncementId::from("shop-i7-recovered"),
                tallies: std::collections::BTreeMap::new(),
            },
        };
        assert_eq!(
            of(&record).text,
            "shop-i7-recovered: there is no channel to tell anybody on"
        );
        record.body = RecordBody::AnnouncementSettled {
            announcement: AnnouncementId::from("shop-i7-recovered"),
            tallies: [("mail".into(), Tally::default())].into(),
        };
        assert_eq!(of(&record).text, "shop-i7-recovered: mail nobody to tell");
    }
}
