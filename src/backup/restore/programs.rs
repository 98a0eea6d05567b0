//! PostgreSQL's programs, as they are found on this host.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::Fault;
use crate::port::postgres::programs;

/// Where Debian, Red Hat and the BSDs put them, a folder for each major version.
const USUAL: [(&str, &str); 3] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr/pgsql-", "bin"),
    ("/opt/postgresql", "bin"),
];
/// What a trial runs.
const NEEDED: [&str; 4] = ["postgres", "initdb", "pg_restore", "psql"];

/// PostgreSQL's programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The newest that are found: those are able to read every older dump.
    pub fn newest(named: Option<&Path>) -> Result<Self, Fault> {
        let mut found: Vec<_> = folders(named)
            .into_iter()
            .filter_map(|folder| Some((major(&folder)?, folder)))
            .collect();
        found.sort();
        match found.pop() {
            Some((_, folder)) => Ok(Self { folder }),
            None => Err(Fault::Unclear(
                "PostgreSQL's programs (postgres, initdb, pg_restore) are not on this host: set `verify.programs`"
                    .to_owned(),
            )),
        }
    }

    /// Those that can run this data directory.
    pub fn of_data(data: &Path, named: Option<&Path>) -> Result<Self, Fault> {
        let wanted = fs::read_to_string(data.join("PG_VERSION"))
            .map_err(|e| Fault::Bad(format!("its PG_VERSION cannot be read: {e}")))?;
        let wanted = wanted.trim();
        let fits = |folder: &PathBuf| major(folder).is_some_and(|m| m.to_string() == wanted);
        match folders(named).into_iter().find(fits) {
            Some(folder) => Ok(Self { folder }),
            None => Err(Fault::Unclear(format!(
                "it needs PostgreSQL {wanted}, which is not on this host: set `verify.programs`"
            ))),
        }
    }

    /// The same for whoever only wants to say why there are none.
    ///
    /// # Errors
    /// Where there are none that fit.
    pub fn for_data(data: &Path, named: Option<&Path>) -> Result<Self, String> {
        Self::of_data(data, named).map_err(|fault| match fault {
            Fault::Bad(reason) | Fault::Wrong(reason) | Fault::Unclear(reason) => reason,
        })
    }

    /// One of them.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn folders(named: Option<&Path>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.to_owned()];
    }
    let mut folders: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    for (above, bin) in USUAL {
        for major in 13..40 {
            folders.push(PathBuf::from(above).join(major.to_string()).join(bin));
            folders.push(PathBuf::from(format!("{above}{major}")).join(bin));
        }
    }
    folders
}

/// The major version of a folder that holds all that is needed.
fn major(folder: &Path) -> Option<u32> {
    programs::version(folder, &NEEDED).and_then(|version| programs::major(&version))
}
