//! Comparisons that documents name, over real readings; and secrets that are not there.

use std::fs;

use failover::{
    driver::readiness,
    model::{
        check::{CheckItem, CheckStatus},
        readiness::Comparison,
        secret::SecretRef,
    },
};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, path},
};

use super::{Desk, item, status};
use crate::stand::postgres::Cluster;

/// What a comparison of these readings at `a` and `b` comes to.
async fn compared(desk: &mut Desk, a: Value, b: Value, rule: Value) -> CheckItem {
    let comparison = json!({
        "name": "it", "sites": {"a": a, "b": b}, "rule": rule, "otherwise": "fail", "timeout": "5s",
    });
    let comparison: Comparison = serde_json::from_value(comparison).unwrap();
    desk.service.readiness.compare = vec![comparison];
    let items = readiness::compared(&desk.service, &desk.wiring()).await;
    item(&items, "compare/it").clone()
}

#[tokio::test]
async fn the_versions_of_the_application_are_compared() {
    let mut desk = Desk::new();
    fs::write(desk.folder().join("token"), "s3cret").unwrap();
    let server = MockServer::start().await;
    for (site, version) in [("a", "2.4.1"), ("b", "2.3.9")] {
        let answer = ResponseTemplate::new(200)
            .insert_header("x-version", version)
            .set_body_json(json!({"build": {"version": version, "number": 7}}));
        Mock::given(path(format!("/{site}")))
            .and(header("authorization", "s3cret"))
            .respond_with(answer)
            .mount(&server)
            .await;
    }
    let token = json!({"authorization": {"file": desk.folder().join("token")}});
    let reading = |site: &str, place: Value| {
        let mut http = json!({"url": format!("{}/{site}", server.uri()), "headers": token});
        http.as_object_mut()
            .unwrap()
            .extend(place.as_object().unwrap().clone());
        json!({"http": http})
    };
    for place in [
        json!({"pointer": "/build/version"}),
        json!({"header": "x-version"}),
        json!({}),
    ] {
        let (a, b) = (reading("a", place.clone()), reading("b", place.clone()));
        let drift = compared(&mut desk, a.clone(), b, json!("equal")).await;
        assert_eq!(drift.status, CheckStatus::Fail, "{drift:?}");
        assert!(drift.detail.contains("2.3.9") && drift.detail.contains("they differ"));
        let same = compared(&mut desk, a.clone(), a, json!("equal")).await;
        assert_eq!(same.status, CheckStatus::Ok, "{same:?}");
    }
    let number = json!({"pointer": "/build/number"});
    let (a, b) = (reading("a", number.clone()), reading("b", number));
    assert_eq!(
        compared(&mut desk, a, b, json!("equal")).await.status,
        CheckStatus::Ok
    );
    for (site, place) in [("a", json!({"pointer": "/none"})), ("c", json!({}))] {
        let (a, b) = (reading("a", json!({})), reading(site, place));
        let unknown = compared(&mut desk, a, b, json!("equal")).await;
        assert_eq!(unknown.status, CheckStatus::Unknown, "{unknown:?}");
        assert!(!unknown.detail.contains("s3cret"), "{unknown:?}");
    }
}

#[tokio::test]
async fn what_programs_print_is_compared() {
    use CheckStatus::{Fail, Ok as Fine, Unknown};
    let mut desk = Desk::new();
    fs::write(desk.folder().join("token"), "s3cret").unwrap();
    let sh = |script: &str| json!({"command": {"run": ["sh", "-c", script]}});
    let mut of = async |a: Value, b: Value, rule: Value| compared(&mut desk, a, b, rule).await;
    let free = |n: u32| sh(&format!("echo {n}"));
    assert_eq!(
        of(free(5), sh("echo 5; echo >&2 noise"), json!("equal"))
            .await
            .status,
        Fine
    );
    assert_eq!(of(free(5), free(6), json!("equal")).await.status, Fail);
    assert_eq!(
        of(free(5), free(6), json!({"within": 1})).await.status,
        Fine
    );
    // Free disk or quota, where no guard stands.
    assert_eq!(
        of(free(50), free(9), json!({"atLeast": 10})).await.status,
        Fail
    );
    assert_eq!(
        of(free(50), free(90), json!({"atMost": 80})).await.status,
        Fail
    );
    assert_eq!(
        of(free(5), sh("exit 3"), json!("equal")).await.status,
        Unknown
    );
    assert_eq!(
        of(free(5), sh("sleep 60"), json!("equal")).await.status,
        Unknown
    );
    let missing = json!({"command": {"run": ["/nonexistent/program"]}});
    assert_eq!(of(free(5), missing, json!("equal")).await.status, Unknown);
}

#[tokio::test]
async fn a_secret_that_a_program_prints_is_not_shown() {
    let mut desk = Desk::new();
    fs::write(desk.folder().join("token"), "s3cret").unwrap();
    let leaks = json!({"command": {
        "run": ["sh", "-c", "echo token $TOKEN"], "env": {"TOKEN": {"file": desk.folder().join("token")}},
    }});
    let item = compared(&mut desk, leaks.clone(), leaks, json!("equal")).await;
    assert_eq!(item.status, CheckStatus::Unknown);
    assert!(!format!("{item:?}").contains("s3cret"), "{item:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_servers_answer_is_compared() {
    let mut desk = Desk::new();
    let (one, two) = (Cluster::start(), Cluster::start());
    one.sql("CREATE TABLE tenants AS SELECT generate_series(1, 3) AS id; GRANT SELECT ON tenants TO failover");
    two.sql("CREATE TABLE tenants AS SELECT generate_series(1, 5) AS id; GRANT SELECT ON tenants TO failover");
    let reading = |desk: &Desk, cluster: &Cluster, query: &str| {
        let mut with = desk.with(cluster);
        with["query"] = json!(query);
        json!({"sql": with})
    };
    let count = "SELECT count(*) FROM tenants";
    let (a, b) = (reading(&desk, &one, count), reading(&desk, &two, count));
    let drift = compared(&mut desk, a.clone(), b.clone(), json!("equal")).await;
    assert_eq!(drift.detail, "\"3\" at a; \"5\" at b: they differ");
    assert_eq!(
        compared(&mut desk, a.clone(), b, json!({"within": 2}))
            .await
            .status,
        CheckStatus::Ok
    );
    // It looks, and changes nothing.
    let b = reading(&desk, &two, "DELETE FROM tenants");
    let refused = compared(&mut desk, a, b, json!("equal")).await;
    assert_eq!(refused.status, CheckStatus::Unknown, "{refused:?}");
    assert_eq!(two.sql(count), "5");
}

#[test]
fn each_secret_that_is_missing_is_named_with_the_place_that_names_it() {
    let mut desk = Desk::new();
    fs::write(desk.folder().join("there"), "s3cret").unwrap();
    fs::write(desk.folder().join("empty"), "").unwrap();
    let folder = desk.folder().to_owned();
    let path = |name: &str| folder.join(name).display().to_string();
    let channel = json!({
        "name": "hook", "phases": [],
        "action": {"uses": "announce/webhook", "with": {
            "url": "https://hooks.example.net/", "secret": {"file": path("there")},
            "headers": {"a": {"secret": {"env": "FAILOVER_TEST_NOT_SET"}}, "b": {"secret": {"file": path("empty")}}},
        }},
    });
    desk.service.announcements.channels = vec![serde_json::from_value(channel).unwrap()];
    let wiring = desk.wiring();
    let items = readiness::resolved(&desk.service, wiring.secrets.as_ref());
    let unset = item(&items, "secret/FAILOVER_TEST_NOT_SET");
    assert_eq!(unset.status, CheckStatus::Fail);
    assert!(
        unset
            .detail
            .contains("announcements.channels[0].action.with.headers.a"),
        "{unset:?}"
    );
    assert_eq!(
        status(&items, &format!("secret/{}", path("empty"))),
        CheckStatus::Fail
    );
    assert_eq!(
        item(&items, "secrets").detail,
        "1 of 3 secrets that the documents name are there"
    );
    assert!(!format!("{items:?}").contains("s3cret"));
    let named = readiness::references(&desk.service);
    assert!(named.contains_key(&SecretRef::File(path("there"))));
}
