//! Restoring to a moment: which moments the backups and the archived WAL reach, and one of them brought back into a folder
//! that a person names.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{rounded, shelves};
use crate::{
    backup::restore::{Recovered, Recovery, RecoveryError},
    decide::{
        backups::Backups,
        core::Core,
        restore::{archived, stretches},
    },
    driver::fitting::{Fitting, FittingError},
    model::{
        backup::{BackupCopy, BackupKind, Restored, Shelf},
        id::{CopyId, ServiceName, SourceName},
        time::Time,
    },
    port::backup::SharedBackups,
};

/// The moments that one backup can be brought to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moments {
    /// Where the backup is.
    pub source: SourceName,
    /// The backup.
    pub copy: CopyId,
    /// When it was taken: the first moment.
    pub from: Time,
    /// The last moment that archived WAL reaches without a gap; none where none follows it.
    pub until: Option<Time>,
    /// Whether it was restored to try it, and answered as it should.
    pub verified: bool,
}

impl Moments {
    fn hold(&self, at: Time) -> bool {
        self.from <= at && at <= self.until.unwrap_or(self.from)
    }

    /// `base-1/ in base: from … to …`.
    #[must_use]
    pub fn words(&self) -> String {
        let tried = if self.verified { "" } else { ", never tried" };
        let range = match self.until {
            Some(until) => format!(
                "from {} to {} ({})",
                self.from,
                until,
                rounded(until.since(self.from))
            ),
            None => format!("as of {} alone: no archived WAL follows it", self.from),
        };
        format!("{} in {}: {range}{tried}", self.copy, self.source)
    }
}

/// The moments of each backup that may be a base backup, by what the sources hold; oldest first. One that is
/// empty, was found to be bad, or a dump, is none of them.
#[must_use]
pub fn moments(shelves: &[Shelf], known: &Backups, archive: Option<&SourceName>) -> Vec<Moments> {
    let logs = shelves.iter().find(|s| Some(&s.source) == archive);
    let stretches = logs.map(|s| stretches(s.copies())).unwrap_or_default();
    let mut out = Vec::new();
    for shelf in shelves {
        let full = shelf
            .copies()
            .iter()
            .filter(|c| c.kind == BackupKind::Full && !c.is_empty());
        for copy in full {
            let tried = known.of(&shelf.source, copy);
            let is_other = tried.is_some_and(|(_, v)| {
                matches!(v.outcome, Restored::Bad { .. } | Restored::Wrong { .. })
                    || (v.outcome == Restored::Good && !v.proves_base())
            });
            if is_other {
                continue;
            }
            out.push(Moments {
                source: shelf.source.clone(),
                copy: copy.id.clone(),
                from: copy.at,
                until: archived(&stretches, copy.at),
                verified: tried.is_some_and(|(_, v)| v.proves_base()),
            });
        }
    }
    out.sort_by(|a, b| (a.from, &a.copy).cmp(&(b.from, &b.copy)));
    out
}

/// What a person wants to have back.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The moment; none: as late as there is.
    pub at: Option<Time>,
    /// The backup that it begins with; none: the newest one before the moment, of those that were tried where there is one.
    pub copy: Option<CopyId>,
    /// The source of archived WAL; none: the first that keeps logs.
    pub wal: Option<SourceName>,
}

/// What can be brought back, and what would be.
pub struct Offer {
    /// Every backup's moments.
    pub all: Vec<Moments>,
    /// The one that would be used.
    pub chosen: Moments,
    /// The source of archived WAL.
    pub archive: Option<SourceName>,
    copy: BackupCopy,
    place: SharedBackups,
    logs: Option<SharedBackups>,
}

/// Why nothing can be brought back.
#[derive(Debug, thiserror::Error)]
pub enum NoOffer {
    /// There is no policy.
    #[error("{0} has no backup policy")]
    NoPolicy(ServiceName),
    /// No such source.
    #[error("no source {0} of the policy keeps logs")]
    NoArchive(SourceName),
    /// There is nothing at all.
    #[error("there is no base backup that could be restored")]
    Nothing,
    /// Not that backup.
    #[error("{copy} is no backup that could be restored; there are: {known}")]
    NoCopy {
        /// What was asked for.
        copy: CopyId,
        /// What there is.
        known: String,
    },
    /// Not that moment.
    #[error("{at} cannot be brought back; these moments can: {known}")]
    OutOfReach {
        /// What was asked for.
        at: Time,
        /// What there is.
        known: String,
    },
    /// A source cannot be used.
    #[error("a source cannot be used")]
    Source(#[source] FittingError),
}

fn known(all: &[Moments]) -> String {
    let words: Vec<_> = all.iter().map(Moments::words).collect();
    words.join("; ")
}

/// Says what can be brought back, and what would be for this wish.
///
/// # Errors
/// Where it cannot be.
pub async fn offer(core: &Core, fitting: &Fitting, wish: &Wish) -> Result<Offer, NoOffer> {
    let service = core.service();
    let none = || NoOffer::NoPolicy(service.name.clone());
    let policy = service.backups.as_ref().ok_or_else(none)?;
    let keeps_logs = |name: &SourceName| {
        let source = policy.source(name);
        source.is_some_and(|s| s.keeps.contains_key(&BackupKind::Log))
    };
    let archive = match &wish.wal {
        Some(name) if !keeps_logs(name) => return Err(NoOffer::NoArchive(name.clone())),
        Some(name) => Some(name.clone()),
        None => {
            let mut names = policy.sources.iter().map(|s| &s.name);
            names.find(|name| keeps_logs(name)).cloned()
        }
    };
    let shelves = shelves(policy, fitting).await;
    let all = moments(&shelves, &core.state().backups, archive.as_ref());
    let chosen = choose(&all, wish)?.clone();
    let place = |name: &SourceName| {
        let source = policy.source(name).ok_or(NoOffer::Nothing)?;
        fitting.backups(&source.action).map_err(NoOffer::Source)
    };
    let copy = shelves
        .iter()
        .filter(|s| s.source == chosen.source)
        .flat_map(Shelf::copies)
        .find(|c| c.id == chosen.copy);
    Ok(Offer {
        copy: copy.cloned().ok_or(NoOffer::Nothing)?,
        place: place(&chosen.source)?,
        logs: archive.as_ref().map(place).transpose()?,
        all,
        chosen,
        archive,
    })
}

fn choose<'m>(all: &'m [Moments], wish: &Wish) -> Result<&'m Moments, NoOffer> {
    let own: Vec<_> = match &wish.copy {
        Some(copy) => all.iter().filter(|m| &m.copy == copy).collect(),
        None => all.iter().collect(),
    };
    if let (Some(copy), true) = (&wish.copy, own.is_empty()) {
        return Err(NoOffer::NoCopy {
            copy: copy.clone(),
            known: known(all),
        });
    }
    let reach = |m: &&&Moments| wish.at.is_none_or(|at| m.hold(at));
    let best = own
        .iter()
        .filter(reach)
        .max_by_key(|m| (m.verified, m.from));
    match (best, wish.at) {
        (Some(best), _) => Ok(best),
        (None, Some(at)) if !all.is_empty() => Err(NoOffer::OutOfReach {
            at,
            known: known(all),
        }),
        (None, _) => Err(NoOffer::Nothing),
    }
}

/// Brings it back into a folder that is absent or empty. The server that is started there archives nothing.
///
/// # Errors
/// Where it does not come to a database; the folder is then as it was.
pub async fn restore(
    offer: &Offer,
    wish: &Wish,
    to: &Path,
    programs: Option<&Path>,
) -> Result<Recovered, RecoveryError> {
    let settings = BTreeMap::from([("archive_mode".to_owned(), "off".to_owned())]);
    let recovery = Recovery {
        place: offer.place.as_ref(),
        copy: &offer.copy,
        archive: offer.logs.as_deref(),
        until: wish.at,
        data: to,
        settings: &settings,
        programs,
        keep_free: 64,
        key: "by hand",
    };
    recovery.run().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Time {
        Time::from_millis(minute * 60_000)
    }

    fn moments(copy: &str, from: i64, until: Option<i64>, verified: bool) -> Moments {
        Moments {
            source: "base".into(),
            copy: CopyId::new(copy),
            from: at(from),
            until: until.map(at),
            verified,
        }
    }

    #[test]
    fn the_newest_tried_backup_before_the_moment_is_taken() {
        let all = [
            moments("a", 10, Some(50), true),
            moments("b", 20, Some(50), true),
            moments("c", 30, Some(50), false),
            moments("d", 60, None, false),
        ];
        let chosen = |wish_at: Option<i64>, copy: Option<&str>| {
            let wish = Wish {
                at: wish_at.map(at),
                copy: copy.map(CopyId::new),
                wal: None,
            };
            choose(&all, &wish).map_or_else(|e| e.to_string(), |m| m.copy.to_string())
        };
        assert_eq!(chosen(Some(15), None), "a");
        assert_eq!(chosen(Some(40), None), "b");
        assert_eq!(chosen(Some(40), Some("c")), "c");
        assert_eq!(chosen(Some(60), None), "d");
        assert!(chosen(Some(55), None).contains("cannot be brought back"));
        assert!(chosen(Some(5), None).contains("a in base: from"));
        assert!(chosen(None, Some("x")).contains("there are: a in base"));
    }
}
