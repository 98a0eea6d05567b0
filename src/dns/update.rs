//! The one update message that this program sends (RFC 2136): put this set in the place of that one.
//!
//! Prerequisites make it a compare-and-swap at the server: the whole message is refused where the set is no longer
//! what was read. They compare values only, a TTL is never part of them (RFC 2136 §2.4.2).

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{DNSClass, Name, Record, RecordType},
};

use super::rrset::{self, ValueError};
use crate::{model::service::RecordKind, port::dns::RecordSet};

/// Prerequisites and updates of one swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What must hold for anything to be changed.
    pub prerequisites: Vec<Record>,
    /// What is then changed.
    pub updates: Vec<Record>,
}

impl Change {
    /// Puts `want` in the place of `expect`; either may be empty. Only this name and type is touched.
    ///
    /// # Errors
    /// Where a value does not fit the type.
    pub fn swap(
        owner: &Name,
        kind: RecordKind,
        expect: &RecordSet,
        want: &RecordSet,
    ) -> Result<Self, ValueError> {
        let mut prerequisites = rows(owner, kind, expect, 0)?;
        if prerequisites.is_empty() {
            prerequisites.push(bare(owner, rrset::record_type(kind), DNSClass::NONE));
        }
        let mut updates = vec![bare(owner, rrset::record_type(kind), DNSClass::ANY)];
        updates.extend(rows(owner, kind, want, want.ttl)?);
        Ok(Self {
            prerequisites,
            updates,
        })
    }

    /// A change that can never be made: it wants the zone's apex, where SOA and NS always stand, to be unused.
    /// And if a server were to ignore that, it would put what stands there in its own place.
    ///
    /// # Errors
    /// Where a value does not fit the type.
    pub fn harmless(
        zone: &Name,
        owner: &Name,
        kind: RecordKind,
        there: &RecordSet,
    ) -> Result<Self, ValueError> {
        let mut change = Self::swap(owner, kind, there, there)?;
        change.prerequisites = vec![bare(zone, RecordType::ANY, DNSClass::NONE)];
        Ok(change)
    }

    /// A change that is allowed only to who may change the set, and that changes nothing: a value that does not stand
    /// there is deleted (RFC 2136 §2.5.4, §3.4.2.4).
    ///
    /// # Errors
    /// Where a value does not fit the type.
    pub fn idle(owner: &Name, kind: RecordKind, there: &RecordSet) -> Result<Self, ValueError> {
        let mut change = Self::swap(owner, kind, there, there)?;
        let data = rrset::rdata(kind, &absent(kind, there))?;
        let mut delete = Record::from_rdata(owner.clone(), 0, data);
        delete.dns_class = DNSClass::NONE;
        change.updates = vec![delete];
        Ok(change)
    }

    /// The message for the zone's primary server.
    #[must_use]
    pub fn message(&self, zone: &Name) -> Message {
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Update);
        message.add_query(Query::query(zone.clone(), RecordType::SOA));
        message.insert_answers(self.prerequisites.clone());
        message.insert_authorities(self.updates.clone());
        message
    }
}

/// A value that a set does not hold, of those that nobody uses (RFC 5737, RFC 3849, RFC 2606).
#[must_use]
pub fn absent(kind: RecordKind, there: &RecordSet) -> String {
    let value = |n: u8| match kind {
        RecordKind::A => format!("192.0.2.{n}"),
        RecordKind::AAAA => format!("2001:db8::{n:x}"),
        RecordKind::CNAME => format!("n{n}.invalid."),
    };
    let free = (0..=u8::MAX).map(value).find(|v| !there.values.contains(v));
    free.unwrap_or_default()
}

fn rows(
    owner: &Name,
    kind: RecordKind,
    set: &RecordSet,
    ttl: u32,
) -> Result<Vec<Record>, ValueError> {
    set.values
        .iter()
        .map(|v| {
            Ok(Record::from_rdata(
                owner.clone(),
                ttl,
                rrset::rdata(kind, v)?,
            ))
        })
        .collect()
}

/// A record without data, whose class says what is meant (RFC 2136 §2.4 and §2.5).
fn bare(owner: &Name, kind: RecordType, class: DNSClass) -> Record {
    let mut record = Record::update0(owner.clone(), 0, kind);
    record.dns_class = class;
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str], ttl: u32) -> RecordSet {
        RecordSet {
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            ttl,
        }
    }

    #[test]
    fn a_swap_survives_the_wire() {
        let owner = rrset::name("app.example.com").unwrap();
        let zone = rrset::name("example.com").unwrap();
        let change = Change::swap(
            &owner,
            RecordKind::A,
            &set(&["192.0.2.1", "192.0.2.2"], 300),
            &set(&["198.51.100.1"], 60),
        )
        .unwrap();
        let bytes = change.message(&zone).to_vec().unwrap();
        let read = Message::from_vec(&bytes).unwrap();
        assert_eq!(read.answers, change.prerequisites);
        assert_eq!(read.authorities, change.updates);
        assert!(
            read.answers
                .iter()
                .all(|r| r.ttl == 0 && r.dns_class == DNSClass::IN)
        );
        assert_eq!(read.authorities[0].dns_class, DNSClass::ANY);
        assert_eq!(read.authorities[1].ttl, 60);
    }

    #[test]
    fn what_changes_nothing_deletes_what_is_not_there() {
        let owner = rrset::name("app.example.com").unwrap();
        for (kind, there, deleted) in [
            (
                RecordKind::A,
                set(&["192.0.2.0", "192.0.2.1"], 300),
                "192.0.2.2",
            ),
            (RecordKind::AAAA, set(&[], 0), "2001:db8::"),
            (RecordKind::CNAME, set(&["n0.invalid."], 60), "n1.invalid."),
        ] {
            let change = Change::idle(&owner, kind, &there).unwrap();
            assert_eq!(change.updates.len(), 1);
            assert_eq!(change.updates[0].dns_class, DNSClass::NONE);
            assert_eq!(change.updates[0].ttl, 0);
            assert_eq!(change.updates[0].data.to_string(), deleted);
        }
    }

    #[test]
    fn an_empty_expectation_is_that_no_such_set_exists() {
        let owner = rrset::name("app.example.com").unwrap();
        let change = Change::swap(
            &owner,
            RecordKind::AAAA,
            &set(&[], 0),
            &set(&["2001:db8::1"], 60),
        )
        .unwrap();
        assert_eq!(change.prerequisites.len(), 1);
        assert_eq!(change.prerequisites[0].dns_class, DNSClass::NONE);
        assert_eq!(change.prerequisites[0].record_type(), RecordType::AAAA);
    }
}
