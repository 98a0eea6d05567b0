//! What a person orders, by a form or by the API: a wish, and for a run the name of the site that goes on.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{caller::Caller, problem::Problem, room::Room};
use crate::{
    desk::message::{Answer, Refusal, Request, Wish},
    model::id::{ServiceName, SiteName},
};

/// What a person orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// What is wanted.
    pub wish: Wish,
    /// For a run: the name of the site that serves afterwards, so that nobody begins one by mistake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<SiteName>,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// What each service said that took it.
    pub done: BTreeMap<ServiceName, String>,
    /// Why others did not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<ServiceName, String>,
}

/// Gives an order to services; to all that the caller may see where none is named.
///
/// # Errors
/// Where it is refused, or a run is not confirmed.
pub async fn give(
    room: &Arc<Room>,
    services: Vec<ServiceName>,
    order: Order,
    caller: &Caller,
) -> Result<Done, Problem> {
    confirmed(room, &services, &order, caller).await?;
    let request = Request::Command {
        services,
        wish: order.wish,
    };
    let Answer::Done { done, refused } = room.ask(request, &caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    Ok(Done { done, refused })
}

/// A run is begun by whoever says to which site it leads.
async fn confirmed(
    room: &Arc<Room>,
    services: &[ServiceName],
    order: &Order,
    caller: &Caller,
) -> Result<(), Problem> {
    let Wish::Open { kind, to, .. } = &order.wish else {
        return Ok(());
    };
    let refused = |reason: String| {
        Problem::of(
            Refusal::Engine { reason },
            "Nothing was begun. Look at the plan and type the name of the site that it leads to."
                .to_owned(),
        )
    };
    let [service] = services else {
        return Err(refused(
            "a run is begun for one service at a time".to_owned(),
        ));
    };
    let plan = Request::Plan {
        service: service.clone(),
        kind: *kind,
        to: to.clone(),
    };
    let Answer::Plan(view) = room.ask(plan, &caller.speaker).await? else {
        return Err(Room::unexpected());
    };
    let to = &view.plan.to;
    match &order.confirm {
        Some(typed) if typed == to => Ok(()),
        Some(typed) => Err(refused(format!(
            "{typed} was typed, and this {kind} leads to {to}"
        ))),
        None => Err(refused(format!(
            "a {kind} has to be confirmed with the name of the site that it leads to"
        ))),
    }
}
