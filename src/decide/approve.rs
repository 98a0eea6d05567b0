//! Answers to questions: who may give them, when they are enough, what happens when nobody does.

use super::{
    event::{Refusal, subject_words},
    page,
    state::{Question, State},
};
use crate::model::{
    approval::{AskSubject, OnTimeout},
    id::{AskId, PersonName, UserName},
    record::{AskOutcome, RecordBody, RunOutcome},
    service::Service,
    time::Time,
};

/// Finds the question that is meant.
///
/// # Errors
/// Where there is none, or more than one and none was named.
pub fn find<'a>(
    state: &'a State,
    ask: Option<&AskId>,
) -> Result<(&'a AskId, &'a Question), Refusal> {
    let mut open = state.asks.iter().filter(|(_, q)| !q.granted);
    if let Some(id) = ask {
        return open
            .find(|(i, _)| *i == id)
            .ok_or_else(|| Refusal::NoAsk(id.to_string()));
    }
    let all: Vec<_> = open.collect();
    match all.as_slice() {
        [] => Err(Refusal::NoAsk("at all".to_owned())),
        [one] => Ok(*one),
        more => {
            let ids: Vec<_> = more.iter().map(|(i, _)| i.to_string()).collect();
            Err(Refusal::WhichAsk(ids.join(", ")))
        }
    }
}

/// Who answers.
#[derive(Clone, Copy)]
pub struct Approver<'a> {
    /// The person of the documents.
    pub by: &'a PersonName,
    /// The user of the API server who signed it, where one did.
    pub user: Option<&'a UserName>,
}

impl Approver<'_> {
    /// The user of the API server that this is: who signed it, or else as the documents have it.
    fn user(self, service: &Service) -> Option<UserName> {
        let documented = || {
            let person = service.team.person(self.by)?;
            person.kubernetes.as_deref().map(UserName::from)
        };
        self.user.cloned().or_else(documented)
    }
}

/// A person says yes.
///
/// # Errors
/// Where this person may not, or a compulsory reason is missing.
pub fn approve(
    service: &Service,
    state: &State,
    ask: Option<&AskId>,
    who: Approver<'_>,
    reason: Option<&str>,
    break_glass: bool,
) -> Result<Vec<RecordBody>, Refusal> {
    let policy = &service.approvals;
    let by = who.by;
    let user = who.user(service);
    let (id, question) = find(state, ask)?;
    let reason = reason.map(str::trim).filter(|r| !r.is_empty());
    if break_glass {
        if !policy.break_glass.contains(by) {
            return Err(Refusal::NoBreakGlass(by.clone()));
        }
        if reason.is_none() {
            return Err(Refusal::NoReason);
        }
    } else {
        may_approve(service, question, by, user.as_ref())?;
    }
    let is_answered_for = matches!(
        question.ask.subject,
        AskSubject::Fence { .. } | AskSubject::Salvage { .. }
    );
    if is_answered_for && reason.is_none() {
        return Err(Refusal::NoReason);
    }
    let approved = RecordBody::Approved {
        ask: id.clone(),
        by: by.clone(),
        user,
        reason: reason.map(str::to_owned),
        break_glass,
    };
    let enough = break_glass || question.approved.len() + 1 >= question.ask.required as usize;
    let mut out = vec![approved];
    if let Some(reason) = reason.filter(|_| break_glass) {
        let page = page::broke_glass(service, id, question, by, reason);
        out.push(RecordBody::PageRaised {
            page: Box::new(page),
        });
    }
    if enough {
        out.push(RecordBody::AskClosed {
            ask: id.clone(),
            outcome: AskOutcome::Approved,
        });
    }
    Ok(out)
}

fn may_approve(
    service: &Service,
    question: &Question,
    by: &PersonName,
    user: Option<&UserName>,
) -> Result<(), Refusal> {
    let policy = &service.approvals;
    if !policy.approvers.contains(by) {
        return Err(Refusal::NotApprover {
            by: by.clone(),
            what: subject_words(&question.ask.subject),
            approvers: policy
                .approvers
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        });
    }
    let requester = question.ask.requester.as_ref();
    let asked = |r: &PersonName| {
        is_by(service, r, by) || (user.is_some() && UserName::of(r).as_ref() == user)
    };
    if let Some(requester) = requester.filter(|r| question.ask.required > 1 && asked(r)) {
        return Err(Refusal::Requester {
            by: by.clone(),
            requester: requester.clone(),
        });
    }
    let mut approved = question.approved.iter();
    if let Some(before) = approved.find(|one| is_by(service, one, by)) {
        return Err(Refusal::Twice(before.clone()));
    }
    // A document can make one user another person between two answers.
    match user.filter(|user| question.users.contains(user)) {
        Some(user) => Err(Refusal::Twice(user.as_str().into())),
        None => Ok(()),
    }
}

/// Whether a front end's name is this person's, as the documents say and by itself: they may be written by whoever asks.
fn is_by(service: &Service, name: &PersonName, by: &PersonName) -> bool {
    is_same(known(service, name), by) || is_same(name, by)
}

/// The person of the documents whom a front end knows so; the name itself where the documents do not say.
pub fn known<'a>(service: &'a Service, name: &'a PersonName) -> &'a PersonName {
    let person = UserName::of(name).and_then(|user| service.team.known_as(&user));
    person.map_or(name, |person| &person.name)
}

/// Whether two names count as one person's. A front end that knows people in its own way puts its name before theirs, and
/// often knows them by an account with a domain. Who is called alike there and in the documents is taken for one: the
/// other mistake lets one person be two.
fn is_same(one: &PersonName, other: &PersonName) -> bool {
    let is_of_front_end = |name: &PersonName| name.as_str().contains('/');
    let alike = || bare(one) == bare(other);
    one == other || ((is_of_front_end(one) || is_of_front_end(other)) && alike())
}

/// A name without what stands around it, as in `kubernetes/oidc:Ann@example.com`.
fn bare(name: &PersonName) -> String {
    let whole = name.as_str();
    let account = whole.rsplit(['/', ':', '#']).next().unwrap_or(whole);
    let person = account.split('@').next().unwrap_or(account);
    let person = if person.is_empty() { whole } else { person };
    person.to_lowercase()
}

/// A person says no; anyone who may approve may refuse.
///
/// # Errors
/// Where this person may not.
pub fn deny(
    service: &Service,
    state: &State,
    ask: Option<&AskId>,
    by: &PersonName,
    reason: Option<String>,
) -> Result<Vec<RecordBody>, Refusal> {
    let (id, question) = find(state, ask)?;
    let requester = question.ask.requester.as_ref();
    let is_requester = requester.is_some_and(|requester| is_by(service, requester, by));
    if !service.approvals.approvers.contains(by) && !is_requester {
        return Err(Refusal::NotApprover {
            by: by.clone(),
            what: subject_words(&question.ask.subject),
            approvers: service
                .approvals
                .approvers
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        });
    }
    let mut out = vec![RecordBody::AskClosed {
        ask: id.clone(),
        outcome: AskOutcome::Denied {
            by: by.clone(),
            reason: reason.clone(),
        },
    }];
    let why = format!(
        "{by} said no{}",
        reason.map(|r| format!(": {r}")).unwrap_or_default()
    );
    out.extend(consequence(question, state, by, &why));
    Ok(out)
}

/// Questions whose time is over.
#[must_use]
pub fn expired(service: &Service, state: &State, now: Time) -> Vec<RecordBody> {
    let Some((id, question)) = state
        .asks
        .iter()
        .find(|(_, q)| !q.granted && q.expires <= now)
    else {
        return Vec::new();
    };
    // An unproved fence is never waved through by a clock, and what one person asked for waits for the other.
    let proceed = service.approvals.on_timeout == OnTimeout::Proceed
        && question.ask.requester.is_none()
        && match question.ask.subject {
            AskSubject::Open { .. } => true,
            AskSubject::Drill { .. }
            | AskSubject::Fence { .. }
            | AskSubject::Salvage { .. }
            | AskSubject::Manual { .. }
            | AskSubject::Failed { .. } => false,
        };
    // A run that waits asks again, and people are paged again.
    vec![RecordBody::AskClosed {
        ask: id.clone(),
        outcome: AskOutcome::Expired { proceed },
    }]
}

/// What a no means for the run that waits: before the promotion it goes back, afterwards it ends where it is.
fn consequence(
    question: &Question,
    state: &State,
    by: &PersonName,
    why: &str,
) -> Option<RecordBody> {
    let run = state
        .run
        .as_ref()
        .filter(|r| Some(&r.id) == question.ask.subject.run())?;
    let reason = format!("{}: {why}", subject_words(&question.ask.subject));
    match run.epoch {
        None if run.unwinding.is_some() => None,
        None => Some(RecordBody::Unwinding {
            run: run.id.clone(),
            by: Some(by.clone()),
            reason,
        }),
        Some(_) => Some(RecordBody::RunClosed {
            run: run.id.clone(),
            outcome: RunOutcome::Stuck,
            reason,
            active: run.plan.to.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_called_alike_in_two_front_ends_is_one_person() {
        let same = |one: &str, other: &str| is_same(&one.into(), &other.into());
        for name in [
            "ann",
            "kubernetes/ann",
            "local/ann",
            "kubernetes/Ann@example.com",
            "kubernetes/oidc:ann",
            "kubernetes/https://id.example.com/realm#ann",
        ] {
            assert!(same(name, "ann"), "{name}");
        }
        for name in ["ben", "kubernetes/anna", "kubernetes/ann/", "kubernetes/@"] {
            assert!(!same(name, "ann"), "{name}");
        }
        assert!(same("kubernetes/ann", "ann@example.com"));
        // Documents tell their own people apart.
        assert!(!same("ann@example.com", "ann"));
    }
}
