//! What reports look like as JSON, for whoever reads them without this program.
//!
//! Each shape names every field of its report with its type, or does not compile.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::{
    decide::explain::{
        self, AskReport, ComponentReport, DrillReport, GateReport, GuardReport, LastDrill,
        PageReport, RunReport, StepReport,
    },
    model::{
        announcement::Phase,
        drill::{Depth, DrillOutcome},
        duty::Duty,
        id::{
            AskId, ComponentName, DrillName, Epoch, IncidentId, PageId, PersonName, RunId,
            ServiceName, SiteName, StepId,
        },
        plan::{RunKind, StepPhase},
        record::ForecastPart,
        service::Mode,
        span::Span,
        time::Time,
        verdict::{Verdict, Witness},
    },
};

macro_rules! shaped {
    ($($report:ident as $shape:ident),*) => {$(
        impl JsonSchema for explain::$report {
            fn schema_name() -> Cow<'static, str> {
                $shape::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                $shape::json_schema(generator)
            }
        }
    )*};
}

shaped!(
    Report as ReportShape,
    DrillReport as DrillReportShape,
    LastDrill as LastDrillShape,
    GuardReport as GuardReportShape,
    ComponentReport as ComponentReportShape,
    GateReport as GateReportShape,
    RunReport as RunReportShape,
    StepReport as StepReportShape,
    AskReport as AskReportShape,
    PageReport as PageReportShape
);

/// Where a service stands, with the reasons.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "explain::Report", rename_all = "camelCase")]
#[schemars(rename = "ServiceReport")]
pub struct ReportShape {
    /// The service.
    pub service: ServiceName,
    /// As customers know it.
    pub title: String,
    /// When this was worked out.
    pub at: Time,
    /// The mode that the documents ask for.
    pub mode_wanted: Mode,
    /// The mode in force.
    pub mode: Mode,
    /// The site whose data takes writes.
    pub active: Option<SiteName>,
    /// The site that users are served from.
    pub serving: Option<SiteName>,
    /// The epoch in force.
    pub epoch: Epoch,
    /// In one sentence.
    pub headline: String,
    /// Why it did, did not, or would fail over.
    pub sentences: Vec<String>,
    /// What it does next, and when, where it waits for nothing but time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Each component with its evidence.
    pub components: Vec<ComponentReport>,
    /// What each site's guard says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<GuardReport>,
    /// What each gate says to a failover now.
    pub gates: Vec<GateReport>,
    /// What would be lost now.
    pub loss: String,
    /// What each part of a failover is expected to take.
    pub forecast: Vec<ForecastPart>,
    /// The RTO.
    pub rto: Span,
    /// What is left of it, during an incident.
    pub rto_left: Option<Span>,
    /// The open incident.
    pub incident: Option<IncidentId>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Who declared it, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<PersonName>,
    /// Who does what in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub duties: BTreeMap<Duty, PersonName>,
    /// Who is asked to lead it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_to: Option<PersonName>,
    /// What customers heard last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// When they were promised to hear again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_update: Option<Time>,
    /// The open run, else the last one of the open incident.
    pub run: Option<RunReport>,
    /// Open questions.
    pub asks: Vec<AskReport>,
    /// Pages that nobody acknowledged.
    pub pages: Vec<PageReport>,
    /// Readiness, in one sentence.
    pub readiness: String,
    /// Its drills.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drills: Vec<DrillReport>,
    /// The open drill, step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<RunReport>,
    /// Who paused it.
    pub paused: Option<String>,
}

/// A drill of the documents, or one that was made.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "explain::DrillReport", rename_all = "camelCase")]
#[schemars(rename = "DrillReport")]
pub struct DrillReportShape {
    /// Its name.
    pub name: DrillName,
    /// How far it goes.
    pub depth: Depth,
    /// When it begins by itself.
    pub next: Option<Time>,
    /// How it ended last.
    pub last: Option<LastDrill>,
}

/// How a drill ended.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "explain::LastDrill", rename_all = "camelCase")]
#[schemars(rename = "LastDrill")]
pub struct LastDrillShape {
    /// Its id.
    pub id: RunId,
    /// What came of it.
    pub outcome: DrillOutcome,
    /// Why.
    pub reasons: Vec<String>,
    /// When.
    pub at: Time,
}

/// What a site's guard says.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "explain::GuardReport", rename_all = "camelCase")]
#[schemars(rename = "GuardReport")]
pub struct GuardReportShape {
    /// The site.
    pub site: SiteName,
    /// In one sentence.
    pub says: String,
}

/// A component with its evidence.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "explain::ComponentReport", rename_all = "camelCase")]
#[schemars(rename = "ComponentReport")]
pub struct ComponentReportShape {
    /// Its name.
    pub name: ComponentName,
    /// The verdict now.
    pub verdict: Verdict,
    /// In one sentence.
    pub reason: String,
    /// Each vantage point's last look.
    pub witnesses: Vec<Witness>,
}

/// What one gate says.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "explain::GateReport", rename_all = "camelCase")]
#[schemars(rename = "GateReport")]
pub struct GateReportShape {
    /// Which gate.
    pub gate: String,
    /// `allow`, `ask` or `hold`.
    pub says: String,
    /// In one sentence.
    pub reason: String,
}

/// A run, step by step.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "explain::RunReport", rename_all = "camelCase")]
#[schemars(rename = "RunReport")]
pub struct RunReportShape {
    /// Its id.
    pub id: RunId,
    /// What for.
    pub kind: RunKind,
    /// From.
    pub from: SiteName,
    /// To.
    pub to: SiteName,
    /// When the outage began.
    pub since: Time,
    /// When the run was opened.
    pub opened: Time,
    /// When the service was verified.
    pub verified: Option<Time>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Why it was begun, and why it ended.
    pub reason: String,
    /// The steps in order.
    pub steps: Vec<StepReport>,
}

/// One step of a run.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "explain::StepReport", rename_all = "camelCase")]
#[schemars(rename = "StepReport")]
pub struct StepReportShape {
    /// Its id.
    pub id: StepId,
    /// For people.
    pub name: String,
    /// The part of the run.
    pub phase: StepPhase,
    /// `waiting`, `running`, `unclear`, `failed`, `done`, `settled`.
    pub state: String,
    /// Evidence or reason.
    pub detail: String,
    /// What it was expected to take.
    pub expected: Span,
    /// What it took, or has taken so far.
    pub took: Option<Span>,
}

/// An open question.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "explain::AskReport", rename_all = "camelCase")]
#[schemars(rename = "AskReport")]
pub struct AskReportShape {
    /// Its id.
    pub id: AskId,
    /// What it is about.
    pub about: String,
    /// Why it is asked.
    pub reasons: Vec<String>,
    /// What would be lost.
    pub loss: String,
    /// The forecast against the RTO.
    pub forecast: String,
    /// How many must approve.
    pub required: u32,
    /// Who asked for the run, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<PersonName>,
    /// What happens if nobody answers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub otherwise: String,
    /// Who has.
    pub approved: Vec<PersonName>,
    /// When it ends.
    pub expires: Time,
    /// The plan that it is about, by the first digits of its hash.
    pub plan: String,
    /// The commands that answer it.
    pub commands: Vec<String>,
}

/// An open page.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "explain::PageReport", rename_all = "camelCase")]
#[schemars(rename = "PageReport")]
pub struct PageReportShape {
    /// Its id.
    pub id: PageId,
    /// One line.
    pub title: String,
    /// Since when.
    pub raised: Time,
}
