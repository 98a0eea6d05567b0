//! Availability as it was measured: how long each component was seen to work and seen to be down, from the records.
//!
//! Time in which nobody could see counts for nothing, neither while voices were blind nor while no controller ran.
//! Planned maintenance is told apart: an outage that began within a pause or a maintenance window is planned for as
//! long as that lasts. One that had begun before is an outage, whatever is declared afterwards. Windows are those of
//! the documents as they are now: one that is taken out of them turns what happened in it into an outage.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{
        id::ComponentName,
        record::{Record, RecordBody},
        service::{ComponentKind, Service},
        span::Span,
        time::Time,
        verdict::Verdict,
    },
    publish::view::{Availability, Status},
};

/// The figure is over so much time: what promises of availability are made for.
const YEAR: Span = Span::from_secs(365 * DAY.unsigned_abs() / 1000);
/// Days that are shown one by one.
const DAYS: usize = 90;
/// Milliseconds of a day.
const DAY: i64 = 86_400_000;
/// Changes that are kept of one component; the oldest go first.
const KEPT: usize = 10_000;

/// What the records say of each component's time. Clones share the components that nothing happened to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    timelines: BTreeMap<ComponentName, Arc<Timeline>>,
    pauses: Vec<(Time, Option<Time>)>,
    last: Option<Time>,
}

/// How a component fared, as far as anybody could see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fared {
    Up,
    Degraded,
    Unknown,
    Down,
}

/// How one component fared, each state from its time on.
#[derive(Clone, Debug, Default, PartialEq)]
struct Timeline {
    changes: Vec<(Time, Fared)>,
    /// Since when it may be down, until that is settled.
    doubt: Option<Time>,
}

impl Measured {
    /// Takes in a record.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a projection of five kinds of record"
    )]
    pub fn apply(&mut self, record: &Record) {
        let at = record.at;
        match &record.body {
            RecordBody::ControllerStarted { .. } => {
                // Until it was heard of again, nobody knows what was.
                if let Some(last) = self.last {
                    for timeline in self.timelines.values_mut() {
                        Arc::make_mut(timeline).gap(last, at);
                    }
                }
            }
            RecordBody::VerdictChanged { component, to, .. } => {
                let timeline = self.timelines.entry(component.clone()).or_default();
                Arc::make_mut(timeline).verdict(*to, at);
            }
            RecordBody::IncidentOpened {
                components, since, ..
            } => {
                for component in components {
                    if let Some(timeline) = self.timelines.get_mut(component) {
                        Arc::make_mut(timeline).down(*since);
                    }
                }
            }
            RecordBody::Paused { .. } if !self.pauses.iter().any(|p| p.1.is_none()) => {
                self.pauses.push((at, None));
                self.pauses
                    .retain(|p| p.1.is_none_or(|end| at.since(end) < YEAR));
            }
            RecordBody::Resumed { .. } => {
                for pause in &mut self.pauses {
                    pause.1.get_or_insert(at);
                }
            }
            _ => {}
        }
        self.last = Some(at);
    }

    /// How a component fared; none while it was never seen.
    #[must_use]
    pub fn component(
        &self,
        service: &Service,
        name: &ComponentName,
        now: Time,
    ) -> Option<Availability> {
        tally(self.timelines.get(name)?, &self.planned(service, now), now)
    }

    /// How the service as a whole fared: down while any component was, and otherwise as its applications were, for
    /// they are what users see; a service without applications is judged by its databases.
    #[must_use]
    pub fn service(&self, service: &Service, now: Time) -> Option<Availability> {
        tally(&self.whole(service), &self.planned(service, now), now)
    }

    /// Whether a component that is down now is down because that was planned.
    #[must_use]
    pub fn is_planned(&self, service: &Service, name: &ComponentName, now: Time) -> bool {
        let began = self
            .timelines
            .get(name)
            .and_then(|t| t.changes.last())
            .filter(|c| c.1 == Fared::Down);
        began.is_some_and(|(began, _)| {
            let planned = self.planned(service, now);
            planned
                .iter()
                .any(|(from, to)| from <= began && began < to && now < *to)
        })
    }

    /// Whether something that began then began within planned maintenance.
    #[must_use]
    pub fn began_planned(&self, service: &Service, began: Time, now: Time) -> bool {
        self.planned(service, now)
            .iter()
            .any(|(from, to)| *from <= began && began < *to)
    }

    fn planned(&self, service: &Service, now: Time) -> Vec<(Time, Time)> {
        // An open pause ends with the next moment.
        let open = now.after(Span::from_millis(1));
        let pauses = self
            .pauses
            .iter()
            .map(|(from, to)| (*from, to.unwrap_or(open)));
        let windows = service.gates.maintenance.iter().map(|w| (w.from, w.to));
        let mut planned: Vec<_> = pauses.chain(windows).collect();
        planned.sort_unstable();
        planned
    }

    fn whole(&self, service: &Service) -> Timeline {
        let applications = service
            .components
            .iter()
            .any(|c| c.kind == ComponentKind::Application);
        let seen = |c: &crate::model::service::Component| {
            !applications || c.kind == ComponentKind::Application
        };
        let mut times: Vec<Time> = self
            .timelines
            .values()
            .flat_map(|t| t.changes.iter().map(|c| c.0))
            .collect();
        times.sort_unstable();
        times.dedup();
        let mut whole = Timeline::default();
        for at in times {
            let fared = service.components.iter().filter_map(|c| {
                let fared = self
                    .timelines
                    .get(&c.name)
                    .map_or(Fared::Unknown, |t| t.at(at));
                (seen(c) || fared == Fared::Down).then_some(fared)
            });
            whole.set(at, fared.max().unwrap_or(Fared::Unknown));
        }
        whole
    }
}

impl Timeline {
    fn verdict(&mut self, to: Verdict, at: Time) {
        match to {
            // Doubt is settled by what comes next: it was an outage from here on, or none at all.
            Verdict::Suspect => {
                self.doubt.get_or_insert(at);
            }
            Verdict::Down => {
                let since = self.doubt.unwrap_or(at);
                self.down(since);
            }
            Verdict::Healthy => self.set(at, Fared::Up),
            Verdict::Degraded => self.set(at, Fared::Degraded),
            Verdict::Inconclusive => self.set(at, Fared::Unknown),
        }
        if to != Verdict::Suspect {
            self.doubt = None;
        }
    }

    /// It has been down since then, whatever was thought meanwhile.
    fn down(&mut self, since: Time) {
        while self.changes.last().is_some_and(|c| c.0 >= since) {
            self.changes.pop();
        }
        self.set(since, Fared::Down);
    }

    fn set(&mut self, at: Time, fared: Fared) {
        if self.changes.last().is_some_and(|c| c.1 == fared) {
            return;
        }
        self.changes.push((at, fared));
        if self.changes.len() > KEPT {
            self.changes.remove(0);
        }
    }

    /// Nobody looked between these times; what was thought before is thought again until something is seen.
    fn gap(&mut self, from: Time, to: Time) {
        self.doubt = None;
        if let Some((_, before)) = self.changes.last().copied()
            && from < to
        {
            self.set(from, Fared::Unknown);
            self.set(to, before);
        }
    }

    fn at(&self, at: Time) -> Fared {
        let next = self.changes.partition_point(|c| c.0 <= at);
        match next.checked_sub(1) {
            Some(n) => self.changes[n].1,
            None => Fared::Unknown,
        }
    }

    /// The stretches of one state, oldest first, the last until now.
    fn stretches(&self, now: Time) -> impl Iterator<Item = (Time, Time, Fared)> {
        let ends = self.changes.iter().skip(1).map(|c| c.0).chain([now]);
        self.changes
            .iter()
            .zip(ends)
            .map(|((from, fared), to)| (*from, to, *fared))
    }
}

/// What stretches of time add up to.
struct Sum {
    out: Availability,
    days: BTreeMap<i64, Status>,
}

fn tally(timeline: &Timeline, planned: &[(Time, Time)], now: Time) -> Option<Availability> {
    let earliest = now.before(YEAR);
    let known = timeline
        .stretches(now)
        .find(|s| s.2 != Fared::Unknown && s.1 > earliest)?;
    let mut sum = Sum {
        out: Availability {
            since: known.0.max(earliest),
            up: Span::ZERO,
            down: Span::ZERO,
            maintenance: Span::ZERO,
            days: Vec::new(),
        },
        days: BTreeMap::new(),
    };
    for (from, to, fared) in timeline.stretches(now) {
        let (from, to) = (from.max(earliest), to.max(earliest));
        match fared {
            Fared::Unknown => {}
            Fared::Up => sum.add(from, to, Status::Operational),
            Fared::Degraded => sum.add(from, to, Status::Degraded),
            Fared::Down => sum.outage(from, to, planned),
        }
    }
    let (first, today) = (day(sum.out.since), day(now));
    let shown = usize::try_from(today - first)
        .unwrap_or(0)
        .saturating_add(1)
        .min(DAYS);
    let begin = today - i64::try_from(shown).unwrap_or(1) + 1;
    sum.out.days = (begin..=today).map(|d| sum.days.get(&d).copied()).collect();
    Some(sum.out)
}

impl Sum {
    /// What of it began within something planned is that, for as long as that lasts.
    fn outage(&mut self, mut from: Time, to: Time, planned: &[(Time, Time)]) {
        while let Some((_, end)) = planned.iter().find(|(p, end)| *p <= from && from < *end) {
            let until = to.min(*end);
            self.add(from, until, Status::Maintenance);
            from = until;
            if from >= to {
                return;
            }
        }
        self.add(from, to, Status::MajorOutage);
    }

    fn add(&mut self, from: Time, to: Time, status: Status) {
        let span = to.since(from);
        if span == Span::ZERO {
            return;
        }
        let total = match status {
            Status::Operational | Status::Degraded => &mut self.out.up,
            Status::Maintenance => &mut self.out.maintenance,
            Status::PartialOutage | Status::MajorOutage => &mut self.out.down,
        };
        *total = total.saturating_add(span);
        for d in day(from)..=day(to.before(Span::from_millis(1))) {
            let worst = self.days.entry(d).or_insert(status);
            *worst = status.max(*worst);
        }
    }
}

/// Days since 1970, by UTC.
fn day(at: Time) -> i64 {
    at.as_millis().div_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::id::{Epoch, PersonName, Seq};

    fn service() -> Service {
        let component = |name: &str, kind: &str| {
            json!({
                "name": name, "title": name, "kind": kind,
                "probes": [],
            })
        };
        serde_json::from_value(json!({
            "name": "crm", "title": "CRM", "mode": "ask",
            "objectives": {"rto": "5m", "rpo": "1m", "availability": 99.99, "responseTime": null},
            "sites": [], "residency": [], "vantagePoints": [],
            "quorum": {"networks": 1, "failures": 1, "successes": 1},
            "components": [component("web", "application"), component("db", "database")],
            "trigger": "immediate",
            "gates": {"maxLagAge": "1m", "overRpo": "ask", "maintenance": [
                {"from": "2026-03-01T02:00:00Z", "to": "2026-03-01T02:10:00Z", "reason": "upgrade"}
            ]},
            "fencing": "infrastructure",
            "announcements": {"channels": [], "templates": {}, "symptom": "", "cadence": "20m"},
            "team": {"people": [], "channels": [], "repeat": "5m"},
            "approvals": {
                "required": 1, "approvers": [], "breakGlass": [], "expiry": "1h", "onTimeout": "hold",
            },
            "runbook": {"name": "r", "title": "R", "steps": []},
            "config": "0",
        }))
        .unwrap()
    }

    fn at(text: &str) -> Time {
        Time::parse(&format!("2026-{text}Z")).unwrap()
    }

    /// Lines such as `03-01T02:00:00 web down`, `03-01T02:00:00 paused`.
    fn measured(script: &str) -> Measured {
        let mut measured = Measured::default();
        for (seq, line) in (1..).zip(script.lines().map(str::trim).filter(|l| !l.is_empty())) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let by = PersonName::new("ann");
            let body = match words[1..] {
                ["started"] => RecordBody::ControllerStarted {
                    version: "1".into(),
                    config: crate::model::id::ConfigHash::new("0"),
                    active: None,
                    mode: crate::model::service::Mode::Ask,
                },
                ["paused"] => RecordBody::Paused {
                    by,
                    reason: "upgrade".into(),
                },
                ["resumed"] => RecordBody::Resumed { by },
                ["incident", component, since] => RecordBody::IncidentOpened {
                    components: vec![component.into()],
                    since: at(since),
                    reason: String::new(),
                    loss: crate::model::loss::LossForecast::Stateless,
                },
                [component, to] => RecordBody::VerdictChanged {
                    component: component.into(),
                    from: Verdict::Inconclusive,
                    to: serde_json::from_value(json!(to)).unwrap(),
                    reason: String::new(),
                    witnesses: Vec::new(),
                },
                _ => panic!("{line}"),
            };
            measured.apply(&Record {
                format: 1,
                chain: "crm".into(),
                seq: Seq(seq),
                epoch: Epoch(1),
                at: at(words[0]),
                prev: String::new(),
                body,
            });
        }
        measured
    }

    /// `up down maintenance` in minutes.
    fn minutes(found: &Availability) -> [u64; 3] {
        [found.up, found.down, found.maintenance].map(|s| s.as_millis() / 60_000)
    }

    #[test]
    fn an_outage_counts_from_the_first_look_that_failed() {
        let measured = measured(
            "01-01T00:00:00 web healthy
             01-01T00:00:00 db healthy
             01-02T03:00:00 web suspect
             01-02T03:01:00 web down
             01-02T03:01:00 incident web 01-02T02:59:00
             01-02T03:42:00 web healthy",
        );
        let now = at("01-03T01:00:00");
        let found = measured.component(&service(), &"web".into(), now);
        let found = found.unwrap();
        assert_eq!(minutes(&found), [49 * 60 - 43, 43, 0]);
        assert_eq!(found.since, at("01-01T00:00:00"));
        assert_eq!(
            found.days,
            [
                Status::Operational,
                Status::MajorOutage,
                Status::Operational
            ]
            .map(Some)
        );
        assert_eq!(measured.service(&service(), now).unwrap(), found);
    }

    #[test]
    fn doubt_that_was_unfounded_is_no_outage() {
        let measured = measured(
            "01-01T00:00:00 web healthy
             01-01T10:00:00 web suspect
             01-01T10:05:00 web healthy",
        );
        let found = measured.component(&service(), &"web".into(), at("01-01T20:00:00"));
        assert_eq!(minutes(&found.unwrap()), [20 * 60, 0, 0]);
    }

    #[test]
    fn what_nobody_saw_counts_for_nothing() {
        let measured = measured(
            "01-01T00:00:00 web healthy
             01-01T04:00:00 web inconclusive
             01-01T05:00:00 web healthy
             01-01T06:00:00 web degraded
             01-01T08:00:00 started
             01-01T09:00:00 web down",
        );
        let found = measured.component(&service(), &"web".into(), at("01-01T10:00:00"));
        // From the last record at 06:00 until the start at 08:00 no controller ran.
        assert_eq!(minutes(&found.unwrap()), [6 * 60, 60, 0]);
    }

    #[test]
    fn planned_maintenance_is_kept_apart() {
        let measured = measured(
            "03-01T00:00:00 web healthy
             03-01T02:00:00 web down
             03-01T02:13:00 web healthy
             03-01T05:00:00 web down
             03-01T05:01:00 paused
             03-01T05:02:00 web healthy
             03-01T05:03:00 web down
             03-01T05:04:00 resumed
             03-01T05:06:00 web healthy",
        );
        let found = measured.component(&service(), &"web".into(), at("03-01T06:00:00"));
        // Planned: ten minutes of the window, one of the pause. The outage before the pause stays one.
        assert_eq!(
            minutes(&found.unwrap()),
            [6 * 60 - 13 - 2 - 3, 3 + 2 + 2, 11]
        );
        assert!(!measured.is_planned(&service(), &"web".into(), at("03-01T06:00:00")));
    }

    #[test]
    fn a_pause_in_force_is_told_at_once() {
        let measured = measured(
            "04-01T00:00:00 web healthy
             04-01T05:01:00 paused
             04-01T05:02:00 web down",
        );
        let now = at("04-01T05:03:00");
        assert!(measured.is_planned(&service(), &"web".into(), now));
        assert!(measured.began_planned(&service(), at("04-01T05:02:00"), now));
        assert!(!measured.began_planned(&service(), at("04-01T05:00:00"), now));
        let found = measured.component(&service(), &"web".into(), now).unwrap();
        assert_eq!(minutes(&found), [302, 0, 1]);
    }

    #[test]
    fn a_service_is_down_with_any_of_its_parts_and_known_by_its_applications() {
        let measured = measured(
            "01-01T00:00:00 web healthy
             01-01T00:00:00 db healthy
             01-01T01:00:00 db inconclusive
             01-01T02:00:00 db down
             01-01T03:00:00 db healthy
             01-01T04:00:00 web inconclusive",
        );
        let found = measured.service(&service(), at("01-01T10:00:00"));
        assert_eq!(minutes(&found.unwrap()), [180, 60, 0]);
    }

    #[test]
    fn only_the_last_year_counts_and_ninety_days_are_shown() {
        let mut measured = Measured::default();
        assert_eq!(measured.service(&service(), at("01-01T00:00:00")), None);
        let mut timeline = Timeline::default();
        let now = at("06-01T00:00:00");
        let old = now.before(Span::from_secs(500 * 86_400));
        timeline.set(old, Fared::Up);
        timeline.down(now.before(Span::from_secs(400 * 86_400)));
        timeline.set(now.before(Span::from_secs(399 * 86_400)), Fared::Up);
        timeline.down(now.before(Span::from_secs(4200)));
        timeline.set(now, Fared::Up);
        measured.timelines.insert("web".into(), Arc::new(timeline));
        let found = measured.component(&service(), &"web".into(), now).unwrap();
        assert_eq!(minutes(&found), [365 * 24 * 60 - 70, 70, 0]);
        assert_eq!(found.days.len(), 90);
        // 70 minutes of a year: 99.98668 %, never rounded up.
        assert!(
            (found.percent() - 99.986).abs() < 1e-9,
            "{}",
            found.percent()
        );
    }
}
