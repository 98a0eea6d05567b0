//! The processes of a run: those that work in its folder, and those that share a process namespace with one of them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::port::process::{all, works_in};

/// Within a run's folder, where the first process of its bubble works.
pub const INIT: &str = "init";

/// How long what was killed may take to end.
const END: Duration = Duration::from_secs(10);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(20);

/// A namespace of a process: `net`, `pid`, ….
pub fn namespace(pid: &str, which: &str) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{pid}/ns/{which}"))?.ino())
}

/// The processes that work in exactly this folder.
pub fn at(folder: &Path) -> io::Result<Vec<i32>> {
    Ok(all()?
        .filter(|pid| works_in(*pid).is_some_and(|cwd| cwd == folder))
        .collect())
}

/// The processes of a process namespace that were started with this variable, or inherited it.
pub fn marked(inside: u64, variable: &str) -> io::Result<Vec<i32>> {
    let found = all()?.filter(|pid| {
        namespace(&pid.to_string(), "pid").is_ok_and(|ns| ns == inside)
            && fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|env| env.split(|b| *b == 0).any(|v| v == variable.as_bytes()))
    });
    Ok(found.collect())
}

/// Ends what `left` finds, until it finds nothing more.
///
/// # Errors
/// Where something does not end.
pub fn end(mut left: impl FnMut() -> io::Result<Vec<i32>>) -> io::Result<()> {
    let until = Instant::now() + END;
    loop {
        let found = left()?;
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(io::Error::other(format!(
                "process {} was killed and does not end",
                found[0]
            )));
        }
        for pid in found {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        sleep(AGAIN);
    }
}

/// Ends every process of a run.
///
/// # Errors
/// Where one does not end.
pub fn end_all(folder: &Path) -> io::Result<()> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let host = namespace("self", "pid")?;
    // Held open, so that no later namespace gets the number of one that has ended.
    let mut inside: BTreeMap<u64, File> = BTreeMap::new();
    end(|| {
        let mut found = Vec::new();
        for pid in all()?.filter(|pid| *pid != own) {
            let path = format!("/proc/{pid}/ns/pid");
            let namespace = fs::metadata(&path).map(|seen| seen.ino()).ok();
            let known = namespace.is_some_and(|ns| inside.contains_key(&ns));
            let cwd = works_in(pid);
            if known || cwd.as_ref().is_some_and(|cwd| cwd.starts_with(folder)) {
                // A container of somebody else may have a process here; of the bubble's own everything ends.
                let is_bubbles = cwd == Some(folder.join(INIT));
                if let Some(namespace) = namespace.filter(|ns| *ns != host && is_bubbles)
                    && !known
                    && let Ok(file) = File::open(&path)
                {
                    inside.insert(namespace, file);
                }
                found.push(pid);
            }
        }
        Ok(found)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_works_in_a_folder_is_ended_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let sleeper = |at: &Path| {
            let mut command = Command::new("sleep");
            command.arg("1000").current_dir(at).spawn().unwrap()
        };
        fs::create_dir(path.join("deep")).unwrap();
        let (mut inside, mut deep) = (sleeper(&path), sleeper(&path.join("deep")));
        let mut outside = sleeper(path.parent().unwrap());
        let waits = std::thread::spawn(move || (inside.wait().unwrap(), deep.wait().unwrap()));
        end_all(&path).unwrap();
        waits.join().unwrap();
        assert_eq!(outside.try_wait().unwrap(), None);
        outside.kill().unwrap();
        outside.wait().unwrap();
    }
}
