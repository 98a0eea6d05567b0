//! PostgreSQL's programs of one version, as they are found on this host.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::port::postgres::programs;

/// Where Debian, Red Hat and others put them, a folder for each major version.
const USUAL: [(&str, &str); 3] = [
    ("/usr/lib/postgresql/", "/bin"),
    ("/usr/pgsql-", "/bin"),
    ("/opt/postgresql/", "/bin"),
];
/// What a drill runs.
const NEEDED: [&str; 3] = ["postgres", "pg_basebackup", "pg_controldata"];

/// PostgreSQL's programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Those of this major version, in the named folder or where they usually are. It blocks.
    ///
    /// # Errors
    /// Where they are not there, in one sentence.
    pub fn of_version(major: u32, named: Option<&Path>) -> Result<Self, String> {
        let usual = || {
            let usual = USUAL.map(|(above, below)| PathBuf::from(format!("{above}{major}{below}")));
            let path = env::var_os("PATH").unwrap_or_default();
            usual.into_iter().chain(env::split_paths(&path)).collect()
        };
        let folders: Vec<PathBuf> = named.map_or_else(usual, |named| vec![named.to_owned()]);
        let fits = |folder: &PathBuf| {
            programs::version(folder, &NEEDED).and_then(|v| programs::major(&v)) == Some(major)
        };
        match folders.into_iter().find(fits) {
            Some(folder) => Ok(Self { folder }),
            None => Err(format!(
                "the programs of PostgreSQL {major} ({}) are not on this host{}: install them, or set `programs` to \
                 their folder",
                NEEDED.join(", "),
                named.map_or_else(String::new, |named| format!(" in {}", named.display())),
            )),
        }
    }

    /// One of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder of libraries that it loads. It blocks.
    fn libraries(&self) -> Option<PathBuf> {
        let told = Command::new(self.path("pg_config"))
            .arg("--pkglibdir")
            .output();
        let told = told.ok().and_then(|out| String::from_utf8(out.stdout).ok());
        let usual = self.folder.parent().map(|above| above.join("lib"));
        told.map(|text| PathBuf::from(text.trim()))
            .filter(|path| path.is_dir())
            .or(usual)
    }

    /// Whether it can load a library. It blocks.
    pub fn loads(&self, library: &str) -> bool {
        let name = library.strip_prefix("$libdir/").unwrap_or(library);
        let Some(path) = self.libraries().map(|libraries| libraries.join(name)) else {
            return false;
        };
        path.is_file() || PathBuf::from(format!("{}.so", path.display())).is_file()
    }
}
