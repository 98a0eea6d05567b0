use super::*;
use crate::driver::readiness::server::{Collation, HbaRule};

/// A server as another one is replicated to.
fn server() -> Server {
    let settings = [
        ("max_connections", "100"),
        ("max_prepared_transactions", "0"),
        ("max_locks_per_transaction", "64"),
        ("max_worker_processes", "8"),
        ("max_wal_senders", "10"),
        ("wal_level", "replica"),
        (
            "shared_preload_libraries",
            "pg_stat_statements, auto_explain",
        ),
        ("listen_addresses", "*"),
        ("ssl", "on"),
        ("data_checksums", "on"),
        ("block_size", "8192"),
        ("TimeZone", "Etc/UTC"),
        ("DateStyle", "ISO, MDY"),
        ("default_text_search_config", "pg_catalog.english"),
        ("default_transaction_isolation", "read committed"),
        ("search_path", "\"$user\", public"),
        ("standard_conforming_strings", "on"),
    ];
    let hstore = || [("hstore".to_owned(), "1.8".to_owned())].into();
    let rule = |text: &str| HbaRule {
        text: text.to_owned(),
        error: None,
    };
    Server {
        version: "15.6".to_owned(),
        number: 150_006,
        settings: settings.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
        extensions: [("shop".to_owned(), hstore())].into(),
        available: [(
            "hstore".to_owned(),
            vec!["1.7".to_owned(), "1.8".to_owned()],
        )]
        .into(),
        hba: vec![
            rule("hostssl shop shop 10.0.0.0/255.0.0.0 scram-sha-256"),
            rule("host replication all 10.0.0.1/255.255.255.255 md5"),
        ],
        ..Server::default()
    }
}

/// What is not ok once the standby was changed: names and states.
fn found(change: impl Fn(&mut Server)) -> Vec<(String, CheckStatus)> {
    let (primary, mut standby) = (server(), server());
    change(&mut standby);
    let items = compare((&"ham".into(), &primary), (&"fra".into(), &standby));
    let bad = items.into_iter().filter(|i| i.status != CheckStatus::Ok);
    bad.map(|i| {
        assert!(i.fix.is_some(), "{i:?} says what to do");
        (i.name, i.status)
    })
    .collect()
}

fn one(name: &str, status: CheckStatus) -> Vec<(String, CheckStatus)> {
    vec![(format!("drift/{name}"), status)]
}

#[test]
fn replicas_of_each_other_do_not_drift() {
    assert_eq!(found(|_| {}), []);
}

#[test]
fn each_setting_that_matters_is_found() {
    use CheckStatus::{Fail, Warn};
    let cases = [
        ("max_connections", "99", Fail),
        ("max_prepared_transactions", "-1", Fail),
        ("max_locks_per_transaction", "32", Fail),
        ("max_worker_processes", "4", Fail),
        ("max_wal_senders", "5", Fail),
        ("wal_level", "minimal", Fail),
        ("shared_preload_libraries", "auto_explain", Fail),
        ("listen_addresses", "localhost, ::1", Fail),
        ("ssl", "off", Fail),
        ("data_checksums", "off", Fail),
        ("block_size", "4096", Fail),
        ("TimeZone", "Europe/Berlin", Warn),
        ("DateStyle", "ISO, DMY", Warn),
        ("default_text_search_config", "pg_catalog.german", Warn),
        ("default_transaction_isolation", "serializable", Warn),
        ("search_path", "shop", Warn),
        ("standard_conforming_strings", "off", Warn),
    ];
    assert_eq!(cases.len(), SETTINGS.len(), "a case for each");
    for (name, value, status) in cases {
        let changed = |s: &mut Server| drop(s.settings.insert(name.to_owned(), value.to_owned()));
        assert_eq!(found(changed), one(name, status));
    }
}

#[test]
fn what_is_more_than_the_primary_has_does_no_harm() {
    let more = [
        ("max_connections", "200"),
        ("wal_level", "logical"),
        (
            "shared_preload_libraries",
            "auto_explain,pg_stat_statements,x",
        ),
        ("listen_addresses", "10.0.0.9"),
    ];
    for (name, value) in more {
        let changed = |s: &mut Server| drop(s.settings.insert(name.to_owned(), value.to_owned()));
        assert_eq!(found(changed), [], "{name}");
    }
}

#[test]
fn a_setting_that_may_not_be_seen_is_unknown() {
    let hidden = |s: &mut Server| drop(s.settings.remove("shared_preload_libraries"));
    assert_eq!(
        found(hidden),
        one("shared_preload_libraries", CheckStatus::Unknown)
    );
}

#[test]
fn versions_differ_in_the_major_or_the_minor_part() {
    assert_eq!(
        found(|s| s.number = 150_007),
        one("version", CheckStatus::Warn)
    );
    assert_eq!(
        found(|s| s.number = 140_010),
        one("version", CheckStatus::Fail)
    );
}

#[test]
fn a_library_of_collations_that_is_another_one_is_found() {
    let other = |s: &mut Server| {
        s.collations.push(Collation {
            name: "database shop".to_owned(),
            recorded: "2.31".to_owned(),
            actual: "2.36".to_owned(),
        });
    };
    assert_eq!(found(other), one("collations", CheckStatus::Fail));
}

#[test]
fn an_extension_that_is_missing_or_older_is_found() {
    assert_eq!(
        found(|s| s.available.clear()),
        one("extensions/hstore", CheckStatus::Fail)
    );
    let older = |s: &mut Server| {
        drop(
            s.available
                .insert("hstore".to_owned(), vec!["1.7".to_owned()]),
        );
    };
    assert_eq!(found(older), one("extensions/hstore", CheckStatus::Warn));
}

#[test]
fn who_may_not_log_in_after_a_promotion_is_found() {
    assert_eq!(found(|s| s.hba.clear()), one("hba", CheckStatus::Warn));
    // Who replicates is another matter.
    assert_eq!(found(|s| drop(s.hba.pop())), []);
    let broken = |s: &mut Server| s.hba[0].error = Some("line 3: no such method".to_owned());
    assert_eq!(found(broken), one("hba", CheckStatus::Fail));
    let hidden = |s: &mut Server| s.hba_hidden = Some("permission denied".to_owned());
    assert_eq!(found(hidden), one("hba", CheckStatus::Unknown));
}
