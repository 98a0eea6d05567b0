//! The TTL is lowered ahead of need, and raised again when the documents no longer ask for it.

use super::fitting::Fitting;
use crate::{
    decide::{core::Core, event::Trouble},
    port::dns::{RecordSet, SharedDns, Swap},
};

/// Brings the TTL of a service's records to what its documents ask for. Values are never changed here. What is
/// about to be done is told to `note` first, then what was done.
pub async fn keep(core: &Core, fitting: &Fitting, note: impl Fn(Trouble)) {
    let (Some(dns), Some(provider)) = (&core.service().dns, &fitting.wiring().dns) else {
        return;
    };
    if core.state().run.is_some() {
        return;
    }
    for record in &dns.records {
        let found = match provider.read(&record.name, record.kind).await {
            Ok(found) if !found.values.is_empty() => found,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(name = %record.name, %error, "the TTL could not be compared");
                continue;
            }
        };
        let before = core.state().ttl_before.get(&record.name).copied();
        let Some(to) = wanted(
            found.ttl,
            seconds(dns.ttl),
            provider.shortest_ttl(),
            dns.lower_ahead,
            before,
        ) else {
            continue;
        };
        change(provider, record, &found, to, &note).await;
    }
}

fn seconds(span: crate::model::span::Span) -> u32 {
    u32::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// The TTL that a record shall get; none where it stays. `before` is what it was when the controller lowered it.
fn wanted(found: u32, ready: u32, shortest: u32, lower: bool, before: Option<u32>) -> Option<u32> {
    let ready = ready.max(shortest);
    match before {
        _ if lower => (found > ready).then_some(ready),
        Some(before) => (found < before).then_some(before),
        None => None,
    }
}

async fn change(
    provider: &SharedDns,
    record: &crate::model::service::DnsRecord,
    found: &RecordSet,
    to: u32,
    note: &impl Fn(Trouble),
) {
    let told = |done| Trouble::Ttl {
        name: record.name.clone(),
        from: found.ttl,
        to,
        done,
    };
    note(told(false));
    let want = RecordSet {
        values: found.values.clone(),
        ttl: to,
    };
    match provider.swap(&record.name, record.kind, found, &want).await {
        Swap::Done => note(told(true)),
        Swap::Conflict { .. } => {
            tracing::warn!(name = %record.name, "somebody else changed the record; its TTL stays");
        }
        Swap::Refused { reason } | Swap::Unknown { reason } => {
            tracing::warn!(name = %record.name, %reason, "the TTL could not be changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowers_only_what_is_longer_and_raises_only_what_it_lowered() {
        assert_eq!(wanted(3600, 60, 1, true, None), Some(60));
        assert_eq!(wanted(3600, 20, 60, true, None), Some(60));
        assert_eq!(wanted(30, 60, 1, true, None), None);
        assert_eq!(wanted(60, 60, 1, false, Some(3600)), Some(3600));
        assert_eq!(wanted(60, 60, 1, false, None), None);
        assert_eq!(wanted(7200, 60, 1, false, Some(3600)), None);
    }
}
