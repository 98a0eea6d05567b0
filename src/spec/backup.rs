//! The `BackupPolicy` document, and what becomes of it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    code::Code,
    document::{BackupPolicyDocument, With},
    nearest,
    path::FieldPath,
    place,
    scope::{Family, Scope},
    service::{ProtectedServiceSpec, ResidencySpec},
    take::{self, TakeSpec},
};
use crate::model::{
    backup::{BackupKind, BackupPolicy, BackupSource, Retention, Verify, VerifyQuery},
    id::{KindName, PolicyName, SourceName},
    plan::Uses,
    site::Location,
    span::Span,
    time::Time,
};

/// Where a service's backups are, and what is asked of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupPolicySpec {
    /// The service: a `ProtectedService` of that name. A service has one policy at most.
    pub service: String,
    /// Where backups are.
    pub sources: Vec<BackupSourceSpec>,
    /// How old the newest backup of each source may be.
    #[serde(default)]
    pub freshness: FreshnessSpec,
    /// Sources that must hold a full backup which is young enough, at least.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub copies: usize,
    /// Different regions that these must stand in, at least.
    #[serde(default)]
    pub regions: usize,
    /// Different providers that these must stand at, at least.
    #[serde(default)]
    pub providers: usize,
    /// Different continents that these must stand on, at least.
    #[serde(default)]
    pub continents: usize,
    /// Where backups may be. Default: where the service's data may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<ResidencySpec>,
    /// Whether every backup must be encrypted.
    #[serde(default)]
    pub encrypted: Encryption,
    /// How long backups are kept.
    #[serde(default)]
    pub retention: RetentionSpec,
    /// What is tried by restoring. Without it nobody knows whether a backup is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifySpec>,
    /// What is taken, by the controller itself. Without it backups are somebody else's job, and only looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<TakeSpec>,
}

/// A place where backups are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-uses" = "backup"))]
pub struct BackupSourceSpec {
    /// Unique within the policy: lower-case letters, digits and dashes.
    pub name: String,
    /// Where it stands.
    #[serde(default)]
    pub location: Location,
    /// What it must hold.
    #[serde(default = "keeps")]
    pub keeps: Vec<BackupKind>,
    /// How old its newest backup may be, where that differs from the policy's.
    #[serde(default)]
    pub freshness: FreshnessSpec,
    /// The adapter that knows the place.
    pub uses: String,
    /// Settings of the adapter.
    #[serde(default, skip_serializing_if = "With::is_empty")]
    pub with: With,
}

/// How old the newest backup may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FreshnessSpec {
    /// Of full backups, such as 24h; allow for the time that one takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Span>,
    /// Of logs, such as 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Span>,
}

impl FreshnessSpec {
    const fn of(&self, kind: BackupKind) -> Option<Span> {
        match kind {
            BackupKind::Full => self.full,
            BackupKind::Log => self.log,
        }
    }
}

/// Whether backups must be encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Encryption {
    /// Every one must be known to be.
    Required,
    /// It does not matter.
    #[default]
    Optional,
}

/// How long backups are kept, in days and months of UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetentionSpec {
    /// One full backup of each day, for so long, such as 30d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily: Option<Span>,
    /// One full backup of each month, for so many months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly: Option<u32>,
    /// When backups began: nothing from before is missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// What is tried by restoring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifySpec {
    /// How often the newest full backup of each of these sources is restored.
    #[serde(default = "every")]
    pub every: Span,
    /// The sources. Default: the first one that backups can be fetched from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// What the restored database is asked; the answers are kept as evidence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<VerifyQuerySpec>,
    /// The database that is asked in a base backup; a dump is restored into one of its own.
    #[serde(default = "database")]
    pub database: String,
    /// Longest time that one restore may take.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Folder that it is restored to, which PostgreSQL's user must be able to enter. Default: the host's folder for
    /// temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Mebibytes of that disk that stay free, whatever happens.
    #[serde(default = "keep_free")]
    pub keep_free: u64,
    /// Folder of PostgreSQL's programs. Default: they are looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<String>,
}

/// What a restored database is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyQuerySpec {
    /// As it stands in the evidence.
    pub name: String,
    /// One statement; the first column of its first row is the answer.
    pub sql: String,
    /// The answer must be a number, at least this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<i64>,
}

const fn one() -> usize {
    1
}

fn keeps() -> Vec<BackupKind> {
    vec![BackupKind::Full]
}

fn every() -> Span {
    Span::from_secs(7 * 86_400)
}

fn database() -> String {
    "postgres".to_owned()
}

fn timeout() -> Span {
    Span::from_secs(3600)
}

const fn keep_free() -> u64 {
    1024
}

/// Complains that a policy's service is none.
pub fn no_service(scope: &mut Scope<'_>, name: &str, known: &[&str]) {
    let complaint = scope.about(
        Code::Dangling,
        FieldPath::spec().key("service"),
        format!("there is no service `{name}`"),
    );
    let complaint = match nearest::hint(name, known) {
        Some(hint) => complaint.hint(hint),
        None if known.is_empty() => {
            complaint.hint("put its ProtectedService into the same folder, or name both files")
        }
        None => complaint.expected(known.join(" or ")),
    };
    scope.add(complaint);
}

/// Checks a policy. What comes back may be used only if nothing was complained of.
pub fn policy(
    scope: &mut Scope<'_>,
    document: &BackupPolicyDocument,
    service: Option<&ProtectedServiceSpec>,
) -> BackupPolicy {
    let spec = &document.spec;
    scope.label(&document.metadata.name, &FieldPath::parse("metadata.name"));
    let fetching = sources(scope, spec);
    residency(scope, spec, service);
    reachable(scope, spec);
    BackupPolicy {
        name: PolicyName::new(&document.metadata.name),
        sources: spec.sources.iter().map(|s| source(spec, s)).collect(),
        copies: spec.copies,
        regions: spec.regions,
        providers: spec.providers,
        continents: spec.continents,
        residency: countries(spec, service)
            .map(<[String]>::to_vec)
            .unwrap_or_default(),
        encrypted: spec.encrypted == Encryption::Required,
        retention: retention(scope, spec),
        verify: verify(scope, spec, &fetching),
        take: take::take(scope, spec),
    }
}

/// Checks the sources; answers with the names of those that backups can be fetched from.
fn sources<'s>(scope: &mut Scope<'_>, spec: &'s BackupPolicySpec) -> Vec<&'s str> {
    let list = FieldPath::spec().key("sources");
    let names = spec.sources.iter().enumerate();
    scope.unique(
        "a source",
        names.map(|(n, s)| (s.name.as_str(), list.index(n).key("name"))),
    );
    if spec.sources.is_empty() {
        let complaint = scope
            .about(
                Code::BadValue,
                list.clone(),
                "there is no place where backups are",
            )
            .expected("at least one source")
            .on_key();
        scope.add(complaint);
    }
    let mut fetching = Vec::new();
    for (n, source) in spec.sources.iter().enumerate() {
        let path = list.index(n);
        scope.label(&source.name, &path.key("name"));
        place::location(scope, &source.location, &path.key("location"));
        let kind = scope.uses(Family::Backup, &source.uses, &source.with, &path);
        if kind.is_some_and(|k| k.fetches) {
            fetching.push(source.name.as_str());
        }
        if source.keeps.is_empty() {
            let complaint = scope
                .about(
                    Code::BadValue,
                    path.key("keeps"),
                    "a source that keeps nothing is none",
                )
                .expected("full, log, or both");
            scope.add(complaint);
        }
        for kind in [BackupKind::Full, BackupKind::Log] {
            if source.freshness.of(kind).is_some() && !source.keeps.contains(&kind) {
                let complaint = scope
                    .about(
                        Code::Backups,
                        path.key("freshness").key(kind.to_string()),
                        format!("`{}` keeps no {kind} backups", source.name),
                    )
                    .expected(format!("{kind} among its `keeps`"))
                    .rests_on(path.key("keeps"));
                scope.add(complaint);
            }
        }
    }
    fetching
}

fn source(spec: &BackupPolicySpec, said: &BackupSourceSpec) -> BackupSource {
    let keeps = said.keeps.iter().map(|kind| {
        let age = said.freshness.of(*kind).or(spec.freshness.of(*kind));
        (*kind, age)
    });
    BackupSource {
        name: SourceName::new(&said.name),
        location: said.location.clone(),
        keeps: keeps.collect(),
        action: Uses {
            uses: KindName::new(&said.uses),
            with: said.with.value(),
        },
    }
}

/// The countries in which backups may be; none: anywhere.
fn countries<'s>(
    spec: &'s BackupPolicySpec,
    service: Option<&'s ProtectedServiceSpec>,
) -> Option<&'s [String]> {
    let of_service = service.and_then(|s| s.residency.as_ref());
    let said = spec.residency.as_ref().or(of_service)?;
    Some(&said.countries)
}

/// Checks that every source stands where data may be.
fn residency(
    scope: &mut Scope<'_>,
    spec: &BackupPolicySpec,
    service: Option<&ProtectedServiceSpec>,
) {
    let own = FieldPath::spec().key("residency").key("countries");
    if let Some(said) = &spec.residency {
        if said.countries.is_empty() {
            let complaint = scope
                .about(Code::BadValue, own.clone(), "backups may be nowhere")
                .expected("at least one country, or no `residency` at all");
            scope.add(complaint);
            return;
        }
        for (n, country) in said.countries.iter().enumerate() {
            place::country_code(scope, country, &own.index(n));
        }
    }
    let Some(countries) = countries(spec, service) else {
        return;
    };
    let list = FieldPath::spec().key("sources");
    for (n, source) in spec.sources.iter().enumerate() {
        let at = list.index(n);
        let complaint = match &source.location.country {
            None => scope
                .about(
                    Code::NoCountry,
                    at,
                    format!("nobody knows in which country `{}` stands", source.name),
                )
                .hint("add `location: {country: XX}`: backups may only be where the data may be"),
            Some(country) if !countries.contains(country) => scope
                .about(
                    Code::Residency,
                    at.key("location").key("country"),
                    format!(
                        "`{}` stands in {country}, where data may not be",
                        source.name
                    ),
                )
                .expected(countries.join(" or ")),
            Some(_) => continue,
        };
        scope.add(complaint.rests_on(own.clone()));
    }
}

/// Checks that the policy could be met if every source held what it should.
fn reachable(scope: &mut Scope<'_>, spec: &BackupPolicySpec) {
    let path = FieldPath::spec();
    let full: Vec<_> = spec
        .sources
        .iter()
        .filter(|s| s.keeps.contains(&BackupKind::Full))
        .collect();
    let distinct = |part: fn(&Location) -> &Option<String>| {
        let said = full.iter().filter_map(|s| part(&s.location).as_ref());
        said.collect::<BTreeSet<_>>().len()
    };
    let wanted = [
        ("copies", spec.copies, full.len()),
        ("regions", spec.regions, distinct(|l| &l.region)),
        ("providers", spec.providers, distinct(|l| &l.provider)),
        ("continents", spec.continents, distinct(|l| &l.continent)),
    ];
    for (field, wanted, there) in wanted {
        if wanted > there {
            let message = format!(
                "{wanted} {field} are asked for, and the sources of full backups name {there}"
            );
            let complaint = scope
                .about(Code::Backups, path.key(field), message)
                .expected(format!("at most {there}, or more sources"))
                .rests_on(path.key("sources"));
            scope.add(complaint);
        }
    }
    for kind in [BackupKind::Full, BackupKind::Log] {
        if spec.freshness.of(kind).is_some()
            && !spec.sources.iter().any(|s| s.keeps.contains(&kind))
        {
            let complaint = scope
                .about(
                    Code::Backups,
                    path.key("freshness").key(kind.to_string()),
                    format!("no source keeps {kind} backups"),
                )
                .expected(format!("a source with `keeps: [{kind}]`"))
                .rests_on(path.key("sources"));
            scope.add(complaint);
        }
    }
}

fn retention(scope: &mut Scope<'_>, spec: &BackupPolicySpec) -> Retention {
    const DAY: u64 = 86_400_000;
    let said = &spec.retention;
    let days = said.daily.map_or(0, |span| span.as_millis() / DAY);
    let path = FieldPath::spec().key("retention");
    if said
        .daily
        .is_some_and(|span| span.as_millis() % DAY != 0 || days == 0 || days > 3660)
    {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("daily"),
                "this is no number of days",
            )
            .expected("whole days, at most ten years, such as 30d");
        scope.add(complaint);
    }
    if said.monthly.is_some_and(|months| months > 1200) {
        let complaint = scope
            .about(
                Code::BadValue,
                path.key("monthly"),
                "nothing is kept for so long",
            )
            .expected("a number of months, at most 1200");
        scope.add(complaint);
    }
    let full = spec
        .sources
        .iter()
        .any(|s| s.keeps.contains(&BackupKind::Full));
    if !full && (said.daily.is_some() || said.monthly.is_some()) {
        let complaint = scope
            .about(Code::Backups, path, "no source keeps full backups")
            .expected("a source with `keeps: [full]`")
            .rests_on(FieldPath::spec().key("sources"));
        scope.add(complaint);
    }
    Retention {
        daily: u32::try_from(days).unwrap_or(u32::MAX),
        monthly: said.monthly.unwrap_or(0),
        since: said.since,
    }
}

fn verify(scope: &mut Scope<'_>, spec: &BackupPolicySpec, fetching: &[&str]) -> Option<Verify> {
    let said = spec.verify.as_ref()?;
    let path = FieldPath::spec().key("verify");
    let list = FieldPath::spec().key("sources");
    let known: Vec<_> = spec.sources.iter().map(|s| s.name.as_str()).collect();
    for (n, name) in said.sources.iter().enumerate() {
        let at = path.key("sources").index(n);
        if scope.refers("source", name, &known, &at, &list) && !fetching.contains(&name.as_str()) {
            let complaint = scope
                .about(
                    Code::Backups,
                    at,
                    format!("nothing can be fetched from `{name}`"),
                )
                .expected("a source of backup/folder, backup/s3 or backup/command")
                .rests_on(list.clone());
            scope.add(complaint);
        }
    }
    if fetching.is_empty() && said.sources.is_empty() {
        let complaint = scope
            .about(
                Code::Backups,
                path.clone(),
                "there is no source that backups can be fetched from",
            )
            .expected("a source of backup/folder, backup/s3 or backup/command")
            .rests_on(list)
            .on_key();
        scope.add(complaint);
    }
    for (field, span) in [("every", said.every), ("timeout", said.timeout)] {
        if span == Span::ZERO {
            let complaint = scope
                .about(
                    Code::BadValue,
                    path.key(field),
                    "no restore takes no time at all",
                )
                .expected("a duration such as 1h");
            scope.add(complaint);
        }
    }
    let queries = path.key("queries");
    let numbered = said.queries.iter().enumerate();
    scope.unique(
        "a query",
        numbered.map(|(n, q)| (q.name.as_str(), queries.index(n).key("name"))),
    );
    for (field, folder) in [("folder", &said.folder), ("programs", &said.programs)] {
        if folder.as_ref().is_some_and(|f| !f.starts_with('/')) {
            let complaint = scope
                .about(Code::BadValue, path.key(field), "this is no path from /")
                .expected("a folder such as /var/lib/restore");
            scope.add(complaint);
        }
    }
    let first = fetching.first().map(|s| (*s).to_owned());
    let named = if said.sources.is_empty() {
        first.into_iter().collect()
    } else {
        said.sources.clone()
    };
    Some(Verify {
        every: said.every,
        sources: named.into_iter().map(SourceName::new).collect(),
        queries: said
            .queries
            .iter()
            .map(|q| VerifyQuery {
                name: q.name.clone(),
                sql: q.sql.clone(),
                at_least: q.at_least,
            })
            .collect(),
        database: said.database.clone(),
        timeout: said.timeout,
        folder: said.folder.clone(),
        keep_free: said.keep_free,
        programs: said.programs.clone(),
    })
}
