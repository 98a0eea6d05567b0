//! The hash chain.
//!
//! A record's *line* is its canonical JSON: fields in the order in which [`Record`] declares them, map keys sorted, no
//! white space, UTF-8, no line break. The line holds the hash of the record before in `prev`, so the hash of a record
//! is just the SHA-256 of its line's bytes, in lower-case hex, and anybody can check it with `sha256sum`. Lines are
//! kept as they were hashed and never written anew: a later version that would spell a record differently still
//! finds the old hashes right.

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

/// The hash of a line: SHA-256 in lower-case hex.
#[must_use]
pub fn hash(line: &str) -> String {
    hex::encode(Sha256::digest(line.as_bytes()))
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
    /// `Newer` where a newer version wrote it, `Broken` where it does not fit.
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
                Ok(_) | Err(_) => Err(self.broken(format!("the record cannot be read: {e}"))),
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

    fn check(lines: &[Line]) -> Result<(), JournalError> {
        let mut checker = Checker::behind("shop".into(), Head::default());
        lines.iter().try_for_each(|l| checker.next(l).map(|_| ()))
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
    fn a_record_that_makes_no_sense_breaks_the_chain() {
        let mut line = lines(&["a"]).remove(0);
        line.text = line.text.replace("\"note\"", "\"unheardOf\"");
        line.hash = hash(&line.text);
        let error = check(&[line]).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
