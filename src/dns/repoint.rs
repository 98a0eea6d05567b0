//! `dns/repoint`: puts the values of the site that will serve in the place of those of the site that served.
//!
//! It reads, and swaps only what it knows: where neither the one nor the other site's values stand, somebody else
//! has changed the record, and it is left alone unless `force` is set. Every record is tried, whatever became of the
//! others; reading first makes each repeat harmless. Where the zone's servers follow the provider later, it waits for them:
//! what a provider was told is no effect.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    cutover::{Cutover, CutoverWith},
    rrset,
};
use crate::{
    model::{
        plan::StepPhase,
        service::{Dns, DnsRecord, Service},
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        dns::{RecordSet, SharedDns, Swap},
        kind::{self, Kind, Make, MakeError, Wiring},
        runtime::SharedRuntime,
    },
};

/// `dns/repoint`.
pub const KIND: Kind = Kind::new::<RepointWith>(
    "dns/repoint",
    "points the service's DNS records at the site that will serve",
    "force: false\n",
    Make::Action(make),
)
.in_phase(StepPhase::Traffic)
.both_ways();

/// The fact that holds when the records were changed, RFC 3339.
pub const CHANGED_AT: &str = "changedAt";

/// The fact that holds the longest TTL in seconds that the records had before.
pub const OLD_TTL: &str = "oldTtl";

/// Settings of `dns/repoint`: which records, and their values, stand in the service's `dns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepointWith {
    /// Also replaces values that belong to neither site. Default: false, the step fails instead.
    #[serde(default)]
    pub force: bool,
}

impl kind::With for RepointWith {}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: RepointWith = kind::read(with)?;
    let (Some(_), Some(provider)) = (&wiring.service.dns, &wiring.dns) else {
        return Err(MakeError("the service names no DNS records".into()));
    };
    Ok(Arc::new(Repoint {
        force: with.force,
        service: wiring.service.clone(),
        provider: provider.clone(),
        runtime: wiring.runtime.clone(),
    }))
}

struct Repoint {
    force: bool,
    service: Arc<Service>,
    provider: SharedDns,
    runtime: SharedRuntime,
}

/// What became of one record.
enum Outcome {
    /// It holds the target's values; `before` is what stood there, where it was changed now.
    Set { before: Option<RecordSet> },
    /// It was not changed.
    Failed(String),
    /// It may have been changed.
    Unclear(String),
}

/// One record with the values it is to lead from and to.
struct Move<'a> {
    record: &'a DnsRecord,
    from: BTreeSet<String>,
    to: BTreeSet<String>,
}

#[async_trait]
impl Action for Repoint {
    async fn perform(&self, step: &StepContext) -> StepResult {
        self.lead_until_seen(step).await
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let Some(dns) = &self.service.dns else {
            return Presence::unknown("the service names no DNS records");
        };
        let (mut seen, mut absent, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for record in &dns.records {
            let title = record.title();
            let to = match rrset::of_site(record, &step.to.name) {
                Ok(to) => to,
                Err(e) => {
                    unknown.push(e.to_string());
                    continue;
                }
            };
            match self.provider.read(&record.name, record.kind).await {
                Ok(found) if found.values == to => {
                    seen.push(format!("{title} {}", rrset::listed(&to)));
                }
                Ok(found) => absent.push(format!("{title} holds {}", rrset::described(&found))),
                Err(e) => unknown.push(format!("{title}: {}", e.reason)),
            }
        }
        if !absent.is_empty() {
            Presence::absent(absent.join("; "))
        } else if !unknown.is_empty() {
            Presence::unknown(unknown.join("; "))
        } else {
            let after = seen.join("; ");
            let proof =
                Proof::new(format!("DNS leads to {}: {after}", step.to.name)).with("after", after);
            if self.provider.propagation().is_zero() {
                return Presence::InPlace(proof);
            }
            match self.servers(None).observe(step).await {
                Presence::InPlace(_) => Presence::InPlace(proof),
                other @ (Presence::Absent { .. } | Presence::Unknown { .. }) => other,
            }
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let back = StepContext {
            from: step.to.clone(),
            to: step.from.clone(),
            ..step.clone()
        };
        Some(self.lead_until_seen(&back).await)
    }
}

impl Repoint {
    /// Leads every record there, and waits until the zone's servers give it where they follow the provider later.
    async fn lead_until_seen(&self, step: &StepContext) -> StepResult {
        let deadline = step.deadline(self.runtime.now());
        let mut proof = match self.lead(&step.from, &step.to).await {
            StepResult::Done(proof) if !self.provider.propagation().is_zero() => proof,
            other @ (StepResult::Done(_)
            | StepResult::Failed { .. }
            | StepResult::Indeterminate { .. }) => return other,
        };
        let left = deadline.since(self.runtime.now());
        match self.servers(Some(left)).perform(step).await {
            StepResult::Done(seen) => {
                proof.summary = format!("{}; {}", proof.summary, seen.summary);
                // Caches took the old values up to now.
                if let Some(at) = proof.facts.get_mut(CHANGED_AT) {
                    *at = self.runtime.now().to_string();
                }
                StepResult::Done(proof)
            }
            StepResult::Failed { reason } | StepResult::Indeterminate { reason } => {
                let why = self.provider.outstanding().await;
                let told = why.into_iter().chain([reason]).collect::<Vec<_>>();
                StepResult::indeterminate(format!("the provider was told; {}", told.join("; ")))
            }
        }
    }

    /// The wait for the zone's servers.
    fn servers(&self, max_wait: Option<Span>) -> Cutover {
        let with = CutoverWith {
            max_wait,
            require_resolvers: 0,
        };
        let (provider, runtime) = (self.provider.clone(), self.runtime.clone());
        Cutover::new(with, self.service.clone(), provider, runtime)
    }

    /// Leads every record from one site to another.
    async fn lead(&self, from: &Site, to: &Site) -> StepResult {
        let Some(dns) = &self.service.dns else {
            return StepResult::failed("the service names no DNS records");
        };
        let mut moves = Vec::new();
        for record in &dns.records {
            let values = rrset::of_site(record, &from.name)
                .and_then(|old| Ok((old, rrset::of_site(record, &to.name)?)));
            match values {
                Ok((from, to)) => moves.push(Move { record, from, to }),
                Err(e) => return StepResult::failed(e.to_string()),
            }
        }
        let mut outcomes = Vec::new();
        for one in &moves {
            outcomes.push((one, self.move_one(dns, one).await));
        }
        self.summed_up(to, &outcomes)
    }

    async fn move_one(&self, dns: &Dns, one: &Move<'_>) -> Outcome {
        let (name, kind) = (&one.record.name, one.record.kind);
        let mut found = match self.provider.read(name, kind).await {
            Ok(found) => found,
            Err(e) => return Outcome::Unclear(e.reason),
        };
        let want = RecordSet {
            values: one.to.clone(),
            ttl: wanted_ttl(dns, &self.provider),
        };
        // Once more where the set changed between reading and swapping: with it, what is to be judged changes too.
        let mut tries = 2;
        loop {
            if found.values == one.to {
                return Outcome::Set { before: None };
            }
            if found.values != one.from && !self.force {
                return Outcome::Failed(format!(
                    "it holds {}, which belongs to neither site: somebody else changed it; correct it, or set `force: true` on this step",
                    rrset::described(&found)
                ));
            }
            tries -= 1;
            match self.provider.swap(name, kind, &found, &want).await {
                Swap::Done => {
                    return Outcome::Set {
                        before: Some(found),
                    };
                }
                Swap::Conflict { found: now } if tries > 0 => found = now,
                Swap::Conflict { found: now } if now.values == one.to => {
                    return Outcome::Set { before: None };
                }
                Swap::Conflict { found: now } => {
                    return Outcome::Failed(format!(
                        "somebody else changes it at the same time; it holds {} now",
                        rrset::described(&now)
                    ));
                }
                Swap::Refused { reason } => return Outcome::Failed(reason),
                Swap::Unknown { reason } => return Outcome::Unclear(reason),
            }
        }
    }

    fn summed_up(&self, to: &Site, outcomes: &[(&Move<'_>, Outcome)]) -> StepResult {
        let (mut set, mut failed, mut unclear) = (Vec::new(), Vec::new(), Vec::new());
        let (mut before, mut old_ttl) = (Vec::new(), None);
        for (one, outcome) in outcomes {
            match outcome {
                Outcome::Set { before: was } => {
                    set.push(format!("{} {}", one.record.title(), rrset::listed(&one.to)));
                    if let Some(was) = was {
                        before.push(format!(
                            "{} {}",
                            one.record.title(),
                            rrset::listed(&was.values)
                        ));
                        old_ttl = old_ttl.max(Some(was.ttl));
                    }
                }
                Outcome::Failed(reason) => failed.push(format!("{}: {reason}", one.record.title())),
                Outcome::Unclear(reason) => {
                    unclear.push(format!("{}: {reason}", one.record.title()));
                }
            }
        }
        let after = set.join("; ");
        if failed.is_empty() && unclear.is_empty() {
            let mut proof =
                Proof::new(format!("DNS leads to {}: {after}", to.name)).with("after", after);
            if let Some(ttl) = old_ttl {
                proof = proof
                    .with("before", before.join("; "))
                    .with(OLD_TTL, ttl.to_string())
                    .with(CHANGED_AT, self.runtime.now().to_string());
            }
            return StepResult::Done(proof);
        }
        let mut reasons = failed;
        let indeterminate = !unclear.is_empty();
        reasons.append(&mut unclear);
        if !after.is_empty() {
            reasons.push(format!("already leads to {}: {after}", to.name));
        }
        if indeterminate {
            StepResult::indeterminate(reasons.join("; "))
        } else {
            StepResult::failed(reasons.join("; "))
        }
    }
}

/// The TTL that records are given: what the document says, or the provider's shortest where that is longer.
#[must_use]
pub fn wanted_ttl(dns: &Dns, provider: &SharedDns) -> u32 {
    u32::try_from(dns.ttl.as_millis() / 1000)
        .unwrap_or(u32::MAX)
        .max(provider.shortest_ttl())
}
