//! The `ProtectedService` document.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    document::With, fault::FaultSpec, readiness::ReadinessSpec, runbook::StepOverride,
    schedule::ScheduleSpec,
};
use crate::model::{
    announcement::Phase,
    approval::{OnTimeout, Role},
    drill::Depth,
    id::TelegramUser,
    page::Severity as PageSeverity,
    secret::SecretRef,
    service::{ComponentKind, LongCadence, Mode, OverRpo, RecordKind, Template},
    site::{Location, SiteRole},
    span::Span,
    step::Rung,
    time::Time,
};

/// A service that runs at a primary site and has a standby.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProtectedServiceSpec {
    /// The service as customers know it. Default: the document's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// How much the controller may do by itself.
    #[serde(default)]
    pub mode: Mode,
    /// What is promised.
    pub objectives: ObjectivesSpec,
    /// Where the service can run: one primary, one or more standbys in order of preference.
    pub sites: Vec<SiteSpec>,
    /// Where data may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<ResidencySpec>,
    /// Who looks, from where. Default: the controller's own host, as one voice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vantage_points: Vec<VantagePointSpec>,
    /// When evidence is enough.
    #[serde(default)]
    pub quorum: QuorumSpec,
    /// The parts of the service that get a verdict of their own.
    pub components: Vec<ComponentSpec>,
    /// When a failover begins once the verdict is Down.
    #[serde(default)]
    pub trigger: TriggerSpec,
    /// What may hold a failover back.
    #[serde(default)]
    pub gates: GatesSpec,
    /// What proof a promotion needs.
    #[serde(default)]
    pub fencing: FencingSpec,
    /// The guards that stand beside the databases (`failover guard`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<GuardsSpec>,
    /// The names that users follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsSpec>,
    /// The status page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<PublicationSpec>,
    /// What customers are told, and how.
    #[serde(default)]
    pub announcements: AnnouncementsSpec,
    /// The people who run the service.
    #[serde(default)]
    pub team: TeamSpec,
    /// Who must approve. Default: any one person of the team who has a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<ApprovalsSpec>,
    /// What is asked of readiness: how often it is checked, how old a check, a proof and a drill may be, and what must be
    /// the same at the sites.
    #[serde(default, skip_serializing_if = "ReadinessSpec::is_default")]
    pub readiness: ReadinessSpec,
    /// The runbook: a Runbook document of that name, or a ready-made one (postgres-failover,
    /// postgres-guarded, postgres-promote, postgres-restore, stateless-failover, redirect).
    pub runbook: String,
    /// What this service changes in the runbook's steps, by their id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, StepOverride>,
    /// How its recovery is exercised (`failover drill`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drills: Vec<DrillSpec>,
}

impl ProtectedServiceSpec {
    /// The runbooks that it names.
    pub fn runbooks(&self) -> impl Iterator<Item = &str> {
        let drills = self.drills.iter().filter_map(|d| d.runbook.as_deref());
        [self.runbook.as_str()].into_iter().chain(drills)
    }
}

/// A drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrillSpec {
    /// Unique: lower-case letters, digits and dashes.
    pub name: String,
    /// How far it goes.
    pub depth: Depth,
    /// What an isolated one does: a Runbook document of that name, or the ready-made `postgres-drill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// What this drill changes in the runbook's steps, by their id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, StepOverride>,
    /// When it begins by itself. Default: only on command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// It begins so much later at most, each time by another part of it. Default: 0s.
    #[serde(default)]
    pub jitter: Span,
    /// How long it waits for what stands in its way, before it is left out; of a live one, also its way back.
    #[serde(default = "grace")]
    pub grace: Span,
    /// How long a live one stays at the other site before it moves back. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stay: Option<Span>,
    /// Windows in which it does not begin by itself, besides those of `gates.maintenance`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<WindowSpec>,
    /// What must not lead to a failover: at its beginning it is played to a copy of the controller's state, and what
    /// follows is held against that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inject: Vec<FaultSpec>,
}

fn grace() -> Span {
    Span::from_secs(1800)
}

/// What is promised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectivesSpec {
    /// Recovery time objective: longest time from the outage until the service is verified on the standby.
    pub rto: Span,
    /// Recovery point objective: the writes of how much time may be lost. Zero wants synchronous replication.
    pub rpo: Span,
    /// Availability in percent over a year, such as 99.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub availability: Option<f64>,
    /// Response time that the service stays below; slower answers make it Degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_time: Option<Span>,
}

/// A place where the service can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteSpec {
    /// Unique: lower-case letters, digits and dashes.
    pub name: String,
    /// What it is in normal times.
    pub role: SiteRole,
    /// Where it stands.
    #[serde(default)]
    pub location: Location,
    /// IP addresses that DNS points at when this site serves, or one host name for a CNAME.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The URL by which this site can be reached without DNS having changed: the fallback URL when it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Where data may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResidencySpec {
    /// Countries, ISO 3166-1 alpha-2 in capital letters, such as ZA.
    pub countries: Vec<String>,
}

/// A place that probes look from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VantagePointSpec {
    /// Unique: lower-case letters, digits and dashes.
    pub name: String,
    /// The network it stands in. Vantage points in one network are one voice.
    pub network: String,
    /// How it reaches out. Default: as the controller's host does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<ViaSpec>,
    /// An observer elsewhere looks there and reports: `failover vantage`. Default: the controller itself looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteSpec>,
    /// Looks at things that are surely up and not yours; when they all fail, its own network is gone and it reports Unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sentinels: Vec<SentinelSpec>,
}

/// An observer elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteSpec {
    /// The key that its reports are signed with, the same at the observer and no other vantage point's: at least 32
    /// random bytes, such as `openssl rand -hex 32` prints.
    pub key: SecretRef,
}

/// How a vantage point reaches out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ViaSpec {
    /// From this IP address of the controller's host.
    SourceAddress(String),
    /// Through this proxy: `socks5://host:port` or `http://host:port`.
    Proxy(String),
}

/// A look at something that is surely up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-uses" = "probe"))]
pub struct SentinelSpec {
    /// The adapter that looks.
    pub uses: String,
    /// Settings of the adapter.
    #[serde(default, skip_serializing_if = "With::is_empty")]
    pub with: With,
}

/// When evidence is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct QuorumSpec {
    /// Networks that must say Down. Default: more than half of those configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub networks: Option<u32>,
    /// Looks in a row that must fail before one voice says Down.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// Looks in a row that must succeed before one voice says Up again.
    #[schemars(range(min = 1))]
    pub successes: u32,
}

impl Default for QuorumSpec {
    fn default() -> Self {
        Self {
            networks: None,
            failures: 3,
            successes: 2,
        }
    }
}

/// A part of the service that gets a verdict of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComponentSpec {
    /// Unique: lower-case letters, digits and dashes.
    pub name: String,
    /// As customers know it. Default: the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is: a database down leads to a failover, an application down (its database being well) to a redirect.
    pub kind: ComponentKind,
    /// How it is looked at.
    pub probes: Vec<ProbeSpec>,
}

/// How a component is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-uses" = "probe"))]
pub struct ProbeSpec {
    /// Unique within the service. Default: the component's name and the adapter's, such as `shop-http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The adapter that looks.
    pub uses: String,
    /// Settings of the adapter.
    #[serde(default, skip_serializing_if = "With::is_empty")]
    pub with: With,
    /// The site it looks at. Default: whichever the public name leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Nothing answers there until a failover has started it: neither readiness nor the gate of the standby asks for
    /// an answer before. Needs `site`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cold: bool,
    /// Time between two looks of one vantage point.
    #[serde(default = "every")]
    pub every: Span,
    /// Time-out of one look. Default: 5s, or `every` where that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Vantage points that look. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
}

fn every() -> Span {
    Span::from_secs(10)
}

/// When a failover begins once the verdict is Down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum TriggerSpec {
    /// Waits for the primary to come back, but never so long that the RTO is lost.
    Budget(BudgetSpec),
    /// At once.
    Immediate(NoSettings),
    /// Only on command.
    Manual(NoSettings),
}

impl Default for TriggerSpec {
    fn default() -> Self {
        Self::Budget(BudgetSpec::default())
    }
}

/// How long to wait for the primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BudgetSpec {
    /// Longest time that the primary may take to come back by itself, before a run begins or people are asked for one.
    pub patience: Span,
}

impl Default for BudgetSpec {
    fn default() -> Self {
        Self {
            patience: Span::from_secs(120),
        }
    }
}

/// Written `{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// What may hold a failover back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatesSpec {
    /// How old the last lag measurement may be, counted from the last time that both sides were seen; an older one
    /// makes the loss unknown.
    pub max_lag_age: Span,
    /// What happens when the loss would be above the RPO or is unknown.
    pub over_rpo: OverRpo,
    /// Windows in which nothing is done automatically.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<WindowSpec>,
}

impl Default for GatesSpec {
    fn default() -> Self {
        Self {
            max_lag_age: Span::from_secs(60),
            over_rpo: OverRpo::default(),
            maintenance: Vec::new(),
        }
    }
}

/// A maintenance window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WindowSpec {
    /// Begin, such as `2026-12-01T02:00:00Z`.
    pub from: Time,
    /// End.
    pub to: Time,
    /// What it is for.
    pub reason: String,
}

/// What proof a promotion needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FencingSpec {
    /// The lowest rung of proof that lets an automatic failover go on; below it, people are asked.
    pub require: Rung,
}

impl Default for FencingSpec {
    fn default() -> Self {
        Self {
            require: Rung::Infrastructure,
        }
    }
}

/// The guards that stand beside the databases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardsSpec {
    /// What the controller is called on the guards' wire, as their own documents have it.
    #[serde(default = "controller")]
    pub controller: String,
    /// The controller's private key (Ed25519, PKCS#8): `failover guard keygen`.
    pub key: SecretRef,
    /// How long the primary may write after a request for a lease was granted, while a standby could replace it. A lost
    /// primary that cannot answer is fenced after that: 1s within one network, 10s between regions.
    #[serde(default = "lease")]
    pub lease: Span,
    /// The guard of each site that has one.
    pub sites: BTreeMap<String, GuardSpec>,
}

/// The guard of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardSpec {
    /// IP address and UDP port that its wire listens on.
    pub address: String,
    /// Its public key, as `failover guard keygen` prints it.
    pub public_key: String,
}

fn controller() -> String {
    "controller".to_owned()
}

fn lease() -> Span {
    Span::from_secs(10)
}

/// The names that users follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsSpec {
    /// Where the zone is kept.
    pub provider: DnsProviderSpec,
    /// The zone, such as `example.com`.
    pub zone: String,
    /// The names to repoint.
    pub records: Vec<DnsRecordSpec>,
    /// The TTL that the records shall have.
    #[serde(default = "ttl")]
    pub ttl: Span,
    /// Whether the controller lowers a longer live TTL ahead of need (never in the mode observe).
    #[serde(default = "yes")]
    pub lower_ahead: bool,
    /// Resolvers that are asked for the cut-over, as `address` or `address:port`. Default: only the zone's own servers are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<String>,
    /// The zone's servers, as `address` or `address:port`. Default: found through its NS records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<String>,
}

fn ttl() -> Span {
    Span::from_secs(60)
}

fn yes() -> bool {
    true
}

/// Where a zone is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-uses" = "dns"))]
pub struct DnsProviderSpec {
    /// The adapter that changes the zone.
    pub uses: String,
    /// Settings of the adapter.
    #[serde(default, skip_serializing_if = "With::is_empty")]
    pub with: With,
}

/// A name to repoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsRecordSpec {
    /// The whole name, such as `www.example.com`.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: RecordKind,
    /// Its values by site. Default: the sites' `addresses` that fit the type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Vec<String>>,
}

/// The status page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublicationSpec {
    /// The page's public URL, named in every message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the page is written to; outside both sites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetSpec>,
}

/// A place for the status page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-uses" = "target"))]
pub struct TargetSpec {
    /// The adapter that writes the page.
    pub uses: String,
    /// Settings of the adapter.
    #[serde(default, skip_serializing_if = "With::is_empty")]
    pub with: With,
}

/// What customers are told, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AnnouncementsSpec {
    /// What customers see when the service is down, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symptom: Option<String>,
    /// Longest time to the next update; each message names it.
    pub cadence: Span,
    /// Less frequent updates of an incident that lasts. The message that begins them says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_cadence: Option<LongCadence>,
    /// Where announcements go out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelSpec>,
    /// What is said, where it shall differ from the ready-made text.
    pub templates: TemplatesSpec,
}

impl Default for AnnouncementsSpec {
    fn default() -> Self {
        Self {
            symptom: None,
            cadence: Span::from_secs(20 * 60),
            long_cadence: None,
            channels: Vec::new(),
            templates: TemplatesSpec::default(),
        }
    }
}

/// Where announcements go out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-uses" = "channel"))]
pub struct ChannelSpec {
    /// Unique within the service: lower-case letters, digits and dashes.
    pub name: String,
    /// The adapter that sends.
    pub uses: String,
    /// Settings of the adapter.
    #[serde(default, skip_serializing_if = "With::is_empty")]
    pub with: With,
    /// The phases it speaks of. Default: email onStandby, recovered and correction; all others failingOver too, so
    /// that a false alarm mails nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phases: Option<Vec<Phase>>,
}

/// What is said in each phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TemplatesSpec {
    /// Something is wrong and is looked into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub investigating: Option<Template>,
    /// The standby is being brought up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_over: Option<Template>,
    /// The standby serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_standby: Option<Template>,
    /// Everything is as usual again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Template>,
    /// What was said before was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction: Option<Template>,
    /// Planned work is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Template>,
    /// The planned work is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_over: Option<Template>,
}

/// The people who run the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TeamSpec {
    /// Everyone who may be named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<PersonSpec>,
    /// Where pages go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<TeamChannelSpec>,
    /// The chat in which people command: each by the number that it knows them by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<TeamChatSpec>,
    /// Time between two repeats of a page that nobody acknowledged. Warnings are repeated six times less often.
    pub repeat: Span,
    /// Who is paged when, until somebody acknowledges. After the last level it begins anew when `repeat` is over. Default:
    /// every channel at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub escalation: Vec<EscalationLevelSpec>,
}

impl Default for TeamSpec {
    fn default() -> Self {
        Self {
            people: Vec::new(),
            channels: Vec::new(),
            chat: None,
            repeat: Span::from_secs(300),
            escalation: Vec::new(),
        }
    }
}

/// One level of the escalation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EscalationLevelSpec {
    /// How long a page has been open without being acknowledged. The first level is 0s.
    pub after: Span,
    /// Who is paged: people, groups and channels by name.
    pub to: Vec<String>,
    /// The least severe page that this level hears of: `critical` wakes people, `warning` and `info` can wait. Default:
    /// `info` at the first level, `critical` at all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<PageSeverity>,
}

/// A person of the team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonSpec {
    /// Unique: lower-case letters, digits, dashes and dots.
    pub name: String,
    /// `sha256:` and the hex digest of the personal token, as `failover token` prints it. Without it the person
    /// cannot approve anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_hash: Option<String>,
    /// The user that the cluster's API server knows the person as, such as `ann@example.com`: with it the person also
    /// approves by kubectl, in a cluster with `failover operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// The number that Telegram knows the person by, as the bot answers `/whoami`: with it the person also gives
    /// commands and approves in the chat of `team.chat`. Never a user name: those change hands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telegram: Option<TelegramUser>,
    /// What the person may do, each role what the one before may: `viewer` looks; `operator` asks for runs and drills,
    /// pauses, acknowledges and speaks to customers; `approver` answers questions, where `approvals` names the person;
    /// `admin` lowers the mode and says that the service was moved by hand. Default: everything that `approvals`
    /// leaves to the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The channels of `team.channels` that reach this person alone, such as a text message to their telephone: where
    /// they go when `team.escalation` names the person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contact_methods: Vec<String>,
    /// The telephone number that colleagues find under `/oncall`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Groups that the person belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// Where people command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-uses" = "chat"))]
pub struct TeamChatSpec {
    /// The adapter that listens and speaks.
    pub uses: String,
    /// Settings of the adapter.
    #[serde(default, skip_serializing_if = "With::is_empty")]
    pub with: With,
}

/// Where pages go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-uses" = "channel"))]
pub struct TeamChannelSpec {
    /// Unique within the service: lower-case letters, digits and dashes.
    pub name: String,
    /// The adapter that sends.
    pub uses: String,
    /// Settings of the adapter.
    #[serde(default, skip_serializing_if = "With::is_empty")]
    pub with: With,
}

/// Who must approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApprovalsSpec {
    /// How many different people must approve. With two or more, whoever asked for the run does not count.
    #[schemars(range(min = 1))]
    pub required: u32,
    /// Who may: people and groups by name. Default: everyone who has a token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// Who may approve alone in an emergency, with a reason: people and groups by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub break_glass: Vec<String>,
    /// A question that nobody answered ends after this.
    pub expiry: Span,
    /// What then happens.
    pub on_timeout: OnTimeout,
}

impl Default for ApprovalsSpec {
    fn default() -> Self {
        Self {
            required: 1,
            approvers: Vec::new(),
            break_glass: Vec::new(),
            expiry: Span::from_secs(30 * 60),
            on_timeout: OnTimeout::default(),
        }
    }
}
