//! The changes that turn one record set into another, as one batch: what can stay stays, with its comments and tags.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::api::ApiRecord;
use crate::{dns::rrset, model::service::RecordKind, port::dns::RecordSet};

/// What Cloudflare calls an automatic TTL; records behind the proxy have no other.
pub const AUTOMATIC: u32 = 1;

/// What resolvers see where the TTL is automatic, in seconds.
pub const AUTOMATIC_TTL: u32 = 300;

/// The set that records make, with the TTL that resolvers see.
///
/// # Errors
/// Where a value does not fit the type.
pub fn set(kind: RecordKind, records: &[ApiRecord]) -> Result<RecordSet, rrset::ValueError> {
    let contents: Vec<String> = records.iter().map(|r| r.content.clone()).collect();
    let ttl = |r: &ApiRecord| {
        if r.ttl == AUTOMATIC {
            AUTOMATIC_TTL
        } else {
            r.ttl
        }
    };
    Ok(RecordSet {
        values: rrset::canonical(kind, &contents)?,
        ttl: records.iter().map(ttl).min().unwrap_or(0),
    })
}

/// The batch that makes `want` of these records; none where nothing is to be changed. Executed by Cloudflare as
/// deletions, changes, additions, in one transaction.
#[must_use]
pub fn batch(
    name: &str,
    kind: RecordKind,
    records: &[ApiRecord],
    want: &RecordSet,
) -> Option<Value> {
    let proxied = records.iter().any(|r| r.proxied);
    let ttl = if proxied { AUTOMATIC } else { want.ttl };
    let mut missing: BTreeSet<&String> = want.values.iter().collect();
    let (mut patches, mut spare) = (Vec::new(), Vec::new());
    for record in records {
        let value = rrset::canonical(kind, [&record.content])
            .ok()
            .and_then(|v| v.into_iter().next());
        match value {
            Some(value) if missing.remove(&value) => {
                if record.ttl != ttl {
                    patches.push(json!({"id": record.id, "ttl": ttl}));
                }
            }
            Some(_) | None => spare.push(record),
        }
    }
    let mut spare = spare.into_iter();
    let mut posts = Vec::new();
    for value in missing {
        let content = value.trim_end_matches('.');
        match spare.next() {
            Some(record) => {
                patches.push(json!({"id": record.id, "content": content, "ttl": ttl}));
            }
            None => posts.push(json!({
                "type": kind.to_string(), "name": name, "content": content,
                "ttl": ttl, "proxied": proxied,
            })),
        }
    }
    let deletes: Vec<Value> = spare.map(|r| json!({"id": r.id})).collect();
    if deletes.is_empty() && patches.is_empty() && posts.is_empty() {
        return None;
    }
    Some(json!({"deletes": deletes, "patches": patches, "posts": posts}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, content: &str, ttl: u32, proxied: bool) -> ApiRecord {
        ApiRecord {
            id: id.into(),
            name: "app.example.com".into(),
            kind: "A".into(),
            content: content.into(),
            ttl,
            proxied,
        }
    }

    fn want(values: &[&str], ttl: u32) -> RecordSet {
        RecordSet {
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            ttl,
        }
    }

    fn made(records: &[ApiRecord], want: &RecordSet) -> Option<Value> {
        batch("app.example.com", RecordKind::A, records, want)
    }

    #[test]
    fn one_for_one_is_one_change() {
        let there = [record("a", "192.0.2.1", 300, false)];
        assert_eq!(
            made(&there, &want(&["198.51.100.1"], 60)),
            Some(json!({"deletes": [], "posts": [],
                "patches": [{"id": "a", "content": "198.51.100.1", "ttl": 60}]}))
        );
        assert_eq!(made(&there, &want(&["192.0.2.1"], 300)), None);
    }

    #[test]
    fn more_and_fewer() {
        let there = [
            record("a", "192.0.2.1", 300, false),
            record("b", "192.0.2.2", 300, false),
        ];
        assert_eq!(
            made(&there, &want(&["192.0.2.2"], 60)),
            Some(json!({"deletes": [{"id": "a"}], "posts": [],
                "patches": [{"id": "b", "ttl": 60}]}))
        );
        let batch = made(&there[..1], &want(&["192.0.2.8", "192.0.2.9"], 60)).unwrap();
        assert_eq!(batch["patches"][0]["content"], "192.0.2.8");
        assert_eq!(batch["posts"][0]["content"], "192.0.2.9");
    }

    #[test]
    fn the_proxy_stays_and_its_ttl_is_automatic() {
        let there = [record("a", "192.0.2.1", 1, true)];
        let batch = made(&there, &want(&["192.0.2.8", "192.0.2.9"], 60)).unwrap();
        assert_eq!(batch["patches"][0]["ttl"], 1);
        assert_eq!(batch["patches"][0].get("proxied"), None);
        assert_eq!(batch["posts"][0]["proxied"], true);
        assert_eq!(
            set(RecordKind::A, &there).unwrap(),
            want(&["192.0.2.1"], AUTOMATIC_TTL)
        );
    }

    #[test]
    fn names_have_no_final_dot_there() {
        let there = [ApiRecord {
            kind: "CNAME".into(),
            ..record("a", "Old.example.net", 300, false)
        }];
        assert_eq!(
            set(RecordKind::CNAME, &there).unwrap(),
            want(&["old.example.net."], 300)
        );
        let to = want(&["new.example.net."], 60);
        let batch = batch("app.example.com", RecordKind::CNAME, &there, &to).unwrap();
        assert_eq!(batch["patches"][0]["content"], "new.example.net");
    }
}
