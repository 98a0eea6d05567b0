//! `failover incident …`: the people of an incident, and what they write down.

use super::{
    act::{self, Deed},
    arguments::{self, DutyName, Incident},
    client::Client,
    look,
    output::Output,
    place::Place,
};
use crate::{
    desk::message::{Answer, Member, Request, Wish},
    error::Error,
    model::{
        duty::Duty,
        id::{PersonName, ServiceName},
    },
};

/// Does what is asked.
///
/// # Errors
/// Where no controller answers, or it refuses.
pub async fn incident(args: &Incident, place: &Place, output: Output) -> Result<(), Error> {
    let (service, wish, identity) = match args {
        Incident::Team(args) => return team(args, place, output).await,
        Incident::Declare(args) => {
            let reason = args.reason.clone();
            (&args.service, Wish::Declare { reason }, &args.identity)
        }
        Incident::Note(args) => {
            let text = args.text.clone();
            (&args.service, Wish::Note { text }, &args.identity)
        }
        Incident::Role(args) => {
            let wish = Wish::TakeDuty {
                duty: duty(args.duty),
                person: args.to.as_deref().map(PersonName::from),
            };
            (&args.service, wish, &args.identity)
        }
        Incident::Handoff(args) => {
            let to = PersonName::from(args.person.as_str());
            (&args.service, Wish::HandOver { to }, &args.identity)
        }
        Incident::Accept(args) => (&args.service, Wish::Accept, &args.identity),
        Incident::Resolve(args) => {
            let reason = args.reason.clone();
            (&args.service, Wish::Resolve { reason }, &args.identity)
        }
    };
    let service = ServiceName::from(service.as_str());
    act::act(Deed::new(vec![service], wish, identity), place, output).await
}

const fn duty(name: DutyName) -> Duty {
    match name {
        DutyName::Commander => Duty::Commander,
        DutyName::Operations => Duty::Operations,
        DutyName::Communications => Duty::Communications,
        DutyName::Scribe => Duty::Scribe,
    }
}

async fn team(args: &arguments::IncidentTeam, place: &Place, output: Output) -> Result<(), Error> {
    let mut client = Client::connect(place).await?;
    let service = ServiceName::from(args.service.as_str());
    let Answer::Team(members) = client.ask(Request::Team { service }, None).await? else {
        return Err(look::unexpected());
    };
    if output.json() {
        return output.value(&members);
    }
    if members.is_empty() {
        output.note("Nobody is named under spec.team.people.");
    }
    for member in &members {
        output.line(&line(member))?;
    }
    Ok(())
}

fn line(member: &Member) -> String {
    let phone = member.phone.as_deref().unwrap_or("no number");
    let line = format!("{:<16} {phone:<20} {}", member.name, member.powers());
    line.trim_end().to_owned()
}
