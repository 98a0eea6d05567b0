//! A hold and what runs under it; nothing is left of either, whatever happens.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use failover::guard::hold::{
    BootTime, Hold, Launch,
    folder::Folder,
    process::{Identity, Process},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::stand::postgres::{Cluster, other_user, until};

/// A runtime folder, and what is started in it.
pub struct Stage {
    top: TempDir,
}

impl Stage {
    pub fn new() -> Self {
        let top = TempDir::with_prefix("failover-hold-").unwrap();
        Self { top }
    }

    /// The runtime folder.
    pub fn folder(&self) -> PathBuf {
        self.top.path().join("run")
    }

    /// What the command said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.top.path().join("log")).unwrap_or_default()
    }

    /// A command as root, unarmed.
    pub fn launch(&self, program: &str, args: &[&str]) -> Launch {
        Launch {
            program: program.into(),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            folder: self.folder(),
            log: Some(self.top.path().join("log")),
            exe: env!("CARGO_BIN_EXE_failover").into(),
            armed: None,
        }
    }

    /// A shell as root, unarmed.
    pub fn shell(&self, script: &str) -> Launch {
        self.launch("/bin/sh", &["-c", script])
    }

    /// A cluster's server as its user, unarmed.
    pub fn server(&self, cluster: &Cluster) -> Launch {
        let (program, args) = cluster.command();
        let user = other_user().expect("these tests run as root");
        Launch {
            program,
            args,
            env: BTreeMap::from([("LC_ALL".to_owned(), "C.UTF-8".to_owned())]),
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            ..self.launch("", &[])
        }
    }
}

impl Drop for Stage {
    /// What a failed test left.
    #[expect(
        clippy::print_stdout,
        reason = "a failed test shows what the command said"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        let record = Folder::open(&self.folder()).ok().flatten();
        let Some(record) = record.and_then(|f| f.record().ok().flatten()) else {
            return;
        };
        for identity in [record.hold, record.init] {
            if let Some(process) = Process::find(identity).ok().flatten() {
                signal(process.identity().pid, Signal::SIGKILL);
                until("it dies", || process.has_ended().unwrap());
            }
        }
    }
}

/// A cluster that runs under a hold.
pub struct Held {
    pub hold: Hold,
    pub cluster: Cluster,
    pub stage: Stage,
}

impl Held {
    /// Starts one, unarmed, and waits until it answers.
    pub async fn start() -> Self {
        let mut cluster = Cluster::start();
        cluster.stop_immediate();
        let stage = Stage::new();
        let hold = Hold::start(&stage.server(&cluster)).await.unwrap();
        let server = Self {
            hold,
            cluster,
            stage,
        };
        server.answers();
        server
    }

    pub fn answers(&self) {
        until("the server answers", || self.cluster.answers());
    }

    /// Everything that runs in its namespace, as the host numbers it.
    pub async fn inside(&self) -> Vec<Process> {
        inside(&self.hold).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Ok(Some(record)) =
            Folder::open(&self.stage.folder()).map(|f| f.and_then(|f| f.record().ok().flatten()))
            && let Ok(Some(hold)) = Process::find(record.hold)
        {
            signal(hold.identity().pid, Signal::SIGKILL);
            if let Ok(Some(init)) = Process::find(record.init) {
                until("the namespace is empty", || init.has_ended().unwrap());
            }
        }
        self.cluster.forget_memory();
    }
}

/// Everything that runs in a hold's namespace.
pub async fn inside(hold: &Hold) -> Vec<Process> {
    let seen = hold.state().await.unwrap();
    let of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let namespace = of(seen.init).unwrap();
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| of(*pid).as_ref() == Some(&namespace));
    pids.filter_map(|pid| Process::open(pid).unwrap()).collect()
}

pub fn all_ended(processes: &[Process]) -> bool {
    processes.iter().all(|p| p.has_ended().unwrap())
}

pub fn pids(processes: &[Process]) -> Vec<u32> {
    processes.iter().map(|p| p.identity().pid).collect()
}

pub fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
}

pub fn stop(process: &Process) {
    signal(process.identity().pid, Signal::SIGSTOP);
    until("it is stopped", || {
        process.has_ended().unwrap() || state_of(process.identity()) == "T"
    });
}

/// Its letter in `/proc/PID/stat`.
fn state_of(identity: Identity) -> String {
    let stat = fs::read_to_string(format!("/proc/{}/stat", identity.pid)).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').next().unwrap().to_owned()
}

pub fn in_ms(ms: u64) -> BootTime {
    BootTime::now().after(Duration::from_millis(ms))
}
