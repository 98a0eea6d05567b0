//! What documents ask of readiness.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{code::Code, path::FieldPath, scope::Scope, service::ProtectedServiceSpec};
use crate::{
    model::{
        id::SiteName,
        readiness::{
            CommandReading, Comparison, HttpReading, Otherwise, ReadinessPolicy, Reading, Rule,
            SqlReading,
        },
        span::Span,
    },
    port::{
        command::{argv_problems, env_problems},
        endpoint,
        kind::Problem,
        postgres::Conninfo,
    },
};

/// Checks that come more often than this would be a load of their own.
const OFTEN: Span = Span::from_secs(60);
/// A check has to be young enough until the next one but one.
const CHECKS: u64 = 3;

/// What is asked of readiness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReadinessSpec {
    /// Time between two checks that the controller makes by itself, up to a tenth less; at least 1m.
    pub every: Span,
    /// A check that is older says nothing any more: readiness is unknown then, and `automatic` not earned. At least
    /// three times `every`.
    pub max_age: Span,
    /// Credentials and sinks.
    pub proof: ProofSpec,
    /// Clocks.
    pub clocks: ClocksSpec,
    /// Drills.
    pub drill: DrillSpec,
    /// What must be the same at the sites.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<ComparisonSpec>,
}

impl ReadinessSpec {
    /// Whether the document says nothing of it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for ReadinessSpec {
    fn default() -> Self {
        Self {
            every: ReadinessPolicy::EVERY,
            max_age: ReadinessPolicy::MAX_AGE,
            proof: ProofSpec::default(),
            clocks: ClocksSpec::default(),
            drill: DrillSpec::default(),
            compare: Vec::new(),
        }
    }
}

/// Credentials and sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProofSpec {
    /// How old the last proof that a credential works may be before that is a warning. A check proves most; a webhook
    /// is proved only by what was really sent.
    pub max_age: Span,
}

impl Default for ProofSpec {
    fn default() -> Self {
        Self {
            max_age: ReadinessPolicy::PROOF_MAX_AGE,
        }
    }
}

/// Clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClocksSpec {
    /// How far a clock may be from the controller's before that is a warning.
    pub max_skew: Span,
}

impl Default for ClocksSpec {
    fn default() -> Self {
        Self {
            max_skew: ReadinessPolicy::MAX_SKEW,
        }
    }
}

/// Drills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DrillSpec {
    /// How old the last passed drill may be, such as 90d: without one that is young enough the service is not ready, and
    /// `automatic` is not earned. Left out, a missing or old drill is a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
}

/// Something that is read at the sites and held against each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComparisonSpec {
    /// Unique: lower-case letters, digits and dashes, such as `application-version`.
    pub name: String,
    /// How it is read, by site: a command, an HTTP answer or an SQL query. `equal` and `within` need two sites.
    pub sites: BTreeMap<String, Reading>,
    /// What must hold: `equal`, `{within: 5}`, `{atLeast: 100}` or `{atMost: 80}`.
    #[serde(default)]
    pub rule: Rule,
    /// What it comes to where the rule does not hold.
    #[serde(default)]
    pub otherwise: Otherwise,
    /// Time-out of one reading.
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn timeout() -> Span {
    Span::from_secs(10)
}

/// What a service asks of readiness, after its checks.
pub fn policy(scope: &mut Scope<'_>, spec: &ProtectedServiceSpec) -> ReadinessPolicy {
    let said = &spec.readiness;
    let path = FieldPath::spec().key("readiness");
    times(scope, said, &path);
    let list = path.key("compare");
    let numbered = said.compare.iter().enumerate();
    scope.unique(
        "a comparison",
        numbered.map(|(n, c)| (c.name.as_str(), list.index(n).key("name"))),
    );
    for (n, comparison) in said.compare.iter().enumerate() {
        compare(scope, spec, comparison, &list.index(n));
    }
    ReadinessPolicy {
        every: said.every,
        max_age: said.max_age,
        proof_max_age: said.proof.max_age,
        max_skew: said.clocks.max_skew,
        drill_max_age: said.drill.max_age,
        compare: said.compare.iter().map(comparison).collect(),
    }
}

fn comparison(spec: &ComparisonSpec) -> Comparison {
    let sites = spec.sites.iter();
    Comparison {
        name: spec.name.clone(),
        sites: sites
            .map(|(site, reading)| (SiteName::new(site), reading.clone()))
            .collect(),
        rule: spec.rule,
        otherwise: spec.otherwise,
        timeout: spec.timeout,
    }
}

fn times(scope: &mut Scope<'_>, said: &ReadinessSpec, path: &FieldPath) {
    if said.every < OFTEN {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("every"),
                format!(
                    "{} is too often: a check asks every server there is",
                    said.every
                ),
            )
            .expected(format!("{OFTEN} or more"));
        scope.add(complaint);
    }
    if said.max_age < said.every.saturating_mul(CHECKS) {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("maxAge"),
                format!(
                    "a check every {} would be too old before the next ones are in",
                    said.every
                ),
            )
            .expected(format!(
                "three times `every` or more: {}",
                said.every.saturating_mul(CHECKS)
            ))
            .rests_on(path.key("every"));
        scope.add(complaint);
    }
    let ages = [
        (Some(said.proof.max_age), path.key("proof").key("maxAge")),
        (said.drill.max_age, path.key("drill").key("maxAge")),
        (
            Some(said.clocks.max_skew),
            path.key("clocks").key("maxSkew"),
        ),
    ];
    for (age, at) in ages {
        if age == Some(Span::ZERO) {
            let complaint = scope
                .about(Code::BadValue, at, "nothing could ever keep it")
                .expected("more than 0");
            scope.add(complaint);
        }
    }
}

fn compare(
    scope: &mut Scope<'_>,
    service: &ProtectedServiceSpec,
    spec: &ComparisonSpec,
    path: &FieldPath,
) {
    scope.label(&spec.name, &path.key("name"));
    let sites = path.key("sites");
    let known: Vec<_> = service.sites.iter().map(|s| s.name.as_str()).collect();
    for (site, reading) in &spec.sites {
        let at = sites.key(site);
        scope.refers("site", site, &known, &at, &FieldPath::spec().key("sites"));
        let (word, problems) = match reading {
            Reading::Command(command) => ("command", command_problems(command)),
            Reading::Http(http) => ("http", http_problems(http)),
            Reading::Sql(sql) => ("sql", sql_problems(sql)),
        };
        for problem in problems {
            let at = at.key(word).join(&FieldPath::parse(&problem.path));
            let complaint = scope
                .about(Code::BadValue, at, problem.message)
                .maybe_hint(problem.hint);
            scope.add(complaint);
        }
    }
    let (wants, bound) = match spec.rule {
        Rule::Equal => (2, None),
        Rule::Within(bound) => (2, Some(bound)),
        Rule::AtLeast(bound) | Rule::AtMost(bound) => (1, Some(bound)),
    };
    if spec.sites.len() < wants {
        let complaint = scope
            .about(
                Code::BadValue,
                sites,
                format!("`{}` has nothing to be held against", spec.name),
            )
            .expected(if wants == 2 {
                "a reading for two sites or more"
            } else {
                "a reading for one site or more"
            });
        scope.add(complaint);
    }
    if bound.is_some_and(|b| !b.is_finite() || (b < 0.0 && matches!(spec.rule, Rule::Within(_)))) {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("rule"),
                "no readings could ever keep this bound",
            )
            .expected("a number; with `within` 0 or more");
        scope.add(complaint);
    }
    if spec.timeout == Span::ZERO {
        let complaint = scope.about(
            Code::BadValue,
            path.key("timeout"),
            "nothing answers in no time at all",
        );
        scope.add(complaint);
    }
}

fn command_problems(command: &CommandReading) -> Vec<Problem> {
    let mut all = argv_problems("run", &command.run);
    all.extend(env_problems(&command.env));
    all
}

fn http_problems(http: &HttpReading) -> Vec<Problem> {
    let mut all = Vec::new();
    // Only what carries a secret has to be encrypted.
    match endpoint::in_the_clear("url", &http.url) {
        Some(clear) => all.extend((!http.headers.is_empty()).then_some(clear)),
        None => all.extend(endpoint::problem("url", &http.url)),
    }
    for name in http.headers.keys().chain(&http.header) {
        if http::HeaderName::try_from(name.as_str()).is_err() {
            all.push(Problem::new("", format!("`{name}` is no header name")));
        }
    }
    if http.pointer.is_some() && http.header.is_some() {
        all.push(
            Problem::new("header", "the answer is read at one place only")
                .hint("leave out `pointer` or `header`"),
        );
    }
    if let Some(pointer) = &http.pointer
        && !(pointer.is_empty() || pointer.starts_with('/'))
    {
        all.push(Problem::new(
            "pointer",
            format!("`{pointer}` is no JSON pointer: it begins with /, such as /version"),
        ));
    }
    all
}

fn sql_problems(sql: &SqlReading) -> Vec<Problem> {
    let mut all = Vec::new();
    if let Err(e) = sql.connection.parse::<Conninfo>() {
        all.push(Problem::new("connection", e.to_string()));
    }
    if sql.query.trim().is_empty() {
        all.push(Problem::new("query", "the query is empty"));
    }
    all
}
