//! Kinds: the adapters that documents name in `uses`, and how their `with` is checked and made into an adapter.

use std::{path::PathBuf, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    action::SharedAction, backup::SharedBackups, channel::SharedChannel, chat::SharedChat,
    dns::SharedDns, guard::SharedGuards, lookout::SharedLookouts, probe::SharedProbe,
    runtime::SharedRuntime, secret::SharedSecrets, target::SharedTarget,
};
use crate::model::{
    observation::Evidence, plan::StepPhase, service::Service, span::Span, step::Rung,
};

/// What is wrong within a `with`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Field path below `with`, such as `url` or `headers.accept`; empty for the whole.
    pub path: String,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do, where that is more than the message says.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The settings of a kind: a struct with `deny_unknown_fields` and camelCase keys.
pub trait With: DeserializeOwned + JsonSchema {
    /// What the types cannot say: ranges, combinations.
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// The hosts (names or addresses, without port) that the adapter connects to, so that `check` can prove that
    /// nothing in a failover depends on the primary.
    fn hosts(&self) -> Vec<String> {
        Vec::new()
    }

    /// For DNS providers: how long the zone's servers may take until they give what the provider was told.
    fn propagation(&self) -> Span {
        Span::ZERO
    }

    /// Where it says that a program runs on the controller's host, as a field's path; empty: the kind itself says so. None
    /// where none runs.
    fn program(&self) -> Option<&'static str> {
        None
    }
}

/// What makers get: everything an adapter may hold on to.
#[derive(Clone)]
pub struct Wiring {
    /// Reads secrets when they are used.
    pub secrets: SharedSecrets,
    /// Time and tasks.
    pub runtime: SharedRuntime,
    /// The client for services' APIs.
    pub http: reqwest::Client,
    /// The service that the adapter works for.
    pub service: Arc<Service>,
    /// A folder of the service's own for what adapters keep (lists of recipients, caches).
    pub state: PathBuf,
    /// The service's DNS provider, made before the actions that need it.
    pub dns: Option<SharedDns>,
    /// The service's vantage points, for actions that look before they say Done.
    pub lookouts: Option<SharedLookouts>,
    /// The guards of the service's databases, where the controller hears any.
    pub guards: Option<SharedGuards>,
}

impl Wiring {
    /// The guards, for an adapter that is nothing without them.
    ///
    /// # Errors
    /// Where the service has none, or this process does not hear them.
    pub fn guards(&self) -> Result<SharedGuards, MakeError> {
        let guards = self.guards.clone();
        guards.ok_or_else(|| {
            MakeError(
                "no guard is heard here: name them in the service's `guards`, and run the controller with --guard-listen"
                    .to_owned(),
            )
        })
    }
}

/// Why an adapter could not be made although its `with` is right.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MakeError(pub String);

/// How a kind is made, by what it is.
#[derive(Clone, Copy)]
pub enum Make {
    /// A probe.
    Probe(fn(&Value, &Wiring) -> Result<SharedProbe, MakeError>),
    /// A step's action.
    Action(fn(&Value, &Wiring) -> Result<SharedAction, MakeError>),
    /// A DNS provider.
    Dns(fn(&Value, &Wiring) -> Result<SharedDns, MakeError>),
    /// A channel.
    Channel(fn(&Value, &Wiring) -> Result<SharedChannel, MakeError>),
    /// A place for the status page.
    Target(fn(&Value, &Wiring) -> Result<SharedTarget, MakeError>),
    /// A chat in which people command.
    Chat(fn(&Value, &Wiring) -> Result<SharedChat, MakeError>),
    /// A place where backups are.
    Backup(fn(&Value, &Wiring) -> Result<SharedBackups, MakeError>),
}

/// An adapter as documents may name it.
#[derive(Clone, Copy)]
pub struct Kind {
    /// As written in `uses`.
    pub name: &'static str,
    /// One line for `failover help kinds` and the schema.
    pub summary: &'static str,
    /// A `with` in YAML that is valid, for help and for the contract tests.
    pub example: &'static str,
    /// Schema of `with`.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Everything wrong with a `with`.
    pub check: fn(&Value) -> Vec<Problem>,
    /// Hosts that it connects to; empty where `with` is wrong.
    pub hosts: fn(&Value) -> Vec<String>,
    /// For DNS providers: what [`With::propagation`] says; zero where `with` is wrong.
    pub propagation: fn(&Value) -> Span,
    /// Where a `with` says that a program runs on the controller's host, as [`With::program`] has it.
    pub program: fn(&Value) -> Option<&'static str>,
    /// How it is made.
    pub make: Make,
    /// For actions: the part of a run it belongs to.
    pub phase: Option<StepPhase>,
    /// For probes: the evidence it gives.
    pub evidence: Option<Evidence>,
    /// For fences: the rung that it can reach.
    pub rung: Option<Rung>,
    /// For actions: whether it takes the sites from the plan alone, and so leads either way.
    pub both_ways: bool,
    /// For places of backups: whether a backup can be fetched from it.
    pub fetches: bool,
    /// For channels: whether only what is really sent proves that its credential works.
    pub proved_by_use: bool,
}

impl Kind {
    /// A kind whose settings are `W`.
    #[must_use]
    pub const fn new<W: With>(
        name: &'static str,
        summary: &'static str,
        example: &'static str,
        make: Make,
    ) -> Self {
        Self {
            name,
            summary,
            example,
            schema: W::json_schema,
            check: check::<W>,
            hosts: hosts::<W>,
            propagation: propagation::<W>,
            program: program::<W>,
            make,
            phase: None,
            evidence: None,
            rung: None,
            both_ways: false,
            fetches: false,
            proved_by_use: false,
        }
    }

    /// The same as an action of this part of a run.
    #[must_use]
    pub const fn in_phase(mut self, phase: StepPhase) -> Self {
        self.phase = Some(phase);
        self
    }

    /// The same as a probe that gives this evidence.
    #[must_use]
    pub const fn giving(mut self, evidence: Evidence) -> Self {
        self.evidence = Some(evidence);
        self
    }

    /// The same as an action that takes the sites from the plan alone.
    #[must_use]
    pub const fn both_ways(mut self) -> Self {
        self.both_ways = true;
        self
    }

    /// The same as a channel that no check can prove: only what is really sent does.
    #[must_use]
    pub const fn proved_by_use(mut self) -> Self {
        self.proved_by_use = true;
        self
    }

    /// The same as a place that backups can be fetched from.
    #[must_use]
    pub const fn fetching(mut self) -> Self {
        self.fetches = true;
        self
    }

    /// The same as a fence that can reach this rung.
    #[must_use]
    pub const fn reaching(mut self, rung: Rung) -> Self {
        self.rung = Some(rung);
        self
    }
}

/// Reads a `with` that `check` has passed.
///
/// # Errors
/// Where it does not fit, in one line with the field's path.
pub fn read<W: With>(with: &Value) -> Result<W, MakeError> {
    serde_path_to_error::deserialize(object(with))
        .map_err(|e| MakeError(format!("with.{}: {}", e.path(), e.inner())))
}

fn check<W: With>(with: &Value) -> Vec<Problem> {
    match serde_path_to_error::deserialize::<_, W>(object(with)) {
        Ok(w) => w.problems(),
        Err(e) => {
            let path = e.path().to_string();
            let path = if path == "." { String::new() } else { path };
            vec![Problem::new(path, e.inner().to_string())]
        }
    }
}

fn hosts<W: With>(with: &Value) -> Vec<String> {
    serde_json::from_value::<W>(object(with))
        .map(|w| w.hosts())
        .unwrap_or_default()
}

fn propagation<W: With>(with: &Value) -> Span {
    serde_json::from_value::<W>(object(with)).map_or(Span::ZERO, |w| w.propagation())
}

/// What cannot be read may name any.
fn program<W: With>(with: &Value) -> Option<&'static str> {
    serde_json::from_value::<W>(object(with)).map_or(Some(""), |w| w.program())
}

/// A `with` that is left out is an empty one.
fn object(with: &Value) -> Value {
    if with.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        with.clone()
    }
}

/// The kinds that a build knows.
#[derive(Clone, Copy)]
pub struct Kinds(pub &'static [Kind]);

impl Kinds {
    /// The kind of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'static Kind> {
        self.0.iter().find(|k| k.name == name)
    }
}
