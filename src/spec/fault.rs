//! What a drill injects to see that nothing happens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    code::Code, path::FieldPath, scope::Scope, service::ProtectedServiceSpec, watch::LOCAL,
};
use crate::model::{
    fault::Fault,
    id::{ComponentName, VantageName},
    service::ComponentKind,
    span::Span,
};

/// A longer fault is no short one: what is to happen then is an outage's business.
const LONGEST: Span = Span::from_secs(900);

/// Each is a history of its own, played while the service waits for its next turn.
const MOST: usize = 8;

/// Something that must not lead to a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum FaultSpec {
    /// A vantage point sees nothing any more.
    VantageBlind(BlindSpec),
    /// What serves does not answer for a while.
    Stall(StallSpec),
    /// The primary is lost while every standby lags beyond the RPO: nothing is promoted without a person.
    StandbyLag(LagSpec),
}

/// A vantage point that sees nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlindSpec {
    /// Which. With sentinels it knows that it is blind, without them it calls everything down.
    pub vantage: String,
    /// How long, at most 15m. Default: 5m.
    #[serde(rename = "for", default = "blind")]
    pub lasts: Span,
}

/// A stall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StallSpec {
    /// Which component. Default: everything that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// How long, at most 15m. Default: 20s.
    #[serde(rename = "for")]
    pub lasts: Span,
}

impl Default for StallSpec {
    fn default() -> Self {
        Self {
            component: None,
            lasts: Span::from_secs(20),
        }
    }
}

/// Standbys that lag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LagSpec {
    /// By how much, in time: more than the RPO.
    pub by: Span,
}

fn blind() -> Span {
    Span::from_secs(300)
}

/// The faults after their checks.
pub fn faults(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    inject: &[FaultSpec],
    list: &FieldPath,
) -> Vec<Fault> {
    if inject.len() > MOST {
        let complaint = scope
            .about(
                Code::BadValue,
                list.index(MOST),
                format!("{} faults are injected", inject.len()),
            )
            .expected(format!("at most {MOST}; use another drill for the others"));
        scope.add(complaint);
    }
    let all = inject.iter().enumerate();
    all.map(|(n, fault)| checked(scope, spec, fault, &list.index(n)))
        .collect()
}

fn checked(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    fault: &FaultSpec,
    at: &FieldPath,
) -> Fault {
    match fault {
        FaultSpec::VantageBlind(BlindSpec { vantage, lasts }) => {
            let at = at.key("vantageBlind");
            let list = FieldPath::spec().key("vantagePoints");
            let mut known: Vec<&str> = spec
                .vantage_points
                .iter()
                .map(|v| v.name.as_str())
                .collect();
            if known.is_empty() {
                known.push(LOCAL);
            }
            scope.refers("vantage point", vantage, &known, &at.key("vantage"), &list);
            short(scope, *lasts, &at);
            Fault::VantageBlind {
                vantage: VantageName::new(vantage),
                lasts: *lasts,
            }
        }
        FaultSpec::Stall(StallSpec { component, lasts }) => {
            let at = at.key("stall");
            if let Some(component) = component {
                let list = FieldPath::spec().key("components");
                let known: Vec<&str> = spec.components.iter().map(|c| c.name.as_str()).collect();
                scope.refers("component", component, &known, &at.key("component"), &list);
            }
            short(scope, *lasts, &at);
            Fault::Stall {
                component: component.as_deref().map(ComponentName::new),
                lasts: *lasts,
            }
        }
        FaultSpec::StandbyLag(LagSpec { by }) => {
            lags(scope, spec, *by, &at.key("standbyLag"));
            Fault::StandbyLag { by: *by }
        }
    }
}

fn short(scope: &mut Scope<'_>, lasts: Span, at: &FieldPath) {
    if lasts == Span::ZERO || lasts > LONGEST {
        let complaint = scope
            .about(
                Code::BadValue,
                at.key("for"),
                format!("a fault cannot last {lasts}"),
            )
            .expected(format!("more than nothing, at most {LONGEST}"));
        scope.add(complaint);
    }
}

fn lags(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec, by: Span, at: &FieldPath) {
    let is_data = |kind: ComponentKind| kind == ComponentKind::Database;
    if !spec.components.iter().any(|c| is_data(c.kind)) {
        let complaint = scope
            .about(
                Code::BadValue,
                at.clone(),
                "no component is a database: nothing can lag",
            )
            .rests_on(FieldPath::spec().key("components"));
        scope.add(complaint);
        return;
    }
    let rpo = spec.objectives.rpo;
    if by <= rpo {
        let complaint = scope
            .about(
                Code::BadValue,
                at.key("by"),
                format!(
                    "a standby that lags by {by} is within the RPO of {rpo}: it may be promoted"
                ),
            )
            .expected(format!("more than {rpo}"))
            .rests_on(FieldPath::spec().key("objectives").key("rpo"));
        scope.add(complaint);
    }
}
