//! What the status page shows: plain data that the driver fills in.
//!
//! Everything here is public. No host names of sites, no internal reasons, no addresses of people go in.

use std::fmt;

use crate::model::{
    announcement::Phase,
    id::{AnnouncementId, ComponentName, IncidentId, ServiceName},
    span::Span,
    time::Time,
};

/// For so long after its end an outage is mentioned beside the headline.
const RECENT: Span = Span::from_secs(24 * 3600);

/// A figure of less known time says nothing to people.
const TELLING: Span = Span::from_secs(24 * 3600);

/// The whole page. It may show one service or several.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusView {
    /// The page's title, such as `Example Shop status`.
    pub title: String,
    /// The page's own public URL, where it is known.
    pub url: Option<String>,
    /// When this view was made.
    pub generated: Time,
    /// The services in the order of the documents.
    pub services: Vec<ServiceView>,
    /// Incidents, newest first.
    pub incidents: Vec<IncidentView>,
}

/// A service as customers know it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// Its name; part of file names and ids.
    pub name: ServiceName,
    /// Its title.
    pub title: String,
    /// How it fares as a whole.
    pub status: Status,
    /// What customers see while it is not well, in their words.
    pub symptom: Option<String>,
    /// Its parts.
    pub components: Vec<ComponentView>,
    /// How it fared before as a whole, where that was measured.
    pub availability: Option<Availability>,
    /// The availability that is promised, in percent.
    pub promised: Option<f64>,
    /// The address that works now, while customers should use another than the usual one.
    pub fallback: Option<Fallback>,
    /// Where the switch of the usual address stands; none where the service has no DNS of its own.
    pub dns: Option<CutOver>,
    /// When the next update is due, during an incident.
    pub next_update: Option<Time>,
}

/// A component as customers know it.
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentView {
    /// Unique within its service.
    pub name: ComponentName,
    /// Its title.
    pub title: String,
    /// How it fares.
    pub status: Status,
    /// Since when, where known.
    pub since: Option<Time>,
    /// How it fared before, where that was measured.
    pub availability: Option<Availability>,
}

/// How a component or a service fared, as far as that was seen: at most over the last year.
#[derive(Clone, Debug, PartialEq)]
pub struct Availability {
    /// Since when it is counted.
    pub since: Time,
    /// How long it was seen to work.
    pub up: Span,
    /// How long it was down without that being planned.
    pub down: Span,
    /// How long it was down for planned maintenance.
    pub maintenance: Span,
    /// One entry a day, oldest first, at most 90: the worst status of that day; none where nobody looked.
    pub days: Vec<Option<Status>>,
}

impl Availability {
    /// Whether it is of a day at least: before that, one short outage reads as a ruin.
    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.up.saturating_add(self.down) >= TELLING
    }

    /// Percent of the known time, planned maintenance apart, in which it worked; rounded down to three decimals, so
    /// that an outage never reads as 100 %.
    #[must_use]
    pub fn percent(&self) -> f64 {
        let (up, down) = (self.up.as_millis(), self.down.as_millis());
        let all = u128::from(up) + u128::from(down);
        let thousandths = (u128::from(up) * 100_000)
            .checked_div(all)
            .unwrap_or(100_000);
        f64::from(u32::try_from(thousandths).unwrap_or(100_000)) / 1000.0
    }
}

/// An address that works while the usual one may not. Only made after it was seen to work from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The address.
    pub url: String,
    /// Since when customers should use it.
    pub since: Time,
    /// When it was last seen to work.
    pub verified: Time,
}

/// Where the switch of the usual address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOver {
    /// It leads where it always does.
    Unchanged,
    /// It is being switched; some still get the old answer.
    Switching,
    /// Everyone who asks anew is led to the place that works.
    Switched,
}

/// How a service or a component fares, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It works.
    Operational,
    /// It is being worked on as announced.
    Maintenance,
    /// It works, but badly.
    Degraded,
    /// Some of it, or some customers, are cut off.
    PartialOutage,
    /// It does not work.
    MajorOutage,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operational => "Operational",
            Self::Maintenance => "Under maintenance",
            Self::Degraded => "Degraded",
            Self::PartialOutage => "Partial outage",
            Self::MajorOutage => "Major outage",
        })
    }
}

/// An incident as customers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentView {
    /// Its id.
    pub id: IncidentId,
    /// The service that it hit.
    pub service: ServiceName,
    /// The components that it hit, where known.
    pub components: Vec<ComponentName>,
    /// One line, such as `Example Shop: the shop cannot be reached`.
    pub title: String,
    /// The worst that it did.
    pub impact: Status,
    /// When it began.
    pub started: Time,
    /// When it ended; none while it lasts.
    pub ended: Option<Time>,
    /// Whether it is an exercise.
    pub drill: bool,
    /// What was said, newest first.
    pub updates: Vec<UpdateView>,
}

/// What was said at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateView {
    /// The announcement's id: stable, unique.
    pub id: AnnouncementId,
    /// The phase that it tells of.
    pub phase: Phase,
    /// When.
    pub at: Time,
    /// The text, plain.
    pub text: String,
}

impl StatusView {
    /// How the worst service fares.
    #[must_use]
    pub fn worst(&self) -> Status {
        self.services
            .iter()
            .map(|s| s.status)
            .max()
            .unwrap_or(Status::Operational)
    }

    /// Incidents that last and are no exercise.
    pub fn open(&self) -> impl Iterator<Item = &IncidentView> {
        self.incidents
            .iter()
            .filter(|i| i.ended.is_none() && !i.drill)
    }

    /// Whether anything is not as usual, so that readers should look again soon.
    #[must_use]
    pub fn unsettled(&self) -> bool {
        self.worst() > Status::Maintenance
            || self.services.iter().any(|s| s.fallback.is_some())
            || self.incidents.iter().any(|i| i.ended.is_none())
    }

    /// The newest outage that is over, while that is news.
    #[must_use]
    pub fn just_ended(&self) -> Option<&IncidentView> {
        self.incidents.iter().find(|i| {
            !i.drill
                && i.ended
                    .is_some_and(|ended| self.generated.since(ended) < RECENT)
        })
    }

    /// The page in one line: what a customer wants to know first.
    #[must_use]
    pub fn headline(&self) -> String {
        match self.services.as_slice() {
            [] => "Nothing is watched yet".to_owned(),
            [one] => one.headline(self.phase_of(one)),
            many => {
                let troubled: Vec<&ServiceView> = many
                    .iter()
                    .filter(|s| {
                        s.status != Status::Operational
                            || s.fallback.is_some()
                            || self.open().any(|i| i.service == s.name)
                    })
                    .collect();
                match troubled.as_slice() {
                    [] => "All services are working".to_owned(),
                    [one] => one.headline(self.phase_of(one)),
                    several => {
                        format!("{} of {} services have problems", several.len(), many.len())
                    }
                }
            }
        }
    }

    /// Where the open incident of a service stands.
    fn phase_of(&self, service: &ServiceView) -> Option<Phase> {
        let mut open = self.open().filter(|i| i.service == service.name);
        open.next().map(IncidentView::phase)
    }

    /// When the page's content last changed, as far as its own data tells.
    #[must_use]
    pub fn changed(&self) -> Time {
        let updates = self.incidents.iter().flat_map(|i| {
            i.updates
                .iter()
                .map(|u| u.at)
                .chain([i.started])
                .chain(i.ended)
        });
        let since = self
            .services
            .iter()
            .flat_map(|s| s.components.iter().filter_map(|c| c.since));
        updates.chain(since).max().unwrap_or(self.generated)
    }
}

impl ServiceView {
    /// The service in one line.
    fn headline(&self, incident: Option<Phase>) -> String {
        let title = &self.title;
        if self.fallback.is_some() {
            return format!("{title} works at another address");
        }
        match self.status {
            Status::Operational if incident == Some(Phase::OnStandby) => {
                format!("{title} works at its standby site")
            }
            Status::Operational if incident.is_some() => format!("We are looking into {title}"),
            Status::Operational => format!("{title} is working"),
            Status::Maintenance => format!("{title} is under maintenance"),
            Status::Degraded => format!("{title} has problems"),
            Status::PartialOutage => format!("{title} is partly down"),
            Status::MajorOutage => format!("{title} is down"),
        }
    }
}

impl IncidentView {
    /// The phase that its newest update tells of, corrections apart.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.updates
            .iter()
            .map(|u| u.phase)
            .find(|p| *p != Phase::Correction)
            .unwrap_or(Phase::Investigating)
    }

    /// When it was last spoken of.
    #[must_use]
    pub fn updated(&self) -> Time {
        self.updates
            .iter()
            .map(|u| u.at)
            .chain(self.ended)
            .max()
            .unwrap_or(self.started)
    }

    /// Its title with the mark of an exercise.
    #[must_use]
    pub fn marked_title(&self) -> String {
        if self.drill {
            format!("[DRILL] {}", self.title)
        } else {
            self.title.clone()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn at(clock: &str) -> Time {
        Time::parse(&format!("2026-11-21T{clock}Z")).unwrap()
    }

    /// A shop that works.
    pub(crate) fn normal() -> StatusView {
        StatusView {
            title: "Example Shop status".into(),
            url: Some("https://status.example.com/".into()),
            generated: at("14:00:05"),
            services: vec![ServiceView {
                name: "shop".into(),
                title: "Example Shop".into(),
                status: Status::Operational,
                symptom: None,
                components: vec![
                    ComponentView {
                        name: "web".into(),
                        title: "Shop and checkout".into(),
                        status: Status::Operational,
                        since: Some(at("08:00:00")),
                        availability: None,
                    },
                    ComponentView {
                        name: "orders".into(),
                        title: "Orders".into(),
                        status: Status::Operational,
                        since: Some(at("08:00:00")),
                        availability: None,
                    },
                ],
                availability: None,
                promised: None,
                fallback: None,
                dns: Some(CutOver::Unchanged),
                next_update: None,
            }],
            incidents: Vec::new(),
        }
    }

    /// Two days with two minutes of outage and ten of maintenance.
    pub(crate) fn measured() -> Availability {
        Availability {
            since: Time::parse("2026-11-19T08:00:00Z").unwrap(),
            up: Span::from_secs(172_679),
            down: Span::from_secs(120),
            maintenance: Span::from_secs(600),
            days: vec![
                None,
                Some(Status::Operational),
                Some(Status::Maintenance),
                Some(Status::MajorOutage),
            ],
        }
    }

    /// The same shop down, nothing to offer yet.
    pub(crate) fn outage() -> StatusView {
        let mut view = normal();
        view.generated = at("14:05:10");
        let shop = &mut view.services[0];
        shop.status = Status::MajorOutage;
        shop.symptom = Some("The shop does not open and orders cannot be placed.".into());
        for component in &mut shop.components {
            component.status = Status::MajorOutage;
            component.since = Some(at("14:03:22"));
        }
        shop.next_update = Some(at("14:25:00"));
        view.incidents.push(IncidentView {
            id: "shop-i12".into(),
            service: "shop".into(),
            components: vec!["web".into(), "orders".into()],
            title: "Example Shop cannot be reached".into(),
            impact: Status::MajorOutage,
            started: at("14:03:22"),
            ended: None,
            drill: false,
            updates: vec![
                UpdateView {
                    id: "shop-i12-failingOver".into(),
                    phase: Phase::FailingOver,
                    at: at("14:04:58"),
                    text: "We are switching to our second site.".into(),
                },
                UpdateView {
                    id: "shop-i12-investigating".into(),
                    phase: Phase::Investigating,
                    at: at("14:04:10"),
                    text: "We are looking into it.\nNothing you have to do.".into(),
                },
            ],
        });
        view
    }

    /// The second site serves.
    pub(crate) fn on_standby() -> StatusView {
        let mut view = outage();
        view.generated = at("14:07:30");
        let shop = &mut view.services[0];
        shop.status = Status::Degraded;
        shop.fallback = Some(Fallback {
            url: "https://standby.example.com/shop".into(),
            since: at("14:06:40"),
            verified: at("14:07:21"),
        });
        shop.dns = Some(CutOver::Switching);
        for component in &mut shop.components {
            component.status = Status::Degraded;
        }
        view.incidents[0].updates.insert(
            0,
            UpdateView {
                id: "shop-i12-onStandby".into(),
                phase: Phase::OnStandby,
                at: at("14:06:40"),
                text: "Example Shop works at https://standby.example.com/shop. All orders up to \
                       14:03 UTC are safe."
                    .into(),
            },
        );
        view
    }

    /// It is over.
    pub(crate) fn recovered() -> StatusView {
        let mut view = on_standby();
        view.generated = at("15:30:00");
        let shop = &mut view.services[0];
        shop.status = Status::Operational;
        shop.symptom = None;
        shop.fallback = None;
        shop.dns = Some(CutOver::Switched);
        shop.next_update = None;
        for component in &mut shop.components {
            component.status = Status::Operational;
            component.since = Some(at("15:10:00"));
        }
        let incident = &mut view.incidents[0];
        incident.ended = Some(at("15:10:00"));
        incident.updates.insert(
            0,
            UpdateView {
                id: "shop-i12-recovered".into(),
                phase: Phase::Recovered,
                at: at("15:10:00"),
                text: "Everything is as usual again. No data loss is known.".into(),
            },
        );
        view
    }

    #[test]
    fn says_first_what_matters_most() {
        assert_eq!(normal().headline(), "Example Shop is working");
        assert_eq!(outage().headline(), "Example Shop is down");
        assert_eq!(
            on_standby().headline(),
            "Example Shop works at another address"
        );
        assert_eq!(recovered().headline(), "Example Shop is working");
        let mut early = outage();
        early.services[0].status = Status::Operational;
        assert_eq!(early.headline(), "We are looking into Example Shop");
    }

    #[test]
    fn counts_where_there_are_several_services() {
        let mut view = outage();
        let mut mail = normal().services.remove(0);
        mail.name = "mail".into();
        mail.title = "Example Mail".into();
        view.services.push(mail);
        assert_eq!(view.headline(), "Example Shop is down");
        view.services[1].status = Status::Degraded;
        assert_eq!(view.headline(), "2 of 2 services have problems");
        assert_eq!(view.worst(), Status::MajorOutage);
    }

    #[test]
    fn a_drill_is_no_outage() {
        let mut view = normal();
        let mut drill = outage().incidents.remove(0);
        drill.drill = true;
        view.incidents.push(drill);
        assert_eq!(view.headline(), "Example Shop is working");
        assert_eq!(view.open().count(), 0);
        assert_eq!(view.just_ended(), None);
        assert_eq!(
            view.incidents[0].marked_title(),
            "[DRILL] Example Shop cannot be reached"
        );
        assert!(view.unsettled());
    }

    #[test]
    fn an_outage_is_news_for_a_day() {
        let mut view = recovered();
        assert_eq!(view.just_ended().map(|i| i.id.as_str()), Some("shop-i12"));
        view.generated = at("15:10:00").after(Span::from_secs(24 * 3600));
        assert_eq!(view.just_ended(), None);
    }

    #[test]
    fn a_correction_leaves_the_phase_as_it_was() {
        let mut view = on_standby();
        view.incidents[0].updates.insert(
            0,
            UpdateView {
                id: "shop-i12-correction-1".into(),
                phase: Phase::Correction,
                at: at("14:08:00"),
                text: "Invoices are not available yet.".into(),
            },
        );
        assert_eq!(view.incidents[0].phase(), Phase::OnStandby);
        assert_eq!(view.incidents[0].updated(), at("14:08:00"));
    }

    #[test]
    fn an_outage_never_reads_as_a_hundred_percent() {
        let mut measured = measured();
        measured.up = Span::from_secs(365 * 24 * 3600);
        measured.down = Span::from_millis(1);
        assert!((measured.percent() - 99.999).abs() < 1e-9);
        measured.down = Span::ZERO;
        assert!((measured.percent() - 100.0).abs() < 1e-9);
        measured.up = Span::ZERO;
        assert!((measured.percent() - 100.0).abs() < 1e-9);
    }
}
