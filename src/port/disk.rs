//! What a folder takes on its disk, and what is free there.

use std::{fs, io, path::Path};

use nix::sys::statvfs::statvfs;

/// Bytes that are free where a file or folder is.
///
/// # Errors
/// Where that cannot be told.
pub fn free(path: &Path) -> io::Result<u64> {
    let seen = statvfs(path)?;
    Ok(seen.blocks_available().saturating_mul(seen.fragment_size()))
}

/// Bytes of a file, or of all files of a folder.
///
/// # Errors
/// Where it cannot be looked at.
pub fn size_of(path: &Path) -> io::Result<u64> {
    let seen = fs::symlink_metadata(path)?;
    if !seen.is_dir() {
        return Ok(seen.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        bytes += size_of(&entry?.path())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_takes_what_its_files_take() {
        let at = tempfile::tempdir().unwrap();
        let deep = at.path().join("deep");
        fs::create_dir(&deep).unwrap();
        fs::write(at.path().join("a"), [0; 10]).unwrap();
        fs::write(deep.join("b"), [0; 5]).unwrap();
        assert_eq!(size_of(at.path()).unwrap(), 15);
        assert_eq!(size_of(&at.path().join("a")).unwrap(), 10);
        assert!(size_of(&at.path().join("none")).is_err());
        assert!(free(at.path()).is_ok() && free(&at.path().join("none")).is_err());
    }
}
