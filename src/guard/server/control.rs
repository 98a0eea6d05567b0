//! What a data directory was last: `global/pg_control` says it without a server.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::model::observation::Lsn;

/// Where the parts stand that have not moved since PostgreSQL 9: system identifier (8 bytes), version of the file (4),
/// version of the catalogue (4), state (4), each as the host has its numbers.
const VERSION: usize = 8;
const STATE: usize = 16;
/// Since PostgreSQL 11 the time (8, at a multiple of 8), where the last checkpoint's record begins (8), and a copy of that
/// record follow, which begins with where a recovery would begin (8) and its timeline (4).
const CHECKPOINT: usize = 32;
const REDO: usize = 40;
const TIMELINE: usize = 48;
const HEAD: usize = 52;
/// The version of the file since PostgreSQL 11.
const SINCE: u32 = 1100;
/// Shut down by its own order, as a primary.
const SHUT_DOWN: u32 = 1;

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is of a version that is not known, or no such file.
    #[error("{path} is of version {version}, which is not known")]
    Version {
        /// Which file.
        path: PathBuf,
        /// What stands there.
        version: u32,
    },
    /// It says what no server writes.
    #[error("{path} tells of state {state}, which is not known")]
    State {
        /// Which file.
        path: PathBuf,
        /// What stands there.
        state: u32,
    },
}

/// What a server was when it last ran on a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRun {
    /// A primary, or none yet: started without `standby.signal` it goes on where it was.
    Primary,
    /// A standby: it has to be promoted, for without a new timeline its log would fork unseen.
    Standby,
}

/// What the control file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Names the cluster: its copies have the same.
    pub system: u64,
    /// Whether a primary was stopped in order.
    pub is_clean: bool,
    /// The timeline of the last checkpoint.
    pub timeline: u32,
    /// Where a recovery from it would begin.
    pub redo: Lsn,
}

/// Reads the control file.
///
/// # Errors
/// Where it cannot be read, or is of a version that does not have these parts here.
pub fn read(data: &Path) -> Result<Control, ControlError> {
    let (path, head) = head(data)?;
    let version = number(&head, VERSION);
    if version < SINCE {
        return Err(ControlError::Version { path, version });
    }
    Ok(Control {
        system: position(&head, 0),
        is_clean: number(&head, STATE) == SHUT_DOWN,
        timeline: number(&head, TIMELINE),
        redo: Lsn(position(&head, REDO)),
    })
}

fn head(data: &Path) -> Result<(PathBuf, [u8; HEAD]), ControlError> {
    let path = data.join("global/pg_control");
    let mut head = [0; HEAD];
    if let Err(source) = File::open(&path).and_then(|mut f| f.read_exact(&mut head)) {
        return Err(ControlError::Read { path, source });
    }
    let version = number(&head, VERSION);
    if !(1000..3000).contains(&version) {
        return Err(ControlError::Version { path, version });
    }
    Ok((path, head))
}

/// Reads what it was last.
///
/// # Errors
/// Where it cannot be told.
pub fn last_run(data: &Path) -> Result<LastRun, ControlError> {
    let (path, head) = head(data)?;
    if data.join("backup_label").exists() {
        // A copy of a primary that never ran: its file says what the primary was.
        return Ok(LastRun::Standby);
    }
    match number(&head, STATE) {
        // Shut down, shutting down, in crash recovery, in production.
        SHUT_DOWN | 3 | 4 | 6 => Ok(LastRun::Primary),
        // Shut down in recovery, in archive recovery.
        2 | 5 => Ok(LastRun::Standby),
        state => Err(ControlError::State { path, state }),
    }
}

/// Where the log of a primary ends that no process writes any more: the beginning of the last record, a checkpoint. None
/// where it did not stop in its own order, for then nobody knows without reading the log. What a later start wrote that
/// was killed before it let anybody in is nobody's data.
///
/// # Errors
/// Where it cannot be told.
pub fn end_of_log(data: &Path) -> Result<Option<Lsn>, ControlError> {
    let (_, head) = head(data)?;
    let at = position(&head, CHECKPOINT);
    // A checkpoint at which nothing else went on is where its own recovery would begin. Older versions have something
    // else in that place.
    let is_last = number(&head, STATE) == SHUT_DOWN && at == position(&head, REDO);
    let is_copy = data.join("backup_label").exists();
    Ok((is_last && !is_copy && at > 0).then_some(Lsn(at)))
}

fn position(head: &[u8; HEAD], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_ne_bytes(bytes)
}

fn number(head: &[u8; HEAD], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&head[at..at + 4]);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(version: u32, state: u32, positions: [u64; 2]) -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("global")).unwrap();
        let mut head = vec![7; 8];
        for number in [version, 202_209_061, state, 0, 0, 0] {
            head.extend_from_slice(&number.to_ne_bytes());
        }
        for position in positions {
            head.extend_from_slice(&position.to_ne_bytes());
        }
        head.resize(HEAD, 0);
        std::fs::write(data.path().join("global/pg_control"), head).unwrap();
        data
    }

    fn written(version: u32, state: u32) -> Result<LastRun, ControlError> {
        last_run(data(version, state, [0, 0]).path())
    }

    #[test]
    fn only_a_primary_that_stopped_in_its_own_order_says_where_its_log_ends() {
        let ends = |state, positions| end_of_log(data(1300, state, positions).path()).unwrap();
        assert_eq!(ends(1, [0x300_0028; 2]), Some(Lsn(0x300_0028)));
        assert_eq!(ends(1, [0x300_0028, 0x300_0000]), None);
        assert_eq!(ends(1, [0; 2]), None);
        for state in [0, 2, 3, 4, 5, 6] {
            assert_eq!(ends(state, [0x300_0028; 2]), None);
        }
        let copy = data(1300, 1, [0x300_0028; 2]);
        std::fs::write(copy.path().join("backup_label"), "").unwrap();
        assert_eq!(end_of_log(copy.path()).unwrap(), None);
    }

    #[test]
    fn a_standby_is_told_from_a_primary() {
        for (state, expected) in [
            (1, LastRun::Primary),
            (2, LastRun::Standby),
            (5, LastRun::Standby),
            (6, LastRun::Primary),
        ] {
            assert_eq!(written(1300, state).unwrap(), expected);
        }
        assert!(matches!(written(1300, 9), Err(ControlError::State { .. })));
        assert!(matches!(written(1, 6), Err(ControlError::Version { .. })));
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(
            last_run(empty.path()),
            Err(ControlError::Read { .. })
        ));
    }
}
