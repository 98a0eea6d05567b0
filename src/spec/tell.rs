//! What customers and the team are told: status page, channels, texts.

use super::{
    code::Code,
    escalation, nearest,
    path::FieldPath,
    place::web_address,
    scope::{Family, Scope},
    service::{AnnouncementsSpec, ProtectedServiceSpec, TemplatesSpec},
    template::{self, Flaw},
};
use crate::model::{
    announcement::Phase,
    approval::Person,
    id::{ChannelName, KindName},
    plan::Uses,
    service::{Announcements, Channel, Publication, Team, Template},
    span::Span,
};

/// The adapter that is slow to take back: a mail cannot be deleted.
const EMAIL: &str = "announce/email";

/// The phases, and how documents write them.
const PHASES: [(Phase, &str); 7] = [
    (Phase::Investigating, "investigating"),
    (Phase::FailingOver, "failingOver"),
    (Phase::OnStandby, "onStandby"),
    (Phase::Recovered, "recovered"),
    (Phase::Correction, "correction"),
    (Phase::Maintenance, "maintenance"),
    (Phase::MaintenanceOver, "maintenanceOver"),
];

/// The status page after its checks.
pub fn publication(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> Option<Publication> {
    let said = spec.publication.as_ref()?;
    let path = FieldPath::spec().key("publication");
    if let Some(url) = &said.url {
        web_address(scope, url, &path.key("url"));
    }
    for (n, target) in said.targets.iter().enumerate() {
        let at = path.key("targets").index(n);
        scope.uses(Family::Target, &target.uses, &target.with, &at);
    }
    Some(Publication {
        url: said.url.clone(),
        targets: said
            .targets
            .iter()
            .map(|t| Uses {
                uses: KindName::new(&t.uses),
                with: t.with.value(),
            })
            .collect(),
    })
}

/// What customers are told, after its checks. What has an address at the standby must name it.
pub fn announcements(
    scope: &mut Scope<'_>,
    said: &AnnouncementsSpec,
    title: &str,
    has_address: bool,
) -> Announcements {
    let path = FieldPath::spec().key("announcements");
    longer_than_nothing(scope, said.cadence, &path.key("cadence"));
    if let Some(long) = said.long_cadence {
        let at = path.key("longCadence");
        longer_than_nothing(scope, long.after, &at.key("after"));
        if long.cadence < said.cadence {
            let complaint = scope
                .about(
                    Code::BadValue,
                    at.key("cadence"),
                    format!(
                        "updates would come more often than before, every {}",
                        said.cadence
                    ),
                )
                .expected(format!("{} or more", said.cadence));
            scope.add(complaint);
        }
    }
    if said
        .symptom
        .as_ref()
        .is_some_and(|s| s.contains(['{', '}']))
    {
        let complaint = scope
            .about(
                Code::Template,
                path.key("symptom"),
                "the symptom is plain text without variables",
            )
            .hint("take the braces out; templates may use {symptom}");
        scope.add(complaint);
    }
    let list = path.key("channels");
    for (n, channel) in said.channels.iter().enumerate() {
        let at = list.index(n);
        scope.label(&channel.name, &at.key("name"));
        scope.uses(Family::Channel, &channel.uses, &channel.with, &at);
        if channel.phases.as_ref().is_some_and(Vec::is_empty) {
            let complaint = scope
                .about(
                    Code::BadValue,
                    at.key("phases"),
                    format!("`{}` would never say anything", channel.name),
                )
                .hint("name at least one phase, or leave `phases` out");
            scope.add(complaint);
        }
    }
    templates(scope, &said.templates, &path.key("templates"), has_address);
    Announcements {
        channels: said
            .channels
            .iter()
            .map(|c| Channel {
                name: ChannelName::new(&c.name),
                action: Uses {
                    uses: KindName::new(&c.uses),
                    with: c.with.value(),
                },
                phases: c.phases.clone().unwrap_or_else(|| default_phases(&c.uses)),
            })
            .collect(),
        templates: PHASES
            .into_iter()
            .filter_map(|(phase, _)| Some((phase, own_template(&said.templates, phase)?.clone())))
            .collect(),
        symptom: said
            .symptom
            .clone()
            .unwrap_or_else(|| format!("{title} cannot be reached or answers with errors.")),
        cadence: said.cadence,
        long_cadence: said.long_cadence,
    }
}

/// The fast channels speak while it happens; a mail goes out when there is something to do, so that a false alarm
/// mails nobody. Of planned work, which few notice, only the status page speaks unless a channel names it.
fn default_phases(uses: &str) -> Vec<Phase> {
    let mut phases = vec![Phase::OnStandby, Phase::Recovered, Phase::Correction];
    if uses != EMAIL {
        phases.insert(0, Phase::FailingOver);
    }
    phases
}

fn own_template(templates: &TemplatesSpec, phase: Phase) -> Option<&Template> {
    match phase {
        Phase::Investigating => templates.investigating.as_ref(),
        Phase::FailingOver => templates.failing_over.as_ref(),
        Phase::OnStandby => templates.on_standby.as_ref(),
        Phase::Recovered => templates.recovered.as_ref(),
        Phase::Correction => templates.correction.as_ref(),
        Phase::Maintenance => templates.maintenance.as_ref(),
        Phase::MaintenanceOver => templates.maintenance_over.as_ref(),
    }
}

fn templates(scope: &mut Scope<'_>, said: &TemplatesSpec, path: &FieldPath, has_address: bool) {
    for (phase, key) in PHASES {
        let Some(own) = own_template(said, phase) else {
            continue;
        };
        let at = path.key(key);
        for (key, text) in [
            ("subject", own.subject.as_ref()),
            ("text", Some(&own.text)),
            ("short", own.short.as_ref()),
        ] {
            if let Some(text) = text {
                check_text(scope, text, &at.key(key));
            }
        }
        if has_address && phase == Phase::OnStandby && !own.text.contains("{fallbackUrl}") {
            let complaint = scope
                .about(
                    Code::Template,
                    at.key("text"),
                    "the text does not say where the service can be reached",
                )
                .hint("use {fallbackUrl}: DNS takes its time, and this address works at once");
            scope.add(complaint);
        }
    }
}

fn check_text(scope: &mut Scope<'_>, text: &str, path: &FieldPath) {
    if text.trim().is_empty() {
        let complaint = scope
            .about(Code::Template, path.clone(), "the text is empty")
            .hint("leave it out for the ready-made text");
        scope.add(complaint);
    }
    for flaw in template::flaws(text) {
        let complaint = match flaw {
            Flaw::Unknown(name) => scope
                .about(
                    Code::Template,
                    path.clone(),
                    format!("nobody fills in {{{name}}}"),
                )
                .expected(format!("one of {}", Template::VARIABLES.join(", ")))
                .maybe_hint(nearest::hint(&name, &Template::VARIABLES)),
            Flaw::Brace => scope
                .about(
                    Code::Template,
                    path.clone(),
                    "a brace is not closed, or closes nothing",
                )
                .hint("braces stand for variables only, such as {service}"),
        };
        scope.add(complaint);
    }
}

/// The team after its checks.
pub fn team(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec, people: Vec<Person>) -> Team {
    let path = FieldPath::spec().key("team");
    let list = path.key("channels");
    for (n, channel) in spec.team.channels.iter().enumerate() {
        let at = list.index(n);
        scope.label(&channel.name, &at.key("name"));
        scope.uses(Family::Channel, &channel.uses, &channel.with, &at);
    }
    if let Some(chat) = &spec.team.chat {
        scope.uses(Family::Chat, &chat.uses, &chat.with, &path.key("chat"));
    }
    longer_than_nothing(scope, spec.team.repeat, &path.key("repeat"));
    let escalation = escalation::levels(scope, spec);
    let customers = FieldPath::spec().key("announcements").key("channels");
    let all = spec
        .announcements
        .channels
        .iter()
        .enumerate()
        .map(|(n, c)| (c.name.as_str(), customers.index(n).key("name")))
        .chain(
            spec.team
                .channels
                .iter()
                .enumerate()
                .map(|(n, c)| (c.name.as_str(), list.index(n).key("name"))),
        );
    scope.unique("a channel", all);
    Team {
        people,
        channels: spec
            .team
            .channels
            .iter()
            .map(|c| Channel {
                name: ChannelName::new(&c.name),
                action: Uses {
                    uses: KindName::new(&c.uses),
                    with: c.with.value(),
                },
                phases: Vec::new(),
            })
            .collect(),
        chat: spec.team.chat.as_ref().map(|c| Uses {
            uses: KindName::new(&c.uses),
            with: c.with.value(),
        }),
        repeat: spec.team.repeat,
        escalation,
    }
}

fn longer_than_nothing(scope: &mut Scope<'_>, span: Span, path: &FieldPath) {
    if span == Span::ZERO {
        let complaint = scope
            .about(
                Code::BadValue,
                path.clone(),
                "it must be longer than nothing",
            )
            .expected("a duration such as 5m");
        scope.add(complaint);
    }
}
