//! Exports: JSON Lines that prove themselves.
//!
//! Each line of an export is `{"hash":"<64 hex digits>","record":<the record>}`, where the record stands byte for byte
//! as it was hashed. Any JSON tool reads it, and `sha256sum` over what stands between `"record":` and the last `}`
//! gives the hash. Exports of one chain can be strung together: the segments of a copy are exports too.

use std::io::{self, BufRead, Write};

use serde::Deserialize;

use super::file::JournalFile;
use crate::{
    model::id::{Seq, ServiceName},
    port::journal::{JournalError, Line},
};

const BEFORE_HASH: &str = r#"{"hash":""#;
const BEFORE_RECORD: &str = r#"","record":"#;
const END: &str = "}";

/// Why an export could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The journal cannot be read.
    #[error("the journal could not be read to its end")]
    Journal(#[source] JournalError),
    /// The export cannot be written.
    #[error("the export could not be written")]
    Write(#[source] io::Error),
    /// The export cannot be read.
    #[error("the export could not be read")]
    Read(#[source] io::Error),
    /// A line is none of an export.
    #[error("line {number} is no line of an export: expected {{\"hash\":\"…\",\"record\":{{…}}}}")]
    Shape {
        /// Counted from 1.
        number: u64,
    },
}

/// One line of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The chain that the record names.
    pub chain: ServiceName,
    /// The record's line.
    pub line: Line,
}

/// Writes chains as they are kept, unchecked, so that a broken journal can be looked into elsewhere. Returns how many
/// records were written.
///
/// # Errors
/// Where the journal cannot be read or the export not be written.
pub fn write(
    file: &JournalFile,
    chains: &[ServiceName],
    out: &mut dyn Write,
) -> Result<u64, ExportError> {
    let mut written = 0;
    let mut trouble = None;
    for chain in chains {
        let read = file.each_line(chain, Seq(1), usize::MAX, |line| {
            if trouble.is_none() {
                match out.write_all(to_text(&line).as_bytes()) {
                    Ok(()) => written += 1,
                    Err(e) => trouble = Some(e),
                }
            }
            Ok(())
        });
        if let Some(e) = trouble {
            return Err(ExportError::Write(e));
        }
        read.map_err(ExportError::Journal)?;
    }
    out.flush().map_err(ExportError::Write)?;
    Ok(written)
}

/// Reads an export; hands over one line after the other, unchecked.
///
/// # Errors
/// `Shape` where a line is none of an export, and what `take` returns.
pub fn read(
    export: &mut dyn BufRead,
    mut take: impl FnMut(Exported) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut text = String::new();
    let mut number = 0;
    loop {
        text.clear();
        if export.read_line(&mut text).map_err(ExportError::Read)? == 0 {
            return Ok(());
        }
        number += 1;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        take(from_text(line).ok_or(ExportError::Shape { number })?)?;
    }
}

/// A line of an export with its line break.
#[must_use]
pub fn to_text(line: &Line) -> String {
    format!(
        "{BEFORE_HASH}{}{BEFORE_RECORD}{}{END}\n",
        line.hash, line.text
    )
}

/// Reads a line of an export without its line break; none where it has another shape.
#[must_use]
pub fn from_text(text: &str) -> Option<Exported> {
    let (hash, record) = text
        .strip_prefix(BEFORE_HASH)?
        .strip_suffix(END)?
        .split_once(BEFORE_RECORD)?;
    let place: Place = serde_json::from_str(record).ok()?;
    Some(Exported {
        chain: place.chain,
        line: Line {
            seq: place.seq,
            text: record.to_owned(),
            hash: hash.to_owned(),
        },
    })
}

/// What of a record has to be known to put it in its place.
#[derive(Deserialize)]
struct Place {
    chain: ServiceName,
    seq: Seq,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::chain::{Head, seal},
        model::{
            id::{Epoch, PersonName},
            record::RecordBody,
            time::Time,
        },
        port::journal::Draft,
    };

    #[test]
    fn a_line_reads_back_as_it_was() {
        let draft = Draft {
            epoch: Epoch(3),
            at: Time::from_millis(0),
            body: RecordBody::Note {
                by: PersonName::from("ana"),
                text: r#"","record":{}}"#.to_owned(),
            },
        };
        let (_, line) = seal(&"shop".into(), &mut Head::default(), vec![draft])
            .unwrap()
            .remove(0);
        let text = to_text(&line);
        let read = from_text(text.trim_end()).unwrap();
        assert_eq!(read.chain, "shop".into());
        assert_eq!(read.line, line);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["record"]["seq"], 1);
        assert_eq!(json["hash"], line.hash);
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        let mut text = "{\"hash\":\"x\"}\n".as_bytes();
        let error = read(&mut text, |_| Ok(())).unwrap_err();
        assert!(matches!(error, ExportError::Shape { number: 1 }), "{error}");
    }
}
