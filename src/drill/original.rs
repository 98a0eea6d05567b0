//! What the standby tells of itself before it is copied: the clone's size, and the settings that make it behave alike.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::port::postgres::{PostgresError, Session};

/// What the clone keeps of the original's settings, besides those that its data directory demands.
const KEPT: &str = "'shared_buffers', 'work_mem', 'hash_mem_multiplier', 'maintenance_work_mem', 'effective_cache_size', \
    'random_page_cost', 'seq_page_cost', 'cpu_tuple_cost', 'effective_io_concurrency', 'max_parallel_workers', \
    'max_parallel_workers_per_gather', 'default_statistics_target', 'jit', 'default_transaction_isolation', \
    'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'DateStyle', 'TimeZone', 'search_path', \
    'default_text_search_config', 'bytea_output'";

const LOOK: &str = "
SELECT pg_is_in_recovery() AS recovery,
       current_setting('server_version_num') AS version,
       (SELECT rolname FROM pg_roles WHERE oid = 10) AS superuser,
       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user) AS replication,
       (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries') AS preload,
       pg_has_role('pg_read_all_stats', 'USAGE') AS stats";

const SIZE: &str = "SELECT sum(pg_database_size(oid))::bigint AS bytes FROM pg_database";

const SPACES: &str = "
SELECT oid, pg_tablespace_location(oid) AS location FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''";

/// The standby, as it is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Original {
    /// Whether it is a standby.
    pub recovery: bool,
    /// Its major version.
    pub major: u32,
    /// The role that owns the cluster.
    pub superuser: String,
    /// Whether the role that asks may copy it.
    pub replication: bool,
    /// Libraries that it loads at its start; none where the role may not read that.
    pub preload: Option<Vec<String>>,
    /// Bytes of all databases; none where the role may not know.
    pub bytes: Option<u64>,
    /// Folders of its tablespaces, by their number.
    pub spaces: BTreeMap<u32, PathBuf>,
    /// Settings that the clone keeps, in PostgreSQL's own units.
    pub settings: BTreeMap<String, String>,
}

impl Original {
    /// Asks the standby.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn of(session: &Session) -> Result<Self, PostgresError> {
        let row = session.row(LOOK).await?;
        let is = |column| row.get(column) == Some("t");
        let version: u32 = row
            .get("version")
            .and_then(|v| v.parse().ok())
            .unwrap_or_default();
        let preload = row.get("preload").map(libraries);
        let bytes = if is("stats") {
            session
                .row(SIZE)
                .await?
                .get("bytes")
                .and_then(|b| b.parse().ok())
        } else {
            None
        };
        let mut spaces = BTreeMap::new();
        for row in session.rows(SPACES).await? {
            let number = row.get("oid").and_then(|oid| oid.parse().ok());
            if let (Some(number), Some(location)) = (number, row.get("location")) {
                spaces.insert(number, PathBuf::from(location));
            }
        }
        let settings = session
            .rows(&settings(preload.as_deref().unwrap_or_default()))
            .await?;
        let setting = |row: &tokio_postgres::SimpleQueryRow| {
            Some((row.get("name")?.to_owned(), row.get("setting")?.to_owned()))
        };
        Ok(Self {
            recovery: is("recovery"),
            major: version / 10_000,
            superuser: row.get("superuser").unwrap_or("postgres").to_owned(),
            replication: is("replication"),
            preload,
            bytes,
            spaces,
            settings: settings.iter().filter_map(setting).collect(),
        })
    }
}

/// `a, "b"` as PostgreSQL writes lists.
fn libraries(text: &str) -> Vec<String> {
    let names = text
        .split(',')
        .map(|name| name.trim().trim_matches('"').to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// Asks for what is kept: what a library that is not loaded would read stays unknown.
fn settings(preload: &[String]) -> String {
    let named = preload
        .iter()
        .filter_map(|library| library.rsplit('/').next())
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    let mut sql = format!("SELECT name, setting FROM pg_settings WHERE name IN ({KEPT})");
    for name in named {
        let _ = write!(sql, " OR starts_with(name, '{name}.')");
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_libraries_are_read_as_they_are_written() {
        assert_eq!(libraries(""), Vec::<String>::new());
        assert_eq!(
            libraries("pg_stat_statements, \"$libdir/auto_explain\""),
            ["pg_stat_statements", "$libdir/auto_explain"]
        );
        let asked = settings(&["$libdir/auto_explain".to_owned(), "it's".to_owned()]);
        assert!(
            asked.contains("starts_with(name, 'auto_explain.')"),
            "{asked}"
        );
        assert!(!asked.contains("it's"), "{asked}");
    }
}
