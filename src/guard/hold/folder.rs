//! The runtime folder of one hold: its lock, its socket, who it is, and how its command ended.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::unistd::Uid;
use serde::{Serialize, de::DeserializeOwned};

use super::message::{Ended, Record};

/// What `sun_path` takes, with its closing zero.
const SOCKET_PATH: usize = 108;

/// Why a folder cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made or looked at.
    #[error("cannot use {path}")]
    Use {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may come in.
    #[error("{path} is no folder of this user alone: it must be ours, with mode 0700, and no link")]
    Open {
        /// Which.
        path: PathBuf,
    },
    /// A socket in it could not be named.
    #[error(
        "{path} is too long for a socket's folder: its name may have {SOCKET_PATH} bytes with the socket's"
    )]
    Long {
        /// Which.
        path: PathBuf,
    },
    /// A file in it cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A folder that belongs to us alone.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it where it is missing.
    ///
    /// # Errors
    /// Where it cannot be made, or is not for us alone.
    pub fn make(path: &Path) -> Result<Self, FolderError> {
        let used = |source| FolderError::Use {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .create(parent)
                .map_err(used)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(used(e)),
            Ok(()) | Err(_) => {}
        }
        Self::open(path)?.ok_or_else(|| used(io::ErrorKind::NotFound.into()))
    }

    /// Takes one that is there; none where it is not.
    ///
    /// # Errors
    /// Where it is not for us alone.
    pub fn open(path: &Path) -> Result<Option<Self>, FolderError> {
        let path = path.to_owned();
        let seen = match fs::symlink_metadata(&path) {
            Ok(seen) => seen,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FolderError::Use { path, source }),
        };
        if !seen.is_dir() || seen.uid() != Uid::effective().as_raw() || seen.mode() & 0o077 != 0 {
            return Err(FolderError::Open { path });
        }
        let folder = Self(path);
        if folder.socket().as_os_str().as_bytes().len() >= SOCKET_PATH {
            return Err(FolderError::Long { path: folder.0 });
        }
        Ok(Some(folder))
    }

    /// Where hold listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.join("hold.sock")
    }

    /// What hold has locked while it lives.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("hold.lock")
    }

    /// Who the last hold is or was; none where there was none yet, or before this boot.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn record(&self) -> Result<Option<Record>, FolderError> {
        let record: Option<Record> = self.read("hold.json")?;
        Ok(match record {
            Some(record) if record.boot == boot()? => Some(record),
            Some(_) | None => None,
        })
    }

    /// Says who hold is.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn write_record(&self, record: &Record) -> Result<(), FolderError> {
        self.write("hold.json", record)
    }

    /// How the last hold's command ended; none where it runs, or hold could not say.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn ended(&self) -> Result<Option<Ended>, FolderError> {
        self.read("ended.json")
    }

    /// Says how the command ended.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn write_ended(&self, ended: Ended) -> Result<(), FolderError> {
        self.write("ended.json", &ended)
    }

    /// Removes what a dead hold left, but for its lock, which is a file for ever.
    ///
    /// # Errors
    /// Where that cannot be removed.
    pub fn sweep(&self) -> Result<(), FolderError> {
        for path in [
            self.socket(),
            self.0.join("ended.json"),
            self.0.join("hold.json"),
        ] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(FolderError::Write { path, source: e });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FolderError> {
        let path = self.0.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FolderError::Read { path, source }),
        };
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Some(value)),
            Err(e) => Err(FolderError::Read {
                path,
                source: e.into(),
            }),
        }
    }

    /// Whole or not at all, as others read it.
    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), FolderError> {
        let path = self.0.join(name);
        let new = self.0.join(format!("{name}.new"));
        let write = || {
            let mut file = fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&super::message::line(value)?)?;
            fs::rename(&new, &path)
        };
        write().map_err(|source| FolderError::Write {
            path: path.clone(),
            source,
        })
    }
}

/// This boot of this machine.
///
/// # Errors
/// Where the kernel does not tell.
pub fn boot() -> Result<String, FolderError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    match fs::read_to_string(path) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(source) => Err(FolderError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::{super::process::Identity, *};

    #[test]
    fn a_folder_is_made_for_its_owner_alone_and_no_other_is_taken() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("run/shop");
        assert!(Folder::open(&path).unwrap().is_none());
        Folder::make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        Folder::make(&path).unwrap();

        let link = top.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(Folder::make(&link), Err(FolderError::Open { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(Folder::make(&path), Err(FolderError::Open { .. })));
        let long = top.path().join("x".repeat(100));
        assert!(matches!(Folder::make(&long), Err(FolderError::Long { .. })));
    }

    #[test]
    fn a_record_of_another_boot_counts_for_nothing() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::make(&top.path().join("shop")).unwrap();
        assert_eq!(folder.record().unwrap(), None);
        let own = Identity::own().unwrap();
        let mut record = Record {
            boot: boot().unwrap(),
            hold: own,
            init: own,
        };
        folder.write_record(&record).unwrap();
        assert_eq!(folder.record().unwrap(), Some(record.clone()));
        record.boot = "another".to_owned();
        folder.write_record(&record).unwrap();
        assert_eq!(folder.record().unwrap(), None);
    }
}
