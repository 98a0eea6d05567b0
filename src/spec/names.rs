//! The names that users follow: zone, records and their values at each site.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    code::Code,
    path::FieldPath,
    place::is_host_name,
    scope::{Family, Scope},
    service::{DnsRecordSpec, DnsSpec, ProtectedServiceSpec, SiteSpec},
};
use crate::model::{
    id::{KindName, SiteName},
    plan::Uses,
    service::{Dns, DnsRecord, RecordKind},
    span::Span,
};

/// The longest TTL that RFC 2181 allows, 2^31 - 1 s.
const LONGEST_TTL: Span = Span::from_secs(2_147_483_647);

/// DNS after its checks.
pub fn dns(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> Option<Dns> {
    let said = spec.dns.as_ref()?;
    let path = FieldPath::spec().key("dns");
    let kind = scope.uses(
        Family::Dns,
        &said.provider.uses,
        &said.provider.with,
        &path.key("provider"),
    );
    let with = said.provider.with.value();
    let propagation = kind.map_or(Span::ZERO, |kind| (kind.propagation)(&with));
    if !is_host_name(&said.zone) {
        let complaint = scope
            .about(
                Code::Dns,
                path.key("zone"),
                format!("`{}` is no zone", said.zone),
            )
            .expected("a name such as example.com");
        scope.add(complaint);
    }
    let zone = absolute(&said.zone);
    ttl(scope, spec, said, propagation, &path);
    let list = path.key("records");
    if said.records.is_empty() {
        let complaint = scope
            .about(
                Code::MissingField,
                list.clone(),
                "there is nothing to repoint",
            )
            .expected("at least one record");
        scope.add(complaint.on_key());
    }
    let records: Vec<_> = said
        .records
        .iter()
        .enumerate()
        .map(|(n, r)| record(scope, spec, r, &zone, &list.index(n)))
        .collect();
    distinct(scope, &records, &list);
    for (name, servers) in [
        ("resolvers", &said.resolvers),
        ("authorities", &said.authorities),
    ] {
        for (n, server) in servers.iter().enumerate() {
            name_server(scope, server, &path.key(name).index(n));
        }
    }
    Some(Dns {
        provider: Uses {
            uses: KindName::new(&said.provider.uses),
            with,
        },
        zone,
        records,
        ttl: said.ttl,
        propagation,
        lower_ahead: said.lower_ahead,
        resolvers: said.resolvers.clone(),
        authorities: said.authorities.clone(),
    })
}

/// The name in lower case with its last dot.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_lowercase())
}

fn ttl(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    said: &DnsSpec,
    propagation: Span,
    path: &FieldPath,
) {
    let ttl = said.ttl;
    if !ttl.as_millis().is_multiple_of(1000) || ttl == Span::ZERO || ttl > LONGEST_TTL {
        let complaint = scope
            .about(Code::Dns, path.key("ttl"), format!("{ttl} cannot be a TTL"))
            .expected("whole seconds, 1s or longer");
        scope.add(complaint);
        return;
    }
    let rto = spec.objectives.rto;
    if ttl.saturating_add(propagation) >= rto {
        let what = if propagation.is_zero() {
            format!("a TTL of {ttl} alone takes")
        } else {
            format!("a TTL of {ttl}, and {propagation} until the zone's servers follow, take")
        };
        let at = FieldPath::spec().key("objectives").key("rto");
        let complaint = scope
            .about(
                Code::TtlAboveRto,
                path.key("ttl"),
                format!("{what} the whole RTO of {rto}"),
            )
            .hint("lower the TTL well below the RTO, or promise a longer RTO")
            .related(scope.doc, at.clone(), "the RTO")
            .rests_on(at);
        scope.add(complaint);
    }
}

fn record(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    said: &DnsRecordSpec,
    zone: &str,
    path: &FieldPath,
) -> DnsRecord {
    let name = absolute(&said.name);
    let zone_path = FieldPath::spec().key("dns").key("zone");
    let bare = zone.trim_end_matches('.');
    if !is_host_name(&said.name) {
        let complaint = scope
            .about(
                Code::Dns,
                path.key("name"),
                format!("`{}` is no host name", said.name),
            )
            .expected(format!("a whole name such as www.{bare}"));
        scope.add(complaint);
    } else if name != zone && !name.ends_with(&format!(".{zone}")) {
        let complaint = scope
            .about(
                Code::Dns,
                path.key("name"),
                format!("`{}` does not lie in the zone `{bare}`", said.name),
            )
            .expected(format!(
                "a name in it, such as {}.{bare}",
                said.name.split('.').next().unwrap_or("www")
            ))
            .rests_on(zone_path.clone());
        scope.add(complaint);
    } else if name == zone && said.kind == RecordKind::CNAME {
        let complaint = scope
            .about(
                Code::Dns,
                path.key("type"),
                "the zone's own name cannot be a CNAME",
            )
            .hint("repoint its A and AAAA records")
            .rests_on(zone_path);
        scope.add(complaint);
    }
    let known: Vec<_> = spec.sites.iter().map(|s| s.name.as_str()).collect();
    let sites = FieldPath::spec().key("sites");
    for site in said.values.keys() {
        scope.refers("site", site, &known, &path.key("values").key(site), &sites);
    }
    let mut values = BTreeMap::new();
    for (n, site) in spec.sites.iter().enumerate() {
        let of_site = values_at(scope, said, site, path, &sites.index(n));
        values.insert(SiteName::new(&site.name), of_site);
    }
    alike(scope, said, &values, path, &sites);
    DnsRecord {
        name,
        kind: said.kind,
        values,
    }
}

/// The values of a record where this site serves: its own, or the site's addresses that fit.
fn values_at(
    scope: &mut Scope<'_>,
    said: &DnsRecordSpec,
    site: &SiteSpec,
    path: &FieldPath,
    site_path: &FieldPath,
) -> Vec<String> {
    let kind = said.kind;
    let Some(own) = said.values.get(&site.name) else {
        let fitting: Vec<_> = site
            .addresses
            .iter()
            .filter_map(|a| value(kind, a))
            .collect();
        if fitting.is_empty() {
            let complaint = scope
                .about(
                    Code::Dns,
                    path.clone(),
                    format!(
                        "the record has no {kind} value for the site `{}`",
                        site.name
                    ),
                )
                .expected(format!(
                    "{} under `values.{}`, or under the site's `addresses`",
                    fits(kind),
                    site.name
                ))
                .related(scope.doc, site_path.clone(), "this site")
                .rests_on(site_path.key("addresses"));
            scope.add(complaint);
        }
        return fitting;
    };
    let at = path.key("values").key(&site.name);
    if own.is_empty() || (kind == RecordKind::CNAME && own.len() > 1) {
        let complaint = scope
            .about(
                Code::Dns,
                at.clone(),
                format!("{} values cannot be a {kind}", own.len()),
            )
            .expected(fits(kind));
        scope.add(complaint);
    }
    let mut values = Vec::new();
    for (n, text) in own.iter().enumerate() {
        if let Some(value) = value(kind, text) {
            values.push(value);
        } else {
            let complaint = scope
                .about(
                    Code::Dns,
                    at.index(n),
                    format!("`{text}` cannot stand in a record of type {kind}"),
                )
                .expected(fits(kind));
            scope.add(complaint);
        }
    }
    values
}

/// A value in the form that DNS answers it; none where it does not fit the type.
fn value(kind: RecordKind, text: &str) -> Option<String> {
    let address = text.parse::<IpAddr>().ok();
    match (kind, address) {
        (RecordKind::A, Some(IpAddr::V4(v4))) => Some(v4.to_string()),
        (RecordKind::AAAA, Some(IpAddr::V6(v6))) => Some(v6.to_string()),
        (RecordKind::CNAME, None) if is_host_name(text) => Some(absolute(text)),
        (RecordKind::A | RecordKind::AAAA | RecordKind::CNAME, _) => None,
    }
}

const fn fits(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::A => "IPv4 addresses",
        RecordKind::AAAA => "IPv6 addresses",
        RecordKind::CNAME => "one host name",
    }
}

/// A record that reads the same at two sites would repoint nobody.
fn alike(
    scope: &mut Scope<'_>,
    said: &DnsRecordSpec,
    values: &BTreeMap<SiteName, Vec<String>>,
    path: &FieldPath,
    sites: &FieldPath,
) {
    let mut seen: BTreeMap<Vec<String>, &SiteName> = BTreeMap::new();
    for (site, of_site) in values.iter().filter(|(_, v)| !v.is_empty()) {
        let mut sorted = of_site.clone();
        sorted.sort();
        if let Some(other) = seen.insert(sorted, site) {
            let complaint = scope
                .about(
                    Code::Dns,
                    path.clone(),
                    format!(
                        "`{}` has the same {} value at `{other}` and `{site}`: repointing it would change nothing",
                        said.name, said.kind
                    ),
                )
                .hint("give each site its own address, or leave the record out")
                .rests_on(sites.clone());
            scope.add(complaint);
        }
    }
}

fn distinct(scope: &mut Scope<'_>, records: &[DnsRecord], list: &FieldPath) {
    for (n, record) in records.iter().enumerate() {
        let other = records[..n].iter().position(|r| {
            r.name == record.name
                && (r.kind == record.kind
                    || r.kind == RecordKind::CNAME
                    || record.kind == RecordKind::CNAME)
        });
        let Some(m) = other else { continue };
        let (code, message) = if records[m].kind == record.kind {
            (
                Code::Duplicate,
                format!(
                    "there is already a {} record `{}`",
                    record.kind, record.name
                ),
            )
        } else {
            (
                Code::Dns,
                format!("`{}` cannot be a CNAME and something else", record.name),
            )
        };
        let complaint = scope.about(code, list.index(n), message).related(
            scope.doc,
            list.index(m),
            "the first one",
        );
        scope.add(complaint);
    }
}

fn name_server(scope: &mut Scope<'_>, server: &str, path: &FieldPath) {
    if server.parse::<IpAddr>().is_err() && server.parse::<SocketAddr>().is_err() {
        let complaint = scope
            .about(Code::BadValue, path.clone(), format!("`{server}` is no address of a DNS server"))
            .expected("an IP address, with a port where it is not 53: 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353");
        scope.add(complaint);
    }
}
