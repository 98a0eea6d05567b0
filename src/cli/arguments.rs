//! The command line: every command, flag and example.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod announce;
mod backups;
mod demo;
mod desk;
mod drill;
mod guard;
mod incident;
mod init;
mod journal;
mod operator;
mod planned;
mod postmortem;
mod simulate;
mod vantage;

pub use announce::{Announce, AnnouncePreview, AnnounceSend, PhaseName};
pub use backups::{
    Backups, BackupsCommand, BackupsPrune, BackupsRestore, BackupsTake, BackupsVerify,
};
pub use demo::{Demo, DemoPart, PartVerb, Scenario};
pub use desk::DeskListen;
pub use drill::{Drill, History, Report, ReportFormat};
pub use guard::{Guard, GuardDocument, GuardKeygen, GuardRun};
pub use incident::{DutyName, Incident, IncidentTeam};
pub use init::Init;
pub use journal::{Journal, JournalExport, JournalRestore, JournalShow, JournalVerify, Takeover};
pub use operator::{Operator, OperatorCrds, OperatorPart, OperatorRun};
pub use planned::Planned;
pub use postmortem::Postmortem;
pub use simulate::Simulate;
pub use vantage::{Vantage, VantageListen};

/// Watches a primary, proves it fenced, promotes the standby, repoints DNS and tells people.
#[derive(Debug, Parser)]
#[command(
    name = "failover",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit status: 0 done, 1 it failed, 2 used wrongly, 3 another controller took over from this one.\n\
                  See 'failover help quickstart' for a first walk, 'failover help' for all topics."
)]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// How results are printed on standard output.
    #[arg(
        long,
        short = 'o',
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// Folder of journal, lists and control socket.
    #[arg(
        long,
        global = true,
        env = "FAILOVER_STATE",
        value_name = "DIR",
        help = "Folder of journal, lists and control socket [default: $XDG_STATE_HOME/failover; /var/lib/failover as root]"
    )]
    pub state: Option<PathBuf>,
    /// Control socket of the running controller [default: control/failover.sock in the state folder].
    #[arg(long, global = true, env = "FAILOVER_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// A controller elsewhere that is asked instead of the one on this host.
    #[arg(
        long,
        global = true,
        env = "FAILOVER_SERVER",
        value_name = "URL",
        help = "Desk of a controller elsewhere, asked with your token instead of the controller on this host"
    )]
    pub server: Option<String>,
    /// Who signed the certificate of that desk.
    #[arg(
        long,
        global = true,
        env = "FAILOVER_SERVER_CA",
        value_name = "PATH",
        help = "PEM file of who signed the certificate of --server [default: whoever this host trusts]"
    )]
    pub server_ca: Option<PathBuf>,
    /// What is logged to standard error.
    #[arg(
        long,
        global = true,
        env = "FAILOVER_LOG",
        value_name = "LEVEL",
        help = "What is logged to standard error: error, warn, info, debug, trace, or a filter such as failover::dns=debug"
    )]
    pub log: Option<String>,
    /// How log lines look.
    #[arg(
        long,
        global = true,
        env = "FAILOVER_LOG_FORMAT",
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = false
    )]
    pub log_format: Format,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
}

/// Text for people or JSON for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs; one object, or one a line where it is a stream.
    Json,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless the variable `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands, in the order in which a person meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole story on this machine in about a minute; nothing to configure.
    Demo(Demo),
    /// Look at a PostgreSQL pair and live DNS, and write commented documents in observe mode.
    Init(Init),
    /// Check documents; every error of every file at once.
    Validate(Validate),
    /// Print the JSON Schema of the documents.
    Schema(Schema),
    /// Run the controller.
    Run(Run),
    /// Run the controller in a Kubernetes cluster, on custom resources.
    Operator(Operator),
    /// Look from here, and report to a controller elsewhere.
    Vantage(Vantage),
    /// Guard the database of this host: it writes only while it may.
    #[command(subcommand)]
    Guard(Guard),
    /// Try everything a failover needs, without changing anything.
    Check(Check),
    /// Show what backups there are and what breaks their policy; restore one to try it.
    Backups(Backups),
    /// Print the plan that a failover would follow, and its forecast against the RTO.
    Plan(Plan),
    /// Say in plain sentences why it did, did not, or would fail over.
    Explain(Explain),
    /// Show services, verdicts, runs and open questions.
    Status(Status),
    /// Show what happened, oldest first.
    Timeline(Timeline),
    /// Draft a post-mortem of an incident, from the journal alone.
    Postmortem(Postmortem),
    /// Play histories in which everything goes wrong, and hold each against the rules.
    Simulate(Simulate),
    /// Ask for a failover now.
    Failover(Failover),
    /// Move the service to its other site in order, while both work.
    Switchover(Planned),
    /// Bring the service back to its primary site, once that one has what was written meanwhile.
    Failback(Planned),
    /// Exercise the recovery, and hold what it took against what was promised.
    Drill(Drill),
    /// Show the report of a drill.
    Report(Report),
    /// Show the drills of a service, and how their figures change.
    History(History),
    /// Say yes to an open question.
    Approve(Approve),
    /// Say no to an open question; it is not asked again until the evidence changes.
    Deny(Deny),
    /// Begin nothing automatically until 'resume'.
    Pause(Pause),
    /// End a pause.
    Resume(Resume),
    /// Stop a run before its promotion and take back what it did.
    Abort(Abort),
    /// Acknowledge a page, or the last failover so that another may follow.
    Ack(Ack),
    /// Declare an incident, lead it, hand it over, write into its timeline.
    #[command(subcommand)]
    Incident(Incident),
    /// Lower a service's mode at once; raising is earned by a green check.
    Mode(Mode),
    /// Say that people moved the service by hand.
    Moved(Moved),
    /// Take up the journal of a controller that is lost, on this host.
    Takeover(Takeover),
    /// Preview or send what customers are told.
    #[command(subcommand)]
    Announce(Announce),
    /// Show, export or verify the journal.
    #[command(subcommand)]
    Journal(Journal),
    /// Show a runbook as a person would read it.
    #[command(subcommand)]
    Runbook(Runbook),
    /// Print a fresh personal token and the hash that goes into the documents.
    Token(Token),
    /// Explain a command, a topic or an error code.
    Help(Help),
    /// Print the completions of a shell.
    Completions(Completions),
    /// A part of the demo, started by it.
    // Named like no other command: whoever mistypes one would be led to it.
    #[command(name = "part-of-demo", hide = true, subcommand)]
    DemoPart(DemoPart),
    /// A process between the guard and its database, started by it.
    #[command(hide = true, subcommand)]
    GuardPart(GuardPart),
}

/// Who speaks, for commands that change something.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Who you are")]
pub struct Identity {
    /// File with the personal token.
    #[arg(
        long,
        value_name = "PATH",
        help = "File with your personal token [default: $FAILOVER_TOKEN, else asked for on a terminal]"
    )]
    pub token_file: Option<PathBuf>,
}

/// Documents named on the command line.
#[derive(Clone, Debug, Args)]
pub struct Documents {
    /// Files, or folders whose *.yaml and *.yml are read.
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    pub file: Vec<PathBuf>,
}

/// `failover validate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover validate documents/\n  \
    failover validate --output json shop.yaml | jq '.problems[].code'\n\n\
    Exit status: 0 every document is right, 1 some are not, 2 used wrongly.")]
pub struct Validate {
    /// Files, or folders whose *.yaml and *.yml are read.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
}

/// `failover schema`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover schema > failover.schema.json\n\n\
    In an editor: # yaml-language-server: $schema=failover.schema.json")]
pub struct Schema {}

/// `failover run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover run -f documents/\n  \
    failover run -f documents/ --listen 0.0.0.0:8080 --log-format json\n  \
    failover run -f documents/ --journal-copy s3://backup/failover\n  \
    failover run -f documents/ --vantage-listen 0.0.0.0:8443 --tls-cert chain.pem --tls-key key.pem\n\n\
    SIGHUP, or a changed file, reads the documents again; a run in flight is never loosened.\n\
    SIGTERM and Ctrl-C end cleanly; the next start goes on where this one stopped.")]
pub struct Run {
    /// The documents.
    #[command(flatten)]
    pub documents: Documents,
    /// Address of the status page, for the public; 'off' for none.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: Listen,
    /// Address of /metrics, /healthz and /readyz, not for the public; 'off' for none.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9633")]
    pub metrics: Listen,
    /// Where a copy of the journal follows it.
    #[arg(
        long,
        value_name = "URL",
        help = "Where a copy of the journal follows it: s3://bucket/prefix, or file:///folder, which has to be there \
                [S3: AWS_ACCESS_KEY_ID, \
                AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL]"
    )]
    pub journal_copy: Option<String>,
    /// UDP address that guards speak to ('failover guard'); 'off' for none.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "off")]
    pub guard_listen: Listen,
    /// The desk.
    #[command(flatten)]
    pub desk: DeskListen,
    /// Observers elsewhere.
    #[command(flatten)]
    pub vantage: VantageListen,
}

/// Where something is listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// Here.
    At(std::net::SocketAddr),
}

impl Listen {
    /// The address, where it is listened at all.
    #[must_use]
    pub const fn address(self) -> Option<std::net::SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| {
            "expected ADDRESS:PORT, such as 0.0.0.0:8080 or [::]:8080, or off".to_owned()
        })
    }
}

/// `failover check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover check                       ask the running controller about all its services\n  \
    failover check shop                  about one\n  \
    failover check -f documents/ shop    from here, without a controller; nothing is recorded\n\n\
    Exit status: 0 every item is ok or warn, 1 some are not, 2 used wrongly.\n\
    'unknown' is not green.")]
pub struct Check {
    /// Service; all of them where none is named.
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Check from here with these documents, without a controller.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: Vec<PathBuf>,
}

/// `failover plan`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover plan shop\n  \
    failover plan shop --kind redirect\n  \
    failover plan shop -f documents/     without a controller\n\n\
    The hash names exactly this plan; an approval is bound to it.")]
pub struct Plan {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// What the run would be for.
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub kind: Kind,
    /// Site to go to [default: the first standby].
    #[arg(long, value_name = "SITE")]
    pub to: Option<String>,
    /// Compile from these documents, without a controller.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: Vec<PathBuf>,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The standby takes over after the primary was lost.
    #[default]
    Failover,
    /// Traffic only: the application moves, the database stays.
    Redirect,
    /// Planned: the other site takes over from one that works.
    Switchover,
    /// Back to the site that was primary.
    Failback,
}

/// `failover explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover explain shop")]
pub struct Explain {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
}

/// `failover status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover status\n  \
    failover status shop --watch\n  \
    failover status --output json | jq '.services[].mode'")]
pub struct Status {
    /// Service; all of them where none is named.
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Go on and print what happens.
    #[arg(long, short = 'w')]
    pub watch: bool,
}

/// `failover timeline`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover timeline shop\n  \
    failover timeline shop --last 20\n\n\
    Reads the journal itself, so it works whether or not a controller runs.")]
pub struct Timeline {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Only so many of the newest entries.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
}

/// `failover failover`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover failover shop --reason 'data centre on fire'\n  \
    failover failover shop --kind redirect --reason 'app servers down' --watch\n\n\
    Shows the plan and the expected loss, and asks before it begins. The fence is still proved first, and where the\n\
    service wants approvals, others still have to approve.")]
pub struct Failover {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// What for.
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub kind: Kind,
    /// Site to go to [default: the first standby].
    #[arg(long, value_name = "SITE")]
    pub to: Option<String>,
    /// How it is begun.
    #[command(flatten)]
    pub begin: Begin,
}

/// How a person begins a run.
#[derive(Debug, Args)]
pub struct Begin {
    /// Why; goes into the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Begin only if the plan still has this hash (its first 12 digits are enough).
    #[arg(long, value_name = "HASH")]
    pub plan: Option<String>,
    /// Do not ask before it begins.
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Stay and show what happens until the run ends.
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover approve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover approve shop-a12\n  \
    failover approve shop-a12 --reason 'power is off in rack 4, seen by myself'\n  \
    failover approve shop-a12 --break-glass --reason 'second approver unreachable'\n\n\
    'failover status' lists open questions. Whoever asked for a run cannot approve it where two people are required.")]
pub struct Approve {
    /// The question, such as shop-a12.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Why; compulsory where you attest to something, and with --break-glass.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Decide alone, where the documents let you.
    #[arg(long, requires = "reason")]
    pub break_glass: bool,
    /// Stay and show what happens until the run ends.
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover deny`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover deny shop-a12 --reason 'planned work, the site is well'")]
pub struct Deny {
    /// The question, such as shop-a12.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Why; goes into the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover pause`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover pause --reason 'network maintenance'        every service: the kill switch\n  \
    failover pause shop --reason 'database upgrade'\n\n\
    A run in flight goes on; 'failover abort' stops it.")]
pub struct Pause {
    /// Service; every one where none is named.
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Why; goes into the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover resume`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover resume\n  \
    failover resume shop")]
pub struct Resume {
    /// Service; every one where none is named.
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover abort`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover abort shop-r14 --reason 'primary is back'\n\n\
    After the promotion the way is forward only: an abort is then refused, unless nobody can tell what came of\n\
    the promotion although its time is over, as where the host of the new site is lost.")]
pub struct Abort {
    /// The run, such as shop-r14.
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Why; goes into the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover ack`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover ack shop-p17    a page: it is not repeated any more\n  \
    failover ack shop        the last failover of shop: another may follow")]
pub struct Ack {
    /// A page, such as shop-p17, or a service.
    #[arg(value_name = "PAGE|SERVICE")]
    pub id: String,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover moved`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover moved shop south --reason 'the standby could not be promoted; the old primary was started again'\n\n\
    Touches nothing: the controller goes by it from now on, in a higher epoch. For when people did past it what a run \
    would have done, or took it back. Make sure first that no other site takes writes.")]
pub struct Moved {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The site where it runs now.
    #[arg(value_name = "SITE")]
    pub site: String,
    /// Why; goes into the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover mode`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover mode shop ask --reason 'standby is being resized'\n\n\
    It holds until the documents ask for that mode or a lower one, or the controller earns 'automatic' again by a\n\
    green check after 'failover mode SERVICE automatic'.")]
pub struct Mode {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The mode.
    #[arg(value_enum, value_name = "MODE")]
    pub mode: ModeName,
    /// Why; goes into the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// How much the controller may do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeName {
    /// Full detection and plan; touches nothing outside.
    Observe,
    /// Every run waits for a person.
    Ask,
    /// Runs by itself where the gates allow.
    Automatic,
}

/// `failover runbook …`.
#[derive(Debug, Subcommand)]
pub enum Runbook {
    /// Print a runbook as Markdown.
    Show(RunbookShow),
}

/// `failover runbook show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover runbook show                                  those that come with the program\n  \
    failover runbook show postgres-failover > runbook.md\n  \
    failover runbook show -f documents/                    those of the services in these documents")]
pub struct RunbookShow {
    /// Runbook; every one where none is named.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Show the runbooks of these documents, as their services use them.
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: Vec<PathBuf>,
}

/// `failover token`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover token\n  \
    failover token --hash-of token.txt    the hash of a token you have\n\n\
    Give the token to one person; put only the hash into the documents, at team.people[].tokenHash.")]
pub struct Token {
    /// Print the hash of the token in this file instead of making a new one.
    #[arg(long, value_name = "PATH")]
    pub hash_of: Option<PathBuf>,
}

/// `failover help`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover help fencing\n  \
    failover help FO-012\n  \
    failover help plan")]
pub struct Help {
    /// A command, a topic or an error code; a list of topics where none is named.
    #[arg(value_name = "TOPIC")]
    pub topic: Vec<String>,
}

/// `failover completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover completions bash > /etc/bash_completion.d/failover\n  \
    failover completions zsh > ~/.zfunc/_failover")]
pub struct Completions {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// The processes between a guard and its database; each reads from standard input what it is to do.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum GuardPart {
    /// The one that the kernel kills when the lease ends.
    Hold,
    /// The first of the database's PID namespace.
    Init,
    /// The one that becomes the database.
    Command,
    /// The one that a program which works on the data ends with.
    Tool {
        /// The guard's process.
        guard: u32,
    },
}
