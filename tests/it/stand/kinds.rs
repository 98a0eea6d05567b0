//! Every kind of the registry, and stand-ins for those that are still to come.

use std::sync::LazyLock;

use failover::{
    driver::registry,
    model::{plan::StepPhase, step::Rung},
    port::kind::{Kind, Kinds, Make, MakeError, With},
};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct Any(
    #[expect(dead_code, reason = "anything fits")] serde_json::Map<String, serde_json::Value>,
);

impl With for Any {}

const fn step(name: &'static str, phase: StepPhase) -> Kind {
    Kind::new::<Any>(
        name,
        "to come",
        "{}",
        Make::Action(|_, _| Err(MakeError("to come".into()))),
    )
    .in_phase(phase)
}

const fn channel(name: &'static str) -> Kind {
    Kind::new::<Any>(
        name,
        "to come",
        "{}",
        Make::Channel(|_, _| Err(MakeError("to come".into()))),
    )
}

static ALL: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let to_come = [
        step("postgres/fence", StepPhase::Fence).reaching(Rung::Infrastructure),
        step("postgres/write-attempt", StepPhase::Fence),
        step("attest", StepPhase::Fence).reaching(Rung::Attested),
        step("http/promote", StepPhase::Promote),
        step("dns/cutover", StepPhase::Traffic),
        step("service/verify", StepPhase::Verify),
        step("publish/fallback", StepPhase::Tell),
        Kind::new::<Any>(
            "dns/cloudflare",
            "to come",
            "{}",
            Make::Dns(|_, _| Err(MakeError("to come".into()))),
        ),
        channel("announce/x"),
        channel("announce/email"),
        channel("announce/telegram"),
        channel("announce/webhook"),
    ];
    let known = registry::kinds();
    let missing = to_come.into_iter().filter(|k| known.get(k.name).is_none());
    known.0.iter().copied().chain(missing).collect()
});

/// Every kind that documents of the tests name.
pub fn kinds() -> Kinds {
    Kinds(&ALL)
}
