//! Tests of spec: what documents say, and what is said of wrong ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use failover::{
    decide::compile::{CompileError, compile},
    guard::config::Config,
    model::{
        announcement::Phase,
        id::{ChannelName, SiteName, StepId},
        plan::{Action, OnFailure, Plan, RunKind, StepPhase},
        service::{Mode, RecordKind, RunbookStep, Service, Trigger},
        span::Span,
    },
    spec::{self, Code, Diagnostic, Loaded, Look, Severity},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::stand::{json_schema, kinds::kinds};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn plain(diagnostics: &[Diagnostic]) -> String {
    let rendered = diagnostics.iter().map(|d| d.render(Look::Plain, 100));
    rendered.collect()
}

fn read(text: &str) -> Loaded {
    spec::read_text("test.yaml", text, kinds())
}

/// The one service of a text that nothing is wrong with.
fn service(text: &str) -> Service {
    let mut loaded = read(text);
    assert!(
        loaded.diagnostics.is_empty(),
        "{}",
        plain(&loaded.diagnostics)
    );
    assert_eq!(loaded.services.len(), 1);
    loaded.services.remove(0)
}

fn step<'a>(service: &'a Service, id: &str) -> &'a RunbookStep {
    let steps = &service.runbook.steps;
    steps.iter().find(|s| s.id == StepId::from(id)).unwrap()
}

fn needs(service: &Service, id: &str) -> Vec<String> {
    let needs = step(service, id).needs.iter();
    needs.map(ToString::to_string).collect()
}

/// Files of a folder, by name.
fn files(name: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder(name))
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

const EXAMPLES: [&str; 6] = [
    "accountancy",
    "bookkeeping",
    "crm",
    "guarded",
    "invoicing",
    "task-management",
];

const SHOP: &str = r#"
apiVersion: failover.rs/v1alpha1
kind: ProtectedService
metadata: {name: shop}
spec:
  objectives: {rto: 15m, rpo: 30s}
  sites:
    - {name: north, role: primary, addresses: [192.0.2.10, "2001:DB8::10"], url: "https://north.example.net/"}
    - {name: south, role: standby, addresses: [198.51.100.10], url: "https://south.example.net/"}
  components:
    - name: web
      kind: application
      probes:
        - {uses: probe/http, with: {url: "https://shop.example.com/"}, every: 3s}
  dns:
    provider: {uses: dns/rfc2136, with: {server: 192.0.2.53, key: {name: k, secret: {env: KEY}}}}
    zone: Example.com
    records:
      - {name: shop.example.com, type: A}
  runbook: redirect
"#;

#[test]
fn each_broken_document_gets_its_error() {
    for (name, text) in files("tests/it/broken") {
        let loaded = spec::read_text(&name, &text, kinds());
        let codes: BTreeSet<_> = loaded.diagnostics.iter().map(|d| d.code).collect();
        let all = plain(&loaded.diagnostics);
        if let Some(code) = name.get(..6).and_then(Code::named) {
            assert_eq!(codes, BTreeSet::from([code]), "{name}:\n{all}");
            let is_error = code.page().severity == Severity::Error;
            assert_eq!(loaded.services.is_empty(), is_error, "{name}");
            assert_eq!(loaded.is_usable(), !is_error, "{name}");
        }
        let json = serde_json::to_string(&loaded.diagnostics).unwrap();
        assert!(
            !all.contains("hunter2") && !json.contains("hunter2"),
            "{name}:\n{all}\n{json}"
        );
        insta::assert_snapshot!(name.trim_end_matches(".yaml"), all);
    }
}

#[test]
fn every_code_has_a_broken_document() {
    let shown: BTreeSet<_> = files("tests/it/broken")
        .iter()
        .filter_map(|(name, _)| Code::named(name.get(..6)?))
        .collect();
    let about_files_as_a_whole = [Code::Unreadable, Code::Nothing];
    let missing: Vec<_> = Code::ALL
        .iter()
        .filter(|c| !shown.contains(c) && !about_files_as_a_whole.contains(c))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_examples_are_valid_one_by_one_and_together() {
    for name in EXAMPLES {
        let loaded = spec::load(&[folder("examples").join(name)], kinds());
        assert!(
            loaded.diagnostics.is_empty(),
            "{}",
            plain(&loaded.diagnostics)
        );
        assert_eq!(loaded.services.len(), 1, "{name}");
    }
    let places = EXAMPLES.map(|name| folder("examples").join(name));
    let together = spec::load(&places, kinds());
    assert!(
        together.diagnostics.is_empty(),
        "{}",
        plain(&together.diagnostics)
    );
    assert_eq!(together.services.len(), EXAMPLES.len());
}

#[test]
fn a_group_puts_its_services_in_waves() {
    let loaded = spec::load(&[folder("examples/group")], kinds());
    assert!(
        loaded.diagnostics.is_empty(),
        "{}",
        plain(&loaded.diagnostics)
    );
    let place = |s: &Service| {
        let own = s.group.as_ref().unwrap();
        (s.name.to_string(), own.group.to_string(), own.wave)
    };
    let places: Vec<_> = loaded.services.iter().map(place).collect();
    let of = |name: &str, wave| (name.to_owned(), "north".to_owned(), wave);
    assert_eq!(places, [of("blog", 2), of("login", 1), of("shop", 2)]);

    let [group, services] = ["group", "services"].map(|name| {
        let path = folder("examples/group").join(format!("{name}.yaml"));
        std::fs::read_to_string(path).unwrap()
    });
    for (from, to, message) in [
        ("[login]", "[logon]", "there is no service `logon`"),
        ("atOnce: 10", "atOnce: 0", "no service would ever fail over"),
        (
            "waitAtMost: 10m",
            "waitAtMost: 0s",
            "nobody would wait for anybody",
        ),
    ] {
        let text = format!("{services}---\n{}", group.replacen(from, to, 1));
        let loaded = spec::read_text("broken", &text, kinds());
        let all = plain(&loaded.diagnostics);
        assert!(all.contains(message), "{all}");
        assert!(!loaded.is_usable());
    }
}

#[test]
fn the_guards_of_the_example_are_those_of_its_service() {
    let loaded = spec::load(&[folder("examples/guarded")], kinds());
    let guards = loaded.services[0].guards.as_ref().unwrap();
    for (site, guard) in &guards.sites {
        let path = folder("examples/guarded-hosts").join(format!("{site}.yaml"));
        let config = Config::read(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!((&config.site, config.listen), (site, guard.address));
        assert_eq!(config.controller.name, guards.controller);
        let peer = config.peer.unwrap();
        assert_eq!(peer.public_key, guards.sites[&peer.site].public_key);
        assert_eq!(peer.address, guards.sites[&peer.site].address);
    }
}

#[test]
fn planned_work_leads_both_ways_where_each_step_has_settings_for_both() {
    let loaded = spec::load(&[folder("examples/guarded")], kinds());
    let service = &loaded.services[0];
    let plan = |kind, from: &str, to: &str| compile(service, kind, &from.into(), &to.into());
    let there = plan(RunKind::Failover, "paris", "milan").unwrap();
    let back = plan(RunKind::Failover, "milan", "paris").unwrap();
    let attempt = |plan: &Plan| match &plan.step(&"write-attempt".into()).unwrap().action {
        Action::Adapter(uses) => uses.with["connection"].as_str().unwrap().to_owned(),
        Action::Manual { .. } => panic!("an adapter tries it"),
    };
    assert!(attempt(&there).contains("192.0.2.20"));
    assert!(attempt(&back).contains("198.51.100.20"));
    for kind in [RunKind::Switchover, RunKind::Failback] {
        assert!(plan(kind, "milan", "paris").is_ok(), "{kind}");
    }
    // Steps of one way only lead there.
    let loaded = spec::load(&[folder("examples/bookkeeping")], kinds());
    let other = &loaded.services[0];
    let back = compile(other, RunKind::Failover, &"north".into(), &"south".into());
    assert!(
        matches!(back, Err(CompileError::OtherWay { .. })),
        "{back:?}"
    );
    let planned = compile(other, RunKind::Switchover, &"south".into(), &"north".into());
    assert!(
        matches!(planned, Err(CompileError::NothingPromotes { .. })),
        "{planned:?}"
    );
}

#[test]
fn a_short_document_gets_safe_defaults() {
    let service = service(SHOP);
    assert_eq!(service.title, "shop");
    assert_eq!(service.mode, Mode::Observe);
    assert_eq!(
        service.trigger,
        Trigger::Budget {
            patience: Span::from_secs(120)
        }
    );
    assert_eq!(service.vantage_points.len(), 1);
    assert_eq!(service.quorum.networks, 1);
    let probe = &service.components[0].probes[0];
    assert_eq!(probe.id.as_str(), "web-http");
    assert_eq!(probe.timeout, Span::from_secs(3));
    assert_eq!(service.config.0.len(), 64);
}

#[test]
fn dns_takes_the_addresses_that_fit_in_the_form_that_servers_answer() {
    let service = service(&SHOP.replace(
        "{name: shop.example.com, type: A}",
        r#"{name: shop.example.com, type: A}
      - {name: Shop.example.com., type: AAAA, values: {south: ["2001:db8:0::20"]}}"#,
    ));
    let dns = service.dns.unwrap();
    assert_eq!(dns.zone, "example.com.");
    let value = |n: usize, site: &str| dns.records[n].values[&SiteName::from(site)].clone();
    assert_eq!(value(0, "north"), ["192.0.2.10"]);
    assert_eq!(value(0, "south"), ["198.51.100.10"]);
    assert_eq!(dns.records[1].name, "shop.example.com.");
    assert_eq!(dns.records[1].kind, RecordKind::AAAA);
    assert_eq!(value(1, "north"), ["2001:db8::10"]);
    assert_eq!(value(1, "south"), ["2001:db8::20"]);
}

#[test]
fn fast_channels_speak_while_it_happens_and_mail_only_when_there_is_something_to_do() {
    let loaded = spec::load(&[folder("examples/bookkeeping")], kinds());
    let phases = |name: &str| {
        let channels = &loaded.services[0].announcements.channels;
        let channel = channels.iter().find(|c| c.name == ChannelName::from(name));
        channel.unwrap().phases.clone()
    };
    let late = [Phase::OnStandby, Phase::Recovered, Phase::Correction];
    assert_eq!(phases("users"), late);
    let fast = [&[Phase::FailingOver], &late[..]].concat();
    assert_eq!(phases("x"), fast);
    assert_eq!(phases("blog"), fast);
}

#[test]
fn the_ready_made_runbook_waits_for_the_fence_and_takes_the_services_settings() {
    let loaded = spec::load(&[folder("examples/bookkeeping")], kinds());
    let service = &loaded.services[0];
    assert_eq!(needs(service, "stop-primary"), [""; 0]);
    assert_eq!(needs(service, "refuse-writers"), ["stop-primary"]);
    assert_eq!(
        needs(service, "promote"),
        ["stop-primary", "refuse-writers", "write-attempt"]
    );
    assert_eq!(needs(service, "repoint"), ["promote"]);
    assert_eq!(needs(service, "verify"), ["promote"]);
    let Action::Adapter(stop) = &step(service, "stop-primary").action else {
        panic!("an adapter stops the primary");
    };
    assert_eq!(stop.with["observe"][1], "is-off");
    assert_eq!(step(service, "promote").on, [RunKind::Failover]);
    assert_eq!(
        step(service, "repoint").on,
        [
            RunKind::Failover,
            RunKind::Redirect,
            RunKind::Switchover,
            RunKind::Failback
        ]
    );
    assert_eq!(step(service, "fallback").on_failure, OnFailure::Continue);
    assert_eq!(step(service, "verify").phase, StepPhase::Verify);
}

#[test]
fn every_ready_made_runbook_is_valid() {
    for runbook in spec::RUNBOOKS {
        let loaded = spec::read_text(runbook.name, runbook.text, kinds());
        assert!(
            loaded.diagnostics.is_empty(),
            "{}",
            plain(&loaded.diagnostics)
        );
    }
}

#[test]
fn a_given_runbook_goes_before_a_ready_made_one_of_its_name() {
    let own = r"
---
apiVersion: failover.rs/v1alpha1
kind: Runbook
metadata: {name: redirect}
spec:
  title: Ours
  steps:
    - {id: repoint, uses: dns/repoint}
    - {id: verify, uses: service/verify}
";
    assert_eq!(service(&format!("{SHOP}{own}")).runbook.title, "Ours");
    assert_eq!(service(SHOP).runbook.title, "Lead users to the standby");
}

#[test]
fn the_config_hash_follows_what_documents_say_not_how_they_say_it() {
    let hash = |text: &str| service(text).config;
    let same = SHOP.replace("rto: 15m", "rto: 900s").replace(
        "  runbook: redirect",
        "  mode: observe # the default\n  runbook: \"redirect\"",
    );
    assert_eq!(hash(SHOP), hash(&same));
    assert_ne!(hash(SHOP), hash(&SHOP.replace("rto: 15m", "rto: 14m")));
    let step = "  runbook: redirect\n  steps: {verify: {timeout: 2m}}";
    assert_ne!(hash(SHOP), hash(&SHOP.replace("  runbook: redirect", step)));
}

#[test]
fn an_error_says_where_it_is_to_programs_too() {
    let loaded = read(&SHOP.replace("role: standby", "role: standbye"));
    assert_eq!(
        serde_json::to_value(&loaded.diagnostics).unwrap(),
        json!([{
            "code": "FO-113",
            "severity": "error",
            "file": "test.yaml",
            "line": 9,
            "column": 27,
            "path": "spec.sites[1].role",
            "message": "`standbye` is none of the words allowed",
            "expected": "`primary` or `standby`",
            "hint": "did you mean `standby`?",
            "snippet": "    - {name: south, role: standbye, addresses: [198.51.100.10], url: \"https://south.example.net/\"}",
        }])
    );
    assert_eq!(
        loaded.diagnostics[0].to_string(),
        "test.yaml:9:27: error[FO-113]: spec.sites[1].role: `standbye` is none of the words allowed"
    );
    let fancy = loaded.diagnostics[0].render(Look::Fancy, 80);
    assert!(fancy.contains("\u{1b}["), "{fancy}");
}

#[test]
fn folders_are_read_in_order_without_what_is_hidden() {
    let place = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = place.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    // As Kubernetes mounts a ConfigMap: the file is a link into a hidden folder.
    put("..2026/shop.yaml", SHOP);
    std::os::unix::fs::symlink("..2026/shop.yaml", place.path().join("shop.yaml")).unwrap();
    put("b/crm.yml", &SHOP.replace("{name: shop}", "{name: crm}"));
    put("b/notes.txt", "kind: Nonsense");
    let loaded = spec::load(&[place.path().to_owned()], kinds());
    assert!(
        loaded.diagnostics.is_empty(),
        "{}",
        plain(&loaded.diagnostics)
    );
    let names: Vec<_> = loaded.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["crm", "shop"]);

    put("a.yaml", &SHOP.replace("15m", "15"));
    put("b/z.yaml", "kind: Nonsense\n");
    let loaded = spec::load(&[place.path().to_owned()], kinds());
    let found: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|d| {
            let file = Path::new(&d.file).strip_prefix(place.path()).unwrap();
            format!("{} {}", file.display(), d.code)
        })
        .collect();
    assert_eq!(
        found,
        ["a.yaml FO-114", "b/z.yaml FO-106", "shop.yaml FO-121"]
    );
    assert_eq!(loaded.services.len(), 1, "one faulty file spoils no other");
}

#[test]
fn what_cannot_be_read_is_said() {
    let place = tempfile::tempdir().unwrap();
    let codes = |path: PathBuf| {
        let loaded = spec::load(&[path], kinds());
        assert!(!loaded.is_usable());
        loaded
            .diagnostics
            .iter()
            .map(|d| d.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(codes(place.path().to_owned()), [Code::Nothing]);
    assert_eq!(codes(place.path().join("none.yaml")), [Code::Unreadable]);
    fs::write(place.path().join("bytes.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    assert_eq!(codes(place.path().to_owned()), [Code::Unreadable]);
}

#[test]
fn a_broken_runbook_spoils_the_services_that_use_it() {
    let runbook = r"
---
apiVersion: failover.rs/v1alpha1
kind: Runbook
metadata: {name: ours}
spec:
  steps:
    - {id: repoint, uses: dns/repoint}
";
    let uses = SHOP.replace("runbook: redirect", "runbook: ours");
    let others = SHOP.replace("{name: shop}", "{name: other}");
    let sources = [
        ("a.yaml", uses.as_str()),
        ("b.yaml", &others),
        ("c.yaml", runbook),
    ]
    .map(|(name, text)| spec::Source {
        name: name.to_owned(),
        text: text.to_owned(),
    });
    let loaded = spec::read(&sources, kinds());
    let names: Vec<_> = loaded.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["other"]);
    assert_eq!(loaded.diagnostics[0].file, "c.yaml");
}

#[test]
fn the_schema_names_every_field_and_ties_settings_to_adapters() {
    let schema = spec::schema(kinds());
    let definition = |name: &str| &schema["$defs"][name];
    let fields: BTreeMap<String, Value> =
        serde_json::from_value(definition("ProtectedServiceSpec")["properties"].clone()).unwrap();
    for (name, field) in &fields {
        let described = field.get("description").is_some() || field.get("$ref").is_some();
        assert!(described, "{name}: {field}");
    }
    let probe = definition("ProbeSpec");
    let names: Vec<&str> = probe["properties"]["uses"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_str().unwrap())
        .collect();
    assert!(names.contains(&"probe/http") && !names.contains(&"dns/repoint"));
    assert_eq!(probe["allOf"].as_array().unwrap().len(), names.len());
    let text = schema.to_string();
    assert!(!text.contains("x-uses"));
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(schema.pointer(pointer).is_some(), "{pointer}");
    }
}

/// Texts that are nearly documents: real ones with a piece cut out and another put in.
fn nearly_documents() -> impl Strategy<Value = String> {
    let corpus: Vec<String> = files("tests/it/broken")
        .into_iter()
        .chain(files("examples/bookkeeping"))
        .chain(files("examples/accountancy"))
        .map(|(_, text)| text)
        .collect();
    let pieces = prop_oneof![
        "[ \\t\\n:{}\\[\\]&*!|>'\"%@`,?#-]{0,6}",
        "\\PC{0,8}",
        Just("<<: *a".to_owned()),
        Just("- ".to_owned()),
        Just("null".to_owned()),
    ];
    let one = (
        prop::sample::select(corpus),
        any::<prop::sample::Index>(),
        0..40_usize,
        pieces,
    );
    one.prop_map(|(text, at, length, piece)| {
        let characters: Vec<char> = text.chars().collect();
        let at = at.index(characters.len());
        let rest = characters.iter().skip(at + length);
        characters[..at]
            .iter()
            .copied()
            .chain(piece.chars())
            .chain(rest.copied())
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_the_reader(text in prop_oneof![nearly_documents(), "\\PC{0,200}", "(?s).{0,80}"]) {
        let loaded = read(&text);
        for diagnostic in &loaded.diagnostics {
            prop_assert!(!diagnostic.render(Look::Plain, 80).is_empty());
        }
    }
}

fn draft() -> spec::draft::Draft {
    let site = |host: &str, addresses: &[&str]| spec::draft::DraftSite {
        connection: format!("host={host} user=failover"),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        doubt: None,
    };
    spec::draft::Draft {
        service: "shop".into(),
        public: Some(spec::draft::DraftName {
            name: "Shop.example.com.".into(),
            zone: None,
            primary_server: None,
            servers: vec!["ns1.example.net.".into()],
            ttl: Some(3600),
            resolver: None,
        }),
        health_url: Some("https://shop.example.com/".into()),
        primary: site("db-a", &["192.0.2.10", "2001:db8::10"]),
        standby: site("db-b", &["198.51.100.10"]),
        sender: Some("db-a".into()),
        synchronous: false,
        found: Vec::new(),
        remarks: Vec::new(),
    }
}

#[test]
fn what_init_writes_is_valid_and_touches_nothing() {
    let text = draft().document();
    let service = service(&text);
    assert_eq!(service.mode, Mode::Observe);
    let records = service.dns.unwrap().records;
    assert_eq!(records.len(), 1, "the standby has no IPv6 address:\n{text}");
    assert_eq!(records[0].name, "shop.example.com.");
    insta::assert_snapshot!("init", text);
}

#[test]
fn init_leaves_dns_alone_where_nothing_can_be_repointed() {
    let mut draft = draft();
    draft.primary.addresses = vec!["192.0.2.10".into()];
    draft.standby.addresses = vec!["2001:db8::20".into()];
    let text = draft.document();
    let service = service(&text);
    assert!(service.dns.is_none(), "{text}");
    assert!(text.contains("CHANGE: nothing can be repointed"), "{text}");
    draft.public = None;
    draft.health_url = None;
    let text = draft.document();
    let service = self::service(&text);
    assert!(service.dns.is_none(), "{text}");
    assert_eq!(service.components.len(), 1, "{text}");
}

#[test]
fn init_repoints_an_alias_where_the_standby_has_a_name() {
    let mut draft = draft();
    draft.primary.addresses = vec!["north.example.net".into()];
    draft.standby.addresses = vec!["south.example.net".into()];
    let text = draft.document();
    let records = service(&text).dns.unwrap().records;
    assert_eq!(records.len(), 1, "{text}");
    assert_eq!(records[0].kind, failover::model::service::RecordKind::CNAME);
}

#[test]
fn what_init_finds_cannot_break_out_of_the_document() {
    let mut draft = draft();
    let mut public = draft.public.unwrap();
    public.servers = vec!["ada.ns.cloudflare.com.".into()];
    draft.public = Some(public);
    draft.found = vec!["a\nmode: automatic".into()];
    draft.remarks = vec!["a\nmode: automatic\u{85}mode: automatic".into()];
    draft.primary.connection = "host='a: b\" #' user=\"x\\\" dbname={y}".into();
    draft.sender = Some("db-a\", evil: \"1".into());
    let loaded = read(&draft.document());
    let errors: Vec<_> = loaded.diagnostics.iter().map(|d| &d.path).collect();
    // The adapter may refuse such a connection; the document itself stays what it was.
    assert!(
        errors.iter().all(|p| p.contains("connection")),
        "{}",
        plain(&loaded.diagnostics)
    );
}

/// The documents of a text as any YAML reader sees them.
fn values(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

#[test]
fn the_schema_accepts_what_the_reader_accepts() {
    let schema = spec::schema(kinds());
    let ready = spec::RUNBOOKS.map(|r| (r.name.to_owned(), r.text.to_owned()));
    let examples = EXAMPLES
        .iter()
        .flat_map(|e| files(&format!("examples/{e}")));
    let init = ("init".to_owned(), draft().document());
    for (name, text) in examples.chain(ready).chain([init]) {
        for value in values(&text) {
            let faults = json_schema::faults(&schema, &value);
            assert!(faults.is_empty(), "{name}: {faults:#?}");
        }
    }
}

#[test]
fn the_schema_refuses_what_has_the_wrong_shape() {
    let schema = spec::schema(kinds());
    for (right, wrong) in [
        ("rto: 15m", "rto: 15"),
        ("rto: 15m, ", ""),
        ("role: standby", "role: standbye"),
        ("uses: probe/http", "uses: probe/htpp"),
        ("with: {url:", "with: {urll:"),
        (", with: {url: \"https://shop.example.com/\"}", ""),
        ("{env: KEY}", "hunter2"),
        ("kind: ProtectedService", "kind: Service"),
        ("runbook: redirect", "runbok: redirect"),
    ] {
        assert!(SHOP.contains(right), "{right}");
        let value = &values(&SHOP.replace(right, wrong))[0];
        let faults = json_schema::faults(&schema, value);
        assert!(!faults.is_empty(), "{wrong}");
    }
}
