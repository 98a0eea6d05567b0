//! The team and the approvals: that the people named exist and can do what is asked of them.

use std::collections::BTreeSet;

use super::{
    code::Code,
    path::FieldPath,
    scope::Scope,
    service::{ApprovalsSpec, PersonSpec, ProtectedServiceSpec},
};
use crate::model::{
    approval::{ApprovalPolicy, OnTimeout, Person, Role},
    id::{GroupName, PersonName},
    service::{Mode, OverRpo},
    span::Span,
    step::Rung,
};

/// The people after their checks.
pub fn people(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> Vec<Person> {
    let list = FieldPath::spec().key("team").key("people");
    let people = &spec.team.people;
    let named = people.iter().enumerate();
    scope.unique(
        "a person",
        named.map(|(n, p)| (p.name.as_str(), list.index(n).key("name"))),
    );
    let users = people.iter().enumerate();
    scope.unique(
        "a user of the cluster",
        users.filter_map(|(n, p)| {
            let user = p.kubernetes.as_deref()?;
            Some((user, list.index(n).key("kubernetes")))
        }),
    );
    let chatters = people.iter().enumerate();
    let chatters: Vec<_> = chatters
        .filter_map(|(n, p)| Some((p.telegram?.to_string(), list.index(n).key("telegram"))))
        .collect();
    let chatters = chatters.iter();
    scope.unique(
        "a user of Telegram",
        chatters.map(|(user, path)| (user.as_str(), path.clone())),
    );
    for (n, person) in people.iter().enumerate() {
        check_person(scope, person, &list.index(n));
        for (m, group) in person.groups.iter().enumerate() {
            let path = list.index(n).key("groups").index(m);
            scope.label(group, &path);
            if people.iter().any(|p| &p.name == group) {
                let complaint = scope.about(
                    Code::Duplicate,
                    path,
                    format!("`{group}` is a person's name too: nobody could tell whom it means"),
                );
                scope.add(complaint);
            }
        }
    }
    people
        .iter()
        .map(|p| Person {
            name: PersonName::new(&p.name),
            token_hash: p.token_hash.clone(),
            kubernetes: p.kubernetes.clone(),
            telegram: p.telegram,
            role: p.role,
            phone: p.phone.clone(),
            groups: p.groups.iter().map(GroupName::new).collect(),
        })
        .collect()
}

fn check_person(scope: &mut Scope<'_>, person: &PersonSpec, path: &FieldPath) {
    let is_name = person.name.split('.').all(super::scope::is_label);
    if !is_name {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("name"),
                format!("`{}` cannot be a name", person.name),
            )
            .expected("lower-case letters, digits, dashes and dots");
        scope.add(complaint);
    }
    if person.telegram.is_some_and(|user| user.0 <= 0) {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("telegram"),
                "this is no user of Telegram",
            )
            .expected("the person's number, above 0")
            .hint("the bot answers /whoami with it; a negative number is a group's");
        scope.add(complaint);
    }
    let Some(hash) = &person.token_hash else {
        return;
    };
    let is_hash = hash.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    });
    if !is_hash {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("tokenHash"),
                "this is not the hash of a token",
            )
            .expected("`sha256:` and 64 hex digits in small letters")
            .hint(
                "`failover token` makes a token and prints its hash; never write the token itself",
            );
        scope.add(complaint);
    }
}

/// The approval policy after its checks.
pub fn approvals(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> ApprovalPolicy {
    let path = FieldPath::spec().key("approvals");
    let said = spec.approvals.clone().unwrap_or_default();
    let approvers = if said.approvers.is_empty() {
        spec.team
            .people
            .iter()
            .filter(|p| may_approve(p))
            .map(|p| p.name.clone())
            .collect()
    } else {
        resolved(scope, spec, &said.approvers, &path.key("approvers"))
    };
    let break_glass = resolved(scope, spec, &said.break_glass, &path.key("breakGlass"));
    if said.expiry == Span::ZERO {
        let complaint = scope.about(
            Code::BadValue,
            path.key("expiry"),
            "a question must live longer than nothing",
        );
        scope.add(complaint);
    }
    enough(scope, spec, &said, &approvers, &break_glass, &path);
    timeout(scope, spec, &said, &path);
    let names = |set: BTreeSet<String>| set.into_iter().map(PersonName::new).collect();
    ApprovalPolicy {
        required: said.required,
        approvers: names(approvers),
        break_glass: names(break_glass),
        expiry: said.expiry,
        on_timeout: said.on_timeout,
    }
}

/// The people behind names of people and groups.
fn resolved(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    names: &[String],
    path: &FieldPath,
) -> BTreeSet<String> {
    let people = &spec.team.people;
    let known: BTreeSet<&str> = people
        .iter()
        .flat_map(|p| std::iter::once(&p.name).chain(&p.groups))
        .map(String::as_str)
        .collect();
    let known: Vec<_> = known.into_iter().collect();
    let list = FieldPath::spec().key("team").key("people");
    let mut found = BTreeSet::new();
    for (n, name) in names.iter().enumerate() {
        let at = path.index(n);
        if !scope.refers("person or group", name, &known, &at, &list) {
            continue;
        }
        let meant: Vec<_> = people
            .iter()
            .filter(|p| &p.name == name || p.groups.contains(name))
            .collect();
        for person in meant {
            if !may_approve(person) {
                let (lacks, hint) = match person.role {
                    Some(Role::Viewer | Role::Operator) => (
                        "is not in the role of an approver",
                        "write `role: approver`, or leave `role` out",
                    ),
                    Some(Role::Approver | Role::Admin) | None => (
                        "has neither tokenHash nor telegram and cannot approve",
                        "`failover token` makes a token and prints the hash to write under team.people",
                    ),
                };
                let complaint = scope
                    .about(
                        Code::NoToken,
                        at.clone(),
                        format!("`{}` {lacks}", person.name),
                    )
                    .hint(hint)
                    .rests_on(list.clone());
                scope.add(complaint);
            }
            found.insert(person.name.clone());
        }
    }
    found
}

/// Whether a front end can know who this is.
const fn is_known(person: &PersonSpec) -> bool {
    person.token_hash.is_some() || person.telegram.is_some()
}

/// Whether what this person says can be an approval.
fn may_approve(person: &PersonSpec) -> bool {
    is_known(person) && person.role.is_none_or(|role| role >= Role::Approver)
}

/// Checks that enough people can approve, also when one of them asked for the run.
fn enough(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    said: &ApprovalsSpec,
    approvers: &BTreeSet<String>,
    break_glass: &BTreeSet<String>,
    path: &FieldPath,
) {
    let required = said.required as usize;
    let team = FieldPath::spec().key("team").key("people");
    let has_token = |name: &String| {
        spec.team
            .people
            .iter()
            .any(|p| &p.name == name && is_known(p))
    };
    if required == 0 {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("required"),
                "an approval by nobody is none",
            )
            .expected("1 or more")
            .hint("a service that needs no approval is `mode: automatic`");
        scope.add(complaint);
        return;
    }
    if spec.approvals.is_none() && spec.mode == Mode::Observe {
        return;
    }
    let at = if spec.approvals.is_some() {
        path.key("required")
    } else {
        FieldPath::spec().key("mode")
    };
    let able = approvers.len();
    let complaint = if able < required {
        let who = match able {
            0 => "nobody can give one".to_owned(),
            1 => "only one person can give one".to_owned(),
            n => format!("only {n} people can give one"),
        };
        let (verb, noun) = if required == 1 {
            ("is", "approval")
        } else {
            ("are", "approvals")
        };
        scope
            .about(Code::Approvals, at, format!("{required} {noun} {verb} required, but {who}"))
            .hint("name people under team.people with their tokenHash, and list them under approvals.approvers")
    } else if required >= 2 && able == required && break_glass.is_empty() && {
        let others = |p: &PersonSpec| has_token(&p.name) && !approvers.contains(&p.name);
        !spec.team.people.iter().any(others)
    } {
        scope
            .about(
                Code::Approvals,
                at,
                format!(
                    "{required} approvals are required of {able} approvers, and whoever asks for a run cannot approve it: \
                     what one of them asks for could never begin"
                ),
            )
            .hint("name one approver more, or somebody under breakGlass")
    } else {
        return;
    };
    scope.add(
        complaint
            .rests_on(path.key("approvers"))
            .rests_on(path.key("breakGlass"))
            .rests_on(team),
    );
}

/// Checks that nobody's silence does what only a person may.
fn timeout(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    said: &ApprovalsSpec,
    path: &FieldPath,
) {
    match said.on_timeout {
        OnTimeout::Hold => return,
        OnTimeout::Proceed => {}
    }
    let reason = match spec.mode {
        Mode::Ask => {
            Some("in the mode ask every run waits for a person, and silence would begin it")
        }
        Mode::Automatic if spec.fencing.require == Rung::Attested => {
            Some("a fence that is only attested rests on a person's word, and silence is none")
        }
        Mode::Automatic if spec.gates.over_rpo == OverRpo::Hold => {
            Some("`gates.overRpo: hold` waits for a command, and silence is none")
        }
        Mode::Observe | Mode::Automatic => None,
    };
    if let Some(reason) = reason {
        let spec_path = FieldPath::spec();
        let complaint = scope
            .about(Code::UnsafeTimeout, path.key("onTimeout"), reason)
            .hint("use `onTimeout: hold`")
            .rests_on(spec_path.key("mode"))
            .rests_on(spec_path.key("fencing"));
        scope.add(complaint);
    }
}
