//! Style is a test: what the code map, the house style and deny.toml say, checked on the files as they lie there.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use failover::{
    driver::registry,
    port::kind::Kind,
    spec::{self, Severity},
};
use serde_json::Value;

/// What each room of `src/` may know besides itself. `lib.rs` and `main.rs` stand above all rooms.
const FLOORS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("port", &["model"]),
    ("decide", &["model"]),
    ("spec", &["model", "port"]),
    ("journal", &["model", "port"]),
    ("probe", ADAPTER),
    ("fence", ADAPTER),
    ("promote", ADAPTER),
    ("dns", ADAPTER),
    ("publish", ADAPTER),
    ("announce", ADAPTER),
    ("vantage", ADAPTER),
    ("guard", ADAPTER),
    ("backup", ADAPTER),
    ("drill", ADAPTER),
    ("chat", ADAPTER),
    ("driver", BELOW_DRIVER),
    ("sim", BELOW_SIM),
    ("desk", BELOW_SIM),
    ("bot", BELOW_FRONT),
    ("web", BELOW_FRONT),
    ("operator", BELOW_OPERATOR),
    ("cli", BELOW_CLI),
    ("error", &[]),
];
const ADAPTER: &[&str] = &["model", "port"];
const BELOW_DRIVER: &[&str] = &[
    "model", "port", "decide", "spec", "journal", "probe", "fence", "promote", "dns", "publish",
    "announce", "vantage", "guard", "backup", "drill", "chat",
];
const BELOW_SIM: &[&str] = &[
    "model", "port", "decide", "spec", "journal", "probe", "fence", "promote", "dns", "publish",
    "announce", "vantage", "guard", "backup", "drill", "chat", "driver",
];
const BELOW_FRONT: &[&str] = &[
    "model", "port", "decide", "spec", "journal", "probe", "fence", "promote", "dns", "publish",
    "announce", "vantage", "guard", "backup", "drill", "chat", "driver", "desk",
];
const BELOW_OPERATOR: &[&str] = &[
    "model", "port", "decide", "spec", "journal", "probe", "fence", "promote", "dns", "publish",
    "announce", "vantage", "guard", "backup", "drill", "chat", "driver", "desk", "web",
];
const BELOW_CLI: &[&str] = &[
    "model", "port", "decide", "spec", "journal", "probe", "fence", "promote", "dns", "publish",
    "announce", "vantage", "guard", "backup", "drill", "chat", "driver", "desk", "bot", "web",
    "sim", "operator", "error",
];

/// What rooms without IO may not name.
const IMPURE: &[&str] = &[
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "async",
    "await",
    "rand",
    "reqwest",
    "tokio",
];

/// The most lines of a file.
const LINES: usize = 800;

const TOP_FOLDERS: &[&str] = &[".ci", "charts", "examples", "runbooks", "src", "tests"];
const TOP_FILES: &[&str] = &[
    ".dockerignore",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
];
/// What git and cargo make.
const MADE: &[&str] = &[".git", "target"];

/// A file of the project.
struct File {
    /// From the top, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e == "rs")
    }

    fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.split('.').next().unwrap_or_default()
    }

    /// The room of `src/` it stands in.
    fn room(&self) -> Option<&str> {
        let (room, _) = self.path.strip_prefix("src/")?.split_once('/')?;
        Some(room)
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the project.
fn files() -> Vec<File> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = TOP_FOLDERS.iter().map(|f| top().join(f)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.extend(read(&entry.path()));
            }
        }
    }
    files.extend(TOP_FILES.iter().filter_map(|f| read(&top().join(f))));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 50, "the project's files were not found");
    files
}

/// A file, unless it is a picture or is not there.
fn read(path: &Path) -> Option<File> {
    let text = fs::read_to_string(path).ok()?;
    let path = path.strip_prefix(top()).unwrap().to_str()?.to_owned();
    Some(File { path, text })
}

fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn imports_go_down_never_up_or_sideways() {
    let mut wrong = Vec::new();
    let rooms: BTreeMap<_, _> = FLOORS.iter().copied().collect();
    for file in files().iter().filter(|f| f.is_rust()) {
        let Some(room) = file.room() else { continue };
        let Some(may) = rooms.get(room) else {
            wrong.push(format!("{}: no floor is known for room {room}", file.path));
            continue;
        };
        for seen in rooms_named(&code(&file.text), depth(&file.path)) {
            if rooms.contains_key(seen.as_str()) && seen != room && !may.contains(&seen.as_str()) {
                wrong.push(format!("{}: {room} may not know {seen}", file.path));
            }
        }
    }
    none("imports against the floors", &wrong);
}

#[test]
fn the_pure_rooms_have_no_clock_no_chance_and_no_io() {
    let mut wrong = Vec::new();
    for file in files().iter().filter(|f| f.is_rust()) {
        if matches!(file.room(), Some("model" | "decide")) {
            let code = code(&file.text);
            let words: BTreeSet<&str> = words(&code).collect();
            let named = IMPURE.iter().filter(|w| words.contains(*w));
            wrong.extend(named.map(|w| format!("{}: {w}", file.path)));
        }
    }
    none("impure words in pure rooms", &wrong);
}

#[test]
fn the_simulator_has_no_clock_and_no_chance_but_its_own() {
    const REAL: &[&str] = &[
        "HashMap",
        "HashSet",
        "Instant",
        "SystemTime",
        "rand",
        "tokio",
    ];
    let mut wrong = Vec::new();
    for file in files().iter().filter(|f| f.room() == Some("sim")) {
        let code = code(&file.text);
        let words: BTreeSet<&str> = words(&code).collect();
        let named = REAL.iter().filter(|w| words.contains(*w));
        wrong.extend(named.map(|w| format!("{}: {w}", file.path)));
    }
    none("what makes two histories of one seed differ", &wrong);
}

#[test]
fn files_are_short_and_named_after_nouns() {
    const NO_NAMES: &[&str] = &["util", "helper", "common", "manager", "misc"];
    let mut wrong = Vec::new();
    for file in files().iter().filter(|f| f.is_rust()) {
        let lines = file.text.lines().count();
        if lines > LINES {
            wrong.push(format!("{}: {lines} lines", file.path));
        }
        let stem = file.stem().trim_end_matches('s');
        if NO_NAMES
            .iter()
            .any(|no| stem.split('_').any(|part| part == *no))
        {
            wrong.push(format!("{}: says nothing of what it holds", file.path));
        }
        let folder_says = file.path.ends_with("/mod.rs") || file.path.ends_with("/lib.rs");
        if folder_says && !file.text.starts_with("//!") {
            wrong.push(format!("{}: does not say what the folder does", file.path));
        }
    }
    none("files that are too long or misnamed", &wrong);
}

#[test]
fn nothing_is_left_to_do_or_silenced() {
    let mut wrong = Vec::new();
    for file in files() {
        let notes = [
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("XX", "X:"),
        ];
        for (number, line) in file.text.lines().enumerate() {
            if let Some(note) = notes.iter().find(|n| line.contains(**n)) {
                wrong.push(format!("{}:{}: {note}", file.path, number + 1));
            }
        }
        if file.is_rust() {
            let code = code(&file.text);
            let bare = ["todo!", "unimplemented!", "#[ignore", "#[allow", "#![allow"];
            let found = bare.iter().filter(|b| code.contains(**b));
            wrong.extend(found.map(|b| format!("{}: {b}", file.path)));
        }
    }
    none("left to do, or silenced", &wrong);
}

#[test]
fn the_top_level_holds_what_the_code_map_names() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(top()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let known = if entry.path().is_dir() {
            TOP_FOLDERS
        } else {
            TOP_FILES
        };
        if !known.contains(&name.as_str()) && !MADE.contains(&name.as_str()) {
            wrong.push(name);
        }
    }
    none("what does not belong at the top", &wrong);
}

#[test]
fn no_file_names_a_place_on_the_machine_it_was_written_on() {
    let mut wrong = Vec::new();
    for file in files() {
        for (number, line) in file.text.lines().enumerate() {
            if names_private_place(line) {
                wrong.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    none("places that only one machine has", &wrong);
}

#[test]
fn every_kind_is_documented_and_its_example_is_right() {
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for kind in registry::kinds().0 {
        let name = kind.name;
        if !names.insert(name) {
            wrong.push(format!("{name}: listed twice"));
        }
        if name.split('/').count() != 2 || name != name.to_lowercase() {
            wrong.push(format!("{name}: expected family/name"));
        }
        if kind.summary.trim().is_empty() || kind.summary.contains('\n') {
            wrong.push(format!("{name}: the summary is not one line"));
        }
        wrong.extend(
            example_faults(kind)
                .into_iter()
                .map(|f| format!("{name}: {f}")),
        );
        wrong.extend(
            undocumented(kind)
                .into_iter()
                .map(|f| format!("{name}: with.{f} has no docs")),
        );
    }
    none("kinds", &wrong);
}

#[test]
fn every_ready_made_runbook_is_right_and_built_in() {
    let mut wrong = Vec::new();
    let built_in: BTreeSet<&str> = spec::RUNBOOKS.iter().map(|r| r.text).collect();
    let files = files();
    let runbooks: Vec<&File> = files
        .iter()
        .filter(|f| f.path.starts_with("runbooks/"))
        .collect();
    assert!(!runbooks.is_empty(), "the runbooks were not found");
    for file in runbooks {
        let loaded = spec::read_text(&file.path, &file.text, registry::kinds());
        let errors = loaded
            .diagnostics
            .iter()
            .filter(|d| d.severity == Severity::Error);
        wrong.extend(errors.map(|d| format!("{}: {}", file.path, d.message)));
        if !built_in.contains(file.text.as_str()) {
            wrong.push(format!("{}: not built in", file.path));
        }
    }
    none("ready-made runbooks", &wrong);
}

#[test]
fn the_checks_of_this_file_can_fail() {
    let text = r#"
        // crate::comment
        use crate::{dns::{self, zone}, model, port::{a, b}};
        const S: &str = "crate::string"; const C: char = '"';
        fn f<'a>(x: &'a str) { super::super::announce::g(r"crate::raw"); crate::spec::h() }
    "#;
    let named = rooms_named(&code(text), 2);
    let expected = ["announce", "dns", "model", "port", "spec"];
    assert_eq!(
        named.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
    assert_eq!(rooms_named("super::super::a::f()", 3), BTreeSet::new());

    let tmp = concat!("/", "tmp");
    assert!(names_private_place(&format!("cd {tmp}/x1")));
    assert!(!names_private_place(&format!("https://example.com{tmp}/x")));

    let allowed = ["MIT", "Apache-2.0"].map(str::to_owned).into();
    assert!(licensed("GPL-3.0 OR (MIT AND Apache-2.0)", &allowed));
    assert!(licensed("MIT/Apache-2.0", &allowed));
    assert!(!licensed("MIT AND GPL-3.0", &allowed));
    assert!(!licensed("Apache-2.0 WITH LLVM-exception", &allowed));
}

#[test]
fn dependencies_are_free_few_and_of_one_tls_stack() {
    let deny = fs::read_to_string(top().join("deny.toml")).unwrap();
    let allowed = quoted(section(&deny, "allow = ["));
    let banned = quoted(section(&deny, "deny = ["));
    assert!(
        allowed.contains("MIT") && banned.contains("openssl"),
        "deny.toml was not understood"
    );

    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let license = package["license"].as_str().unwrap_or("none");
        if !licensed(license, &allowed) {
            wrong.push(format!("{name}: license {license}"));
        }
        if banned.contains(name) {
            wrong.push(format!("{name}: banned"));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|s| !s.starts_with("registry+")) {
            wrong.push(format!("{name}: comes from {source:?}"));
        }
    }
    let root = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["name"] == "failover")
        .unwrap();
    let clients: Vec<&Value> = root["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|d| d["name"] == "reqwest")
        .collect();
    if clients.len() != 1 {
        wrong.push("reqwest: the project has one HTTP client of its own".to_owned());
    }
    none("dependencies", &wrong);
}

/// What cargo would build for this platform, without asking the network.
fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let run = Command::new(cargo)
        .args(["metadata", "--offline", "--locked", "--format-version=1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let mut metadata: Value = serde_json::from_slice(&run.stdout).unwrap();
    let built: BTreeSet<String> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["id"].as_str().unwrap().to_owned())
        .collect();
    metadata["packages"]
        .as_array_mut()
        .unwrap()
        .retain(|p| built.contains(p["id"].as_str().unwrap()));
    metadata
}

/// The list that begins with `start` in a TOML text.
fn section<'a>(toml: &'a str, start: &str) -> &'a str {
    let list = toml.split_once(start).unwrap().1;
    list.split_once("\n]").unwrap().0
}

fn quoted(text: &str) -> BTreeSet<String> {
    text.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Whether an SPDX expression can be met by allowed licenses.
fn licensed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    either(&mut rest, allowed) && rest.is_empty()
}

fn either(tokens: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = both(tokens, allowed);
    while let Some((&"OR", rest)) = tokens.split_first() {
        *tokens = rest;
        met |= both(tokens, allowed);
    }
    met
}

fn both(tokens: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = one(tokens, allowed);
    while let Some((&"AND", rest)) = tokens.split_first() {
        *tokens = rest;
        met &= one(tokens, allowed);
    }
    met
}

fn one(tokens: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match tokens {
        ["(", rest @ ..] => {
            *tokens = rest;
            let met = either(tokens, allowed);
            *tokens = tokens.split_first().map_or(&[], |(_, rest)| rest);
            met
        }
        [license, "WITH", exception, rest @ ..] => {
            let name = format!("{license} WITH {exception}");
            *tokens = rest;
            allowed.contains(&name)
        }
        [license, rest @ ..] => {
            let met = allowed.contains(*license);
            *tokens = rest;
            met
        }
        [] => false,
    }
}

fn example_faults(kind: &Kind) -> Vec<String> {
    let with: Value = match serde_saphyr::from_str(kind.example) {
        Ok(with) => with,
        Err(e) => return vec![format!("the example is no YAML: {e}")],
    };
    let problems = (kind.check)(&with);
    let mut faults: Vec<String> = problems
        .iter()
        .map(|p| format!("its example is wrong at {:?}: {}", p.path, p.message))
        .collect();
    let told = (kind.hosts)(&with);
    let silent = hosts_in(&with)
        .into_iter()
        .filter(|host| !told.iter().any(|t| t == host));
    faults.extend(
        silent.map(|h| format!("hosts() does not tell {h}, which the example connects to")),
    );
    faults
}

/// Hosts of the URLs that settings hold under keys that are connected to. What stands below `unsubscribe` is a link
/// for the reader of a message.
fn hosts_in(with: &Value) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    if let Value::Object(fields) = with {
        for (key, value) in fields.iter().filter(|(key, _)| *key != "unsubscribe") {
            let connects = matches!(key.as_str(), "url" | "endpoint" | "server" | "address");
            let url = value.as_str().and_then(|text| url::Url::parse(text).ok());
            let host = url.filter(|u| matches!(u.scheme(), "http" | "https"));
            if let Some(host) = host.as_ref().and_then(url::Url::host_str)
                && connects
            {
                hosts.insert(host.to_owned());
            }
            hosts.extend(hosts_in(value));
        }
    }
    hosts
}

/// Fields of a kind's settings that say nothing of themselves.
fn undocumented(kind: &Kind) -> Vec<String> {
    let mut generator = schemars::SchemaGenerator::default();
    let schema = (kind.schema)(&mut generator);
    let fields = schema.get("properties").and_then(Value::as_object);
    fields
        .into_iter()
        .flatten()
        .filter(|(_, field)| field.get("description").is_none())
        .map(|(name, _)| name.clone())
        .collect()
}

fn names_private_place(line: &str) -> bool {
    ["root", "work", "tmp"].iter().any(|folder| {
        let place = format!("/{folder}/");
        line.match_indices(&place).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + place.len()..].chars().next();
            let starts = before.is_none_or(|c| !c.is_alphanumeric() && !"./-_}".contains(c));
            starts && after.is_some_and(char::is_alphanumeric)
        })
    })
}

/// How many `super` lead from a file's own module to the crate: `src/dns/zone.rs` is two below it.
fn depth(path: &str) -> usize {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    path.trim_end_matches("/mod").split('/').count()
}

/// The rooms that code names, as `crate::room`, within `crate::{…}`, or by climbing up with `super`. In a test
/// module at the bottom of a file one more `super` is needed to climb as far, so it can only be missed there.
fn rooms_named(code: &str, depth: usize) -> BTreeSet<String> {
    let climbed = "super::".repeat(depth);
    let mut rooms = BTreeSet::new();
    for from in ["crate::", climbed.as_str()] {
        for (at, _) in code.match_indices(from) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = &code[at + from.len()..];
            match rest.strip_prefix('{') {
                Some(group) => rooms.extend(heads(group)),
                None => rooms.extend(words(rest).next().map(str::to_owned)),
            }
        }
    }
    rooms.remove("super");
    rooms
}

/// The first words of a `use` group's entries.
fn heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut open, mut entry) = (0, String::new());
    for c in group.chars() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => break,
            '}' => open -= 1,
            ',' if open == 0 => heads.push(std::mem::take(&mut entry)),
            c if open == 0 => entry.push(c),
            _ => {}
        }
    }
    heads.push(entry);
    heads
        .iter()
        .filter_map(|entry| words(entry).next().map(str::to_owned))
        .collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty())
}

/// Rust without its comments, and with its strings and characters empty.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(end) = raw_string(rest, &code) {
            code.push_str("\"\"");
            end
        } else if c == '"' {
            code.push_str("\"\"");
            string(rest)
        } else if let Some(end) = character(rest) {
            code.push_str("' '");
            end
        } else {
            code.push(c);
            c.len_utf8()
        };
        rest = &rest[skip..];
    }
    code
}

/// Length of the raw string that begins here.
fn raw_string(rest: &str, before: &str) -> Option<usize> {
    if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let hashes = rest.strip_prefix('r')?;
    let count = hashes.find(|c| c != '#')?;
    hashes[count..].strip_prefix('"')?;
    let start = 1 + count + 1;
    let end = format!("\"{}", "#".repeat(count));
    Some(start + rest[start..].find(&end)? + end.len())
}

/// Length of the string that begins here.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Length of the character that begins here; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    if let Some(escape) = body.strip_prefix('\\') {
        let end = escape.char_indices().skip(1).find(|(_, c)| *c == '\'')?.0;
        return Some(2 + end + 1);
    }
    let c = body.chars().next()?;
    body[c.len_utf8()..]
        .starts_with('\'')
        .then_some(1 + c.len_utf8() + 1)
}
