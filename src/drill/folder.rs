//! The folder of a run. What a step left there tells the next one, and the next process, what is in place.

use std::{
    env,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::unistd::geteuid;
use serde::{Serialize, de::DeserializeOwned};

use super::process;
use crate::{
    model::id::{RunId, ServiceName, StepId},
    port::{account::Account, action::StepContext, disk},
};

/// A socket's path may not be longer.
const SOCKET: usize = 100;
/// The fact by which later steps find the folder of the clone.
pub const FACT: &str = "drillFolder";

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// That of a run below a named folder, or below the host's folder for temporary files.
    pub fn of(named: Option<&str>, service: &ServiceName, run: &RunId) -> Self {
        let path = above(named, service).join(run.as_str());
        Self { path }
    }

    /// Where the clone of this run stands, as the step that made it tells.
    pub fn of_step(step: &StepContext) -> Self {
        let told = |(name, _): &(&String, &String)| {
            name.rsplit_once('.').is_some_and(|(_, fact)| fact == FACT)
        };
        let named = step.facts.iter().find(told).map(|(_, path)| path.as_str());
        Self::of(named, &step.service, &step.run)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The data directory of the clone.
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// The folder of the server's socket.
    pub fn sockets(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Where the first process of the bubble works: by that it is found.
    pub fn init(&self) -> PathBuf {
        self.path.join(process::INIT)
    }

    /// Where a step's application works.
    pub fn application(&self, step: &StepId) -> PathBuf {
        self.path.join("serve").join(step.as_str())
    }

    /// Another file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes it, and what stands above it, for this user alone; a database's account may pass through.
    ///
    /// # Errors
    /// Where it cannot be made, or is somebody else's.
    pub fn make(&self, account: Option<Account>) -> io::Result<()> {
        let longest = self.sockets().join(".s.PGSQL.5432");
        if longest.as_os_str().len() > SOCKET {
            let path = self.path.display();
            return Err(io::Error::other(format!(
                "{path} is too long for a socket: set `folder` to a shorter one"
            )));
        }
        let mode = if account.is_some() { 0o711 } else { 0o700 };
        for path in self.path.parent().into_iter().chain([self.path.as_path()]) {
            match DirBuilder::new().mode(mode).create(path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(named(path, &e));
                }
                Ok(()) | Err(_) => {}
            }
            own(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .map_err(|e| named(path, &e))?;
        }
        Ok(())
    }

    /// Makes the folder of the socket, unless it is there, and gives it to an account.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn give_sockets(&self, account: Option<Account>) -> io::Result<()> {
        let path = self.sockets();
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&path)?;
        Account::own(account, &path)
    }

    /// What a step left under this name; none where it left nothing.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.join(name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Leaves this under that name, whole or not at all.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write<T: Serialize>(&self, name: &str, what: &T) -> io::Result<()> {
        let new = self.join(&format!("{name}.new"));
        fs::write(&new, serde_json::to_vec(what)?)?;
        fs::rename(&new, self.join(name))
    }

    /// Takes back what was left under this name.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Ends what runs in it, and removes it. That somebody else does so at the same time is as good.
    ///
    /// # Errors
    /// Where something does not end, or cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        match self.try_remove() {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !exists(&self.path)? => Ok(()),
            other => other,
        }
    }

    fn try_remove(&self) -> io::Result<()> {
        let path = self.path.as_path();
        if !exists(path)? {
            return Ok(());
        }
        // What somebody else put there, such as a link to another folder, is not ours to remove.
        for path in path.parent().into_iter().chain([path]) {
            own(path)?;
        }
        process::end_all(path)?;
        fs::remove_dir_all(path).map_err(|e| named(path, &e))?;
        if let Some(above) = path.parent() {
            // Another run's folder may be in it.
            let _ = fs::remove_dir(above);
        }
        Ok(())
    }
}

/// The folder of all runs of a service.
fn above(named: Option<&str>, service: &ServiceName) -> PathBuf {
    let above = named.map_or_else(env::temp_dir, PathBuf::from);
    // Processes are found by where they really work.
    let above = above.canonicalize().unwrap_or(above);
    above.join(format!("failover-drill-{}-{service}", geteuid()))
}

/// Whether anything stands at a path, be it a link that leads nowhere.
fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(named(path, &e)),
    }
}

/// Refuses a folder that is not this user's.
fn own(path: &Path) -> io::Result<()> {
    let seen = fs::symlink_metadata(path).map_err(|e| named(path, &e))?;
    if seen.is_dir() && seen.uid() == geteuid().as_raw() {
        Ok(())
    } else {
        let path = path.display();
        Err(io::Error::other(format!(
            "{path} is not this user's folder"
        )))
    }
}

/// An error with the path that it is about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Bytes that are free where a folder is or will be.
///
/// # Errors
/// Where that cannot be told.
pub fn free(path: &Path) -> io::Result<u64> {
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    disk::free(there).map_err(|e| named(there, &e))
}

/// Ends and removes what drills of a service left below a folder (none: the host's folder for temporary files), except
/// of one run that goes on and of what was touched since `before`, which is a later process's. Names the runs that were
/// removed. Can be repeated; it blocks, for as long as the disk takes to remove a copy.
///
/// # Errors
/// Where something does not end or cannot be removed; the others are removed all the same.
pub fn sweep(
    folder: Option<&Path>,
    service: &ServiceName,
    except: Option<&RunId>,
    before: SystemTime,
) -> io::Result<Vec<RunId>> {
    let above = above(folder.and_then(Path::to_str), service);
    if !exists(&above)? {
        return Ok(Vec::new());
    }
    own(&above)?;
    let (mut swept, mut failed) = (Vec::new(), None);
    for entry in fs::read_dir(&above)? {
        let entry = entry?;
        let run = RunId::new(entry.file_name().to_string_lossy());
        let is_later = entry.metadata()?.modified()? >= before;
        if except == Some(&run) || is_later {
            continue;
        }
        match (Folder { path: entry.path() }).remove() {
            Ok(()) => swept.push(run),
            Err(error) => failed = Some(error),
        }
    }
    let _ = fs::remove_dir(&above);
    failed.map_or(Ok(swept), Err)
}

/// Runs what blocks beside the tasks.
///
/// # Errors
/// What it fails with.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_mins(1)
    }

    #[test]
    fn a_sweep_leaves_the_run_that_goes_on_and_other_services() {
        let at = tempfile::tempdir().unwrap();
        let named = at.path().to_str();
        let shop = ServiceName::from("shop");
        let make = |service: &str, run: &str| {
            let folder = Folder::of(named, &service.into(), &run.into());
            folder.make(None).unwrap();
            folder.write("cloned", &1).unwrap();
            folder
        };
        let folders = [
            ("shop", "shop-r1"),
            ("shop", "shop-r2"),
            ("desk", "desk-r1"),
        ];
        let [first, second, other] = folders.map(|(service, run)| make(service, run));
        let goes_on = RunId::from("shop-r2");
        let long_ago = SystemTime::UNIX_EPOCH;
        let none: Vec<RunId> = sweep(Some(at.path()), &shop, None, long_ago).unwrap();
        assert_eq!(none, [], "a drill that began since");
        let swept = sweep(Some(at.path()), &shop, Some(&goes_on), later()).unwrap();
        assert_eq!(swept, [RunId::from("shop-r1")]);
        assert!(!first.path().exists() && second.path().exists() && other.path().exists());
        assert_eq!(
            sweep(Some(at.path()), &shop, None, later()).unwrap(),
            [goes_on]
        );
        assert_eq!(sweep(Some(at.path()), &shop, None, later()).unwrap(), []);
        other.remove().unwrap();
        other.remove().unwrap();
        assert_eq!(fs::read_dir(at.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_of_somebody_else_is_not_touched() {
        let at = tempfile::tempdir().unwrap();
        let folder = Folder::of(at.path().to_str(), &"shop".into(), &"shop-r1".into());
        let elsewhere = at.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.path().parent().unwrap()).unwrap();
        fs::create_dir(elsewhere.join("shop-r1")).unwrap();
        for refused in [
            folder.make(None),
            folder.remove(),
            sweep(Some(at.path()), &"shop".into(), None, later()).map(drop),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("is not this user's folder"), "{error}");
        }
        assert!(elsewhere.join("shop-r1").exists());
    }
}
