//! Record sets: from presentation form to the wire's types and back, always in one canonical spelling.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, CNAME},
};

use crate::{
    model::{
        id::SiteName,
        service::{DnsRecord, RecordKind},
    },
    port::dns::RecordSet,
};

/// Why a name or a value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The name is none.
    #[error("{0:?} is no domain name")]
    Name(String),
    /// The name lies outside of the zone.
    #[error("{name} does not lie in the zone {zone}")]
    Outside {
        /// The name.
        name: String,
        /// The zone.
        zone: String,
    },
    /// The value does not fit its type.
    #[error("{value:?} is no value of a record of type {kind}: expected {expected}")]
    Value {
        /// The value.
        value: String,
        /// The type.
        kind: RecordKind,
        /// What would fit.
        expected: &'static str,
    },
    /// More than one name, or none, where the type holds just one.
    #[error("a CNAME record holds exactly one name, not {0}")]
    Single(usize),
    /// The record has no values for this site.
    #[error("the record {record} has no values for site {site}")]
    Site {
        /// The record.
        record: String,
        /// The site.
        site: SiteName,
    },
}

/// The wire's type of a kind.
#[must_use]
pub fn record_type(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::A => RecordType::A,
        RecordKind::AAAA => RecordType::AAAA,
        RecordKind::CNAME => RecordType::CNAME,
    }
}

/// Reads an absolute name; the final dot may be left out. Always lower case.
///
/// # Errors
/// Where the text is no domain name.
pub fn name(text: &str) -> Result<Name, ValueError> {
    let mut name = Name::from_utf8(text.trim()).map_err(|_| ValueError::Name(text.to_owned()))?;
    name.set_fqdn(true);
    Ok(name.to_lowercase())
}

/// Reads a name that must lie in a zone (or be its apex).
///
/// # Errors
/// Where it does not, or is no name.
pub fn name_in(text: &str, zone: &Name) -> Result<Name, ValueError> {
    let name = name(text)?;
    if zone.zone_of(&name) {
        Ok(name)
    } else {
        Err(ValueError::Outside {
            name: name.to_string(),
            zone: zone.to_string(),
        })
    }
}

/// Reads one value in presentation form.
///
/// # Errors
/// Where it does not fit the type.
pub fn rdata(kind: RecordKind, value: &str) -> Result<RData, ValueError> {
    let wrong = |expected| ValueError::Value {
        value: value.to_owned(),
        kind,
        expected,
    };
    match kind {
        RecordKind::A => value
            .trim()
            .parse::<Ipv4Addr>()
            .map(|a| RData::A(A(a)))
            .map_err(|_| wrong("an IPv4 address such as 192.0.2.10")),
        RecordKind::AAAA => value
            .trim()
            .parse::<Ipv6Addr>()
            .map(|a| RData::AAAA(AAAA(a)))
            .map_err(|_| wrong("an IPv6 address such as 2001:db8::10")),
        RecordKind::CNAME => name(value)
            .map(|n| RData::CNAME(CNAME(n)))
            .map_err(|_| wrong("a name such as standby.example.net.")),
    }
}

/// One value in the canonical presentation form; none where it is of another type.
#[must_use]
pub fn shown(kind: RecordKind, data: &RData) -> Option<String> {
    if data.record_type() != record_type(kind) {
        return None;
    }
    if let RData::CNAME(target) = data {
        let mut target = target.0.to_lowercase();
        target.set_fqdn(true);
        return Some(target.to_ascii());
    }
    Some(data.to_string())
}

/// Values in the canonical spelling, so that `2001:DB8:0::1` and `2001:db8::1` are one.
///
/// # Errors
/// Where a value does not fit the type, or a CNAME has not exactly one.
pub fn canonical<'a>(
    kind: RecordKind,
    values: impl IntoIterator<Item = &'a String>,
) -> Result<BTreeSet<String>, ValueError> {
    let values: BTreeSet<String> = values
        .into_iter()
        .map(|v| rdata(kind, v).map(|d| shown(kind, &d).unwrap_or_default()))
        .collect::<Result<_, _>>()?;
    if kind == RecordKind::CNAME && values.len() > 1 {
        return Err(ValueError::Single(values.len()));
    }
    Ok(values)
}

/// The values that a record shall have when this site serves.
///
/// # Errors
/// Where it has none, or one does not fit.
pub fn of_site(record: &DnsRecord, site: &SiteName) -> Result<BTreeSet<String>, ValueError> {
    match record.values.get(site) {
        Some(values) if !values.is_empty() => canonical(record.kind, values),
        Some(_) | None => Err(ValueError::Site {
            record: format!("{} {}", record.name, record.kind),
            site: site.clone(),
        }),
    }
}

/// The set of this name and type among records, with the lowest TTL that is seen in it.
#[must_use]
pub fn pick<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    owner: &Name,
    kind: RecordKind,
) -> RecordSet {
    let mut values = BTreeSet::new();
    let mut ttl = None;
    for record in records {
        if &record.name == owner
            && let Some(value) = shown(kind, &record.data)
        {
            values.insert(value);
            ttl = Some(ttl.map_or(record.ttl, |t: u32| t.min(record.ttl)));
        }
    }
    RecordSet {
        values,
        ttl: ttl.unwrap_or(0),
    }
}

/// For people: `192.0.2.10, 192.0.2.11 (TTL 60 s)`, or `no such record`.
#[must_use]
pub fn described(set: &RecordSet) -> String {
    if set.values.is_empty() {
        "no such record".to_owned()
    } else {
        format!("{} (TTL {} s)", listed(&set.values), set.ttl)
    }
}

/// For people: the values, separated by commas.
#[must_use]
pub fn listed(values: &BTreeSet<String>) -> String {
    values
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str]) -> Vec<String> {
        values.iter().map(|v| (*v).to_owned()).collect()
    }

    #[test]
    fn one_spelling_for_one_value() {
        let values = canonical(RecordKind::AAAA, &set(&["2001:DB8:0::1", "2001:db8::1"]));
        assert_eq!(values, Ok(["2001:db8::1".to_owned()].into_iter().collect()));
        let values = canonical(RecordKind::CNAME, &set(&["Standby.Example.NET"]));
        assert_eq!(
            values,
            Ok(["standby.example.net.".to_owned()].into_iter().collect())
        );
    }

    #[test]
    fn a_wrong_value_names_what_would_fit() {
        let error = rdata(RecordKind::A, "2001:db8::1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"2001:db8::1\" is no value of a record of type A: expected an IPv4 address such as 192.0.2.10"
        );
        assert_eq!(
            canonical(RecordKind::CNAME, &set(&["a.example.", "b.example."])),
            Err(ValueError::Single(2))
        );
    }

    #[test]
    fn a_name_outside_of_the_zone_is_refused() {
        let zone = name("example.com.").unwrap();
        assert!(name_in("App.example.com", &zone).is_ok());
        assert!(name_in("example.com.", &zone).is_ok());
        assert!(matches!(
            name_in("app.example.org.", &zone),
            Err(ValueError::Outside { .. })
        ));
        assert!(matches!(
            name_in("notexample.com.", &zone),
            Err(ValueError::Outside { .. })
        ));
    }

    #[test]
    fn picks_only_its_name_and_type() {
        let app = name("app.example.com.").unwrap();
        let other = name("www.example.com.").unwrap();
        let a = |n: &Name, ttl, v: &str| {
            Record::from_rdata(n.clone(), ttl, rdata(RecordKind::A, v).unwrap())
        };
        let records = [
            a(&app, 60, "192.0.2.1"),
            a(&app, 30, "192.0.2.2"),
            a(&other, 5, "192.0.2.3"),
            Record::from_rdata(app.clone(), 1, rdata(RecordKind::AAAA, "::1").unwrap()),
        ];
        let set = pick(&records, &app, RecordKind::A);
        assert_eq!(listed(&set.values), "192.0.2.1, 192.0.2.2");
        assert_eq!(set.ttl, 30);
        assert_eq!(
            described(&pick(&records, &other, RecordKind::CNAME)),
            "no such record"
        );
    }
}
