//! Turns, as a member of a group has them: it opens a run when the group has given it its turn, or people say that it
//! need not wait.
//!
//! A turn only ever delays. Whoever waits says so in the journal by the reason that holds it back; from there the group
//! learns of it, after a restart as well.

use super::{
    detect::{self, Need},
    readiness,
    state::{Question, State},
    view::View,
};
use crate::model::{
    announcement::Phase,
    group::Membership,
    id::{Seq, ServiceName},
    plan::RunKind,
    service::{Mode, Service},
    span::Span,
    time::Time,
    verdict::Verdict,
};

/// A group that has said nothing for so long is gone: nobody waits for it any more. It speaks more often than that even
/// while its journal cannot be written.
pub const SILENT: Span = Span::from_secs(120);

/// What a group says to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nobody is ahead: a turn would be given at once.
    Free,
    /// Somebody goes first.
    Behind(String),
    /// It is its turn, by the record of this sequence.
    Given(Seq),
    /// That turn was used, or given back; the member's own word.
    Spent(Seq),
}

/// Where a member stands, as its group hears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which member.
    pub service: ServiceName,
    /// Since when its present outage lasts; none where it is in no incident, or would not act in one.
    pub outage: Option<Time>,
    /// What its own customers were told last in this incident; planned work is none of the group's.
    pub phase: Option<Phase>,
    /// What it is about.
    pub stands: Stands,
    /// The turn that it has used, or given back.
    pub spent: Option<Seq>,
}

/// What a member is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stands {
    /// Nothing is down, or it would not act.
    Clear,
    /// Something may be down, or is, and it does not act yet: patience, a gate, a person.
    Ahead,
    /// Nothing but its turn is wanting.
    Waits,
    /// A run of it is open.
    Runs,
}

impl Report {
    /// Where a service stands; none where it is in no group.
    #[must_use]
    pub fn of(service: &Service, state: &State, view: &View, now: Time) -> Option<Self> {
        service.group.as_ref()?;
        let acts = readiness::mode(service, state, now) != Mode::Observe;
        let incident = state.incident.as_ref().filter(|_| acts);
        let phase = incident.and_then(|i| i.phase);
        let is_planned = matches!(phase, Some(Phase::Maintenance | Phase::MaintenanceOver));
        let is_open = is_open(state);
        let stands = if is_open {
            Stands::Runs
        } else if acts && waits(service, state) {
            Stands::Waits
        } else if acts && is_ahead(service, state) {
            Stands::Ahead
        } else {
            Stands::Clear
        };
        Some(Self {
            service: service.name.clone(),
            outage: incident.filter(|_| !is_planned).map(|i| i.outage),
            phase: phase.filter(|_| !is_planned),
            stands,
            spent: match view.turn {
                Some((Word::Spent(seq), _)) => Some(seq),
                Some((Word::Given(_) | Word::Free | Word::Behind(_), _)) | None => None,
            },
        })
    }
}

/// Whether a run is open that takes a turn.
fn is_open(state: &State) -> bool {
    state.run.as_ref().is_some_and(|run| match run.kind {
        RunKind::Failover | RunKind::Redirect => true,
        RunKind::Switchover | RunKind::Failback | RunKind::Drill => false,
    })
}

fn is_ahead(service: &Service, state: &State) -> bool {
    let suspects = |v: &(Verdict, Time)| v.0 == Verdict::Suspect;
    detect::need(service, &state.verdicts) != Need::Nothing || state.verdicts.values().any(suspects)
}

/// With what every reason begins that holds a member back for its turn.
fn prefix(own: &Membership) -> String {
    format!(
        "it waits for its turn in group {} (wave {})",
        own.group, own.wave
    )
}

/// Whether the journal says that nothing but its turn is wanting.
#[must_use]
pub fn waits(service: &Service, state: &State) -> bool {
    let (Some(own), Some(incident)) = (&service.group, &state.incident) else {
        return false;
    };
    let waits = |reason: &String| reason.starts_with(&prefix(own));
    state.run.is_none() && incident.held.len() == 1 && incident.held.iter().all(waits)
}

/// Who is ahead, where somebody is, or nothing was heard of that yet.
#[must_use]
pub fn behind(own: &Membership, view: &View) -> Option<String> {
    let why = match &view.turn {
        Some((Word::Given(_) | Word::Free | Word::Spent(_), _)) => return None,
        Some((Word::Behind(why), _)) => why.as_str(),
        None => "the group has not said yet who is ahead",
    };
    Some(format!("{}: {why}", prefix(own)))
}

/// What a run that nobody asks for past its turn waits for; none where it may begin.
#[must_use]
pub fn waits_for(service: &Service, view: &View, now: Time) -> Option<String> {
    let own = service.group.as_ref()?;
    let heard = view.turn.as_ref().map(|(_, at)| *at);
    let since = view
        .waits_since
        .map(|since| heard.map_or(since, |at| at.max(since)));
    if since.is_some_and(|since| now.since(since) >= SILENT) {
        return None;
    }
    match &view.turn {
        Some((Word::Given(_), _)) => None,
        Some((Word::Free | Word::Spent(_), _)) => {
            Some(format!("{}: it has asked for it", prefix(own)))
        }
        Some((Word::Behind(_), _)) | None => behind(own, view),
    }
}

/// Whether people were told that it is not its turn when they approved.
#[must_use]
pub fn is_passed_by(question: &Question) -> bool {
    let says = |reason: &String| reason.starts_with("it waits for its turn in group ");
    question.ask.reasons.iter().any(says)
}

/// Takes in what the group says. What it says of a turn may be older than that the turn was used.
pub fn hear(view: &mut View, said: Word, now: Time) {
    let is_old = match (&view.turn, &said) {
        (Some((Word::Spent(spent), _)), Word::Given(given)) => given <= spent,
        (_, Word::Given(_) | Word::Spent(_) | Word::Free | Word::Behind(_)) => false,
    };
    if !is_old {
        view.turn = Some((said, now));
    }
}

/// Gives back a turn that is not wanted any more: the group gives it to somebody else.
pub fn spend(service: &Service, state: &State, view: &mut View) {
    if let Some((word @ Word::Given(_), _)) = &mut view.turn
        && let Word::Given(seq) = *word
        && !is_open(state)
        && !waits(service, state)
    {
        *word = Word::Spent(seq);
    }
}
