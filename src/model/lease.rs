//! How the times of the fencing protocol follow from the length of the lease, and what a grantor must remember.

use super::{
    guard::{Boot, Grantor, LeaseRequest},
    span::Span,
    time::Time,
};

/// The longest lease that documents may ask for: what a guard that lost its state waits for.
pub const LONGEST: Span = Span::from_secs(60);

/// How long before the end of a lease the database is killed: room for the kill, and for a clock of the holder that is
/// slewed by as much as the kernel allows (10 %). 15 % of the lease.
#[must_use]
pub fn kill_margin(lease: Span) -> Span {
    Span::from_millis(lease.as_millis() * 15 / 100)
}

/// How long a grantor waits after its last grant until that lease is surely over: both clocks may drift by 1 %, and a
/// grant is on its way for a moment before it is noted (0.5 %).
#[must_use]
pub fn wait(lease: Span) -> Span {
    let drifted = (lease.as_millis() * 101).div_ceil(99);
    Span::from_millis(drifted + lease.as_millis() / 200)
}

/// Whether a kernel that takes so long to end a database at its time has done so before a grantor has waited, whatever
/// the two clocks do: the holder's may be slewed by 10 %, the grantor's may drift by 1 %.
#[must_use]
pub fn is_enforced(kill: Option<Span>, lease: Span) -> bool {
    let held = lease.saturating_sub(kill_margin(lease)).as_millis() * 10 / 9;
    let waited = wait(lease).as_millis() * 100 / 101;
    kill.is_some_and(|kill| held + kill.as_millis() <= waited)
}

/// What a grantor must remember of its grants to one site. Times are `CLOCK_MONOTONIC_RAW`, or a clock that steps and
/// slews no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Granted {
    at: Time,
    longest: Span,
    /// The oldest grant that the holder has not confirmed: the life and the request of its guard, and when it was granted.
    unconfirmed: Option<(Boot, Time, Time)>,
}

impl Granted {
    /// A grantor that just began, or began anew, assumes that it granted the longest lease just before.
    #[must_use]
    pub fn just_before(now: Time, longest: Span) -> Self {
        Self {
            at: now,
            longest,
            unconfirmed: None,
        }
    }

    /// How long ago it granted last.
    #[must_use]
    pub fn age(self, now: Time) -> Span {
        now.since(self.at)
    }

    /// Whether no lease that it granted can still run.
    #[must_use]
    pub fn is_over(self, now: Time) -> bool {
        self.age(now) >= wait(self.longest)
    }

    /// How long it takes until no lease that it granted can still run.
    #[must_use]
    pub fn left(self, now: Time) -> Span {
        wait(self.longest).saturating_sub(self.age(now))
    }

    /// Whether its grants have not arrived for as long as a lease, by what this request confirms: then it rests, so that
    /// a link that works in one direction does not block the lease rung for ever, and tries again now and then.
    #[must_use]
    pub fn rests(self, by: Grantor, request: &LeaseRequest, lease: Span, now: Time) -> bool {
        let is_unheard = self
            .unconfirmed
            .filter(|unconfirmed| !is_settled(*unconfirmed, by, request))
            .is_some_and(|(_, _, at)| now.since(at) > lease);
        is_unheard && self.age(now) < Span::from_millis(wait(lease).as_millis() * 2)
    }

    /// Notes a grant, before it is sent.
    pub fn note(&mut self, by: Grantor, request: &LeaseRequest, lease: Span, now: Time) {
        if self
            .unconfirmed
            .is_none_or(|unconfirmed| is_settled(unconfirmed, by, request))
        {
            self.unconfirmed = Some((request.report.boot, request.sent, now));
        }
        self.at = now;
        self.longest = self.longest.max(lease);
    }

    /// The same so much earlier, for a model that tells states apart by ages; nothing is older than `oldest`.
    #[cfg(feature = "weakened")]
    pub fn rebase(&mut self, by: Span, oldest: Time) {
        self.at = self.at.before(by).max(oldest);
        if let Some((_, sent, at)) = &mut self.unconfirmed {
            *sent = sent.before(by).max(oldest);
            *at = at.before(by).max(oldest);
        }
    }
}

/// Whether nobody waits any more for word that a grant arrived: the holder has it, or its guard was started anew and
/// never says so.
fn is_settled((boot, sent, _): (Boot, Time, Time), by: Grantor, request: &LeaseRequest) -> bool {
    let heard = request.heard.get(&by);
    heard.is_some_and(|heard| *heard >= sent) || request.report.boot != boot
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a kill was seen to take at most on a loaded machine, in milliseconds.
    const KILL: f64 = 42.0;

    #[test]
    fn a_slewed_holder_is_dead_before_a_drifting_grantor_has_waited() {
        for lease in [1_000, 2_000, 10_000, 60_000] {
            let lease = Span::from_millis(lease);
            let held = lease.saturating_sub(kill_margin(lease));
            let dead = held.as_secs_f64() * 1000.0 / 0.9 + KILL;
            let waited = wait(lease).as_secs_f64() * 1000.0 / 1.01;
            assert!(
                dead <= waited,
                "{lease}: dead after {dead}, waited {waited}"
            );
            assert!(is_enforced(Some(Span::from_millis(42)), lease));
            assert!(!is_enforced(
                Some(Span::from_millis(lease.as_millis() / 10)),
                lease
            ));
            assert!(!is_enforced(None, lease));
        }
    }
}
