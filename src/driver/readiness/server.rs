//! The PostgreSQL servers of the sites, as the documents name them, and what they say of themselves.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use crate::{
    model::{
        id::SiteName,
        plan::{Action as Doing, End, Plan, Uses},
        secret::SecretRef,
        service::Service,
        time::Time,
    },
    port::{
        postgres::{Conninfo, Login, PostgresError, Session},
        runtime::SharedRuntime,
        secret::SharedSecrets,
    },
};

/// How long a server may take to answer everything.
const LIMIT: Duration = Duration::from_secs(15);
/// So many databases are looked into for their extensions.
const DATABASES: usize = 20;

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server {
    /// As people know it: `15.6`.
    pub version: String,
    /// As a number: 150006.
    pub number: u32,
    /// Settings as they are for new sessions, by name; those that may not be seen are not there.
    pub settings: BTreeMap<String, String>,
    /// How far its clock is ahead of this host's, in milliseconds, and how far that may be wrong.
    pub skew: Option<(i64, i64)>,
    /// Bytes that its databases take.
    pub size: Option<u64>,
    /// Collations whose library has another version here than their indexes were made with: each with both versions.
    pub collations: Vec<Collation>,
    /// Installed extensions by database, each with its version.
    pub extensions: BTreeMap<String, BTreeMap<String, String>>,
    /// Versions of extensions that could be installed here.
    pub available: BTreeMap<String, Vec<String>>,
    /// Databases that could not be looked into, with the reason.
    pub closed: BTreeMap<String, String>,
    /// Who may log in from where, in order.
    pub hba: Vec<HbaRule>,
    /// Why that may not be seen.
    pub hba_hidden: Option<String>,
}

/// A collation whose library is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Collation {
    /// Its name, or the database whose default it is.
    pub name: String,
    /// The version that indexes were made with.
    pub recorded: String,
    /// The version of the library here.
    pub actual: String,
}

/// A line of `pg_hba.conf`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HbaRule {
    /// Type, databases, users, address and method, in one line.
    pub text: String,
    /// Why the server cannot use it.
    pub error: Option<String>,
}

const LOOK: &str = "
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num') AS number,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS clock";

const SIZE: &str = "SELECT sum(pg_database_size(oid))::bigint AS size FROM pg_database";

const SETTINGS: &str =
    "SELECT name, reset_val AS setting FROM pg_settings WHERE reset_val IS NOT NULL";

/// Physical replicas have the primary's catalogue, and their own host's library.
const COLLATIONS: &str = "
SELECT DISTINCT collname AS name, collversion AS recorded,
       coalesce(pg_collation_actual_version(oid), 'none') AS actual
FROM pg_collation
WHERE collversion IS NOT NULL AND collversion IS DISTINCT FROM pg_collation_actual_version(oid)";

/// From PostgreSQL 15 on.
const DEFAULTS: &str = "
SELECT 'database ' || datname AS name, datcollversion AS recorded,
       coalesce(pg_database_collation_actual_version(oid), 'none') AS actual
FROM pg_database
WHERE datcollversion IS NOT NULL AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)";

const NAMES: &str =
    "SELECT datname AS name FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";

const INSTALLED: &str = "SELECT extname AS name, extversion AS version FROM pg_extension";

const AVAILABLE: &str = "SELECT name, version FROM pg_available_extension_versions";

const HBA: &str = "
SELECT type || ' ' || coalesce(array_to_string(database, ','), '') || ' ' || coalesce(array_to_string(user_name, ','), '')
       || coalesce(' ' || address, '') || coalesce('/' || netmask, '') || ' ' || coalesce(auth_method, '') AS text,
       line_number AS line, error
FROM pg_hba_file_rules ORDER BY line_number";

/// The way in to each site's own server: as its probes have it, else as the steps of a plan have it.
#[must_use]
pub fn logins(
    service: &Service,
    plan: Option<&Plan>,
    secrets: &SharedSecrets,
) -> BTreeMap<SiteName, Login> {
    let probes = service
        .components
        .iter()
        .flat_map(|c| &c.probes)
        .filter_map(|p| Some((p.site.as_ref()?, &p.action)));
    // What is a probe of the stream leads to the standby all the same.
    let (own, stream): (Vec<_>, Vec<_>) =
        probes.partition(|(_, uses)| uses.uses.as_str() == "probe/postgres");
    let steps = plan.into_iter().flat_map(|plan| {
        plan.steps.iter().filter_map(|step| match &step.action {
            Doing::Adapter(uses) => Some(match step.phase.end() {
                End::From => (&plan.from, uses),
                End::To => (&plan.to, uses),
            }),
            Doing::Manual { .. } => None,
        })
    });
    let mut found = BTreeMap::new();
    for (site, uses) in own.into_iter().chain(stream).chain(steps) {
        if let Some(login) = login(uses, secrets) {
            found.entry(site.clone()).or_insert(login);
        }
    }
    found
}

fn login(uses: &Uses, secrets: &SharedSecrets) -> Option<Login> {
    #[derive(Deserialize)]
    struct Entry {
        connection: Conninfo,
        #[serde(default)]
        password: Option<SecretRef>,
    }
    if !uses.uses.as_str().contains("postgres") {
        return None;
    }
    let entry: Entry = serde_json::from_value(uses.with.clone()).ok()?;
    Some(Login {
        conninfo: entry.connection,
        password: entry.password,
        secrets: secrets.clone(),
    })
}

/// Asks a server about itself.
///
/// # Errors
/// Where it cannot be asked; what only some may see is left out.
pub async fn look(login: &Login, runtime: &SharedRuntime) -> Result<Server, PostgresError> {
    let session = login.open(LIMIT).await?;
    let before = runtime.now();
    let row = session.row(LOOK).await?;
    let after = runtime.now();
    let number = row.get("number").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut server = Server {
        version: row.get("version").unwrap_or_default().to_owned(),
        number,
        skew: row
            .get("clock")
            .and_then(|ms| ms.parse().ok())
            .map(|ms| skew(ms, before, after)),
        ..Server::default()
    };
    match hba(&session).await {
        Ok(rules) => server.hba = rules,
        Err(reason) => server.hba_hidden = Some(reason),
    }
    for row in session.rows(SETTINGS).await? {
        if let (Some(name), Some(value)) = (row.get("name"), row.get("setting")) {
            server.settings.insert(name.to_owned(), value.to_owned());
        }
    }
    let size = session.row(SIZE).await.ok();
    server.size = size.and_then(|row| row.get("size")?.parse().ok());
    server.collations = collations(&session, number).await;
    for row in session.rows(AVAILABLE).await? {
        if let (Some(name), Some(version)) = (row.get("name"), row.get("version")) {
            let versions = server.available.entry(name.to_owned()).or_default();
            versions.push(version.to_owned());
        }
    }
    let names = session.rows(NAMES).await?;
    let names = names.iter().filter_map(|row| row.get("name"));
    for name in names.take(DATABASES) {
        match installed(login, name, session.left()).await {
            Ok(found) => drop(server.extensions.insert(name.to_owned(), found)),
            Err(e) => drop(server.closed.insert(name.to_owned(), e.told())),
        }
    }
    Ok(server)
}

/// How far a clock is ahead that showed this between two moments of ours, and how far that may be wrong.
#[must_use]
pub fn skew(shown: i64, before: Time, after: Time) -> (i64, i64) {
    let (before, after) = (before.as_millis(), after.as_millis());
    let half = (after - before).max(0) / 2;
    (shown - (before + half), half + 1)
}

async fn collations(session: &Session, number: u32) -> Vec<Collation> {
    let mut found = Vec::new();
    let questions = [Some(COLLATIONS), (number >= 150_000).then_some(DEFAULTS)];
    for question in questions.into_iter().flatten() {
        let Ok(rows) = session.rows(question).await else {
            continue;
        };
        found.extend(rows.iter().filter_map(|row| {
            Some(Collation {
                name: row.get("name")?.to_owned(),
                recorded: row.get("recorded")?.to_owned(),
                actual: row.get("actual")?.to_owned(),
            })
        }));
    }
    found.sort();
    found
}

async fn hba(session: &Session) -> Result<Vec<HbaRule>, String> {
    let rows = session.rows(HBA).await.map_err(|e| e.told())?;
    let rules = rows.iter().map(|row| HbaRule {
        text: row.get("text").unwrap_or_default().to_owned(),
        error: row
            .get("error")
            .map(|e| format!("line {}: {e}", row.get("line").unwrap_or("?"))),
    });
    Ok(rules.collect())
}

async fn installed(
    login: &Login,
    database: &str,
    within: Duration,
) -> Result<BTreeMap<String, String>, PostgresError> {
    let mut login = login.clone();
    database.clone_into(&mut login.conninfo.database);
    let session = login.open(within).await?;
    let rows = session.rows(INSTALLED).await?;
    let found = rows
        .iter()
        .filter_map(|row| Some((row.get("name")?.to_owned(), row.get("version")?.to_owned())));
    Ok(found.collect())
}
