//! Verdicts: what the evidence says of a component at the site that it is served from.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    quorum::{self, Agreement, Heard},
    state::{Run, State},
    view::{Says, View, Voice},
};
use crate::model::{
    id::{NetworkName, ProbeId, SiteName},
    observation::{DatabaseRole, Evidence, Sight},
    service::{Component, ComponentKind, Probe, Service, VantagePoint},
    span::Span,
    time::Time,
    verdict::{Verdict, Witness},
};

/// A verdict with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// In one sentence.
    pub reason: String,
    /// Each vantage point's last look.
    pub witnesses: Vec<Witness>,
    /// When the first of the voices that say down began to.
    pub failing_since: Option<Time>,
}

/// Judges one component.
#[must_use]
pub fn judge(
    service: &Service,
    component: &Component,
    state: &State,
    view: &View,
    now: Time,
) -> Judgement {
    let weighed = weigh(service, component, state, view, now);
    let said = weighed.said.iter();
    let witnesses: Vec<_> = said.map(|s| witness(component, s, now)).collect();
    Judgement {
        verdict: weighed.verdict(),
        reason: sentence(component, &weighed, &witnesses),
        witnesses,
        failing_since: weighed.failing_since(),
    }
}

/// The verdict alone, without the words.
#[must_use]
pub fn verdict(
    service: &Service,
    component: &Component,
    state: &State,
    view: &View,
    now: Time,
) -> Verdict {
    weigh(service, component, state, view, now).verdict()
}

/// What one vantage point says through one probe.
struct Said<'a> {
    probe: &'a Probe,
    vantage: &'a VantagePoint,
    voice: Option<&'a Voice>,
    says: Says,
}

/// What the evidence comes to, before it is put into words.
struct Weighed<'a> {
    said: Vec<Said<'a>>,
    kinds: BTreeMap<Evidence, quorum::KindSays>,
    agreement: Agreement,
    /// The objective that answers are slower than, and how slow they are.
    slow: Option<(Span, Span)>,
}

fn weigh<'a>(
    service: &'a Service,
    component: &'a Component,
    state: &'a State,
    view: &'a View,
    now: Time,
) -> Weighed<'a> {
    let mut said = Vec::new();
    let mut evidence = BTreeSet::new();
    for probe in relevant(component, state) {
        evidence.insert(probe.evidence);
        for vantage in lookers(service, probe) {
            let voice = view.voices.get(&(vantage.name.clone(), probe.id.clone()));
            said.push(Said {
                probe,
                vantage,
                voice,
                says: voice.map_or(Says::Unknown, |v| fresh(v, probe, now)),
            });
        }
    }
    let heard: Vec<_> = said.iter().map(Said::heard).collect();
    let needed = service.quorum.networks;
    let kinds: BTreeMap<_, _> = evidence
        .into_iter()
        .map(|e| (e, quorum::kind(&quorum::networks(&heard, e), needed)))
        .collect();
    let slow = service.objectives.response_time.and_then(|limit| {
        let seen = slow(&latencies(service, &said), needed)?;
        (seen > limit).then_some((limit, seen))
    });
    Weighed {
        agreement: quorum::all_kinds(&kinds),
        said,
        kinds,
        slow,
    }
}

impl Said<'_> {
    fn heard(&self) -> Heard<'_> {
        Heard {
            network: &self.vantage.network,
            probe: &self.probe.id,
            evidence: self.probe.evidence,
            says: self.says,
        }
    }

    fn fails(&self) -> bool {
        matches!(self.says, Says::Down | Says::Failing)
    }
}

impl Weighed<'_> {
    fn verdict(&self) -> Verdict {
        match (self.agreement, self.slow) {
            (Agreement::Up, None) => Verdict::Healthy,
            (Agreement::Up, Some(_)) | (Agreement::Partly, _) => Verdict::Degraded,
            (Agreement::Suspect, _) => Verdict::Suspect,
            (Agreement::Down, _) => Verdict::Down,
            (Agreement::Contradicted | Agreement::Blind, _) => Verdict::Inconclusive,
        }
    }

    /// When the first of the voices that say down began to.
    fn failing_since(&self) -> Option<Time> {
        let failing = self.said.iter().filter(|s| s.fails());
        failing
            .filter_map(|s| s.voice.and_then(|v| v.failing_since))
            .min()
    }
}

/// How long answers from outside took: through each probe the quickest in each network.
fn latencies<'a>(
    service: &Service,
    said: &'a [Said<'_>],
) -> BTreeMap<(&'a NetworkName, &'a ProbeId), Span> {
    let mut latencies: BTreeMap<_, Span> = BTreeMap::new();
    for s in said {
        if s.probe.evidence != Evidence::Outside || s.says != Says::Up {
            continue;
        }
        if let Some(took) = s.voice.and_then(|v| v.latency(&service.quorum)) {
            latencies
                .entry((&s.vantage.network, &s.probe.id))
                .and_modify(|best| *best = took.min(*best))
                .or_insert(took);
        }
    }
    latencies
}

/// How long a quorum of networks waits for an answer: each has waited as long as the quickest that looks from it,
/// through its slowest probe.
fn slow(latencies: &BTreeMap<(&NetworkName, &ProbeId), Span>, needed: usize) -> Option<Span> {
    let mut networks: BTreeMap<&NetworkName, Span> = BTreeMap::new();
    for ((network, _), took) in latencies {
        let slowest = networks.entry(*network).or_insert(*took);
        *slowest = (*slowest).max(*took);
    }
    let mut latencies: Vec<Span> = networks.into_values().collect();
    latencies.sort_unstable_by(|a, b| b.cmp(a));
    let needed = needed.min(latencies.len()).max(1);
    latencies.get(needed - 1).copied()
}

/// The probes that look at the site which this component is served from now.
pub fn relevant<'a>(component: &'a Component, state: &'a State) -> impl Iterator<Item = &'a Probe> {
    let site = match component.kind {
        ComponentKind::Application => state.serving.as_ref(),
        ComponentKind::Database => state.active.as_ref(),
    };
    component.probes.iter().filter(move |p| match p.evidence {
        // The standby's stream is evidence about the site that it streams from, which is every other one.
        Evidence::Stream => p.site.as_ref() != site,
        Evidence::Outside | Evidence::Database | Evidence::Guard | Evidence::Cluster => {
            p.site.is_none() || p.site.as_ref() == site
        }
    })
}

/// The vantage points that look through a probe.
pub fn lookers<'a>(
    service: &'a Service,
    probe: &'a Probe,
) -> impl Iterator<Item = &'a VantagePoint> {
    service
        .vantage_points
        .iter()
        .filter(|v| probe.is_from(&v.name))
}

/// Whether this process has only just begun and some vantage points have not looked yet: until then nothing new is
/// concluded, neither from what the journal says was seen before nor from what was not seen yet.
#[must_use]
pub fn settling(service: &Service, state: &State, view: &View, now: Time) -> bool {
    let relevant = |c| relevant(c, state);
    unseen(
        view,
        now,
        service.components.iter().flat_map(relevant),
        service,
    )
}

/// Whether everyone has looked at everything, the standby too, since this process began. Gates rest on all of it: what
/// they would say before would be taken back a moment later, and a question with it.
#[must_use]
pub fn sees_all(service: &Service, view: &View, now: Time) -> bool {
    let all = service.components.iter().flat_map(|c| &c.probes);
    !unseen(view, now, all, service)
}

/// Whether a look through one of these probes is still to come, and not overdue.
fn unseen<'a>(
    view: &View,
    now: Time,
    mut probes: impl Iterator<Item = &'a Probe>,
    service: &Service,
) -> bool {
    let Some(started) = view.started else {
        return true;
    };
    let waited = now.since(started);
    probes.any(|probe| {
        waited < shelf_life(probe)
            && lookers(service, probe).any(|vantage| {
                let key = (vantage.name.clone(), probe.id.clone());
                !view.voices.contains_key(&key)
            })
    })
}

/// How old a look may be before it says nothing any more.
#[must_use]
pub fn shelf_life(probe: &Probe) -> Span {
    probe.every.saturating_mul(3).saturating_add(probe.timeout)
}

fn fresh(voice: &Voice, probe: &Probe, now: Time) -> Says {
    let too_old = now.since(voice.last.at) > shelf_life(probe);
    if too_old || is_of_standby(voice, probe) {
        Says::Unknown
    } else {
        voice.says
    }
}

/// Whether a database of the active site answers and takes no writes: it is not down, and it does not work either.
fn is_of_standby(voice: &Voice, probe: &Probe) -> bool {
    let facts = voice.last.facts.database.as_ref();
    probe.evidence != Evidence::Stream
        && voice.says == Says::Up
        && facts.is_some_and(|f| f.role == DatabaseRole::Standby)
}

fn witness(component: &Component, said: &Said<'_>, now: Time) -> Witness {
    let Said {
        probe,
        vantage,
        voice,
        says,
    } = *said;
    let (detail, age) = match voice {
        None => ("has not looked yet".to_owned(), Span::ZERO),
        Some(v) if is_of_standby(v, probe) => (
            "it is a standby and takes no writes".to_owned(),
            now.since(v.last.at),
        ),
        Some(v) if says == Says::Unknown && v.says != Says::Unknown => (
            format!("last look is too old: {}", v.last.detail),
            now.since(v.last.at),
        ),
        Some(v) => (v.last.detail.clone(), now.since(v.last.at)),
    };
    let detail = if says == Says::Failing {
        format!("{detail} (not yet often enough to count)")
    } else {
        detail
    };
    Witness {
        vantage: vantage.name.clone(),
        network: vantage.network.clone(),
        probe: probe.id.clone(),
        component: component.name.clone(),
        evidence: probe.evidence,
        sight: says.sight(),
        age,
        detail,
    }
}

fn sentence(component: &Component, weighed: &Weighed<'_>, witnesses: &[Witness]) -> String {
    let name = &component.name;
    let count = |sight| {
        let networks: BTreeSet<_> = witnesses
            .iter()
            .filter(|w| w.sight == sight)
            .map(|w| &w.network)
            .collect();
        networks.len()
    };
    let of = witnesses
        .iter()
        .map(|w| &w.network)
        .collect::<BTreeSet<_>>()
        .len();
    let list = |says| {
        weighed
            .kinds
            .iter()
            .filter(|(_, k)| **k == says)
            .map(|(e, _)| e.to_string())
            .collect::<Vec<_>>()
            .join(" and ")
    };
    match (weighed.agreement, weighed.slow) {
        (Agreement::Up, Some((limit, seen))) => {
            format!("{name} answers, but in {seen}, above its objective of {limit}")
        }
        (Agreement::Up, None) => format!(
            "{name} is seen to work from {} of {of} networks",
            count(Sight::Up)
        ),
        (Agreement::Partly, _) => format!(
            "{name} works from {} of {of} networks and fails in part or from {}",
            count(Sight::Up),
            count(Sight::Down)
        ),
        (Agreement::Suspect, _) => {
            let failing = weighed.said.iter().filter(|s| s.fails());
            let failing: BTreeSet<_> = failing.map(|s| &s.vantage.network).collect();
            format!(
                "{name} fails from {} of {of} networks: not yet enough, or not yet long enough, to be called down",
                failing.len()
            )
        }
        (Agreement::Down, _) => format!(
            "{name} is down: {} of {of} networks say so ({})",
            count(Sight::Down),
            list(quorum::KindSays::Down)
        ),
        (Agreement::Contradicted, _) => format!(
            "{name}: {} says down, but {} sees it work; nothing is concluded from that",
            list(quorum::KindSays::Down),
            [list(quorum::KindSays::Up), list(quorum::KindSays::Partly)]
                .iter()
                .filter(|l| !l.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join(" and ")
        ),
        (Agreement::Blind, _) => format!(
            "{name} cannot be seen: {} of {of} networks cannot tell",
            count(Sight::Unknown)
        ),
    }
}

/// What the verdicts together call for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing is down.
    Nothing,
    /// The data's site is lost.
    Failover,
    /// The application is down while its database is well: traffic only.
    Redirect,
    /// The application is down and the database's state is not known: nothing may be concluded yet.
    Unclear,
}

/// What the verdicts together call for. A database that is down leads to a failover; an application that is down
/// while the database is well leads to a redirect, never to a promotion.
#[must_use]
pub fn need(
    service: &Service,
    verdicts: &BTreeMap<crate::model::id::ComponentName, (Verdict, Time)>,
) -> Need {
    let of = |kind| {
        service
            .components
            .iter()
            .filter(move |c| c.kind == kind)
            .map(|c| verdicts.get(&c.name).map_or(Verdict::Inconclusive, |v| v.0))
    };
    let databases: Vec<_> = of(ComponentKind::Database).collect();
    if databases.contains(&Verdict::Down) {
        return Need::Failover;
    }
    if !of(ComponentKind::Application).any(|v| v == Verdict::Down) {
        return Need::Nothing;
    }
    if databases.is_empty() {
        Need::Failover
    } else if databases
        .iter()
        .all(|v| matches!(v, Verdict::Healthy | Verdict::Degraded))
    {
        Need::Redirect
    } else {
        Need::Unclear
    }
}

/// The site that may take writes.
#[must_use]
pub fn writer(state: &State) -> Option<&SiteName> {
    match promised(state) {
        Some(run) => Some(&run.plan.to),
        None => state.active.as_ref(),
    }
}

/// From the promise of a run on, its new site is the one that may write.
fn promised(state: &State) -> Option<&Run> {
    state.run.as_ref().filter(|r| r.epoch.is_some())
}

/// Sites whose database is seen to take writes just now, and may not.
#[must_use]
pub fn writing_elsewhere<'a>(
    service: &'a Service,
    state: &State,
    view: &View,
    now: Time,
) -> BTreeSet<&'a SiteName> {
    let Some(writer) = writer(state) else {
        return BTreeSet::new();
    };
    // A look from before the promise says what was right then.
    let since = promised(state)
        .or(state.last_run.as_ref())
        .and_then(|r| r.promised)
        .unwrap_or_default();
    let is_primary = |probe: &Probe| {
        let Some((seen, facts)) = view.newest(&probe.id) else {
            return false;
        };
        let primary = facts
            .database
            .as_ref()
            .is_some_and(|d| d.role == DatabaseRole::Primary);
        primary && seen.at > since && now.since(seen.at) <= shelf_life(probe)
    };
    let probes = service.components.iter().flat_map(|c| &c.probes);
    probes
        .filter(|p| p.evidence != Evidence::Stream && is_primary(p))
        .filter_map(|p| p.site.as_ref())
        .filter(|site| *site != writer)
        .collect()
}
