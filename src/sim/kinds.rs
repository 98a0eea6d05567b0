//! The kinds of a simulation: those of the registry, each made into a part of the world. What only looks through probes
//! or asks the DNS provider stays the real one.

use std::sync::LazyLock;

use serde_json::Value;

use super::{
    deeds::{self, Doing},
    looks, names, outlets,
};
use crate::{
    driver::registry,
    model::plan::RESTORE,
    port::{
        action::SharedAction,
        kind::{Kind, Kinds, Make, MakeError, Wiring},
        probe::SharedProbe,
    },
};

/// Probes by name: makers are plain functions, so each name has one of its own.
const PROBES: [&str; 7] = [
    "probe/http",
    "probe/tcp",
    "probe/dns",
    "probe/command",
    "probe/postgres",
    "probe/postgres-standby",
    "probe/kubernetes",
];

fn probe<const N: usize>(with: &Value, wiring: &Wiring) -> Result<SharedProbe, MakeError> {
    looks::make(PROBES[N], with, wiring)
}

type MakeProbe = fn(&Value, &Wiring) -> Result<SharedProbe, MakeError>;
type MakeAction = fn(&Value, &Wiring) -> Result<SharedAction, MakeError>;

const PROBE_MAKERS: [MakeProbe; PROBES.len()] = [
    probe::<0>, probe::<1>, probe::<2>, probe::<3>, probe::<4>, probe::<5>, probe::<6>,
];

/// Steps that are real: they know the world only through probes and the DNS provider.
const REAL: [&str; 3] = ["dns/repoint", "service/verify", "publish/fallback"];

/// The real probe that asks guards: those of the simulation answer.
const GUARD: &str = "probe/guard";

/// Steps that are real, and order something of guards.
const GUARDED: [&str; 4] = [
    "guard/fence",
    "guard/promote",
    "guard/drain",
    "guard/rejoin",
];
/// Which of them promotes.
const PROMOTES: usize = 1;

fn guarded<const N: usize>(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let name = GUARDED[N];
    let real = registry::kinds().0.iter().find(|k| k.name == name);
    match real.map(|k| k.make) {
        Some(Make::Action(make)) => deeds::watched(make(with, wiring)?, N == PROMOTES),
        Some(
            Make::Probe(_)
            | Make::Dns(_)
            | Make::Channel(_)
            | Make::Target(_)
            | Make::Chat(_)
            | Make::Backup(_),
        )
        | None => not_simulated(with, wiring),
    }
}

fn action(name: &str) -> Make {
    match name {
        "command/fence" | "webhook/fence" | "kubernetes/fence" => {
            Make::Action(|_, w| deeds::make(Doing::SwitchOff, w))
        }
        "postgres/fence" => Make::Action(|_, w| deeds::make(Doing::RefuseWriters, w)),
        "postgres/write-attempt" => Make::Action(|_, w| deeds::make(Doing::WriteAttempt, w)),
        "postgres/promote" | "command/promote" | "http/promote" | RESTORE => {
            Make::Action(|_, w| deeds::make(Doing::Promote, w))
        }
        "guard/fence" => Make::Action(guarded::<0>),
        "guard/promote" => Make::Action(guarded::<PROMOTES>),
        "guard/drain" => Make::Action(guarded::<2>),
        "guard/rejoin" => Make::Action(guarded::<3>),
        "dns/cutover" => Make::Action(|_, w| deeds::make(Doing::Cutover, w)),
        _ => Make::Action(not_simulated),
    }
}

fn not_simulated(_: &Value, _: &Wiring) -> Result<SharedAction, MakeError> {
    Err(MakeError("this kind cannot be simulated".to_owned()))
}

/// Whether documents that name this kind can be simulated.
#[must_use]
pub fn is_simulated(name: &str) -> bool {
    ALL.iter()
        .find(|k| k.name == name)
        .is_some_and(|k| match k.make {
            Make::Probe(_) => PROBES.contains(&name) || name == GUARD,
            Make::Action(make) => !std::ptr::fn_addr_eq(make, not_simulated as MakeAction),
            Make::Dns(_) | Make::Channel(_) | Make::Target(_) | Make::Chat(_) | Make::Backup(_) => {
                true
            }
        })
}

fn simulated(kind: &Kind) -> Kind {
    let make = match kind.make {
        Make::Probe(real) => {
            let known = PROBES.iter().position(|p| *p == kind.name);
            Make::Probe(known.map_or(real, |n| PROBE_MAKERS[n]))
        }
        Make::Backup(_) => kind.make,
        Make::Action(_) if REAL.contains(&kind.name) => kind.make,
        Make::Action(_) => action(kind.name),
        Make::Dns(_) => Make::Dns(|_, w| names::make(w)),
        Make::Channel(_) => Make::Channel(|_, w| outlets::channel(w)),
        Make::Target(_) => Make::Target(|_, _| Ok(outlets::target())),
        // Nobody listens there.
        Make::Chat(make) => Make::Chat(make),
    };
    Kind { make, ..*kind }
}

static ALL: LazyLock<Vec<Kind>> =
    LazyLock::new(|| registry::kinds().0.iter().map(simulated).collect());

/// The kinds of a simulation.
pub fn kinds() -> Kinds {
    Kinds(&ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_this_build_is_simulated_but_a_few_steps_and_drills() {
        let all = registry::kinds().0.iter().map(|k| k.name);
        let missing: Vec<_> = all.filter(|name| !is_simulated(name)).collect();
        assert_eq!(
            missing,
            [
                "command/drain",
                "guard/action",
                "postgres/follow",
                "kubernetes/scale",
                "kubernetes/patch",
                "kubernetes/suspend",
                "drill/dns",
                "drill/clone",
                "drill/promote",
                "drill/query",
                "drill/serve",
                "drill/load"
            ]
        );
    }
}
