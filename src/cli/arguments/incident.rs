//! Flags of `failover incident`.

use clap::{Args, Subcommand, ValueEnum};

use super::Identity;

/// `failover incident …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "See 'failover help chat'.")]
pub enum Incident {
    /// Open an incident, whatever probes see; whoever does leads it.
    Declare(IncidentDeclare),
    /// Write a remark into the timeline.
    Note(IncidentNote),
    /// Take on a duty, or give it to somebody.
    Role(IncidentRole),
    /// Ask somebody else to lead; they have to accept.
    Handoff(IncidentHandoff),
    /// Lead, as you were asked to.
    Accept(IncidentAccept),
    /// Say that the incident is over; probes have to confirm it.
    Resolve(IncidentResolve),
    /// Show the team and its telephone numbers.
    Team(IncidentTeam),
}

/// `failover incident declare`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover incident declare shop --reason 'customers cannot pay, though every probe is well'")]
pub struct IncidentDeclare {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// What is wrong; goes into the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover incident note`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover incident note shop 'the provider says that power is back at 15:00'")]
pub struct IncidentNote {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The remark.
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// A duty, as it is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DutyName {
    /// Leads: decides what is done, and by whom.
    Commander,
    /// Works on the systems.
    Operations,
    /// Tells customers and colleagues.
    Communications,
    /// Writes down what happens.
    Scribe,
}

/// `failover incident role`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover incident role shop commander          nobody leads yet: you do\n  \
    failover incident role shop scribe --to ben    ben writes down what happens")]
pub struct IncidentRole {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The duty.
    #[arg(value_name = "DUTY")]
    pub duty: DutyName,
    /// Who is to have it [default: you].
    #[arg(long, value_name = "PERSON")]
    pub to: Option<String>,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover incident handoff`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  failover incident handoff shop ben    until ben accepts, you lead"
)]
pub struct IncidentHandoff {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Who is to lead.
    #[arg(value_name = "PERSON")]
    pub person: String,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover incident accept`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  failover incident accept shop")]
pub struct IncidentAccept {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover incident resolve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    failover incident resolve shop --reason 'the provider repaired its line'")]
pub struct IncidentResolve {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Why it is over; goes into the journal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who you are.
    #[command(flatten)]
    pub identity: Identity,
}

/// `failover incident team`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  failover incident team shop")]
pub struct IncidentTeam {
    /// Service.
    #[arg(value_name = "SERVICE")]
    pub service: String,
}
