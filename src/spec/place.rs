//! Sites and where data may be.

use std::net::IpAddr;

use url::Url;

use super::{
    code::Code,
    path::FieldPath,
    scope::Scope,
    service::{ProtectedServiceSpec, SiteSpec},
};
use crate::model::{
    id::SiteName,
    site::{Location, Site, SiteRole},
};

/// Africa, Antarctica, Asia, Europe, North America, Oceania, South America.
const CONTINENTS: [&str; 7] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"];

/// The sites after their checks.
pub fn sites(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> Vec<Site> {
    let list = FieldPath::spec().key("sites");
    let numbered = spec.sites.iter().enumerate();
    scope.unique(
        "a site",
        numbered.map(|(n, s)| (s.name.as_str(), list.index(n).key("name"))),
    );
    roles(scope, &spec.sites, &list);
    for (n, site) in spec.sites.iter().enumerate() {
        let path = list.index(n);
        scope.label(&site.name, &path.key("name"));
        location(scope, &site.location, &path.key("location"));
        if let Some(url) = &site.url {
            web_address(scope, url, &path.key("url"));
        }
        addresses(scope, site, &path.key("addresses"));
    }
    residency(scope, spec, &list);
    spec.sites
        .iter()
        .map(|s| Site {
            name: SiteName::new(&s.name),
            role: s.role,
            location: s.location.clone(),
            addresses: s.addresses.clone(),
            url: s.url.clone(),
        })
        .collect()
}

fn roles(scope: &mut Scope<'_>, sites: &[SiteSpec], list: &FieldPath) {
    let mut primaries = sites
        .iter()
        .enumerate()
        .filter(|(_, s)| s.role == SiteRole::Primary)
        .map(|(n, _)| list.index(n).key("role"));
    let complaint = match (primaries.next(), primaries.next()) {
        (None, _) => Some(
            scope
                .about(Code::Roles, list.clone(), "no site is the primary")
                .expected("exactly one site with `role: primary`")
                .on_key(),
        ),
        (Some(first), Some(second)) => Some(
            scope
                .about(Code::Roles, second, "there is a second primary")
                .expected("exactly one site with `role: primary`")
                .related(scope.doc, first, "the first one"),
        ),
        (Some(_), None) => None,
    };
    if let Some(complaint) = complaint {
        scope.add(complaint.rests_on(list.clone()));
    }
    if !sites.iter().any(|s| s.role == SiteRole::Standby) {
        let complaint = scope
            .about(Code::Roles, list.clone(), "no site is a standby")
            .expected("at least one site with `role: standby`")
            .on_key();
        scope.add(complaint);
    }
}

/// Checks the codes of a place.
pub fn location(scope: &mut Scope<'_>, said: &Location, path: &FieldPath) {
    if let Some(country) = &said.country {
        country_code(scope, country, &path.key("country"));
    }
    if let Some(continent) = &said.continent
        && !CONTINENTS.contains(&continent.as_str())
    {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("continent"),
                format!("`{continent}` is no continent"),
            )
            .expected(CONTINENTS.join(", "));
        scope.add(complaint);
    }
}

/// Checks a country's code.
pub fn country_code(scope: &mut Scope<'_>, country: &str, path: &FieldPath) {
    if country.len() != 2 || !country.bytes().all(|b| b.is_ascii_uppercase()) {
        let complaint = scope
            .about(
                Code::BadValue,
                path.clone(),
                format!("`{country}` is no country code"),
            )
            .expected("two capital letters of ISO 3166-1, such as ZA or GB");
        scope.add(complaint);
    }
}

/// Checks that a text is an address that a browser opens.
pub fn web_address(scope: &mut Scope<'_>, url: &str, path: &FieldPath) {
    let fits = Url::parse(url).is_ok_and(|u| {
        matches!(u.scheme(), "http" | "https") && u.has_host() && u.username().is_empty()
    });
    if !fits {
        let complaint = scope
            .about(
                Code::BadValue,
                path.clone(),
                "this is no address that a browser opens",
            )
            .expected("an http or https URL such as https://standby.example.com/");
        scope.add(complaint);
    }
}

fn addresses(scope: &mut Scope<'_>, site: &SiteSpec, path: &FieldPath) {
    let names = site
        .addresses
        .iter()
        .filter(|a| a.parse::<IpAddr>().is_err())
        .count();
    if names > 0 && site.addresses.len() > 1 {
        let complaint = scope
            .about(
                Code::BadValue,
                path.clone(),
                "a host name cannot stand beside other addresses",
            )
            .expected("IP addresses, or just one host name");
        scope.add(complaint);
        return;
    }
    for (n, address) in site.addresses.iter().enumerate() {
        if address.parse::<IpAddr>().is_err() && !is_host_name(address) {
            let complaint = scope
                .about(
                    Code::BadValue,
                    path.index(n),
                    format!("`{address}` is neither an IP address nor a host name"),
                )
                .expected("an IP address such as 192.0.2.10, or one host name; no port, no URL");
            scope.add(complaint);
        }
    }
}

/// Whether a text is a host name, with or without its last dot.
pub fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_part = |part: &str| {
        (1..=63).contains(&part.len())
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253
        && name.split('.').all(is_part)
        && !name
            .rsplit('.')
            .next()
            .is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit()))
}

fn residency(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec, list: &FieldPath) {
    let Some(residency) = &spec.residency else {
        return;
    };
    let path = FieldPath::spec().key("residency").key("countries");
    if residency.countries.is_empty() {
        let complaint = scope
            .about(Code::BadValue, path.clone(), "data may be nowhere")
            .expected("at least one country, or no `residency` at all");
        scope.add(complaint);
        return;
    }
    for (n, country) in residency.countries.iter().enumerate() {
        country_code(scope, country, &path.index(n));
    }
    for (n, site) in spec.sites.iter().enumerate() {
        let at = list.index(n);
        let complaint = match &site.location.country {
            None => scope
                .about(
                    Code::NoCountry,
                    at,
                    format!("nobody knows in which country `{}` stands", site.name),
                )
                .hint("add `location: {country: XX}`: data may only be in the countries of `residency`"),
            Some(country) if !residency.countries.contains(country) => scope
                .about(
                    Code::Residency,
                    at.key("location").key("country"),
                    format!("`{}` stands in {country}, where data may not be", site.name),
                )
                .expected(residency.countries.join(" or "))
                .related(scope.doc, path.clone(), "data may only be here"),
            Some(_) => continue,
        };
        scope.add(complaint.rests_on(path.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_host_names_from_other_text() {
        for name in [
            "standby.example.com",
            "a.example.com.",
            "x",
            "_dmarc.example.com",
        ] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", "10.0.0", "https://x", "a..b", "-a.b", "a b", "x:80"] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
