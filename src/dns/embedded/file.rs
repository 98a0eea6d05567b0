//! A zone's file: plain zone-file text (RFC 1035 §5), one record a line, written whole or not at all.
//!
//! What has no text that reads back as the very same record stands in the generic notation of RFC 3597.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    str::FromStr as _,
};

use hickory_proto::{
    rr::{Name, RData, Record, RecordType},
    serialize::{
        binary::{BinDecoder, BinEncodable as _, BinEncoder, NameEncoding, Restrict},
        txt::Parser,
    },
};

use super::content::{Content, ContentError};
use crate::port::lock::Lock;

/// Why the zone's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the zone file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A line of it is no record.
    #[error("line {line} of the zone file {path} is no record: {text:?}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// Its records are no zone.
    #[error("the zone file {path} holds no whole zone")]
    Content {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ContentError,
    },
    /// A record cannot be written so that it reads back.
    #[error("a record of {0} cannot be kept in a zone file")]
    Unwritable(Name),
    /// It cannot be written; what stood there before still stands.
    #[error("cannot write the zone file {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It was written, but may be lost if the host fails now.
    #[error("cannot make sure that the zone file {path} is kept")]
    Sync {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another process keeps it.
    #[error("the zone file {0} is in use by another controller")]
    Locked(PathBuf),
}

/// Takes the file for this process.
///
/// # Errors
/// Where another process has it, or its folder cannot be written to.
pub fn lock(path: &Path) -> Result<Lock, FileError> {
    let wrong = |source| FileError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(wrong)?;
    }
    let lock = Lock::take(&path.with_extension("lock")).map_err(wrong)?;
    lock.ok_or_else(|| FileError::Locked(path.to_owned()))
}

/// Reads a zone; none where there is no file yet.
///
/// # Errors
/// Where it cannot be read or holds no zone.
pub fn read(path: &Path, origin: &Name) -> Result<Option<Content>, FileError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(FileError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut records = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        records.push(record(line, origin).ok_or_else(|| FileError::Line {
            path: path.to_owned(),
            line: number + 1,
            text: line.to_owned(),
        })?);
    }
    Content::new(origin, records)
        .map(Some)
        .map_err(|source| FileError::Content {
            path: path.to_owned(),
            source,
        })
}

/// Writes a zone durably: into a file beside it, which then takes its place.
///
/// # Errors
/// Where that fails; only after `Sync` the new content stands there.
pub fn write(path: &Path, origin: &Name, content: &Content) -> Result<(), FileError> {
    let mut text = format!(
        "; The zone {origin}, kept by failover. Edit it only while the controller is stopped.\n"
    );
    for record in content.records() {
        let line =
            line(&record, origin).ok_or_else(|| FileError::Unwritable(record.name.clone()))?;
        text.push_str(&line);
        text.push('\n');
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let wrong = |source| FileError::Write {
        path: path.to_owned(),
        source,
    };
    let mut beside = tempfile::NamedTempFile::new_in(folder).map_err(wrong)?;
    beside.write_all(text.as_bytes()).map_err(wrong)?;
    beside.as_file().sync_all().map_err(wrong)?;
    beside.persist(path).map_err(|e| wrong(e.error))?;
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|source| FileError::Sync {
            path: path.to_owned(),
            source,
        })
}

/// One record as a line: in its usual notation where that reads back, else in the generic one.
fn line(kept: &Record, origin: &Name) -> Option<String> {
    let same = |text: &String| {
        record(text, origin).is_some_and(|read| &read == kept && read.ttl == kept.ttl)
    };
    let head = format!("{} {} IN", kept.name.to_ascii(), kept.ttl);
    let usual = format!("{head} {} {}", kept.record_type(), kept.data);
    if !usual.contains(['\n', '\r', ';']) && same(&usual) {
        return Some(usual);
    }
    let bytes = bytes(&kept.data)?;
    let mut generic = format!(
        "{head} TYPE{} \\# {}",
        u16::from(kept.record_type()),
        bytes.len()
    );
    if !bytes.is_empty() {
        write!(generic, " {}", hex::encode(bytes)).ok()?;
    }
    same(&generic).then_some(generic)
}

fn record(line: &str, origin: &Name) -> Option<Record> {
    if let Some((head, data)) = line.split_once(" \\# ") {
        return generic(head, data);
    }
    let (_, mut sets) = Parser::new(format!("{line}\n"), None, Some(origin.clone()))
        .parse()
        .ok()?;
    let (_, set) = sets.pop_first()?;
    let mut records = set.records_without_rrsigs();
    match (records.next(), records.next(), sets.is_empty()) {
        (Some(one), None, true) => Some(one.clone()),
        _ => None,
    }
}

/// `name ttl IN TYPEn` and `length hex` (RFC 3597 §5).
fn generic(head: &str, data: &str) -> Option<Record> {
    let mut head = head.split_whitespace();
    let name = Name::from_ascii(head.next()?).ok()?;
    let ttl = head.next()?.parse().ok()?;
    if head.next()? != "IN" {
        return None;
    }
    let kind = head.next()?;
    let kind = match kind.strip_prefix("TYPE").map(str::parse::<u16>) {
        Some(Ok(number)) => RecordType::from(number),
        Some(Err(_)) | None => RecordType::from_str(kind).ok()?,
    };
    let mut data = data.split_whitespace();
    let length: u16 = data.next()?.parse().ok()?;
    let bytes = hex::decode(data.collect::<String>()).ok()?;
    if bytes.len() != usize::from(length) || head.next().is_some() {
        return None;
    }
    let mut decoder = BinDecoder::new(&bytes);
    let data = RData::read(&mut decoder, kind, Restrict::new(length)).ok()?;
    Some(Record::from_rdata(name, ttl, data))
}

fn bytes(data: &RData) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dns::rrset, model::service::RecordKind};
    use hickory_proto::rr::rdata::{CAA, MX, NS, NULL, SOA, SRV, TXT};

    fn name(text: &str) -> Name {
        rrset::name(text).unwrap()
    }

    fn zone() -> Content {
        let origin = name("demo.test");
        let soa = SOA::new(name("ns.demo.test"), name("root.demo.test"), 7, 1, 1, 1, 1);
        let odd = TXT::from_bytes(vec![b"semi;colon \"quoted\"", b"\xff\x00\n", b""]);
        let data = [
            RData::SOA(soa),
            RData::NS(NS(name("ns.demo.test"))),
            rrset::rdata(RecordKind::A, "192.0.2.1").unwrap(),
            rrset::rdata(RecordKind::AAAA, "2001:db8::1").unwrap(),
            RData::MX(MX::new(10, name("mx.demo.test"))),
            RData::SRV(SRV::new(1, 2, 443, name("app.demo.test"))),
            RData::TXT(TXT::new(vec!["v=spf1 -all".to_owned()])),
            RData::TXT(odd),
            RData::CAA(CAA::new_issue(false, None, vec![])),
            RData::Unknown {
                code: RecordType::Unknown(65280),
                rdata: NULL::with(vec![1, 2, 3]),
            },
        ];
        let mut records: Vec<Record> = data
            .into_iter()
            .map(|d| Record::from_rdata(origin.clone(), 60, d))
            .collect();
        let target = rrset::rdata(RecordKind::CNAME, "bücher.example").unwrap();
        records.push(Record::from_rdata(name("www.demo.test"), 5, target));
        Content::new(&origin, records).unwrap()
    }

    #[test]
    fn every_kind_of_record_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zone");
        assert_eq!(read(&path, &name("demo.test")).unwrap(), None);
        write(&path, &name("demo.test"), &zone()).unwrap();
        assert_eq!(read(&path, &name("demo.test")).unwrap(), Some(zone()));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("demo.test. 60 IN A 192.0.2.1\n"), "{text}");
    }

    #[test]
    fn a_broken_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zone");
        fs::write(&path, "; fine\ndemo.test. 60 IN A 192.0.2.300\n").unwrap();
        let error = read(&path, &name("demo.test")).unwrap_err();
        assert!(matches!(error, FileError::Line { line: 2, .. }), "{error}");
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zone");
        let held = lock(&path).unwrap();
        assert!(matches!(lock(&path), Err(FileError::Locked(_))));
        drop(held);
        lock(&path).unwrap();
    }
}
