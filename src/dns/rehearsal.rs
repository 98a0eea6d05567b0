//! `drill/dns`: a name that is one drill's alone gets the standby's values, in the service's zone and with its credentials,
//! and is taken away again. It shows that the provider still takes changes, and how long all authoritative servers need to
//! give one. The name begins with the drill's id, so that no name that anybody uses is touched.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    cutover::{Cutover, CutoverWith},
    repoint::wanted_ttl,
    rrset,
};
use crate::{
    model::{
        check::CheckItem,
        plan::StepPhase,
        service::{DnsRecord, Service},
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        dns::{RecordSet, SharedDns, Swap},
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
        runtime::SharedRuntime,
    },
};

/// `drill/dns`.
pub const KIND: Kind = Kind::new::<RehearsalWith>(
    "drill/dns",
    "gives a name of the drill's own to the standby, waits for all authoritative servers, and removes it again",
    "under: drills.example.com.\n",
    Make::Action(make),
)
.in_phase(StepPhase::Traffic);

/// Time before something that was lost on the way is asked for again.
const AGAIN: Span = Span::from_secs(2);

/// Settings of `drill/dns`; the rest stands in the service's `dns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RehearsalWith {
    /// Each drill's name stands below this one, as in `shop-r41.drills.example.com`. Default: the zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<String>,
    /// Longest wait for the authoritative servers. Default: nine tenths of the step's time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<Span>,
}

impl kind::With for RehearsalWith {
    fn problems(&self) -> Vec<Problem> {
        let waits = CutoverWith {
            max_wait: self.max_wait,
            require_resolvers: 0,
        };
        waits.problems()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    let with: RehearsalWith = kind::read(with)?;
    let (Some(dns), Some(provider)) = (&wiring.service.dns, &wiring.dns) else {
        return Err(MakeError("the service names no DNS records".into()));
    };
    let Some(first) = dns.records.first() else {
        return Err(MakeError("the service names no DNS records".into()));
    };
    let wrong = |e: rrset::ValueError| MakeError(format!("with.under: {e}"));
    let zone = rrset::name(&dns.zone).map_err(wrong)?;
    let under = with.under.as_ref().unwrap_or(&dns.zone);
    Ok(Arc::new(Rehearsal {
        under: rrset::name_in(under, &zone).map_err(wrong)?.to_string(),
        max_wait: with.max_wait,
        model: first.clone(),
        ttl: wanted_ttl(dns, provider),
        service: wiring.service.clone(),
        provider: provider.clone(),
        runtime: wiring.runtime.clone(),
    }))
}

struct Rehearsal {
    under: String,
    max_wait: Option<Span>,
    /// Whose values are given.
    model: DnsRecord,
    ttl: u32,
    service: Arc<Service>,
    provider: SharedDns,
    runtime: SharedRuntime,
}

#[async_trait]
impl Action for Rehearsal {
    async fn perform(&self, step: &StepContext) -> StepResult {
        let record = self.record(step.run.as_str());
        let to = match rrset::of_site(&record, &step.to.name) {
            Ok(to) => to,
            Err(e) => return StepResult::failed(e.to_string()),
        };
        match self.replace(&record, &to, &to).await {
            StepResult::Done(_) => {}
            other @ (StepResult::Failed { .. } | StepResult::Indeterminate { .. }) => return other,
        }
        match self.cutover(&record).perform(step).await {
            StepResult::Done(proof) => {
                StepResult::Done(Proof::new(format!("{}: {}", record.title(), proof.summary)))
            }
            other @ (StepResult::Failed { .. } | StepResult::Indeterminate { .. }) => other,
        }
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let record = self.record(step.run.as_str());
        match self.provider.read(&record.name, record.kind).await {
            Ok(found) if found.values.is_empty() => {
                Presence::absent(format!("{} does not exist", record.title()))
            }
            Ok(_) => self.cutover(&record).observe(step).await,
            Err(e) => Presence::unknown(format!("{}: {}", record.title(), e.reason)),
        }
    }

    /// Nobody tries again later: what can be lost on the way is asked for until the time is over.
    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        let record = self.record(step.run.as_str());
        let own = match rrset::of_site(&record, &step.to.name) {
            Ok(own) => own,
            Err(e) => return Some(StepResult::failed(e.to_string())),
        };
        let until = self.runtime.now().after(step.timeout);
        loop {
            let result = self.replace(&record, &own, &BTreeSet::new()).await;
            let next = self.runtime.now().after(AGAIN);
            let is_unclear = matches!(result, StepResult::Indeterminate { .. });
            if !is_unclear || next >= until {
                return Some(result);
            }
            self.runtime.sleep_until(next).await;
        }
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        let record = self.record("drill");
        self.provider.check(&record.name, record.kind).await
    }
}

impl Rehearsal {
    /// The record of a drill.
    fn record(&self, drill: &str) -> DnsRecord {
        DnsRecord {
            name: format!("{drill}.{}", self.under),
            ..self.model.clone()
        }
    }

    /// The wait of a failover, for this record.
    fn cutover(&self, record: &DnsRecord) -> Cutover {
        let mut service = Service::clone(&self.service);
        if let Some(dns) = &mut service.dns {
            dns.records = vec![record.clone()];
        }
        let waits = CutoverWith {
            max_wait: self.max_wait,
            require_resolvers: 0,
        };
        let (provider, runtime) = (self.provider.clone(), self.runtime.clone());
        Cutover::new(waits, Arc::new(service), provider, runtime)
    }

    /// Puts these values there, where nothing stands but what this drill put there.
    async fn replace(
        &self,
        record: &DnsRecord,
        own: &BTreeSet<String>,
        values: &BTreeSet<String>,
    ) -> StepResult {
        let (name, kind, title) = (&record.name, record.kind, record.title());
        let found = match self.provider.read(name, kind).await {
            Ok(found) => found,
            Err(e) => return StepResult::indeterminate(format!("{title}: {}", e.reason)),
        };
        if found.values == *values {
            return StepResult::done(format!("{title}: {}", rrset::described(&found)));
        }
        if !found.values.is_empty() && found.values != *own {
            return StepResult::failed(format!(
                "{title} holds {}, which this drill did not put there: somebody else changed it",
                rrset::described(&found)
            ));
        }
        let want = RecordSet {
            values: values.clone(),
            ttl: if values.is_empty() { 0 } else { self.ttl },
        };
        match self.provider.swap(name, kind, &found, &want).await {
            Swap::Done => StepResult::done(format!("{title}: {}", rrset::described(&want))),
            Swap::Conflict { found } => StepResult::failed(format!(
                "{title}: somebody else changes it at the same time; it holds {} now",
                rrset::described(&found)
            )),
            Swap::Refused { reason } => StepResult::failed(format!("{title}: {reason}")),
            Swap::Unknown { reason } => StepResult::indeterminate(format!("{title}: {reason}")),
        }
    }
}
