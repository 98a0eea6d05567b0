//! What stands in a data directory and is this host's, not the database's.

use std::{fs, os::unix::fs::chown, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    files::{disk, write_synced},
    resync::ResyncError,
};

/// Settings of this host that stand in the data directory.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings(Vec<(String, Vec<u8>)>);

impl Settings {
    /// As they are now.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn read(data: &Path) -> Result<Self, ResyncError> {
        let mut files = Vec::new();
        let entries = fs::read_dir(data).map_err(disk("cannot read", data))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_own = Path::new(&name).extension().is_some_and(|e| e == "conf");
            if is_own && entry.path().is_file() {
                let text = fs::read(entry.path()).map_err(disk("cannot read", &entry.path()))?;
                files.push((name, text));
            }
        }
        Ok(Self(files))
    }

    /// Puts them into a data directory, as its owner's.
    ///
    /// # Errors
    /// Where one cannot be written.
    pub fn write(&self, data: &Path, owner: (u32, u32)) -> Result<(), ResyncError> {
        for (name, text) in &self.0 {
            let path = data.join(name);
            write_synced(&path, text)?;
            chown(&path, Some(owner.0), Some(owner.1)).map_err(disk("cannot give away", &path))?;
        }
        Ok(())
    }
}
