//! The codes of errors in documents: what each means, why it matters, and what to do.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $severity:ident, $title:literal, $cause:literal, $fix:literal;)*) => {
        /// A code of an error in documents.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What `failover help FO-1xx` prints.
            #[must_use]
            pub const fn page(self) -> CodePage {
                match self {
                    $(Self::$name => CodePage {
                        code: $code,
                        severity: Severity::$severity,
                        title: $title,
                        cause: $cause,
                        fix: $fix,
                    },)*
                }
            }
        }
    };
}

/// Whether documents can be used in spite of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The documents cannot be used.
    Error,
    /// They can, but somebody should look.
    Warning,
}

/// What there is to know of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodePage {
    /// `FO-1xx`.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// In a few words.
    pub title: &'static str,
    /// Why this is wrong.
    pub cause: &'static str,
    /// What to do.
    pub fix: &'static str,
}

codes! {
    /// A file or folder cannot be read.
    Unreadable = "FO-101", Error, "the file cannot be read",
        "The path does not exist, the controller's user may not read it, or it holds no UTF-8 text.",
        "Check the path and its permissions; documents are UTF-8 text in files named *.yaml or *.yml.";
    /// The text is no YAML.
    Syntax = "FO-102", Error, "this is not YAML",
        "The text breaks a rule of YAML: most often indentation, a missing colon or space, or an open quote or bracket.",
        "Look at the marked place and the line before it. Lists and maps need the same indentation for each item, with spaces.";
    /// A key stands twice in one map.
    DuplicateKey = "FO-103", Error, "a key stands twice",
        "kubectl and most readers silently take the last of two equal keys, so a setting that you can read in the file would have no effect.",
        "Keep one of the two.";
    /// Two readers would take a scalar for different things.
    Ambiguous = "FO-104", Error, "readers differ on what this value is",
        "YAML 1.1 (kubectl) takes plain y, yes, on, n, no, off for booleans and 010 for eight; YAML 1.2 does not. The same file has to mean the same in both homes.",
        "Put it in quotes where text is meant; write true or false, or a decimal number, where that is meant.";
    /// Too large, too deep, or an alias bomb.
    TooLarge = "FO-105", Error, "the document is too large or too deep",
        "Files are limited in size, depth and the number of values after aliases were followed, so that no file can exhaust the controller's memory.",
        "Split the file, or repeat less through anchors and aliases.";
    /// No document of ours.
    Foreign = "FO-106", Error, "this is no document of failover",
        "Every document begins with `apiVersion: failover.rs/v1alpha1` and a `kind`: ProtectedService, Runbook, BackupPolicy or ServiceGroup.",
        "Correct the two fields, or move other programs' files out of the folder.";
    /// Nothing to read.
    Nothing = "FO-107", Error, "there is no document here",
        "The files and folders named hold no ProtectedService.",
        "Name a folder with *.yaml files, or begin with `failover init`.";
    /// YAML that has no meaning in documents.
    Unsupported = "FO-108", Error, "this part of YAML has no meaning here",
        "Documents hold maps with text keys, lists, text, numbers, booleans and null, as JSON does; tags and keys that are lists or maps have no place.",
        "Write it in plain YAML.";
    /// A field that the document type does not have.
    UnknownField = "FO-110", Error, "unknown field",
        "A field that nobody reads is a setting that does nothing; most often it is a spelling error.",
        "Take the suggested name, or `failover schema` for all fields.";
    /// A field that must be there is not.
    MissingField = "FO-111", Error, "a field is missing",
        "The document cannot be understood without it, and no default would be safe.",
        "Add the field; `failover schema` says what it means.";
    /// A value of the wrong type.
    WrongType = "FO-112", Error, "wrong type",
        "A text, number, list or map stands where something else was expected.",
        "Write what the message expects.";
    /// A word that is none of those allowed.
    UnknownValue = "FO-113", Error, "unknown value",
        "The field takes one of a few words.",
        "Take one of the words listed.";
    /// A duration without a unit or with a wrong one.
    Unit = "FO-114", Error, "wrong duration or unit",
        "Durations carry their unit, so that 30 can never be taken for minutes by one and seconds by another.",
        "Write a number and ms, s, m, h or d: 250ms, 30s, 5m, 4h, 1h30m.";
    /// A value out of its range or shape.
    BadValue = "FO-115", Error, "the value cannot be right",
        "The value has the right type, but lies outside its range or does not have the shape it must have.",
        "Write what the message expects.";
    /// A secret stands in the document.
    SecretValue = "FO-116", Error, "a secret is given as a value",
        "Documents are read by many and kept in version control; a secret in them is known to all of them. Secrets are references, read each time they are used.",
        "Write {env: NAME} or {file: /path}. Where the value was ever committed, replace it: it is known.";
    /// A name that leads nowhere.
    Dangling = "FO-120", Error, "the name leads nowhere",
        "Something is referred to by a name that nothing in the documents has.",
        "Correct the name, or add what it stands for.";
    /// A name that is taken.
    Duplicate = "FO-121", Error, "the name is taken",
        "Names tell things apart in the journal, in plans and in messages; two things of one name cannot be told apart.",
        "Give one of them another name.";
    /// `uses` names no adapter.
    UnknownKind = "FO-122", Error, "unknown adapter",
        "`uses` names an adapter that this version does not have.",
        "Take the suggested name; `failover schema` lists all adapters.";
    /// `uses` names an adapter of another family.
    WrongFamily = "FO-123", Error, "this adapter does not belong here",
        "Probes look, steps act, providers keep zones, channels speak, targets hold the status page: one cannot stand in for another.",
        "Take an adapter of the family that the message names.";
    /// An adapter does not take these settings.
    With = "FO-124", Error, "the adapter does not take these settings",
        "`with` is right in form, but the adapter says that it cannot work with it.",
        "Do what the message says.";
    /// Not one primary and at least one standby.
    Roles = "FO-130", Error, "sites need one primary and a standby",
        "A service has exactly one site that is primary in normal times, and at least one that can take over.",
        "Give one site `role: primary` and the others `role: standby`.";
    /// A site outside the countries that data may be in.
    Residency = "FO-131", Error, "a site lies outside the data residency",
        "A failover would take the data to a country where it may not be.",
        "Take another site, or correct `residency.countries`.";
    /// A site of which nobody knows the country.
    NoCountry = "FO-132", Error, "a site's country is unknown",
        "With `residency` set, every site must say in which country it stands.",
        "Add `location: {country: XX}` (ISO 3166-1, two letters).";
    /// A backup policy that cannot be met.
    Backups = "FO-133", Error, "the backup policy cannot be met",
        "It asks for more places than its sources have, for something that no source keeps, or for a restore of what cannot be fetched. Such a policy is broken for ever, and nobody reads a page that never ends.",
        "Ask for less, add a source, or say of the sources where they stand (`location`) and what they hold (`keeps`).";
    /// A group in which nobody could say who goes when.
    Group = "FO-134", Error, "the service group does not hold together",
        "Each service has one place in one group, no wave is empty, and an audience is told by the group or by a service, not by both.",
        "Name each service once, and take out of the services the channels that the group speaks on.";
    /// The RTO cannot be kept because of the TTL.
    TtlAboveRto = "FO-135", Error, "the TTL alone exceeds the RTO",
        "Resolvers may keep the old address for the whole TTL, so users come back only after it, however fast everything else is.",
        "Lower `dns.ttl` well below the RTO, or promise a longer RTO.";
    /// The RTO cannot be kept because of the probes.
    DetectionAboveRto = "FO-136", Error, "detection alone exceeds the RTO",
        "So many looks in a row must fail before anything is concluded that the RTO is over by then.",
        "Look more often (`every`), or ask for fewer failures in a row (`quorum.failures`), or promise a longer RTO.";
    /// Approvals that can never come together.
    Approvals = "FO-140", Error, "the approval policy cannot be met",
        "More approvals are required than there are people who can give them, so nothing that waits for a person would ever go on.",
        "Name more approvers, give them tokens (`failover token`), or require fewer.";
    /// Going on without an answer would be unsafe.
    UnsafeTimeout = "FO-141", Error, "going on without an answer would be unsafe",
        "`onTimeout: proceed` goes on as if a person had approved. Where only a person's word proves the fence, or where every run shall wait for a person, nobody's silence may stand in for it.",
        "Use `onTimeout: hold`, or a fence that is proved by more than a word.";
    /// An approver who cannot approve.
    NoToken = "FO-142", Error, "an approver has no token",
        "People are known by personal tokens; whoever has none cannot approve anything.",
        "Let the person run `failover token` and write what it prints under `tokenHash`.";
    /// Somebody is to be paged whom no channel reaches.
    NoAddress = "FO-143", Error, "somebody who is to be paged has no address",
        "An escalation that names a person whom no channel reaches stops there: the page stays unanswered until the next level.",
        "Add a channel that reaches the person to team.channels, and name it under the person's `contactMethods`.";
    /// A quorum that can never come together.
    Quorum = "FO-145", Error, "the quorum can never be reached",
        "More networks must say Down than there are networks that look.",
        "Add vantage points in other networks, or lower `quorum.networks`.";
    /// Automatic on the word of one.
    OneVoice = "FO-146", Error, "automatic on the word of one voice",
        "One network with one kind of evidence cannot tell \"it is down\" from \"I cannot see it\"; a failover by itself needs a second opinion.",
        "Add a vantage point in another network, or a probe that gives another kind of evidence (the database itself, the standby's replication stream), or use `mode: ask`.";
    /// A remote vantage point that cannot be used as written.
    Remote = "FO-147", Error, "a remote vantage point cannot be used so",
        "An observer elsewhere looks from its own host and proves by a key of its own who it is. What belongs to the controller's host has no meaning there, a key that two share proves nothing, and steps that ask whether the service works now are answered by the controller's own looks.",
        "Do what the message says.";
    /// Automatic without a fence that proves enough.
    Unproved = "FO-150", Error, "automatic without a way to prove the fence",
        "Before the standby takes writes it must be proved that the old primary cannot. No fence step of the runbook reaches the rung that `fencing.require` asks for, so an automatic failover would never go on.",
        "Add a fence step that reaches the rung, or use `mode: ask` and let a person attest to it.";
    /// A promotion that does not wait for the fence.
    UnfencedPromotion = "FO-151", Error, "a promotion that does not wait for every fence",
        "A standby that takes writes while the old primary still does splits the data in two.",
        "Let the promotion need every fence step, or leave `needs` out: it then waits for all steps of the phase before.";
    /// Nothing proves that the service works.
    NoVerify = "FO-152", Error, "nothing verifies the service at the end",
        "The RTO ends when the service was seen to work. Without a step of the phase verify nobody would know.",
        "Add a step `uses: service/verify`.";
    /// Steps that wait for each other.
    Cycle = "FO-153", Error, "steps wait for each other",
        "The steps named need each other in a circle; none of them could ever begin.",
        "Take one of the `needs` out.";
    /// A runbook that cannot do what the service needs.
    RunbookUnfit = "FO-154", Error, "the runbook does not fit the service",
        "The runbook does something that the service has no settings for, or leaves out what the service needs.",
        "Do what the message says, or take another runbook.";
    /// DNS that cannot be repointed as written.
    Dns = "FO-160", Error, "the record cannot be repointed as written",
        "A name outside the zone, a value that does not fit its type, or a site without a value would break the cut-over when it matters.",
        "Write what the message expects.";
    /// A text with wrong variables.
    Template = "FO-165", Error, "the text's variables are wrong",
        "A variable that nobody fills in, or a brace that is not closed, would reach customers as it stands.",
        "Use service, symptom, started, fallbackUrl, statusUrl, nextUpdate, dataSafety, incident or phase, and braces for nothing else.";
    /// A database that nothing promotes.
    NothingPromotes = "FO-190", Warning, "nothing promotes the database's standby",
        "The service has a database, but its runbook has no step that promotes for a failover: when the database goes down, people are paged and nothing else happens.",
        "Take a runbook that promotes, such as postgres-failover, or leave it if this is meant.";
    /// Nothing tells one's own network loss from an outage.
    NoSentinels = "FO-191", Warning, "a vantage point has no sentinels",
        "Without sentinels a vantage point that has lost its own network reports everything as down.",
        "Add `sentinels` that look at something that is surely up and not yours.";
    /// A runbook that nobody uses.
    Unused = "FO-192", Warning, "nobody uses this runbook",
        "No service names it in `runbook`.",
        "Name it in a service, or take the document away.";
}

impl Code {
    /// The code of that name, such as `FO-110`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|c| c.page().code.eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.page().code)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.page().code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_and_explains_itself() {
        let mut names: Vec<_> = Code::ALL.iter().map(|c| c.page().code).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let page = code.page();
            assert_eq!(Code::named(page.code), Some(*code));
            assert!(page.code.starts_with("FO-1"), "{}", page.code);
            assert!(
                page.cause.ends_with('.') && page.fix.ends_with('.'),
                "{}",
                page.code
            );
        }
    }
}
