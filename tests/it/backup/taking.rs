//! Backups that the program takes itself from a real PostgreSQL, encrypted, and moments that are brought back.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use age::secrecy::ExposeSecret;
use jiff::Timestamp;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{branch::Desk, policy, rules};
use crate::stand::{
    controller::{Stand, text, until},
    postgres::other_user,
    s3::S3,
};

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// A key pair of age: the public key, and what is in the file of the secret one.
fn keys() -> (String, String) {
    let key = age::x25519::Identity::generate();
    let secret = key.to_string().expose_secret().to_owned();
    (key.to_public().to_string(), secret)
}

fn documents(stand: &Stand) -> String {
    stand.documents().to_str().unwrap().to_owned()
}

fn command(stand: &Stand, args: &[&str]) -> (i32, Value, String) {
    let documents = documents(stand);
    let output = stand.cli(&[args, &["-o", "json", "-f", &documents]].concat());
    let shown = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), shown, text(&output))
}

/// Two places, a folder and a bucket, for what is taken with these differences.
fn places(desk: &Desk, s3: &S3, take: &Value, encrypted: &str) {
    let stand = &desk.stand;
    stand.file("key-id", "test-key");
    stand.file("key-secret", "test-secret");
    let ending = if take["encrypt"].is_array() {
        ".age"
    } else {
        ""
    };
    let names = [format!("%Y%m%dT%H%M%S.backup{ending}")];
    let identity = json!({"file": stand.path("identity")});
    let mut all = json!({
        "connection": desk.primary.superuser(), "to": ["near", "far"], "keepFree": 16,
        "folder": desk.host.path(),
    });
    let more = take.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(more);
    policy(
        stand,
        &json!({
            "service": "shop", "encrypted": encrypted, "copies": 2,
            "sources": [
                {"name": "near", "uses": "backup/folder",
                 "with": {"folder": stand.path("base"), "full": names, "identity": identity}},
                {"name": "far", "uses": "backup/s3", "with": {
                    "url": "s3://copies/shop", "endpoint": s3.endpoint(), "allowHttp": true,
                    "accessKeyId": {"file": stand.path("key-id")},
                    "secretAccessKey": {"file": stand.path("key-secret")}, "full": names, "identity": identity,
                }},
            ],
            "verify": {
                "every": "7d", "timeout": "2m", "keepFree": 16, "folder": desk.host.path(), "sources": ["near", "far"],
                "queries": [{"name": "orders", "sql": "select count(*) from orders", "atLeast": 1000}],
            },
            "take": all,
        }),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_is_encrypted_in_every_place_and_restored_with_its_key() {
    let desk = Desk::new().await;
    let s3 = S3::start();
    let (public, secret) = keys();
    desk.stand.file("identity", &secret);
    for form in ["base", "dump"] {
        places(
            &desk,
            &s3,
            &json!({"form": form, "encrypt": [public]}),
            "required",
        );
        let (code, taken, said) = command(&desk.stand, &["backups", "take", "shop"]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(taken["encrypted"], true);
        let near = taken["places"]["near"]["stored"]["copy"].as_str().unwrap();
        let bytes = fs::read(desk.stand.path("base").join(near)).unwrap();
        assert!(bytes.starts_with(b"age-encryption.org/v1"), "{near}");
        for place in ["near", "far"] {
            let args = [
                "backups", "verify", "shop", "--source", place, "--copy", near,
            ];
            let (code, result, said) = command(&desk.stand, &args);
            assert_eq!(code, 0, "{place}: {said}");
            assert_eq!(result["answers"]["orders"], "1000", "{result:#}");
        }
        // The same moment is not written over.
        sleep(Duration::from_millis(1100));
    }
    let (_, shown, _) = command(&desk.stand, &["backups", "shop"]);
    let shown = &shown["services"][0];
    assert!(
        !rules(shown).iter().any(|r| r.starts_with("encrypted")),
        "{shown:#}"
    );
    assert_eq!(shown["sources"][1]["copies"].as_array().unwrap().len(), 2);
    // Whoever has another key has no backup, and nothing is said against it.
    desk.stand.file("identity", "AGE-SECRET-KEY-1");
    let (code, result, _) = command(&desk.stand, &["backups", "verify", "shop"]);
    assert_eq!(code, 1);
    let reason = result["outcome"]["unknown"]["reason"].as_str().unwrap();
    assert!(reason.contains("identity"), "{reason}");
    let left = fs::read_dir(desk.host.path()).unwrap().flatten();
    let left: Vec<PathBuf> = left
        .map(|e| e.path())
        .filter(|p| !p.ends_with("archive"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    assert_eq!(desk.stand.leaks(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_encrypted_breaks_the_rule_and_documents_that_would_are_refused() {
    let desk = Desk::new().await;
    let s3 = S3::start();
    let (public, _) = keys();
    places(&desk, &s3, &json!({"compress": "none"}), "required");
    let documents = documents(&desk.stand);
    let refused = desk.stand.cli(&["validate", &documents]);
    assert_ne!(refused.status.code(), Some(0));
    assert!(
        text(&refused).contains("would not be"),
        "{}",
        text(&refused)
    );

    places(&desk, &s3, &json!({"compress": "zstd"}), "optional");
    let (code, _, said) = command(&desk.stand, &["backups", "take", "shop"]);
    assert_eq!(code, 0, "{said}");
    // The rule comes later than the backup.
    places(&desk, &s3, &json!({"encrypt": [public]}), "required");
    let document = desk.stand.path("documents/backups.yaml");
    let open = fs::read_to_string(&document).unwrap();
    let open = open.replace(".backup.age\"", ".backup.age\", \"*.backup\"");
    fs::write(&document, open).unwrap();
    let (code, shown, said) = command(&desk.stand, &["backups", "shop"]);
    assert_eq!(code, 1, "{said}");
    let broken = rules(&shown["services"][0]);
    assert!(broken.contains(&"encrypted/near?".to_owned()), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_controller_takes_backups_on_schedule_and_prunes_by_the_ladder() {
    let mut desk = Desk::new().await;
    let s3 = S3::start();
    let (public, secret) = keys();
    desk.stand.file("identity", &secret);
    let take = json!({
        "schedule": {"cron": "* * * * *", "timeZone": "Africa/Johannesburg"}, "encrypt": [public], "prune": true,
    });
    places(&desk, &s3, &take, "required");
    let document = desk.stand.path("documents/backups.yaml");
    let with_ladder = fs::read_to_string(&document).unwrap();
    let with_ladder = with_ladder.replace(
        "\"copies\": 2",
        "\"copies\": 2, \"retention\": {\"daily\": \"2d\"}",
    );
    fs::write(&document, with_ladder).unwrap();
    let old = Timestamp::now() - jiff::SignedDuration::from_hours(24 * 40);
    let old = old.strftime("%Y%m%dT%H%M%S.backup.age").to_string();
    fs::write(desk.stand.path("base").join(&old), "beyond the ladder").unwrap();
    desk.stand.start(&[]);
    // The next minute is a minute away at most, and taking one takes a while too.
    let begun = Instant::now();
    while !desk.stand.timeline().contains("a backup was taken in") {
        assert!(
            begun.elapsed() < Duration::from_mins(3),
            "{}",
            desk.stand.timeline()
        );
        sleep(Duration::from_millis(500));
    }
    // Nothing goes before anything is proved to be a backup.
    let is_there = || desk.stand.path("base").join(&old).exists();
    sleep(Duration::from_secs(3));
    assert!(is_there());
    let tried = desk
        .stand
        .cli(&["backups", "verify", "shop", "--source", "near"]);
    assert_eq!(tried.status.code(), Some(0), "{}", text(&tried));
    let begun = Instant::now();
    while is_there() {
        assert!(
            begun.elapsed() < Duration::from_mins(3),
            "{}",
            desk.stand.log()
        );
        sleep(Duration::from_millis(500));
    }
    let names = fs::read_dir(desk.stand.path("base")).unwrap().flatten();
    assert!(names.count() >= 1, "the newest was deleted");
    desk.stand.shows(&["journal", "verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_moment_before_a_bad_change_is_brought_back_beside_what_runs() {
    let desk = Desk::new().await;
    desk.policy("ZA");
    desk.take("base-1");
    desk.write_on(1001, 1100);
    sleep(Duration::from_millis(1500));
    let before = Timestamp::now().to_string();
    sleep(Duration::from_millis(1500));
    desk.primary.sql("delete from orders where id > 10");
    desk.write_on(5001, 5010);
    let to = desk.host.path().join("before");
    let to = to.to_str().unwrap();

    let (code, offer, said) = command(&desk.stand, &["backups", "restore", "shop"]);
    assert_eq!(code, 0, "{said}");
    let moments = &offer["moments"][0];
    assert!(
        moments["until"].as_str().unwrap() > before.as_str(),
        "{offer:#}"
    );
    assert!(
        moments["from"].as_str().unwrap() < before.as_str(),
        "{offer:#}"
    );
    let early = [
        "backups",
        "restore",
        "shop",
        "--to",
        to,
        "--at",
        "2020-01-01T00:00:00Z",
    ];
    let (code, _, said) = command(&desk.stand, &early);
    assert_eq!(code, 1);
    assert!(said.contains("cannot be brought back"), "{said}");
    assert!(!PathBuf::from(to).exists());

    let args = ["backups", "restore", "shop", "--to", to, "--at", &before];
    let (code, recovered, said) = command(&desk.stand, &args);
    assert_eq!(code, 0, "{said}");
    assert_eq!(recovered["timeline"], "2", "{recovered:#}");
    let (code, _, said) = command(&desk.stand, &args);
    assert_eq!(code, 1, "it was restored over what is there");
    assert!(said.contains("is not empty"), "{said}");

    // It is started by hand, beside the one that runs, and archives nothing.
    let socket = desk.host.path().display().to_string();
    let mut server = Command::new("setpriv");
    server.args(["--pdeathsig", "KILL"]);
    if let Some(user) = other_user() {
        let ids = [
            format!("--reuid={}", user.uid),
            format!("--regid={}", user.gid),
        ];
        server.args(ids).arg("--clear-groups");
    }
    server
        .arg(format!("{BIN}/postgres"))
        .args(["-D", to, "-c", "listen_addresses="]);
    server.args([
        "-c",
        &format!("unix_socket_directories={socket}"),
        "-c",
        "port=5999",
    ]);
    let mut server = server
        .current_dir("/")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ask = |sql: &str| {
        let output = Command::new(format!("{BIN}/psql"))
            .args([
                "-XAtq", "-h", &socket, "-p", "5999", "-U", "postgres", "-c", sql,
            ])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    until("it answers", || ask("select 1") == "1");
    let found = [ask("select count(*) from orders"), ask("show archive_mode")];
    kill(
        Pid::from_raw(server.id().try_into().unwrap()),
        Signal::SIGQUIT,
    )
    .unwrap();
    server.wait().unwrap();
    assert_eq!(found, ["1100", "off"]);
    assert_eq!(desk.primary.sql("select count(*) from orders"), "20");
}
