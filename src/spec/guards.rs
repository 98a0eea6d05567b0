//! The guards of a service's databases.

use super::{
    code::Code,
    path::FieldPath,
    scope::Scope,
    service::{GuardSpec, GuardsSpec, ProtectedServiceSpec},
};
use crate::model::{
    id::SiteName,
    lease,
    public_key::PublicKey,
    service::{Guard, Guards},
    span::Span,
};

/// The shortest lease: below it the kernel has no time to end a database.
const SHORTEST: Span = Span::from_millis(1000);

/// The guards after their checks; none where the service has none.
pub fn guards(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> Option<Guards> {
    let said = spec.guards.as_ref()?;
    let path = FieldPath::spec().key("guards");
    scope.label(&said.controller, &path.key("controller"));
    if !(SHORTEST..=lease::LONGEST).contains(&said.lease) {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("lease"),
                format!("a lease of {} cannot be kept", said.lease),
            )
            .expected(format!(
                "{SHORTEST} (one network) to {}; 10s between regions",
                lease::LONGEST
            ));
        scope.add(complaint);
    }
    sites(scope, spec, said, &path.key("sites"));
    let sites = said.sites.iter().filter_map(|(site, guard)| {
        Some((
            SiteName::new(site),
            Guard {
                address: guard.address.parse().ok()?,
                public_key: PublicKey::parse(&guard.public_key).ok()?,
            },
        ))
    });
    Some(Guards {
        controller: said.controller.clone(),
        key: said.key.clone(),
        lease: said.lease,
        sites: sites.collect(),
    })
}

fn sites(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec, said: &GuardsSpec, list: &FieldPath) {
    let known: Vec<_> = spec.sites.iter().map(|s| s.name.as_str()).collect();
    if said.sites.is_empty() {
        let complaint = scope
            .about(Code::MissingField, list.clone(), "no site has a guard")
            .expected("the guard of each site whose database is guarded");
        scope.add(complaint.on_key());
    }
    for (site, guard) in &said.sites {
        let at = list.key(site);
        scope.refers("site", site, &known, &at, &FieldPath::parse("spec.sites"));
        if *site == said.controller {
            let complaint = scope
                .about(
                    Code::Duplicate,
                    at.clone(),
                    format!("`{site}` is what the controller is called on the guards' wire"),
                )
                .hint("give `guards.controller` another name");
            scope.add(complaint.on_key());
        }
        one(scope, guard, &at);
    }
    if said.sites.len() > 2 {
        let complaint = scope
            .about(
                Code::BadValue,
                list.clone(),
                "a lease is granted by the controller and one deputy: a third guard would have no part in it",
            )
            .expected("the guards of the primary and of the standby that would replace it");
        scope.add(complaint.on_key());
    }
    let keys = said.sites.iter();
    scope.unique(
        "a guard with the key",
        keys.map(|(site, g)| (g.public_key.as_str(), list.key(site).key("publicKey"))),
    );
    let primary = spec
        .sites
        .iter()
        .find(|s| s.role == crate::model::site::SiteRole::Primary);
    if let Some(primary) = primary.filter(|p| !said.sites.contains_key(&p.name)) {
        let complaint = scope.about(
            Code::RunbookUnfit,
            list.clone(),
            format!(
                "the primary `{}` has no guard: nothing would be guarded",
                primary.name
            ),
        );
        scope.add(complaint.on_key());
    }
}

fn one(scope: &mut Scope<'_>, guard: &GuardSpec, at: &FieldPath) {
    if guard.address.parse::<std::net::SocketAddr>().is_err() {
        let complaint = scope
            .about(
                Code::BadValue,
                at.key("address"),
                format!("`{}` is no address with a port", guard.address),
            )
            .expected(
                "an IP address and a UDP port, such as 10.0.0.1:7400; no name, since DNS may be gone when it matters",
            );
        scope.add(complaint);
    }
    if let Err(error) = PublicKey::parse(&guard.public_key) {
        let complaint = scope
            .about(Code::BadValue, at.key("publicKey"), error.to_string())
            .hint("`failover guard keygen` prints it");
        scope.add(complaint);
    }
}
