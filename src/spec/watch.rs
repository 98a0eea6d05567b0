//! Who looks at what: vantage points, quorum, components and their probes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    code::Code,
    path::FieldPath,
    scope::{Family, Scope},
    service::{ComponentSpec, ProbeSpec, ProtectedServiceSpec, VantagePointSpec, ViaSpec},
};
use crate::model::{
    id::{ComponentName, KindName, NetworkName, ProbeId, SiteName, VantageName},
    observation::Evidence,
    plan::Uses,
    secret::SecretRef,
    service::{Component, Looker, Mode, Probe, Quorum, VantagePoint, Via},
    span::Span,
};

/// The vantage point where none is declared.
pub const LOCAL: &str = "local";

/// Who looks, what is looked at, and when it is enough.
pub struct Watch {
    /// Who looks.
    pub vantage_points: Vec<VantagePoint>,
    /// What is looked at.
    pub components: Vec<Component>,
    /// When it is enough.
    pub quorum: Quorum,
}

/// Everything that looks, after its checks.
pub fn watch(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> Watch {
    let vantage_points = vantage_points(scope, spec);
    let networks: BTreeSet<_> = vantage_points.iter().map(|v| v.network.clone()).collect();
    let quorum = quorum(scope, spec, networks.len());
    let list = FieldPath::spec().key("components");
    if spec.components.is_empty() {
        let complaint = scope
            .about(Code::MissingField, list.clone(), "nothing is looked at")
            .expected("at least one component");
        scope.add(complaint.on_key());
    }
    let numbered = spec.components.iter().enumerate();
    scope.unique(
        "a component",
        numbered.map(|(n, c)| (c.name.as_str(), list.index(n).key("name"))),
    );
    let components: Vec<_> = spec
        .components
        .iter()
        .enumerate()
        .map(|(n, c)| component(scope, spec, c, &vantage_points, &list.index(n)))
        .collect();
    unique_probes(scope, spec, &components, &list);
    for (n, component) in components.iter().enumerate() {
        let at = list.index(n);
        detection(scope, spec, component, &at);
        voices(scope, spec, component, &quorum, &vantage_points, &at);
    }
    Watch {
        vantage_points,
        components,
        quorum,
    }
}

fn vantage_points(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> Vec<VantagePoint> {
    if spec.vantage_points.is_empty() {
        return vec![VantagePoint {
            name: VantageName::from(LOCAL),
            network: NetworkName::from(LOCAL),
            looker: Looker::Controller(Via::Direct),
            sentinels: Vec::new(),
        }];
    }
    let list = FieldPath::spec().key("vantagePoints");
    let numbered = spec.vantage_points.iter().enumerate();
    scope.unique(
        "a vantage point",
        numbered.map(|(n, v)| (v.name.as_str(), list.index(n).key("name"))),
    );
    observers(scope, spec, &list);
    spec.vantage_points
        .iter()
        .enumerate()
        .map(|(n, v)| vantage_point(scope, spec.mode, v, &list.index(n)))
        .collect()
}

/// Checks that somebody looks on demand, and that no two observers could speak for each other.
fn observers(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec, list: &FieldPath) {
    if spec.vantage_points.iter().all(|v| v.remote.is_some()) {
        let complaint = scope
            .about(
                Code::Remote,
                list.clone(),
                "every vantage point is remote: nobody looks when a step asks whether the service works",
            )
            .hint("add one without `remote`: the controller's own, such as {name: here, network: dr}");
        scope.add(complaint.on_key());
    }
    let mut first: BTreeMap<&SecretRef, FieldPath> = BTreeMap::new();
    for (n, point) in spec.vantage_points.iter().enumerate() {
        let Some(remote) = &point.remote else {
            continue;
        };
        let at = list.index(n).key("remote").key("key");
        if let Some(taken) = first.get(&remote.key) {
            let complaint = scope
                .about(
                    Code::Remote,
                    at,
                    format!("`{}` has the key of another vantage point", point.name),
                )
                .hint("give each its own key, made with `openssl rand -hex 32`: whoever holds one could speak for both")
                .related(scope.doc, taken.clone(), "the same key")
                .rests_on(taken.clone());
            scope.add(complaint);
        } else {
            first.insert(&remote.key, at);
        }
    }
}

fn vantage_point(
    scope: &mut Scope<'_>,
    mode: Mode,
    spec: &VantagePointSpec,
    path: &FieldPath,
) -> VantagePoint {
    scope.label(&spec.name, &path.key("name"));
    scope.label(&spec.network, &path.key("network"));
    for (n, sentinel) in spec.sentinels.iter().enumerate() {
        let at = path.key("sentinels").index(n);
        scope.uses(Family::Probe, &sentinel.uses, &sentinel.with, &at);
    }
    if spec.sentinels.is_empty() && mode == Mode::Automatic {
        let complaint = scope
            .about(
                Code::NoSentinels,
                path.clone(),
                format!(
                    "`{}` cannot tell the loss of its own network from an outage",
                    spec.name
                ),
            )
            .hint("add sentinels: looks at something that is surely up and not yours");
        scope.add(complaint);
    }
    VantagePoint {
        name: VantageName::new(&spec.name),
        network: NetworkName::new(&spec.network),
        looker: looker(scope, spec, path),
        sentinels: spec
            .sentinels
            .iter()
            .map(|s| Uses {
                uses: KindName::new(&s.uses),
                with: s.with.value(),
            })
            .collect(),
    }
}

fn looker(scope: &mut Scope<'_>, spec: &VantagePointSpec, path: &FieldPath) -> Looker {
    let way = via(scope, spec.via.as_ref(), &path.key("via"));
    let Some(remote) = &spec.remote else {
        return Looker::Controller(way);
    };
    if spec.via.is_some() {
        let complaint = scope
            .about(
                Code::Remote,
                path.key("via"),
                format!(
                    "`{}` is remote, but `via` is a way out of the controller's host",
                    spec.name
                ),
            )
            .hint("leave `via` out: the observer reaches out as its own host does")
            .rests_on(path.key("remote"));
        scope.add(complaint.on_key());
    }
    Looker::Observer(remote.key.clone())
}

fn via(scope: &mut Scope<'_>, spec: Option<&ViaSpec>, path: &FieldPath) -> Via {
    match spec {
        None => Via::Direct,
        Some(ViaSpec::SourceAddress(address)) => {
            if let Ok(address) = address.parse::<IpAddr>() {
                return Via::SourceAddress(address);
            }
            let complaint = scope
                .about(
                    Code::BadValue,
                    path.key("sourceAddress"),
                    format!("`{address}` is no IP address"),
                )
                .expected("an address of the controller's host, such as 192.0.2.7");
            scope.add(complaint);
            Via::Direct
        }
        Some(ViaSpec::Proxy(proxy)) => {
            let fits = url::Url::parse(proxy)
                .is_ok_and(|u| matches!(u.scheme(), "socks5" | "socks5h" | "http") && u.has_host());
            if !fits {
                let complaint = scope
                    .about(Code::BadValue, path.key("proxy"), "this is no proxy")
                    .expected("socks5://host:port or http://host:port");
                scope.add(complaint);
            }
            Via::Proxy(proxy.clone())
        }
    }
}

fn quorum(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec, networks: usize) -> Quorum {
    let path = FieldPath::spec().key("quorum");
    let said = &spec.quorum;
    for (name, value) in [
        ("networks", said.networks.unwrap_or(1)),
        ("failures", said.failures),
        ("successes", said.successes),
    ] {
        if value == 0 {
            let complaint = scope
                .about(
                    Code::BadValue,
                    path.key(name),
                    "none at all would be enough",
                )
                .expected("1 or more");
            scope.add(complaint);
        }
    }
    let wanted = said.networks.map(|n| n as usize);
    if let Some(wanted) = wanted.filter(|w| *w > networks) {
        let complaint = scope
            .about(
                Code::Quorum,
                path.key("networks"),
                format!(
                    "{wanted} networks must agree, but vantage points stand in {networks} only"
                ),
            )
            .hint("add vantage points in other networks, or lower it")
            .rests_on(FieldPath::spec().key("vantagePoints"));
        scope.add(complaint);
    }
    Quorum {
        networks: wanted.unwrap_or(networks / 2 + 1),
        failures: said.failures,
        successes: said.successes,
    }
}

fn component(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    component: &ComponentSpec,
    vantage_points: &[VantagePoint],
    path: &FieldPath,
) -> Component {
    scope.label(&component.name, &path.key("name"));
    let list = path.key("probes");
    if component.probes.is_empty() {
        let complaint = scope
            .about(
                Code::MissingField,
                list.clone(),
                format!("nobody looks at `{}`", component.name),
            )
            .expected("at least one probe");
        scope.add(complaint.on_key());
    }
    let probes = component
        .probes
        .iter()
        .enumerate()
        .map(|(n, p)| {
            probe(
                scope,
                spec,
                &component.name,
                p,
                vantage_points,
                &list.index(n),
            )
        })
        .collect();
    Component {
        name: ComponentName::new(&component.name),
        title: component
            .title
            .clone()
            .unwrap_or_else(|| component.name.clone()),
        kind: component.kind,
        probes,
    }
}

fn probe(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    component: &str,
    probe: &ProbeSpec,
    vantage_points: &[VantagePoint],
    path: &FieldPath,
) -> Probe {
    let kind = scope.uses(Family::Probe, &probe.uses, &probe.with, path);
    if let Some(id) = &probe.id {
        scope.label(id, &path.key("id"));
    }
    if let Some(site) = &probe.site {
        let sites: Vec<_> = spec.sites.iter().map(|s| s.name.as_str()).collect();
        let list = FieldPath::spec().key("sites");
        scope.refers("site", site, &sites, &path.key("site"), &list);
    } else if probe.cold {
        let complaint = scope
            .about(
                Code::MissingField,
                path.key("cold"),
                "what the public name leads to is never cold",
            )
            .expected("`site`, with the standby that a failover starts");
        scope.add(complaint);
    }
    let list = FieldPath::spec().key("vantagePoints");
    let known: Vec<_> = vantage_points.iter().map(|v| v.name.as_str()).collect();
    for (n, name) in probe.from.iter().enumerate() {
        scope.refers(
            "vantage point",
            name,
            &known,
            &path.key("from").index(n),
            &list,
        );
    }
    let timeout = timing(scope, probe, path);
    let tail = probe.uses.rsplit('/').next().unwrap_or_default();
    Probe {
        id: ProbeId::new(
            probe
                .id
                .clone()
                .unwrap_or_else(|| format!("{component}-{tail}")),
        ),
        action: Uses {
            uses: KindName::new(&probe.uses),
            with: probe.with.value(),
        },
        site: probe.site.as_deref().map(SiteName::from),
        cold: probe.cold,
        evidence: kind.and_then(|k| k.evidence).unwrap_or(Evidence::Outside),
        every: probe.every,
        timeout,
        from: probe.from.iter().map(VantageName::new).collect(),
    }
}

fn timing(scope: &mut Scope<'_>, probe: &ProbeSpec, path: &FieldPath) -> Span {
    let shortest = Span::from_millis(50);
    if probe.every < shortest {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("every"),
                format!("a look every {} is more than anything bears", probe.every),
            )
            .expected(format!("{shortest} or longer"));
        scope.add(complaint);
    }
    let timeout = probe
        .timeout
        .unwrap_or_else(|| Span::from_secs(5).min(probe.every));
    if timeout == Span::ZERO || timeout > probe.every {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("timeout"),
                format!("a time-out of {timeout} does not fit between two looks"),
            )
            .expected(format!(
                "more than nothing and at most `every` ({})",
                probe.every
            ))
            .rests_on(path.key("every"));
        scope.add(complaint);
    }
    timeout
}

fn unique_probes(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    components: &[Component],
    list: &FieldPath,
) {
    let ids = components.iter().enumerate().flat_map(|(n, c)| {
        let probes = list.index(n).key("probes");
        c.probes.iter().enumerate().map(move |(m, p)| {
            let has_id = spec.components[n].probes[m].id.is_some();
            let at = probes.index(m);
            (p.id.as_str(), if has_id { at.key("id") } else { at })
        })
    });
    scope.unique("a probe", ids);
}

/// Checks that an outage can be noticed within the RTO.
fn detection(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    component: &Component,
    path: &FieldPath,
) {
    let rto = spec.objectives.rto;
    let looks = u64::from(spec.quorum.failures.max(1)) - 1;
    let fastest = component
        .probes
        .iter()
        .map(|p| p.every.saturating_mul(looks).saturating_add(p.timeout))
        .min();
    if let Some(fastest) = fastest.filter(|f| *f >= rto) {
        let spec_path = FieldPath::spec();
        let complaint = scope
            .about(
                Code::DetectionAboveRto,
                path.key("probes"),
                format!(
                    "it takes {fastest} to see that `{}` is down, and the RTO is {rto}",
                    component.name
                ),
            )
            .hint("look more often (`every`), or lower `quorum.failures`")
            .related(scope.doc, spec_path.key("objectives").key("rto"), "the RTO")
            .rests_on(spec_path.key("objectives").key("rto"))
            .rests_on(spec_path.key("quorum"));
        scope.add(complaint.on_key());
    }
}

/// Checks that enough networks look at a component, and that automatic never rests on the word of one.
fn voices(
    scope: &mut Scope<'_>,
    spec: &ProtectedServiceSpec,
    component: &Component,
    quorum: &Quorum,
    vantage_points: &[VantagePoint],
    path: &FieldPath,
) {
    let networks: BTreeSet<_> = vantage_points
        .iter()
        .filter(|v| {
            component
                .probes
                .iter()
                .any(|p| p.from.is_empty() || p.from.contains(&v.name))
        })
        .map(|v| &v.network)
        .collect();
    let kinds: BTreeSet<_> = component.probes.iter().map(|p| p.evidence).collect();
    let list = FieldPath::spec().key("vantagePoints");
    let all: BTreeSet<_> = vantage_points.iter().map(|v| &v.network).collect();
    let from_known = component
        .probes
        .iter()
        .flat_map(|p| &p.from)
        .all(|name| vantage_points.iter().any(|v| &v.name == name));
    if !from_known {
        return;
    }
    if networks.len() < quorum.networks && quorum.networks <= all.len() {
        let complaint = scope
            .about(
                Code::Quorum,
                path.key("probes"),
                format!(
                    "{} networks must agree on `{}`, but it is looked at from {} only",
                    quorum.networks,
                    component.name,
                    networks.len()
                ),
            )
            .hint("let more vantage points look (`from`), or lower `quorum.networks`")
            .rests_on(list.clone());
        scope.add(complaint.on_key());
    }
    if spec.mode == Mode::Automatic && networks.len() == 1 && kinds.len() == 1 {
        let complaint = scope
            .about(
                Code::OneVoice,
                path.clone(),
                format!(
                    "`mode: automatic`, but one network with one kind of evidence is all that sees `{}`",
                    component.name
                ),
            )
            .hint("add a vantage point in another network or another kind of probe, or use `mode: ask`")
            .rests_on(FieldPath::spec().key("mode"))
            .rests_on(list);
        scope.add(complaint);
    }
}
