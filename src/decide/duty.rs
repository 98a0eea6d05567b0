//! The people of an incident: who declares it, who leads, who does what, and who says that it is over.

use super::{
    command::Taken,
    event::Refusal,
    incident, phase, right,
    state::{Incident, State},
    view::View,
};
use crate::model::{
    announcement::Phase,
    approval::Role,
    duty::Duty,
    id::{IncidentId, PersonName},
    record::RecordBody,
    service::Service,
    time::Time,
};

/// A person says that there is an incident, whatever probes see. Whoever does leads it, unless somebody does already.
///
/// # Errors
/// Where one was declared already.
pub fn declare(
    service: &Service,
    state: &State,
    view: &View,
    by: &PersonName,
    reason: &str,
    now: Time,
) -> Taken {
    let open = state.incident.as_ref();
    if let Some(open) = open.filter(|i| i.declared.is_some() && i.resolved.is_none()) {
        return Err(Refusal::IncidentOpen(open.id.clone()));
    }
    let mut records = Vec::new();
    let id = open.map_or_else(
        || IncidentId::of(&service.name, state.seq.next()),
        |i| i.id.clone(),
    );
    if open.is_none() {
        records.push(RecordBody::IncidentOpened {
            components: Vec::new(),
            since: now,
            reason: format!("{by} declared it: {reason}"),
            loss: incident::loss_now(service, state, view, now, now),
        });
    }
    records.push(RecordBody::Declared {
        incident: id.clone(),
        by: by.clone(),
        reason: reason.to_owned(),
    });
    let commander = open.and_then(|i| i.duties.get(&Duty::Commander)).cloned();
    let leads = commander.unwrap_or_else(|| {
        records.push(RecordBody::DutyTaken {
            incident: id.clone(),
            duty: Duty::Commander,
            person: by.clone(),
            by: by.clone(),
        });
        by.clone()
    });
    let said = format!(
        "incident {id} is open and {leads} leads it; customers hear of it when somebody announces it"
    );
    Ok((records, said))
}

/// A person says that the open incident is over. Customers are told so where they were told of it, and only where probes
/// confirm it.
///
/// # Errors
/// Where none is open, a run is in progress, or probes say otherwise.
pub fn resolve(
    service: &Service,
    state: &State,
    by: &PersonName,
    reason: &str,
    now: Time,
) -> Taken {
    let open = opened(state)?;
    if let Some(run) = &state.run {
        return Err(Refusal::RunOpen(run.id.clone()));
    }
    if !incident::well(service, state) {
        return Err(Refusal::Phase(
            "probes do not confirm it: not every component is healthy (see `failover explain`)"
                .to_owned(),
        ));
    }
    if open.resolved.is_some() {
        return Err(Refusal::Resolved(open.id.clone()));
    }
    let mut records = vec![RecordBody::Resolved {
        incident: open.id.clone(),
        by: by.clone(),
        reason: reason.to_owned(),
    }];
    // Whoever took over has to say apart that the service runs where the journal says.
    let waits =
        (state.unacknowledged.is_some() || state.stuck.is_some()) && state.taken_over.is_none();
    if waits {
        records.push(RecordBody::FailoverAcknowledged { by: by.clone() });
    }
    let heard = open.phase.is_some_and(|phase| !phase.is_last());
    if heard {
        records.push(phase::entered(
            service,
            state,
            open,
            Phase::Recovered,
            None,
            now,
        ));
    }
    let mut said = format!(
        "incident {} is over as soon as every component has been well for {}",
        open.id,
        incident::QUIET
    );
    if heard {
        said.push_str("; customers are told that it is");
    }
    if waits {
        said.push_str("; from now on another run may begin by itself, as the mode allows");
    }
    Ok((records, said))
}

/// A person takes on a duty, or gives it to somebody. Who commands is handed over, not taken.
///
/// # Errors
/// Where no incident is open, nobody of the team is called so, or somebody else commands.
pub fn take(
    service: &Service,
    state: &State,
    duty: Duty,
    person: Option<&PersonName>,
    by: &PersonName,
) -> Taken {
    let open = opened(state)?;
    let person = person.unwrap_or(by);
    is_of_team(service, person, by)?;
    match (duty, open.duties.get(&Duty::Commander)) {
        (Duty::Commander, Some(now)) if now == person => {
            return Err(Refusal::CommandsAlready(person.clone()));
        }
        (Duty::Commander, Some(now)) if !may_relieve(service, now, by) => {
            return Err(Refusal::Commands(now.clone()));
        }
        (Duty::Commander, _) if person != by => {
            return Err(Refusal::TakesCommand(person.clone()));
        }
        (Duty::Commander | Duty::Operations | Duty::Communications | Duty::Scribe, _) => {}
    }
    let said = format!("{person} is {duty} of {}", open.id);
    let record = RecordBody::DutyTaken {
        incident: open.id.clone(),
        duty,
        person: person.clone(),
        by: by.clone(),
    };
    Ok((vec![record], said))
}

/// The commander wants somebody else to lead; that person has to accept.
///
/// # Errors
/// Where somebody else commands, or nobody of the team is called so.
pub fn hand_over(service: &Service, state: &State, to: &PersonName, by: &PersonName) -> Taken {
    let open = opened(state)?;
    match open.duties.get(&Duty::Commander) {
        Some(now) if now == by => {}
        Some(now) => return Err(Refusal::Commands(now.clone())),
        None => return Err(Refusal::NobodyCommands),
    }
    if to == by {
        return Err(Refusal::CommandsAlready(by.clone()));
    }
    is_of_team(service, to, by)?;
    let record = RecordBody::HandOverOffered {
        incident: open.id.clone(),
        to: to.clone(),
        by: by.clone(),
    };
    Ok((
        vec![record],
        format!("{to} is asked to lead; until {to} accepts, {by} does"),
    ))
}

/// Whoever was asked to lead does from now on.
///
/// # Errors
/// Where nobody asked this person.
pub fn accept(state: &State, by: &PersonName) -> Taken {
    let open = opened(state)?;
    let offered = open.handover.as_ref();
    match offered {
        Some((to, _)) if to == by => {}
        Some((to, _)) => return Err(Refusal::OfferedTo(to.clone())),
        None => return Err(Refusal::NothingOffered),
    }
    let record = RecordBody::DutyTaken {
        incident: open.id.clone(),
        duty: Duty::Commander,
        person: by.clone(),
        by: by.clone(),
    };
    Ok((vec![record], format!("{by} leads {} now", open.id)))
}

/// Who leads is relieved by an admin, or by anybody where they are not of the team any more.
fn may_relieve(service: &Service, now: &PersonName, by: &PersonName) -> bool {
    right::role(service, by) == Some(Role::Admin) || service.team.person(now).is_none()
}

fn opened(state: &State) -> Result<&Incident, Refusal> {
    state.incident.as_ref().ok_or(Refusal::NoIncident)
}

/// Whoever speaks was known to the front end; somebody else has to be of the team.
fn is_of_team(service: &Service, person: &PersonName, by: &PersonName) -> Result<(), Refusal> {
    if person == by || service.team.person(person).is_some() {
        return Ok(());
    }
    let team: Vec<&str> = service
        .team
        .people
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    Err(Refusal::NoPerson {
        name: person.clone(),
        team: team.join(", "),
    })
}
