//! New files in a folder: all of them, or none.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::error::Error;

/// A file to write.
pub struct NewFile {
    /// Its name within the folder.
    pub name: &'static str,
    /// What it holds.
    pub text: String,
}

/// Says no where one of the files is there already.
///
/// # Errors
/// `Exists` names the first of them.
pub fn refuse_to_overwrite(folder: &Path, names: &[&str]) -> Result<(), Error> {
    let mut paths = names.iter().map(|name| folder.join(name));
    match paths.find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(Error::Exists { path }),
        None => Ok(()),
    }
}

/// Writes all files, durably, or leaves everything as it was. Makes the folder where there is none.
///
/// # Errors
/// Where a file is in the way or cannot be written.
pub fn write(folder: &Path, files: &[NewFile]) -> Result<Vec<PathBuf>, Error> {
    let is_new = !folder.is_dir();
    fs::create_dir_all(folder).map_err(|e| cannot(folder, e))?;
    let mut done = Vec::new();
    for file in files {
        let path = folder.join(file.name);
        if let Err(error) = place(folder, &path, &file.text) {
            for path in &done {
                let _ = fs::remove_file(path);
            }
            if is_new {
                // Only an empty one goes.
                let _ = fs::remove_dir(folder);
            }
            return Err(error);
        }
        done.push(path);
    }
    Ok(done)
}

/// A whole file appears under its name at once, and never in another's place.
fn place(folder: &Path, path: &Path, text: &str) -> Result<(), Error> {
    let mut file = tempfile::Builder::new()
        .prefix(".failover-init-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|e| cannot(path, e))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(|e| cannot(path, e))?;
    file.persist_noclobber(path).map_err(|e| {
        if e.error.kind() == io::ErrorKind::AlreadyExists {
            Error::Exists {
                path: path.to_owned(),
            }
        } else {
            cannot(path, e.error)
        }
    })?;
    Ok(())
}

fn cannot(path: &Path, source: io::Error) -> Error {
    Error::File {
        verb: "write",
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> [NewFile; 2] {
        ["one", "two"].map(|name| NewFile {
            name,
            text: name.to_owned(),
        })
    }

    #[test]
    fn all_files_or_none() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        write(&folder, &files()).unwrap();
        assert_eq!(fs::read_to_string(folder.join("two")).unwrap(), "two");
        assert!(refuse_to_overwrite(&folder, &["three"]).is_ok());
        assert!(refuse_to_overwrite(&folder, &["three", "two"]).is_err());

        fs::remove_file(folder.join("one")).unwrap();
        fs::write(folder.join("two"), "mine").unwrap();
        let error = write(&folder, &files()).unwrap_err();
        assert!(matches!(error, Error::Exists { path } if path.ends_with("two")));
        let left: Vec<_> = fs::read_dir(&folder).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(fs::read_to_string(folder.join("two")).unwrap(), "mine");
    }
}
