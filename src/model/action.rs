//! Actions that a guard's own document names, as a controller asks for them. No text of a command is in any of this.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    guard::Boot,
    id::{ActionName, Attempt, Epoch, IdempotencyKey},
};

/// Asks a guard to run an action of its own document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActOrder {
    /// Which.
    pub action: ActionName,
    /// Names the effect: what was run under it is answered, and not run again.
    pub key: IdempotencyKey,
    /// Only after one that failed for certain, with nothing left half-done, a later attempt is run.
    pub attempt: Attempt,
    /// The epoch that the effect carries.
    pub epoch: Epoch,
    /// The life of the guard that is meant: an order of another one is obeyed by none.
    pub boot: Boot,
}

/// Asks a guard what became of an action; changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActQuery {
    /// Which.
    pub action: ActionName,
    /// Under which key it was asked for.
    pub key: IdempotencyKey,
}

/// Says what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActReport {
    /// Under this key.
    pub key: IdempotencyKey,
    /// That.
    pub state: ActState,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ActState {
    /// Nothing was run.
    NotRun(NotRun),
    /// It runs.
    Running,
    /// It has ended.
    Ended(ActEnd),
    /// The guard ended while it ran: nobody knows how far it came.
    Lost,
}

/// Why nothing was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NotRun {
    /// Nobody asked for it under this key.
    Unasked,
    /// The guard's document names no such action.
    Unnamed,
    /// The guard has promised a later epoch, or knows of none.
    Epoch,
    /// Another life of the guard was meant.
    Boot,
    /// Another action runs.
    Busy,
    /// It could not be written down first that it would be run.
    Disk,
    /// This life of the guard has run as many as it can remember.
    Full,
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActEnd {
    /// Which attempt.
    pub attempt: Attempt,
    /// Its exit status; none where it was killed, by a signal or at its time-out, or could not be started.
    pub status: Option<i32>,
    /// How it ended, and the last of what it said.
    pub said: String,
}

impl ActEnd {
    /// Whether it failed, and left nothing half-done.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.status == Some(1)
    }
}
