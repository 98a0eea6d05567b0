//! A protected service: documents after validation.

use std::{borrow::Cow, collections::BTreeMap, fmt, net::SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    announcement::Phase,
    approval::{ApprovalPolicy, OnTimeout, Person},
    backup::BackupPolicy,
    drill::DrillPolicy,
    group::Membership,
    id::{
        ChannelName, ComponentName, ConfigHash, NetworkName, PersonName, ProbeId, RunbookName,
        ServiceName, SiteName, StepId, UserName, VantageName,
    },
    observation::Evidence,
    page::{EscalationLevel, Severity},
    plan::{Action, OnFailure, Retry, RunKind, StepPhase, Uses},
    public_key::PublicKey,
    readiness::ReadinessPolicy,
    secret::SecretRef,
    site::{Site, SiteRole},
    span::Span,
    step::Rung,
};

/// How much a service's controller may do by itself.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Full detection and plan; records what it would have done, touches nothing outside, tells only the team.
    #[default]
    Observe,
    /// Every run waits for a person.
    Ask,
    /// Runs by itself where the gates allow; earned by a green `failover check`.
    Automatic,
}

impl Mode {
    /// The mode of that name; none where there is none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut modes = [Self::Observe, Self::Ask, Self::Automatic].into_iter();
        modes.find(|mode| mode.to_string() == name)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Ask => "ask",
            Self::Automatic => "automatic",
        })
    }
}

/// A protected service: everything the engine needs to know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Unique name; also the name of its journal chain.
    pub name: ServiceName,
    /// As customers know it.
    pub title: String,
    /// How much the controller may do by itself.
    pub mode: Mode,
    /// What is promised.
    pub objectives: Objectives,
    /// Where it can run; one primary, one or more standbys in order of preference.
    pub sites: Vec<Site>,
    /// Countries that data may be in; empty: anywhere.
    pub residency: Vec<String>,
    /// Who looks, from where.
    pub vantage_points: Vec<VantagePoint>,
    /// When evidence is enough.
    pub quorum: Quorum,
    /// Its parts.
    pub components: Vec<Component>,
    /// When a failover begins.
    pub trigger: Trigger,
    /// What may hold it back.
    pub gates: Gates,
    /// What proof a promotion needs.
    pub fencing: Rung,
    /// The guards of its databases, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<Guards>,
    /// The names that users follow.
    pub dns: Option<Dns>,
    /// The status page.
    pub publication: Option<Publication>,
    /// What customers are told, and how.
    pub announcements: Announcements,
    /// The people.
    pub team: Team,
    /// Who must approve.
    pub approvals: ApprovalPolicy,
    /// What is done.
    pub runbook: Runbook,
    /// What is asked of its backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<BackupPolicy>,
    /// How its recovery is exercised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drills: Vec<DrillPolicy>,
    /// What is asked of readiness.
    #[serde(default, skip_serializing_if = "ReadinessPolicy::is_default")]
    pub readiness: ReadinessPolicy,
    /// The group that it fails over with. A change of it alone takes nothing away that was earned: a turn only delays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Membership>,
    /// Hash of the documents that this came from.
    pub config: ConfigHash,
}

impl Service {
    /// A service of that name with nothing in it: for whoever needs but a part of one.
    #[must_use]
    pub fn bare(name: ServiceName) -> Self {
        Self {
            name,
            title: String::new(),
            mode: Mode::Observe,
            objectives: Objectives {
                rto: Span::ZERO,
                rpo: Span::ZERO,
                availability: None,
                response_time: None,
            },
            sites: Vec::new(),
            residency: Vec::new(),
            vantage_points: Vec::new(),
            quorum: Quorum {
                networks: 1,
                failures: 1,
                successes: 1,
            },
            components: Vec::new(),
            trigger: Trigger::Manual,
            gates: Gates {
                max_lag_age: Span::ZERO,
                over_rpo: OverRpo::Hold,
                maintenance: Vec::new(),
            },
            fencing: Rung::Acknowledged,
            guards: None,
            dns: None,
            publication: None,
            announcements: Announcements::default(),
            team: Team::default(),
            approvals: ApprovalPolicy {
                required: 1,
                approvers: Vec::new(),
                break_glass: Vec::new(),
                expiry: Span::ZERO,
                on_timeout: OnTimeout::Hold,
            },
            runbook: Runbook {
                name: "none".into(),
                title: String::new(),
                steps: Vec::new(),
            },
            backups: None,
            drills: Vec::new(),
            readiness: ReadinessPolicy::default(),
            group: None,
            config: ConfigHash::new(String::new()),
        }
    }

    /// The site of that name.
    #[must_use]
    pub fn site(&self, name: &SiteName) -> Option<&Site> {
        self.sites.iter().find(|s| &s.name == name)
    }

    /// The site that is primary in normal times. `spec` made sure that there is one.
    #[must_use]
    pub fn primary(&self) -> Option<&Site> {
        self.sites.iter().find(|s| s.role == SiteRole::Primary)
    }

    /// The network of a vantage point.
    #[must_use]
    pub fn network(&self, vantage: &VantageName) -> Option<&NetworkName> {
        self.vantage_points
            .iter()
            .find(|v| &v.name == vantage)
            .map(|v| &v.network)
    }

    /// The vantage points that the controller itself looks from.
    pub fn own_points(&self) -> impl Iterator<Item = &VantagePoint> {
        self.vantage_points
            .iter()
            .filter(|v| v.observer().is_none())
    }

    /// The component and the probe of that id.
    #[must_use]
    pub fn probe(&self, id: &ProbeId) -> Option<(&Component, &Probe)> {
        self.components
            .iter()
            .find_map(|c| c.probes.iter().find(|p| &p.id == id).map(|p| (c, p)))
    }
}

/// The guards of a service's databases, as the controller reaches them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Guards {
    /// What the controller is called on their wire.
    pub controller: String,
    /// What it signs with.
    pub key: SecretRef,
    /// How long a site may write after a request that was granted, while there is a site to replace it.
    pub lease: Span,
    /// The guard of each site that has one.
    pub sites: BTreeMap<SiteName, Guard>,
}

/// One guard, as the controller reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// Where its wire listens (UDP).
    pub address: SocketAddr,
    /// What it signs with.
    pub public_key: PublicKey,
}

/// What is promised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objectives {
    /// Recovery time objective.
    pub rto: Span,
    /// Recovery point objective; zero wants synchronous replication.
    pub rpo: Span,
    /// Availability in percent over a year.
    pub availability: Option<f64>,
    /// Response time that the service stays below.
    pub response_time: Option<Span>,
}

/// A place that probes look from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VantagePoint {
    /// Unique name.
    pub name: VantageName,
    /// Vantage points in one network are one voice.
    pub network: NetworkName,
    /// Who looks there.
    pub looker: Looker,
    /// Probes of things that are surely up; when they fail, its own network is gone.
    pub sentinels: Vec<Uses>,
}

/// Who looks at a vantage point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Looker {
    /// The controller, which reaches out in this way.
    Controller(Via),
    /// An observer elsewhere, which signs what it saw with this key.
    Observer(SecretRef),
}

impl VantagePoint {
    /// The key of the observer that looks there; none where the controller itself does.
    #[must_use]
    pub fn observer(&self) -> Option<&SecretRef> {
        match &self.looker {
            Looker::Observer(key) => Some(key),
            Looker::Controller(_) => None,
        }
    }
}

/// How a vantage point reaches out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Via {
    /// As the host does.
    #[default]
    Direct,
    /// From this local address.
    SourceAddress(std::net::IpAddr),
    /// Through this proxy: `socks5://host:port` or `http://host:port`.
    Proxy(String),
}

/// When evidence is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quorum {
    /// Networks that must say Down. Default: more than half of those configured.
    pub networks: usize,
    /// Looks in a row that must agree before one voice changes.
    pub failures: u32,
    /// Looks in a row that must succeed before one voice is Up again.
    pub successes: u32,
}

/// What a component is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ComponentKind {
    /// Serves users; holds no data of its own.
    Application,
    /// Holds the data.
    Database,
}

/// A part of a service that gets a verdict of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// Unique name.
    pub name: ComponentName,
    /// As customers know it.
    pub title: String,
    /// What it is.
    pub kind: ComponentKind,
    /// How it is looked at.
    pub probes: Vec<Probe>,
}

impl Probe {
    /// Whether a vantage point looks through it.
    #[must_use]
    pub fn is_from(&self, vantage: &VantageName) -> bool {
        self.from.is_empty() || self.from.contains(vantage)
    }
}

/// How a component is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Unique within the service.
    pub id: ProbeId,
    /// The adapter.
    pub action: Uses,
    /// Which site it looks at; none: whichever the public name leads to.
    pub site: Option<SiteName>,
    /// Nothing answers there until a failover has started it.
    #[serde(default)]
    pub cold: bool,
    /// What kind of evidence it gives.
    pub evidence: Evidence,
    /// Time between two looks of one vantage point.
    pub every: Span,
    /// Time-out of one look.
    pub timeout: Span,
    /// Who looks; empty: all.
    pub from: Vec<VantageName>,
}

/// When a failover begins once the verdict is Down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trigger {
    /// Waits at most `patience`, and never beyond the moment that the forecast's 95th percentile still keeps the RTO.
    Budget {
        /// How long the primary may take to come back by itself.
        patience: Span,
    },
    /// At once.
    Immediate,
    /// Only on command.
    Manual,
}

/// What may hold a failover back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gates {
    /// How old the last lag measurement may be, counted from the last time that both sides were seen.
    pub max_lag_age: Span,
    /// What happens when the loss would be above the RPO or is unknown.
    pub over_rpo: OverRpo,
    /// Windows in which nothing is done automatically.
    pub maintenance: Vec<Window>,
}

/// What happens when the loss would be above the RPO or is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OverRpo {
    /// People are asked.
    #[default]
    Ask,
    /// Nothing is done but on command.
    Hold,
}

/// A maintenance window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Begin.
    pub from: super::time::Time,
    /// End.
    pub to: super::time::Time,
    /// What it is for.
    pub reason: String,
}

/// The names that users follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// The provider's adapter.
    pub provider: Uses,
    /// The zone, absolute (`example.com.`).
    pub zone: String,
    /// The names to repoint.
    pub records: Vec<DnsRecord>,
    /// The TTL that the records shall have.
    pub ttl: Span,
    /// How long the zone's servers may take until they give what the provider was told.
    #[serde(default, skip_serializing_if = "Span::is_zero")]
    pub propagation: Span,
    /// Whether the controller lowers a longer live TTL ahead of need.
    pub lower_ahead: bool,
    /// Resolvers that are asked for the cut-over, as `address[:port]`.
    pub resolvers: Vec<String>,
    /// Authoritative servers, where they cannot be found through the zone's NS records, as `address[:port]`.
    pub authorities: Vec<String>,
}

/// A name to repoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsRecord {
    /// Absolute name.
    pub name: String,
    /// Its type.
    pub kind: RecordKind,
    /// Its values per site.
    pub values: BTreeMap<SiteName, Vec<String>>,
}

impl DnsRecord {
    /// Its name and type, for people.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.name, self.kind)
    }
}

/// Types of records that are repointed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum RecordKind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    AAAA,
    /// One other name.
    CNAME,
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::AAAA => "AAAA",
            Self::CNAME => "CNAME",
        })
    }
}

/// The status page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publication {
    /// The page's public URL.
    pub url: Option<String>,
    /// Where it is written to.
    pub targets: Vec<Uses>,
}

/// What customers are told, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcements {
    /// Where they go out.
    pub channels: Vec<Channel>,
    /// What is said, per phase, where it differs from the ready-made text.
    pub templates: BTreeMap<Phase, Template>,
    /// What customers see when it is down, in their words.
    pub symptom: String,
    /// Longest time to the next update; each message names it.
    pub cadence: Span,
    /// Less frequent updates of an incident that lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_cadence: Option<LongCadence>,
}

/// Less frequent updates of an incident that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LongCadence {
    /// How long the incident has lasted then.
    pub after: Span,
    /// Longest time to the next update from then on.
    pub cadence: Span,
}

impl Announcements {
    /// The longest time to the next update of an incident that has lasted so long.
    #[must_use]
    pub fn cadence(&self, lasted: Span) -> Span {
        match self.long_cadence {
            Some(long) if lasted >= long.after => long.cadence,
            Some(_) | None => self.cadence,
        }
    }
}

/// Where announcements or pages go out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    /// Unique within the service.
    pub name: ChannelName,
    /// The adapter.
    pub action: Uses,
    /// The phases it speaks of; empty for a team channel.
    pub phases: Vec<Phase>,
}

/// A message's text with `{variables}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Template {
    /// Subject, for channels that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Text; variables: service, symptom, started, fallbackUrl, statusUrl, nextUpdate, dataSafety, incident, phase.
    pub text: String,
    /// Text for short channels; default: `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<String>,
}

impl Template {
    /// The variables that a text may hold, in braces.
    pub const VARIABLES: [&str; 9] = [
        "service",
        "symptom",
        "started",
        "fallbackUrl",
        "statusUrl",
        "nextUpdate",
        "dataSafety",
        "incident",
        "phase",
    ];
}

/// The people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Team {
    /// Everyone who may be named.
    pub people: Vec<Person>,
    /// Where pages go.
    pub channels: Vec<Channel>,
    /// Where people command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Uses>,
    /// Time between two repeats of a page that nobody acknowledged; an escalation begins anew so long after its last level.
    pub repeat: Span,
    /// Who is paged when, by the time that a page has been open; empty: everybody at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub escalation: Vec<EscalationLevel>,
}

/// Somebody must look today: such a page is repeated so many times less often than one that somebody must act on now.
const LESS_OFTEN: u64 = 6;

impl Team {
    /// The levels of the escalation; one that is everybody where the documents have none.
    #[must_use]
    pub fn levels(&self) -> Cow<'_, [EscalationLevel]> {
        if !self.escalation.is_empty() || self.channels.is_empty() {
            return Cow::Borrowed(&self.escalation);
        }
        let channels: Vec<ChannelName> = self.channels.iter().map(|c| c.name.clone()).collect();
        Cow::Owned(vec![EscalationLevel {
            after: Span::ZERO,
            severity: Severity::Info,
            to: channels.iter().map(ToString::to_string).collect(),
            channels,
        }])
    }

    /// How long a round through the levels takes, until it begins anew; none where such a page is sent once.
    #[must_use]
    pub fn round(&self, severity: Severity) -> Option<Span> {
        let pause = match severity {
            Severity::Critical => self.repeat,
            Severity::Warning => self.repeat.saturating_mul(LESS_OFTEN),
            Severity::Info => return None,
        };
        let hear = |level: &&EscalationLevel| level.severity <= severity;
        let levels = self.escalation.iter().filter(hear);
        let last = levels.map(|level| level.after).max().unwrap_or_default();
        let round = last.saturating_add(pause);
        (round > Span::ZERO).then_some(round)
    }

    /// The person of a name.
    #[must_use]
    pub fn person(&self, name: &PersonName) -> Option<&Person> {
        self.people.iter().find(|person| person.name == *name)
    }

    /// The person whom a cluster's API server knows as this user.
    #[must_use]
    pub fn known_as(&self, user: &UserName) -> Option<&Person> {
        let known = |person: &&Person| person.kubernetes.as_deref() == Some(user.as_str());
        self.people.iter().find(known)
    }
}

/// A runbook after validation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Runbook {
    /// Its name.
    pub name: RunbookName,
    /// For people.
    pub title: String,
    /// The steps in the order of the document.
    pub steps: Vec<RunbookStep>,
}

/// A step of a runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunbookStep {
    /// Unique.
    pub id: StepId,
    /// For people.
    pub name: String,
    /// Part of the run.
    pub phase: StepPhase,
    /// What it does.
    pub action: Action,
    /// Whether it takes the sites from the plan alone, and so leads either way.
    #[serde(default)]
    pub both_ways: bool,
    /// Its settings by the site that it acts at, where they differ: then it leads to each of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sites: BTreeMap<SiteName, serde_json::Value>,
    /// Steps before it.
    pub needs: Vec<StepId>,
    /// The step that it stands in for, should that one not be possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<StepId>,
    /// Time-out of one attempt.
    pub timeout: Span,
    /// Attempts and back-off.
    pub retry: Retry,
    /// The kinds of run it takes part in.
    pub on: Vec<RunKind>,
    /// When it has failed for good.
    pub on_failure: OnFailure,
}
