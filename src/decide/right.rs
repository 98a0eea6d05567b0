//! What a person's role leaves to them.

use super::{
    approve,
    event::{Command, Refusal},
};
use crate::model::{approval::Role, id::PersonName, service::Service};

/// Whether the role of whoever gives a command lets them.
///
/// Somebody whom the documents do not name, such as a user of the controller's own host, has no role; neither has a
/// person who is given none. What approvals ask of them is asked all the same.
///
/// # Errors
/// Where it does not.
pub fn check(service: &Service, command: &Command) -> Result<(), Refusal> {
    let by = command.by();
    let Some(role) = role(service, by) else {
        return Ok(());
    };
    let needed = needed(command);
    if role < needed {
        return Err(Refusal::Role {
            by: by.clone(),
            role,
            needed,
        });
    }
    Ok(())
}

/// The role of a person, by whatever name a front end knows them; none where the documents give none.
#[must_use]
pub fn role(service: &Service, name: &PersonName) -> Option<Role> {
    service.team.person(approve::known(service, name))?.role
}

const fn needed(command: &Command) -> Role {
    match command {
        Command::Open { .. }
        | Command::Deny { .. }
        | Command::Pause { .. }
        | Command::Resume { .. }
        | Command::Abort { .. }
        | Command::Acknowledge { .. }
        | Command::Announce { .. }
        | Command::Drill { .. }
        | Command::StopDrill { .. }
        | Command::Note { .. }
        | Command::Declare { .. }
        | Command::Resolve { .. }
        | Command::TakeDuty { .. }
        | Command::HandOver { .. }
        | Command::Accept { .. } => Role::Operator,
        Command::Approve { .. } => Role::Approver,
        Command::SetMode { .. } | Command::Moved { .. } | Command::TakeOver { .. } => Role::Admin,
        Command::TurnedAway { .. } => Role::Viewer,
    }
}
