//! The hash chain.
//!
//! A record's *line* is its canonical JSON: fields in the order in which [`Record`] declares them, map keys sorted, no
//! white space, UTF-8, no line break. The line holds the hash of the record before in `prev`, so the hash of a record
//! is just the SHA-256 of its line's bytes, in lower-case hex, and anybody can check it with `sha256sum`. Lines are
//! kept as they were hashed and never written anew: a later version that would spell a record differently still
//! finds the old hashes right.

use std::{iter, panic::resume_unwind, thread};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    model::{
        id::{Seq, ServiceName},
        record::{FORMAT, Record},
    },
    port::journal::{Draft, JournalError, Line},
};

/// `prev` of a chain's first record.
pub const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The end of a chain: what the next record follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Sequence of the last record; 0 where there is none.
    pub seq: Seq,
    /// Its hash; [`START`] where there is none.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            seq: Seq(0),
            hash: START.to_owned(),
        }
    }
}

/// Chains longer than this are checked by several threads.
const LONG: usize = 4096;

/// The most threads that check a chain.
const THREADS: usize = 8;

/// The hash of a line: SHA-256 in lower-case hex.
#[must_use]
pub fn hash(line: &str) -> String {
    hex::encode(Sha256::digest(line.as_bytes()))
}

/// Checks lines that follow `head`, and reads their records. A start waits for this, so a long chain is cut into parts
/// that are checked side by side: each part begins behind the hash that the line before it is kept with, and the part
/// before finds out whether that hash is right.
///
/// # Errors
/// The first line's that does not fit: `Newer` or `Unread` where a newer version wrote it, `Broken` otherwise.
pub fn check(chain: &ServiceName, head: Head, lines: &[Line]) -> Result<Vec<Record>, JournalError> {
    let threads = if lines.len() < LONG {
        1
    } else {
        thread::available_parallelism()
            .map_or(1, usize::from)
            .min(THREADS)
    };
    check_in_parts(chain, head, lines, lines.len().div_ceil(threads).max(1))
}

fn check_in_parts(
    chain: &ServiceName,
    head: Head,
    lines: &[Line],
    size: usize,
) -> Result<Vec<Record>, JournalError> {
    if lines.len() <= size {
        return check_part(chain, head, lines);
    }
    let ends = lines.chunks(size).filter_map(<[Line]>::last);
    let heads = iter::once(head).chain(ends.map(|line| Head {
        seq: line.seq,
        hash: line.hash.clone(),
    }));
    let parts: Vec<Result<Vec<Record>, JournalError>> = thread::scope(|scope| {
        let running: Vec<_> = lines
            .chunks(size)
            .zip(heads)
            .map(|(part, head)| scope.spawn(move || check_part(chain, head, part)))
            .collect();
        running
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    let mut records = Vec::with_capacity(lines.len());
    for part in parts {
        records.append(&mut part?);
    }
    Ok(records)
}

fn check_part(
    chain: &ServiceName,
    head: Head,
    lines: &[Line],
) -> Result<Vec<Record>, JournalError> {
    let mut checker = Checker::behind(chain.clone(), head);
    lines.iter().map(|line| checker.next(line)).collect()
}

/// Gives drafts their places behind `head`, which moves on.
///
/// # Errors
/// Where a record cannot be written as JSON; `head` has then moved and is of no use.
pub fn seal(
    chain: &ServiceName,
    head: &mut Head,
    drafts: Vec<Draft>,
) -> Result<Vec<(Record, Line)>, serde_json::Error> {
    drafts
        .into_iter()
        .map(|draft| {
            let record = Record {
                format: FORMAT,
                chain: chain.clone(),
                seq: head.seq.next(),
                epoch: draft.epoch,
                at: draft.at,
                prev: std::mem::take(&mut head.hash),
                body: draft.body,
            };
            let text = serde_json::to_string(&record)?;
            let line = Line {
                seq: record.seq,
                hash: hash(&text),
                text,
            };
            head.seq = line.seq;
            head.hash.clone_from(&line.hash);
            Ok((record, line))
        })
        .collect()
}

/// Walks along a chain and checks that each line fits behind the one before.
#[derive(Clone, Debug)]
pub struct Checker {
    chain: ServiceName,
    head: Head,
}

impl Checker {
    /// Begins behind `head`, which is taken as right.
    pub fn behind(chain: ServiceName, head: Head) -> Self {
        Self { chain, head }
    }

    /// How far the chain is found right.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Checks the next line and reads its record.
    ///
    /// # Errors
    /// `Newer` or `Unread` where a newer version wrote it, `Broken` where it does not fit.
    pub fn next(&mut self, line: &Line) -> Result<Record, JournalError> {
        let expected = self.head.seq.next();
        if line.seq != expected {
            return Err(self.broken(format!("the record is missing, {} comes next", line.seq)));
        }
        let found = hash(&line.text);
        if found != line.hash {
            return Err(self.broken(format!(
                "the record was changed: it is kept as {}, its content has {found}",
                line.hash
            )));
        }
        let record = self.parse(&line.text)?;
        if record.chain != self.chain {
            return Err(self.broken(format!("the record belongs to chain {}", record.chain)));
        }
        if record.seq != expected {
            return Err(self.broken(format!("the record says that it is {}", record.seq)));
        }
        if record.prev != self.head.hash {
            return Err(self.broken(format!(
                "it follows {}, the record before is {}",
                record.prev, self.head.hash
            )));
        }
        self.head.seq = expected;
        self.head.hash = found;
        Ok(record)
    }

    fn parse(&self, text: &str) -> Result<Record, JournalError> {
        let newer = |found| JournalError::Newer {
            found,
            known: FORMAT,
        };
        match serde_json::from_str::<Record>(text) {
            Ok(record) if record.format > FORMAT => Err(newer(record.format)),
            Ok(record) => Ok(record),
            Err(e) => match serde_json::from_str::<Format>(text) {
                Ok(f) if f.format > FORMAT => Err(newer(f.format)),
                // Its hash fits: nobody damaged it.
                Ok(_) => Err(JournalError::Unread {
                    chain: self.chain.clone(),
                    seq: self.head.seq.next(),
                    reason: first_words(&e),
                }),
                Err(_) => Err(self.broken(format!("the record cannot be read: {e}"))),
            },
        }
    }

    fn broken(&self, reason: String) -> JournalError {
        JournalError::Broken {
            chain: self.chain.clone(),
            seq: self.head.seq.next(),
            reason,
        }
    }
}

/// Without the list of everything that could have stood there.
fn first_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.find(", expected one of").unwrap_or(text.len());
    text[..end].to_owned()
}

/// All that is read of a record that is not understood.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        id::{Epoch, PersonName},
        record::RecordBody,
        time::Time,
    };

    fn note(text: &str) -> Draft {
        Draft {
            epoch: Epoch(1),
            at: Time::from_millis(1_700_000_000_123),
            body: RecordBody::Note {
                by: PersonName::from("ana"),
                text: text.to_owned(),
            },
        }
    }

    fn lines(texts: &[&str]) -> Vec<Line> {
        let mut head = Head::default();
        let drafts = texts.iter().map(|t| note(t)).collect();
        seal(&"shop".into(), &mut head, drafts)
            .unwrap()
            .into_iter()
            .map(|(_, line)| line)
            .collect()
    }

    fn check(lines: &[Line]) -> Result<Vec<Record>, JournalError> {
        super::check(&"shop".into(), Head::default(), lines)
    }

    #[test]
    fn canonical_line_and_hash_never_change() {
        let line = &lines(&["größer \"x\""])[0];
        assert_eq!(
            line.text,
            r#"{"format":1,"chain":"shop","seq":1,"epoch":1,"at":"2023-11-14T22:13:20.123Z","prev":"0000000000000000000000000000000000000000000000000000000000000000","body":{"type":"note","by":"ana","text":"größer \"x\""}}"#
        );
        assert_eq!(
            line.hash,
            "e754ffe7cd9c5b2b20b0106a909b41cf3fd940f8616ee479a1e99b7bbb9acae6"
        );
    }

    #[test]
    fn a_whole_chain_passes() {
        assert!(check(&lines(&["a", "b", "c"])).is_ok());
    }

    #[test]
    fn parts_of_a_chain_are_read_in_order_and_the_first_break_found() {
        let texts: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        let mut lines = lines(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let check = |lines: &[Line]| check_in_parts(&"shop".into(), Head::default(), lines, 5);
        let records = check(&lines).unwrap();
        assert!(records.iter().zip(1..).all(|(r, n)| r.seq == Seq(n)));
        assert_eq!(records.len(), lines.len());

        // Also where the parts meet: a wrong hash is found at its record, a wrong link at the record behind it.
        for at in 0..11 {
            let right = lines[at].clone();
            START.clone_into(&mut lines[at].hash);
            let error = check(&lines).unwrap_err().to_string();
            assert!(error.contains(&format!("sequence {}:", at + 1)), "{error}");
            lines[at].text = lines[at].text.replace("ana", "eve");
            lines[at].hash = hash(&lines[at].text);
            let error = check(&lines).unwrap_err().to_string();
            assert!(error.contains(&format!("sequence {}:", at + 2)), "{error}");
            lines[at] = right;
        }
    }

    #[test]
    fn finds_a_changed_record() {
        let mut lines = lines(&["a", "b", "c"]);
        lines[1].text = lines[1].text.replace("\"b\"", "\"B\"");
        let error = check(&lines).unwrap_err().to_string();
        assert!(
            error.contains("sequence 2: the record was changed"),
            "{error}"
        );
    }

    #[test]
    fn finds_a_changed_record_whose_hash_was_made_to_fit() {
        let mut lines = lines(&["a", "b", "c"]);
        lines[1].text = lines[1].text.replace("\"b\"", "\"B\"");
        lines[1].hash = hash(&lines[1].text);
        let error = check(&lines).unwrap_err().to_string();
        assert!(error.contains("sequence 3: it follows"), "{error}");
    }

    #[test]
    fn finds_a_record_that_was_taken_out() {
        let mut lines = lines(&["a", "b", "c"]);
        lines.remove(1);
        let error = check(&lines).unwrap_err().to_string();
        assert!(
            error.contains("sequence 2: the record is missing"),
            "{error}"
        );
    }

    #[test]
    fn finds_a_record_of_another_chain() {
        let mut head = Head::default();
        let line = seal(&"bank".into(), &mut head, vec![note("a")])
            .unwrap()
            .remove(0)
            .1;
        let error = check(&[line]).unwrap_err().to_string();
        assert!(error.contains("belongs to chain bank"), "{error}");
    }

    #[test]
    fn refuses_a_newer_record_whatever_it_holds() {
        let mut line = lines(&["a"]).remove(0);
        line.text = line
            .text
            .replace("\"format\":1", "\"format\":7")
            .replace("\"note\"", "\"unheardOf\"");
        line.hash = hash(&line.text);
        assert!(matches!(
            check(&[line]),
            Err(JournalError::Newer {
                found: 7,
                known: FORMAT
            })
        ));
    }

    #[test]
    fn a_record_of_an_unknown_kind_is_another_versions_and_one_that_is_none_breaks_the_chain() {
        let mut line = lines(&["a"]).remove(0);
        line.text = line.text.replace("\"note\"", "\"unheardOf\"");
        line.hash = hash(&line.text);
        let error = check(&[line.clone()]).unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, JournalError::Unread { seq: Seq(1), .. }));
        assert!(told.contains("unknown variant `unheardOf`"), "{told}");
        line.text = "{}".to_owned();
        line.hash = hash(&line.text);
        let error = check(&[line]).unwrap_err();
        assert!(matches!(error, JournalError::Broken { .. }), "{error}");
    }
}
