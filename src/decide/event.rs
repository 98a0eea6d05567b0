//! What comes in, and what goes out.

use std::collections::BTreeMap;

use super::turn::Word;
use crate::model::{
    announcement::{Phase, Tallies},
    approval::{AskSubject, Role},
    backup::{Breach, Shelf, Verification},
    check::CheckItem,
    duty::Duty,
    guard::Report,
    id::{
        AnnouncementId, AskId, Attempt, ChannelName, ConfigHash, DrillName, Epoch, IdempotencyKey,
        IncidentId, PageId, PersonName, PlanHash, RunId, Seq, SiteName, StepId, UserName,
    },
    observation::Observation,
    plan::RunKind,
    record::RecordBody,
    service::Mode,
    span::Span,
    step::{Presence, StepResult},
    taking::Taken,
    time::Time,
};

/// Something that happened outside the core.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Time has passed, or records became durable.
    Tick,
    /// A vantage point looked.
    Observed(Observation),
    /// A step's effect came to an end.
    Performed {
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: Attempt,
        /// What it came to.
        result: StepResult,
        /// How long it took.
        took: Span,
    },
    /// A step's effect was looked for.
    Looked {
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: Attempt,
        /// What was seen.
        presence: Presence,
        /// How long it took.
        took: Span,
    },
    /// A step's effect was taken back.
    Undone {
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// What it came to; none where its adapter cannot undo.
        result: Option<StepResult>,
    },
    /// An announcement has nothing left to send.
    Announced {
        /// Which one.
        announcement: AnnouncementId,
        /// What came of it.
        tallies: Tallies,
        /// Channels that are broken, with the reason.
        broken: BTreeMap<ChannelName, String>,
    },
    /// A readiness check ended.
    Checked {
        /// The documents that it was made for.
        config: ConfigHash,
        /// The plan that it was made for, where one could be made.
        plan: Option<PlanHash>,
        /// Every item.
        items: Vec<CheckItem>,
    },
    /// Backups were held against their policy.
    BackupsJudged {
        /// What is broken.
        breaches: Vec<Breach>,
        /// What there is.
        shelves: Vec<Shelf>,
    },
    /// A backup was taken.
    BackupTaken(Box<Taken>),
    /// A backup was restored to try it.
    BackupVerified(Box<Verification>),
    /// The guard of a site says something else than before.
    Guard(Box<Report>),
    /// The guard of a site has said nothing for a while.
    GuardSilent(SiteName),
    /// The guard of a site asked for a lease of this epoch.
    Held {
        /// The site.
        site: SiteName,
        /// The epoch.
        epoch: Epoch,
    },
    /// The group that the service is in says where it stands there.
    Turn(Word),
    /// The driver noticed something that the team must hear.
    Trouble(Trouble),
    /// A person wants something.
    Command(Command),
}

/// Something that the team must hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Documents changed on disk but cannot be used; the old ones stay in force.
    Documents(String),
    /// They can be used again.
    DocumentsFixed,
    /// A channel cannot send.
    Channel {
        /// Which.
        channel: String,
        /// Why.
        reason: String,
    },
    /// The TTL of a record was changed, or is about to be.
    Ttl {
        /// Name and type of the record.
        name: String,
        /// From, in seconds.
        from: u32,
        /// To, in seconds.
        to: u32,
        /// Whether it is in place.
        done: bool,
    },
}

/// What a person wants. Who it is was verified by the front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begin a run.
    Open {
        /// What for.
        kind: RunKind,
        /// To which site; none: the first standby.
        to: Option<SiteName>,
        /// The plan that is meant, by its hash or the beginning of it; none: whatever would run.
        plan: Option<PlanHash>,
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// Answer a question with yes.
    Approve {
        /// Which; none: the only one.
        ask: Option<AskId>,
        /// Who.
        by: PersonName,
        /// The user of the API server who signed it, where one did.
        user: Option<UserName>,
        /// The reason; compulsory for attestations and break-glass.
        reason: Option<String>,
        /// Decide alone.
        break_glass: bool,
    },
    /// Answer a question with no.
    Deny {
        /// Which; none: the only one.
        ask: Option<AskId>,
        /// Who.
        by: PersonName,
        /// Why.
        reason: Option<String>,
    },
    /// Begin nothing automatically from now on.
    Pause {
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// End the pause.
    Resume {
        /// Who.
        by: PersonName,
    },
    /// Stop the run before its promotion.
    Abort {
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// Stop paging; also acknowledges the last failover.
    Acknowledge {
        /// Which page; none: all.
        page: Option<PageId>,
        /// Who.
        by: PersonName,
    },
    /// Tell customers.
    Announce {
        /// Which phase.
        phase: Phase,
        /// In these words instead of the template's.
        text: Option<String>,
        /// Who.
        by: PersonName,
    },
    /// Begin a drill.
    Drill {
        /// Which; none: the only one, or one on paper where there is none.
        policy: Option<DrillName>,
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// Stop the open drill.
    StopDrill {
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// Lower the mode, or go back to what the documents say.
    SetMode {
        /// To.
        mode: Mode,
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// People moved the service by hand.
    Moved {
        /// Where it runs now.
        site: SiteName,
        /// Who says so.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// Begin anew where a guard has promised an epoch that this journal does not know: who led since is gone for good.
    TakeOver {
        /// Who says so.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// A remark for the timeline.
    Note {
        /// Who.
        by: PersonName,
        /// What.
        text: String,
    },
    /// There is an incident, whatever probes see.
    Declare {
        /// Who says so.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// The open incident is over.
    Resolve {
        /// Who says so.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// Take on a duty in the open incident, or give it to somebody.
    TakeDuty {
        /// Which.
        duty: Duty,
        /// Who is to have it; none: whoever says so.
        person: Option<PersonName>,
        /// Who.
        by: PersonName,
    },
    /// Ask somebody else to lead the open incident.
    HandOver {
        /// Whom.
        to: PersonName,
        /// Who.
        by: PersonName,
    },
    /// Lead the open incident, as one was asked to.
    Accept {
        /// Who.
        by: PersonName,
    },
    /// A front end turned somebody away; it is written down.
    TurnedAway {
        /// Who, as far as it knows.
        by: PersonName,
        /// Why.
        reason: String,
    },
}

impl Command {
    /// Who gives it.
    #[must_use]
    pub const fn by(&self) -> &PersonName {
        match self {
            Self::Open { by, .. }
            | Self::Approve { by, .. }
            | Self::Deny { by, .. }
            | Self::Pause { by, .. }
            | Self::Resume { by }
            | Self::Abort { by, .. }
            | Self::Acknowledge { by, .. }
            | Self::Announce { by, .. }
            | Self::Drill { by, .. }
            | Self::StopDrill { by, .. }
            | Self::SetMode { by, .. }
            | Self::Moved { by, .. }
            | Self::TakeOver { by, .. }
            | Self::Note { by, .. }
            | Self::Declare { by, .. }
            | Self::Resolve { by, .. }
            | Self::TakeDuty { by, .. }
            | Self::HandOver { by, .. }
            | Self::Accept { by }
            | Self::TurnedAway { by, .. } => by,
        }
    }

    /// What it wants, in a few words.
    #[must_use]
    pub const fn words(&self) -> &'static str {
        match self {
            Self::Open { .. } => "begin a run",
            Self::Approve { .. } => "approve",
            Self::Deny { .. } => "deny",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "end the pause",
            Self::Abort { .. } => "stop the run",
            Self::Acknowledge { .. } => "acknowledge",
            Self::Announce { .. } => "speak to customers",
            Self::Drill { .. } => "begin a drill",
            Self::StopDrill { .. } => "stop the drill",
            Self::SetMode { .. } => "lower the mode",
            Self::Moved { .. } => "say that the service was moved",
            Self::TakeOver { .. } => "take over",
            Self::Note { .. } => "write a note",
            Self::Declare { .. } => "declare an incident",
            Self::Resolve { .. } => "end the incident",
            Self::TakeDuty { .. } => "take on a duty",
            Self::HandOver { .. } => "hand over command",
            Self::Accept { .. } => "accept command",
            Self::TurnedAway { .. } => "speak here",
        }
    }
}

/// What the core wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// To be made durable and applied, in this order, before anything else.
    pub records: Vec<RecordBody>,
    /// To be done now; each is backed by a record that is durable.
    pub effects: Vec<Effect>,
    /// When to call again, and why.
    pub wake: Option<Wake>,
    /// The answer to a command; valid once the records are durable.
    pub reply: Option<Reply>,
}

/// When to call again, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// When.
    pub at: Time,
    /// Why.
    pub reason: &'static str,
}

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Perform a step.
    Perform(Call),
    /// Look whether a step's effect is in place.
    Observe(Call),
    /// Take a step's effect back.
    Undo(Call),
    /// Break off what this run has under way; each step then comes out as one that cannot be told.
    Break(RunId),
    /// Send an announcement to whoever has not got it yet.
    Announce(AnnouncementId),
    /// Page the team: the message of this record.
    Page(Seq),
    /// Tell those of the team who were paged that these pages are over.
    PageOver(Vec<PageId>),
}

/// Which step, as which attempt, under which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// Which attempt.
    pub attempt: Attempt,
    /// The epoch that the effect carries.
    pub epoch: Epoch,
    /// Recognises the effect.
    pub key: IdempotencyKey,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Taken.
    Ok(String),
    /// Not taken: why, and what to do.
    Refused(Refusal),
}

/// Why a command was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A run is already open.
    #[error("run {0} is in progress: wait for it, or stop it with `failover abort`")]
    RunOpen(RunId),
    /// No run is open.
    #[error("no run is in progress")]
    NoRun,
    /// The run has begun to promote: the way is forward only.
    #[error("run {0} has begun to promote; from here the way is forward only")]
    PastPromotion(RunId),
    /// No such site, or it cannot be a target.
    #[error("{0} is no standby site of this service")]
    NoSite(String),
    /// No plan can be made for it.
    #[error("no {0} can be planned: {1}")]
    NoPlan(RunKind, String),
    /// Another plan would run than the one that is meant.
    #[error("the plan is {now} now, not {meant}: look at it with `failover plan`, and ask again")]
    OtherPlan {
        /// What was meant.
        meant: PlanHash,
        /// What would run.
        now: PlanHash,
    },
    /// It is asked already.
    #[error("question {0} about it is open already: approve or deny it")]
    AskOpen(AskId),
    /// No such question.
    #[error("no question {0} is open; `failover status` lists the open ones")]
    NoAsk(String),
    /// More than one question is open.
    #[error("several questions are open: name one of {0}")]
    WhichAsk(String),
    /// This person may not answer it.
    #[error("{by} may not approve {what}: approvers are {approvers}")]
    NotApprover {
        /// Who.
        by: PersonName,
        /// What.
        what: String,
        /// Who may.
        approvers: String,
    },
    /// Two persons are needed and this one asked for it.
    #[error("{by} cannot approve what {requester} asked for: two persons are needed")]
    Requester {
        /// Who wants to approve.
        by: PersonName,
        /// Who asked, as it was known there.
        requester: PersonName,
    },
    /// This person has already approved.
    #[error("{0} has already approved; another person is needed")]
    Twice(PersonName),
    /// A reason is compulsory.
    #[error("a reason is compulsory here: add --reason \"…\"")]
    NoReason,
    /// This person may not decide alone.
    #[error("{0} may not break the glass")]
    NoBreakGlass(PersonName),
    /// It is there already.
    #[error("{0} is the active site already")]
    AlreadyThere(SiteName),
    /// Its guard would end a database that was promoted past it.
    #[error(
        "the guard of {0} does not hold it, and ends a database that was promoted past it: begin a failover instead"
    )]
    NotHeld(SiteName),
    /// Another site writes under its guard.
    #[error("{0} takes writes, and its guard holds it: begin a failover instead")]
    StillHeld(SiteName),
    /// Nobody else has led.
    #[error(
        "no guard has promised an epoch that this journal does not know: there is nothing to take over"
    )]
    NothingToTakeOver,
    /// No such page.
    #[error("no page {0} is open")]
    NoPage(String),
    /// The phase cannot be announced now.
    #[error("{0}")]
    Phase(String),
    /// A mode cannot be raised by command.
    #[error(
        "the mode can be lowered by command, not raised above what the documents say ({0}) and what is earned"
    )]
    ModeUp(Mode),
    /// The person's role does not go so far.
    #[error("{by} is {role} here, and this takes {needed}")]
    Role {
        /// Who.
        by: PersonName,
        /// What the person is.
        role: Role,
        /// What it takes.
        needed: Role,
    },
    /// An incident is open already.
    #[error("incident {0} is open already: add to it with `failover incident note`")]
    IncidentOpen(IncidentId),
    /// None is.
    #[error("no incident is open; `failover incident declare` opens one")]
    NoIncident,
    /// It was said before.
    #[error("incident {0} was resolved already, and ends by itself")]
    Resolved(IncidentId),
    /// Somebody leads already.
    #[error("{0} leads: only {0} can hand that over")]
    Commands(PersonName),
    /// That is the one who leads.
    #[error("{0} leads already")]
    CommandsAlready(PersonName),
    /// Nobody is made to lead.
    #[error("nobody is made to lead: {0} has to take it")]
    TakesCommand(PersonName),
    /// Nobody leads.
    #[error("nobody leads yet; take it first, as `commander`")]
    NobodyCommands,
    /// Another person is asked to lead.
    #[error("{0} is asked to lead, nobody else")]
    OfferedTo(PersonName),
    /// Nobody is asked to.
    #[error("nobody was asked to take over")]
    NothingOffered,
    /// Nobody of the team is called so.
    #[error("nobody of the team is called {name}; known are {team}")]
    NoPerson {
        /// The name.
        name: PersonName,
        /// Everybody.
        team: String,
    },
    /// A front end turned somebody away.
    #[error("{0}")]
    TurnedAway(String),
    /// Not paused.
    #[error("it is not paused")]
    NotPaused,
    /// Something stands in the way of a drill.
    #[error("no drill now: {0}")]
    NoDrill(String),
    /// No such drill, or more than one.
    #[error("{0}")]
    WhichDrill(String),
    /// In observe mode nothing is begun.
    #[error("the service is in observe mode; set `mode: ask` in its document first")]
    Observe,
}

/// The commands that answer a question.
#[must_use]
pub fn answers(id: &AskId, subject: &AskSubject) -> Vec<String> {
    let reason = match subject {
        AskSubject::Fence { .. } => " --reason \"how you know that it is off\"",
        AskSubject::Salvage { .. } => " --reason \"what becomes of them\"",
        AskSubject::Open { .. }
        | AskSubject::Drill { .. }
        | AskSubject::Manual { .. }
        | AskSubject::Failed { .. } => "",
    };
    vec![
        format!("failover approve {id}{reason}"),
        format!("failover deny {id}"),
    ]
}

/// A question's subject in a few words.
#[must_use]
pub fn subject_words(subject: &AskSubject) -> String {
    match subject {
        AskSubject::Open { kind } => format!("the {kind}"),
        AskSubject::Fence { run } => {
            format!("the attestation that the old primary cannot write (run {run})")
        }
        AskSubject::Drill { drill } => {
            format!("moving production to its other site and back (drill {drill})")
        }
        AskSubject::Salvage { run } => {
            format!("what becomes of the transactions that were kept apart (run {run})")
        }
        AskSubject::Manual { run, step } => format!("manual step {step} of run {run}"),
        AskSubject::Failed { run, step } => {
            format!("going on after the failed step {step} of run {run}")
        }
    }
}
