//! How a new copy takes the place of the data directory, which stays beside it. Whatever breaks it off, either what was
//! there is in its place, or the guard's next start puts the new copy there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    files::{beside, disk, remove, sync_parent, write_synced},
    resync::ResyncError,
};
use crate::model::id::Epoch;

/// Of a new copy that lacks nothing.
const WHOLE: &str = "failover.whole";

/// Where the new copy of a data directory is made.
pub fn new_copy(data: &Path) -> PathBuf {
    beside(data, "new")
}

/// Puts the new copy into its place, and gives where the data that was there is now.
///
/// # Errors
/// Where the disk refuses.
pub fn replace(data: &Path, epoch: Epoch) -> Result<PathBuf, ResyncError> {
    let whole = new_copy(data).join(WHOLE);
    write_synced(&whole, b"")?;
    sync_parent(&whole)?;
    let old = free(data, epoch)?;
    fs::rename(data, &old).map_err(disk("cannot put aside", data))?;
    sync_parent(data)?;
    finish(data)?;
    Ok(old)
}

/// Ends what a crash broke off.
///
/// # Errors
/// Where the disk refuses.
pub fn finish(data: &Path) -> Result<(), ResyncError> {
    let new = new_copy(data);
    if !is_there(data)? && is_there(&new.join(WHOLE))? {
        fs::rename(&new, data).map_err(disk("cannot put into place", &new))?;
        sync_parent(data)?;
    }
    remove(&data.join(WHOLE))
}

/// A name that an earlier copy in the same epoch has not taken.
fn free(data: &Path, epoch: Epoch) -> Result<PathBuf, ResyncError> {
    let first = beside(data, &format!("epoch-{}", epoch.0));
    if !is_there(&first)? {
        return Ok(first);
    }
    let mut count = 2_u32;
    loop {
        let next = beside(data, &format!("epoch-{}-{count}", epoch.0));
        if !is_there(&next)? {
            return Ok(next);
        }
        count += 1;
    }
}

fn is_there(path: &Path) -> Result<bool, ResyncError> {
    path.try_exists().map_err(disk("cannot look for", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(path: &Path, version: &str) {
        fs::create_dir(path).unwrap();
        fs::write(path.join("version"), version).unwrap();
    }

    fn version(path: &Path) -> String {
        fs::read_to_string(path.join("version")).unwrap()
    }

    #[test]
    fn each_data_directory_that_gave_way_is_kept_under_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        made(&data, "1");
        for (n, kept) in ["data.epoch-7", "data.epoch-7-2", "data.epoch-7-3"]
            .iter()
            .enumerate()
        {
            made(&new_copy(&data), &format!("{}", n + 2));
            let old = replace(&data, Epoch(7)).unwrap();
            assert_eq!(old, folder.path().join(kept));
            assert_eq!(version(&old), format!("{}", n + 1));
            assert_eq!(version(&data), format!("{}", n + 2));
            assert!(!data.join(WHOLE).exists());
        }
    }

    #[test]
    fn a_copy_is_put_into_place_after_a_crash_between_the_two_renames_and_never_before_it_is_whole()
    {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        made(&new_copy(&data), "2");
        finish(&data).unwrap();
        assert!(!data.exists());

        fs::write(new_copy(&data).join(WHOLE), "").unwrap();
        finish(&data).unwrap();
        assert_eq!(version(&data), "2");
        assert!(!data.join(WHOLE).exists());

        // What is in its place stays there.
        made(&new_copy(&data), "3");
        fs::write(new_copy(&data).join(WHOLE), "").unwrap();
        finish(&data).unwrap();
        assert_eq!(version(&data), "2");
    }
}
