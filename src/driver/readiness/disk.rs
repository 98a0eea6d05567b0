//! Free disk at the sites: what their guards see, against what the databases take.

use std::collections::BTreeMap;

use super::server::Server;
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        guard::FirstHand,
        id::SiteName,
        service::Service,
        span::Span,
    },
    port::guard::Guards,
};

/// What a guard said longer ago says nothing of now.
const FRESH: Span = Span::from_secs(15);
/// Less than this is little for any database.
const LITTLE: u64 = 1 << 30;
/// Less than one part of so many of what the databases take is little.
const PART: u64 = 10;

/// An item for each site with a database.
#[must_use]
pub fn check(
    service: &Service,
    guards: Option<&dyn Guards>,
    servers: &BTreeMap<SiteName, Server>,
) -> Vec<CheckItem> {
    let sites = service.sites.iter().map(|s| &s.name);
    let guarded = |site| {
        service
            .guards
            .as_ref()
            .is_some_and(|g| g.sites.contains_key(site))
    };
    sites
        .filter(|site| servers.contains_key(*site) || guarded(*site))
        .map(|site| {
            let report = guards.and_then(|g| g.heard_within(site, FRESH));
            let databases = servers.get(site).and_then(|s| s.size);
            item(site, databases, report.map(|r| r.seen))
        })
        .collect()
}

/// What there is to say of a site's disk, from what its guard saw.
fn item(site: &SiteName, databases: Option<u64>, seen: Option<FirstHand>) -> CheckItem {
    let name = format!("disk/{site}");
    let taken = databases.map_or_else(
        || "what its databases take is not known".to_owned(),
        |taken| format!("its databases take {}", bytes(taken)),
    );
    let fix = format!("make room on the disk of the data at {site}");
    let seen = seen.unwrap_or_default();
    if seen.is_read_only {
        return CheckItem::bad(
            name,
            CheckStatus::Fail,
            format!("the file system of the data at {site} takes no writes"),
            "look into the host's kernel log, and mount it for writing",
        );
    }
    if seen.is_full {
        let text = format!("the disk of the data at {site} is full; {taken}");
        return CheckItem::bad(name, CheckStatus::Fail, text, fix);
    }
    let Some(room) = seen.disk else {
        return CheckItem::untold(
            name,
            format!("how much disk is free at {site} cannot be told; {taken}"),
            "let a guard stand there (`failover help guards`), or name a command in readiness.compare with `atLeast`",
        );
    };
    let (free, whole) = (bytes(room.free), bytes(room.size));
    let text = format!("{free} of {whole} are free at {site}; {taken}");
    if room.free < LITTLE.max(databases.unwrap_or(0) / PART) {
        CheckItem::bad(name, CheckStatus::Warn, text, fix)
    } else {
        CheckItem::ok(name, text)
    }
}

/// `1.5 GiB`.
fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    let unit = UNITS.iter().find(|(_, size)| count >= *size);
    unit.map_or_else(
        || format!("{count} bytes"),
        |(word, size)| format!("{}.{} {word}", count / size, count % size * 10 / size),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::guard::Room;

    #[test]
    fn free_disk_is_held_against_what_the_databases_take() {
        let of = |databases, seen: Option<FirstHand>| item(&"ham".into(), databases, seen);
        let free = |free| {
            let size = 1 << 40;
            Some(FirstHand {
                disk: Some(Room { free, size }),
                ..FirstHand::default()
            })
        };
        assert_eq!(of(Some(50 << 30), free(20 << 30)).status, CheckStatus::Ok);
        let little = of(Some(500 << 30), free(20 << 30));
        assert_eq!(little.status, CheckStatus::Warn);
        assert_eq!(
            little.detail,
            "20.0 GiB of 1.0 TiB are free at ham; its databases take 500.0 GiB"
        );
        assert_eq!(of(None, free(1 << 29)).status, CheckStatus::Warn);
        let full = FirstHand {
            is_full: true,
            ..FirstHand::default()
        };
        assert_eq!(of(None, Some(full)).status, CheckStatus::Fail);
        let read_only = FirstHand {
            is_read_only: true,
            ..FirstHand::default()
        };
        assert_eq!(of(None, Some(read_only)).status, CheckStatus::Fail);
        // Nobody stands there, or its guard is of an earlier version.
        for nobody_tells in [of(Some(5), None), of(Some(5), Some(FirstHand::default()))] {
            assert_eq!(nobody_tells.status, CheckStatus::Unknown);
            assert!(!nobody_tells.hinders());
        }
    }
}
