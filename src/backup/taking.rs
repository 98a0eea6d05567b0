//! Taking a backup: PostgreSQL's own programs make it in a folder of its own, it is encrypted there, and then put into each
//! place under the moment at which it was begun. Whoever is killed on the way leaves a folder that the next one clears.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use nix::unistd::geteuid;
use tokio::{process::Command as Process, task::spawn_blocking, time::timeout};

use super::{
    age,
    program::{self, ProgramError},
    restore::{Busy, Fault, Programs, Scratch, Stop},
};
use crate::{
    model::{
        id::{ServiceName, SourceName},
        span::Span,
        taking::{Packing, Placed, Take, TakeForm, Taken},
        time::Time,
    },
    port::{
        backup::{BackupError, SharedBackups},
        cause,
        secret::SharedSecrets,
    },
};

/// A backup that is to be taken.
pub struct Taking<'a> {
    /// Of which service.
    pub service: &'a ServiceName,
    /// How.
    pub take: &'a Take,
    /// Where it is put; a place that cannot be used with the reason.
    pub places: Vec<(SourceName, Result<SharedBackups, String>)>,
    /// Reads the password.
    pub secrets: &'a SharedSecrets,
    /// Its moment.
    pub at: Time,
}

impl Taking<'_> {
    /// Takes it. Dropping the future ends what was begun.
    ///
    /// # Errors
    /// `Busy` where another process is at it.
    pub async fn run(&self) -> Result<Taken, Busy> {
        let begun = Instant::now();
        let mut taken = Taken {
            at: self.at,
            form: self.take.form,
            encrypted: !self.take.encrypt.is_empty(),
            bytes: 0,
            took: Span::ZERO,
            failed: None,
            places: BTreeMap::new(),
        };
        let work = timeout(self.take.timeout.to_std(), self.make(&mut taken)).await;
        match work {
            Ok(Ok(())) => {}
            Ok(Err(Stop::Busy(busy))) => return Err(busy),
            Ok(Err(Stop::Fault(
                Fault::Bad(reason) | Fault::Wrong(reason) | Fault::Unclear(reason),
            ))) => {
                taken.failed = Some(reason);
            }
            Err(_) => taken.failed = Some(format!("it was not done within {}", self.take.timeout)),
        }
        taken.took = Span::from(begun.elapsed());
        Ok(taken)
    }

    async fn make(&self, taken: &mut Taken) -> Result<(), Stop> {
        let above = self.take.folder.as_ref();
        let above = above.map_or_else(env::temp_dir, PathBuf::from);
        let path = above.join(format!("failover-take-{}-{}", geteuid(), self.service));
        let scratch = Scratch::at(path, None)?;
        scratch.has_room(0, self.take.keep_free)?;
        let file = tokio::select! {
            biased;
            full = scratch.runs_out(self.take.keep_free) => Err(full),
            made = self.sealed(&scratch) => made,
        }?;
        let size = fs::metadata(&file).map_err(|e| Fault::here("the backup", &e))?;
        taken.bytes = size.len();
        for (name, place) in &self.places {
            let put = match place {
                Ok(place) => place
                    .put(self.at, &file, taken.encrypted)
                    .await
                    .map_err(|e: BackupError| cause::in_full(&e)),
                Err(reason) => Err(reason.clone()),
            };
            let placed = match put {
                Ok(copy) => Placed::Stored { copy },
                Err(reason) => Placed::Failed { reason },
            };
            taken.places.insert(name.clone(), placed);
        }
        Ok(())
    }

    /// The backup as one file, encrypted where it is to be.
    async fn sealed(&self, scratch: &Scratch) -> Result<PathBuf, Fault> {
        let plain = match self.take.form {
            TakeForm::Base => self.base(scratch).await?,
            TakeForm::Dump => self.dump(scratch).await?,
        };
        if self.take.encrypt.is_empty() {
            return Ok(plain);
        }
        let sealed = scratch.path().join("sealed");
        let (from, to, keys) = (plain.clone(), sealed.clone(), self.take.encrypt.clone());
        let done = spawn_blocking(move || age::encrypt(&from, &to, &keys)).await;
        let done = done.map_err(|e| Fault::Unclear(cause::in_full(&e)))?;
        done.map_err(|e| Fault::Unclear(format!("it was not encrypted: {}", cause::in_full(&e))))?;
        fs::remove_file(&plain).map_err(|e| Fault::here("the backup", &e))?;
        Ok(sealed)
    }

    async fn base(&self, scratch: &Scratch) -> Result<PathBuf, Fault> {
        let base = scratch.path().join("base");
        let mut take = self.program("pg_basebackup", scratch)?;
        take.args(["--format=tar", "--wal-method=stream", "--checkpoint=fast"]);
        take.arg("--pgdata").arg(&base);
        match self.take.compress {
            Packing::Gzip => {
                take.arg("--gzip");
            }
            Packing::Zstd => {
                take.arg("--compress=client-zstd");
            }
            Packing::None => {}
        }
        ran("pg_basebackup", program::run(take).await)?;
        let whole = scratch.path().join("whole");
        let mut tar = Process::new("tar");
        tar.arg("--create").arg("--file").arg(&whole);
        tar.arg("--directory").arg(scratch.path()).arg("base");
        tar.stdin(Stdio::null()).stdout(Stdio::null());
        ran("tar", program::run(tar).await)?;
        fs::remove_dir_all(&base).map_err(|e| Fault::here("the backup", &e))?;
        Ok(whole)
    }

    async fn dump(&self, scratch: &Scratch) -> Result<PathBuf, Fault> {
        let whole = scratch.path().join("whole");
        let mut take = self.program("pg_dump", scratch)?;
        take.args(["--format=custom", "--file"]).arg(&whole);
        match self.take.compress {
            Packing::Gzip => {}
            Packing::Zstd => {
                take.arg("--compress=zstd");
            }
            Packing::None => {
                take.arg("--compress=0");
            }
        }
        ran("pg_dump", program::run(take).await)?;
        Ok(whole)
    }

    /// One of PostgreSQL's programs, about to log in. The password is in its environment, where nobody else can read it.
    fn program(&self, name: &str, scratch: &Scratch) -> Result<Process, Fault> {
        let programs = Programs::newest(self.take.programs.as_deref().map(Path::new))?;
        let mut process = Process::new(programs.path(name));
        process.args(["--no-password", "--dbname"]);
        process.arg(&self.take.connection);
        process.env("LC_ALL", "C").current_dir(scratch.path());
        process.stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(password) = &self.take.password {
            let password = self.secrets.read(password);
            let password = password.map_err(|e| Fault::Unclear(cause::in_full(&e)))?;
            process.env("PGPASSWORD", password.expose());
        }
        Ok(process)
    }
}

fn ran(name: &str, ended: Result<String, ProgramError>) -> Result<(), Fault> {
    let told = |e: &ProgramError| Fault::Unclear(format!("{name} {}", cause::in_full(e)));
    ended.map(drop).map_err(|e| told(&e))
}
