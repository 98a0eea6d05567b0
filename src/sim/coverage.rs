//! Coverage: which combinations of verdict, part of a run, rung and gates' answer the histories have seen, and how one
//! controller came after another.

use std::{collections::BTreeMap, fmt};

use super::fault::{Away, By};
use crate::model::{plan::StepPhase, step::Rung, verdict::Verdict};

/// Where the service stood when a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// The worst verdict.
    pub verdict: Verdict,
    /// The part of the run that has begun last.
    pub part: Part,
    /// The rung that its fences have reached.
    pub rung: Option<Rung>,
    /// What the gates said last of this incident.
    pub gates: Option<Answer>,
}

/// The part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// No run is open.
    None,
    /// A run is open, and this phase has begun.
    Phase(StepPhase),
    /// It goes back.
    Unwinding,
}

/// What gates say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// A run may begin by itself.
    Allow,
    /// People are asked.
    Ask,
    /// It is held.
    Hold,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.verdict)?;
        match self.part {
            Part::None => f.write_str("no run")?,
            Part::Phase(phase) => write!(f, "{phase}")?,
            Part::Unwinding => f.write_str("going back")?,
        }
        match self.rung {
            None => f.write_str(", no rung")?,
            Some(rung) => write!(f, ", {rung}")?,
        }
        match self.gates {
            None => f.write_str(", gates not asked"),
            Some(Answer::Allow) => f.write_str(", gates allow"),
            Some(Answer::Ask) => f.write_str(", gates ask"),
            Some(Answer::Hold) => f.write_str(", gates hold"),
        }
    }
}

/// One controller came after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handover {
    /// How.
    pub by: By,
    /// How the first one was away.
    pub away: Away,
    /// What was seen of it.
    pub met: Met,
}

/// What was seen of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Met {
    /// Another one leads, and no run is open.
    Quiet,
    /// Another one leads, and a run is open.
    InRun,
    /// The one before is back.
    Back,
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "controller {}, another {}, ", self.away, self.by)?;
        f.write_str(match self.met {
            Met::Quiet => "no run",
            Met::InRun => "in a run",
            Met::Back => "and the first is back",
        })
    }
}

/// What histories are to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Situation {
    /// The service stands so.
    Standing(Standing),
    /// One controller came after another.
    Handover(Handover),
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standing(standing) => standing.fmt(f),
            Self::Handover(handover) => handover.fmt(f),
        }
    }
}

/// How often each situation was seen.
#[derive(Clone, Debug, Default)]
pub struct Coverage(pub BTreeMap<Situation, u64>);

impl Coverage {
    /// Seen once more.
    pub fn see(&mut self, situation: Situation) {
        *self.0.entry(situation).or_default() += 1;
    }

    /// What another one saw.
    pub fn add(&mut self, other: &Self) {
        for (situation, times) in &other.0 {
            *self.0.entry(*situation).or_default() += times;
        }
    }

    /// What can be reached, with guards or without, and was not.
    #[must_use]
    pub fn missing(&self, has_guards: bool) -> Vec<Situation> {
        let standings = reachable(has_guards).into_iter().map(Situation::Standing);
        let handovers = handovers().into_iter().map(Situation::Handover);
        standings
            .chain(handovers)
            .filter(|s| !self.0.contains_key(s))
            .collect()
    }

    /// How often each way was seen in which one controller comes after another.
    pub fn handovers(&self) -> impl Iterator<Item = (Handover, u64)> + '_ {
        self.0
            .iter()
            .filter_map(|(situation, times)| match situation {
                Situation::Handover(handover) => Some((*handover, *times)),
                Situation::Standing(_) => None,
            })
    }
}

/// A run is open because something is down. It is seen to be well again only once the standby serves, and the run is at
/// its end then.
const VERDICTS: [Verdict; 3] = [Verdict::Down, Verdict::Suspect, Verdict::Inconclusive];
const GATES: [Answer; 3] = [Answer::Allow, Answer::Ask, Answer::Hold];
const RUNGS: &[Option<Rung>] = &[
    None,
    Some(Rung::Attested),
    Some(Rung::Infrastructure),
    Some(Rung::Lease),
    Some(Rung::Acknowledged),
];

/// Every way in which one controller comes after another. A replica that is not elected any more and is cut off ends where
/// it grants leases to guards: one that only some services have comes back.
#[must_use]
pub fn handovers() -> Vec<Handover> {
    let takeovers = [Away::Frozen, Away::Dead, Away::CutOff, Away::WithPrimary];
    let elections = [Away::Frozen, Away::CutOff, Away::WithPrimary];
    let takeovers = takeovers.map(|away| (By::Takeover, away));
    let elections = elections.map(|away| (By::Election, away));
    let mut all = Vec::new();
    for (by, away) in takeovers.into_iter().chain(elections) {
        let handover = |met| Handover { by, away, met };
        all.extend([Met::Quiet, Met::InRun].map(handover));
        if by == By::Takeover || away == Away::Frozen {
            all.push(handover(Met::Back));
        }
    }
    all
}

/// Every standing that one accident can lead to; only guards reach a lease or acknowledge. Others take two at one moment,
/// as an attestation while vantage points are blind.
#[must_use]
pub fn reachable(has_guards: bool) -> Vec<Standing> {
    let rungs = if has_guards { RUNGS } else { &RUNGS[..3] };
    let mut all = Vec::new();
    for verdict in VERDICTS {
        for gates in GATES {
            let standing = |part, rung| Standing {
                verdict,
                part,
                rung,
                gates: Some(gates),
            };
            // While something is down, gates are asked and no run is open.
            all.push(standing(Part::None, None));
            // A run is open only where the gates allow it or people said yes.
            if gates == Answer::Hold {
                continue;
            }
            for rung in rungs.iter().copied() {
                // People attest what they have seen, and what they have seen is down.
                if rung == Some(Rung::Attested) && verdict != Verdict::Down {
                    continue;
                }
                // A guard acknowledges at once, and a run that began by itself goes back where nothing is seen to be down
                // before it acts: between the two nobody goes blind.
                let is_blind = verdict == Verdict::Inconclusive && gates == Answer::Allow;
                if !(is_blind && rung == Some(Rung::Acknowledged)) {
                    all.push(standing(Part::Phase(StepPhase::Fence), rung));
                }
                // After that a rung is there: nothing is promoted without.
                if rung.is_some() {
                    all.extend(
                        [StepPhase::Promote, StepPhase::Traffic, StepPhase::Verify]
                            .map(|p| standing(Part::Phase(p), rung)),
                    );
                }
            }
        }
    }
    all
}
