//! What is asked at the desk, and what it answers: the same words for every front end.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    decide::explain::Report,
    driver::backups::{Choice, Survey},
    model::{
        announcement::Phase,
        approval::Role,
        backup::Verification,
        check::CheckItem,
        duty::Duty,
        id::{
            AskId, DrillName, GroupName, PageId, PersonName, PlanHash, RunId, ServiceName,
            SiteName, StepId,
        },
        plan::{Plan, RunKind},
        record::{ForecastPart, Record},
        service::Mode,
        span::Span,
        taking::Taken,
    },
};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// How services stand.
    Status {
        /// Which; none: all.
        service: Option<ServiceName>,
    },
    /// The last records.
    Timeline {
        /// Of which service.
        service: ServiceName,
        /// How many.
        last: usize,
    },
    /// Who is of the team.
    Team {
        /// Of which service.
        service: ServiceName,
    },
    /// The plan of a run.
    Plan {
        /// Of which service.
        service: ServiceName,
        /// What for.
        kind: RunKind,
        /// To which site; none: the first standby.
        to: Option<SiteName>,
    },
    /// Try everything, and record what came of it.
    Check {
        /// Which service.
        service: ServiceName,
    },
    /// What backups there are, and what breaks their policy.
    Backups {
        /// Of which service.
        service: ServiceName,
    },
    /// Restore a backup to try it, and record what came of it.
    VerifyBackup {
        /// Of which service.
        service: ServiceName,
        /// Which.
        choice: Choice,
    },
    /// Record what trying a backup came to, which another process did.
    BackupVerified {
        /// Of which service.
        service: ServiceName,
        /// What it came to.
        result: Box<Verification>,
    },
    /// Record what taking a backup came to, which another process did.
    BackupTaken {
        /// Of which service.
        service: ServiceName,
        /// What it came to.
        result: Box<Taken>,
    },
    /// The messages of each channel.
    Preview {
        /// Of which service.
        service: ServiceName,
        /// Of which phases.
        phases: Vec<Phase>,
        /// Text of a person instead of the template's.
        text: Option<String>,
    },
    /// Change something.
    Command {
        /// Of which services; empty: all.
        services: Vec<ServiceName>,
        /// What.
        wish: Wish,
    },
    /// Whether a command would be taken, before people are asked to confirm it.
    Try {
        /// Of which service.
        service: ServiceName,
        /// What.
        wish: Wish,
    },
    /// Records as they are written, until the client goes away.
    Watch {
        /// Of which service; none: all.
        service: Option<ServiceName>,
    },
}

impl Request {
    /// The one service that it is about, where it names one.
    #[must_use]
    pub const fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Status { service } | Self::Watch { service } => service.as_ref(),
            Self::Timeline { service, .. }
            | Self::Team { service }
            | Self::Plan { service, .. }
            | Self::Check { service }
            | Self::Backups { service }
            | Self::VerifyBackup { service, .. }
            | Self::BackupVerified { service, .. }
            | Self::BackupTaken { service, .. }
            | Self::Preview { service, .. }
            | Self::Try { service, .. } => Some(service),
            Self::Command { .. } => None,
        }
    }

    /// Which command shows more, where it is refused.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Command { services, wish } => {
                wish.advice(services.first().map_or("SERVICE", ServiceName::as_str))
            }
            Self::Try { service, wish } => wish.advice(service.as_str()),
            Self::VerifyBackup { service, .. } | Self::Backups { service } => {
                format!("'failover backups {service}' shows the sources and what they hold")
            }
            Self::Status { .. }
            | Self::Timeline { .. }
            | Self::Team { .. }
            | Self::Plan { .. }
            | Self::Check { .. }
            | Self::BackupVerified { .. }
            | Self::BackupTaken { .. }
            | Self::Preview { .. }
            | Self::Watch { .. } => "see the controller's log".to_owned(),
        }
    }
}

/// What a request wants, for the sentence that asks for a token.
#[must_use]
pub fn wanted(request: &Request) -> &'static str {
    match request {
        Request::Command { .. } | Request::Try { .. } => "give commands",
        Request::Status { .. }
        | Request::Timeline { .. }
        | Request::Team { .. }
        | Request::Plan { .. }
        | Request::Check { .. }
        | Request::Backups { .. }
        | Request::VerifyBackup { .. }
        | Request::BackupVerified { .. }
        | Request::BackupTaken { .. }
        | Request::Preview { .. }
        | Request::Watch { .. } => "look",
    }
}

/// What a person wants changed; who it is comes with the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Wish {
    /// Begin a run.
    Open {
        /// What for.
        kind: RunKind,
        /// To which site; none: the first standby.
        to: Option<SiteName>,
        /// Why.
        reason: String,
        /// Only if the plan's hash begins like this.
        plan: Option<String>,
    },
    /// Answer a question with yes.
    Approve {
        /// Which.
        ask: AskId,
        /// Why.
        reason: Option<String>,
        /// Decide alone.
        break_glass: bool,
    },
    /// Answer a question with no.
    Deny {
        /// Which.
        ask: AskId,
        /// Why.
        reason: Option<String>,
    },
    /// Begin nothing automatically.
    Pause {
        /// Why.
        reason: String,
    },
    /// End a pause.
    Resume,
    /// Stop a run.
    Abort {
        /// Which.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// Stop paging; without a page, acknowledge the last failover.
    Acknowledge {
        /// Which page.
        page: Option<PageId>,
    },
    /// Tell customers.
    Announce {
        /// Which phase.
        phase: Phase,
        /// In these words.
        text: Option<String>,
    },
    /// People moved the service by hand.
    Moved {
        /// Where it runs now.
        site: SiteName,
        /// Why.
        reason: String,
    },
    /// Begin anew after another controller that is gone for good.
    TakeOver {
        /// Why.
        reason: String,
    },
    /// Begin a drill.
    Drill {
        /// Which; none: the only one.
        policy: Option<DrillName>,
        /// Why.
        reason: String,
    },
    /// Lower the mode.
    SetMode {
        /// To.
        mode: Mode,
        /// Why.
        reason: String,
    },
    /// A remark for the timeline.
    Note {
        /// What.
        text: String,
    },
    /// There is an incident, whatever probes see.
    Declare {
        /// Why.
        reason: String,
    },
    /// The open incident is over.
    Resolve {
        /// Why.
        reason: String,
    },
    /// Take on a duty in the open incident, or give it to somebody.
    TakeDuty {
        /// Which.
        duty: Duty,
        /// Who is to have it; none: whoever says so.
        person: Option<PersonName>,
    },
    /// Ask somebody else to lead the open incident.
    HandOver {
        /// Whom.
        to: PersonName,
    },
    /// Lead the open incident, as one was asked to.
    Accept,
}

impl Wish {
    fn advice(&self, service: &str) -> String {
        match self {
            Self::Approve { .. } | Self::Deny { .. } => {
                format!("'failover status {service}' shows the open questions")
            }
            Self::Abort { .. } => format!("'failover status {service}' shows what is in progress"),
            Self::Acknowledge { page: Some(_) } => {
                format!("'failover status {service}' shows the open pages")
            }
            Self::Open { .. }
            | Self::Pause { .. }
            | Self::Resume
            | Self::Acknowledge { page: None }
            | Self::Announce { .. }
            | Self::Moved { .. }
            | Self::TakeOver { .. }
            | Self::Drill { .. }
            | Self::Note { .. }
            | Self::Declare { .. }
            | Self::Resolve { .. }
            | Self::TakeDuty { .. }
            | Self::HandOver { .. }
            | Self::Accept
            | Self::SetMode { .. } => format!(
                "'failover explain {service}' says what stands in the way and with what evidence"
            ),
        }
    }
}

/// What a controller answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// How services stand, and why.
    Status(Vec<Report>),
    /// The last records, oldest first.
    Timeline(Vec<Record>),
    /// Who is of the team.
    Team(Vec<Member>),
    /// The plan of a run.
    Plan(Box<PlanView>),
    /// What the check saw.
    Check(Vec<CheckItem>),
    /// What backups there are; none where the service has no policy.
    Backups(Option<Box<Survey>>),
    /// What trying a backup came to.
    BackupVerified(Box<Verification>),
    /// What taking a backup came to.
    BackupTaken(Box<Taken>),
    /// The messages.
    Preview(Vec<PreviewItem>),
    /// It would be taken.
    Possible,
    /// A command was given.
    Done {
        /// What each service said that took it.
        done: BTreeMap<ServiceName, String>,
        /// Why others did not.
        refused: BTreeMap<ServiceName, String>,
    },
    /// From now on, events.
    Watching,
    /// Not done.
    Refused(Refusal),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Refusal {
    /// The client's messages have another version.
    Version {
        /// The controller's version.
        ours: u32,
    },
    /// There is no such service.
    NoService {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The command needs a token.
    TokenNeeded,
    /// The token is nobody's.
    TokenUnknown {
        /// In the team of which service.
        service: ServiceName,
    },
    /// Nobody of a service's team is known so.
    Stranger {
        /// Of which service.
        service: ServiceName,
        /// As whom the front end knows them.
        who: String,
    },
    /// No plan can be made.
    NoPlan {
        /// Of which service.
        service: ServiceName,
        /// Why.
        reason: String,
    },
    /// The engine said no.
    Engine {
        /// Why.
        reason: String,
    },
}

/// Somebody of a service's team, as colleagues see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The name.
    pub name: PersonName,
    /// What the person may do, where the documents say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Groups that the person belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// Whether the person may approve.
    pub approves: bool,
    /// Whether the person may decide alone in an emergency.
    pub breaks_glass: bool,
}

impl Member {
    /// What the person may do, in a few words; empty where the documents say nothing of it.
    #[must_use]
    pub fn powers(&self) -> String {
        let mut what: Vec<String> = self.role.iter().map(ToString::to_string).collect();
        if self.approves {
            what.push("approves".to_owned());
        }
        if self.breaks_glass {
            what.push("may decide alone".to_owned());
        }
        what.join(", ")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { ours } => write!(f, "the controller speaks version {ours}"),
            Self::NoService { name, known } if known.is_empty() => {
                write!(f, "there is no service {name} here")
            }
            Self::NoService { name, known } => write!(
                f,
                "there is no service {name} here; known are {}",
                known.join(", ")
            ),
            Self::TokenNeeded => f.write_str("a personal token is needed"),
            Self::TokenUnknown { service } => {
                write!(f, "the token is nobody's in the team of {service}")
            }
            Self::Stranger { service, who } => {
                write!(f, "{who} is nobody of the team of {service}")
            }
            Self::NoPlan { service, reason } => write!(f, "no plan of {service}: {reason}"),
            Self::Engine { reason } => f.write_str(reason),
        }
    }
}

/// A record as it is written, for whoever watches.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The record.
    pub record: Record,
    /// How the service stands after it.
    pub report: Box<Report>,
}

/// A plan, its forecast, and what the linter says.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// The plan.
    pub plan: Plan,
    /// Its hash.
    pub hash: PlanHash,
    /// What each part is expected to take.
    pub forecast: Vec<ForecastPart>,
    /// All parts together.
    pub total: Span,
    /// What was promised.
    pub rto: Span,
    /// What each step is expected to take.
    pub expected: BTreeMap<StepId, Span>,
    /// What would be lost, in words.
    pub loss: String,
    /// What the linter says.
    pub remarks: Vec<RemarkView>,
}

/// A remark of the linter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemarkView {
    /// What is noticed.
    pub text: String,
    /// What to do.
    pub fix: String,
}

/// A message of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewItem {
    /// The channel.
    pub channel: String,
    /// The adapter.
    pub uses: String,
    /// The phase.
    pub phase: Phase,
    /// How many would get it, or why that is not known.
    pub recipients: String,
    /// Its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its text.
    pub text: String,
    /// What a person should know before it goes out.
    pub remarks: Vec<String>,
}
