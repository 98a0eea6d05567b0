//! Records that external-dns keeps: objects on a real API server, and the zone on a real BIND. What external-dns does in one
//! turn of its loop is done here when a test says so.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use failover::{
    dns::ttl,
    model::{
        check::{CheckItem, CheckStatus},
        service::{Dns, DnsRecord, RecordKind},
        span::Span,
        step::{Presence, StepResult},
    },
    port::{
        dns::{RecordSet, SharedDns, Swap},
        kind::{Make, Wiring},
    },
};
use futures::future::join;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    chart::install,
    site::{apply_as, reference},
};
use crate::stand::{
    bind::Bind,
    kubernetes::{Cluster, Part, refused, succeeded},
    wiring::{action, done, failed, step, unclear, wiring},
};

const LONG: Span = Span::from_secs(60);
const SHORT: Span = Span::from_secs(3);
const APP: &str = "app.demo.test.";
const SIX: &str = "six.demo.test.";

/// As external-dns defines it, as far as it is used here.
const DNS_ENDPOINTS: &str = r#"{
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "dnsendpoints.externaldns.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/external-dns/pull/2007"}
    },
    "spec": {
        "group": "externaldns.k8s.io",
        "scope": "Namespaced",
        "names": {"kind": "DNSEndpoint", "plural": "dnsendpoints", "singular": "dnsendpoint", "listKind": "DNSEndpointList"},
        "versions": [{
            "name": "v1alpha1", "served": true, "storage": true,
            "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"endpoints": {"type": "array", "items": {
                    "type": "object",
                    "properties": {
                        "dnsName": {"type": "string"},
                        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                        "providerSpecific": {"type": "array", "items": {"type": "object", "properties": {
                            "name": {"type": "string"}, "value": {"type": "string"}
                        }}},
                        "recordTTL": {"type": "integer", "format": "int64"},
                        "recordType": {"type": "string"},
                        "setIdentifier": {"type": "string"},
                        "targets": {"type": "array", "items": {"type": "string"}}
                    }
                }}}},
                "status": {"type": "object", "properties": {"observedGeneration": {"type": "integer", "format": "int64"}}}
            }}}
        }]
    }
}"#;

/// A cluster with an object for the records of the zone `demo.test`, which a BIND serves.
struct Desk {
    cluster: Cluster,
    bind: Bind,
    _folder: TempDir,
    wiring: Wiring,
}

impl Desk {
    async fn new() -> Self {
        let desk = Self::bare().await;
        desk.cluster.apply(DNS_ENDPOINTS);
        desk.cluster
            .kubectl(&["wait", "crd", "--all", "--for=condition=Established"]);
        desk
    }

    /// Without the definition.
    async fn bare() -> Self {
        let folder = TempDir::new().unwrap();
        let bind = Bind::start().await;
        let mut wiring = wiring(folder.path());
        let mut service = (*wiring.service).clone();
        let record = |name: &str, kind, a: &[&str], b: &[&str]| DnsRecord {
            name: name.to_owned(),
            kind,
            values: [("a", a), ("b", b)]
                .map(|(site, values)| {
                    (
                        site.into(),
                        values.iter().map(|v| (*v).to_owned()).collect(),
                    )
                })
                .into(),
        };
        service.dns = Some(Dns {
            provider: serde_json::from_value(json!({"uses": "dns/external-dns"})).unwrap(),
            zone: "demo.test.".to_owned(),
            records: vec![
                record(
                    APP,
                    RecordKind::A,
                    &["192.0.2.1", "192.0.2.2"],
                    &["198.51.100.1"],
                ),
                record(SIX, RecordKind::AAAA, &["2001:db8::1"], &["2001:db8::2"]),
            ],
            ttl: Span::from_secs(60),
            propagation: Span::from_secs(60),
            lower_ahead: false,
            resolvers: Vec::new(),
            authorities: vec![bind.address.to_string()],
        });
        wiring.service = Arc::new(service);
        Self {
            cluster: Cluster::start(),
            bind,
            _folder: folder,
            wiring,
        }
    }

    /// Applies the object with these endpoints as this field manager.
    fn object(&self, endpoints: &Value, manager: &str) {
        let object = json!({
            "apiVersion": "externaldns.k8s.io/v1alpha1",
            "kind": "DNSEndpoint",
            "metadata": {"name": "shop", "namespace": "default"},
            "spec": {"endpoints": endpoints},
        });
        apply_as(&self.cluster, &object, manager);
    }

    fn provider(&self, more: &Value) -> SharedDns {
        self.provider_as(&self.cluster.kubeconfig(), more)
    }

    fn provider_as(&self, kubeconfig: &Path, more: &Value) -> SharedDns {
        let mut with =
            json!({"namespace": "default", "name": "shop", "kubeconfig": reference(kubeconfig)});
        let settings = with.as_object_mut().unwrap();
        settings.extend(more.as_object().unwrap().clone());
        let kind = failover::driver::registry::kinds()
            .get("dns/external-dns")
            .unwrap();
        assert_eq!((kind.check)(&with), []);
        let Make::Dns(make) = kind.make else {
            panic!("it is no DNS provider")
        };
        make(&with, &self.wiring).unwrap()
    }

    /// `dns/repoint` by this provider.
    fn repoint(&self, provider: SharedDns) -> failover::port::action::SharedAction {
        let mut wiring = self.wiring.clone();
        wiring.dns = Some(provider);
        action("dns/repoint", &json!({}), &wiring)
    }

    fn held(&self, path: &str) -> String {
        let path = format!("-o=jsonpath={path}");
        self.cluster.kubectl(&["get", "dnsendpoint", "shop", &path])
    }

    /// What external-dns does in a turn: the zone becomes what the object says, and the object says that it was read.
    fn turn(&self) {
        self.apply_to_zone();
        self.is_read(self.held("{.metadata.generation}").parse().unwrap());
    }

    fn is_read(&self, generation: i64) {
        let status = json!({"status": {"observedGeneration": generation}}).to_string();
        let status = format!("-p={status}");
        self.cluster.kubectl(&[
            "patch",
            "dnsendpoint",
            "shop",
            "--subresource=status",
            "--type=merge",
            "--field-manager=external-dns",
            &status,
        ]);
    }

    fn apply_to_zone(&self) {
        let endpoints: Value = serde_json::from_str(&self.held("{.spec.endpoints}")).unwrap();
        let mut script = Vec::new();
        for one in endpoints.as_array().unwrap() {
            let (name, kind) = (
                one["dnsName"].as_str().unwrap(),
                one["recordType"].as_str().unwrap(),
            );
            script.push(format!("update delete {name}. {kind}"));
            for target in one["targets"].as_array().unwrap() {
                let ttl = one["recordTTL"].as_i64().unwrap_or(300);
                script.push(format!(
                    "update add {name}. {ttl} {kind} {}",
                    target.as_str().unwrap()
                ));
            }
        }
        self.bind.change(&script.join("\n"));
    }

    fn in_zone(&self, name: &str) -> Vec<String> {
        let mut records = self.bind.records("demo.test");
        records.retain(|line| line.starts_with(name));
        records
    }
}

/// The endpoints while the site `a` serves, with one that is nobody's business here.
fn at_a() -> Value {
    json!([
        {"dnsName": "other.demo.test", "recordType": "TXT", "targets": ["text"], "labels": {"a": "b"}},
        {"dnsName": "app.demo.test", "recordType": "A", "recordTTL": 300, "targets": ["192.0.2.1", "192.0.2.2"],
         "providerSpecific": [{"name": "x", "value": "y"}]},
        {"dnsName": "six.demo.test", "recordType": "AAAA", "recordTTL": 300, "targets": ["2001:db8::1"]},
    ])
}

fn set(values: &[&str], ttl: u32) -> RecordSet {
    RecordSet {
        values: values.iter().map(|v| (*v).to_owned()).collect(),
        ttl,
    }
}

fn at_a_app() -> RecordSet {
    set(&["192.0.2.1", "192.0.2.2"], 300)
}

/// The items that are not as they should be, in words, by name.
fn wrong(items: &[CheckItem]) -> BTreeMap<String, (CheckStatus, String)> {
    let bad = items.iter().filter(|item| item.status != CheckStatus::Ok);
    bad.map(|item| {
        let told = format!("{}; {}", item.detail, item.fix.as_deref().unwrap());
        (item.name.clone(), (item.status, told))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_moved_when_the_zones_servers_give_it_and_not_before() {
    let desk = Desk::new().await;
    desk.object(&at_a(), "kubectl");
    desk.turn();
    let before = desk.in_zone("app");

    // It belongs to somebody else.
    let told = failed(
        desk.repoint(desk.provider(&json!({})))
            .perform(&step(SHORT))
            .await,
    );
    assert!(
        told.contains("spec.endpoints of DNSEndpoint default/shop belongs to kubectl"),
        "{told}"
    );
    assert!(
        told.contains("`force: true` in the settings of dns/external-dns"),
        "{told}"
    );
    assert_eq!(desk.held("{.metadata.generation}"), "1");

    // The object alone is no effect.
    let force = desk.provider(&json!({"force": true}));
    assert_eq!(force.propagation(), Span::from_secs(60));
    let repoint = desk.repoint(force.clone());
    let told = unclear(repoint.perform(&step(SHORT)).await);
    assert!(
        told.contains("external-dns has not read generation 3 of DNSEndpoint default/shop yet"),
        "{told}"
    );
    assert!(
        told.contains("holds 192.0.2.1, 192.0.2.2 (TTL 300 s)"),
        "{told}"
    );
    assert_eq!(desk.in_zone("app"), before);
    let mut expected = at_a();
    expected[1]["targets"] = json!(["198.51.100.1"]);
    expected[2]["targets"] = json!(["2001:db8::2"]);
    for at in [1, 2] {
        expected[at]["recordTTL"] = json!(60);
    }
    let held: Value = serde_json::from_str(&desk.held("{.spec.endpoints}")).unwrap();
    assert_eq!(held, expected, "all else stays as it is");
    assert!(matches!(
        repoint.observe(&step(SHORT)).await,
        Presence::Absent { reason } if reason.contains("192.0.2.1")
    ));
    // Nor is that external-dns has read it: its own provider may refuse.
    desk.is_read(3);
    assert!(matches!(
        repoint.observe(&step(SHORT)).await,
        Presence::Absent { .. }
    ));

    desk.turn();
    let Presence::InPlace(_) = repoint.observe(&step(SHORT)).await else {
        panic!("it is in place")
    };
    let again = done(repoint.perform(&step(SHORT)).await);
    assert!(again.summary.contains("DNS leads to b"), "{again:?}");
    assert!(!again.facts.contains_key("before"));

    // The way back, while external-dns works beside it.
    let context = step(LONG);
    let back = repoint.undo(&context);
    let turns = async {
        while !desk.held("{.spec.endpoints[2].targets}").contains("::1") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        desk.turn();
    };
    let (back, ()) = join(back, turns).await;
    let proof = done(back.unwrap());
    assert_eq!(proof.facts["oldTtl"], "60");
    assert!(
        proof
            .summary
            .contains("answers of authoritative servers lead to a"),
        "{proof:?}"
    );
    let mut values: Vec<String> = desk
        .in_zone("app")
        .iter()
        .map(|l| l.replace(" 60 IN ", " 300 IN "))
        .collect();
    values.sort();
    assert_eq!(values, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_one_wins_and_the_other_is_told() {
    let desk = Desk::new().await;
    desk.object(&at_a(), "failover");
    let providers = [desk.provider(&json!({})), desk.provider(&json!({}))];
    let (kind, six) = (RecordKind::A, RecordKind::AAAA);

    // The TTL ahead of need is lowered where nothing else changes, and raised again.
    let dns = desk.wiring.service.dns.clone().unwrap();
    for change in ttl::to_lower(&dns, &providers[0]).await {
        ttl::make(&providers[0], &change.unwrap()).await.unwrap();
    }
    let lowered = set(&["192.0.2.1", "192.0.2.2"], 60);
    assert_eq!(providers[0].read(APP, kind).await.unwrap(), lowered);
    assert!(ttl::to_lower(&dns, &providers[0]).await.is_empty());
    for change in ttl::to_raise(&dns, &providers[0], 300).await {
        ttl::make(&providers[0], &change.unwrap()).await.unwrap();
    }
    let held: Value = serde_json::from_str(&desk.held("{.spec.endpoints}")).unwrap();
    assert_eq!(held, at_a());

    // Two who want different things of one record.
    let wants = [set(&["198.51.100.1"], 60), set(&["203.0.113.9"], 60)];
    let expect = at_a_app();
    let (one, two) = join(
        providers[0].swap(APP, kind, &expect, &wants[0]),
        providers[1].swap(APP, kind, &expect, &wants[1]),
    )
    .await;
    let (winner, lost) = match (one, two) {
        (Swap::Done, Swap::Conflict { found }) => (0, found),
        (Swap::Conflict { found }, Swap::Done) => (1, found),
        other => panic!("{other:?}"),
    };
    assert_eq!(lost, wants[winner]);
    assert_eq!(
        providers[0].read(APP, kind).await.unwrap(),
        wants[winner],
        "the loser changed nothing"
    );

    // Two who work at different records of one object: each is as if it were alone.
    let mut stands = (wants[winner].clone(), set(&["2001:db8::1"], 300));
    for n in 1..=8 {
        let next = (
            set(&[&format!("198.51.100.{n}")], 60),
            set(&[&format!("2001:db8::{n}:1")], 60),
        );
        let (a, b) = join(
            providers[0].swap(APP, kind, &stands.0, &next.0),
            providers[1].swap(SIX, six, &stands.1, &next.1),
        )
        .await;
        assert_eq!((a, b), (Swap::Done, Swap::Done));
        stands = next;
    }
    assert_eq!(providers[0].read(APP, kind).await.unwrap(), stands.0);
    assert_eq!(providers[0].read(SIX, six).await.unwrap(), stands.1);

    // What somebody else set is left alone, and so is half of what a step is about.
    let mut foreign = at_a();
    foreign[2]["targets"] = json!(["2001:db8::99"]);
    desk.object(&foreign, "failover");
    let told = failed(
        desk.repoint(providers[0].clone())
            .perform(&step(SHORT))
            .await,
    );
    assert!(
        told.contains("it holds 2001:db8::99") && told.contains("belongs to neither site"),
        "{told}"
    );
    assert!(
        told.contains("already leads to b: app.demo.test. A 198.51.100.1"),
        "{told}"
    );
    assert!(desk.held("{.spec.endpoints[2].targets}").contains("::99"));

    // A name of a drill's own comes and goes.
    let drill = "shop-r7.demo.test.";
    let (none, new) = (set(&[], 0), set(&["198.51.100.1"], 60));
    assert_eq!(
        providers[0].swap(drill, kind, &none, &new).await,
        Swap::Done
    );
    assert_eq!(
        desk.held("{.spec.endpoints[3].dnsName}"),
        "shop-r7.demo.test"
    );
    assert_eq!(
        providers[0].swap(drill, kind, &new, &none).await,
        Swap::Done
    );
    assert!(!desk.held("{.spec.endpoints}").contains("shop-r7"));

    // A CNAME is not changed into addresses by a failover, not even by force.
    let mut cname = at_a();
    cname[1]["recordType"] = json!("CNAME");
    cname[1]["targets"] = json!(["a.example.net"]);
    desk.object(&cname, "failover");
    let swapped = providers[0].swap(APP, kind, &none, &new).await;
    assert!(
        matches!(&swapped, Swap::Refused { reason } if reason.contains("a record of the type CNAME at app.demo.test.")),
        "{swapped:?}"
    );
    assert!(desk.held("{.spec.endpoints[1]}").contains("a.example.net"));

    // Who does not answer may be asked again: nothing is taken for done.
    desk.cluster.freeze(Part::ApiServer);
    let quick = desk.provider(&json!({"timeout": "500ms"}));
    let result = desk.repoint(quick).perform(&step(SHORT)).await;
    assert!(
        matches!(result, StepResult::Indeterminate { .. }),
        "{result:?}"
    );
    desk.cluster.thaw(Part::ApiServer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_missing_and_what_to_do() {
    let desk = Desk::bare().await;
    let plain = json!({});
    let check = |provider: SharedDns| async move { provider.check(APP, RecordKind::A).await };
    let only = |items: &[CheckItem]| {
        let bad = wrong(items);
        assert_eq!(bad.len(), 1, "{items:?}");
        let (status, told) = bad.into_values().next().unwrap();
        assert_eq!(status, CheckStatus::Fail, "{told}");
        told
    };

    // Nobody has installed external-dns.
    let told = only(&check(desk.provider(&plain)).await);
    assert!(
        told.contains("does not know the kind DNSEndpoint") && told.contains("--source=crd"),
        "{told}"
    );
    desk.cluster.apply(DNS_ENDPOINTS);
    desk.cluster
        .kubectl(&["wait", "crd", "--all", "--for=condition=Established"]);
    desk.cluster.until("the new kind is served", || {
        desk.cluster
            .finds("/apis/externaldns.k8s.io/v1alpha1/namespaces/default/dnsendpoints")
    });
    let told = only(&check(desk.provider(&plain)).await);
    assert!(
        told.contains("not found") && told.contains("create it"),
        "{told}"
    );

    // external-dns has never been seen, and may yet come.
    desk.object(&at_a(), "failover");
    let bad = wrong(&check(desk.provider(&plain)).await);
    let followed = &bad["dns/external-dns/default/shop/followed"];
    assert_eq!((bad.len(), followed.0), (1, CheckStatus::Warn), "{bad:?}");
    assert!(followed.1.contains("has never read"), "{bad:?}");
    // An interval that is long over.
    let mut later = desk.wiring.clone();
    later.runtime = crate::stand::wiring::clock(600);
    let kind = failover::driver::registry::kinds()
        .get("dns/external-dns")
        .unwrap();
    let Make::Dns(make) = kind.make else {
        panic!("it is no DNS provider")
    };
    let with = json!({"namespace": "default", "name": "shop",
                      "kubeconfig": reference(&desk.cluster.kubeconfig())});
    let told = only(&check(make(&with, &later).unwrap()).await);
    assert!(told.contains("--label-filter"), "{told}");

    desk.turn();
    let items = check(desk.provider(&plain)).await;
    assert_eq!(wrong(&items), BTreeMap::new());
    assert!(
        items
            .iter()
            .any(|i| i.detail.contains("takes changes of spec.endpoints")),
        "{items:?}"
    );
    // A name of a drill's own is not there yet.
    let provider = desk.provider(&plain);
    let items = provider.check("drill.demo.test.", RecordKind::A).await;
    assert_eq!(wrong(&items), BTreeMap::new());
    assert_eq!(
        desk.held("{.metadata.generation}"),
        "1",
        "a check changes nothing"
    );

    // Who would set it back.
    desk.object(&at_a(), "argocd-controller");
    let told = only(&check(desk.provider(&plain)).await);
    assert!(
        told.contains("belongs to Argo CD (argocd-controller)")
            && told.contains("ignoreDifferences"),
        "{told}"
    );
    let forced = wrong(&check(desk.provider(&json!({"force": true}))).await);
    let owner = &forced["dns/external-dns/default/shop/owner"];
    assert_eq!(
        (forced.len(), owner.0),
        (1, CheckStatus::Warn),
        "{forced:?}"
    );
    assert!(
        owner.1.contains("by force, which may set it back"),
        "{forced:?}"
    );

    // A change of type leaves the name empty for a while, and is not for a failover.
    let mut cname = at_a();
    cname[1]["recordType"] = json!("CNAME");
    cname[1]["targets"] = json!(["a.example.net."]);
    desk.object(&cname, "failover");
    desk.is_read(desk.held("{.metadata.generation}").parse().unwrap());
    let told = only(&check(desk.provider(&json!({"force": true}))).await);
    assert!(
        told.contains("the type CNAME at app.demo.test.") && told.contains("may stand empty"),
        "{told}"
    );
    let items = desk
        .provider(&json!({"force": true}))
        .check(APP, RecordKind::CNAME)
        .await;
    let told = only(&items);
    assert!(told.contains("ends with a dot"), "{told}");

    // What it may not do.
    desk.cluster.kubectl(&["create", "serviceaccount", "robot"]);
    let robot = desk.cluster.of_service_account("default", "robot");
    let told = only(&check(desk.provider_as(&robot, &plain)).await);
    assert!(
        told.contains("may not get and patch DNSEndpoint default/shop")
            && told.contains("dnsEndpoints"),
        "{told}"
    );
    let told = unclear(
        desk.repoint(desk.provider_as(&robot, &plain))
            .perform(&step(SHORT))
            .await,
    );
    assert!(told.contains("forbidden"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chart_grants_is_enough_and_no_more() {
    let desk = Desk::new().await;
    let rights = "workloads:\n  - {namespace: default, dnsEndpoints: [shop]}\n";
    succeeded(&install(&desk.cluster, "install", rights));
    desk.object(&at_a(), "failover");
    desk.turn();
    let account = desk.cluster.of_service_account("ops", "dr-failover");
    let own = desk.provider_as(&account, &json!({}));
    assert_eq!(wrong(&own.check(APP, RecordKind::A).await), BTreeMap::new());
    let want = set(&["198.51.100.1"], 60);
    assert_eq!(
        own.swap(APP, RecordKind::A, &at_a_app(), &want).await,
        Swap::Done
    );
    for denied in [
        ["delete", "dnsendpoint", "shop"],
        ["get", "dnsendpoint", "other"],
        ["get", "dnsendpoints", "-n=ops"],
    ] {
        let output = desk.cluster.kubectl_by(&account, &denied, "");
        let told = refused(&output);
        assert!(told.contains("forbidden"), "{told}");
    }
}
