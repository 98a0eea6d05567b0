//! Coverage: which combinations of verdict, part of a run, rung and gates' answer the histories have seen.

use std::{collections::BTreeMap, fmt};

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

/// How often each standing was seen.
#[derive(Clone, Debug, Default)]
pub struct Coverage(pub BTreeMap<Standing, u64>);

impl Coverage {
    /// Seen once more.
    pub fn see(&mut self, standing: Standing) {
        *self.0.entry(standing).or_default() += 1;
    }

    /// What another one saw.
    pub fn add(&mut self, other: &Self) {
        for (standing, times) in &other.0 {
            *self.0.entry(*standing).or_default() += times;
        }
    }

    /// What can be reached, with guards or without, and was not.
    #[must_use]
    pub fn missing(&self, has_guards: bool) -> Vec<Standing> {
        reachable(has_guards)
            .into_iter()
            .filter(|s| !self.0.contains_key(s))
            .collect()
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
                all.push(standing(Part::Phase(StepPhase::Fence), rung));
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
