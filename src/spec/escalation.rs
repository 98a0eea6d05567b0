//! The escalation: that everybody named can be paged, and that nothing is left to nobody.

use std::collections::BTreeSet;

use super::{
    code::Code,
    path::FieldPath,
    scope::Scope,
    service::{EscalationLevelSpec, PersonSpec, ProtectedServiceSpec},
};
use crate::model::{
    id::ChannelName,
    page::{EscalationLevel, Severity},
    span::Span,
};

/// The levels after their checks.
pub fn levels(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> Vec<EscalationLevel> {
    contact_methods(scope, spec);
    let said = &spec.team.escalation;
    let path = FieldPath::spec().key("team").key("escalation");
    let mut levels: Vec<EscalationLevel> = Vec::new();
    for (n, level) in said.iter().enumerate() {
        let at = path.index(n);
        let before = levels.last().map(|l| l.after);
        after(scope, level.after, before, &at.key("after"));
        let channels = targets(scope, spec, level, &at.key("to"));
        let own = if n == 0 {
            Severity::Info
        } else {
            Severity::Critical
        };
        levels.push(EscalationLevel {
            after: level.after,
            severity: level.severity.unwrap_or(own),
            to: level.to.clone(),
            channels: channels.into_iter().map(ChannelName::new).collect(),
        });
    }
    let least = levels.iter().map(|l| l.severity).min();
    if least.is_some_and(|least| least > Severity::Warning) {
        let complaint = scope
            .about(
                Code::BadValue,
                path,
                "nobody would be told of what is not critical",
            )
            .expected("a level with `severity: warning` or `severity: info`")
            .hint("leave `severity` out at the first level, or add a level that is a channel people read by day");
        scope.add(complaint);
    }
    levels
}

fn after(scope: &mut Scope<'_>, after: Span, before: Option<Span>, path: &FieldPath) {
    let complaint = match before {
        None if after > Span::ZERO => scope
            .about(
                Code::BadValue,
                path.clone(),
                format!("nobody is paged in the first {after}"),
            )
            .expected("0s at the first level"),
        Some(before) if after < before => scope
            .about(
                Code::BadValue,
                path.clone(),
                format!("{after} comes before the level above, which is at {before}"),
            )
            .expected(format!("{before} or more"))
            .hint("each `after` counts from the beginning of the page, not from the level above"),
        None | Some(_) => return,
    };
    scope.add(complaint);
}

/// The channels that people name as their own.
fn contact_methods(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) {
    let team = FieldPath::spec().key("team");
    let known: Vec<&str> = spec.team.channels.iter().map(|c| c.name.as_str()).collect();
    for (n, person) in spec.team.people.iter().enumerate() {
        let list = team.key("people").index(n).key("contactMethods");
        for (m, name) in person.contact_methods.iter().enumerate() {
            let at = list.index(m);
            scope.refers("team channel", name, &known, &at, &team.key("channels"));
        }
    }
}

/// The channels behind the names of people, groups and channels.
fn targets(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    level: &EscalationLevelSpec,
    path: &FieldPath,
) -> BTreeSet<String> {
    let team = FieldPath::spec().key("team");
    if level.to.is_empty() {
        let complaint = scope
            .about(Code::BadValue, path.clone(), "this level pages nobody")
            .expected("names of people, groups or channels");
        scope.add(complaint);
    }
    let channels: Vec<&str> = spec.team.channels.iter().map(|c| c.name.as_str()).collect();
    let people = &spec.team.people;
    let known: BTreeSet<&str> = people
        .iter()
        .flat_map(|p| std::iter::once(&p.name).chain(&p.groups))
        .map(String::as_str)
        .chain(channels.iter().copied())
        .collect();
    let known: Vec<&str> = known.into_iter().collect();
    let mut found = BTreeSet::new();
    for (n, name) in level.to.iter().enumerate() {
        let at = path.index(n);
        let list = team.key("people");
        if !scope.refers("person, group or team channel", name, &known, &at, &list) {
            continue;
        }
        let meant: Vec<&PersonSpec> = people
            .iter()
            .filter(|p| &p.name == name || p.groups.contains(name))
            .collect();
        if channels.contains(&name.as_str()) {
            if !meant.is_empty() {
                let complaint = scope
                    .about(
                        Code::Duplicate,
                        at,
                        format!("`{name}` is a channel and a person or group: nobody could tell which is meant"),
                    )
                    .hint("give the channel another name");
                scope.add(complaint);
            }
            found.insert(name.clone());
            continue;
        }
        for person in meant {
            if person.contact_methods.is_empty() {
                let complaint = scope
                    .about(
                        Code::NoAddress,
                        at.clone(),
                        format!("`{}` cannot be paged: no channel is theirs", person.name),
                    )
                    .hint("name the team channels that reach this person under team.people[].contactMethods")
                    .rests_on(list.clone());
                scope.add(complaint);
            }
            found.extend(person.contact_methods.iter().cloned());
        }
    }
    found
}
