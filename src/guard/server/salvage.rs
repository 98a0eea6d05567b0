//! What a site had that the serving one never got, on its disk: a folder for each epoch that it was fenced in, which says
//! what it is until that is settled, and for as long as somebody leaves it there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    files::{disk, make_folder, put, sync_parent, write_synced},
    resync::ResyncError,
};
use crate::model::{guard::Salvage, id::Epoch, observation::Lsn};

/// Says what a folder holds.
const MANIFEST: &str = "salvage.json";
/// Marks a folder that nobody is asked about any more.
const SETTLED: &str = "settled";

/// What stands beside the log that was kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The site was fenced in it.
    pub epoch: Epoch,
    /// The timeline that went its own way.
    pub timeline: u32,
    /// Where it did.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// Transactions that were committed in between.
    pub commits: u64,
    /// Bytes of log in between.
    pub bytes: u64,
    /// That could not be told: the old data directory is kept as a whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_whole: bool,
    /// The files of log that were copied.
    pub files: Vec<String>,
}

impl Manifest {
    /// Of a data directory that is kept as a whole.
    #[must_use]
    pub fn whole(epoch: Epoch, timeline: u32) -> Self {
        Self {
            epoch,
            timeline,
            from: Lsn(0).to_string(),
            to: Lsn(0).to_string(),
            commits: 0,
            bytes: 0,
            is_whole: true,
            files: Vec::new(),
        }
    }

    fn salvage(&self) -> Option<Salvage> {
        Some(Salvage {
            from: Lsn::parse(&self.from)?,
            to: Lsn::parse(&self.to)?,
            commits: self.commits,
            is_whole: self.is_whole,
        })
    }
}

/// Where everything that was kept stands.
#[derive(Clone, Debug)]
pub struct Store(PathBuf);

impl Store {
    /// In this folder, which may not be there yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Where that is kept which a site had when it was fenced in that epoch.
    #[must_use]
    pub fn folder(&self, epoch: Epoch) -> PathBuf {
        self.0.join(format!("epoch-{}", epoch.0))
    }

    /// Says what is kept; on disk when this returns.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep(&self, manifest: &Manifest) -> Result<(), ResyncError> {
        let folder = self.folder(manifest.epoch);
        make_folder(&folder)?;
        let text = serde_json::to_vec_pretty(manifest).unwrap_or_default();
        put(&folder.join(MANIFEST), &text)?;
        sync_parent(&folder)
    }

    /// What is kept and was not settled, whatever epoch it is of; none where there is no such thing.
    #[must_use]
    pub fn unsettled(&self) -> Option<Salvage> {
        match self.folders() {
            Ok(folders) => folders
                .iter()
                .filter(|folder| !folder.join(SETTLED).exists())
                .filter_map(|folder| kept(folder))
                .reduce(Salvage::with),
            Err(_) => Some(UNKNOWN),
        }
    }

    /// Nobody is asked any more about what is kept now. It stays where it is.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn settle(&self) -> Result<(), ResyncError> {
        for folder in self.folders().map_err(disk("cannot read", &self.0))? {
            let path = folder.join(SETTLED);
            if kept(&folder).is_some() && !path.exists() {
                write_synced(&path, b"")?;
                sync_parent(&path)?;
            }
        }
        Ok(())
    }

    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(&self.0) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }
}

/// What cannot be read may be anything.
const UNKNOWN: Salvage = Salvage {
    from: Lsn(0),
    to: Lsn(0),
    commits: 0,
    is_whole: true,
};

fn kept(folder: &Path) -> Option<Salvage> {
    let text = match fs::read(folder.join(MANIFEST)) {
        Ok(text) => text,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return None;
        }
        Err(_) => return Some(UNKNOWN),
    };
    let manifest: Option<Manifest> = serde_json::from_slice(&text).ok();
    Some(manifest.and_then(|m| m.salvage()).unwrap_or(UNKNOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(epoch: u64, commits: u64) -> Manifest {
        Manifest {
            commits,
            is_whole: false,
            from: Lsn(epoch * 100).to_string(),
            to: Lsn(epoch * 100 + 10).to_string(),
            ..Manifest::whole(Epoch(epoch), 1)
        }
    }

    #[test]
    fn what_was_kept_is_told_in_every_later_epoch_until_it_is_settled() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::new(&top.path().join("salvage"));
        assert_eq!(store.unsettled(), None);
        store.settle().unwrap();
        store.keep(&manifest(3, 7)).unwrap();
        let told = store.unsettled().unwrap();
        assert_eq!((told.commits, told.is_whole), (7, false));
        // A later resync that finds nothing new forgets nothing.
        assert_eq!(store.unsettled(), Some(told));
        store.keep(&manifest(6, 2)).unwrap();
        let told = store.unsettled().unwrap();
        assert_eq!((told.from, told.to, told.commits), (Lsn(300), Lsn(610), 9));
        store.settle().unwrap();
        assert_eq!(store.unsettled(), None);
        // What comes after is a question of its own.
        store.keep(&manifest(8, 1)).unwrap();
        assert_eq!(store.unsettled().unwrap().commits, 1);
    }

    #[test]
    fn what_could_not_be_counted_or_cannot_be_read_is_not_nothing() {
        let top = tempfile::tempdir().unwrap();
        let store = Store::new(top.path());
        store.keep(&Manifest::whole(Epoch(3), 1)).unwrap();
        assert_eq!(store.unsettled(), Some(UNKNOWN));
        store.settle().unwrap();
        assert_eq!(store.unsettled(), None);
        let folder = store.folder(Epoch(4));
        make_folder(&folder).unwrap();
        fs::write(folder.join(MANIFEST), "{").unwrap();
        assert_eq!(store.unsettled(), Some(UNKNOWN));
    }
}
