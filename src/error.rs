//! What a user sees when something failed: a code with a page of its own, what happened, and what to do.
//!
//! Codes of the program are FO-0xx and stand here; those of documents are FO-1xx and stand in
//! `spec::code`. A code keeps its meaning for ever; one that is no longer used is not given out again.

use std::{fmt::Write as _, io, net::SocketAddr, path::PathBuf, process::ExitCode};

use crate::{
    journal::succession::Succession,
    model::id::ServiceName,
    operator::replica::ReplicaError,
    port::{cause, journal::JournalError},
};

/// One page of `failover help FO-0xx`.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `FO-012`.
    pub name: &'static str,
    /// What happened, in one line.
    pub title: &'static str,
    /// Why that may be.
    pub cause: &'static str,
    /// What to do.
    pub fix: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $ident:ident = $name:literal, $title:literal, $cause:literal, $fix:literal;)*) => {
        $($(#[$doc])* pub const $ident: Code = Code { name: $name, title: $title, cause: $cause, fix: $fix };)*

        /// Every code of the program, in order.
        pub const CODES: &[&Code] = &[$(&$ident),*];
    };
}

codes! {
    /// Flags or arguments that do not go together.
    USAGE = "FO-001", "The command was used wrongly.",
        "Flags or arguments are missing, or do not go together.",
        "Read 'failover help COMMAND'; each command has examples at its end.";
    /// Documents with errors.
    DOCUMENTS = "FO-002", "The documents have errors.",
        "At least one document is not right. A controller never starts on documents that it does not understand \
         wholly, and keeps running on the old ones when changed files are wrong.",
        "Run 'failover validate PATH…': it lists every error of every file with file, line, column and a hint. \
         Each error has a code of its own (FO-1xx) with a page here.";
    /// A service nobody knows.
    NO_SERVICE = "FO-003", "There is no such service.",
        "The name is not among the services of the running controller, of the documents given with -f, or of the \
         journal.",
        "Run 'failover status' for the names. Names are case-sensitive: they are metadata.name of a \
         ProtectedService.";
    /// A state folder that cannot be used.
    STATE = "FO-010", "The state folder cannot be used.",
        "It does not exist and cannot be made, or this user may not write to it. It holds the journal, the lists of \
         recipients and the control socket.",
        "Make it, and give it to the user that runs the controller: install -d -o failover -m 0700 \
         /var/lib/failover. Or name another with --state DIR or $FAILOVER_STATE.";
    /// No home to put the state in.
    NO_HOME = "FO-011", "There is no place for the state folder.",
        "Neither --state, nor $FAILOVER_STATE, nor $XDG_STATE_HOME, nor $HOME says where it should be.",
        "Name it with --state DIR. A service manager's unit has none of these variables unless it sets them.";
    /// Nobody listens on the socket.
    NO_CONTROLLER = "FO-012", "No controller answers.",
        "The controller does not run, runs with another state folder or another socket, or has just been killed and \
         left its socket behind.",
        "Start it with 'failover run -f DIR'. If it runs elsewhere, use the same --state or --socket as it does. \
         'plan', 'check', 'announce preview' and 'runbook show' work without a controller when given -f DIR; \
         'journal' and 'timeline' always do.";
    /// Somebody listens already.
    CONTROLLER_RUNS = "FO-013", "Another controller runs already.",
        "A controller answers at this socket. Two controllers on one journal would contradict each other.",
        "Use the one that runs ('failover status'), or stop it first. Only a controller of other services may have a \
         state folder of its own (--state): two controllers of one service would both act.";
    /// A socket that cannot be made.
    SOCKET = "FO-014", "The control socket cannot be made.",
        "Its folder belongs to somebody else, is open to others, or the path is longer than the system allows (about \
         100 bytes). Whoever reaches the socket commands the controller, so its folder must be its owner's alone.",
        "chmod 0700 the folder and make the controller's user its owner, or name a shorter path with --socket.";
    /// The controller runs as somebody else.
    PEER = "FO-015", "The controller does not talk to this user.",
        "The control socket serves the user that runs the controller, and root.",
        "Run the command as that user, whom 'ls -l' of the socket names: sudo -u USER failover status.";
    /// The other end speaks another version.
    VERSION = "FO-016", "The controller has another version.",
        "The program was updated while the controller kept running, or the other way round.",
        "Restart the controller, or use the program that it was started from. A restart is harmless: it goes on \
         where it stopped.";
    /// The controller went away.
    LOST = "FO-017", "The controller went away before it answered.",
        "It was stopped or killed. Whether the command took effect is not known.",
        "Look at 'failover timeline SERVICE': what is not in the journal did not happen.";
    /// Nobody said who they are.
    TOKEN_NEEDED = "FO-020", "A personal token is needed.",
        "This command goes into the journal under a person's name, and approvals count people, so the controller has \
         to know who speaks.",
        "Set $FAILOVER_TOKEN, or give --token-file PATH, or run it on a terminal to be asked. Who has none yet: \
         'failover token' prints one and the hash that goes into the documents at spec.team.people[].tokenHash.";
    /// A token that is nobody's.
    TOKEN_UNKNOWN = "FO-021", "The token belongs to nobody.",
        "No person in the service's team has the hash of this token. It was mistyped, was replaced, or the documents \
         with it were not read yet.",
        "Compare 'failover token --hash-of FILE' with spec.team.people[].tokenHash, then send the controller SIGHUP \
         so that it reads the documents again.";
    /// A token that cannot be read.
    TOKEN_READ = "FO-022", "The token cannot be read.",
        "The file given with --token-file is missing, empty, or not this user's to read, or the terminal was closed.",
        "Check the path and its rights (0600 is right).";
    /// The engine said no.
    REFUSED = "FO-023", "The controller refused.",
        "The command is understood but not possible now: the reason is in the message.",
        "The help beside the message names the command that shows more. 'failover explain SERVICE' says what stands in \
         the way of a run, and with what evidence.";
    /// A person said no to the prompt.
    NOT_CONFIRMED = "FO-024", "It was not confirmed.",
        "The command asks before it begins, and the answer was not 'yes', or there was no terminal to ask on.",
        "Answer 'yes', or give --yes where nobody can answer.";
    /// No journal there.
    NO_JOURNAL = "FO-030", "There is no journal.",
        "No controller ever ran with this state folder, or it is another one.",
        "Name the right folder with --state DIR.";
    /// Somebody else's journal.
    JOURNAL_LOCKED = "FO-031", "The journal is in use.",
        "Another controller holds it. One journal has one writer.",
        "Stop the other controller, or use a state folder of its own.";
    /// A chain that does not fit.
    JOURNAL_BROKEN = "FO-032", "The journal is broken.",
        "A record's hash does not fit the one before it: the file was changed by hand, restored in part, or damaged \
         by its disk. Every record before the named sequence is whole.",
        "Stop the controller and move the file aside; keep it. Make the journal anew from its copy in the object \
         store: 'failover journal restore --from URL'. 'failover journal verify --from FILE' looks at an export.";
    /// A journal of the future.
    JOURNAL_NEWER = "FO-033", "The journal was written by a newer version.",
        "An older program must not write to it: it would not understand what it reads.",
        "Use the newer program again. Nothing of what it wrote is lost.";
    /// No room.
    JOURNAL_FULL = "FO-034", "The journal's disk is full.",
        "Nothing is done that cannot be recorded first, so the controller stops acting, says so and pages.",
        "Free space; it goes on by itself. Nothing that was recorded is lost.";
    /// Anything else about the journal.
    JOURNAL = "FO-035", "The journal cannot be used.",
        "The file cannot be opened, read or written; the cause is in the message.",
        "Check the rights of the state folder and the health of its disk.";
    /// A file is in the way.
    EXISTS = "FO-036", "A file is in the way.",
        "The command writes new files only and overwrites nothing.",
        "Move the file away, or name another place.";
    /// A file cannot be written or read.
    FILE = "FO-037", "A file cannot be read or written.",
        "The path does not exist, or this user may not use it, or the disk is full.",
        "Check the path and its rights.";
    /// A file that is no export.
    EXPORT = "FO-038", "The file is no exported journal.",
        "A line of it does not have the shape that 'failover journal export' writes.",
        "Name a file that 'failover journal export' wrote, or a segment of a journal's copy.";
    /// A copy that cannot be restored.
    COPY = "FO-039", "The journal cannot be restored from its copy.",
        "The copy cannot be reached, is empty or not whole, or there is a journal in the state folder already.",
        "The cause is in the message. A journal is restored only where there is none: move the old file aside first.";
    /// Readiness is not green.
    NOT_READY = "FO-040", "A failover would suffer.",
        "At least one item of the check is 'fail' or 'unknown'. What could not be told is never green.",
        "Each item says what to do. 'automatic' mode is earned by a check that is green.";
    /// A broken policy.
    BACKUPS = "FO-041", "The backups break their policy.",
        "A backup is too old, missing, not encrypted, not where it should be, or was found to be none; or a place of \
         backups could not be asked. A failover does not suffer, but the day on which the standby is lost as well, or \
         a mistake was replicated, does.",
        "Do what stands beside each rule that is listed. 'failover help backups' has the rules.";
    /// A backup that is none.
    BAD_BACKUP = "FO-042", "The backup was not restored with success.",
        "It was fetched and restored into a PostgreSQL of its own. Either it is damaged, incomplete or does not answer as \
         the policy asks: then it counts as no backup any more. Or that could not be tried to the end, for a reason of \
         this host's: then nothing is known of it.",
        "The message says which it is. Take another backup where it is bad, and verify that one; an older one is tried \
         with '--copy ID'.";
    /// No plan can be made.
    PLAN = "FO-050", "No plan can be made.",
        "The runbook has no steps for this kind of run, there is no site to go to, or the linter found an error.",
        "'failover validate' and the message say which.";
    /// The database of `init`.
    INIT_DATABASE = "FO-060", "A database cannot be looked at.",
        "The connection string does not lead to a PostgreSQL server, its user may not log in, or TLS fails. The \
         standby may be out of reach, the primary must answer.",
        "Try the same string with psql. A password is read from the string itself, $PGPASSWORD, or the password file \
         ($PGPASSFILE, ~/.pgpass), which nobody else may read.";
    /// Not a pair.
    INIT_PAIR = "FO-061", "These are not a primary and its standby.",
        "One must take writes, the other must be in recovery, and both must have the same system identifier. Which is \
         named first does not matter.",
        "Run 'SELECT pg_is_in_recovery(), system_identifier FROM pg_control_system()' on each. If two copies of one \
         system take writes, stop the wrong one at once.";
    /// The DNS of `init`.
    INIT_DNS = "FO-062", "The public name cannot be looked up.",
        "There is no such name, it has neither A, AAAA nor CNAME records, or no DNS server answered.",
        "Check the name with dig, name a server with --dns-server ADDRESS, or leave --host out to protect the database \
         alone.";
    /// The demo's network.
    DEMO_LOOPBACK = "FO-070", "The demo needs more loopback addresses.",
        "It gives each site an address of its own in 127.0.0.0/8. Linux has them all; macOS has only 127.0.0.1 until \
         told otherwise.",
        "On macOS: sudo ifconfig lo0 alias 127.0.0.2, and so on for each address that the message names.";
    /// The demo's parts.
    DEMO_START = "FO-071", "A part of the demo did not start.",
        "PostgreSQL or one of the demo's own parts ended or did not answer in time; its last words are in the message.",
        "Try --without-database to leave PostgreSQL out, and --log debug for more.";
    /// The demo's end.
    DEMO_OUTCOME = "FO-072", "The demo ended otherwise than it should.",
        "The controller did not do what this outage calls for, a written order is missing without being explained, or \
         a message held no working URL.",
        "Run it again with --keep and look around; a report with the journal's export is welcome.";
    /// Stopped by hand.
    DEMO_STOPPED = "FO-073", "The demo was stopped before its end.",
        "Ctrl-C or SIGTERM. Everything that it started was stopped and its folder removed.",
        "Nothing is to be done.";
    /// A simulated history broke a rule.
    SIMULATION = "FO-074", "A simulated history broke a rule.",
        "A fault of failover, or a service that its documents do not protect as its rules say.",
        "Play the seed again with 'failover simulate --from SEED --seeds 1', and report it with the version.";
    /// Simulated histories that saw too little.
    UNCOVERED = "FO-075", "Simulated histories saw too little.",
        "'failover simulate --cover' is for whoever changes this program: a situation that can be reached was in none of \
         the histories, so nothing is known of it. The lines 'not seen' name it.",
        "Have scenarios drawn that lead there (src/sim), or play more of them.";
    /// Standard output is gone.
    OUTPUT = "FO-080", "The result could not be printed.",
        "Standard output is closed or its disk is full.",
        "Check where the output goes.";
    /// The listener's address.
    LISTEN = "FO-081", "The listener's address cannot be used.",
        "Another program listens there, the address is not this host's, or the port needs privileges.",
        "Name another with --listen or --metrics ADDRESS:PORT (the message says which address), or off.";
    /// The controller cannot start.
    START = "FO-082", "The controller cannot start.",
        "An adapter could not be made from its documents, or the system refused something; the cause is in the message.",
        "Run 'failover validate' and 'failover check -f DIR'.";
    /// A certificate that cannot be used.
    CERTIFICATE = "FO-083", "A certificate cannot be used.",
        "The file is missing, is not this user's to read, holds no PEM, or the key in it is another certificate's.",
        "Check --tls-cert or --desk-cert (the chain, the server's own certificate first) and --tls-key or --desk-key at \
         the controller, --ca at an observer. After a renewal send the controller SIGHUP: it reads both files again.";
    /// A key that cannot be used.
    VANTAGE_KEY = "FO-084", "The key of a vantage point cannot be used.",
        "The variable or file that the reference names is missing or empty, or what stands there is too weak: a key \
         needs 32 random bytes.",
        "Make one with 'openssl rand -hex 32' and give the same one to the observer (--key) and to the controller \
         (spec.vantagePoints[].remote.key). It is read again each time it is used.";
    /// The controller does not know this observer, or the observer does not know this controller.
    VANTAGE_REFUSED = "FO-085", "Controller and observer do not know each other.",
        "The controller has no remote vantage point of this name with this key, or something else answers at its \
         address. Which of the two it is, is not told to whoever asks. The observer goes on trying, so it reports as \
         soon as both sides agree.",
        "Compare --name with spec.vantagePoints[].name and both keys with each other, byte by byte. The controller's \
         log and its metric failover_vantage_refused_total say why it refused.";
    /// A guard's document.
    GUARD_DOCUMENT = "FO-086", "The guard's document has an error.",
        "A field of guard.yaml is missing, unknown, there twice, or holds what it cannot. A guard never starts on a \
         document that it does not understand wholly.",
        "Correct it where the message says; 'failover guard run --help' names every field.";
    /// A guard that cannot work.
    GUARD = "FO-087", "The guard cannot work.",
        "Its key, its address, its state folder, the dead-man or the gate cannot be used, or a database server runs \
         that it did not start. The cause is in the message.",
        "Run 'failover guard prove -f guard.yaml' as root: it tries dead-man and gate on this host. A guard without a \
         promise is enrolled with 'failover guard init -f guard.yaml', once. A server that something else started \
         has to be stopped, and its unit disabled.";
    /// A journal of another host.
    ELSEWHERE = "FO-088", "The journal is another host's.",
        "It was made on another host, or restored from a copy. Two controllers on two copies of one journal would each \
         act on their own.",
        "Where the other controller is gone for good: failover takeover --reason '…'";
    /// Another controller took over.
    TAKEN_OVER = "FO-089", "Another controller leads now.",
        "'failover takeover' was called elsewhere with this journal's copy. This controller does nothing any more, and does \
         not begin again, since two of them would each act on their own.",
        "Stop this one for good, with its service. Where the takeover was a mistake: stop the other one, and take over \
         from the copy again, here, in an empty state folder.";
    /// No such page.
    NO_TOPIC = "FO-090", "There is no such help.",
        "It is neither a command, nor a topic, nor a code.",
        "'failover help' lists the topics.";
    /// The controller that is to be taken over from is there.
    STILL_WRITTEN = "FO-091", "The controller that is to be taken over from still writes.",
        "The journal's copy went on after it was restored here: whoever wrote it is not gone. Nothing was taken over, and \
         no controller of this host leads from what was restored.",
        "Stop the other controller for good, delete the journal that was restored here, and take over again.";
    /// No cluster.
    CLUSTER = "FO-092", "The cluster cannot be reached.",
        "There is no kubeconfig, it does not say how to log in, or the operator does not run in a pod.",
        "Name one with --kubeconfig or $KUBECONFIG, and try it with kubectl.";
    /// A replica that leads no more.
    REPLICA = "FO-093", "This replica of the operator does not lead.",
        "Another replica was elected or wrote to the journal, or the loop of a service ended. What it had begun is in the          journal, and whoever leads goes on with it.",
        "Nothing, where its Deployment starts it again. The log of the replica that leads says how it goes on.";
    /// Definitions of an older version.
    DEFINITIONS = "FO-094", "The cluster's definitions are older than this program.",
        "The API server would take out of documents what it has no definition of, without a word. Helm upgrades none.",
        "failover operator crds | kubectl apply --server-side -f -";
}

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
            Self::Usage(_) => &USAGE,
            Self::Documents { .. } => &DOCUMENTS,
            Self::NoService { .. } => &NO_SERVICE,
            Self::State { .. } => &STATE,
            Self::NoHome => &NO_HOME,
            Self::NoController { .. } => &NO_CONTROLLER,
            Self::ControllerRuns { .. } => &CONTROLLER_RUNS,
            Self::Socket { .. } => &SOCKET,
            Self::Peer { .. } => &PEER,
            Self::Version { .. } => &VERSION,
            Self::Lost { .. } => &LOST,
            Self::TokenNeeded { .. } => &TOKEN_NEEDED,
            Self::TokenUnknown { .. } => &TOKEN_UNKNOWN,
            Self::TokenRead { .. } => &TOKEN_READ,
            Self::Refused { .. } => &REFUSED,
            Self::NotConfirmed => &NOT_CONFIRMED,
            Self::NoJournal { .. } => &NO_JOURNAL,
            Self::Journal(e) => match e {
                JournalError::Locked { .. } | JournalError::Conflict { .. } => &JOURNAL_LOCKED,
                JournalError::Broken { .. } => &JOURNAL_BROKEN,
                JournalError::Newer { .. } | JournalError::Unread { .. } => &JOURNAL_NEWER,
                JournalError::Full { .. } => &JOURNAL_FULL,
                JournalError::Io { .. } => &JOURNAL,
            },
            Self::Exists { .. } => &EXISTS,
            Self::File { .. } => &FILE,
            Self::Export { .. } => &EXPORT,
            Self::Copy { .. } => &COPY,
            Self::NotReady { .. } => &NOT_READY,
            Self::Backups { .. } => &BACKUPS,
            Self::BadBackup { .. } => &BAD_BACKUP,
            Self::Plan { .. } => &PLAN,
            Self::InitDatabase { .. } => &INIT_DATABASE,
            Self::InitPair { .. } => &INIT_PAIR,
            Self::InitDns { .. } => &INIT_DNS,
            Self::DemoLoopback { .. } => &DEMO_LOOPBACK,
            Self::DemoStart { .. } => &DEMO_START,
            Self::DemoOutcome(_) => &DEMO_OUTCOME,
            Self::DemoStopped { .. } => &DEMO_STOPPED,
            Self::Simulation { .. } => &SIMULATION,
            Self::Uncovered { .. } => &UNCOVERED,
            Self::Output(_) => &OUTPUT,
            Self::Listen { .. } => &LISTEN,
            Self::Start { .. } => &START,
            Self::Cluster(_) => &CLUSTER,
            Self::Replica(ReplicaError::Definitions(_)) => &DEFINITIONS,
            Self::Replica(_) => &REPLICA,
            Self::Certificate(_) => &CERTIFICATE,
            Self::VantageKey { .. } => &VANTAGE_KEY,
            Self::GuardDocument { .. } => &GUARD_DOCUMENT,
            Self::Guard { .. } => &GUARD,
            Self::Elsewhere { .. } => &ELSEWHERE,
            Self::TakenOver(_) => &TAKEN_OVER,
            Self::StillWritten { .. } => &STILL_WRITTEN,
            Self::NoTopic { .. } => &NO_TOPIC,
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
