//! The records of a zone, and how an update changes them (RFC 2136 §3). No IO: a change gives a new content.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::{
    op::ResponseCode,
    rr::{
        DNSClass, LowerName, Name, RData, Record, RecordData as _, RecordSet, RecordType, RrKey,
        rdata::SOA,
    },
};

/// All records of a zone. Always with exactly one SOA, at the apex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    origin: LowerName,
    sets: BTreeMap<RrKey, Set>,
}

/// The data of one name and type.
#[derive(Clone, Debug)]
struct Set {
    ttl: u32,
    data: Vec<RData>,
}

impl PartialEq for Set {
    /// The order of the data is without meaning, the TTL is not.
    fn eq(&self, other: &Self) -> bool {
        self.ttl == other.ttl && same(&self.data, &other.data)
    }
}

impl Eq for Set {}

/// Whether two sets hold the same data, no more, no less.
fn same(one: &[RData], other: &[RData]) -> bool {
    one.len() == other.len()
        && one.iter().all(|d| other.contains(d))
        && other.iter().all(|d| one.contains(d))
}

/// Why records are no zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// There is not exactly one SOA at the apex.
    #[error("the zone {0} needs exactly one SOA record, at its apex")]
    Soa(String),
    /// There is no NS at the apex.
    #[error("the zone {0} needs an NS record at its apex")]
    Ns(String),
    /// A record lies outside of the zone.
    #[error("{name} does not lie in the zone {zone}")]
    Outside {
        /// The record's name.
        name: String,
        /// The zone.
        zone: String,
    },
    /// A CNAME stands beside other records.
    #[error("{0} has a CNAME beside other records")]
    Cname(String),
}

impl Content {
    /// Gathers records into a zone.
    ///
    /// # Errors
    /// Where they are none.
    pub fn new(
        origin: &Name,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, ContentError> {
        let mut content = Self {
            origin: LowerName::new(origin),
            sets: BTreeMap::new(),
        };
        for record in records {
            if !origin.zone_of(&record.name) {
                return Err(ContentError::Outside {
                    name: record.name.to_string(),
                    zone: origin.to_string(),
                });
            }
            content.insert(record);
        }
        let soas = content
            .sets
            .keys()
            .filter(|key| key.record_type == RecordType::SOA);
        if content.soa().is_none() || soas.count() != 1 {
            return Err(ContentError::Soa(origin.to_string()));
        }
        if content.set(&content.origin, RecordType::NS).is_empty() {
            return Err(ContentError::Ns(origin.to_string()));
        }
        let names: BTreeSet<&LowerName> = content.sets.keys().map(RrKey::name).collect();
        for name in names {
            let cnames = content.set(name, RecordType::CNAME).len();
            if cnames > 1 || (cnames == 1 && content.types(name).count() > 1) {
                return Err(ContentError::Cname(name.to_string()));
            }
        }
        Ok(content)
    }

    /// The zone as it is kept, with the documents' name servers, and with those of the documents' names that do not
    /// exist yet. Nothing else of what is kept is changed: it may be in the middle of a failover. Without anything
    /// kept, the documents' records are the zone.
    ///
    /// # Errors
    /// Where the documents' records are no zone.
    pub fn seeded(
        kept: Option<&Self>,
        origin: &Name,
        seed: &[Record],
    ) -> Result<Self, ContentError> {
        let seed = Self::new(origin, seed.to_vec())?;
        let Some(kept) = kept else {
            return Ok(seed);
        };
        let mut new = kept.clone();
        let servers = RrKey::new(kept.origin.clone(), RecordType::NS);
        if let Some(set) = seed.sets.get(&servers) {
            new.sets.insert(servers, set.clone());
        }
        for (key, set) in seed.sets {
            let taken = kept.types(key.name()).any(|there| {
                there == key.record_type
                    || (there == RecordType::CNAME) != (key.record_type == RecordType::CNAME)
            });
            if !taken {
                new.sets.insert(key, set);
            }
        }
        if new != *kept {
            new.raise_serial();
        }
        Ok(new)
    }

    /// Every record, in the canonical order of names.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.sets.iter().flat_map(|(key, set)| {
            set.data.iter().map(|data| {
                Record::from_rdata(Name::from(key.name().clone()), set.ttl, data.clone())
            })
        })
    }

    /// The data of one name and type.
    #[must_use]
    pub fn set(&self, name: &LowerName, kind: RecordType) -> &[RData] {
        self.sets
            .get(&RrKey::new(name.clone(), kind))
            .map_or(&[], |set| set.data.as_slice())
    }

    /// The zone's serial.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.soa().map_or(0, |soa| soa.serial)
    }

    /// As the server's store wants it.
    #[must_use]
    pub fn served(&self) -> BTreeMap<RrKey, RecordSet> {
        let serial = self.serial();
        self.sets
            .iter()
            .map(|(key, set)| {
                let owner = Name::from(key.name().clone());
                let mut served = RecordSet::new(owner.clone(), key.record_type, serial);
                for data in &set.data {
                    let record = Record::from_rdata(owner.clone(), set.ttl, data.clone());
                    served.insert(record, serial);
                }
                (key.clone(), served)
            })
            .collect()
    }

    /// Performs an update: prerequisites (§3.2), scan of the whole update section (§3.4.1), then all changes
    /// (§3.4.2) and a higher serial where anything changed (§3.6). All or nothing.
    ///
    /// # Errors
    /// The code for the requestor; nothing was changed.
    pub fn updated(
        &self,
        prerequisites: &[Record],
        updates: &[Record],
    ) -> Result<Self, ResponseCode> {
        self.require(prerequisites)?;
        for update in updates {
            self.scan(update)?;
        }
        let mut new = self.clone();
        for update in updates {
            new.change(update);
        }
        if new != *self && new.serial() == self.serial() {
            new.raise_serial();
        }
        Ok(new)
    }

    fn soa(&self) -> Option<&SOA> {
        match self.set(&self.origin, RecordType::SOA) {
            [RData::SOA(soa)] => Some(soa),
            _ => None,
        }
    }

    fn types(&self, name: &LowerName) -> impl Iterator<Item = RecordType> {
        self.sets
            .keys()
            .filter(move |key| key.name() == name)
            .map(|key| key.record_type)
    }

    /// §3.2: every prerequisite must hold.
    fn require(&self, prerequisites: &[Record]) -> Result<(), ResponseCode> {
        let mut wanted: BTreeMap<RrKey, Vec<RData>> = BTreeMap::new();
        for one in prerequisites {
            if one.ttl != 0 {
                return Err(ResponseCode::FormErr);
            }
            let name = self.inside(&one.name)?;
            let kind = one.record_type();
            match one.dns_class {
                DNSClass::ANY | DNSClass::NONE => {
                    if !one.data.is_update() {
                        return Err(ResponseCode::FormErr);
                    }
                    self.exists(&name, kind, one.dns_class == DNSClass::ANY)?;
                }
                DNSClass::IN => wanted
                    .entry(RrKey::new(name, kind))
                    .or_default()
                    .push(one.data.clone()),
                DNSClass::CH | DNSClass::HS | DNSClass::OPT(_) | DNSClass::Unknown(_) => {
                    return Err(ResponseCode::FormErr);
                }
            }
        }
        for (key, data) in wanted {
            if !same(self.set(key.name(), key.record_type), &data) {
                return Err(ResponseCode::NXRRSet);
            }
        }
        Ok(())
    }

    fn exists(&self, name: &LowerName, kind: RecordType, wanted: bool) -> Result<(), ResponseCode> {
        let (there, missing, present) = if kind == RecordType::ANY {
            (
                self.types(name).next().is_some(),
                ResponseCode::NXDomain,
                ResponseCode::YXDomain,
            )
        } else {
            (
                !self.set(name, kind).is_empty(),
                ResponseCode::NXRRSet,
                ResponseCode::YXRRSet,
            )
        };
        match (there, wanted) {
            (true, true) | (false, false) => Ok(()),
            (false, true) => Err(missing),
            (true, false) => Err(present),
        }
    }

    /// §3.4.1: whatever is wrong anywhere stops everything.
    fn scan(&self, update: &Record) -> Result<(), ResponseCode> {
        self.inside(&update.name)?;
        let kind = update.record_type();
        let meta = matches!(
            kind,
            RecordType::ANY
                | RecordType::AXFR
                | RecordType::IXFR
                | RecordType::OPT
                | RecordType::TSIG
                | RecordType::ZERO
        );
        let fits = match update.dns_class {
            DNSClass::IN => !meta && !update.data.is_update(),
            DNSClass::ANY => {
                update.ttl == 0 && update.data.is_update() && (!meta || kind == RecordType::ANY)
            }
            DNSClass::NONE => update.ttl == 0 && !meta,
            DNSClass::CH | DNSClass::HS | DNSClass::OPT(_) | DNSClass::Unknown(_) => false,
        };
        if fits {
            Ok(())
        } else {
            Err(ResponseCode::FormErr)
        }
    }

    /// §3.4.2: one change. SOA and the last NS at the apex stay.
    fn change(&mut self, update: &Record) {
        let name = LowerName::new(&update.name);
        let kind = update.record_type();
        let apex = name == self.origin;
        let kept = apex && (kind == RecordType::SOA || kind == RecordType::NS);
        match update.dns_class {
            DNSClass::ANY if kind == RecordType::ANY => self.sets.retain(|key, _| {
                key.name() != &name
                    || (apex && matches!(key.record_type, RecordType::SOA | RecordType::NS))
            }),
            DNSClass::ANY if !kept => {
                self.sets.remove(&RrKey::new(name, kind));
            }
            DNSClass::NONE if kind != RecordType::SOA => {
                let last = kept && self.set(&name, kind).len() < 2;
                let key = RrKey::new(name, kind);
                if !last && let Some(set) = self.sets.get_mut(&key) {
                    set.data.retain(|data| *data != update.data);
                    if set.data.is_empty() {
                        self.sets.remove(&key);
                    }
                }
            }
            DNSClass::IN => self.add(update.clone(), &name, kind, apex),
            // What stays at the apex, and what the scan has let nobody send.
            DNSClass::ANY
            | DNSClass::NONE
            | DNSClass::CH
            | DNSClass::HS
            | DNSClass::OPT(_)
            | DNSClass::Unknown(_) => {}
        }
    }

    fn add(&mut self, record: Record, name: &LowerName, kind: RecordType, apex: bool) {
        if kind == RecordType::SOA {
            if let (true, RData::SOA(new)) = (apex, &record.data)
                && newer(new.serial, self.serial())
            {
                self.insert(record);
            }
            return;
        }
        let collides = self
            .types(name)
            .any(|other| (other == RecordType::CNAME) != (kind == RecordType::CNAME));
        if !collides {
            self.insert(record);
        }
    }

    /// Adds a record. A CNAME and an SOA take the place of the one before (§1.1.5), and the newest TTL holds for the
    /// whole set (RFC 2181 §5.2).
    fn insert(&mut self, record: Record) {
        let kind = record.record_type();
        let key = RrKey::new(LowerName::new(&record.name), kind);
        let set = self.sets.entry(key).or_insert(Set {
            ttl: record.ttl,
            data: Vec::new(),
        });
        if matches!(kind, RecordType::CNAME | RecordType::SOA) {
            set.data.clear();
        }
        set.ttl = record.ttl;
        if !set.data.contains(&record.data) {
            set.data.push(record.data);
        }
    }

    fn raise_serial(&mut self) {
        let key = RrKey::new(self.origin.clone(), RecordType::SOA);
        if let Some(set) = self.sets.get_mut(&key)
            && let [RData::SOA(soa)] = set.data.as_mut_slice()
        {
            // Zero is left out: some secondaries take it for "no serial" (RFC 2136 §3.6 allows the choice).
            soa.serial = soa.serial.checked_add(1).unwrap_or(1);
        }
    }

    fn inside(&self, name: &Name) -> Result<LowerName, ResponseCode> {
        let name = LowerName::new(name);
        if self.origin.zone_of(&name) {
            Ok(name)
        } else {
            Err(ResponseCode::NotZone)
        }
    }
}

/// Whether a serial comes after another (RFC 1982).
fn newer(new: u32, old: u32) -> bool {
    let ahead = new.wrapping_sub(old);
    ahead != 0 && ahead < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dns::{rrset, update::Change},
        model::service::RecordKind,
        port::dns,
    };
    use hickory_proto::rr::rdata::{NS, TXT};

    fn name(text: &str) -> Name {
        rrset::name(text).unwrap()
    }

    fn a(owner: &str, ttl: u32, value: &str) -> Record {
        let data = rrset::rdata(RecordKind::A, value).unwrap();
        Record::from_rdata(name(owner), ttl, data)
    }

    fn cname(owner: &str, target: &str) -> Record {
        let data = rrset::rdata(RecordKind::CNAME, target).unwrap();
        Record::from_rdata(name(owner), 60, data)
    }

    fn classed(mut record: Record, class: DNSClass, ttl: u32) -> Record {
        record.dns_class = class;
        record.ttl = ttl;
        record
    }

    fn bare(owner: &str, kind: RecordType, class: DNSClass) -> Record {
        classed(Record::update0(name(owner), 0, kind), class, 0)
    }

    fn soa(serial: u32) -> Record {
        let soa = SOA::new(
            name("ns.demo.test"),
            name("root.demo.test"),
            serial,
            1,
            1,
            1,
            1,
        );
        Record::from_rdata(name("demo.test"), 60, RData::SOA(soa))
    }

    fn ns(target: &str) -> Record {
        Record::from_rdata(name("demo.test"), 60, RData::NS(NS(name(target))))
    }

    fn zone() -> Content {
        let txt = RData::TXT(TXT::new(vec!["stays".to_owned()]));
        Content::new(
            &name("demo.test"),
            [
                soa(7),
                ns("ns.demo.test"),
                a("app.demo.test", 300, "192.0.2.1"),
                a("app.demo.test", 300, "192.0.2.2"),
                Record::from_rdata(name("app.demo.test"), 60, txt),
                cname("www.demo.test", "app.demo.test"),
            ],
        )
        .unwrap()
    }

    fn held(zone: &Content, owner: &str, kind: RecordKind) -> String {
        let owner = name(owner);
        let records: Vec<Record> = zone.records().collect();
        rrset::described(&rrset::pick(&records, &owner, kind))
    }

    fn set(values: &[&str], ttl: u32) -> dns::RecordSet {
        dns::RecordSet {
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            ttl,
        }
    }

    #[test]
    fn a_swap_touches_one_set_and_raises_the_serial() {
        let zone = zone();
        let change = Change::swap(
            &name("app.demo.test"),
            RecordKind::A,
            &set(&["192.0.2.2", "192.0.2.1"], 0),
            &set(&["198.51.100.1"], 60),
        )
        .unwrap();
        let new = zone
            .updated(&change.prerequisites, &change.updates)
            .unwrap();
        assert_eq!(
            held(&new, "app.demo.test", RecordKind::A),
            "198.51.100.1 (TTL 60 s)"
        );
        assert_eq!(new.serial(), 8);
        let other = |z: &Content| {
            z.records()
                .filter(|r| !matches!(r.record_type(), RecordType::A | RecordType::SOA))
                .collect::<Vec<_>>()
        };
        assert_eq!(other(&new), other(&zone));
        assert_eq!(
            new.updated(&change.prerequisites, &change.updates),
            Err(ResponseCode::NXRRSet)
        );
    }

    #[test]
    fn prerequisites_compare_whole_sets() {
        let zone = zone();
        let one = classed(a("app.demo.test", 0, "192.0.2.1"), DNSClass::IN, 0);
        let two = classed(a("app.demo.test", 0, "192.0.2.2"), DNSClass::IN, 0);
        let three = classed(a("app.demo.test", 0, "192.0.2.3"), DNSClass::IN, 0);
        assert_eq!(zone.require(&[one.clone(), two.clone()]), Ok(()));
        assert_eq!(
            zone.require(std::slice::from_ref(&one)),
            Err(ResponseCode::NXRRSet)
        );
        assert_eq!(
            zone.require(&[one.clone(), two, three]),
            Err(ResponseCode::NXRRSet)
        );
        assert_eq!(
            zone.require(&[one.clone(), one.clone()]),
            Err(ResponseCode::NXRRSet)
        );
        assert_eq!(
            zone.require(&[classed(one, DNSClass::IN, 5)]),
            Err(ResponseCode::FormErr)
        );
    }

    #[test]
    fn prerequisites_about_existence() {
        let zone = zone();
        let need = |owner, kind, class| zone.require(&[bare(owner, kind, class)]);
        let (any, none) = (DNSClass::ANY, DNSClass::NONE);
        assert_eq!(need("app.demo.test", RecordType::ANY, any), Ok(()));
        assert_eq!(
            need("no.demo.test", RecordType::ANY, any),
            Err(ResponseCode::NXDomain)
        );
        assert_eq!(
            need("app.demo.test", RecordType::AAAA, any),
            Err(ResponseCode::NXRRSet)
        );
        assert_eq!(
            need("app.demo.test", RecordType::A, none),
            Err(ResponseCode::YXRRSet)
        );
        assert_eq!(
            need("app.demo.test", RecordType::ANY, none),
            Err(ResponseCode::YXDomain)
        );
        assert_eq!(need("no.demo.test", RecordType::ANY, none), Ok(()));
        assert_eq!(
            need("other.test", RecordType::A, none),
            Err(ResponseCode::NotZone)
        );
    }

    #[test]
    fn one_bad_record_stops_the_whole_update() {
        let zone = zone();
        let good = a("new.demo.test", 60, "192.0.2.9");
        let outside = a("app.other.test", 60, "192.0.2.9");
        assert_eq!(
            zone.updated(&[], &[good.clone(), outside]),
            Err(ResponseCode::NotZone)
        );
        let chaos = classed(good.clone(), DNSClass::CH, 60);
        assert_eq!(
            zone.updated(&[], &[good, chaos]),
            Err(ResponseCode::FormErr)
        );
        let delete = classed(
            bare("app.demo.test", RecordType::A, DNSClass::ANY),
            DNSClass::ANY,
            60,
        );
        assert_eq!(zone.updated(&[], &[delete]), Err(ResponseCode::FormErr));
    }

    #[test]
    fn the_apex_keeps_its_soa_and_its_last_ns() {
        let zone = zone();
        let all = zone
            .updated(&[], &[bare("demo.test", RecordType::ANY, DNSClass::ANY)])
            .unwrap();
        assert_eq!(all, zone);
        let last = classed(ns("ns.demo.test"), DNSClass::NONE, 0);
        assert_eq!(
            zone.updated(&[], std::slice::from_ref(&last)).unwrap(),
            zone
        );
        let second = zone.updated(&[], &[ns("ns2.demo.test"), last]).unwrap();
        assert_eq!(
            second
                .set(&LowerName::new(&name("demo.test")), RecordType::NS)
                .len(),
            1
        );
    }

    #[test]
    fn a_cname_and_other_records_never_meet() {
        let zone = zone();
        assert_eq!(
            zone.updated(&[], &[cname("app.demo.test", "b.test")])
                .unwrap(),
            zone
        );
        assert_eq!(
            zone.updated(&[], &[a("www.demo.test", 60, "192.0.2.9")])
                .unwrap(),
            zone
        );
        let moved = zone
            .updated(&[], &[cname("www.demo.test", "b.test")])
            .unwrap();
        assert_eq!(
            held(&moved, "www.demo.test", RecordKind::CNAME),
            "b.test. (TTL 60 s)"
        );
    }

    #[test]
    fn a_changed_ttl_is_a_change() {
        let zone = zone();
        let new = zone
            .updated(&[], &[a("app.demo.test", 60, "192.0.2.1")])
            .unwrap();
        assert_eq!(new.serial(), 8);
        assert_eq!(
            held(&new, "app.demo.test", RecordKind::A),
            "192.0.2.1, 192.0.2.2 (TTL 60 s)"
        );
    }

    #[test]
    fn a_serial_only_rises() {
        let zone = zone();
        assert_eq!(zone.updated(&[], &[soa(7)]).unwrap().serial(), 7);
        assert_eq!(zone.updated(&[], &[soa(6)]).unwrap().serial(), 7);
        assert_eq!(zone.updated(&[], &[soa(90)]).unwrap().serial(), 90);
        let full = zone
            .updated(&[], &[soa(0x8000_0000), soa(u32::MAX)])
            .unwrap();
        assert_eq!(full.serial(), u32::MAX);
        let wrapped = full
            .updated(&[], &[a("new.demo.test", 60, "192.0.2.9")])
            .unwrap();
        assert_eq!(wrapped.serial(), 1);
    }

    #[test]
    fn what_changes_nothing_keeps_the_serial() {
        let zone = zone();
        let same = zone
            .updated(&[], &[a("app.demo.test", 300, "192.0.2.2")])
            .unwrap();
        assert_eq!(same.serial(), 7);
    }

    #[test]
    fn what_is_kept_goes_before_what_the_documents_say() {
        let kept = zone();
        let origin = name("demo.test");
        let seed = [
            soa(1),
            ns("other.demo.test"),
            a("app.demo.test", 60, "198.51.100.9"),
            a("www.demo.test", 60, "198.51.100.9"),
            a("new.demo.test", 60, "198.51.100.9"),
        ];
        let new = Content::seeded(Some(&kept), &origin, &seed).unwrap();
        assert_eq!(
            held(&new, "app.demo.test", RecordKind::A),
            "192.0.2.1, 192.0.2.2 (TTL 300 s)"
        );
        assert_eq!(held(&new, "www.demo.test", RecordKind::A), "no such record");
        assert_eq!(
            held(&new, "new.demo.test", RecordKind::A),
            "198.51.100.9 (TTL 60 s)"
        );
        assert_eq!(new.serial(), 8);
        assert_eq!(
            new.set(&LowerName::new(&origin), RecordType::NS),
            [RData::NS(NS(name("other.demo.test")))]
        );
        assert_eq!(Content::seeded(Some(&new), &origin, &seed).unwrap(), new);
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        let origin = name("demo.test");
        assert!(matches!(
            Content::new(&origin, [ns("ns.demo.test")]),
            Err(ContentError::Soa(_))
        ));
        assert!(matches!(
            Content::new(&origin, [soa(1)]),
            Err(ContentError::Ns(_))
        ));
        let beside = [
            soa(1),
            ns("ns.demo.test"),
            cname("w.demo.test", "b.test"),
            a("w.demo.test", 1, "192.0.2.1"),
        ];
        assert!(matches!(
            Content::new(&origin, beside),
            Err(ContentError::Cname(_))
        ));
    }
}
