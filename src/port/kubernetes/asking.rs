//! How a step asks a cluster: how long it waits, and what an error comes to.

use std::time::Duration;

use tokio::time::Instant;

use super::{ApiError, Owner};
use crate::model::step::StepResult;

/// Time between two looks while nothing is told.
pub const AGAIN: Duration = Duration::from_millis(500);
/// Time before an object that somebody changed meanwhile is changed again.
pub const SOON: Duration = Duration::from_millis(100);
/// How long `failover check` waits for an answer.
pub const CHECK: Duration = Duration::from_secs(10);

/// What is left until then.
#[must_use]
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// An error before anything was asked for: `nothing` was done by this attempt. Where the server did not say no, an earlier
/// one may be under way.
#[must_use]
pub fn early(nothing: &str, error: &ApiError) -> StepResult {
    let text = format!("{nothing}: {}", error.told());
    if error.is_certain() {
        StepResult::failed(text)
    } else {
        StepResult::indeterminate(text)
    }
}

/// An error of the change of a field itself, which had these owners.
#[must_use]
pub fn answered(nothing: &str, field: &str, owners: &[Owner], error: &ApiError) -> StepResult {
    if let Some(first) = error.rivals().first() {
        let owner = owners.iter().find(|owner| owner.manager() == first);
        let owner = owner.cloned().unwrap_or_else(|| Owner::new(first, None));
        return owned(nothing, field, &owner);
    }
    if error.is_certain() {
        return StepResult::failed(format!("{nothing}: {}", error.told()));
    }
    StepResult::indeterminate(error.told())
}

/// The field belongs to somebody else.
#[must_use]
pub fn owned(nothing: &str, field: &str, owner: &Owner) -> StepResult {
    StepResult::failed(format!(
        "{nothing}: {field} belongs to {}; {}",
        owner.told(),
        owner.fix(field)
    ))
}
