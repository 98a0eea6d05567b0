//! What `failover check` tries at the old primary for the fences that log in there.

use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

use crate::{
    model::check::{CheckItem, CheckStatus},
    port::postgres::{Login, PostgresError},
};

/// How long the server may take to answer everything.
const LIMIT: Duration = Duration::from_secs(10);

/// Where rights on single settings came, which a fence over the wire needs unless its role is a superuser.
const SETTINGS_HAVE_RIGHTS: u32 = 150_000;

const LOOK: &str = "
SELECT pg_is_in_recovery() AS recovery,
       current_setting('server_version_num') AS version,
       has_database_privilege(current_database(), 'TEMPORARY') AS temporary,
       has_function_privilege('pg_reload_conf()', 'EXECUTE') AS reload,
       pg_has_role('pg_signal_backend', 'USAGE') AS signal,
       pg_has_role('pg_read_all_stats', 'USAGE') AS stats,
       current_setting('is_superuser') AS superuser";

/// For `postgres/write-attempt`.
pub(super) async fn write_attempt(login: &Login) -> Vec<CheckItem> {
    let name = "fence/write-attempt";
    vec![match look(login).await {
        Ok(row) if row.get("recovery") == Some("t") => standby(name),
        Ok(row) if row.get("temporary") != Some("t") => {
            missing(name, &["TEMPORARY on the database"])
        }
        Ok(_) => CheckItem::ok(name, "a write can be tried there"),
        Err(e) => unanswered(name, &e),
    }]
}

/// For `postgres/fence`.
pub(super) async fn fence(login: &Login) -> Vec<CheckItem> {
    let name = "fence/postgres";
    vec![match fence_rights(login).await {
        Ok((row, _)) if row.get("recovery") == Some("t") => standby(name),
        Ok((_, rights)) if !rights.is_empty() => missing(name, &rights),
        Ok(_) => CheckItem::ok(name, "every right that it needs is there"),
        Err(e) => unanswered(name, &e),
    }]
}

async fn fence_rights(login: &Login) -> Result<(SimpleQueryRow, Vec<&'static str>), PostgresError> {
    let session = login.open(LIMIT).await?;
    let row = session.row(LOOK).await?;
    let mut rights = Vec::new();
    if row.get("superuser") == Some("on") {
        return Ok((row, rights));
    }
    let version = row.get("version").and_then(|v| v.parse::<u32>().ok());
    if version.is_some_and(|v| v >= SETTINGS_HAVE_RIGHTS) {
        let sql = "SELECT has_parameter_privilege('default_transaction_read_only', 'ALTER SYSTEM') AS alter";
        if session.row(sql).await?.get("alter") != Some("t") {
            rights.push("ALTER SYSTEM on the setting default_transaction_read_only");
        }
    } else {
        rights.push("SUPERUSER (before PostgreSQL 15)");
    }
    for (column, right) in [
        ("reload", "EXECUTE on pg_reload_conf"),
        ("signal", "the role pg_signal_backend"),
        ("stats", "the role pg_monitor"),
    ] {
        if row.get(column) != Some("t") {
            rights.push(right);
        }
    }
    Ok((row, rights))
}

async fn look(login: &Login) -> Result<SimpleQueryRow, PostgresError> {
    login.open(LIMIT).await?.row(LOOK).await
}

fn standby(name: &str) -> CheckItem {
    CheckItem::bad(
        name,
        CheckStatus::Fail,
        "the server is a standby: this fence would guard the wrong one",
        "let connection name the primary itself",
    )
}

fn missing(name: &str, rights: &[&str]) -> CheckItem {
    CheckItem::bad(
        name,
        CheckStatus::Fail,
        format!("missing: {}", rights.join(", ")),
        "run the SQL that failover init prints, on the primary",
    )
}

fn unanswered(name: &str, error: &PostgresError) -> CheckItem {
    let status = if error.is_timeout() {
        CheckStatus::Unknown
    } else {
        CheckStatus::Fail
    };
    let fix = error
        .fix()
        .unwrap_or("look whether the server runs, and at the way to it");
    CheckItem::bad(name, status, error.told(), fix)
}
