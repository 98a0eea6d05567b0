//! Whether a failover could go on with nothing of the primary site left.

mod mount;

use std::{
    collections::BTreeSet,
    net::{IpAddr, UdpSocket},
    path::{Path, PathBuf},
};

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        plan::{Action as Doing, Plan, StepPhase, Uses},
        secret::SecretRef,
        service::Service,
        site::Site,
    },
    port::{endpoint, kind::Kinds, postgres::Conninfo},
};

/// What of this process a failover also needs, besides what the documents name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Where the journal is copied to, and the hosts of that.
    pub copy: Option<(String, Vec<String>)>,
    /// Files and folders that are read or written in a failover, each with what it is.
    pub files: Vec<(String, PathBuf)>,
    /// Where file systems are mounted, as `/proc/self/mountinfo` has it.
    pub mounts: String,
    /// The servers that this host asks for names, as `/etc/resolv.conf` has it.
    pub resolvers: String,
}

impl Outside {
    /// What this host says, with the files that documents name.
    #[must_use]
    pub fn of_host(service: &Service, state: &Path, copy: Option<(&str, &[String])>) -> Self {
        let secrets = super::readiness::references(service).into_keys();
        let secrets = secrets.filter_map(|reference| match reference {
            SecretRef::File(path) => Some((format!("the secret {path}"), PathBuf::from(path))),
            SecretRef::Env(_) | SecretRef::SecretRef(_) => None,
        });
        let own = ("the controller's state".to_owned(), state.to_owned());
        let folders = service.publication.iter().flat_map(|p| &p.targets);
        let folders = folders.filter_map(|t| {
            let path = t.with.get("path")?.as_str()?;
            Some((format!("the status page in {path}"), PathBuf::from(path)))
        });
        Self {
            copy: copy.map(|(name, hosts)| (name.to_owned(), hosts.to_vec())),
            files: secrets.chain(folders).chain([own]).collect(),
            // Where they cannot be read there is nothing to be found in them.
            mounts: std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            resolvers: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        }
    }
}

/// Compares what of this process a failover also needs with the primary's addresses: the journal's copy, files on
/// file systems of other hosts, and the servers that names are asked of.
pub async fn outside(service: &Service, plan: &Plan, outside: &Outside) -> Vec<CheckItem> {
    let Some(from) = service.site(&plan.from) else {
        return Vec::new();
    };
    let primary = primary_hosts(service, from).await;
    let mut found = Vec::new();
    if let Some((name, hosts)) = &outside.copy {
        found.extend(
            hosts
                .iter()
                .map(|h| (format!("the journal's copy {name}"), h.clone())),
        );
    }
    for (what, path) in &outside.files {
        if let Some(host) = mount::host(&outside.mounts, path) {
            found.push((
                format!("{what}, on a file system that is mounted from {host},"),
                host,
            ));
        }
    }
    let mut items = Vec::new();
    for (what, host) in found {
        items.extend(item(&what, &host, from, &primary).await);
    }
    items.extend(resolvers(&outside.resolvers, from, &primary));
    items
}

/// Names are looked up in every step; a server that does not answer costs seconds each time, the only one all of them.
fn resolvers(conf: &str, from: &Site, primary: &BTreeSet<IpAddr>) -> Option<CheckItem> {
    let servers: Vec<IpAddr> = conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
        .collect();
    let lost: Vec<_> = servers.iter().filter(|ip| primary.contains(ip)).collect();
    let first = lost.first()?;
    let (status, what) = if lost.len() == servers.len() {
        (CheckStatus::Fail, "and no other one is there")
    } else {
        (CheckStatus::Warn, "each look-up then waits for another one")
    };
    Some(CheckItem::bad(
        NAME,
        status,
        format!(
            "this host asks {first} for names, which is the primary site {}: {what}",
            from.name
        ),
        "name resolvers elsewhere in /etc/resolv.conf",
    ))
}

const NAME: &str = "independence";

/// An item where a host is the primary's, or cannot be resolved.
async fn item(
    what: &str,
    host: &str,
    from: &Site,
    primary: &BTreeSet<IpAddr>,
) -> Option<CheckItem> {
    match depends(host, primary).await {
        Some(false) => None,
        Some(true) => Some(CheckItem::bad(
            NAME,
            CheckStatus::Fail,
            format!(
                "{what} connects to {host}, which is the primary site {}",
                from.name
            ),
            "use something that is up when the primary is not",
        )),
        None => Some(CheckItem::bad(
            NAME,
            CheckStatus::Unknown,
            format!("{what} connects to {host}, which cannot be resolved"),
            "correct the name, or see that this host can resolve it without the primary",
        )),
    }
}

/// What users are led to, by URL: nobody connects to it from here, but it must not be the primary's.
async fn shown(
    service: &Service,
    plan: &Plan,
    from: &Site,
    primary: &BTreeSet<IpAddr>,
) -> Vec<CheckItem> {
    let page = service.publication.iter().filter_map(|p| p.url.as_ref());
    let page = page.map(|url| ("the status page", url));
    let to = service.site(&plan.to);
    let to = to.into_iter().filter_map(|s| s.url.as_ref());
    let to = to.map(|url| ("the address of the site that takes over", url));
    let mut items = Vec::new();
    for (what, url) in page.chain(to) {
        let Some(host) = endpoint::host(url) else {
            continue;
        };
        // A name that is not known here may be known to users.
        if depends(&host, primary).await == Some(true) {
            items.push(CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                format!("{what}, {url}, is at the primary site {}", from.name),
                "let it stand where the primary's end does not reach it",
            ));
        }
    }
    items
}

/// The servers of the zone: where all of them are the primary's, the new address is in no answer.
async fn authorities(
    service: &Service,
    from: &Site,
    primary: &BTreeSet<IpAddr>,
) -> Option<CheckItem> {
    let dns = service.dns.as_ref()?;
    let servers = crate::dns::live::authorities(dns).await.ok()?;
    let mut lost = Vec::new();
    for server in &servers {
        let mut all = true;
        for endpoint in &server.endpoints {
            all &= depends(&endpoint.host, primary).await == Some(true);
        }
        if all {
            lost.push(&server.label);
        }
    }
    let first = lost.first()?;
    let (status, what) = if lost.len() == servers.len() {
        (
            CheckStatus::Fail,
            "without it nobody can look the new address up",
        )
    } else {
        (CheckStatus::Warn, "look-ups are slower without it")
    };
    Some(CheckItem::bad(
        NAME,
        status,
        format!(
            "the zone {} is answered for by {first}, which is the primary site {}: {what}",
            dns.zone, from.name
        ),
        "let servers outside the primary site answer for the zone",
    ))
}

/// Compares the hosts of whatever runs after the fence, of the fences that prove something, and this host itself, with
/// the primary's addresses. A fence that proves nothing speaks to the primary as long as it answers.
pub async fn check(service: &Service, kinds: Kinds, plan: &Plan) -> Vec<CheckItem> {
    let Some(from) = service.site(&plan.from) else {
        return Vec::new();
    };
    let primary = primary_hosts(service, from).await;
    let mut items = Vec::new();
    items.extend(own_place(from, &primary));
    items.extend(shown(service, plan, from, &primary).await);
    items.extend(authorities(service, from, &primary).await);
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
    let chat = service.team.chat.iter();
    let chat = chat.map(|uses| ("the team's chat".to_owned(), uses));
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
        .chain(chat)
        .chain(targets)
        .chain(provider)
    {
        let hosts = kinds
            .get(uses.uses.as_str())
            .map(|k| (k.hosts)(&uses.with))
            .unwrap_or_default();
        for host in hosts.into_iter().collect::<BTreeSet<_>>() {
            items.extend(item(&what, &host, from, &primary).await);
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
        items.push(CheckItem::ok(NAME, detail));
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
        NAME,
        CheckStatus::Fail,
        format!(
            "this controller runs at {own}, an address of the primary site {}: it dies with it",
            from.name
        ),
        "run the controller at the standby site or in a third place",
    ))
}

/// The addresses that are the site's: its own, its guard's, and those of the databases that probes look at there.
/// Loopback is every site's own: it tells nothing.
async fn primary_hosts(service: &Service, site: &Site) -> BTreeSet<IpAddr> {
    let mut out = BTreeSet::new();
    let guard = service
        .guards
        .as_ref()
        .and_then(|g| g.sites.get(&site.name));
    out.extend(guard.map(|g| g.address.ip()));
    let probes = service.components.iter().flat_map(|c| &c.probes);
    for probe in probes.filter(|p| p.site.as_ref() == Some(&site.name)) {
        let connection = probe.action.with.get("connection").and_then(|c| c.as_str());
        let connection = connection.and_then(|c| c.parse::<Conninfo>().ok());
        for host in connection.iter().flat_map(Conninfo::hosts) {
            out.extend(addresses(&host).await);
        }
    }
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
