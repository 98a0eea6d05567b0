//! What `failover check` finds out about a service's DNS without changing anything.

use hickory_proto::rr::Name;

use super::{
    live::{self, Audience, Server, Sighting},
    repoint::wanted_ttl,
    rrset,
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        service::{Dns, DnsRecord, RecordKind, Service},
        site::Site,
        span::Span,
    },
    port::dns::SharedDns,
};

/// Whether the provider lets us in, and holds the active site's values.
pub async fn provider(service: &Service, provider: &SharedDns, active: &Site) -> Vec<CheckItem> {
    let Some(dns) = &service.dns else {
        return Vec::new();
    };
    let mut items: Vec<CheckItem> = Vec::new();
    for record in &dns.records {
        for item in provider.check(&record.name, record.kind).await {
            // What holds for all records alike is said once.
            if !items.contains(&item) {
                items.push(item);
            }
        }
        items.push(holds(record, provider, active).await);
    }
    items
}

async fn holds(record: &DnsRecord, provider: &SharedDns, active: &Site) -> CheckItem {
    let name = item_name("dns/records", record);
    let title = format!("{} {}", record.name, record.kind);
    let wanted = match rrset::of_site(record, &active.name) {
        Ok(wanted) => wanted,
        Err(e) => {
            return CheckItem::bad(
                name,
                CheckStatus::Fail,
                e.to_string(),
                "name the record's values for every site",
            );
        }
    };
    match provider.read(&record.name, record.kind).await {
        Ok(found) if found.values == wanted => CheckItem::ok(
            name,
            format!(
                "{title} leads to {}: {}",
                active.name,
                rrset::described(&found)
            ),
        ),
        Ok(found) => CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!(
                "{title} holds {}, but {} serves with {}: a repointing would refuse to touch it",
                rrset::described(&found),
                active.name,
                rrset::listed(&wanted)
            ),
            "correct the record, or the values of the site in the document",
        ),
        Err(e) => CheckItem::bad(
            name,
            CheckStatus::Unknown,
            format!("{title} cannot be read: {}", e.reason),
            "make the DNS provider reachable from this host",
        ),
    }
}

/// Whether the authoritative servers all answer and agree with the provider, how long the live TTL is, and whether
/// names have addresses of the other family that nobody repoints.
pub async fn live(service: &Service, provider: &SharedDns, active: &Site) -> Vec<CheckItem> {
    let Some(dns) = &service.dns else {
        return Vec::new();
    };
    let servers = match live::authorities(dns).await {
        Ok(servers) => servers,
        Err(e) => {
            return vec![CheckItem::bad(
                "dns/authorities",
                CheckStatus::Unknown,
                e.to_string(),
                "name the servers in dns.authorities, or resolvers in dns.resolvers",
            )];
        }
    };
    let mut items = Vec::new();
    for record in &dns.records {
        let Ok(name) = rrset::name(&record.name) else {
            continue;
        };
        match provider.fronted(&record.name, record.kind).await {
            Some(why) => items.push(CheckItem::bad(
                item_name("dns/authorities", record),
                CheckStatus::Warn,
                format!("{} {}: {why}", record.name, record.kind),
                "nothing, if that is wanted: the cut-over is then seen at the provider and at the origin only",
            )),
            None => items.extend(record_live(service, dns, provider, active, record, &name, &servers).await),
        }
        items.extend(other_family(dns, record, &name, &servers).await);
    }
    items
}

async fn record_live(
    service: &Service,
    dns: &Dns,
    provider: &SharedDns,
    active: &Site,
    record: &DnsRecord,
    name: &Name,
    servers: &[Server],
) -> Vec<CheckItem> {
    let seen = live::survey(servers, Audience::Authorities, name, record.kind).await;
    let ttl = seen
        .iter()
        .filter_map(|s| s.seen.as_ref().ok())
        .filter(|set| !set.values.is_empty())
        .map(|set| set.ttl)
        .max();
    let mut items = vec![agreement(active, record, &seen)];
    if let Some(ttl) = ttl {
        items.push(ttl_item(service, dns, provider, record, ttl));
    }
    items
}

fn agreement(active: &Site, record: &DnsRecord, seen: &[Sighting]) -> CheckItem {
    let item = item_name("dns/authorities", record);
    let title = format!("{} {}", record.name, record.kind);
    let Ok(wanted) = rrset::of_site(record, &active.name) else {
        return CheckItem::bad(
            item,
            CheckStatus::Fail,
            format!("{title} has no values for {}", active.name),
            "name the record's values for every site",
        );
    };
    let (mut differing, mut silent) = (Vec::new(), Vec::new());
    for Sighting { server, seen } in seen {
        match seen {
            Ok(set) if set.values == wanted => {}
            Ok(set) => differing.push(format!("{server} holds {}", rrset::described(set))),
            Err(reason) => silent.push(format!("{server} does not tell: {reason}")),
        }
    }
    if !differing.is_empty() {
        differing.extend(silent);
        return CheckItem::bad(
            item,
            CheckStatus::Fail,
            format!("{title}: {}", differing.join("; ")),
            "find out why these servers do not follow the provider: after a failover they would not either",
        );
    }
    if silent.len() == seen.len() {
        return CheckItem::bad(
            item,
            CheckStatus::Unknown,
            format!("{title}: {}", silent.join("; ")),
            "let this host ask the zone's servers (UDP and TCP port 53)",
        );
    }
    if !silent.is_empty() {
        return CheckItem::bad(
            item,
            CheckStatus::Warn,
            format!("{title}: {}", silent.join("; ")),
            "repair these servers, or take them out of the zone's NS records",
        );
    }
    CheckItem::ok(
        item,
        format!(
            "all {} authoritative servers give {title} {}",
            seen.len(),
            rrset::listed(&wanted)
        ),
    )
}

fn ttl_item(
    service: &Service,
    dns: &Dns,
    provider: &SharedDns,
    record: &DnsRecord,
    ttl: u32,
) -> CheckItem {
    let item = item_name("dns/ttl", record);
    let title = format!("{} {}", record.name, record.kind);
    let (live, wanted) = (
        Span::from_secs(ttl.into()),
        Span::from_secs(wanted_ttl(dns, provider).into()),
    );
    let rto = service.objectives.rto;
    let fix = "set `lowerAhead: true` in the service's dns, or lower it at the provider";
    if live > rto {
        CheckItem::bad(
            item,
            CheckStatus::Fail,
            format!("resolvers may hold {title} for {live}, longer than the whole RTO of {rto}"),
            fix,
        )
    } else if live > wanted {
        CheckItem::bad(
            item,
            CheckStatus::Warn,
            format!(
                "resolvers may hold {title} for {live}, {} longer than the document has it",
                live.saturating_sub(wanted)
            ),
            fix,
        )
    } else if wanted > dns.ttl {
        CheckItem::bad(
            item,
            CheckStatus::Warn,
            format!("{title} lives for {live}: the provider takes no TTL below {wanted}"),
            format!(
                "write ttl: {wanted} in the service's dns, so that the forecast counts with it"
            ),
        )
    } else {
        CheckItem::ok(
            item,
            format!("resolvers hold {title} for at most {live} of the RTO of {rto}"),
        )
    }
}

/// Addresses of the other family that no record of the service repoints: half of the users would stay behind.
async fn other_family(
    dns: &Dns,
    record: &DnsRecord,
    name: &Name,
    servers: &[Server],
) -> Option<CheckItem> {
    let other = match record.kind {
        RecordKind::A => RecordKind::AAAA,
        RecordKind::AAAA => RecordKind::A,
        RecordKind::CNAME => return None,
    };
    let repointed = dns
        .records
        .iter()
        .any(|r| r.kind == other && rrset::name(&r.name).as_ref() == Ok(name));
    if repointed {
        return None;
    }
    let seen = live::survey(servers, Audience::Authorities, name, other).await;
    let values: std::collections::BTreeSet<String> = seen
        .into_iter()
        .filter_map(|s| s.seen.ok())
        .flat_map(|set| set.values)
        .collect();
    if values.is_empty() {
        return None;
    }
    Some(CheckItem::bad(
        item_name("dns/other-family", record),
        CheckStatus::Fail,
        format!(
            "{name} also has {other} records ({}) that a failover would leave where they are",
            rrset::listed(&values)
        ),
        format!("add the {other} record with its values per site to the service's dns"),
    ))
}

/// `dns/ttl/app.example.com/A`.
fn item_name(what: &str, record: &DnsRecord) -> String {
    format!(
        "{what}/{}/{}",
        record.name.trim_end_matches('.'),
        record.kind
    )
}
