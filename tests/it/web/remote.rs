//! The commands of somebody whose controller runs elsewhere: asked by the API of its desk.

use std::process::Output;

use tempfile::TempDir;

use crate::stand::{
    controller::{Stand, text, until},
    visitor::{address, token},
};

/// A host without a controller, on which people work.
struct Laptop<'a> {
    stand: &'a Stand,
    home: TempDir,
    url: String,
}

/// A running controller whose desk has a certificate of its own, and somebody elsewhere.
async fn desk(drills: &str) -> (Stand, String) {
    let mut stand = Stand::new().await;
    if !drills.is_empty() {
        let document = stand.document().replacen("rto: 5m", "rto: 1h", 1);
        let wanted = format!("  runbook: move\n{drills}");
        stand.write(&document.replacen("  runbook: move\n", &wanted, 1));
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    stand.file("chain.pem", &made.cert.pem());
    stand.file("key.pem", &made.signing_key.serialize_pem());
    let (chain, key) = (stand.path("chain.pem"), stand.path("key.pem"));
    stand.start(&[
        "--desk-listen",
        "127.0.0.1:0",
        "--desk-cert",
        chain.to_str().unwrap(),
        "--desk-key",
        key.to_str().unwrap(),
    ]);
    let url = address(&stand).replace("127.0.0.1", "localhost");
    (stand, url)
}

impl<'a> Laptop<'a> {
    fn of(stand: &'a Stand, url: &str) -> Self {
        Self {
            stand,
            home: tempfile::tempdir().unwrap(),
            url: url.to_owned(),
        }
    }

    /// Runs a command with these variables besides what every command there has.
    fn run(&self, variables: &[(&str, &str)], args: &[&str]) -> Output {
        let mut command = self.stand.command(args);
        command
            .env("FAILOVER_STATE", self.home.path().join("state"))
            .env("FAILOVER_SERVER", &self.url)
            .env("FAILOVER_SERVER_CA", self.stand.path("chain.pem"));
        command.envs(variables.iter().copied());
        command.output().unwrap()
    }

    fn cli_as(&self, person: &str, args: &[&str]) -> Output {
        self.run(&[("FAILOVER_TOKEN", token(person))], args)
    }

    fn shows(&self, args: &[&str]) -> String {
        let output = self.cli_as("ann", args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_elsewhere_is_looked_at() {
    let (stand, url) = desk("").await;
    let laptop = Laptop::of(&stand, &url);
    for args in [
        ["explain", "shop"].as_slice(),
        &["plan", "shop"],
        &["timeline", "shop"],
        &["incident", "team", "shop"],
        &["announce", "preview", "shop"],
        &["history", "shop"],
        &["backups"],
    ] {
        // Seconds pass between the two.
        let still = |text: String| text.replace(|c: char| c.is_ascii_digit(), "");
        assert_eq!(
            still(laptop.shows(args)),
            still(stand.shows(args)),
            "{args:?}"
        );
    }
    assert!(laptop.shows(&["status"]).contains("healthy"));
    let checked = laptop.cli_as("ann", &["check", "shop", "--output", "json"]);
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(checked["services"][0]["service"], "shop");
    assert!(checked["services"][0]["items"][0]["status"].is_string());
    assert!(
        !laptop.home.path().join("state").exists(),
        "nothing is kept on a host that only asks"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_elsewhere_fails_over_on_command() {
    let (stand, url) = desk("").await;
    let laptop = Laptop::of(&stand, &url);
    let open = ["failover", "shop", "--reason", "east is on fire", "--yes"];
    let asked = laptop.cli_as("ann", &open);
    assert_eq!(asked.status.code(), Some(0), "{}", text(&asked));
    let question = stand.question().unwrap();
    let own = laptop.cli_as("ann", &["approve", &question]);
    assert_eq!(own.status.code(), Some(1), "{}", text(&own));
    assert!(
        text(&own).contains("cannot approve what ann asked for"),
        "{}",
        text(&own)
    );
    let first = laptop.cli_as("ben", &["approve", &question]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    let second = laptop.cli_as("cleo", &["approve", &question, "--watch"]);
    assert_eq!(second.status.code(), Some(0), "{}", text(&second));
    let told = text(&second);
    assert!(told.contains("promote") && told.contains("done"), "{told}");
    until("the run ends", || stand.effects() == "stop promote");
    let draft = laptop.shows(&["postmortem", "shop"]);
    assert!(draft.contains("east is on fire"), "{draft}");
    assert_eq!(stand.leaks(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_of_a_controller_elsewhere_is_followed_to_its_report() {
    let (stand, url) = desk("  drills:\n    - {name: thought, depth: paper}\n").await;
    let laptop = Laptop::of(&stand, &url);
    let begun = laptop.cli_as("ann", &["drill", "shop", "--reason", "it is Monday"]);
    let told = text(&begun);
    assert!(told.contains("it is Monday"), "{told}");
    let report = laptop.shows(&["report", "shop", "--format", "markdown"]);
    assert_eq!(
        report,
        stand.shows(&["report", "shop", "--format", "markdown"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_a_controller_elsewhere_is_told_why() {
    let (stand, url) = desk("").await;
    let mut laptop = Laptop::of(&stand, &url);
    let says = |output: &Output, code: i32, words: &str| {
        let told = text(output);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(words), "{words}: {told}");
    };
    says(&laptop.run(&[], &["status"]), 1, "FO-020");
    let nobody = ("FAILOVER_TOKEN", "fo_nobody");
    says(
        &laptop.run(&[nobody], &["status"]),
        1,
        "or one that is nobody's",
    );
    says(
        &laptop.cli_as("ann", &["explain", "shopp"]),
        1,
        "no service shopp that you may see",
    );
    // What uses this host's state is not asked of another one.
    for args in [
        ["journal", "verify"].as_slice(),
        &["takeover", "--reason", "x"],
    ] {
        says(
            &laptop.cli_as("ann", args),
            2,
            "uses the state folder of this host",
        );
    }
    let stranger = laptop.run(
        &[
            ("FAILOVER_SERVER_CA", "/etc/ssl/certs/ca-certificates.crt"),
            ("FAILOVER_TOKEN", token("ann")),
        ],
        &["status"],
    );
    says(&stranger, 1, "FO-095");
    laptop.url = "http://dr.example.com".to_owned();
    says(&laptop.cli_as("ann", &["status"]), 2, "is not encrypted");
    laptop.url = "https://127.0.0.1:9".to_owned();
    says(&laptop.cli_as("ann", &["status"]), 1, "FO-095");
    // The status page is no desk.
    laptop.url = format!("http://{}", stand.page_address());
    says(&laptop.cli_as("ann", &["status"]), 1, "as no desk answers");
}
