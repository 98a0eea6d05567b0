//! Drift between a real primary and its real standby.

use failover::{
    driver::readiness,
    model::check::{CheckItem, CheckStatus},
    promote::{Grants, grants_sql},
};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{Desk, item, status};
use crate::stand::postgres::{Pair, USER};

/// A desk whose probes look at both servers, with the rights that `failover init` gives.
fn desk(pair: &Pair) -> Desk {
    pair.primary.sql(&grants_sql(&Grants {
        role: USER,
        database: "postgres",
        promote: true,
        fence: true,
    }));
    pair.settle();
    let mut desk = Desk::new();
    let probe = |site: &str, with| {
        json!({
            "id": site, "action": {"uses": "probe/postgres", "with": with}, "site": site,
            "evidence": "database", "every": "1s", "timeout": "5s", "from": [],
        })
    };
    let probes = [
        probe("a", desk.with(&pair.primary)),
        probe("b", desk.with(&pair.standby)),
    ];
    let database = json!({"name": "db", "title": "Data", "kind": "database", "probes": probes});
    desk.service.components = vec![serde_json::from_value(database).unwrap()];
    desk
}

async fn found(desk: &Desk) -> Vec<CheckItem> {
    let plan = Desk::plan(&[]);
    readiness::servers(&desk.service, &desk.fitting(), Some(&plan)).await
}

/// What is not ok, by name.
fn bad(items: &[CheckItem]) -> Vec<&str> {
    let bad = items.iter().filter(|i| i.status != CheckStatus::Ok);
    bad.map(|i| i.name.as_str()).collect()
}

/// Starts the primary again, so that it has what needs a restart.
fn restart(pair: &mut Pair) {
    pair.primary.end(Signal::SIGINT);
    pair.primary.restart();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_as_it_should_be_does_not_drift() {
    let pair = Pair::start();
    let desk = desk(&pair);
    let items = found(&desk).await;
    // Nobody sees the disks, and who may log in is for superusers to know.
    assert_eq!(bad(&items), ["disk/a", "disk/b", "drift/hba"], "{items:#?}");
    assert!(items.iter().all(|i| !i.hinders()), "{items:#?}");
    assert!(
        item(&items, "disk/a")
            .detail
            .contains("its databases take ")
    );
    for clock in ["clock/a/database", "clock/b/database"] {
        assert_eq!(status(&items, clock), CheckStatus::Ok);
    }
    pair.primary.sql(&format!(
        "GRANT SELECT ON pg_hba_file_rules TO {USER}; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO {USER}"
    ));
    pair.settle();
    assert_eq!(status(&found(&desk).await, "drift/hba"), CheckStatus::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_start_fixes_is_found() {
    let mut pair = Pair::start();
    let desk = desk(&pair);
    let changed = [
        ("max_connections", "30"),
        ("max_prepared_transactions", "5"),
        ("max_locks_per_transaction", "128"),
        ("max_worker_processes", "16"),
        ("max_wal_senders", "7"),
        ("wal_level", "logical"),
        ("shared_preload_libraries", "auto_explain"),
        ("listen_addresses", "*"),
    ];
    for (name, value) in changed {
        pair.primary.set(name, value);
    }
    restart(&mut pair);
    let items = found(&desk).await;
    for (name, _) in changed {
        let item = item(&items, &format!("drift/{name}"));
        assert_eq!(item.status, CheckStatus::Fail, "{item:?}");
        assert!(item.fix.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sessions_begin_with_is_found() {
    let pair = Pair::start();
    let desk = desk(&pair);
    let changed = [
        ("TimeZone", "Europe/Berlin"),
        ("DateStyle", "ISO, DMY"),
        ("default_text_search_config", "pg_catalog.german"),
        ("default_transaction_isolation", "serializable"),
        ("search_path", "shop"),
        ("standard_conforming_strings", "off"),
    ];
    for (name, value) in changed {
        pair.primary.set(name, value);
    }
    let items = found(&desk).await;
    for (name, _) in changed {
        assert_eq!(status(&items, &format!("drift/{name}")), CheckStatus::Warn);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_that_the_standby_has_not_is_found() {
    let pair = Pair::start();
    let desk = desk(&pair);
    // Both servers have one folder of extensions here: the catalogue names what is not in it.
    pair.primary.sql(
        "CREATE EXTENSION hstore; CREATE EXTENSION citext; UPDATE pg_extension SET extversion = '0.1' WHERE extname = \
         'hstore'; UPDATE pg_extension SET extname = 'shop_types' WHERE extname = 'citext'",
    );
    let items = found(&desk).await;
    assert_eq!(status(&items, "drift/extensions/hstore"), CheckStatus::Warn);
    let missing = item(&items, "drift/extensions/shop_types");
    assert_eq!(missing.status, CheckStatus::Fail, "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collation_of_another_library_is_found() {
    let pair = Pair::start();
    let desk = desk(&pair);
    pair.primary.sql(
        "CREATE COLLATION german (provider = icu, locale = 'de'); UPDATE pg_collation SET collversion = '1.0' WHERE \
         collname = 'german'",
    );
    pair.settle();
    let items = found(&desk).await;
    let collation = item(&items, "drift/collations");
    assert_eq!(collation.status, CheckStatus::Fail);
    assert!(
        collation
            .detail
            .starts_with("german was recorded with version 1.0"),
        "{collation:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_only_the_primary_lets_in_is_found() {
    let pair = Pair::start();
    let desk = desk(&pair);
    pair.primary.sql(&format!(
        "GRANT SELECT ON pg_hba_file_rules TO {USER}; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO {USER}"
    ));
    pair.settle();
    let rules = std::fs::read_to_string(pair.primary.data().join("pg_hba.conf")).unwrap();
    let more = format!("{rules}host shop shop 10.0.0.0/8 scram-sha-256\n");
    pair.primary.put("pg_hba.conf", &more);
    let items = found(&desk).await;
    let hba = item(&items, "drift/hba");
    assert_eq!(hba.status, CheckStatus::Warn);
    assert!(hba.detail.contains("host shop shop 10.0.0.0"), "{hba:?}");

    pair.standby
        .put("pg_hba.conf", &format!("{more}host all all nowhere\n"));
    let items = found(&desk).await;
    assert_eq!(status(&items, "drift/hba"), CheckStatus::Fail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_see_little_is_told_what_it_lacks() {
    let pair = Pair::start();
    let desk = desk(&pair);
    pair.primary.sql(&format!("REVOKE pg_monitor FROM {USER}"));
    pair.settle();
    let items = found(&desk).await;
    let hidden = item(&items, "drift/shared_preload_libraries");
    assert_eq!(hidden.status, CheckStatus::Unknown, "{hidden:?}");
    assert!(hidden.hinders());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_cannot_be_asked_is_not_compared() {
    let mut pair = Pair::start();
    let desk = desk(&pair);
    pair.standby.crash();
    let items = found(&desk).await;
    let drift = item(&items, "drift");
    assert_eq!(
        (drift.status, drift.hinders()),
        (CheckStatus::Unknown, false)
    );
}
