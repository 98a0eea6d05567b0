//! What people write, as far as it can be told without knowing what there is.

/// What a command is about. The order is that of `/help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// How services stand.
    Status,
    /// Whether the room hears of every change.
    Stalk,
    /// What a run would do.
    Plan,
    /// What happened.
    Timeline,
    /// Who can be called.
    OnCall,
    /// Who speaks.
    WhoAmI,
    /// There is an incident.
    Declare,
    /// A remark.
    Note,
    /// Who does what.
    Role,
    /// Tell customers.
    Announce,
    /// Begin a failover.
    Failover,
    /// Begin a redirect.
    Redirect,
    /// Begin a switchover.
    Switchover,
    /// Begin a failback.
    Failback,
    /// Answer a question with yes.
    Approve,
    /// Answer it with yes, alone.
    BreakGlass,
    /// Answer a question with no.
    Deny,
    /// Begin nothing by itself.
    Pause,
    /// End a pause.
    Resume,
    /// Stop a run.
    Abort,
    /// Stop paging.
    Ack,
    /// Begin a drill.
    Drill,
    /// Lower the mode.
    Mode,
    /// The incident is over.
    Resolve,
    /// Ask somebody else to lead.
    HandOff,
    /// Lead, as one was asked to.
    Accept,
    /// What can be said.
    Help,
}

/// A command: its word, what comes after it, and what it does.
pub struct Entry {
    /// The verb.
    pub verb: Verb,
    /// As it is written, without the slash.
    pub word: &'static str,
    /// What comes after it.
    pub usage: &'static str,
    /// In a few words.
    pub summary: &'static str,
}

const fn entry(
    verb: Verb,
    word: &'static str,
    usage: &'static str,
    summary: &'static str,
) -> Entry {
    Entry {
        verb,
        word,
        usage,
        summary,
    }
}

/// Everything that can be said.
pub const ENTRIES: &[Entry] = &[
    entry(
        Verb::Status,
        "status",
        "[SERVICE]",
        "how it stands, and why",
    ),
    entry(
        Verb::Stalk,
        "stalk",
        "[SERVICE] [off]",
        "say here whenever something changes",
    ),
    entry(
        Verb::Plan,
        "plan",
        "[SERVICE] [failover|redirect|switchover|failback] [to SITE]",
        "what a run would do",
    ),
    entry(
        Verb::Timeline,
        "timeline",
        "[SERVICE] [N]",
        "what happened last",
    ),
    entry(Verb::OnCall, "oncall", "[SERVICE]", "whom to call"),
    entry(Verb::WhoAmI, "whoami", "", "your number, and who that is"),
    entry(
        Verb::Declare,
        "declare",
        "[SERVICE] WHY",
        "open an incident; you lead it",
    ),
    entry(
        Verb::Note,
        "note",
        "[SERVICE] TEXT",
        "a remark for the timeline",
    ),
    entry(
        Verb::Role,
        "role",
        "[SERVICE] commander|operations|communications|scribe [@PERSON]",
        "who does what",
    ),
    entry(
        Verb::Announce,
        "announce",
        "[SERVICE] PHASE [TEXT]",
        "show what customers would read, then send it",
    ),
    entry(
        Verb::Failover,
        "failover",
        "[SERVICE] [to SITE] [WHY]",
        "show the plan, then begin it",
    ),
    entry(
        Verb::Redirect,
        "redirect",
        "[SERVICE] [to SITE] [WHY]",
        "traffic only",
    ),
    entry(
        Verb::Switchover,
        "switchover",
        "[SERVICE] [to SITE] [WHY]",
        "planned, without loss",
    ),
    entry(
        Verb::Failback,
        "failback",
        "[SERVICE] [WHY]",
        "bring the primary back",
    ),
    entry(
        Verb::Approve,
        "approve",
        "QUESTION [WHY]",
        "answer a question with yes",
    ),
    entry(
        Verb::BreakGlass,
        "breakglass",
        "QUESTION WHY",
        "answer it with yes, alone",
    ),
    entry(
        Verb::Deny,
        "deny",
        "QUESTION [WHY]",
        "answer a question with no",
    ),
    entry(
        Verb::Pause,
        "pause",
        "[SERVICE] WHY",
        "begin nothing by itself",
    ),
    entry(Verb::Resume, "resume", "[SERVICE]", "end the pause"),
    entry(
        Verb::Abort,
        "abort",
        "[SERVICE] WHY",
        "stop the run before it promotes, or the drill",
    ),
    entry(
        Verb::Ack,
        "ack",
        "[SERVICE] [PAGE]",
        "stop paging; acknowledge the last failover",
    ),
    entry(Verb::Drill, "drill", "[SERVICE] [NAME]", "begin a drill"),
    entry(
        Verb::Mode,
        "mode",
        "[SERVICE] observe|ask|automatic WHY",
        "lower the mode, or go back to the documents'",
    ),
    entry(
        Verb::Resolve,
        "resolve",
        "[SERVICE] [WHY]",
        "the incident is over",
    ),
    entry(
        Verb::HandOff,
        "handoff",
        "[SERVICE] @PERSON",
        "ask somebody else to lead",
    ),
    entry(
        Verb::Accept,
        "accept",
        "[SERVICE]",
        "lead, as you were asked to",
    ),
    entry(Verb::Help, "help", "", "this"),
];

/// A command as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phrase {
    /// Understood.
    Command {
        /// What it is about.
        verb: Verb,
        /// What came after it, without white space around it.
        rest: String,
    },
    /// It begins like a command, but there is none of that name.
    Unknown {
        /// The word.
        word: String,
        /// The nearest one.
        nearest: Option<&'static str>,
    },
}

/// Reads a text; none where it is not meant for the bot.
#[must_use]
pub fn read(text: &str) -> Option<Phrase> {
    let text = text.trim();
    let command = text.strip_prefix('/')?;
    let (word, rest) = command
        .split_once(char::is_whitespace)
        .unwrap_or((command, ""));
    // In a group a command may name the bot that it is for; whom it names is settled by the chat.
    let word = word.split('@').next().unwrap_or(word).to_lowercase();
    let meant = if word == "start" { "help" } else { &word };
    if let Some(entry) = ENTRIES.iter().find(|e| e.word == meant) {
        return Some(Phrase::Command {
            verb: entry.verb,
            rest: rest.trim().to_owned(),
        });
    }
    let near = ENTRIES
        .iter()
        .map(|e| (strsim::damerau_levenshtein(e.word, &word), e.word))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    Some(Phrase::Unknown {
        word,
        nearest: near.map(|(_, word)| word),
    })
}

/// Takes the first word of a text off it.
#[must_use]
pub fn word(rest: &str) -> (&str, &str) {
    let rest = rest.trim();
    match rest.split_once(char::is_whitespace) {
        Some((first, others)) => (first, others.trim()),
        None => (rest, ""),
    }
}

/// A person's name, with or without the sign that calls them.
#[must_use]
pub fn person(word: &str) -> &str {
    word.strip_prefix('@').unwrap_or(word)
}

/// How a command is written.
#[must_use]
pub fn usage(verb: Verb) -> String {
    ENTRIES
        .iter()
        .find(|e| e.verb == verb)
        .map_or_else(String::new, |e| format!("/{} {}", e.word, e.usage))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_understood_as_people_write_them() {
        let command = |verb, rest: &str| {
            Some(Phrase::Command {
                verb,
                rest: rest.to_owned(),
            })
        };
        assert_eq!(read("/status"), command(Verb::Status, ""));
        assert_eq!(
            read(" /Status@shop_bot  shop "),
            command(Verb::Status, "shop")
        );
        assert_eq!(
            read("/failover shop to fra\npower is gone"),
            command(Verb::Failover, "shop to fra\npower is gone")
        );
        assert_eq!(read("/start"), command(Verb::Help, ""));
        assert_eq!(read("is it down?"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_slip_of_the_finger_is_pointed_out_and_never_guessed() {
        assert_eq!(
            read("/failver shop"),
            Some(Phrase::Unknown {
                word: "failver".to_owned(),
                nearest: Some("failover"),
            })
        );
        assert_eq!(
            read("/reboot"),
            Some(Phrase::Unknown {
                word: "reboot".to_owned(),
                nearest: None,
            })
        );
    }

    #[test]
    fn each_command_has_one_word() {
        let words: BTreeSet<_> = ENTRIES.iter().map(|e| e.word).collect();
        let verbs: BTreeSet<_> = ENTRIES.iter().map(|e| e.verb).collect();
        assert_eq!((words.len(), verbs.len()), (ENTRIES.len(), ENTRIES.len()));
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_breaks_it(text in ".{0,300}") {
            let _ = read(&text);
            let _ = read(&format!("/{text}"));
            let (first, others) = word(&text);
            prop_assert!(text.contains(first) && text.contains(others));
        }
    }
}
