//! What this module writes is on the disk before anything goes on.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::resync::ResyncError;

/// An error of the disk, in words.
pub fn disk(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ResyncError {
    let path = path.to_owned();
    move |source| ResyncError::Disk { what, path, source }
}

/// A name beside the data directory.
pub fn beside(data: &Path, suffix: &str) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    data.with_file_name(name)
}

/// Makes a folder that is its owner's alone.
pub fn make_folder(folder: &Path) -> Result<(), ResyncError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(disk("cannot make", folder))
}

/// Writes a file in place. Its name is durable after [`sync_parent`].
pub fn write_synced(path: &Path, text: &[u8]) -> Result<(), ResyncError> {
    let written = fs::write(path, text).and_then(|()| File::open(path)?.sync_all());
    written.map_err(disk("cannot write", path))
}

/// Puts a file that is its owner's alone into place: whatever breaks it off, it is there whole or not at all.
pub fn put(path: &Path, text: &[u8]) -> Result<(), ResyncError> {
    let new = beside(path, "new");
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text)?;
        file.sync_all()
    };
    written().map_err(disk("cannot write", &new))?;
    fs::rename(&new, path).map_err(disk("cannot put into place", path))?;
    sync_parent(path)
}

/// Removes a file that may be gone already.
pub fn remove(path: &Path) -> Result<(), ResyncError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(disk("cannot remove", path)(e)),
    }
}

/// Makes the names in a file's folder durable.
pub fn sync_parent(path: &Path) -> Result<(), ResyncError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(parent).and_then(|file| file.sync_all());
    synced.map_err(disk("cannot sync", parent))
}
