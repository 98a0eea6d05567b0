//! A guard's promise on its disk.
//!
//! Two slots hold the same. A promise goes into one of them and then into the other, each synced with its folder; only
//! then is it kept. So whatever is torn, a slot that was not being written holds the promise before, which is the right
//! one since nobody was told of the new one; and a slot that rots later leaves the other. Where neither can be read the
//! state is lost, which is not the same as a state that never was.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::wire::Certificate;
use crate::{
    model::{
        guard::{Promise, Role},
        id::Epoch,
    },
    port::lock::Lock,
};

const SLOTS: [&str; 2] = ["promise.0", "promise.1"];
const LOCK: &str = "guard.lock";

/// What failed with the state on disk.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be made or locked.
    #[error("cannot use the state folder {path}")]
    Use {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another guard runs.
    #[error("another guard uses the state folder {0}")]
    Locked(PathBuf),
    /// There never was a state.
    #[error("{0} holds no promise: this guard was never enrolled")]
    NotEnrolled(PathBuf),
    /// There is, or was, a state.
    #[error("{0} holds a promise already")]
    Enrolled(PathBuf),
    /// What was promised cannot be read.
    #[error(
        "{0} holds no readable promise: start the guard and let the controller give it a new one first"
    )]
    Lost(PathBuf),
    /// The site follows, or serves.
    #[error("{0} holds no promise of a fenced site: there is nothing to rejoin")]
    NotFenced(PathBuf),
    /// A slot cannot be read, though it is there.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not known what a slot holds now. Nothing may be written any more by this process.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An earlier write failed.
    #[error("an earlier promise could not be written: only a new start tells what the disk holds")]
    Broken,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kept {
    /// The promise.
    pub promise: Promise,
    /// The controller's signature under its terms, to be shown to the other guard.
    pub certificate: Option<Certificate>,
}

/// What a folder holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the guard was never enrolled.
    Nothing,
    /// There was a promise, and none can be read any more.
    Lost,
    /// This.
    Kept(Box<Kept>),
}

/// The state of one guard, locked for this process.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    /// Counts the promises, so that the newer slot is known.
    turn: u64,
    /// The slot to be written first: one that does not hold the only newest promise.
    first: usize,
    is_broken: bool,
    _lock: Lock,
}

/// A fenced site that is about to follow again.
#[derive(Debug)]
pub struct Rejoining {
    state: State,
    kept: Kept,
}

impl Rejoining {
    /// Writes it, and gives the epoch of the promise.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn write(mut self) -> Result<Epoch, StateError> {
        self.state.write(&self.kept)?;
        Ok(self.kept.promise.epoch)
    }
}

impl State {
    /// Opens the folder, made where it is missing, and counts a start of the guard, durably, before anything else.
    /// Gives none where the state is lost.
    ///
    /// # Errors
    /// Where the guard was never enrolled, another one runs, or the disk fails.
    pub fn start(folder: &Path) -> Result<(Self, Option<Kept>), StateError> {
        let (mut state, found) = Self::open(folder)?;
        match found {
            Found::Nothing => Err(StateError::NotEnrolled(folder.to_owned())),
            Found::Lost => Ok((state, None)),
            Found::Kept(mut kept) => {
                kept.promise.starts = kept.promise.starts.next();
                state.write(&kept)?;
                Ok((state, Some(*kept)))
            }
        }
    }

    /// Enrols: writes the first promise.
    ///
    /// # Errors
    /// Where there is one already, or a state that is lost; where another guard runs, or the disk fails.
    pub fn enrol(folder: &Path) -> Result<(), StateError> {
        let (mut state, found) = Self::open(folder)?;
        match found {
            Found::Nothing => state.write(&Kept {
                promise: Promise::first(),
                certificate: None,
            }),
            Found::Lost | Found::Kept(_) => Err(StateError::Enrolled(folder.to_owned())),
        }
    }

    /// A fenced site whose data was resynchronised follows from its guard's next start on, once that is written.
    ///
    /// # Errors
    /// Where it is no fenced site, its guard runs, or the disk fails.
    pub fn rejoin(folder: &Path) -> Result<Rejoining, StateError> {
        let (state, found) = Self::open(folder)?;
        let mut kept = match found {
            Found::Kept(kept) => kept,
            Found::Nothing => return Err(StateError::NotEnrolled(folder.to_owned())),
            Found::Lost => return Err(StateError::Lost(folder.to_owned())),
        };
        if kept.promise.role != Role::Fenced {
            return Err(StateError::NotFenced(folder.to_owned()));
        }
        kept.promise.role = Role::Standby;
        Ok(Rejoining { state, kept: *kept })
    }

    /// What a folder holds, without a lock and without counting a start.
    ///
    /// # Errors
    /// Where a slot is there and the disk does not give it.
    pub fn look(folder: &Path) -> Result<Found, StateError> {
        read(folder).map(|(found, _, _)| found)
    }

    fn open(folder: &Path) -> Result<(Self, Found), StateError> {
        let used = |source| StateError::Use {
            path: folder.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(used)?;
        let lock = Lock::take(&folder.join(LOCK))
            .map_err(used)?
            .ok_or_else(|| StateError::Locked(folder.to_owned()))?;
        let (found, turn, first) = read(folder)?;
        let state = Self {
            folder: folder.to_owned(),
            turn,
            first,
            is_broken: false,
            _lock: lock,
        };
        Ok((state, found))
    }

    /// Keeps a promise. It is kept when this returns; where it fails, nobody knows whether it is.
    ///
    /// # Errors
    /// Where the disk fails, from then on always.
    pub fn write(&mut self, kept: &Kept) -> Result<(), StateError> {
        if self.is_broken {
            return Err(StateError::Broken);
        }
        self.is_broken = true;
        self.turn += 1;
        let slot = Slot {
            turn: self.turn,
            kept: kept.clone(),
        };
        for name in [SLOTS[self.first], SLOTS[1 - self.first]] {
            let path = self.folder.join(name);
            put(&self.folder, &path, &slot).map_err(|source| StateError::Write { path, source })?;
        }
        self.is_broken = false;
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Slot {
    turn: u64,
    kept: Kept,
}

/// What is found, the newest turn, and the slot that may be written over.
fn read(folder: &Path) -> Result<(Found, u64, usize), StateError> {
    let mut newest: Option<(usize, Slot)> = None;
    let mut is_there = false;
    for (index, name) in SLOTS.iter().enumerate() {
        let path = folder.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(StateError::Read { path, source }),
        };
        is_there = true;
        if let Some(slot) = whole(&bytes)
            && newest.as_ref().is_none_or(|(_, n)| slot.turn > n.turn)
        {
            newest = Some((index, slot));
        }
    }
    Ok(match newest {
        Some((index, slot)) => (Found::Kept(Box::new(slot.kept)), slot.turn, 1 - index),
        None if is_there => (Found::Lost, 0, 0),
        None => (Found::Nothing, 0, 0),
    })
}

/// A slot whose checksum holds.
fn whole(bytes: &[u8]) -> Option<Slot> {
    let (sum, body) = bytes.split_at_checked(64)?;
    let body = body.strip_prefix(b"\n")?.strip_suffix(b"\n")?;
    if hex::encode(Sha256::digest(body)).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(body).ok()
}

fn text(slot: &Slot) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(slot)?;
    let mut text = hex::encode(Sha256::digest(&body)).into_bytes();
    text.push(b'\n');
    text.extend_from_slice(&body);
    text.push(b'\n');
    Ok(text)
}

fn put(folder: &Path, path: &Path, slot: &Slot) -> io::Result<()> {
    let text = text(slot)?;
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&text)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::guard::Starts;

    fn of(epoch: u64) -> Kept {
        Kept {
            promise: Promise {
                epoch: Epoch(epoch),
                ..Promise::first()
            },
            certificate: None,
        }
    }

    fn epoch(found: &Found) -> Option<u64> {
        match found {
            Found::Kept(kept) => Some(kept.promise.epoch.0),
            Found::Nothing | Found::Lost => None,
        }
    }

    #[test]
    fn a_guard_is_enrolled_once_and_each_start_is_counted() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("guard");
        assert!(matches!(
            State::start(&folder),
            Err(StateError::NotEnrolled(_))
        ));
        State::enrol(&folder).unwrap();
        assert!(matches!(
            State::enrol(&folder),
            Err(StateError::Enrolled(_))
        ));
        for start in 1..4 {
            let (_state, kept) = State::start(&folder).unwrap();
            assert_eq!(kept.unwrap().promise.starts, Starts(start));
        }
    }

    #[test]
    fn only_a_fenced_site_rejoins() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path();
        State::enrol(folder).unwrap();
        assert!(matches!(
            State::rejoin(folder),
            Err(StateError::NotFenced(_))
        ));
        let (mut state, _) = State::open(folder).unwrap();
        let mut fenced = of(4);
        fenced.promise.role = Role::Fenced;
        state.write(&fenced).unwrap();
        drop(state);
        assert_eq!(State::rejoin(folder).unwrap().write().unwrap(), Epoch(4));
        let (_state, kept) = State::start(folder).unwrap();
        assert_eq!(kept.unwrap().promise.role, Role::Standby);
    }

    #[test]
    fn one_guard_runs_in_a_folder() {
        let top = tempfile::tempdir().unwrap();
        State::enrol(top.path()).unwrap();
        let running = State::start(top.path()).unwrap();
        assert!(matches!(
            State::start(top.path()),
            Err(StateError::Locked(_))
        ));
        drop(running);
        State::start(top.path()).unwrap();
    }

    #[test]
    fn a_write_that_is_torn_at_any_byte_leaves_the_promise_before_or_the_new_one() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path();
        State::enrol(folder).unwrap();
        let (mut state, _) = State::open(folder).unwrap();
        state.write(&of(1)).unwrap();
        let new = text(&Slot {
            turn: state.turn + 1,
            kept: of(2),
        })
        .unwrap();
        let (first, second) = (state.first, 1 - state.first);
        let both = |index: usize| folder.join(SLOTS[index]);
        let old = fs::read(both(first)).unwrap();
        for cut in 0..=new.len() {
            // What is behind the cut may be old or missing.
            let mut mixed = new[..cut].to_vec();
            mixed.extend_from_slice(old.get(cut..).unwrap_or_default());
            for torn in [&new[..cut], &mixed[..]] {
                fs::write(both(first), torn).unwrap();
                fs::write(both(second), &old).unwrap();
                let found = epoch(&State::look(folder).unwrap());
                assert_eq!(found, Some(if torn == new { 2 } else { 1 }), "{cut}");
                fs::write(both(first), &new).unwrap();
                fs::write(both(second), torn).unwrap();
                assert_eq!(epoch(&State::look(folder).unwrap()), Some(2), "{cut}");
            }
        }
    }

    #[test]
    fn a_start_after_a_torn_write_never_writes_over_the_only_whole_slot() {
        let top = tempfile::tempdir().unwrap();
        for (torn, slot) in SLOTS.into_iter().enumerate() {
            let folder = top.path().join(slot);
            State::enrol(&folder).unwrap();
            fs::write(folder.join(slot), "torn").unwrap();
            let (state, _) = State::open(&folder).unwrap();
            assert_eq!(state.first, torn);
        }
    }

    #[test]
    fn a_promise_that_was_kept_outlives_the_rot_of_either_slot_but_not_of_both() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path();
        State::enrol(folder).unwrap();
        State::open(folder).unwrap().0.write(&of(5)).unwrap();
        let whole = fs::read(folder.join(SLOTS[0])).unwrap();
        for at in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[at] ^= 1;
            fs::write(folder.join(SLOTS[0]), &rotten).unwrap();
            assert_eq!(epoch(&State::look(folder).unwrap()), Some(5));
        }
        fs::write(folder.join(SLOTS[1]), "").unwrap();
        assert_eq!(State::look(folder).unwrap(), Found::Lost);
        assert_eq!(State::start(folder).unwrap().1, None);
        fs::remove_file(folder.join(SLOTS[1])).unwrap();
        assert_eq!(State::look(folder).unwrap(), Found::Lost);
    }

    #[test]
    fn after_a_failed_write_nothing_is_written_any_more() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path();
        State::enrol(folder).unwrap();
        let (mut state, _) = State::open(folder).unwrap();
        let path = folder.join(SLOTS[state.first]);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(state.write(&of(1)), Err(StateError::Write { .. })));
        fs::remove_dir(&path).unwrap();
        assert!(matches!(state.write(&of(1)), Err(StateError::Broken)));
        assert_eq!(epoch(&State::look(folder).unwrap()), Some(0));
    }
}
