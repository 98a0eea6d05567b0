//! What `failover check` tries at a standby: login, rights, the stream, and settings that make a promotion slow or
//! dangerous. Nothing is changed.

use std::{collections::BTreeMap, time::Duration};

use tokio_postgres::SimpleQueryRow;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        site::Site,
    },
    port::postgres::{Login, PostgresError, Session, TlsMode, Whose},
};

/// How long the standby may take to answer everything.
const LIMIT: Duration = Duration::from_secs(10);
/// From this on a promotion right after the primary's death may stall for as long.
const LONG_RETRY_MS: u64 = 500;
/// From this on the loss of the primary is noticed late by the standby's stream.
const LONG_SILENCE_MS: u64 = 20_000;

const LOOK: &str = "
SELECT pg_is_in_recovery() AS recovery,
       current_setting('server_version') AS version,
       has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE') AS promote,
       has_database_privilege(current_database(), 'TEMPORARY') AS temporary,
       pg_has_role('pg_read_all_stats', 'USAGE') AS stats,
       pg_has_role('pg_read_all_settings', 'USAGE') AS settings,
       CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END AS paused,
       receiver.pid IS NOT NULL AS receiving,
       receiver.status, receiver.sender_host, receiver.sender_port,
       pg_wal_lsn_diff(receiver.latest_end_lsn, pg_last_wal_receive_lsn())::bigint AS behind,
       pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint AS unreplayed
FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver AS receiver ON true";

const SETTINGS: &str = "
SELECT name, setting FROM pg_settings WHERE name IN (
  'default_transaction_read_only', 'fsync', 'full_page_writes', 'max_standby_streaming_delay',
  'primary_slot_name', 'recovery_end_command', 'recovery_min_apply_delay', 'restore_command',
  'synchronous_standby_names', 'wal_log_hints', 'data_checksums', 'wal_receiver_timeout',
  'wal_retrieve_retry_interval')";

pub(super) async fn items(login: &Login, from: &Site) -> Vec<CheckItem> {
    match look(login).await {
        Ok((row, settings)) => {
            let mut all = vec![CheckItem::ok(
                "promote/login",
                format!(
                    "{} answers as {}, PostgreSQL {}",
                    login.conninfo.server(),
                    login.conninfo.user,
                    row.get("version").unwrap_or_default()
                ),
            )];
            all.extend(encryption(login));
            all.extend(rights(&row));
            all.extend(stream(&row));
            all.extend(slow(&settings));
            all.extend(dangerous(&settings, from));
            all
        }
        Err(e) => {
            let status = match e.whose() {
                Whose::Theirs if e.is_timeout() => CheckStatus::Unknown,
                Whose::Ours | Whose::Busy | Whose::Theirs => CheckStatus::Fail,
            };
            let fix = e.fix().unwrap_or(
                "start the standby, with hot_standby = on so that it can be asked before a promotion",
            );
            vec![CheckItem::bad("promote/login", status, e.told(), fix)]
        }
    }
}

type Settings = BTreeMap<String, String>;

async fn look(login: &Login) -> Result<(SimpleQueryRow, Settings), PostgresError> {
    let session: Session = login.open(LIMIT).await?;
    let row = session.row(LOOK).await?;
    let settings = session
        .rows(SETTINGS)
        .await?
        .iter()
        .filter_map(|r| Some((r.get("name")?.to_owned(), r.get("setting")?.to_owned())))
        .collect();
    Ok((row, settings))
}

fn warn(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> CheckItem {
    CheckItem::bad(name, CheckStatus::Warn, detail, fix)
}

fn fail(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> CheckItem {
    CheckItem::bad(name, CheckStatus::Fail, detail, fix)
}

fn encryption(login: &Login) -> Option<CheckItem> {
    let at = &login.conninfo;
    match at.tls {
        TlsMode::VerifyFull => None,
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require | TlsMode::VerifyCa => {
            at.is_remote().then(|| {
                warn(
                    "promote/tls",
                    "the connection does not prove whom it leads to",
                    "use sslmode=verify-full with sslrootcert",
                )
            })
        }
    }
}

fn rights(row: &SimpleQueryRow) -> Vec<CheckItem> {
    let yes = |column| row.get(column) == Some("t");
    let mut missing = Vec::new();
    if !yes("promote") {
        missing.push("EXECUTE on pg_promote");
    }
    if !yes("temporary") {
        missing.push("TEMPORARY on the database (to prove the promotion by a write)");
    }
    if !(yes("stats") && yes("settings")) {
        missing.push("the role pg_monitor");
    }
    let fix = "run the SQL that failover init prints, on the primary: the standby follows";
    vec![if missing.is_empty() {
        CheckItem::ok(
            "promote/grants",
            "every right that a promotion needs is there",
        )
    } else {
        fail(
            "promote/grants",
            format!("missing: {}", missing.join(", ")),
            fix,
        )
    }]
}

fn stream(row: &SimpleQueryRow) -> Vec<CheckItem> {
    let yes = |column| row.get(column) == Some("t");
    if !yes("recovery") {
        return vec![fail(
            "promote/role",
            "this server is no standby: it takes writes",
            "let connection name the standby itself; if both take writes, stop one of them at once",
        )];
    }
    let mut all = Vec::new();
    if yes("paused") {
        all.push(fail(
            "promote/replay",
            "replay is paused",
            "look into the standby's log, then run SELECT pg_wal_replay_resume() there",
        ));
    }
    let number = |column| row.get(column).and_then(|n| n.parse::<i64>().ok());
    all.push(match row.get("status") {
        Some("streaming") => CheckItem::ok(
            "promote/stream",
            format!(
                "streaming from {}:{}; {} bytes not received, {} bytes not replayed",
                row.get("sender_host").unwrap_or("?"),
                row.get("sender_port").unwrap_or("?"),
                number("behind").unwrap_or_default().max(0),
                number("unreplayed").unwrap_or_default().max(0),
            ),
        ),
        None if yes("receiving") => CheckItem::bad(
            "promote/stream",
            CheckStatus::Unknown,
            "a WAL receiver runs, but its state may not be seen",
            "grant pg_monitor",
        ),
        status => fail(
            "promote/stream",
            format!(
                "not streaming ({}): a failover now would lose what the primary wrote since",
                status.unwrap_or("no WAL receiver")
            ),
            "look into the standby's log; check primary_conninfo, the slot, and the way to the primary",
        ),
    });
    all
}

/// Settings that make a promotion slow.
fn slow(settings: &Settings) -> Vec<CheckItem> {
    let mut all = Vec::new();
    let ms = |name: &str| settings.get(name).and_then(|v| v.parse::<u64>().ok());
    if let Some(retry) = ms("wal_retrieve_retry_interval").filter(|ms| *ms > LONG_RETRY_MS) {
        all.push(warn(
            "promote/wal_retrieve_retry_interval",
            format!("a promotion right after the primary's death may stall for {retry} ms"),
            "on the standby: ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'; SELECT pg_reload_conf()",
        ));
    }
    if let Some(delay) = ms("recovery_min_apply_delay").filter(|ms| *ms > 0) {
        all.push(warn(
            "promote/recovery_min_apply_delay",
            format!("replay is {delay} ms behind on purpose: a promotion has to replay all of that first"),
            "promote a standby without delay, and keep this one for mistakes",
        ));
    }
    if settings
        .get("max_standby_streaming_delay")
        .is_some_and(|v| v == "-1")
    {
        all.push(warn(
            "promote/max_standby_streaming_delay",
            "a query on the standby may hold up replay, and so a promotion, for ever",
            "on the standby: ALTER SYSTEM SET max_standby_streaming_delay = '30s'; SELECT pg_reload_conf()",
        ));
    }
    let silence = ms("wal_receiver_timeout");
    if let Some(silence) = silence.filter(|ms| *ms == 0 || *ms > LONG_SILENCE_MS) {
        all.push(warn(
            "promote/wal_receiver_timeout",
            match silence {
                0 => "a primary that froze is never noticed by the stream".to_owned(),
                ms => format!("a primary that froze is noticed by the stream after {ms} ms only"),
            },
            "on the standby: ALTER SYSTEM SET wal_receiver_timeout = '10s'; SELECT pg_reload_conf()",
        ));
    }
    all
}

/// Settings that make a promotion, or what comes after it, dangerous.
fn dangerous(settings: &Settings, from: &Site) -> Vec<CheckItem> {
    let mut all = Vec::new();
    let text = |name: &str| settings.get(name).map_or("", String::as_str);
    if text("default_transaction_read_only") == "on" {
        all.push(fail(
            "promote/default_transaction_read_only",
            "the standby would take no writes after its promotion",
            "on the standby: ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()",
        ));
    }
    let names = text("synchronous_standby_names");
    if !names.is_empty() {
        all.push(warn(
            "promote/synchronous_standby_names",
            format!("after a promotion each commit waits for a standby ({names})"),
            "on the standby: ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf(), unless \
             another standby will be there",
        ));
    }
    if text("primary_slot_name").is_empty() {
        all.push(warn(
            "promote/primary_slot_name",
            "without a replication slot the primary may remove log that the standby still needs",
            "create a slot on the primary and set primary_slot_name, with max_slot_wal_keep_size as its bound",
        ));
    }
    for name in ["restore_command", "recovery_end_command"] {
        all.extend(outside(name, text(name), from));
    }
    for name in ["fsync", "full_page_writes"] {
        if text(name) == "off" {
            all.push(fail(
                &format!("promote/{name}"),
                format!("{name} is off: a crash after the promotion may destroy the database"),
                format!("on the standby: ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"),
            ));
        }
    }
    if text("wal_log_hints") != "on" && text("data_checksums") != "on" {
        all.push(warn(
            "promote/rewind",
            "neither data checksums nor wal_log_hints: the old primary cannot be rewound, only copied anew",
            "set wal_log_hints = on on both servers and restart them when it suits",
        ));
    }
    all
}

/// A command that the server runs in a promotion.
fn outside(name: &str, command: &str, from: &Site) -> Option<CheckItem> {
    if command.is_empty() {
        return None;
    }
    let touches = from.addresses.iter().find(|a| command.contains(a.as_str()));
    Some(match touches {
        Some(address) => fail(
            &format!("promote/{name}"),
            format!("a promotion runs it, and it names {address} at the primary's site: {command}"),
            "keep the archive outside the primary's site",
        ),
        None => warn(
            &format!("promote/{name}"),
            format!("a promotion runs it and waits for it: {command}"),
            "make sure that it ends soon while the primary's site is gone, and with a status of at most 125: at a \
             higher one, such as 255 of ssh, PostgreSQL stops the standby",
        ),
    })
}
