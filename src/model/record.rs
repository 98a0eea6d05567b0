//! Records of the journal. State changes only by applying them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    announcement::{Announcement, Phase, Tallies},
    approval::Ask,
    backup::{Breach, Verification},
    check::CheckItem,
    drill::{Depth, DrillOutcome},
    duty::Duty,
    fault::Injected,
    group::GroupRecord,
    guard::Terms,
    id::{
        AnnouncementId, AskId, Attempt, ComponentName, ConfigHash, DrillName, Epoch,
        IdempotencyKey, IncidentId, PageId, PersonName, PlanHash, RunId, Seq, ServiceName,
        SiteName, StepId, Term, UserName,
    },
    loss::LossForecast,
    page::Page,
    plan::{Plan, RunKind},
    readiness::Readiness,
    service::Mode,
    span::Span,
    step::{Presence, StepResult},
    taking::Taken,
    time::Time,
    verdict::{Verdict, Witness},
};

/// Version of the record format that this build writes. A newer one is refused, and so is a kind that is not known. Fields
/// that are not known are overlooked: one that must not be raises this.
pub const FORMAT: u32 = 1;

/// A record as it stands in its chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Record format.
    pub format: u32,
    /// The chain it belongs to.
    pub chain: ServiceName,
    /// Its place in the chain, from 1.
    pub seq: Seq,
    /// The epoch in force when it was written.
    pub epoch: Epoch,
    /// Wall time.
    pub at: Time,
    /// Hash of the record before; 64 zeros in the first.
    pub prev: String,
    /// What happened.
    pub body: RecordBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "type"
)]
pub enum RecordBody {
    /// A controller process took up the chain.
    ControllerStarted {
        /// Program version.
        version: String,
        /// Documents it runs with.
        config: ConfigHash,
        /// The site that serves before anything was recorded; none where the chain already knows.
        active: Option<SiteName>,
        /// The mode that the documents ask for.
        mode: Mode,
    },
    /// One of several replicas was elected: from here on no earlier leader can write.
    LeaderTaken {
        /// Its term.
        term: Term,
        /// What it is called.
        leader: String,
    },
    /// The documents changed.
    DocumentsChanged {
        /// Documents it runs with now.
        config: ConfigHash,
        /// The mode that they ask for.
        mode: Mode,
    },
    /// A person lowered the mode, or `automatic` was earned or lost.
    ModeChanged {
        /// The mode in force from now on.
        mode: Mode,
        /// Who, where a person did.
        by: Option<PersonName>,
        /// Why.
        reason: String,
    },
    /// A readiness check ran.
    Checked {
        /// Documents it was made for.
        config: ConfigHash,
        /// Whether every item was ok or warn.
        green: bool,
        /// What is not ok.
        problems: Vec<CheckItem>,
        /// The plan that it was made for, where one could be made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<PlanHash>,
    },
    /// Readiness is not what it was: a check came to something else, or what was checked says nothing any more.
    ReadinessTurned {
        /// From.
        from: Readiness,
        /// To.
        to: Readiness,
        /// In one sentence.
        reason: String,
    },
    /// A component's verdict changed.
    VerdictChanged {
        /// Of which component.
        component: ComponentName,
        /// From.
        from: Verdict,
        /// To.
        to: Verdict,
        /// In one sentence.
        reason: String,
        /// The evidence.
        witnesses: Vec<Witness>,
    },
    /// An outage began.
    IncidentOpened {
        /// Components that are down.
        components: Vec<ComponentName>,
        /// When the first voice saw it.
        since: Time,
        /// In one sentence.
        reason: String,
        /// What a failover would have lost at this moment; a controller that was restarted since relies on it.
        loss: LossForecast,
    },
    /// The outage is over.
    IncidentClosed {
        /// Which one.
        incident: IncidentId,
        /// In one sentence.
        reason: String,
    },
    /// A person says that there is an incident, whatever probes see: it is over when a person says so.
    Declared {
        /// Which one.
        incident: IncidentId,
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// A person says that the open incident is over.
    Resolved {
        /// Which one.
        incident: IncidentId,
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// A person took on a duty in the open incident, or was given it.
    DutyTaken {
        /// Which incident.
        incident: IncidentId,
        /// Which duty.
        duty: Duty,
        /// Who has it now.
        person: PersonName,
        /// Who said so.
        by: PersonName,
    },
    /// The commander wants somebody else to lead. Until that person accepts, nothing has changed.
    HandOverOffered {
        /// Which incident.
        incident: IncidentId,
        /// To whom.
        to: PersonName,
        /// Who.
        by: PersonName,
    },
    /// Somebody wanted something and was refused it.
    Refused {
        /// Who, as far as the front end knew.
        by: PersonName,
        /// What.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A failover was considered and not begun; written when the answer changes.
    Held {
        /// The incident.
        incident: IncidentId,
        /// Why not, one sentence each.
        reasons: Vec<String>,
    },
    /// `observe` mode: what would have been done.
    WouldAct {
        /// The incident.
        incident: IncidentId,
        /// What.
        kind: RunKind,
        /// The plan.
        plan: Box<Plan>,
        /// What would have been lost.
        loss: LossForecast,
        /// What each gate would have answered, one sentence each.
        gates: Vec<String>,
    },
    /// A question was put to people.
    AskOpened {
        /// The question.
        ask: Box<Ask>,
        /// The plan that is asked about, where no run holds it yet.
        plan: Option<Box<Plan>>,
        /// When it ends by itself.
        expires: Time,
    },
    /// A person approved.
    Approved {
        /// Which question.
        ask: AskId,
        /// Who.
        by: PersonName,
        /// The user of the API server that this person was: who signed it, or else as the documents had it then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<UserName>,
        /// The reason given, compulsory with `break_glass` and for attestations.
        reason: Option<String>,
        /// Whether the person used the right to decide alone.
        break_glass: bool,
    },
    /// A question ended.
    AskClosed {
        /// Which question.
        ask: AskId,
        /// How.
        outcome: AskOutcome,
    },
    /// A run began: what was decided, and the plan that leaves no choice.
    RunOpened {
        /// What for.
        kind: RunKind,
        /// The incident, where there is one.
        incident: Option<IncidentId>,
        /// The plan.
        plan: Box<Plan>,
        /// When the outage began, or when the run was asked for.
        since: Time,
        /// Why.
        reason: String,
        /// Who asked for it, where a person did.
        requester: Option<PersonName>,
        /// Who approved it, where somebody had to.
        approved_by: Vec<PersonName>,
        /// What is expected to be lost.
        loss: LossForecast,
        /// The forecast, part by part.
        forecast: Vec<ForecastPart>,
        /// The drill that it is a part of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drill: Option<RunId>,
    },
    /// A promotion is about to be asked for: the epoch that it opens.
    EpochRaised {
        /// The run that does.
        run: RunId,
        /// The new epoch.
        epoch: Epoch,
        /// The site that it belongs to for ever.
        site: SiteName,
        /// What proves that the old one cannot write.
        evidence: String,
        /// Its terms, where a guard stands at the site.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Terms>,
    },
    /// An epoch was opened at the site that serves already: the terms of the one before do not fit any more.
    EpochOpened {
        /// The epoch and its terms.
        terms: Terms,
        /// Why.
        reason: String,
    },
    /// The site's guard asked for a lease of the epoch: from now on its end can be waited for.
    EpochHeld {
        /// The site.
        site: SiteName,
        /// The epoch.
        epoch: Epoch,
    },
    /// A step will be performed. Durable before the effect.
    StepIntent {
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// Which attempt.
        attempt: Attempt,
        /// The effect's key.
        key: IdempotencyKey,
    },
    /// What performing came to.
    StepOutcome {
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
    /// What observing came to, after a crash or an indeterminate outcome.
    StepObserved {
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// Which attempt was looked for.
        attempt: Attempt,
        /// What was seen.
        presence: Presence,
        /// How long it took.
        took: Span,
    },
    /// A step is settled without being performed.
    StepSettled {
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// How.
        how: Settlement,
    },
    /// A named person attests that the old primary cannot write.
    Attested {
        /// The run.
        run: RunId,
        /// Who.
        by: PersonName,
        /// In their words.
        statement: String,
    },
    /// The run goes back instead of on: what its fences did is taken back.
    Unwinding {
        /// The run.
        run: RunId,
        /// Who wants it, where a person does.
        by: Option<PersonName>,
        /// Why.
        reason: String,
    },
    /// The service answers rightly from the new site: the RTO ends here.
    Verified {
        /// The run.
        run: RunId,
        /// From the beginning of the outage until now.
        downtime: Span,
        /// Whether that kept the RTO.
        within_rto: bool,
    },
    /// What a failover really lost is known: the site that was left came back, and this was kept apart there.
    LossMeasured {
        /// The failover.
        run: RunId,
        /// What it had forecast.
        forecast: LossForecast,
        /// Bytes of log that the other site never got.
        bytes: u64,
        /// Transactions that were committed in them.
        commits: u64,
    },
    /// A run ended.
    RunClosed {
        /// The run.
        run: RunId,
        /// How.
        outcome: RunOutcome,
        /// In one sentence.
        reason: String,
        /// The site that serves now.
        active: SiteName,
    },
    /// A phase that customers hear of began.
    PhaseEntered {
        /// The phase.
        phase: Phase,
        /// The announcement that it makes.
        announcement: Box<Announcement>,
    },
    /// An announcement has nothing left to send.
    AnnouncementSettled {
        /// Which one.
        announcement: AnnouncementId,
        /// What came of it.
        tallies: Tallies,
    },
    /// The team is paged until somebody acknowledges.
    PageRaised {
        /// What for.
        page: Box<Page>,
    },
    /// Those of one level of the escalation are paged from now on, in one message. Durable before they are.
    TeamPaged {
        /// The pages, and how often the escalation was gone through for each before.
        pages: BTreeMap<PageId, u32>,
        /// Which level, from 0.
        level: u32,
        /// Who, as the documents named them: people, groups, channels.
        to: Vec<String>,
    },
    /// A page ended.
    PageClosed {
        /// Which.
        page: PageId,
        /// Who acknowledged; none where its cause is gone.
        by: Option<PersonName>,
    },
    /// Nothing is begun automatically from now on.
    Paused {
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// The pause ended.
    Resumed {
        /// Who.
        by: PersonName,
    },
    /// A person acknowledged the last failover: another may follow.
    FailoverAcknowledged {
        /// Who.
        by: PersonName,
    },
    /// People moved the service by hand: it runs there now.
    Moved {
        /// The site whose database takes writes.
        site: SiteName,
        /// The epoch that begins with it.
        epoch: Epoch,
        /// Who says so.
        by: PersonName,
        /// Why.
        reason: String,
        /// The epoch's terms, where a guard stands at the site.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Terms>,
    },
    /// A person had this controller take up another one's journal: that one never runs again.
    TakenOver {
        /// The epoch that begins with it; the one before where a promotion is under way, which is forward only.
        epoch: Epoch,
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// The TTL of the service's records was changed ahead of need, or will be.
    TtlChanged {
        /// Name and type of the record.
        name: String,
        /// From, in seconds.
        from: u32,
        /// To, in seconds.
        to: u32,
        /// Whether it is in place; a first record announces it.
        done: bool,
    },
    /// A backup was restored to try it.
    BackupVerified {
        /// What it came to.
        result: Box<Verification>,
    },
    /// A backup was taken.
    BackupTaken {
        /// What it came to.
        result: Box<Taken>,
    },
    /// What breaks the backup policy is not what it was.
    BackupsJudged {
        /// What is broken now.
        breaches: Vec<Breach>,
    },
    /// A drill began.
    DrillOpened {
        /// What is exercised, and what it is held against.
        drill: Box<DrillPlan>,
        /// Who asked for it; none where its schedule did.
        requester: Option<PersonName>,
        /// Why.
        reason: String,
    },
    /// A drill has come to its end, and everything that it did is taken back from now on.
    DrillJudged {
        /// Which.
        drill: RunId,
        /// What came of it.
        outcome: DrillOutcome,
        /// Why, one sentence each.
        reasons: Vec<String>,
    },
    /// Nothing of a drill is left.
    DrillClosed {
        /// Which.
        drill: RunId,
        /// What could not be taken back.
        left: Vec<String>,
        /// SHA-256 of its report as canonical JSON.
        report: String,
    },
    /// A drill was due and was left out.
    DrillSkipped {
        /// Which.
        policy: DrillName,
        /// When it was due.
        slot: Time,
        /// Why.
        reason: String,
    },
    /// The journal could not be written for a while; nothing was done in that time.
    JournalResumed {
        /// Since when it could not.
        since: Time,
        /// Why.
        reason: String,
    },
    /// Something happened in a group of services, whose chain this is.
    Group(GroupRecord),
    /// A person's remark for the timeline.
    Note {
        /// Who.
        by: PersonName,
        /// What.
        text: String,
    },
}

/// What a drill exercises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillPlan {
    /// As the documents name it.
    pub policy: DrillName,
    /// How far it goes.
    pub depth: Depth,
    /// When its schedule wanted it, where that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Time>,
    /// What is done, where anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// What its steps are expected to take.
    pub expected: Vec<StepForecast>,
    /// The failover that it stands for.
    pub failover: Plan,
    /// What that is forecast to take.
    pub forecast: Vec<ForecastPart>,
    /// What it would lose now.
    pub loss: LossForecast,
    /// What the gates have against it, one sentence each.
    pub gates: Vec<String>,
    /// What the last readiness check found, one sentence each; none where there is no check for these documents.
    pub readiness: Option<Vec<String>>,
    /// What must not lead to a failover, and what came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub injected: Vec<Injected>,
    /// What a live one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Box<LivePlan>>,
    /// Recovery time objective.
    pub rto: Span,
    /// Recovery point objective.
    pub rpo: Span,
}

/// What a live drill does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LivePlan {
    /// To the other site.
    pub there: LegPlan,
    /// And back.
    pub home: LegPlan,
    /// How long it stays there.
    pub stay: Span,
    /// How long the way back waits for what stands in its way.
    pub grace: Span,
}

/// One direction of a live drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LegPlan {
    /// The plan of its run.
    pub plan: Plan,
    /// What its steps are expected to take.
    pub expected: Vec<StepForecast>,
    /// What it is forecast to take, part by part.
    pub forecast: Vec<ForecastPart>,
}

/// What a step is expected to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepForecast {
    /// The step.
    pub step: StepId,
    /// The median of what was measured; its time-out where nothing was.
    pub expected: Span,
    /// Whether it was ever measured.
    pub measured: bool,
}

/// One part of a forecast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForecastPart {
    /// `detect`, `fence`, `promote`, `traffic`, `dnsTtl`, `verify`.
    pub part: String,
    /// 95th percentile of what was measured; the time-out where nothing was.
    pub expected: Span,
    /// Whether it was ever measured, in a run or in a drill.
    pub measured: bool,
    /// Whether part of that was measured in drills alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsed: bool,
}

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AskOutcome {
    /// Enough people approved.
    Approved,
    /// Somebody said no; it is not asked again until the evidence changes.
    Denied {
        /// Who.
        by: PersonName,
        /// Why.
        reason: Option<String>,
    },
    /// Nobody answered in time.
    Expired {
        /// Whether the policy then goes on.
        proceed: bool,
    },
    /// What it asked about is gone: the service came back, the plan changed, the run ended.
    Void {
        /// Why.
        reason: String,
    },
}

/// How a step was settled without being performed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Settlement {
    /// A person did it.
    Manual {
        /// Who says so.
        by: PersonName,
    },
    /// A person decided to go on without it, or its `onFailure` says `continue`.
    Skipped {
        /// Why.
        reason: String,
    },
    /// Its effect was taken back.
    Undone {
        /// In one sentence.
        summary: String,
    },
    /// Its effect could not be taken back, and may still be in place.
    Left {
        /// Why.
        reason: String,
    },
}

/// How a run ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum RunOutcome {
    /// Every step is done.
    Done,
    /// What was begun was taken back; the old site serves.
    Unwound,
    /// It cannot go on by itself.
    Stuck,
    /// A person stopped it before the promotion.
    Aborted,
}

impl RecordBody {
    /// The epoch that begins with it.
    #[must_use]
    pub fn opens(&self) -> Option<Epoch> {
        if let Self::EpochRaised { epoch, .. }
        | Self::Moved { epoch, .. }
        | Self::TakenOver { epoch, .. } = self
        {
            return Some(*epoch);
        }
        if let Self::EpochOpened { terms, .. } = self {
            return Some(terms.epoch);
        }
        None
    }

    /// Whether people want to see it on a timeline before the details.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ControllerStarted { .. } => "controllerStarted",
            Self::LeaderTaken { .. } => "leaderTaken",
            Self::DocumentsChanged { .. } => "documentsChanged",
            Self::ModeChanged { .. } => "modeChanged",
            Self::Checked { .. } => "checked",
            Self::ReadinessTurned { .. } => "readinessTurned",
            Self::VerdictChanged { .. } => "verdictChanged",
            Self::IncidentOpened { .. } => "incidentOpened",
            Self::IncidentClosed { .. } => "incidentClosed",
            Self::Declared { .. } => "declared",
            Self::Resolved { .. } => "resolved",
            Self::DutyTaken { .. } => "dutyTaken",
            Self::HandOverOffered { .. } => "handOverOffered",
            Self::Refused { .. } => "refused",
            Self::Held { .. } => "held",
            Self::WouldAct { .. } => "wouldAct",
            Self::AskOpened { .. } => "askOpened",
            Self::Approved { .. } => "approved",
            Self::AskClosed { .. } => "askClosed",
            Self::RunOpened { .. } => "runOpened",
            Self::EpochRaised { .. } => "epochRaised",
            Self::EpochOpened { .. } => "epochOpened",
            Self::EpochHeld { .. } => "epochHeld",
            Self::StepIntent { .. } => "stepIntent",
            Self::StepOutcome { .. } => "stepOutcome",
            Self::StepObserved { .. } => "stepObserved",
            Self::StepSettled { .. } => "stepSettled",
            Self::Attested { .. } => "attested",
            Self::Unwinding { .. } => "unwinding",
            Self::Verified { .. } => "verified",
            Self::LossMeasured { .. } => "lossMeasured",
            Self::RunClosed { .. } => "runClosed",
            Self::PhaseEntered { .. } => "phaseEntered",
            Self::AnnouncementSettled { .. } => "announcementSettled",
            Self::PageRaised { .. } => "pageRaised",
            Self::TeamPaged { .. } => "teamPaged",
            Self::PageClosed { .. } => "pageClosed",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::FailoverAcknowledged { .. } => "failoverAcknowledged",
            Self::Moved { .. } => "moved",
            Self::TakenOver { .. } => "takenOver",
            Self::TtlChanged { .. } => "ttlChanged",
            Self::BackupVerified { .. } => "backupVerified",
            Self::BackupTaken { .. } => "backupTaken",
            Self::BackupsJudged { .. } => "backupsJudged",
            Self::DrillOpened { .. } => "drillOpened",
            Self::DrillJudged { .. } => "drillJudged",
            Self::DrillClosed { .. } => "drillClosed",
            Self::DrillSkipped { .. } => "drillSkipped",
            Self::JournalResumed { .. } => "journalResumed",
            Self::Group(_) => "group",
            Self::Note { .. } => "note",
        }
    }
}
