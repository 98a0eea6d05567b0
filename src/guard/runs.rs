//! Which actions a guard was asked for and ran, kept on its disk: what was run once is answered, and not run again.
//!
//! That an action begins is on the disk before it begins. One of an earlier life of the guard that has no end there is
//! lost: it may have happened. Entries of this life are never forgotten, since only orders of this life are obeyed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{
        action::{ActEnd, ActOrder, ActState, NotRun},
        guard::{Boot, Promise, Role},
        id::{ActionName, Attempt, IdempotencyKey},
    },
    port::cause,
};

const FILE: &str = "actions.json";
/// How many are remembered.
const MOST: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    key: IdempotencyKey,
    action: ActionName,
    attempt: Attempt,
    /// The life of the guard in which it was begun.
    boot: Boot,
    end: Option<ActEnd>,
}

/// What to do with an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing but to say so.
    Answer(ActState),
    /// To run it.
    Begin,
}

/// What an order finds.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What the guard has promised.
    pub promise: Option<&'a Promise>,
    /// Whether its document names the action.
    pub is_named: bool,
    /// Whether another one runs.
    pub is_busy: bool,
}

/// What was run.
#[derive(Debug)]
pub struct Runs {
    boot: Boot,
    entries: Vec<Entry>,
    /// Whether it is known what was run before.
    is_known: bool,
    turn: u64,
    shelf: Shelf,
}

impl Runs {
    /// What a state folder holds. Where that cannot be read nothing is run.
    #[must_use]
    pub fn open(folder: &Path, boot: Boot) -> Self {
        let path = folder.join(FILE);
        let (entries, is_known) = match read(&path) {
            Ok(entries) => (entries, true),
            Err(error) => {
                tracing::error!(
                    path = %path.display(),
                    error = %cause::in_full(&error),
                    "what was run for the controller before is not known: no action is run. Remove the file where you know \
                     that none of a run still going on was asked for"
                );
                (Vec::new(), false)
            }
        };
        Self {
            boot,
            entries,
            is_known,
            turn: 0,
            shelf: Shelf {
                path,
                written: Arc::default(),
            },
        }
    }

    /// What became of what was asked for under a key.
    #[must_use]
    pub fn state(&self, key: &IdempotencyKey) -> Option<ActState> {
        let entry = self.entries.iter().find(|e| e.key == *key)?;
        Some(match &entry.end {
            Some(end) => ActState::Ended(end.clone()),
            None if entry.boot == self.boot => ActState::Running,
            None => ActState::Lost,
        })
    }

    /// What an order comes to.
    #[must_use]
    pub fn judge(&self, order: &ActOrder, scene: Scene<'_>) -> Verdict {
        let known = self.state(&order.key);
        if let Some(state) = known {
            let is_anew = matches!(&state, ActState::Ended(end) if end.has_failed() && end.attempt < order.attempt);
            if !is_anew {
                return Verdict::Answer(state);
            }
        }
        let own = self.entries.iter().filter(|e| e.boot == self.boot);
        let is_full = own.count() >= MOST && self.state(&order.key).is_none();
        for (is_so, why) in [
            (!self.is_known, NotRun::Disk),
            (order.boot != self.boot, NotRun::Boot),
            (!is_of_today(order, scene.promise), NotRun::Epoch),
            (!scene.is_named, NotRun::Unnamed),
            (scene.is_busy, NotRun::Busy),
            (is_full, NotRun::Full),
        ] {
            if is_so {
                return Verdict::Answer(ActState::NotRun(why));
            }
        }
        Verdict::Begin
    }

    /// It is about to begin; what is returned has to be kept first.
    pub fn begin(&mut self, order: &ActOrder) -> Page {
        self.forget(&order.key);
        while self.entries.len() >= MOST
            && let Some(oldest) = self.entries.iter().position(|e| e.boot != self.boot)
        {
            self.entries.remove(oldest);
        }
        self.entries.push(Entry {
            key: order.key.clone(),
            action: order.action.clone(),
            attempt: order.attempt,
            boot: self.boot,
            end: None,
        });
        self.page()
    }

    /// It was not begun after all.
    pub fn forget(&mut self, key: &IdempotencyKey) {
        self.entries.retain(|e| e.key != *key);
    }

    /// It has ended.
    pub fn end(&mut self, key: &IdempotencyKey, status: Option<i32>, said: &str) -> Page {
        for entry in self.entries.iter_mut().filter(|e| e.key == *key) {
            entry.end = Some(ActEnd {
                attempt: entry.attempt,
                status,
                said: clipped(said),
            });
        }
        self.page()
    }

    fn page(&mut self) -> Page {
        self.turn += 1;
        Page {
            turn: self.turn,
            // Names, numbers and text always have a form in JSON.
            text: serde_json::to_vec(&self.entries).unwrap_or_default(),
            shelf: self.shelf.clone(),
        }
    }
}

/// Whether the guard still stands where whoever gave the order believes it to: a site that is fenced in favour of the next
/// epoch has promised that one already.
fn is_of_today(order: &ActOrder, promise: Option<&Promise>) -> bool {
    promise.is_some_and(|p| match p.role {
        Role::Primary | Role::Standby => order.epoch >= p.epoch,
        Role::Fenced => order.epoch.next() >= p.epoch,
    })
}

/// So much of a text, as JSON writes it, that it fits into a datagram with names and keys.
fn clipped(text: &str) -> String {
    const ROOM: usize = 400;
    let size = |c: char| match c {
        '"' | '\\' => 2,
        c if c.is_control() => 6,
        c => c.len_utf8(),
    };
    let mut left = ROOM;
    text.chars()
        .take_while(|c| {
            let fits = size(*c) <= left;
            left = left.saturating_sub(size(*c));
            fits
        })
        .collect()
}

/// What is to be on the disk.
#[derive(Debug)]
pub struct Page {
    turn: u64,
    text: Vec<u8>,
    shelf: Shelf,
}

#[derive(Clone, Debug)]
struct Shelf {
    path: PathBuf,
    written: Arc<Mutex<u64>>,
}

impl Page {
    /// Keeps it, unless a later one is kept. It is durable when this returns.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn keep(&self) -> io::Result<()> {
        let mut written = self
            .shelf
            .written
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *written >= self.turn {
            return Ok(());
        }
        let path = &self.shelf.path;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&self.text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        *written = self.turn;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Vec<Entry>> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::Epoch;

    const BOOT: Boot = Boot(4);

    fn order(key: &str, attempt: u32) -> ActOrder {
        ActOrder {
            action: "scale-up".into(),
            key: key.into(),
            attempt: Attempt(attempt),
            epoch: Epoch(3),
            boot: BOOT,
        }
    }

    fn promise(role: Role, epoch: u64) -> Promise {
        Promise {
            epoch: Epoch(epoch),
            role,
            ..Promise::first()
        }
    }

    fn scene(promise: &Promise) -> Scene<'_> {
        Scene {
            promise: Some(promise),
            is_named: true,
            is_busy: false,
        }
    }

    fn refused(why: NotRun) -> Verdict {
        Verdict::Answer(ActState::NotRun(why))
    }

    #[test]
    fn what_was_run_is_answered_and_only_a_failure_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut runs = Runs::open(folder.path(), BOOT);
        let promise = promise(Role::Standby, 3);
        let scene = scene(&promise);
        assert_eq!(runs.judge(&order("k", 1), scene), Verdict::Begin);
        runs.begin(&order("k", 1)).keep().unwrap();
        assert_eq!(
            runs.judge(&order("k", 2), scene),
            Verdict::Answer(ActState::Running)
        );
        let ended = |attempt, status, said: &str| {
            Verdict::Answer(ActState::Ended(ActEnd {
                attempt: Attempt(attempt),
                status,
                said: said.to_owned(),
            }))
        };
        runs.end(&"k".into(), Some(1), "no").keep().unwrap();
        assert_eq!(runs.judge(&order("k", 1), scene), ended(1, Some(1), "no"));
        assert_eq!(runs.judge(&order("k", 2), scene), Verdict::Begin);
        runs.begin(&order("k", 2)).keep().unwrap();
        runs.end(&"k".into(), None, "killed").keep().unwrap();
        // It may have happened.
        assert_eq!(runs.judge(&order("k", 3), scene), ended(2, None, "killed"));

        let next = Runs::open(folder.path(), Boot(5));
        assert_eq!(next.judge(&order("k", 3), scene), ended(2, None, "killed"));
    }

    #[test]
    fn what_was_begun_in_an_earlier_life_is_lost_and_never_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut runs = Runs::open(folder.path(), BOOT);
        runs.begin(&order("k", 1)).keep().unwrap();
        let next = Runs::open(folder.path(), Boot(5));
        let promise = promise(Role::Standby, 3);
        let again = ActOrder {
            boot: Boot(5),
            ..order("k", 2)
        };
        assert_eq!(
            next.judge(&again, scene(&promise)),
            Verdict::Answer(ActState::Lost)
        );
    }

    #[test]
    fn says_why_it_does_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let runs = Runs::open(folder.path(), BOOT);
        let now = promise(Role::Standby, 3);
        let well = scene(&now);
        let other = ActOrder {
            boot: Boot(3),
            ..order("k", 1)
        };
        assert_eq!(runs.judge(&other, well), refused(NotRun::Boot));
        let later = promise(Role::Standby, 4);
        assert_eq!(
            runs.judge(&order("k", 1), scene(&later)),
            refused(NotRun::Epoch)
        );
        let fenced = promise(Role::Fenced, 4);
        assert_eq!(runs.judge(&order("k", 1), scene(&fenced)), Verdict::Begin);
        let fenced = promise(Role::Fenced, 5);
        assert_eq!(
            runs.judge(&order("k", 1), scene(&fenced)),
            refused(NotRun::Epoch)
        );
        let lost = Scene {
            promise: None,
            ..well
        };
        assert_eq!(runs.judge(&order("k", 1), lost), refused(NotRun::Epoch));
        let unnamed = Scene {
            is_named: false,
            ..well
        };
        assert_eq!(
            runs.judge(&order("k", 1), unnamed),
            refused(NotRun::Unnamed)
        );
        let busy = Scene {
            is_busy: true,
            ..well
        };
        assert_eq!(runs.judge(&order("k", 1), busy), refused(NotRun::Busy));
        fs::write(folder.path().join(FILE), "rotten").unwrap();
        let runs = Runs::open(folder.path(), BOOT);
        assert_eq!(runs.judge(&order("k", 1), well), refused(NotRun::Disk));
    }

    #[test]
    fn what_this_life_ran_is_never_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut before = Runs::open(folder.path(), Boot(1));
        before.begin(&order("old", 1)).keep().unwrap();
        let mut runs = Runs::open(folder.path(), BOOT);
        let promise = promise(Role::Standby, 3);
        for n in 0..MOST {
            let order = order(&format!("k{n}"), 1);
            assert_eq!(runs.judge(&order, scene(&promise)), Verdict::Begin);
            let _ = runs.begin(&order);
        }
        assert_eq!(runs.state(&"old".into()), None);
        assert_eq!(runs.state(&"k0".into()), Some(ActState::Running));
        assert_eq!(
            runs.judge(&order("more", 1), scene(&promise)),
            refused(NotRun::Full)
        );
    }

    #[test]
    fn a_page_that_comes_late_does_not_replace_a_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut runs = Runs::open(folder.path(), BOOT);
        let begun = runs.begin(&order("k", 1));
        runs.end(&"k".into(), Some(0), "done").keep().unwrap();
        begun.keep().unwrap();
        let found = Runs::open(folder.path(), Boot(5)).state(&"k".into());
        assert!(matches!(found, Some(ActState::Ended(_))));
    }

    #[test]
    fn what_was_said_fits_into_a_datagram_whatever_it_is() {
        for text in ["\"".repeat(999), "\u{1}".repeat(999), "€".repeat(999)] {
            let clipped = clipped(&text);
            let size = serde_json::to_vec(&clipped).unwrap().len();
            assert!((300..=402).contains(&size), "{size}");
        }
    }
}
