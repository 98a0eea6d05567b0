//! `dns/cutover`: waits until the world sees the new values, and says what is left of the old ones.
//!
//! Done when every authoritative server that answers agrees, and at least one does. Those that do not answer are
//! named: resolvers will not ask them either. Resolvers hold old answers for the rest of their TTL, which nobody can
//! shorten, so they are reported and waited for only where `requireResolvers` says so.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use futures::future::{join, join_all};
use hickory_proto::rr::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    live::{self, Audience, Server, Sighting},
    repoint::{CHANGED_AT, OLD_TTL},
    rrset,
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        plan::StepPhase,
        service::{DnsRecord, Service},
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult},
        time::Time,
    },
    port::{
        action::{Action, SharedAction, StepContext},
        dns::{ReadError, RecordSet, SharedDns},
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
        runtime::SharedRuntime,
    },
};

/// `dns/cutover`.
pub const KIND: Kind = Kind::new::<CutoverWith>(
    "dns/cutover",
    "waits until all authoritative servers give the new values, and reports what resolvers still hold",
    "maxWait: 2m\nrequireResolvers: 1\n",
    Make::Action(make),
)
.in_phase(StepPhase::Traffic)
.both_ways();

/// Time between two rounds of questions.
const ROUND: Span = Span::from_secs(1);

/// Settings of `dns/cutover`: whom to ask, and for what, stands in the service's `dns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CutoverWith {
    /// Longest wait. Default: nine tenths of the step's time-out, so that the outcome is still told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Span>,
    /// How many of the service's resolvers must give the new values too. Default: none, they are only reported.
    #[serde(default)]
    pub require_resolvers: u32,
}

impl kind::With for CutoverWith {
    fn problems(&self) -> Vec<Problem> {
        match self.max_wait {
            Some(Span::ZERO) => vec![Problem::new("maxWait", "expected some time, such as 2m")],
            Some(_) | None => Vec::new(),
        }
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: CutoverWith = kind::read(with)?;
    let (Some(dns), Some(provider)) = (&wiring.service.dns, &wiring.dns) else {
        return Err(MakeError("the service names no DNS records".into()));
    };
    if usize::try_from(with.require_resolvers).is_ok_and(|n| n > dns.resolvers.len()) {
        return Err(MakeError(format!(
            "with.requireResolvers: {} must agree, but dns.resolvers names {}",
            with.require_resolvers,
            dns.resolvers.len()
        )));
    }
    Ok(Arc::new(Cutover::new(
        with,
        wiring.service.clone(),
        provider.clone(),
        wiring.runtime.clone(),
    )))
}

/// The wait for a service's records.
pub struct Cutover {
    with: CutoverWith,
    service: Arc<Service>,
    provider: SharedDns,
    runtime: SharedRuntime,
}

/// What one round of questions showed.
#[derive(Debug, Default)]
struct Round {
    /// `record: server holds …`, of servers that hold the zone.
    differing: Vec<String>,
    /// Servers that did not answer, with why.
    silent: BTreeSet<String>,
    /// Answers of authoritative servers that agree, of how many asked.
    agreeing: (usize, usize),
    /// Records that no authoritative server answered for.
    unseen: Vec<String>,
    /// Resolvers that give the new values for every record, of how many asked: none where all records are behind a
    /// proxy.
    resolvers: (usize, usize),
    /// Longest time in seconds that a resolver will still give old values.
    left: Option<u32>,
    /// Records that resolvers see behind a proxy.
    fronted: Vec<String>,
}

impl Round {
    fn complete(&self, required: u32) -> bool {
        self.differing.is_empty()
            && self.unseen.is_empty()
            && usize::try_from(required).is_ok_and(|n| self.resolvers.0 >= n)
    }

    /// For people: what is still missing.
    fn missing(&self, required: u32) -> String {
        let mut missing = self.differing.clone();
        missing.extend(
            self.unseen
                .iter()
                .map(|r| format!("no authoritative server answers for {r}")),
        );
        missing.extend(self.silent.iter().cloned());
        if usize::try_from(required).is_ok_and(|n| self.resolvers.0 < n) {
            missing.push(if self.resolvers.1 == 0 {
                "resolvers see the provider's proxy whatever happens behind it, and cannot be asked: leave out requireResolvers".to_owned()
            } else {
                format!(
                    "{} of {} resolvers give the new values, {required} must",
                    self.resolvers.0, self.resolvers.1
                )
            });
        }
        missing.join("; ")
    }
}

#[async_trait]
impl Action for Cutover {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let wait = self
            .with
            .max_wait
            .unwrap_or(Span::from_millis(step.timeout.as_millis() / 10 * 9));
        let until = self.runtime.now().after(wait);
        let mut servers = None;
        loop {
            let round = self.round(&step.to, &mut servers).await;
            let now = self.runtime.now();
            match round {
                Ok(round) if round.complete(self.with.require_resolvers) => {
                    return StepResult::Done(proof(step, &round, now));
                }
                Ok(round) if now >= until => {
                    return StepResult::indeterminate(format!(
                        "after {wait} the world does not see {} everywhere: {}",
                        step.to.name,
                        round.missing(self.with.require_resolvers)
                    ));
                }
                Err(reason) if now >= until => return StepResult::indeterminate(reason),
                Ok(_) | Err(_) => {
                    self.runtime.sleep_until(now.after(ROUND).min(until)).await;
                }
            }
        }
    }

    /// Whether the resolvers that must agree can be asked at all.
    async fn check(&self, _from: &Site, to: &Site) -> Vec<CheckItem> {
        if self.with.require_resolvers == 0 {
            return Vec::new();
        }
        match self.round(to, &mut None).await {
            Ok(round) if round.resolvers.1 == 0 => vec![CheckItem::bad(
                "dns/cutover",
                CheckStatus::Fail,
                "all records are behind the provider's proxy, so that no resolver can say where they lead",
                "leave out requireResolvers",
            )],
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        match self.round(&step.to, &mut None).await {
            Ok(round) if round.complete(self.with.require_resolvers) => {
                Presence::InPlace(proof(step, &round, self.runtime.now()))
            }
            Ok(round) if round.differing.is_empty() && !round.unseen.is_empty() => {
                Presence::unknown(round.missing(self.with.require_resolvers))
            }
            Ok(round) => Presence::absent(round.missing(self.with.require_resolvers)),
            Err(reason) => Presence::unknown(reason),
        }
    }
}

/// What was seen of one record.
enum Seen {
    /// What servers and resolvers gave.
    Live(Vec<Sighting>, Vec<Sighting>),
    /// Resolvers see a proxy; what the provider holds behind it.
    Fronted(Result<RecordSet, ReadError>),
}

impl Cutover {
    /// A wait for the records of a service.
    #[must_use]
    pub const fn new(
        with: CutoverWith,
        service: Arc<Service>,
        provider: SharedDns,
        runtime: SharedRuntime,
    ) -> Self {
        Self {
            with,
            service,
            provider,
            runtime,
        }
    }

    /// Asks everybody once for everything, all at the same time. The zone's servers are looked up until they are known.
    async fn round(&self, to: &Site, known: &mut Option<Vec<Server>>) -> Result<Round, String> {
        let dns = self
            .service
            .dns
            .as_ref()
            .ok_or("the service names no DNS records")?;
        let resolvers = live::resolvers(dns).map_err(|e| e.to_string())?;
        let authorities = match known.take() {
            Some(servers) => servers,
            None => live::authorities(dns).await.map_err(|e| e.to_string())?,
        };
        let mut wanted = Vec::new();
        for record in &dns.records {
            let name = rrset::name(&record.name).map_err(|e| e.to_string())?;
            let want = rrset::of_site(record, &to.name).map_err(|e| e.to_string())?;
            wanted.push((record, name, want));
        }
        let seen = join_all(
            wanted
                .iter()
                .map(|(record, name, _)| self.see(&authorities, &resolvers, record, name)),
        )
        .await;
        let mut round = Round::default();
        let (mut asked, mut behind) = (false, BTreeSet::new());
        for ((record, _, want), seen) in wanted.iter().zip(seen) {
            match seen {
                Seen::Live(by_authorities, by_resolvers) => {
                    asked = true;
                    note_authorities(&mut round, record, want, by_authorities);
                    note_resolvers(&mut round, &mut behind, want, by_resolvers);
                }
                Seen::Fronted(found) => note_provider(&mut round, record, want, found),
            }
        }
        if asked {
            round.resolvers = (resolvers.len() - behind.len(), resolvers.len());
        }
        *known = Some(authorities);
        Ok(round)
    }

    async fn see(
        &self,
        authorities: &[Server],
        resolvers: &[Server],
        record: &DnsRecord,
        name: &Name,
    ) -> Seen {
        let provider = &self.provider;
        if provider.fronted(&record.name, record.kind).await.is_some() {
            let held = provider.read(&record.name, record.kind).await;
            return Seen::Fronted(match provider.outstanding().await {
                Some(reason) => Err(ReadError { reason }),
                None => held,
            });
        }
        let (by_authorities, by_resolvers) = join(
            live::survey(authorities, Audience::Authorities, name, record.kind),
            live::survey(resolvers, Audience::Resolvers, name, record.kind),
        )
        .await;
        Seen::Live(by_authorities, by_resolvers)
    }
}

/// Behind a proxy nobody but the provider can tell where the proxy leads.
fn note_provider(
    round: &mut Round,
    record: &DnsRecord,
    want: &BTreeSet<String>,
    found: Result<RecordSet, ReadError>,
) {
    let title = record.title();
    match found {
        Ok(found) if &found.values == want => round.fronted.push(title),
        Ok(found) => round.differing.push(format!(
            "{title}: the provider holds {}",
            rrset::described(&found)
        )),
        Err(e) => {
            round.silent.insert(format!("{title}: {}", e.reason));
            round.unseen.push(title);
        }
    }
}

fn proof(step: &StepContext, round: &Round, now: Time) -> Proof {
    let left = left_of_old_ttl(step, now).max(round.left);
    let mut told = vec![format!(
        "{} of {} answers of authoritative servers lead to {}",
        round.agreeing.0, round.agreeing.1, step.to.name
    )];
    told.extend(round.silent.iter().cloned());
    if round.resolvers.1 > 0 {
        told.push(format!(
            "{} of {} resolvers do",
            round.resolvers.0, round.resolvers.1
        ));
    }
    for record in &round.fronted {
        told.push(format!(
            "{record} is behind the provider's proxy, and the provider holds the new values"
        ));
    }
    match left {
        Some(left) if left > 0 => told.push(format!(
            "caches may hold the old values until {} (another {})",
            now.after(Span::from_secs(left.into())).clock(),
            Span::from_secs(left.into())
        )),
        Some(_) => told.push("nothing is left of the old TTL".to_owned()),
        None => {}
    }
    let mut proof = Proof::new(told.join("; "))
        .with(
            "authorities",
            format!("{}/{}", round.agreeing.0, round.agreeing.1),
        )
        .with(
            "resolvers",
            format!("{}/{}", round.resolvers.0, round.resolvers.1),
        );
    if !round.silent.is_empty() {
        let silent: Vec<&str> = round.silent.iter().map(String::as_str).collect();
        proof = proof.with("silent", silent.join("; "));
    }
    if let Some(left) = left {
        proof = proof.with("oldTtlLeft", left.to_string());
    }
    proof
}

fn note_authorities(
    round: &mut Round,
    record: &DnsRecord,
    want: &BTreeSet<String>,
    seen: Vec<Sighting>,
) {
    let title = record.title();
    let mut answered = false;
    for Sighting { server, seen } in seen {
        round.agreeing.1 += 1;
        match seen {
            Ok(set) if &set.values == want => {
                answered = true;
                round.agreeing.0 += 1;
            }
            Ok(set) => {
                answered = true;
                let holds = rrset::described(&set);
                round
                    .differing
                    .push(format!("{title}: {server} holds {holds}"));
            }
            Err(reason) => {
                round
                    .silent
                    .insert(format!("{server} does not tell: {reason}"));
            }
        }
    }
    if !answered {
        round.unseen.push(title);
    }
}

fn note_resolvers(
    round: &mut Round,
    behind: &mut BTreeSet<String>,
    want: &BTreeSet<String>,
    seen: Vec<Sighting>,
) {
    for Sighting { server, seen } in seen {
        match seen {
            Ok(set) if &set.values == want => {}
            Ok(set) => {
                round.left = round.left.max(Some(set.ttl));
                behind.insert(server);
            }
            Err(_) => {
                behind.insert(server);
            }
        }
    }
}

/// What is left of the TTL that the records had when they were changed, by the facts of the step that did it.
fn left_of_old_ttl(step: &StepContext, now: Time) -> Option<u32> {
    step.facts
        .iter()
        .filter_map(|(key, at)| {
            let id = key.strip_suffix(CHANGED_AT)?;
            let at = Time::parse(at).ok()?;
            let ttl: u64 = step.facts.get(&format!("{id}{OLD_TTL}"))?.parse().ok()?;
            let gone = at.after(Span::from_secs(ttl));
            // Rounded up: one second too many is a small lie, one too few a large one.
            u32::try_from(gone.since(now).as_millis().div_ceil(1000)).ok()
        })
        .max()
}
