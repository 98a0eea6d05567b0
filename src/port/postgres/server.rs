//! Settings of actions at one PostgreSQL server.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Conninfo, Login};
use crate::{
    model::secret::SecretRef,
    port::kind::{Wiring, With},
};

/// Settings of an action at one PostgreSQL server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerWith {
    /// How to connect to the server itself, never through a pooler or a name that moves. `failover init` prints the
    /// SQL for what the role needs; to have a server before PostgreSQL 15 refuse writers it must be a superuser.
    pub connection: Conninfo,
    /// The role's password.
    #[serde(default)]
    pub password: Option<SecretRef>,
}

impl With for ServerWith {
    fn hosts(&self) -> Vec<String> {
        self.connection.hosts()
    }
}

impl ServerWith {
    /// The way in.
    #[must_use]
    pub fn login(self, wiring: &Wiring) -> Login {
        Login {
            conninfo: self.connection,
            password: self.password,
            secrets: Arc::clone(&wiring.secrets),
        }
    }
}
