//! Whether a failover could go on with nothing of the primary site left.

use std::{
    collections::BTreeSet,
    net::{IpAddr, UdpSocket},
};

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        plan::{Action as Doing, Plan, StepPhase, Uses},
        service::Service,
        site::Site,
    },
    port::kind::Kinds,
};

/// Compares the hosts of whatever runs after the fence, of the fences that prove something, and this host itself, with
/// the primary's addresses. A fence that proves nothing speaks to the primary as long as it answers.
pub async fn check(service: &Service, kinds: Kinds, plan: &Plan) -> Vec<CheckItem> {
    let Some(from) = service.site(&plan.from) else {
        return Vec::new();
    };
    let primary = primary_hosts(from).await;
    let mut items = Vec::new();
    items.extend(own_place(from, &primary));
    let steps = plan
        .steps
        .iter()
        .filter_map(|s| match &s.action {
            Doing::Adapter(uses) => Some((s, uses)),
            Doing::Manual { .. } => None,
        })
        .filter(|(s, uses)| s.phase > StepPhase::Fence || proves(kinds, uses))
        .map(|(s, uses)| (format!("step {}", s.id), uses));
    let customers = service
        .announcements
        .channels
        .iter()
        .map(|c| (format!("channel {}", c.name), &c.action));
    let team = service
        .team
        .channels
        .iter()
        .map(|c| (format!("team channel {}", c.name), &c.action));
    let targets = service
        .publication
        .iter()
        .flat_map(|p| &p.targets)
        .map(|t| ("the status page".to_owned(), t));
    let provider = service
        .dns
        .iter()
        .map(|d| ("the DNS provider".to_owned(), &d.provider));
    for (what, uses) in steps
        .chain(customers)
        .chain(team)
        .chain(targets)
        .chain(provider)
    {
        let hosts = kinds
            .get(uses.uses.as_str())
            .map(|k| (k.hosts)(&uses.with))
            .unwrap_or_default();
        for host in hosts {
            match depends(&host, &primary).await {
                Some(false) => {}
                Some(true) => items.push(CheckItem::bad(
                    "independence",
                    CheckStatus::Fail,
                    format!(
                        "{what} connects to {host}, which is the primary site {}",
                        from.name
                    ),
                    "use something that is up when the primary is not",
                )),
                None => items.push(CheckItem::bad(
                    "independence",
                    CheckStatus::Unknown,
                    format!("{what} connects to {host}, which cannot be resolved"),
                    "correct the name, or see that this host can resolve it without the primary",
                )),
            }
        }
    }
    if items.is_empty() {
        let mut detail = format!("nothing after the fence connects to {}", from.name);
        let commands = commands(plan);
        if !commands.is_empty() {
            detail = format!(
                "{detail}; what these commands reach cannot be told: {}",
                commands.join(", ")
            );
        }
        items.push(CheckItem::ok("independence", detail));
    }
    items
}

/// Whether this adapter can prove a fence.
fn proves(kinds: Kinds, uses: &Uses) -> bool {
    kinds
        .get(uses.uses.as_str())
        .is_some_and(|k| k.rung.is_some())
}

/// Steps after the fence that run programs: no document says whom they connect to.
fn commands(plan: &Plan) -> Vec<&str> {
    plan.steps
        .iter()
        .filter(|s| s.phase > StepPhase::Fence)
        .filter(|s| s.action.kind().is_some_and(|k| k.starts_with("command/")))
        .map(|s| s.id.as_str())
        .collect()
}

/// A controller on a host of the primary site dies with it.
fn own_place(from: &Site, primary: &BTreeSet<IpAddr>) -> Option<CheckItem> {
    // Only an address of this host can be bound.
    let own = primary
        .iter()
        .find(|ip| UdpSocket::bind((**ip, 0)).is_ok())?;
    Some(CheckItem::bad(
        "independence",
        CheckStatus::Fail,
        format!(
            "this controller runs at {own}, an address of the primary site {}: it dies with it",
            from.name
        ),
        "run the controller at the standby site or in a third place",
    ))
}

/// Loopback is every site's own: it tells nothing.
async fn primary_hosts(site: &Site) -> BTreeSet<IpAddr> {
    let mut out = BTreeSet::new();
    let url = site
        .url
        .as_deref()
        .and_then(|u| url::Url::parse(u).ok())
        .and_then(|u| u.host_str().map(str::to_owned));
    for host in site.addresses.iter().cloned().chain(url) {
        out.extend(addresses(&host).await);
    }
    out.retain(|ip| !ip.is_loopback());
    out
}

/// Whether a host is the primary's; none where its name cannot be resolved.
async fn depends(host: &str, primary: &BTreeSet<IpAddr>) -> Option<bool> {
    let found = addresses(host).await;
    (!found.is_empty()).then(|| found.iter().any(|ip| primary.contains(ip)))
}

async fn addresses(host: &str) -> Vec<IpAddr> {
    if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
        return vec![ip];
    }
    match tokio::net::lookup_host((host, 0)).await {
        Ok(found) => found.map(|a| a.ip()).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::site::{Location, SiteRole};

    fn primary() -> Site {
        Site {
            name: "ham".into(),
            role: SiteRole::Primary,
            location: Location::default(),
            addresses: Vec::new(),
            url: None,
        }
    }

    #[test]
    fn a_controller_at_the_primary_site_is_told_of() {
        // Loopback stands for an address of this host; outside tests it is left out.
        let here = BTreeSet::from(["127.0.0.1".parse().unwrap()]);
        let item = own_place(&primary(), &here).unwrap();
        assert_eq!(item.status, CheckStatus::Fail);
        assert!(item.detail.contains("runs at 127.0.0.1"), "{}", item.detail);
    }

    #[test]
    fn a_controller_elsewhere_is_fine() {
        // RFC 5737: nobody's address.
        let there = BTreeSet::from(["192.0.2.77".parse().unwrap()]);
        assert!(own_place(&primary(), &there).is_none());
    }
}
