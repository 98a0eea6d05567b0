//! The `ServiceGroup` document, and what becomes of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    code::Code,
    complaint::DocId,
    document::{ProtectedService, ServiceGroupDocument},
    path::FieldPath,
    place::web_address,
    scope::Scope,
    service::AnnouncementsSpec,
    tell,
};
use crate::model::{
    announcement::Phase,
    group::{Member, ServiceGroup},
    id::{ServiceGroupName, ServiceName},
    service::Template,
    span::Span,
};

/// Services that fail over together: who goes first, how many at once, and one announcement for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceGroupSpec {
    /// What customers call all of it. Default: the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who goes first. A wave waits until nothing of the waves before it is down, or has failed over; services that others
    /// need stand in the first one.
    pub waves: Vec<WaveSpec>,
    /// Failovers of its services that may be under way at once. Further ones wait.
    #[serde(default = "at_once")]
    #[schemars(range(min = 1))]
    pub at_once: usize,
    /// How long those behind wait for a service that is down and does not get on: that is held, waits for a person, or
    /// whose run takes longer.
    #[serde(default = "wait_at_most")]
    pub wait_at_most: Span,
    /// How long outages are gathered before the second wave begins and the audience hears of them.
    #[serde(default = "gather")]
    pub gather: Span,
    /// What the audience that the services share is told: once for all of them. Channels of a service are its own audience,
    /// and stay as they are.
    #[serde(default)]
    pub announcements: AnnouncementsSpec,
    /// The status page that announcements name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_url: Option<String>,
}

/// Services that may go at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaveSpec {
    /// Their names, each a `ProtectedService`. A service is in one group at most.
    pub services: Vec<String>,
}

const fn at_once() -> usize {
    10
}

const fn wait_at_most() -> Span {
    Span::from_secs(600)
}

const fn gather() -> Span {
    Span::from_secs(15)
}

/// A group after its checks. `taken` are the services that other groups have, and where.
pub fn group(
    scope: &mut Scope<'_>,
    document: &ServiceGroupDocument,
    services: &[&ProtectedService],
    taken: &mut BTreeMap<String, (DocId, FieldPath)>,
) -> ServiceGroup {
    let (spec, name) = (&document.spec, &document.metadata.name);
    scope.label(name, &FieldPath::parse("metadata.name"));
    let title = spec.title.clone().unwrap_or_else(|| name.clone());
    let waves = waves(scope, spec, services, taken);
    numbers(scope, spec);
    if let Some(url) = &spec.status_url {
        web_address(scope, url, &FieldPath::spec().key("statusUrl"));
    }
    let symptom = FieldPath::spec().key("announcements").key("symptom");
    if spec.announcements.symptom.is_some() {
        let message = "a group names its services where others say what customers see";
        let complaint = scope.about(Code::Template, symptom, message);
        scope.add(complaint.hint(
            "take it out, or say it in `templates`, where {symptom} stands for the services",
        ));
    }
    audiences(scope, spec, services);
    let mut announcements = tell::announcements(scope, &spec.announcements, &title, false);
    announcements.symptom = String::new();
    for phase in Phase::ALL {
        let ready = ready_made(phase);
        announcements.templates.entry(phase).or_insert(ready);
    }
    ServiceGroup {
        name: ServiceGroupName::new(name),
        title,
        waves,
        at_once: spec.at_once,
        wait_at_most: spec.wait_at_most,
        gather: spec.gather,
        announcements,
        status_url: spec.status_url.clone(),
    }
}

fn waves(
    scope: &mut Scope<'_>,
    spec: &ServiceGroupSpec,
    services: &[&ProtectedService],
    taken: &mut BTreeMap<String, (DocId, FieldPath)>,
) -> Vec<Vec<Member>> {
    let list = FieldPath::spec().key("waves");
    if spec.waves.is_empty() {
        let complaint = scope.about(Code::Group, list.clone(), "the group has no wave");
        scope.add(complaint.expected("waves: [{services: […]}]"));
    }
    let known: Vec<&str> = services.iter().map(|s| s.metadata.name.as_str()).collect();
    let mut waves = Vec::new();
    for (n, wave) in spec.waves.iter().enumerate() {
        let at = list.index(n).key("services");
        if wave.services.is_empty() {
            let message = format!("wave {} is empty", n + 1);
            let complaint = scope.about(Code::Group, at.clone(), message);
            scope.add(complaint.hint("name its services, or take the wave out"));
        }
        let mut members = Vec::new();
        for (m, name) in wave.services.iter().enumerate() {
            let at = at.index(m);
            if let Some((doc, first)) = taken.get(name) {
                let message = format!("`{name}` has its turn already");
                let complaint = scope
                    .about(Code::Group, at, message)
                    .expected("each service once, in one group")
                    .related(*doc, first.clone(), "the first one");
                scope.add(complaint);
                continue;
            }
            taken.insert(name.clone(), (scope.doc, at.clone()));
            scope.refers("service", name, &known, &at, &FieldPath::root());
            let found = services.iter().find(|s| s.metadata.name == *name);
            let title = found.and_then(|s| s.spec.title.clone());
            members.push(Member {
                service: ServiceName::new(name),
                title: title.unwrap_or_else(|| name.clone()),
            });
        }
        waves.push(members);
    }
    waves
}

fn numbers(scope: &mut Scope<'_>, spec: &ServiceGroupSpec) {
    let path = FieldPath::spec();
    if spec.at_once == 0 {
        let complaint = scope.about(
            Code::BadValue,
            path.key("atOnce"),
            "no service would ever fail over",
        );
        scope.add(complaint.expected("how many may be under way at once, such as 10"));
    }
    if spec.wait_at_most == Span::ZERO {
        let complaint = scope.about(
            Code::BadValue,
            path.key("waitAtMost"),
            "nobody would wait for anybody",
        );
        scope.add(complaint.expected("a duration such as 10m"));
    }
}

/// An audience that a member tells as well would hear everything twice.
fn audiences(scope: &mut Scope<'_>, spec: &ServiceGroupSpec, services: &[&ProtectedService]) {
    let list = FieldPath::spec().key("announcements").key("channels");
    for (n, channel) in spec.announcements.channels.iter().enumerate() {
        let names = spec.waves.iter().flat_map(|w| &w.services);
        let members = names.filter_map(|name| services.iter().find(|s| s.metadata.name == *name));
        let mut same = members.filter(|s| {
            let own = s.spec.announcements.channels.iter();
            own.into_iter()
                .any(|c| c.uses == channel.uses && c.with == channel.with)
        });
        if let Some(member) = same.next() {
            let member = &member.metadata.name;
            let message = format!(
                "`{}` tells whom `{member}` tells as well: they would hear everything twice",
                channel.name
            );
            let complaint = scope.about(Code::Group, list.index(n), message);
            scope.add(complaint.hint(format!(
                "take the channel out of `{member}`, and of every other service of the group"
            )));
        }
    }
    let names = spec.announcements.channels.iter().enumerate();
    let names = names.map(|(n, c)| (c.name.as_str(), list.index(n).key("name")));
    scope.unique("a channel", names);
}

/// The text for a phase where the document has none of its own.
fn ready_made(phase: Phase) -> Template {
    let (subject, first) = match phase {
        Phase::Investigating => (
            "{service}: we are looking into a problem",
            "We are looking into a problem with several services of {service}. It began at {started}.",
        ),
        Phase::FailingOver => (
            "{service}: we are moving services to our standby site",
            "Services of {service} have not worked as they should since {started}. We are moving them to our standby site.",
        ),
        Phase::OnStandby => (
            "{service} works again, from our standby site",
            "All services of {service} work again, from our standby site. The problem began at {started}.",
        ),
        Phase::Recovered => (
            "{service} works as usual again",
            "All services of {service} work as usual again. The problem that began at {started} is over.",
        ),
        Phase::Correction => (
            "{service}: a correction",
            "Our last message about {service} was wrong. We are sorry, and are checking what is right.",
        ),
        Phase::Maintenance => (
            "{service}: planned maintenance",
            "We are doing planned maintenance on {service} since {started}.",
        ),
        Phase::MaintenanceOver => (
            "{service}: the planned maintenance is over",
            "The planned maintenance on {service} that began at {started} is over.",
        ),
    };
    Template {
        subject: Some(subject.to_owned()),
        text: format!(
            "{first}\n{{symptom}}\nThe next update comes by {{nextUpdate}}.\nStatus page: {{statusUrl}}\n\
             Incident {{incident}}"
        ),
        short: Some(format!(
            "{first}\n{{symptom}}\nNext update by {{nextUpdate}}.\nIncident {{incident}}"
        )),
    }
}
