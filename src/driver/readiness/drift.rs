//! Drift between the PostgreSQL servers of two sites, by named comparisons: what the standby lacks that the primary
//! has. Pure, so that each comparison can be tried without a server.

use std::collections::BTreeSet;

use super::server::Server;
use crate::model::{
    check::{CheckItem, CheckStatus},
    id::SiteName,
};

/// What must hold of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// The standby's number is not lower.
    NotBeLower,
    /// The same text; else it comes to this.
    BeSame(CheckStatus),
    /// Everything in the primary's list is in the standby's.
    HoldAll,
    /// The standby listens to others where the primary does.
    Listen,
    /// The standby encrypts where the primary does.
    Encrypt,
    /// The log says as much.
    SayAsMuch,
}

/// A setting that matters, what must hold of it, and why.
struct Setting(&'static str, Must, &'static str);

const REPLAY: &str =
    "replay stops at the standby as soon as the log says that the primary has more";

const SETTINGS: &[Setting] = &[
    Setting("max_connections", Must::NotBeLower, REPLAY),
    Setting("max_prepared_transactions", Must::NotBeLower, REPLAY),
    Setting("max_locks_per_transaction", Must::NotBeLower, REPLAY),
    Setting("max_worker_processes", Must::NotBeLower, REPLAY),
    Setting("max_wal_senders", Must::NotBeLower, REPLAY),
    Setting(
        "wal_level",
        Must::SayAsMuch,
        "after a promotion nothing could replicate from it as from the primary now",
    ),
    Setting(
        "shared_preload_libraries",
        Must::HoldAll,
        "what the application uses of them is missing after a promotion",
    ),
    Setting(
        "listen_addresses",
        Must::Listen,
        "after a promotion nobody but its own host could connect",
    ),
    Setting(
        "ssl",
        Must::Encrypt,
        "clients that insist on encryption are turned away after a promotion",
    ),
    Setting(
        "data_checksums",
        Must::BeSame(CheckStatus::Fail),
        "they are no replicas of each other",
    ),
    Setting(
        "block_size",
        Must::BeSame(CheckStatus::Fail),
        "they are no replicas of each other",
    ),
    Setting(
        "TimeZone",
        Must::BeSame(CheckStatus::Warn),
        "moments without a time zone are read and shown otherwise after a promotion",
    ),
    Setting(
        "DateStyle",
        Must::BeSame(CheckStatus::Warn),
        "dates are read and shown otherwise after a promotion",
    ),
    Setting(
        "default_text_search_config",
        Must::BeSame(CheckStatus::Warn),
        "searches find something else after a promotion",
    ),
    Setting(
        "default_transaction_isolation",
        Must::BeSame(CheckStatus::Warn),
        "transactions see something else after a promotion",
    ),
    Setting(
        "search_path",
        Must::BeSame(CheckStatus::Warn),
        "names without a schema lead elsewhere after a promotion",
    ),
    Setting(
        "standard_conforming_strings",
        Must::BeSame(CheckStatus::Warn),
        "texts with backslashes are read otherwise after a promotion",
    ),
];

/// Holds the standby against the primary.
#[must_use]
pub fn compare(from: (&SiteName, &Server), to: (&SiteName, &Server)) -> Vec<CheckItem> {
    let mut all = vec![version(from, to)];
    let mut same = 0;
    for setting in SETTINGS {
        match differs(setting, from, to) {
            Some(item) => all.push(item),
            None => same += 1,
        }
    }
    all.push(CheckItem::ok(
        "drift/settings",
        format!(
            "{same} of {} settings that matter are at {} as a failover from {} needs them",
            SETTINGS.len(),
            to.0,
            from.0
        ),
    ));
    all.push(collations(to));
    all.extend(extensions(from, to));
    all.push(hba(from, to));
    all
}

type Side<'a> = (&'a SiteName, &'a Server);

fn version(from: Side<'_>, to: Side<'_>) -> CheckItem {
    const NAME: &str = "drift/version";
    let text = format!(
        "PostgreSQL {} at {}, {} at {}",
        from.1.version, from.0, to.1.version, to.0
    );
    if from.1.number == to.1.number {
        CheckItem::ok(NAME, text)
    } else if from.1.number / 10_000 == to.1.number / 10_000 {
        CheckItem::bad(
            NAME,
            CheckStatus::Warn,
            text,
            "bring both to the same minor version, the standby first",
        )
    } else {
        CheckItem::bad(
            NAME,
            CheckStatus::Fail,
            text,
            "a standby of another major version replays nothing: make it anew with the primary's version",
        )
    }
}

fn differs(setting: &Setting, from: Side<'_>, to: Side<'_>) -> Option<CheckItem> {
    let Setting(name, must, why) = setting;
    let item = format!("drift/{name}");
    let values = (from.1.settings.get(*name), to.1.settings.get(*name));
    let (ours, theirs) = match values {
        (Some(ours), Some(theirs)) => (ours, theirs),
        // Neither version knows it.
        (None, None) if from.1.number != 0 && *name != "shared_preload_libraries" => return None,
        (_, _) => {
            return Some(CheckItem::bad(
                item,
                CheckStatus::Unknown,
                format!(
                    "{name} may not be seen at {}",
                    if values.0.is_none() { from.0 } else { to.0 }
                ),
                "grant pg_monitor to the role of the probes",
            ));
        }
    };
    let (holds, status) = holds(*must, ours, theirs);
    (!holds).then(|| {
        CheckItem::bad(
            item,
            status,
            format!(
                "{name} is {ours:?} at {}, {theirs:?} at {}: {why}",
                from.0, to.0
            ),
            format!(
                "set {name} at {} as it is at {}, or higher where it is a limit",
                to.0, from.0
            ),
        )
    })
}

/// Whether it holds, and what it comes to where it does not.
fn holds(must: Must, ours: &str, theirs: &str) -> (bool, CheckStatus) {
    match must {
        Must::NotBeLower => {
            let numbers = (ours.parse::<i64>().ok(), theirs.parse::<i64>().ok());
            let holds = matches!(numbers, (Some(ours), Some(theirs)) if theirs >= ours);
            (holds, CheckStatus::Fail)
        }
        Must::BeSame(status) => (ours == theirs, status),
        Must::HoldAll => (names(ours).is_subset(&names(theirs)), CheckStatus::Fail),
        Must::Listen => (is_local(ours) || !is_local(theirs), CheckStatus::Fail),
        Must::Encrypt => (ours != "on" || theirs == "on", CheckStatus::Fail),
        Must::SayAsMuch => {
            let rank = |level: &str| {
                ["minimal", "replica", "logical"]
                    .iter()
                    .position(|l| *l == level)
            };
            (rank(theirs) >= rank(ours), CheckStatus::Fail)
        }
    }
}

fn names(list: &str) -> BTreeSet<&str> {
    let names = list.split(',').map(|n| n.trim().trim_matches('"'));
    names.filter(|n| !n.is_empty()).collect()
}

/// Whether a server listens to its own host alone.
fn is_local(addresses: &str) -> bool {
    names(addresses)
        .iter()
        .all(|a| *a == "localhost" || a.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback()))
}

/// An index that was made with one version of a library and is read with another finds rows no more.
fn collations(to: Side<'_>) -> CheckItem {
    const NAME: &str = "drift/collations";
    let (site, server) = to;
    let [first, rest @ ..] = server.collations.as_slice() else {
        return CheckItem::ok(
            NAME,
            format!("collations at {site} have the versions that indexes were made with"),
        );
    };
    let more = match rest.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    CheckItem::bad(
        NAME,
        CheckStatus::Fail,
        format!(
            "{} was recorded with version {}, the library at {site} has {}{more}: after a promotion indexes over text \
             may miss rows or let in the same twice",
            first.name, first.recorded, first.actual
        ),
        format!(
            "give {site} the same operating system libraries (glibc, ICU) as the primary; else plan to run REINDEX and \
             ALTER COLLATION … REFRESH VERSION after a promotion"
        ),
    )
}

/// The catalogue comes with replication, the libraries do not.
fn extensions(from: Side<'_>, to: Side<'_>) -> Vec<CheckItem> {
    const NAME: &str = "drift/extensions";
    let mut all = Vec::new();
    let installed: BTreeSet<(&String, &String)> = from.1.extensions.values().flatten().collect();
    for (name, version) in &installed {
        let versions = to.1.available.get(*name);
        if versions.is_some_and(|v| v.contains(version)) {
            continue;
        }
        let (status, detail) = match versions {
            None => (
                CheckStatus::Fail,
                format!(
                    "extension {name} is used at {} and not installed at {}: what uses it fails after a promotion",
                    from.0, to.0
                ),
            ),
            Some(versions) => (
                CheckStatus::Warn,
                format!(
                    "extension {name} is used at {} in version {version}; {} has {}",
                    from.0,
                    to.0,
                    versions.join(", ")
                ),
            ),
        };
        let fix = format!(
            "install the package of {name} at {} in the primary's version",
            to.0
        );
        all.push(CheckItem::bad(
            format!("{NAME}/{name}"),
            status,
            detail,
            fix,
        ));
    }
    for (database, reason) in &from.1.closed {
        all.push(CheckItem::untold(
            format!("{NAME}/{database}"),
            format!(
                "which extensions database {database} uses at {} cannot be seen: {reason}",
                from.0
            ),
            "let the role of the probes connect to it",
        ));
    }
    if all.is_empty() {
        let count = installed.len();
        all.push(CheckItem::ok(
            NAME,
            format!(
                "all {count} extensions that {} uses are there at {}",
                from.0, to.0
            ),
        ));
    }
    all
}

/// Replication takes roles along, but not who may log in from where.
fn hba(from: Side<'_>, to: Side<'_>) -> CheckItem {
    const NAME: &str = "drift/hba";
    let (ours, theirs) = (&from.1.hba, &to.1.hba);
    if let Some(reason) = from.1.hba_hidden.as_ref().or(to.1.hba_hidden.as_ref()) {
        return CheckItem::untold(
            NAME,
            format!("who may log in from where cannot be held against each other: {reason}"),
            "on the primary: GRANT SELECT ON pg_hba_file_rules and EXECUTE ON FUNCTION pg_hba_file_rules() to the role of \
             the probes",
        );
    }
    if let Some(error) = theirs.iter().find_map(|rule| rule.error.as_ref()) {
        return CheckItem::bad(
            NAME,
            CheckStatus::Fail,
            format!("pg_hba.conf at {} cannot be used: {error}", to.0),
            "correct it before the server is started the next time",
        );
    }
    let known: BTreeSet<_> = theirs.iter().map(|r| r.text.as_str()).collect();
    let clients = ours
        .iter()
        .map(|r| r.text.as_str())
        .filter(|t| !t.contains(" replication "));
    let missing: Vec<_> = clients.filter(|t| !known.contains(t)).collect();
    match missing.as_slice() {
        [] => CheckItem::ok(
            NAME,
            format!("whoever may log in at {} may do so at {}", from.0, to.0),
        ),
        [first, ..] => CheckItem::bad(
            NAME,
            CheckStatus::Warn,
            format!(
                "{} lines of pg_hba.conf at {} are not at {}, such as `{first}`: who relies on them is turned away after \
                 a promotion",
                missing.len(),
                from.0,
                to.0
            ),
            format!(
                "add what clients need to pg_hba.conf at {}, then SELECT pg_reload_conf()",
                to.0
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
