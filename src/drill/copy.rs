//! Copies the standby with `pg_basebackup`, no faster than asked, and stops before the disk is full.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::sleep};

use super::{
    folder::{self, Folder},
    original::Original,
    programs::Programs,
};
use crate::{
    model::{observation::Lsn, secret::Secret},
    port::{
        postgres::{Conninfo, keys, written},
        program,
    },
};

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of what it says that are kept: its end.
const SAID: usize = 4000;
/// What a copy brings along that would lead its server elsewhere, or that is another server's.
const NOT_OURS: [&str; 5] = [
    "postgresql.auto.conf",
    "recovery.signal",
    "standby.signal",
    "postmaster.pid",
    "postmaster.opts",
];

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The disk.
    #[error("it was broken off when {path} had {free} MiB left: {keep} MiB stay free (`keepFree`)")]
    Full {
        /// Where.
        path: String,
        /// Mebibytes.
        free: u64,
        /// Mebibytes.
        keep: u64,
    },
    /// The program said no.
    #[error("pg_basebackup failed: {0}")]
    Failed(String),
    /// A file, a folder or a program of this host.
    #[error("{0}")]
    Here(&'static str, #[source] io::Error),
}

/// What is copied, and how.
pub struct Copying<'a> {
    /// Its programs.
    pub programs: &'a Programs,
    /// Where it stands.
    pub from: &'a Conninfo,
    /// The role's password.
    pub password: Option<&'a Secret>,
    /// What it told.
    pub original: &'a Original,
    /// MiB a second.
    pub max_rate: u32,
    /// `fast` or `spread`.
    pub checkpoint: &'a str,
    /// MiB that stay free.
    pub keep_free: u64,
}

impl Copying<'_> {
    /// Copies into the run's folder, and says where the copy ends. Dropping the future ends it; what was copied stays.
    ///
    /// # Errors
    /// Where the copy is not whole.
    pub async fn run(&self, folder: &Folder) -> Result<Option<Lsn>, CopyError> {
        let command = self
            .command(folder)
            .map_err(|e| CopyError::Here("the copy cannot be prepared", e))?;
        let said = tokio::select! {
            biased;
            full = self.runs_out(folder) => return Err(full),
            said = run(command) => said?,
        };
        clean(&folder.data()).map_err(|e| CopyError::Here("the copy cannot be cleaned", e))?;
        Ok(end_point(&said))
    }

    fn command(&self, folder: &Folder) -> io::Result<Command> {
        let mut command = Command::new(self.programs.path("pg_basebackup"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .current_dir(folder.path())
            .arg(format!("--dbname={}", self.connection()))
            .arg("--pgdata")
            .arg(folder.data())
            // Without a slot nothing can keep the standby's log from being removed, whatever becomes of the copy.
            .args([
                "--no-password",
                "--format=plain",
                "--wal-method=stream",
                "--no-slot",
            ])
            .args(["--no-sync", "--no-manifest", "--verbose"])
            .arg(format!("--max-rate={}M", self.max_rate))
            .arg(format!("--checkpoint={}", self.checkpoint));
        for (number, location) in &self.original.spaces {
            // Else they would be put where the original's are.
            let here = folder.join("tablespaces").join(number.to_string());
            fs::create_dir_all(&here)?;
            command.arg(format!(
                "--tablespace-mapping={}={}",
                escaped(location),
                escaped(&here)
            ));
        }
        if let Some(password) = self.password {
            command.env("PGPASSWORD", password.expose());
        }
        Ok(command)
    }

    /// The connection as libpq reads it; it takes nothing from the environment but the password.
    fn connection(&self) -> String {
        let mut keys = keys(&self.from.to_string()).unwrap_or_default();
        keys.remove("options");
        keys.entry("application_name".to_owned())
            .or_insert_with(|| "failover drill".to_owned());
        written(&keys)
    }

    async fn runs_out(&self, folder: &Folder) -> CopyError {
        loop {
            match folder::free(folder.path()) {
                Ok(free) if free < self.keep_free << 20 => {
                    return CopyError::Full {
                        path: folder.path().display().to_string(),
                        free: free >> 20,
                        keep: self.keep_free,
                    };
                }
                Ok(_) => {}
                Err(e) => return CopyError::Here("the free disk cannot be told", e),
            }
            sleep(LOOK).await;
        }
    }
}

/// `=` parts the two folders of a mapping.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('=', "\\=")
}

/// `write-ahead log end point: 0/40001A8`.
fn end_point(said: &str) -> Option<Lsn> {
    let (_, rest) = said.rsplit_once("log end point: ")?;
    Lsn::parse(rest.split_whitespace().next()?)
}

/// Leaves nothing of the original's way to its primary and its archive: its configuration is not used either.
fn clean(data: &Path) -> io::Result<()> {
    for name in NOT_OURS {
        match fs::remove_file(data.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
    }
    // It replays what it has, and waits to be promoted.
    fs::File::create(data.join("standby.signal"))?.flush()
}

/// Runs the program to its end, and gives what it said.
async fn run(mut command: Command) -> Result<String, CopyError> {
    let ended = program::run(&mut command, SAID).await;
    let ended = ended.map_err(|e| CopyError::Here("pg_basebackup cannot be run", e))?;
    let (status, said) = (ended.status, ended.said);
    if status.success() {
        return Ok(said);
    }
    let last = said
        .lines()
        .rfind(|line| line.contains("error:") || line.contains("FATAL"));
    let last = last.or_else(|| said.lines().last()).unwrap_or_default();
    Err(CopyError::Failed(format!("{last} ({status})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_copy_is_read_from_what_the_program_says() {
        let said = "pg_basebackup: write-ahead log start point: 0/4000028 on timeline 1\n\
                    pg_basebackup: write-ahead log end point: 0/40001A8\n\
                    pg_basebackup: base backup completed\n";
        assert_eq!(end_point(said), Lsn::parse("0/40001A8"));
        assert_eq!(end_point("pg_basebackup: error: x"), None);
    }
}
