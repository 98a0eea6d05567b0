//! Processes of the demo's hosts: who belongs to whom, and how all of them are stopped for certain.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{self, Signal},
    unistd::Pid,
};

/// How long processes may take to be gone after SIGKILL.
const GONE: Duration = Duration::from_secs(10);

/// Makes orphans below this process its own children, so that they are still found in its tree. Only Linux can.
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    {
        // Without it orphans are found by their working folder, where the system tells that.
        let _ = nix::sys::prctl::set_child_subreaper(true);
    }
}

/// A process and everything below it.
#[must_use]
pub fn tree(root: u32) -> Vec<u32> {
    let parents = parents();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(
            parents
                .iter()
                .filter(|(child, of)| **of == parent && !found.contains(child))
                .map(|(child, _)| *child)
                .collect::<Vec<_>>(),
        );
        next += 1;
    }
    found
}

/// Sends a signal to each; one that is gone already is no matter.
pub fn signal_all(pids: &[u32], signal: Signal) {
    for pid in pids.iter().copied().filter_map(to_pid) {
        let _ = signal::kill(pid, signal);
    }
}

/// Kills a process and everything below it.
pub fn kill_tree(root: u32) {
    // Stopped first, so that nothing is forked between the look and the kill.
    let first = tree(root);
    signal_all(&first, Signal::SIGSTOP);
    let mut all = tree(root);
    all.extend(first);
    signal_all(&all, Signal::SIGKILL);
}

/// Whether a process runs; one that has ended and waits for its parent does not.
#[must_use]
pub fn runs(pid: u32) -> bool {
    let Some(known) = to_pid(pid) else {
        return false;
    };
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => state_and_parent(&stat).is_some_and(|(state, _)| state != 'Z'),
        Err(_) if Path::new("/proc/self/stat").exists() => false,
        Err(_) => signal::kill(known, None) != Err(Errno::ESRCH),
    }
}

/// Kills whatever still works in a folder or runs below this process. Gives how many are left.
pub fn sweep(folder: &Path) -> usize {
    let deadline = Instant::now() + GONE;
    let own = std::process::id();
    loop {
        let mut left = working_in(folder);
        left.extend(
            tree(own)
                .into_iter()
                .filter(|pid| *pid != own && runs(*pid)),
        );
        if left.is_empty() || Instant::now() >= deadline {
            return left.len();
        }
        signal_all(&left, Signal::SIGKILL);
        thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose working folder lies in this one; empty where the system does not tell.
#[must_use]
pub fn working_in(folder: &Path) -> Vec<u32> {
    let own = std::process::id();
    pids()
        .filter(|pid| *pid != own)
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .collect()
}

fn to_pid(pid: u32) -> Option<Pid> {
    // 0 and 1 would mean "my own group" and "init".
    i32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 1)
        .map(Pid::from_raw)
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Every process with its parent.
fn parents() -> BTreeMap<u32, u32> {
    let known: BTreeMap<u32, u32> = pids()
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, state_and_parent(&stat)?.1))
        })
        .collect();
    if known.is_empty() { from_ps() } else { known }
}

/// State and parent from `/proc/PID/stat`; the name before them may hold anything, brackets too.
fn state_and_parent(stat: &str) -> Option<(char, u32)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Where there is no `/proc`.
fn from_ps() -> BTreeMap<u32, u32> {
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output() else {
        return BTreeMap::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        assert_eq!(state_and_parent("7 (a) b) (c) S 3 7 7 0"), Some(('S', 3)));
        assert_eq!(state_and_parent("rubbish"), None);
    }

    #[test]
    fn a_tree_is_killed_whole_even_when_stopped() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 600 & sleep 600"])
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while tree(shell.id()).len() < 3 && Instant::now() < deadline {
            thread::yield_now();
        }
        let all = tree(shell.id());
        assert_eq!(all.len(), 3);
        signal_all(&all, Signal::SIGSTOP);
        kill_tree(shell.id());
        shell.wait().unwrap();
        while all.iter().any(|pid| runs(*pid)) && Instant::now() < deadline {
            thread::yield_now();
        }
        assert!(all.iter().all(|pid| !runs(*pid)));
    }
}
