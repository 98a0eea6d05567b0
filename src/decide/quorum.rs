//! Voices to networks, networks to a kind's answer, kinds to a verdict: pure data, no time.

use std::collections::{BTreeMap, BTreeSet};

use super::view::Says;
use crate::model::{
    id::{NetworkName, ProbeId},
    observation::Evidence,
};

/// What one network says through one kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkSays {
    /// Every probe works, seen by at least one vantage point in it.
    Up,
    /// Some probes work, some do not.
    Partly,
    /// Probes that worked are failing, not yet often enough.
    Failing,
    /// No probe works for anybody in it.
    Down,
    /// Nobody in it can tell.
    Unknown,
}

/// One voice: who, through which probe, says what.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The vantage point's network.
    pub network: &'a NetworkName,
    /// The probe.
    pub probe: &'a ProbeId,
    /// The kind of evidence that it gives.
    pub evidence: Evidence,
    /// What it says.
    pub says: Says,
}

/// What one kind of evidence says, taken over all networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KindSays {
    /// Enough networks see it work, and none says otherwise.
    Up,
    /// It works from somewhere, not from everywhere or not in every part.
    Partly,
    /// Some networks say down, or will soon; too few.
    Doubtful,
    /// A quorum says down and nobody sees it work.
    Down,
    /// Too few can tell.
    Unknown,
}

/// Vantage points in one network are one voice: the best that anyone in it sees.
#[must_use]
pub fn networks<'a>(
    heard: &[Heard<'a>],
    evidence: Evidence,
) -> BTreeMap<&'a NetworkName, NetworkSays> {
    let mut best: BTreeMap<(&NetworkName, &ProbeId), Says> = BTreeMap::new();
    for h in heard.iter().filter(|h| h.evidence == evidence) {
        let entry = best.entry((h.network, h.probe)).or_insert(h.says);
        // Says is ordered from Up to Unknown; one that sees outranks one that does not.
        *entry = match (*entry, h.says) {
            (Says::Unknown, other) | (other, Says::Unknown) => other,
            (a, b) => a.min(b),
        };
    }
    let mut per_network: BTreeMap<&NetworkName, BTreeSet<Says>> = BTreeMap::new();
    for ((network, _), says) in best {
        per_network.entry(network).or_default().insert(says);
    }
    per_network
        .into_iter()
        .map(|(network, says)| (network, network_says(&says)))
        .collect()
}

fn network_says(says: &BTreeSet<Says>) -> NetworkSays {
    let has = |s| says.contains(&s);
    if has(Says::Down) && (has(Says::Up) || has(Says::Failing)) {
        NetworkSays::Partly
    } else if has(Says::Down) {
        NetworkSays::Down
    } else if has(Says::Failing) {
        NetworkSays::Failing
    } else if has(Says::Up) {
        NetworkSays::Up
    } else {
        NetworkSays::Unknown
    }
}

/// What one kind of evidence says. `needed` networks must say Down, of those that could.
#[must_use]
pub fn kind(networks: &BTreeMap<&NetworkName, NetworkSays>, needed: usize) -> KindSays {
    let count = |says| networks.values().filter(|n| **n == says).count();
    let (up, partly, failing, down) = (
        count(NetworkSays::Up),
        count(NetworkSays::Partly),
        count(NetworkSays::Failing),
        count(NetworkSays::Down),
    );
    // A quorum cannot ask for more networks than look at this kind of evidence.
    let needed = needed.min(networks.len()).max(1);
    match () {
        () if down >= needed && up + partly + failing == 0 => KindSays::Down,
        () if up + partly > 0 && down + partly > 0 => KindSays::Partly,
        () if down + failing > 0 => KindSays::Doubtful,
        () if up >= needed => KindSays::Up,
        () => KindSays::Unknown,
    }
}

/// Kinds together: Down needs more than half of the kinds configured and none that sees it work.
#[must_use]
pub fn all_kinds(kinds: &BTreeMap<Evidence, KindSays>) -> Agreement {
    let count = |says| kinds.values().filter(|k| **k == says).count();
    let (up, partly, doubtful, down) = (
        count(KindSays::Up),
        count(KindSays::Partly),
        count(KindSays::Doubtful),
        count(KindSays::Down),
    );
    match () {
        () if kinds.is_empty() => Agreement::Blind,
        () if down > 0 && up + partly > 0 => Agreement::Contradicted,
        () if down * 2 > kinds.len() && doubtful == 0 => Agreement::Down,
        () if down + doubtful > 0 => Agreement::Suspect,
        () if partly > 0 => Agreement::Partly,
        () if up > 0 => Agreement::Up,
        () => Agreement::Blind,
    }
}

/// What the kinds come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// It works.
    Up,
    /// It works for some, or in parts.
    Partly,
    /// Something says down, not enough of it.
    Suspect,
    /// It is down.
    Down,
    /// One kind says down, another sees it work: nothing may be concluded.
    Contradicted,
    /// Nobody can tell.
    Blind,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(word: &str) -> Says {
        match word {
            "up" => Says::Up,
            "failing" => Says::Failing,
            "down" => Says::Down,
            "unknown" => Says::Unknown,
            other => panic!("{other}"),
        }
    }

    fn outside(line: &str, needed: usize) -> KindSays {
        let voices: Vec<(NetworkName, ProbeId, Says)> = line
            .split_whitespace()
            .map(|word| {
                let mut parts = word.split('/').map(str::to_owned);
                let mut next = || parts.next().unwrap();
                (
                    NetworkName::new(next()),
                    ProbeId::new(next()),
                    says(&next()),
                )
            })
            .collect();
        let heard: Vec<_> = voices
            .iter()
            .map(|(network, probe, says)| Heard {
                network,
                probe,
                evidence: Evidence::Outside,
                says: *says,
            })
            .collect();
        kind(&networks(&heard, Evidence::Outside), needed)
    }

    #[test]
    fn a_network_is_one_voice() {
        assert_eq!(
            outside("a/web/down a/web/down b/web/up", 2),
            KindSays::Partly
        );
        assert_eq!(outside("a/web/down a/web/up", 1), KindSays::Up);
        assert_eq!(
            outside("a/web/unknown a/web/down b/web/down", 2),
            KindSays::Down
        );
    }

    #[test]
    fn blind_voices_do_not_make_a_quorum() {
        assert_eq!(
            outside("a/web/unknown b/web/unknown c/web/down", 2),
            KindSays::Doubtful
        );
        assert_eq!(outside("a/web/unknown b/web/unknown", 2), KindSays::Unknown);
        assert_eq!(
            outside("a/web/down b/web/down c/web/unknown", 2),
            KindSays::Down
        );
    }

    #[test]
    fn one_that_sees_it_work_prevents_down() {
        assert_eq!(
            outside("a/web/down b/web/down c/web/up", 2),
            KindSays::Partly
        );
        assert_eq!(outside("a/web/down b/web/failing", 1), KindSays::Doubtful);
    }

    #[test]
    fn kinds_must_agree() {
        use Evidence::{Database, Outside, Stream};
        let of = |kinds: &[(Evidence, KindSays)]| all_kinds(&kinds.iter().copied().collect());
        assert_eq!(
            of(&[(Database, KindSays::Down), (Stream, KindSays::Down)]),
            Agreement::Down
        );
        assert_eq!(
            of(&[(Database, KindSays::Down), (Stream, KindSays::Up)]),
            Agreement::Contradicted
        );
        assert_eq!(
            of(&[(Database, KindSays::Down), (Stream, KindSays::Unknown)]),
            Agreement::Suspect
        );
        assert_eq!(of(&[(Outside, KindSays::Down)]), Agreement::Down);
        assert_eq!(of(&[]), Agreement::Blind);
    }
}
