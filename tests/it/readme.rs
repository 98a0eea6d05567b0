//! Every command that README.md shows is one, and those that only look are run.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::{CommandFactory, Parser, error::ErrorKind};
use failover::cli::arguments::Arguments;

use crate::stand::controller::{Stand, text};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Commands of `console` blocks and of inline code, as they are typed after the prompt.
fn commands() -> Vec<String> {
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    let mut found = Vec::new();
    let mut prose = String::new();
    let mut fence: Option<bool> = None;
    let mut open: Option<String> = None;
    for line in readme.lines().map(str::trim) {
        if let Some(kind) = line.strip_prefix("```") {
            fence = match fence {
                None => Some(kind == "console"),
                Some(_) => None,
            };
            continue;
        }
        match fence {
            None => {
                prose.push_str(line);
                prose.push(' ');
            }
            Some(false) => {}
            Some(true) => {
                let typed = match (open.take(), line.strip_prefix("$ ")) {
                    (Some(begun), _) => begun + line,
                    (None, Some(typed)) => typed.to_owned(),
                    (None, None) => continue,
                };
                match typed.strip_suffix('\\') {
                    Some(begun) => open = Some(begun.to_owned()),
                    None => found.push(typed),
                }
            }
        }
    }
    let spans = prose.split('`').skip(1).step_by(2);
    found.extend(
        spans
            .filter(|s| s.starts_with("failover "))
            .map(ToOwned::to_owned),
    );
    found
}

/// Words as a shell splits them; what follows `#`, `|` or `>` is no longer the command's.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#' | '|' | '>') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (Some(_) | None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The command's own words, where it is one of `failover`.
fn own(command: &str) -> Option<Vec<String>> {
    let words = words(command);
    let is = |first: &[&str]| words.iter().take(first.len()).eq(first.iter());
    if is(&["failover"]) {
        return Some(words);
    }
    let cargo = ["cargo", "run", "--release", "--"];
    is(&cargo).then(|| {
        let rest = words[cargo.len()..].iter().cloned();
        std::iter::once("failover".to_owned()).chain(rest).collect()
    })
}

/// Whether all words name commands, as where the text speaks of one.
fn names_only(words: &[String]) -> bool {
    let mut at = Arguments::command();
    words[1..].iter().all(|word| {
        let found = at.find_subcommand(word).cloned();
        found.is_some_and(|command| {
            at = command;
            true
        })
    })
}

/// Whether nothing is wrong but that more has to follow.
fn is_unfinished(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

#[test]
fn every_command_is_one() {
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    let mut ours = 0;
    for command in &commands {
        let Some(words) = own(command) else {
            let program = words(command).remove(0);
            if program != "cargo" {
                let mode = fs::metadata(repository(&program))
                    .unwrap()
                    .permissions()
                    .mode();
                assert!(mode & 0o111 != 0, "{command}");
            }
            continue;
        };
        ours += 1;
        match Arguments::try_parse_from(&words) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::DisplayHelp => {}
            Err(e) if names_only(&words) && is_unfinished(e.kind()) => {}
            Err(e) => panic!("{command}: {e}"),
        }
    }
    assert!(ours > 10, "{commands:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_works() {
    let stand = Stand::running().await;
    let documents = stand.documents();
    let mut ran = Vec::new();
    for words in commands().iter().filter_map(|c| own(c)) {
        // The folder of the text is the stand's.
        let args: Vec<String> = words[1..]
            .iter()
            .map(|w| match w.as_str() {
                "documents/" | "documents" => documents.display().to_string(),
                "TOPIC" => "fencing".to_owned(),
                _ => w.clone(),
            })
            .collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let looks = [
            "--help",
            "--version",
            "schema",
            "help",
            "token",
            "validate",
            "runbook",
            "explain",
            "status",
            "timeline",
            "plan",
            "check",
            "journal",
            "completions",
        ];
        let restores = args.starts_with(&["journal", "restore"]);
        // There is none: `web::remote` has one.
        let elsewhere = args.contains(&"--server");
        if restores || elsewhere || !args.first().is_some_and(|a| looks.contains(a)) {
            continue;
        }
        if names_only(&words) && Arguments::try_parse_from(&words).is_err() {
            continue;
        }
        let output = stand.cli(&args);
        // A check that is not green is an answer too.
        let right =
            output.status.success() || (args[0] == "check" && text(&output).contains("FO-040"));
        assert!(right, "{args:?}: {}", text(&output));
        ran.push(args[0].to_owned());
    }
    for needed in [
        "schema", "help", "token", "validate", "explain", "check", "timeline",
    ] {
        assert!(
            ran.iter().any(|r| r == needed),
            "{needed} is not in {ran:?}"
        );
    }
}
