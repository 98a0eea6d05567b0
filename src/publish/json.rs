//! The page for programs: the files that Statuspage clients read, and `fallback.json` for apps that switch by themselves.

use serde::Serialize;

use super::view::{
    Availability, ComponentView, CutOver, IncidentView, ServiceView, Status, StatusView,
};
use crate::model::{announcement::Phase, id::ComponentName, time::Time};

/// As many incidents as Statuspage lists in `incidents.json`.
const LISTED: usize = 50;

/// `summary.json`.
#[derive(Serialize)]
pub struct Summary {
    page: Page,
    components: Vec<Component>,
    incidents: Vec<Incident>,
    scheduled_maintenances: [(); 0],
    status: Overall,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    availability: Vec<ServiceMeasured>,
}

/// How a service fared as a whole: a field of our own beside Statuspage's.
#[derive(Serialize)]
struct ServiceMeasured {
    service: String,
    #[serde(flatten)]
    measured: Measured,
    objective_percent: Option<f64>,
}

/// How something fared, from `since` on. Time that nobody saw is in none of the three.
#[derive(Serialize)]
struct Measured {
    percent: f64,
    since: Time,
    up_seconds: f64,
    down_seconds: f64,
    maintenance_seconds: f64,
}

/// `status.json`.
#[derive(Serialize)]
pub struct StatusOnly {
    page: Page,
    status: Overall,
}

/// `components.json`.
#[derive(Serialize)]
pub struct Components {
    page: Page,
    components: Vec<Component>,
}

/// `incidents.json`.
#[derive(Serialize)]
pub struct Incidents {
    page: Page,
    incidents: Vec<Incident>,
}

/// `fallback.json`.
#[derive(Serialize)]
pub struct FallbackFile {
    service: String,
    active: bool,
    url: Option<String>,
    since: Option<Time>,
    verified_at: Option<Time>,
    dns: Option<&'static str>,
    generated_at: Time,
}

#[derive(Serialize)]
struct Page {
    id: String,
    name: String,
    url: Option<String>,
    time_zone: &'static str,
    updated_at: Time,
}

#[derive(Serialize)]
struct Overall {
    indicator: &'static str,
    description: String,
}

#[derive(Serialize)]
struct Component {
    id: String,
    name: String,
    status: &'static str,
    updated_at: Option<Time>,
    position: usize,
    description: Option<String>,
    group_id: Option<String>,
    page_id: String,
    group: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<String>,
    showcase: bool,
    only_show_if_degraded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability: Option<Measured>,
}

#[derive(Serialize)]
struct Incident {
    id: String,
    name: String,
    status: &'static str,
    impact: &'static str,
    created_at: Time,
    started_at: Time,
    updated_at: Time,
    monitoring_at: Option<Time>,
    resolved_at: Option<Time>,
    shortlink: Option<String>,
    page_id: String,
    #[serde(rename = "incident_updates")]
    updates: Vec<Update>,
    components: Vec<Component>,
    drill: bool,
}

#[derive(Serialize)]
struct Update {
    id: String,
    status: &'static str,
    body: String,
    incident_id: String,
    created_at: Time,
    updated_at: Time,
    display_at: Time,
}

/// The whole page in short, with the incidents that last.
#[must_use]
pub fn summary(view: &StatusView) -> Summary {
    Summary {
        page: page(view),
        components: components_of(view),
        incidents: unresolved_incidents(view),
        scheduled_maintenances: [],
        status: overall(view),
        availability: view
            .services
            .iter()
            .filter_map(|s| {
                Some(ServiceMeasured {
                    service: s.name.to_string(),
                    measured: measured(s.availability.as_ref()?),
                    objective_percent: s.promised,
                })
            })
            .collect(),
    }
}

/// One word and one line.
#[must_use]
pub fn status(view: &StatusView) -> StatusOnly {
    StatusOnly {
        page: page(view),
        status: overall(view),
    }
}

/// The components; with several services each service is a group.
#[must_use]
pub fn components(view: &StatusView) -> Components {
    Components {
        page: page(view),
        components: components_of(view),
    }
}

/// The newest 50 incidents.
#[must_use]
pub fn incidents(view: &StatusView) -> Incidents {
    Incidents {
        page: page(view),
        incidents: view
            .incidents
            .iter()
            .take(LISTED)
            .map(|i| incident(view, i))
            .collect(),
    }
}

/// The incidents that last.
#[must_use]
pub fn unresolved(view: &StatusView) -> Incidents {
    Incidents {
        page: page(view),
        incidents: unresolved_incidents(view),
    }
}

/// The address of a service that works now, if it is another than the usual one.
#[must_use]
pub fn fallback(view: &StatusView, service: &ServiceView) -> FallbackFile {
    let active = service.fallback.as_ref();
    FallbackFile {
        service: service.name.to_string(),
        active: active.is_some(),
        url: active.map(|f| f.url.clone()),
        since: active.map(|f| f.since),
        verified_at: active.map(|f| f.verified),
        dns: service.dns.map(|dns| match dns {
            CutOver::Unchanged => "unchanged",
            CutOver::Switching => "switching",
            CutOver::Switched => "switched",
        }),
        generated_at: view.generated,
    }
}

fn unresolved_incidents(view: &StatusView) -> Vec<Incident> {
    view.incidents
        .iter()
        .filter(|i| i.ended.is_none())
        .map(|i| incident(view, i))
        .collect()
}

/// The page's id: its services' names, which do not change when it moves to another URL.
fn page_id(view: &StatusView) -> String {
    let names: Vec<&str> = view.services.iter().map(|s| s.name.as_str()).collect();
    names.join("+")
}

fn page(view: &StatusView) -> Page {
    Page {
        id: page_id(view),
        name: view.title.clone(),
        url: view.url.clone(),
        time_zone: "Etc/UTC",
        updated_at: view.generated,
    }
}

fn overall(view: &StatusView) -> Overall {
    Overall {
        indicator: indicator(view.worst()),
        description: view.headline(),
    }
}

fn components_of(view: &StatusView) -> Vec<Component> {
    let grouped = view.services.len() > 1;
    let mut list: Vec<Component> = Vec::new();
    for service in &view.services {
        if grouped {
            list.push(group(view, service));
        }
        for c in &service.components {
            list.push(component(view, service, c));
        }
    }
    for (position, c) in list.iter_mut().enumerate() {
        c.position = position + 1;
    }
    list
}

fn group(view: &StatusView, service: &ServiceView) -> Component {
    Component {
        id: service.name.to_string(),
        name: service.title.clone(),
        status: component_status(service.status),
        updated_at: service.components.iter().filter_map(|c| c.since).max(),
        position: 0,
        description: service.symptom.clone(),
        group_id: None,
        page_id: page_id(view),
        group: true,
        components: service
            .components
            .iter()
            .map(|c| component_id(service, &c.name))
            .collect(),
        showcase: false,
        only_show_if_degraded: false,
        availability: service.availability.as_ref().map(measured),
    }
}

fn component(view: &StatusView, service: &ServiceView, c: &ComponentView) -> Component {
    Component {
        id: component_id(service, &c.name),
        name: c.title.clone(),
        status: component_status(c.status),
        updated_at: c.since,
        position: 0,
        description: None,
        group_id: (view.services.len() > 1).then(|| service.name.to_string()),
        page_id: page_id(view),
        group: false,
        components: Vec::new(),
        showcase: true,
        only_show_if_degraded: false,
        availability: c.availability.as_ref().map(measured),
    }
}

fn measured(availability: &Availability) -> Measured {
    Measured {
        percent: availability.percent(),
        since: availability.since,
        up_seconds: availability.up.as_secs_f64(),
        down_seconds: availability.down.as_secs_f64(),
        maintenance_seconds: availability.maintenance.as_secs_f64(),
    }
}

fn component_id(service: &ServiceView, name: &ComponentName) -> String {
    format!("{}-{name}", service.name)
}

fn incident(view: &StatusView, i: &IncidentView) -> Incident {
    let hit = view
        .services
        .iter()
        .filter(|s| s.name == i.service)
        .flat_map(|s| s.components.iter().map(move |c| (s, c)))
        .filter(|(_, c)| i.components.contains(&c.name))
        .map(|(s, c)| component(view, s, c))
        .collect();
    Incident {
        id: i.id.to_string(),
        name: i.marked_title(),
        status: if i.ended.is_some() {
            "resolved"
        } else {
            incident_status(i.phase())
        },
        impact: if i.drill { "none" } else { indicator(i.impact) },
        created_at: i.started,
        started_at: i.started,
        updated_at: i.updated(),
        monitoring_at: i
            .updates
            .iter()
            .find(|u| u.phase == Phase::OnStandby)
            .map(|u| u.at),
        resolved_at: i.ended,
        shortlink: view.url.as_ref().map(|url| format!("{url}#{}", i.id)),
        page_id: page_id(view),
        updates: updates(i),
        components: hit,
        drill: i.drill,
    }
}

/// Newest first; a correction keeps the status that was in force when it was made.
fn updates(i: &IncidentView) -> Vec<Update> {
    let mut in_force = "investigating";
    let mut list: Vec<Update> = Vec::new();
    for u in i.updates.iter().rev() {
        in_force = match u.phase {
            Phase::Correction => in_force,
            phase @ (Phase::Investigating
            | Phase::FailingOver
            | Phase::OnStandby
            | Phase::Recovered
            | Phase::Maintenance
            | Phase::MaintenanceOver) => incident_status(phase),
        };
        list.push(Update {
            id: u.id.to_string(),
            status: in_force,
            body: u.text.clone(),
            incident_id: i.id.to_string(),
            created_at: u.at,
            updated_at: u.at,
            display_at: u.at,
        });
    }
    list.reverse();
    list
}

fn indicator(status: Status) -> &'static str {
    match status {
        Status::Operational => "none",
        Status::Maintenance => "maintenance",
        Status::Degraded => "minor",
        Status::PartialOutage => "major",
        Status::MajorOutage => "critical",
    }
}

fn component_status(status: Status) -> &'static str {
    match status {
        Status::Operational => "operational",
        Status::Maintenance => "under_maintenance",
        Status::Degraded => "degraded_performance",
        Status::PartialOutage => "partial_outage",
        Status::MajorOutage => "major_outage",
    }
}

fn incident_status(phase: Phase) -> &'static str {
    match phase {
        Phase::Investigating | Phase::Correction => "investigating",
        Phase::FailingOver => "identified",
        Phase::OnStandby => "monitoring",
        Phase::Maintenance => "in_progress",
        Phase::Recovered | Phase::MaintenanceOver => "resolved",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::view::{UpdateView, tests as views},
        *,
    };

    fn value(file: impl Serialize) -> Value {
        serde_json::to_value(file).unwrap()
    }

    #[test]
    fn a_quiet_page_reads_as_statuspage_clients_expect() {
        assert_eq!(
            value(summary(&views::normal())),
            json!({
                "page": {
                    "id": "shop", "name": "Example Shop status", "url": "https://status.example.com/",
                    "time_zone": "Etc/UTC", "updated_at": "2026-11-21T14:00:05.000Z"
                },
                "components": [
                    {
                        "id": "shop-web", "name": "Shop and checkout", "status": "operational",
                        "updated_at": "2026-11-21T08:00:00.000Z", "position": 1, "description": null,
                        "group_id": null, "page_id": "shop", "group": false, "showcase": true,
                        "only_show_if_degraded": false
                    },
                    {
                        "id": "shop-orders", "name": "Orders", "status": "operational",
                        "updated_at": "2026-11-21T08:00:00.000Z", "position": 2, "description": null,
                        "group_id": null, "page_id": "shop", "group": false, "showcase": true,
                        "only_show_if_degraded": false
                    }
                ],
                "incidents": [],
                "scheduled_maintenances": [],
                "status": { "indicator": "none", "description": "Example Shop is working" }
            })
        );
    }

    #[test]
    fn availability_stands_beside_what_statuspage_has() {
        let mut view = views::normal();
        view.services[0].availability = Some(views::measured());
        view.services[0].promised = Some(99.99);
        view.services[0].components[1].availability = Some(views::measured());
        let file = value(summary(&view));
        let expected = json!({
            "percent": 99.93, "since": "2026-11-19T08:00:00.000Z", "up_seconds": 172_679.0,
            "down_seconds": 120.0, "maintenance_seconds": 600.0
        });
        assert_eq!(file["components"][0].get("availability"), None);
        assert_eq!(file["components"][1]["availability"], expected);
        let whole = &file["availability"][0];
        assert_eq!(whole["service"], "shop");
        assert_eq!(whole["percent"], 99.93);
        assert_eq!(whole["objective_percent"], 99.99);
        assert_eq!(file["availability"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn phases_become_statuses() {
        for (view, status, indicator) in [
            (views::outage(), "identified", "critical"),
            (views::on_standby(), "monitoring", "minor"),
            (views::recovered(), "resolved", "none"),
        ] {
            let file = value(incidents(&view));
            assert_eq!(file["incidents"][0]["status"], status);
            assert_eq!(file["incidents"][0]["impact"], "critical");
            assert_eq!(
                value(super::status(&view))["status"]["indicator"],
                indicator
            );
        }
        let file = value(incidents(&views::recovered()));
        let incident = &file["incidents"][0];
        assert_eq!(incident["resolved_at"], "2026-11-21T15:10:00.000Z");
        assert_eq!(incident["monitoring_at"], "2026-11-21T14:06:40.000Z");
        assert_eq!(
            incident["shortlink"],
            "https://status.example.com/#shop-i12"
        );
        assert_eq!(incident["components"][1]["id"], "shop-orders");
        let statuses: Vec<&str> = incident["incident_updates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|u| u["status"].as_str().unwrap())
            .collect();
        assert_eq!(
            statuses,
            ["resolved", "monitoring", "identified", "investigating"]
        );
        assert_eq!(
            value(summary(&views::recovered()))["incidents"],
            json!([]),
            "the summary lists only what lasts"
        );
        assert_eq!(
            value(unresolved(&views::outage()))["incidents"][0]["id"],
            "shop-i12"
        );
    }

    #[test]
    fn a_correction_keeps_the_status_in_force() {
        let mut view = views::on_standby();
        view.incidents[0].updates.insert(
            0,
            UpdateView {
                id: "shop-i12-correction-1".into(),
                phase: Phase::Correction,
                at: views::at("14:08:00"),
                text: "Invoices are not available yet.".into(),
            },
        );
        let file = value(incidents(&view));
        assert_eq!(file["incidents"][0]["status"], "monitoring");
        assert_eq!(
            file["incidents"][0]["incident_updates"][0]["status"],
            "monitoring"
        );
    }

    #[test]
    fn several_services_are_groups() {
        let mut view = views::normal();
        let mut mail = views::normal().services.remove(0);
        mail.name = "mail".into();
        view.services.push(mail);
        let file = value(components(&view));
        let list = file["components"].as_array().unwrap();
        assert_eq!(list.len(), 6);
        assert_eq!(list[3]["id"], "mail");
        assert_eq!(list[3]["group"], true);
        assert_eq!(list[3]["components"], json!(["mail-web", "mail-orders"]));
        assert_eq!(list[4]["group_id"], "mail");
        assert_eq!(list[4]["position"], 5);
    }

    #[test]
    fn the_fallback_is_told_with_its_proof() {
        let view = views::on_standby();
        assert_eq!(
            value(fallback(&view, &view.services[0])),
            json!({
                "service": "shop", "active": true, "url": "https://standby.example.com/shop",
                "since": "2026-11-21T14:06:40.000Z", "verified_at": "2026-11-21T14:07:21.000Z",
                "dns": "switching", "generated_at": "2026-11-21T14:07:30.000Z"
            })
        );
        let view = views::outage();
        let file = value(fallback(&view, &view.services[0]));
        assert_eq!(file["active"], false);
        assert_eq!(file["url"], Value::Null);
    }

    #[test]
    fn a_drill_has_no_impact() {
        let mut view = views::outage();
        view.incidents[0].drill = true;
        let file = value(incidents(&view));
        assert_eq!(file["incidents"][0]["impact"], "none");
        assert_eq!(
            file["incidents"][0]["name"],
            "[DRILL] Example Shop cannot be reached"
        );
    }
}
