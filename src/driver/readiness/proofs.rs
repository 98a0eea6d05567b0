//! When each credential and each sink was last proved to work. Nothing is sent to customers for it: a check that logs in
//! is a proof, and so is what was really sent.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::{
    driver::backups,
    model::{
        check::{CheckItem, CheckStatus},
        plan::Uses,
        span::Span,
        time::Time,
    },
};

/// The file in a service's folder of state.
const FILE: &str = "proofs.json";

/// Something whose credential has to work on the day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Such as `announce/mail` or `dns`.
    pub name: String,
    /// What it is made of: proof of one credential is none of another.
    pub of: String,
    /// When it was proved by what was really sent.
    pub used: Option<Time>,
    /// Whether the check that just ran proved it; none where no check can.
    pub checked: Option<bool>,
}

impl Sink {
    /// A sink of these settings.
    #[must_use]
    pub fn new(name: impl Into<String>, uses: &Uses) -> Self {
        Self {
            name: name.into(),
            of: format!("{} {}", uses.uses, uses.with),
            used: None,
            checked: None,
        }
    }

    /// The same, after these items of a check that can prove it. Who has none was not tried.
    #[must_use]
    pub fn tried(mut self, items: &[CheckItem]) -> Self {
        let bad = |i: &CheckItem| matches!(i.status, CheckStatus::Unknown | CheckStatus::Fail);
        self.checked = Some(!items.is_empty() && !items.iter().any(bad));
        self
    }

    fn key(&self) -> String {
        let digest = Sha256::digest(self.of.as_bytes());
        format!("{} {}", self.name, hex::encode(&digest[..8]))
    }
}

/// An item for each sink, with the age of its last proof; what is proved now is remembered in the folder.
#[must_use]
pub fn check(sinks: &[Sink], folder: &Path, max_age: Span, now: Time) -> Vec<CheckItem> {
    judge(sinks, &folder.join(FILE), max_age, now)
}

fn judge(sinks: &[Sink], file: &Path, max_age: Span, now: Time) -> Vec<CheckItem> {
    let known = read(file);
    let mut kept = BTreeMap::new();
    let mut items = Vec::new();
    for sink in sinks {
        let by_check = (sink.checked == Some(true)).then_some(now);
        let before = known.get(&sink.key()).copied();
        let last = by_check.max(sink.used).max(before);
        if let Some(at) = last {
            kept.insert(sink.key(), at);
        }
        items.push(item(sink, last, max_age, now));
    }
    if kept != known
        && let Err(error) = write(file, &kept)
    {
        tracing::warn!(file = %file.display(), %error, "when credentials were proved cannot be remembered");
    }
    items
}

fn item(sink: &Sink, last: Option<Time>, max_age: Span, now: Time) -> CheckItem {
    let name = format!("proof/{}", sink.name);
    let fix = match sink.checked {
        Some(_) => "mend what its own item says; the next check proves it again",
        None => {
            "only what is really sent proves it: have a page or a drill's message go out there, and see that it arrives"
        }
    };
    match last {
        None => CheckItem::bad(name, CheckStatus::Warn, "it was never proved to work", fix),
        Some(at) => {
            let age = now.since(at);
            let text = match (sink.checked, sink.used) {
                (Some(true), _) => "proved to work by this check".to_owned(),
                (_, Some(used)) if used == at => {
                    format!(
                        "proved to work {} ago by what was sent",
                        backups::rounded(age)
                    )
                }
                (Some(_) | None, _) => {
                    format!("proved to work {} ago", backups::rounded(age))
                }
            };
            if age <= max_age {
                CheckItem::ok(name, text)
            } else {
                CheckItem::bad(
                    name,
                    CheckStatus::Warn,
                    format!("{text}, longer than {max_age} ago"),
                    fix,
                )
            }
        }
    }
}

/// A file that is not there, or of no use, tells nothing.
fn read(file: &Path) -> BTreeMap<String, Time> {
    let bytes = std::fs::read(file).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn write(file: &Path, proofs: &BTreeMap<String, Time>) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(&serde_json::to_vec_pretty(proofs)?)?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(checked: Option<bool>) -> Sink {
        Sink {
            name: "announce/mail".to_owned(),
            of: "announce/email {}".to_owned(),
            used: None,
            checked,
        }
    }

    fn at(days: u64) -> Time {
        Time::parse("2026-11-22T20:00:00Z")
            .unwrap()
            .after(Span::from_secs(days * 86_400))
    }

    const POLICY: Span = Span::from_secs(30 * 86_400);

    #[test]
    fn a_proof_ages_until_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let said = |sink: Sink, days| judge(&[sink], &file, POLICY, at(days)).remove(0);
        assert_eq!(
            said(sink(Some(true)), 0).detail,
            "proved to work by this check"
        );
        let young = said(sink(Some(false)), 29);
        assert_eq!(young.status, CheckStatus::Ok);
        assert_eq!(young.detail, "proved to work 29d ago");
        let old = said(sink(Some(false)), 31);
        assert_eq!(old.status, CheckStatus::Warn);
        assert!(old.detail.contains("longer than 30d ago"), "{}", old.detail);
        assert_eq!(said(sink(Some(true)), 32).status, CheckStatus::Ok);
    }

    #[test]
    fn the_proof_of_one_credential_is_none_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        judge(&[sink(Some(true))], &file, POLICY, at(0));
        let other = Sink {
            of: "announce/email {\"from\":\"b\"}".to_owned(),
            ..sink(Some(false))
        };
        let item = judge(&[other], &file, POLICY, at(1)).remove(0);
        assert_eq!(item.detail, "it was never proved to work");
    }

    #[test]
    fn what_no_check_can_prove_is_proved_by_what_was_sent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let never = judge(&[sink(None)], &file, POLICY, at(0)).remove(0);
        assert_eq!(never.status, CheckStatus::Warn);
        let sent = Sink {
            used: Some(at(1)),
            ..sink(None)
        };
        let item = judge(&[sent], &file, POLICY, at(3)).remove(0);
        assert_eq!(item.detail, "proved to work 2d ago by what was sent");
        assert_eq!(item.status, CheckStatus::Ok);
    }

    #[test]
    fn a_broken_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        std::fs::write(&file, "{").unwrap();
        judge(&[sink(Some(true))], &file, POLICY, at(0));
        assert_eq!(read(&file).len(), 1);
    }
}
