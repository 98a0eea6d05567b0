//! Beside data that `pg_rewind` works on: while it is there, the data is neither the old nor the new, whoever looks. It holds
//! this host's settings, which `pg_rewind` replaces by the other host's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    files::{beside, disk, put, remove},
    resync::ResyncError,
    settings::Settings,
};

fn mark(data: &Path) -> PathBuf {
    beside(data, "rewinding")
}

/// `pg_rewind` begins: on disk when this returns.
///
/// # Errors
/// Where that cannot be written.
pub fn begin(data: &Path, own: &Settings) -> Result<(), ResyncError> {
    let mark = mark(data);
    let text = serde_json::to_vec(own).map_err(io::Error::other);
    put(&mark, &text.map_err(disk("cannot write", &mark))?)
}

/// The data is whole: `pg_rewind` came to its end, or a new copy stands in its place.
///
/// # Errors
/// Where that cannot be written.
pub fn done(data: &Path) -> Result<(), ResyncError> {
    remove(&mark(data))
}

/// Whether `pg_rewind` was broken off here. What cannot be told may be so.
#[must_use]
pub fn is_half_done(data: &Path) -> bool {
    mark(data).try_exists().unwrap_or(true)
}

/// This host's settings, as they were before `pg_rewind` was broken off.
///
/// # Errors
/// Where they cannot be read.
pub fn settings(data: &Path) -> Result<Settings, ResyncError> {
    let mark = mark(data);
    let read = fs::read(&mark).and_then(|text| Ok(serde_json::from_slice(&text)?));
    read.map_err(disk("cannot read this host's settings from", &mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_a_rewind_was_broken_off_at_is_known_and_this_hosts_settings_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("postgresql.auto.conf"), b"port = 1\xff").unwrap();
        assert!(!is_half_done(&data));
        let own = Settings::read(&data).unwrap();
        begin(&data, &own).unwrap();
        assert!(is_half_done(&data));
        fs::write(data.join("postgresql.auto.conf"), "port = 2").unwrap();
        assert_eq!(settings(&data).unwrap(), own);
        done(&data).unwrap();
        done(&data).unwrap();
        assert!(!is_half_done(&data));
        // What stands in the way of a look is no proof.
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(is_half_done(&folder.path().join("file/data")));
    }
}
