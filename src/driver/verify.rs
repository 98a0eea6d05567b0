//! `service/verify`: the service answers rightly from the new site; in a redirect its applications do. `publish/fallback`: so does the fallback URL.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::KindName,
        observation::{DatabaseRole, Evidence, Sight},
        plan::{RunKind, StepPhase, Uses},
        service::{Component, ComponentKind, Probe, Service},
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        kind::{self, Kind, Make, MakeError, Problem, Wiring, With},
        lookout::{SharedLookouts, Sighting},
        runtime::SharedRuntime,
    },
};

/// Between two looks.
const AGAIN: Span = Span::from_millis(300);
/// So many vantage points must have got a right answer before an address is published.
const WITNESSES: usize = 2;

/// Settings of `service/verify`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyWith {}

impl With for VerifyWith {}

/// Settings of `publish/fallback`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FallbackWith {
    /// Path below the site's `url` that is fetched to see whether it works. Default: the URL itself.
    #[serde(default)]
    pub path: Option<String>,
    /// Text that the answer must contain.
    #[serde(default)]
    pub contains: Option<String>,
}

impl With for FallbackWith {
    fn problems(&self) -> Vec<Problem> {
        let path = self.path.as_deref().filter(|p| !p.starts_with('/'));
        path.map(|p| Problem::new("path", format!("{p:?} must begin with /")))
            .into_iter()
            .collect()
    }
}

/// `service/verify`.
pub const VERIFY: Kind = Kind::new::<VerifyWith>(
    "service/verify",
    "waits until the probes of the new site say Up for a quorum of networks",
    "{}",
    Make::Action(make_verify),
)
.in_phase(StepPhase::Verify)
.both_ways();

/// `publish/fallback`.
pub const FALLBACK: Kind = Kind::new::<FallbackWith>(
    "publish/fallback",
    "publishes the new site's own URL once two vantage points got a right answer from it",
    "path: /healthz",
    Make::Action(make_fallback),
)
.in_phase(StepPhase::Tell)
.both_ways();

/// The kinds of this room.
pub const KINDS: &[Kind] = &[VERIFY, FALLBACK];

fn lookouts(wiring: &Wiring) -> Result<SharedLookouts, MakeError> {
    wiring
        .lookouts
        .clone()
        .ok_or_else(|| MakeError("there are no vantage points to look from".to_owned()))
}

fn make_verify(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let VerifyWith {} = kind::read(with)?;
    let condition = Verify {
        service: wiring.service.clone(),
        lookouts: lookouts(wiring)?,
    };
    Ok(Arc::new(Until {
        condition,
        runtime: wiring.runtime.clone(),
    }))
}

fn make_fallback(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let condition = Fallback {
        with: kind::read(with)?,
        lookouts: lookouts(wiring)?,
        points: wiring.service.own_points().count(),
    };
    Ok(Arc::new(Until {
        condition,
        runtime: wiring.runtime.clone(),
    }))
}

/// What a site has to show.
#[async_trait]
trait Condition: Send + Sync {
    /// The proof that it holds, or what is missing.
    async fn look(&self, to: &Site, run: RunKind) -> Result<Proof, String>;

    /// Whether it can be met at all, for `failover check`.
    fn check(&self, to: &Site) -> Vec<CheckItem>;
}

/// A step that waits until a condition holds.
struct Until<C> {
    condition: C,
    runtime: SharedRuntime,
}

#[async_trait]
impl<C: Condition> Action for Until<C> {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let deadline = self.runtime.now().after(step.timeout).before(AGAIN);
        loop {
            let missing = match self.condition.look(&step.to, step.kind).await {
                Ok(proof) => return StepResult::Done(proof),
                Err(missing) => missing,
            };
            if self.runtime.now() >= deadline {
                return StepResult::failed(missing);
            }
            self.runtime
                .sleep_until(self.runtime.now().after(AGAIN))
                .await;
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        match self.condition.look(&step.to, step.kind).await {
            Ok(proof) => Presence::InPlace(proof),
            Err(missing) => Presence::absent(missing),
        }
    }

    async fn check(&self, _from: &Site, to: &Site) -> Vec<CheckItem> {
        self.condition.check(to)
    }
}

struct Verify {
    service: Arc<Service>,
    lookouts: SharedLookouts,
}

#[async_trait]
impl Condition for Verify {
    async fn look(&self, to: &Site, run: RunKind) -> Result<Proof, String> {
        let probes = self.probes(to, run)?;
        let mut seen = Vec::new();
        for probe in probes {
            let sightings = self.lookouts.look(&probe.action, probe.timeout).await;
            let enough = self.enough(probe, &sightings);
            seen.push(enough.map_err(|why| format!("{} does not serve rightly: {why}", to.name))?);
        }
        Ok(Proof::new(seen.join("; ")))
    }

    fn check(&self, to: &Site) -> Vec<CheckItem> {
        vec![match self.probes(to, RunKind::Failover) {
            Ok(probes) => {
                let names: Vec<_> = probes.iter().map(|p| p.id.to_string()).collect();
                CheckItem::ok("probes", format!("looks through {}", names.join(" and ")))
            }
            Err(missing) => CheckItem::bad(
                "probes",
                CheckStatus::Fail,
                missing,
                "without such a probe this step can only fail",
            ),
        }]
    }
}

impl Verify {
    /// What tells whether the service works there. A redirect leaves the databases where they are.
    fn probes(&self, to: &Site, run: RunKind) -> Result<Vec<&Probe>, String> {
        let moved =
            |c: &&Component| run != RunKind::Redirect || c.kind == ComponentKind::Application;
        let probes: Vec<&Probe> = self
            .service
            .components
            .iter()
            .filter(moved)
            .flat_map(|c| &c.probes)
            .filter(|p| p.site.as_ref() == Some(&to.name) && p.evidence != Evidence::Stream)
            .collect();
        if probes.is_empty() {
            return Err(format!(
                "no probe looks at {}: add one with `site: {}`",
                to.name, to.name
            ));
        }
        Ok(probes)
    }

    /// A quorum of networks sees it work, and a database that it is asked about takes writes.
    fn enough(&self, probe: &Probe, sightings: &[Sighting]) -> Result<String, String> {
        let standby = |s: &&Sighting| {
            s.look
                .facts
                .database
                .as_ref()
                .is_some_and(|d| d.role == DatabaseRole::Standby)
        };
        if let Some(s) = sightings.iter().find(standby) {
            return Err(format!(
                "{}: still a standby, seen from {}",
                probe.id, s.vantage
            ));
        }
        let networks = |sight| {
            sightings
                .iter()
                .filter(|s| s.look.sight == sight)
                .map(|s| &s.network)
                .collect::<BTreeSet<_>>()
                .len()
        };
        let all = sightings
            .iter()
            .map(|s| &s.network)
            .collect::<BTreeSet<_>>()
            .len();
        let needed = self.service.quorum.networks.min(all).max(1);
        let up = networks(Sight::Up);
        if up >= needed {
            return Ok(format!("{} works from {up} of {all} networks", probe.id));
        }
        let detail = sightings
            .iter()
            .find(|s| s.look.sight != Sight::Up)
            .map_or("nobody could look", |s| s.look.detail.as_str());
        Err(format!(
            "{} works from {up} of {all} networks, {needed} are needed ({detail})",
            probe.id
        ))
    }
}

struct Fallback {
    with: FallbackWith,
    lookouts: SharedLookouts,
    points: usize,
}

#[async_trait]
impl Condition for Fallback {
    async fn look(&self, to: &Site, _run: RunKind) -> Result<Proof, String> {
        let Some(url) = &to.url else {
            return Ok(Proof::new(format!(
                "{} has no URL of its own: there is no fallback address to publish",
                to.name
            )));
        };
        let target = format!(
            "{}{}",
            url.trim_end_matches('/'),
            self.with.path.as_deref().unwrap_or("/")
        );
        let mut with = json!({ "url": target });
        if let Some(text) = &self.with.contains {
            with["body"] = json!({ "contains": [text] });
        }
        let uses = Uses {
            uses: KindName::new("probe/http"),
            with,
        };
        let sightings = self.lookouts.look(&uses, Span::from_secs(5)).await;
        let up = sightings
            .iter()
            .filter(|s| s.look.sight == Sight::Up)
            .count();
        let needed = WITNESSES.min(self.points.max(1));
        if up >= needed {
            let text = format!("{url} gave a right answer to {up} vantage points");
            return Ok(Proof::new(text)
                .with("url", url)
                .with("witnesses", up.to_string()));
        }
        let detail = sightings
            .iter()
            .find(|s| s.look.sight != Sight::Up)
            .map_or("nobody could look", |s| s.look.detail.as_str());
        Err(format!(
            "{url} gave a right answer to {up} vantage points, {needed} are needed ({detail})"
        ))
    }

    fn check(&self, _to: &Site) -> Vec<CheckItem> {
        Vec::new()
    }
}
