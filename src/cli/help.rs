//! `failover help`: commands, topics and error codes.

use std::fmt::Write as _;

use clap::CommandFactory;
use owo_colors::Style;

use super::{
    arguments::{self, Arguments},
    output::{self, Output},
};
use crate::{
    driver::registry,
    error::{self, Error},
    port::kind::{Kind, Make},
    spec::{self, Severity},
};

/// A page of Markdown.
struct Topic {
    name: &'static str,
    summary: &'static str,
    text: &'static str,
}

/// Every page, in the order in which they are listed; a new one is a file and an entry here.
const TOPICS: &[Topic] = &[
    Topic {
        name: "quickstart",
        summary: "from nothing to a protected PostgreSQL",
        text: include_str!("help/quickstart.md"),
    },
    Topic {
        name: "modes",
        summary: "observe, ask, automatic, and how automatic is earned",
        text: include_str!("help/modes.md"),
    },
    Topic {
        name: "readiness",
        summary: "what is checked, what the verdict says and for how long, comparisons of your own",
        text: include_str!("help/readiness.md"),
    },
    Topic {
        name: "fencing",
        summary: "how it is proved that the old primary cannot write",
        text: include_str!("help/fencing.md"),
    },
    Topic {
        name: "guards",
        summary: "a primary that is frozen, cut off or lost is known to be over: leases and their guards",
        text: include_str!("help/guards.md"),
    },
    Topic {
        name: "operator",
        summary: "the controller in Kubernetes: resources, conditions, who asks and who approves, leaders",
        text: include_str!("help/operator.md"),
    },
    Topic {
        name: "switchover",
        summary: "planned moves there and back, and what only the old primary has",
        text: include_str!("help/switchover.md"),
    },
    Topic {
        name: "drill",
        summary: "exercising the recovery: on paper and in a bubble, on a schedule, and the reports",
        text: include_str!("help/drill.md"),
    },
    Topic {
        name: "approvals",
        summary: "who may say yes, tokens, break-glass",
        text: include_str!("help/approvals.md"),
    },
    Topic {
        name: "chat",
        summary: "leading an incident from Telegram, and who may do what",
        text: include_str!("help/chat.md"),
    },
    Topic {
        name: "paging",
        summary: "who of the team is paged when: severity, escalation, many pages at once",
        text: include_str!("help/paging.md"),
    },
    Topic {
        name: "commands",
        summary: "the contract of your own commands for fence, promote and probe",
        text: include_str!("help/commands.md"),
    },
    Topic {
        name: "backups",
        summary: "backups as the second line: what a policy asks of them",
        text: include_str!("help/backups.md"),
    },
    Topic {
        name: "groups",
        summary: "many services on one dead site: waves, how many at once, one announcement",
        text: include_str!("help/groups.md"),
    },
    Topic {
        name: "desk",
        summary: "the team's website and its API: who gets in, and what is done there",
        text: include_str!("help/desk.md"),
    },
    Topic {
        name: "vantage-points",
        summary: "who looks from where, and observers elsewhere",
        text: include_str!("help/vantage-points.md"),
    },
    Topic {
        name: "simulation",
        summary: "what is played in a simulation, and which rules it is held against",
        text: include_str!("help/simulation.md"),
    },
    Topic {
        name: "templates",
        summary: "the words that customers get, and their variables",
        text: include_str!("help/templates.md"),
    },
    Topic {
        name: "exit-statuses",
        summary: "0, 1 and 2",
        text: include_str!("help/exit-statuses.md"),
    },
];

/// `failover help`.
///
/// # Errors
/// Where there is no such page.
pub fn help(args: &arguments::Help, output: Output) -> Result<(), Error> {
    let words: Vec<&str> = args.topic.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        [] => contents(),
        ["kinds"] => kinds(),
        ["errors"] => errors(),
        ["kinds", name] => kind(name)?,
        [word] if word.to_ascii_uppercase().starts_with("FO-") => code(word)?,
        words => match TOPICS.iter().find(|t| [t.name] == *words) {
            Some(topic) => topic.text.to_owned(),
            None => match registry::kinds().get(&words.join("/")) {
                Some(found) => render_kind(found),
                None => command(words)?,
            },
        },
    };
    output.text(&headings(&text, output.color))
}

/// What there is to read.
fn contents() -> String {
    let mut text = String::from("# Topics\n\n");
    let rest = [
        ("kinds", "every adapter that documents may name in 'uses'"),
        ("errors", "every error code, FO-001 and up"),
    ];
    let topics = TOPICS.iter().map(|t| (t.name, t.summary)).chain(rest);
    for (name, summary) in topics {
        let _ = writeln!(text, "  {name:<16}{summary}");
    }
    text.push_str(
        "\nfailover help TOPIC         one of these\n\
         failover help COMMAND       a command, with examples\n\
         failover help kinds KIND    an adapter, with its settings and an example\n\
         failover help FO-012        an error: cause and fix\n\
         failover --help             all commands\n",
    );
    text
}

fn missing(topic: &str) -> Error {
    Error::NoTopic {
        topic: topic.to_owned(),
    }
}

fn command(words: &[&str]) -> Result<String, Error> {
    let mut found = Arguments::command();
    found.build();
    for word in words {
        found = found
            .find_subcommand(word)
            .filter(|c| !c.is_hide_set())
            .ok_or_else(|| missing(&words.join(" ")))?
            .clone();
    }
    Ok(found.render_long_help().to_string())
}

fn code(word: &str) -> Result<String, Error> {
    let name = word.to_ascii_uppercase();
    if let Some(code) = spec::Code::named(&name) {
        let found = code.page();
        let title = match found.severity {
            Severity::Error => found.title.to_owned(),
            Severity::Warning => format!("{} (a warning)", found.title),
        };
        return Ok(page(found.code, &title, found.cause, found.fix));
    }
    error::CODES
        .iter()
        .find(|c| c.name == name)
        .map(|c| page(c.name, c.title, c.cause, c.fix))
        .ok_or_else(|| missing(word))
}

fn page(name: &str, title: &str, cause: &str, fix: &str) -> String {
    format!(
        "# {name}: {title}\n\n{}\n\nWhat to do: {}\n",
        wrap(cause),
        wrap(fix)
    )
}

fn errors() -> String {
    let mut text = String::from("# Error codes\n\n## Of the program\n");
    for code in error::CODES {
        let _ = writeln!(text, "  {}  {}", code.name, code.title);
    }
    text.push_str("\n## Of documents\n");
    for page in spec::Code::ALL.iter().map(|c| c.page()) {
        let _ = writeln!(text, "  {}  {}", page.code, page.title);
    }
    text.push_str("\n'failover help FO-012' has cause and fix.\n");
    text
}

/// Whether a kind belongs to a group of the list.
type Belongs = fn(&Kind) -> bool;

fn kinds() -> String {
    let mut text = String::from(
        "# Adapters\n\nWhat documents may name in 'uses'. 'failover help kinds KIND' has settings and an example.\n",
    );
    let groups: [(&str, Belongs); 8] = [
        ("Probes", |k| matches!(k.make, Make::Probe(_))),
        ("Fences", |k| {
            matches!(k.make, Make::Action(_)) && k.rung.is_some()
        }),
        ("Steps", |k| {
            matches!(k.make, Make::Action(_)) && k.rung.is_none()
        }),
        ("DNS providers", |k| matches!(k.make, Make::Dns(_))),
        ("Channels", |k| matches!(k.make, Make::Channel(_))),
        ("Chats", |k| matches!(k.make, Make::Chat(_))),
        ("Places of the status page", |k| {
            matches!(k.make, Make::Target(_))
        }),
        ("Places of backups", |k| matches!(k.make, Make::Backup(_))),
    ];
    for (title, belongs) in groups {
        let _ = write!(text, "\n## {title}\n");
        for kind in registry::kinds().0.iter().filter(|k| belongs(k)) {
            let _ = writeln!(text, "  {:<24}{}", kind.name, kind.summary);
        }
    }
    text
}

fn kind(name: &str) -> Result<String, Error> {
    registry::kinds()
        .get(name)
        .map(render_kind)
        .ok_or_else(|| missing(name))
}

fn render_kind(kind: &Kind) -> String {
    let mut text = format!("# {}\n\n{}\n", kind.name, wrap(kind.summary));
    if let Some(phase) = kind.phase {
        let _ = writeln!(text, "\nPart of a run: {phase}");
    }
    if let Some(rung) = kind.rung {
        let _ = writeln!(text, "Proof that it can reach: {rung}");
    }
    if let Some(evidence) = kind.evidence {
        let _ = writeln!(text, "\nEvidence: {evidence}");
    }
    let _ = write!(text, "\n## Example\n\nuses: {}\nwith:\n", kind.name);
    for line in kind.example.trim_matches('\n').lines() {
        let _ = writeln!(text, "  {line}");
    }
    let mut generator = schemars::SchemaGenerator::default();
    let schema = (kind.schema)(&mut generator);
    let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) else {
        return text;
    };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(|r| r.as_array())
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str())
        .collect();
    text.push_str("\n## Settings\n");
    for (name, property) in properties {
        let about = property
            .get("description")
            .and_then(|d| d.as_str())
            .unwrap_or_default()
            .replace('\n', " ");
        let must = if required.contains(&name.as_str()) {
            " (required)"
        } else {
            ""
        };
        let _ = writeln!(text, "  {name}{must}\n      {about}");
    }
    text
}

/// Breaks a paragraph at 100 columns.
fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + 1 + word.len() > 100 {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines.join("\n")
}

/// Headings stand out where there is colour, and lose nothing where there is none.
fn headings(text: &str, color: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match line.trim_start_matches('#') {
            rest if rest.len() < line.len() && rest.starts_with(' ') => {
                out.push_str(&output::paint(
                    rest.trim_start(),
                    Style::new().bold(),
                    color,
                ));
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_begins_with_a_heading_and_fits_on_a_terminal() {
        for topic in TOPICS {
            assert!(topic.text.starts_with("# "), "{}", topic.name);
            for line in topic.text.lines() {
                assert!(line.chars().count() <= 110, "{}: {line}", topic.name);
            }
        }
    }

    #[test]
    fn an_error_code_has_its_page() {
        let text = code("fo-012").unwrap();
        assert!(text.starts_with("# FO-012: No controller answers."));
        assert!(matches!(code("FO-999"), Err(Error::NoTopic { .. })));
    }

    #[test]
    fn every_code_that_can_be_printed_has_its_page() {
        let listed = errors();
        let of_program = error::CODES.iter().map(|c| c.name);
        let of_documents = spec::Code::ALL.iter().map(|c| c.page().code);
        for name in of_program.chain(of_documents) {
            let text = code(name).unwrap();
            assert!(text.starts_with(&format!("# {name}: ")), "{text}");
            assert!(text.contains("\n\nWhat to do: "), "{text}");
            assert!(listed.contains(name), "{name}");
        }
    }

    #[test]
    fn every_code_that_is_spoken_of_has_its_page() {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut open = vec![source.join("src"), source.join("README.md")];
        let mut seen = 0;
        while let Some(path) = open.pop() {
            if path.is_dir() {
                let inside = std::fs::read_dir(&path).unwrap();
                open.extend(inside.map(|e| e.unwrap().path()));
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for (at, _) in text.match_indices("FO-") {
                let name = text.get(at..at + 6).unwrap_or_default();
                let digits = name.trim_start_matches("FO-");
                let is_code = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
                if is_code && name != "FO-999" {
                    assert!(code(name).is_ok(), "{name} in {}", path.display());
                    seen += 1;
                }
            }
        }
        assert!(seen > 50, "{seen}");
    }

    #[test]
    fn every_adapter_that_a_page_names_is_one() {
        let rooms = [
            "probe/",
            "fence/",
            "attest/",
            "command/",
            "postgres/",
            "http/",
            "dns/",
            "backup/",
            "drill/",
        ];
        for topic in TOPICS {
            let words = topic
                .text
                .split(|c: char| c.is_whitespace() || ",:'()`;".contains(c));
            for word in words.filter(|w| rooms.iter().any(|r| w.starts_with(r))) {
                let known = registry::kinds().get(word).is_some();
                assert!(known, "{}: {word}", topic.name);
            }
        }
    }

    #[test]
    fn a_command_within_a_command_has_its_page() {
        assert!(command(&["journal", "verify"]).unwrap().contains("--from"));
        assert!(command(&["part-of-demo"]).is_err());
    }
}
