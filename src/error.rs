//! What a user sees when something failed: a code with a page of its own, what happened, and what to do.
//!
//! Codes of the program are FO-0xx and stand in `code`; those of documents are FO-1xx and stand in `spec::code`.

pub mod code;

use std::{fmt::Write as _, io, net::SocketAddr, path::PathBuf, process::ExitCode};

use crate::{
    journal::succession::Succession,
    model::id::ServiceName,
    operator::replica::ReplicaError,
    port::{cause, journal::JournalError},
};

pub use code::{CODES, Code};

/// What failed, for a person.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Used wrongly in a way that the parser cannot tell.
    #[error("{0}")]
    Usage(String),
    /// Documents with errors; they were printed before.
    #[error("{errors} in {files}")]
    Documents {
        /// `3 errors`.
        errors: String,
        /// `2 files`.
        files: String,
    },
    /// No such service.
    #[error("there is no service {name:?}")]
    NoService {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The state folder.
    #[error("cannot use the state folder {}", path.display())]
    State {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No state folder.
    #[error("no place for the state folder is known")]
    NoHome,
    /// Nobody answers.
    #[error("no controller answers at {}", socket.display())]
    NoController {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The desk does not.
    #[error("the desk at {url} cannot be asked: {reason}")]
    Server {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// Somebody answers.
    #[error("a controller runs already at {}", socket.display())]
    ControllerRuns {
        /// Where.
        socket: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot make the control socket {}", socket.display())]
    Socket {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The controller is somebody else's.
    #[error("the controller at {} does not talk to this user", socket.display())]
    Peer {
        /// Where.
        socket: PathBuf,
    },
    /// Another version.
    #[error("the controller speaks version {theirs} of the control protocol, this program {ours}")]
    Version {
        /// Its version.
        theirs: u32,
        /// This program's.
        ours: u32,
    },
    /// It went away.
    #[error("the controller went away before it answered")]
    Lost {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Who speaks?
    #[error("a personal token is needed to {what}")]
    TokenNeeded {
        /// `approve shop-a12`.
        what: String,
    },
    /// Nobody's token.
    #[error("the token belongs to nobody in the team of {service}")]
    TokenUnknown {
        /// Which service's team.
        service: String,
    },
    /// The token cannot be read.
    #[error("cannot read the token from {place}")]
    TokenRead {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The engine said no.
    #[error("{reason}")]
    Refused {
        /// In the engine's words.
        reason: String,
        /// Which command shows more.
        help: String,
    },
    /// A person said no.
    #[error("not confirmed: nothing was done")]
    NotConfirmed,
    /// No journal.
    #[error("there is no journal at {}", path.display())]
    NoJournal {
        /// Where.
        path: PathBuf,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Something is in the way.
    #[error("{} exists already", path.display())]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// A file.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// `read` or `write`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not an export.
    #[error("{} is no exported journal", path.display())]
    Export {
        /// Which file.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: crate::journal::export::ExportError,
    },
    /// A copy that cannot be restored.
    #[error("the journal cannot be restored from {url}")]
    Copy {
        /// Which copy.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not green.
    #[error("{failing} not ready")]
    NotReady {
        /// `2 of 14 items are`.
        failing: String,
    },
    /// A broken policy.
    #[error("{broken}")]
    Backups {
        /// `3 rules of the backup policy of shop are broken`.
        broken: String,
    },
    /// A backup that is none.
    #[error("{reason}")]
    BadBackup {
        /// Which, and why.
        reason: String,
    },
    /// No plan.
    #[error("no plan can be made for {service}: {reason}")]
    Plan {
        /// For which service.
        service: String,
        /// Why.
        reason: String,
    },
    /// A database of `init`.
    #[error("cannot look at the {which} database: {reason}")]
    InitDatabase {
        /// `primary` or `standby`, as it was named.
        which: &'static str,
        /// In the server's words.
        reason: String,
    },
    /// Not a pair.
    #[error("{reason}")]
    InitPair {
        /// What does not fit.
        reason: String,
    },
    /// No addresses.
    #[error("cannot look up {name}: {reason}")]
    InitDns {
        /// Which name.
        name: String,
        /// Why.
        reason: String,
    },
    /// An address of the demo.
    #[error("cannot use the loopback address {address}")]
    DemoLoopback {
        /// Which.
        address: std::net::IpAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part of the demo.
    #[error("{part} did not start: {reason}")]
    DemoStart {
        /// Which.
        part: String,
        /// Its last words.
        reason: String,
    },
    /// The demo's end.
    #[error("{0}")]
    DemoOutcome(String),
    /// Stopped by hand.
    #[error("stopped before the end; nothing is left behind")]
    DemoStopped {
        /// The number of the signal.
        signal: u8,
    },
    /// A simulation found something.
    #[error("{findings} of the histories broke a rule, the first with seed {seed}")]
    Simulation {
        /// How many histories.
        findings: usize,
        /// The first seed.
        seed: u64,
    },
    /// A simulation saw too little.
    #[error(
        "{missing} of the situations that can be reached were not in any of {histories} histories"
    )]
    Uncovered {
        /// How many were played.
        histories: u64,
        /// How many are missing.
        missing: usize,
    },
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// The listener.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The controller.
    #[error("the controller cannot start: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
    /// A cluster.
    #[error("the cluster cannot be reached")]
    Cluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A replica of the operator.
    #[error(transparent)]
    Replica(ReplicaError),
    /// A certificate.
    #[error("a certificate cannot be used")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The key of a vantage point.
    #[error("the key of vantage point {name:?} cannot be used")]
    VantageKey {
        /// Whose.
        name: String,
        /// Why.
        #[source]
        source: crate::vantage::key::KeyError,
    },
    /// A guard's document.
    #[error("{} is no document of a guard", path.display())]
    GuardDocument {
        /// Which.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: crate::guard::config::ConfigError,
    },
    /// A guard.
    #[error("the guard cannot {what}")]
    Guard {
        /// `run`.
        what: &'static str,
        /// What to do, where more is known than that it failed.
        help: Option<String>,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A journal of another host.
    #[error("the journal {path} was not made on this host, and nobody has taken it over", path = .path.display())]
    Elsewhere {
        /// Where it is.
        path: PathBuf,
    },
    /// Another controller took over.
    #[error("{0}: that controller leads")]
    TakenOver(Succession),
    /// The controller that is to be taken over from is there.
    #[error("{chain} was written to in {url} after it was restored to {path}: the other controller is not gone", path = .path.display())]
    StillWritten {
        /// The copy.
        url: String,
        /// The chain.
        chain: ServiceName,
        /// What was restored.
        path: PathBuf,
    },
    /// No such page.
    #[error("there is no help on {topic:?}")]
    NoTopic {
        /// What was asked for.
        topic: String,
    },
}

impl Error {
    /// The code whose page explains it.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        match self {
            Self::Usage(_) => &code::USAGE,
            Self::Documents { .. } => &code::DOCUMENTS,
            Self::NoService { .. } => &code::NO_SERVICE,
            Self::State { .. } => &code::STATE,
            Self::NoHome => &code::NO_HOME,
            Self::NoController { .. } => &code::NO_CONTROLLER,
            Self::Server { .. } => &code::SERVER,
            Self::ControllerRuns { .. } => &code::CONTROLLER_RUNS,
            Self::Socket { .. } => &code::SOCKET,
            Self::Peer { .. } => &code::PEER,
            Self::Version { .. } => &code::VERSION,
            Self::Lost { .. } => &code::LOST,
            Self::TokenNeeded { .. } => &code::TOKEN_NEEDED,
            Self::TokenUnknown { .. } => &code::TOKEN_UNKNOWN,
            Self::TokenRead { .. } => &code::TOKEN_READ,
            Self::Refused { .. } => &code::REFUSED,
            Self::NotConfirmed => &code::NOT_CONFIRMED,
            Self::NoJournal { .. } => &code::NO_JOURNAL,
            Self::Journal(e) => match e {
                JournalError::Locked { .. } | JournalError::Conflict { .. } => {
                    &code::JOURNAL_LOCKED
                }
                JournalError::Broken { .. } => &code::JOURNAL_BROKEN,
                JournalError::Newer { .. } | JournalError::Unread { .. } => &code::JOURNAL_NEWER,
                JournalError::Full { .. } => &code::JOURNAL_FULL,
                JournalError::Io { .. } => &code::JOURNAL,
            },
            Self::Exists { .. } => &code::EXISTS,
            Self::File { .. } => &code::FILE,
            Self::Export { .. } => &code::EXPORT,
            Self::Copy { .. } => &code::COPY,
            Self::NotReady { .. } => &code::NOT_READY,
            Self::Backups { .. } => &code::BACKUPS,
            Self::BadBackup { .. } => &code::BAD_BACKUP,
            Self::Plan { .. } => &code::PLAN,
            Self::InitDatabase { .. } => &code::INIT_DATABASE,
            Self::InitPair { .. } => &code::INIT_PAIR,
            Self::InitDns { .. } => &code::INIT_DNS,
            Self::DemoLoopback { .. } => &code::DEMO_LOOPBACK,
            Self::DemoStart { .. } => &code::DEMO_START,
            Self::DemoOutcome(_) => &code::DEMO_OUTCOME,
            Self::DemoStopped { .. } => &code::DEMO_STOPPED,
            Self::Simulation { .. } => &code::SIMULATION,
            Self::Uncovered { .. } => &code::UNCOVERED,
            Self::Output(_) => &code::OUTPUT,
            Self::Listen { .. } => &code::LISTEN,
            Self::Start { .. } => &code::START,
            Self::Cluster(_) => &code::CLUSTER,
            Self::Replica(ReplicaError::Definitions(_)) => &code::DEFINITIONS,
            Self::Replica(_) => &code::REPLICA,
            Self::Certificate(_) => &code::CERTIFICATE,
            Self::VantageKey { .. } => &code::VANTAGE_KEY,
            Self::GuardDocument { .. } => &code::GUARD_DOCUMENT,
            Self::Guard { .. } => &code::GUARD,
            Self::Elsewhere { .. } => &code::ELSEWHERE,
            Self::TakenOver(_) => &code::TAKEN_OVER,
            Self::StillWritten { .. } => &code::STILL_WRITTEN,
            Self::NoTopic { .. } => &code::NO_TOPIC,
        }
    }

    /// What to do, where more can be said than the code's page says.
    #[must_use]
    pub fn help(&self) -> String {
        if let Self::NoService { known, .. } = self {
            return if known.is_empty() {
                "no services are known here".to_owned()
            } else {
                format!("known are {}", known.join(", "))
            };
        }
        if let Self::NoController { .. } = self {
            return "start it with 'failover run -f DIR', or name the right one with --socket or --state"
                .to_owned();
        }
        if let Self::Refused { help, .. }
        | Self::Guard {
            help: Some(help), ..
        } = self
        {
            return help.clone();
        }
        first_sentence(self.code().fix)
    }

    /// 2 where it was used wrongly, 3 where it must not be started again, else 1.
    #[must_use]
    pub fn status(&self) -> ExitCode {
        if matches!(self, Self::Usage(_) | Self::NoTopic { .. }) {
            ExitCode::from(2)
        } else if let Self::TakenOver(_) = self {
            ExitCode::from(3)
        } else if let Self::DemoStopped { signal } = self {
            // As shells have it for a program that a signal ended.
            ExitCode::from(128 + signal)
        } else {
            ExitCode::FAILURE
        }
    }

    /// As it is printed for people: the message, its causes, what to do, where to read on.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!("error[{}]: {self}\n", self.code().name);
        for cause in self.causes() {
            let _ = writeln!(text, "  cause: {cause}");
        }
        let _ = writeln!(text, "  help: {}", self.help());
        let _ = writeln!(text, "  more: failover help {}", self.code().name);
        text
    }

    /// As it is printed for programs, on standard error too.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": {
                "code": self.code().name,
                "message": self.to_string(),
                "causes": self.causes(),
                "help": self.help(),
            }
        })
    }

    fn causes(&self) -> Vec<String> {
        cause::causes(self).map(ToString::to_string).collect()
    }
}

fn first_sentence(text: &str) -> String {
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        let names: Vec<_> = CODES.iter().map(|c| c.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(names.iter().all(|n| n.len() == 6 && n.starts_with("FO-0")));
    }

    #[test]
    fn an_error_says_what_happened_why_and_what_to_do() {
        let error = Error::NoController {
            socket: "/run/failover.sock".into(),
            source: io::Error::from(io::ErrorKind::NotFound),
        };
        assert_eq!(
            error.render(),
            "error[FO-012]: no controller answers at /run/failover.sock\n  \
             cause: entity not found\n  \
             help: start it with 'failover run -f DIR', or name the right one with --socket or --state\n  \
             more: failover help FO-012\n"
        );
    }
}
