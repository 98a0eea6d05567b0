//! Commands that need no controller, and what they say where one is missing.

use super::{Command, PROGRAM, Path, Stdio, Value, fs, json_schema, text};
use std::process::Output;

/// The commands, in the order of the help.
const COMMANDS: [&str; 26] = [
    "demo",
    "init",
    "validate",
    "schema",
    "run",
    "vantage",
    "check",
    "backups",
    "plan",
    "explain",
    "status",
    "timeline",
    "failover",
    "approve",
    "deny",
    "pause",
    "resume",
    "abort",
    "ack",
    "mode",
    "announce",
    "journal",
    "runbook",
    "token",
    "help",
    "completions",
];

/// A controller that an observer cannot reach, and a key.
const HERE: &str = "https://127.0.0.1:1";
const KEY: &str = "9f2c4be07d1a358866f0e3c29b5d47a1c8e6f4130b7a2d5990eec14f23a8b67d";

fn failover(home: &Path, args: &[&str]) -> Output {
    Command::new(PROGRAM)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("FAILOVER_STATE", home.join("state"))
        .current_dir(home)
        .stdin(Stdio::null())
        .args(args)
        .output()
        .unwrap()
}

fn repository(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// What is typed, how it ends, and what it says.
fn shown(home: &Path, args: &[&str]) -> String {
    let output = failover(home, args);
    let mut text = format!(
        "$ failover {}\n[{}]\n",
        args.join(" "),
        output.status.code().unwrap()
    );
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !bytes.is_empty() {
            let said = String::from_utf8_lossy(bytes);
            text.extend(["-- ", name, "\n", &said]);
        }
    }
    text.replace(home.to_str().unwrap(), "[home]") + "\n"
}

#[test]
fn every_command_explains_itself() {
    let home = tempfile::tempdir().unwrap();
    let all = failover(home.path(), &["--help"]);
    assert_eq!(all.status.code(), Some(0));
    let listed = String::from_utf8(all.stdout).unwrap();
    for command in COMMANDS {
        assert!(
            listed.contains(&format!("\n  {command} ")),
            "{command}:\n{listed}"
        );
        let help = failover(home.path(), &[command, "--help"]);
        assert_eq!(help.status.code(), Some(0), "{}", text(&help));
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(
            help.contains(&format!("Usage: failover {command}")),
            "{help}"
        );
        let nested = ["announce", "journal", "runbook"].contains(&command);
        assert!(nested || help.contains("\nExamples:\n"), "{help}");
        let page = failover(home.path(), &["help", command]);
        assert_eq!(page.status.code(), Some(0), "{}", text(&page));
    }
    insta::assert_snapshot!(
        "help",
        shown(home.path(), &["--help"]) + &shown(home.path(), &["help"])
    );
}

#[test]
fn mistakes_are_explained() {
    let home = tempfile::tempdir().unwrap();
    let broken = repository("tests/it/broken/fo-114-no-unit.yaml");
    fs::copy(broken, home.path().join("broken.yaml")).unwrap();
    fs::create_dir(home.path().join("empty")).unwrap();
    fs::write(home.path().join("weak"), "correct horse battery staple").unwrap();
    fs::write(home.path().join("key"), KEY).unwrap();
    fs::write(home.path().join("no.pem"), "no certificate").unwrap();
    let commands: &[&[&str]] = &[
        &[],
        &["fail-over"],
        &["status", "--output", "yaml"],
        &["status"],
        &["status", "-o", "json"],
        &["explain", "shop"],
        &["plan"],
        &["plan", "shop"],
        &["plan", "shop", "-f", "broken.yaml"],
        &["check", "shop"],
        &["check", "-f", "empty"],
        &["timeline", "shop"],
        &["journal", "show", "shop"],
        &["journal", "verify", "--from", "broken.yaml"],
        &["validate"],
        &["validate", "nowhere"],
        &["validate", "empty"],
        &["validate", "broken.yaml"],
        &["run"],
        &["run", "-f", "broken.yaml"],
        &["run", "-f", "broken.yaml", "--listen", "8080"],
        &["run", "-f", "empty", "--vantage-listen", "127.0.0.1:0"],
        &["run", "-f", "empty", "--tls-cert", "chain.pem"],
        &[
            "run",
            "-f",
            "empty",
            "--vantage-listen",
            "127.0.0.1:0",
            "--tls-cert",
            "nowhere",
            "--tls-key",
            "nowhere",
        ],
        &["vantage"],
        &[
            "vantage",
            "--controller",
            HERE,
            "--name",
            "paris",
            "--key",
            "hunter2",
        ],
        &[
            "vantage",
            "--controller",
            HERE,
            "--name",
            "paris",
            "--key",
            "env:NOTHING",
        ],
        &[
            "vantage",
            "--controller",
            HERE,
            "--name",
            "paris",
            "--key",
            "file:weak",
        ],
        &[
            "vantage",
            "--controller",
            "http://192.0.2.1",
            "--name",
            "paris",
            "--key",
            "file:key",
        ],
        &[
            "vantage",
            "--controller",
            HERE,
            "--name",
            "paris",
            "--key",
            "file:key",
            "--ca",
            "nowhere",
        ],
        &[
            "vantage",
            "--controller",
            HERE,
            "--name",
            "paris",
            "--key",
            "file:key",
            "--ca",
            "no.pem",
        ],
        &["failover", "shop"],
        &["failover", "shop", "--reason", "fire"],
        &["approve", "shop"],
        &["approve", "shop-a1"],
        &["approve", "shop-a1", "--break-glass"],
        &["approve", "shop-a1", "--token-file", "nowhere"],
        &["deny", "shop-r1"],
        &["deny", "shop-a1"],
        &["pause"],
        &["pause", "--reason", "work"],
        &["resume"],
        &["abort", "shop-a1", "--reason", "well again"],
        &["abort", "shop-r1", "--reason", "well again"],
        &["ack", "shop-p1"],
        &["mode", "shop", "off", "--reason", "x"],
        &["mode", "shop", "ask", "--reason", "x"],
        &["announce", "preview", "shop", "--phase", "soon"],
        &["announce", "preview", "shop"],
        &["announce", "send", "shop", "recovered"],
        &["runbook", "show", "none"],
        &["token", "--hash-of", "nowhere"],
        &["help", "nothing"],
        &["completions", "tcsh"],
        &["demo", "--scenario", "flood"],
        &["init", "--primary", "x"],
        &["init", "--primary", "x", "--standby", "y", "--name", "shop"],
        &["status", "--log", "a=b=c"],
    ];
    let all: String = commands.iter().map(|c| shown(home.path(), c)).collect();
    for block in all.split("\n$ ") {
        assert!(
            block.contains("\n[1]\n") || block.contains("\n[2]\n"),
            "{block}"
        );
    }
    insta::assert_snapshot!("mistakes", all);
}

#[test]
fn each_broken_document_is_refused_with_its_code() {
    let home = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(repository("tests/it/broken")).unwrap() {
        let path = entry.unwrap().path();
        let output = failover(
            home.path(),
            &["validate", "-o", "json", path.to_str().unwrap()],
        );
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
        let problems = answer["problems"].as_array().unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let code = name.get(..6).unwrap().to_uppercase();
        if name.starts_with("fo-") {
            assert!(
                problems.iter().any(|p| p["code"] == code),
                "{name}: {answer:#}"
            );
        }
        let usable = answer["valid"].as_bool().unwrap();
        assert_eq!(output.status.code(), Some(i32::from(!usable)), "{name}");
        assert!(!problems.is_empty(), "{name}");
        assert!(usable == code.starts_with("FO-19"), "{name}: {answer:#}");
        seen += 1;
    }
    assert!(seen > 60);
    let all = failover(home.path(), &["validate", &repository("tests/it/broken")]);
    assert_eq!(all.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&all.stderr).contains("error[FO-002]: "));
}

#[test]
fn examples_are_valid_and_fit_the_schema() {
    let home = tempfile::tempdir().unwrap();
    let output = failover(home.path(), &["schema"]);
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    for example in [
        "accountancy",
        "bookkeeping",
        "crm",
        "invoicing",
        "task-management",
    ] {
        let folder = repository(&format!("examples/{example}"));
        let output = failover(home.path(), &["validate", &folder]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        for entry in fs::read_dir(&folder).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            for document in documents {
                let faults = json_schema::faults(&schema, &document);
                assert!(faults.is_empty(), "{example}: {faults:#?}");
            }
        }
    }
}

#[test]
fn completions_know_every_command() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = failover(home.path(), &["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let script = String::from_utf8(output.stdout).unwrap();
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(script.contains("standby-address"), "{shell}");
        if shell == "bash" {
            let file = home.path().join("completion");
            fs::write(&file, &script).unwrap();
            let check = "source ./completion && complete -p failover";
            let read = Command::new("bash")
                .args(["--norc", "-c", check])
                .current_dir(home.path())
                .output()
                .unwrap();
            assert!(read.status.success(), "{}", text(&read));
        }
    }
}

#[test]
fn runbooks_are_shown_with_what_they_leave_to_defaults() {
    let home = tempfile::tempdir().unwrap();
    let output = failover(home.path(), &["runbook", "show", "postgres-failover"]);
    insta::assert_snapshot!("runbook", String::from_utf8(output.stdout).unwrap());
}

#[test]
fn tokens_are_made_and_hashed() {
    let home = tempfile::tempdir().unwrap();
    let output = failover(home.path(), &["token", "-o", "json"]);
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    fs::write(home.path().join("token"), made["token"].as_str().unwrap()).unwrap();
    fs::write(home.path().join("note"), "buy milk").unwrap();
    let said = shown(home.path(), &["token", "--hash-of", "note"]);
    assert!(said.contains("one begins with fot_"), "{said}");
    let output = failover(home.path(), &["token", "--hash-of", "token"]);
    let hash = String::from_utf8(output.stdout).unwrap();
    assert_eq!(hash.trim(), made["tokenHash"].as_str().unwrap());
    let again: Value =
        serde_json::from_slice(&failover(home.path(), &["token", "-o", "json"]).stdout).unwrap();
    assert_ne!(again["token"], made["token"]);
}

#[test]
fn a_guard_that_is_not_there_is_named_and_a_new_one_is_to_be_enrolled() {
    let home = tempfile::tempdir().unwrap();
    write_guard(&home);
    let said = shown(home.path(), &["guard", "status", "-f", "guard.yaml"]);
    assert!(
        said.contains("no guard answers at [home]/guard/guard.sock"),
        "{said}"
    );
    assert!(
        said.contains("'failover guard run -f guard.yaml'"),
        "{said}"
    );
    let said = shown(home.path(), &["guard", "run", "-f", "guard.yaml"]);
    assert!(
        said.contains("'failover guard init -f guard.yaml'"),
        "{said}"
    );
}

/// The document of a guard that was never enrolled.
fn write_guard(home: &tempfile::TempDir) {
    let state = home.path().join("guard");
    let data = home.path().join("pg");
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let document = format!(
        "service: shop\nsite: paris\nlisten: 127.0.0.1:0\nkey: {{file: /nowhere/guard.key}}\n\
         controller: {{name: dr, address: '127.0.0.1:1', publicKey: {key}}}\nstate: {}\n\
         database:\n  program: /usr/bin/postgres\n  args: [-D, /srv/pg]\n  user: postgres\n  dataDir: {}\n  \
         listen: ['127.0.0.1:5432']\n  connection: host=/run/postgresql user=failover\n",
        state.display(),
        data.display()
    );
    fs::write(home.path().join("guard.yaml"), document).unwrap();
}

#[test]
fn data_that_a_rewind_was_broken_off_in_is_not_followed_with_before_it_was_made_anew() {
    let home = tempfile::tempdir().unwrap();
    write_guard(&home);
    let mark = home.path().join("pg.rewinding");
    fs::write(&mark, "[]").unwrap();
    let said = shown(home.path(), &["guard", "rejoin", "-f", "guard.yaml"]);
    assert!(said.contains("neither the old nor the new"), "{said}");
    assert!(said.contains("--rebuilt"), "{said}");
    let args = ["guard", "rejoin", "--rebuilt", "-f", "guard.yaml"];
    let said = shown(home.path(), &args);
    assert!(said.contains("was never enrolled"), "{said}");
    assert!(mark.exists(), "nothing was written, and nothing removed");
}

#[test]
fn a_plan_without_a_controller_says_that_nobody_looked() {
    let home = tempfile::tempdir().unwrap();
    let documents = repository("examples/bookkeeping");
    let plan = shown(home.path(), &["plan", "bookkeeping", "-f", &documents]);
    assert!(
        plan.contains("expected loss: unknown: not looked at without a controller"),
        "{plan}"
    );
}
