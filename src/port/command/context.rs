//! What programs are told.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    model::{
        action::ActOrder,
        id::{ActionName, ServiceName, SiteName, VantageName},
        service::Via,
        site::Site,
        span::Span,
    },
    port::action::StepContext,
};

/// What a program is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Make the effect.
    Perform,
    /// Look whether it is in place.
    Observe,
    /// Take it back.
    Undo,
    /// Look at a component.
    Probe,
    /// Look whether `observe` can be asked, outside any run.
    Check,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Perform => "perform",
            Self::Observe => "observe",
            Self::Undo => "undo",
            Self::Probe => "probe",
            Self::Check => "check",
        }
    }
}

/// Why a guard or an observer runs a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The controller asked for it.
    Asked(ActOrder),
    /// The controller has been silent for too long.
    ControllerSilent,
    /// It is heard again.
    ControllerHeard,
}

/// What a program is told.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub(super) env: BTreeMap<String, String>,
    pub(super) json: Value,
}

impl Context {
    /// What a step tells.
    #[must_use]
    pub fn of_step(verb: Verb, step: &StepContext) -> Self {
        let mut env = BTreeMap::from([
            ("FAILOVER_RUN".to_owned(), step.run.to_string()),
            ("FAILOVER_STEP".to_owned(), step.step.to_string()),
            ("FAILOVER_ATTEMPT".to_owned(), step.attempt.to_string()),
            ("FAILOVER_EPOCH".to_owned(), step.epoch.to_string()),
            ("FAILOVER_KEY".to_owned(), step.key.to_string()),
            ("FAILOVER_KIND".to_owned(), step.kind.to_string()),
        ]);
        for (name, value) in &step.facts {
            env.insert(format!("FAILOVER_FACT_{}", variable(name)), value.clone());
        }
        let json = json!({
            "run": step.run,
            "step": step.step,
            "attempt": step.attempt,
            "epoch": step.epoch,
            "key": step.key,
            "kind": step.kind,
            "facts": step.facts,
        });
        Self { env, json }
            .with_sites(&step.from, &step.to)
            .with_frame(verb, &step.service, step.timeout)
    }

    /// What a check tells: no run, no step.
    #[must_use]
    pub fn of_check(service: &ServiceName, from: &Site, to: &Site, timeout: Span) -> Self {
        Self::default()
            .with_sites(from, to)
            .with_frame(Verb::Check, service, timeout)
    }

    /// What a guard tells a program of its own host.
    #[must_use]
    pub fn of_guard(
        service: &ServiceName,
        site: &SiteName,
        action: &ActionName,
        why: &Why,
        timeout: Span,
    ) -> Self {
        let mut told = Self::default().with_frame(Verb::Perform, service, timeout);
        told.put("FAILOVER_SITE", "site", site.to_string());
        told.put("FAILOVER_ACTION", "action", action.to_string());
        told.with_why(why)
    }

    /// What an observer tells a program of its own host.
    #[must_use]
    pub fn of_observer(vantage: &VantageName, why: &Why) -> Self {
        let mut told = Self::default();
        told.put("FAILOVER_VANTAGE", "vantage", vantage.to_string());
        told.with_why(why)
    }

    /// What a probe tells: the program has to go the vantage point's way by itself.
    #[must_use]
    pub fn of_probe(service: &ServiceName, via: &Via, timeout: Span) -> Self {
        let mut told = Self::default().with_frame(Verb::Probe, service, timeout);
        let (name, key, way) = match via {
            Via::Direct => return told,
            Via::SourceAddress(ip) => ("FAILOVER_SOURCE_ADDRESS", "sourceAddress", ip.to_string()),
            Via::Proxy(url) => ("FAILOVER_PROXY", "proxy", url.clone()),
        };
        told.json[key] = json!(way);
        told.env.insert(name.to_owned(), way);
        told
    }

    /// The context as one JSON object.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    fn with_why(mut self, why: &Why) -> Self {
        match why {
            Why::Asked(order) => {
                self.put("FAILOVER_KEY", "key", order.key.to_string());
                self.put("FAILOVER_ATTEMPT", "attempt", order.attempt.to_string());
                self.put("FAILOVER_EPOCH", "epoch", order.epoch.to_string());
            }
            Why::ControllerSilent => {
                self.put("FAILOVER_EVENT", "event", "controllerSilent".to_owned());
            }
            Why::ControllerHeard => {
                self.put("FAILOVER_EVENT", "event", "controllerHeard".to_owned());
            }
        }
        self
    }

    fn put(&mut self, name: &str, key: &str, value: String) {
        self.json[key] = json!(value);
        self.env.insert(name.to_owned(), value);
    }

    fn with_sites(mut self, from: &Site, to: &Site) -> Self {
        self.env
            .insert("FAILOVER_FROM".to_owned(), from.name.to_string());
        self.env
            .insert("FAILOVER_TO".to_owned(), to.name.to_string());
        self.json["from"] = site(from);
        self.json["to"] = site(to);
        self
    }

    fn with_frame(mut self, verb: Verb, service: &ServiceName, timeout: Span) -> Self {
        let seconds = timeout.as_secs_f64();
        self.env
            .insert("FAILOVER_VERB".to_owned(), verb.name().to_owned());
        self.env
            .insert("FAILOVER_SERVICE".to_owned(), service.to_string());
        self.env
            .insert("FAILOVER_TIMEOUT".to_owned(), seconds.to_string());
        self.json["verb"] = json!(verb.name());
        self.json["service"] = json!(service);
        self.json["timeoutSeconds"] = json!(seconds);
        self
    }
}

fn site(site: &Site) -> Value {
    json!({
        "name": site.name,
        "role": site.role,
        "location": site.location,
        "addresses": site.addresses,
        "url": site.url,
    })
}

/// `promote.systemIdentifier` as it stands in a variable's name: `PROMOTE_SYSTEMIDENTIFIER`.
fn variable(fact: &str) -> String {
    fact.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}
