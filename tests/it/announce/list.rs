//! Lists of recipients: fetched ahead of need, kept when their source is gone, and never halved by mistake.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use failover::{
    model::check::{CheckItem, CheckStatus},
    port::channel::SharedChannel,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{channel, secret};
use crate::stand::{postgres, wiring::wiring};

fn listed(folder: &TempDir, list: &Value) -> SharedChannel {
    let with = json!({
        "smtp": {"host": "127.0.0.1", "port": 1, "tls": "none"},
        "from": "status@shop.example",
        "list": list,
        "listTimeout": "20s",
        "unsubscribe": {
            "url": "https://status.shop.example",
            "key": secret(folder.path(), "leave", "0123456789abcdef"),
        },
    });
    channel(
        "announce/email",
        &with,
        &wiring(&folder.path().join("state")),
    )
}

async fn names(channel: &SharedChannel) -> Vec<String> {
    let all = channel.recipients().await.unwrap();
    all.into_iter().map(|r| r.0).collect()
}

async fn refresh(channel: &SharedChannel) -> CheckItem {
    channel.refresh().await.unwrap()
}

fn write(file: &Path, count: usize) {
    let lines: Vec<String> = (0..count)
        .map(|n| format!("{n},user{n}@example.com"))
        .collect();
    fs::write(file, format!("id,Email\n{}\n", lines.join("\n"))).unwrap();
}

#[tokio::test]
async fn a_list_outlives_its_source_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("customers.csv");
    let list = json!({"csv": file});
    let channel = listed(&folder, &list);
    assert!(channel.recipients().await.is_err());
    fs::write(&file, "id,name,Email\n1,Ann,Ann@Example.COM\n2,\"B, Bob\",bob@example.com\n3,?,nobody\n4,Ann,ann@example.com\n").unwrap();
    let item = refresh(&channel).await;
    assert_eq!(item.status, CheckStatus::Ok, "{item:?}");
    assert!(item.detail.contains("1 lines are no addresses"), "{item:?}");
    fs::remove_file(&file).unwrap();
    let item = refresh(&channel).await;
    assert_eq!(item.status, CheckStatus::Warn, "{item:?}");
    assert!(item.detail.contains("cannot read"), "{item:?}");
    let channel = listed(&folder, &list);
    assert_eq!(
        names(&channel).await,
        ["Ann@example.com", "bob@example.com"]
    );
}

#[tokio::test]
async fn a_list_that_was_never_fetched_is_fetched_when_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("customers.csv");
    let channel = listed(&folder, &json!({"csv": file}));
    let error = channel.recipients().await.unwrap_err();
    assert!(error.reason.contains("cannot read"), "{error:?}");
    write(&file, 2);
    assert_eq!(
        names(&channel).await,
        ["user0@example.com", "user1@example.com"]
    );
    // It is kept, as after a refresh.
    fs::remove_file(&file).unwrap();
    assert_eq!(names(&channel).await.len(), 2);
}

#[tokio::test]
async fn a_refresh_that_loses_more_than_a_fifth_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("customers.csv");
    let channel = listed(&folder, &json!({"csv": file}));
    write(&file, 10);
    assert_eq!(refresh(&channel).await.status, CheckStatus::Ok);
    write(&file, 7);
    let item = refresh(&channel).await;
    assert_eq!(item.status, CheckStatus::Warn);
    assert!(item.detail.contains("lacks 3 of 10"), "{item:?}");
    assert_eq!(names(&channel).await.len(), 10);
    // As many as before, but other people: that is a loss too.
    let others: Vec<String> = (0..10).map(|n| format!("other{n}@example.com")).collect();
    fs::write(&file, others.join("\n")).unwrap();
    assert!(refresh(&channel).await.detail.contains("lacks 10 of 10"));
    write(&file, 8);
    assert_eq!(refresh(&channel).await.status, CheckStatus::Ok);
    assert_eq!(names(&channel).await.len(), 8);
    fs::write(&file, "email\n").unwrap();
    assert!(refresh(&channel).await.detail.contains("empty"));
    assert_eq!(names(&channel).await.len(), 8);
}

#[tokio::test]
async fn only_its_owner_may_read_the_kept_list() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("customers.csv");
    write(&file, 3);
    refresh(&listed(&folder, &json!({"csv": file}))).await;
    let kept: Vec<_> = fs::read_dir(folder.path().join("state/lists"))
        .unwrap()
        .collect();
    assert_eq!(kept.len(), 1);
    let mode = kept[0]
        .as_ref()
        .unwrap()
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_command_prints_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let channel = listed(
        &folder,
        &json!({"command": ["printf", "ann@example.com\\n\\nbob@example.com\\n"]}),
    );
    assert_eq!(refresh(&channel).await.status, CheckStatus::Ok);
    assert_eq!(
        names(&channel).await,
        ["ann@example.com", "bob@example.com"]
    );
    // Half of its output and then a failure is no list.
    let script = "echo ann@example.com; exit 3";
    let channel = listed(&folder, &json!({"command": ["sh", "-c", script]}));
    let item = refresh(&channel).await;
    assert_eq!(item.status, CheckStatus::Fail);
    assert!(item.detail.contains("exit status 3"), "{item:?}");
    assert!(channel.recipients().await.is_err());
}

#[tokio::test]
async fn a_command_sees_no_secrets_of_the_controller() {
    let folder = tempfile::tempdir().unwrap();
    // Cargo sets this for the tests: it stands for any variable of our own.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let script = "env | cut -d= -f1 | sed 's/$/@example.com/'; echo why >&2";
    let channel = listed(&folder, &json!({"command": ["sh", "-c", script]}));
    assert_eq!(refresh(&channel).await.status, CheckStatus::Ok);
    let seen = names(&channel).await;
    assert!(seen.contains(&"PATH@example.com".to_owned()), "{seen:?}");
    assert!(!seen.iter().any(|name| name.contains("CARGO")), "{seen:?}");
    let script = "echo ann@example.com; echo the directory is away >&2; exit 1";
    let channel = listed(&folder, &json!({"command": ["sh", "-c", script]}));
    let item = refresh(&channel).await;
    assert!(item.detail.contains("the directory is away"), "{item:?}");
    assert!(!item.detail.contains("ann@"), "{item:?}");
}

#[tokio::test]
async fn a_kept_list_that_cannot_be_read_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("customers.csv");
    write(&file, 3);
    let channel = listed(&folder, &json!({"csv": file}));
    refresh(&channel).await;
    for kept in fs::read_dir(folder.path().join("state/lists")).unwrap() {
        fs::write(kept.unwrap().path(), "{\"at\": 17").unwrap();
    }
    assert!(channel.recipients().await.is_err());
    let item = refresh(&channel).await;
    assert_eq!(item.status, CheckStatus::Ok, "{item:?}");
    assert_eq!(names(&channel).await.len(), 3);
}

#[tokio::test]
async fn a_query_gives_addresses_and_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let server = postgres::Cluster::start();
    server.sql("CREATE TABLE customer (mail text, active bool)");
    server.sql("INSERT INTO customer VALUES ('ann@example.com', true), ('bob@example.com', true), ('cy@example.com', false), (NULL, true)");
    server.sql("GRANT ALL ON customer TO failover");
    let (conninfo, password) = (
        server.conninfo() + " dbname=postgres",
        secret(folder.path(), "db", postgres::PASSWORD),
    );
    let list =
        |query: &str| json!({"sql": {"conninfo": conninfo, "password": password, "query": query}});
    let channel = listed(&folder, &list("SELECT mail FROM customer WHERE active"));
    let item = refresh(&channel).await;
    assert_eq!(item.status, CheckStatus::Ok, "{item:?}");
    assert_eq!(
        names(&channel).await,
        ["ann@example.com", "bob@example.com"]
    );
    let channel = listed(&folder, &list("DELETE FROM customer RETURNING mail"));
    let item = refresh(&channel).await;
    assert_eq!(item.status, CheckStatus::Fail);
    assert!(item.detail.contains("read-only"), "{item:?}");
    // The same words as everywhere else.
    let all = "SELECT mail FROM customer";
    let mut other = list(all);
    other["sql"]["conninfo"] = json!(format!("{conninfo} sslmode=verify-full"));
    let channel = listed(&folder, &other);
    let item = refresh(&channel).await;
    assert!(item.detail.contains("no TLS with"), "{item:?}");
    let channel = listed(&folder, &list("SELECT mail FROM customer WHERE active"));
    drop(server);
    assert_eq!(refresh(&channel).await.status, CheckStatus::Warn);
    assert_eq!(names(&channel).await.len(), 2);
}

#[test]
fn a_password_in_a_connection_string_is_an_error() {
    let kind = failover::driver::registry::kinds()
        .get("announce/email")
        .unwrap();
    let with = json!({
        "smtp": {"host": "localhost"}, "from": "a@example.com",
        "list": {"sql": {"conninfo": "host=db user=x password=hush", "query": "SELECT 1"}},
        "unsubscribe": {"url": "https://status.example.com", "key": {"env": "K"}},
    });
    let problems = (kind.check)(&with);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].path, "list.sql.conninfo");
    assert!(!problems[0].message.contains("hush"));
}
