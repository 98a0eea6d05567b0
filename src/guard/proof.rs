//! Whether dead-man and gate work on this host: tried with processes and sockets made for it, never with the database.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::{
    gate::{Gate, GateError, GateState},
    hold::{BootTime, Ended, Hold, HoldError, Launch},
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::ServiceName,
        span::Span,
    },
    port::cause,
};

/// How often the kill is measured: once tells little of a machine at work.
const TRIES: usize = 3;
/// So many tries may come to nothing, because the host was too busy to hear that the timer was set before it fired.
const LATE: u32 = 10;
/// How long each try lives.
const LIFE: Duration = Duration::from_millis(200);
/// How long a try may take to die before the dead-man counts as broken.
const DEATH: Duration = Duration::from_secs(10);
/// How long the gate is opened when it is to close by itself.
const OPENING: Duration = Duration::from_millis(300);
/// How long the kernel may take to close it before the gate counts as broken.
const CLOSING: Duration = Duration::from_secs(5);
/// What a rejected connection may take: silence takes longer.
const REJECTION: Duration = Duration::from_millis(500);

/// Two that never rest, one that is stopped, and one that sleeps: each outlives a parent that dies.
const TREE: &str =
    "while :; do :; done & while :; do :; done & sleep 1000 & kill -STOP $!; sleep 1000";

/// Where a proof is kept.
const KEPT: &str = "proof.json";

const HOLD: &str = "guard/hold";
const IPC: &str = "guard/ipc";
const FREEZER: &str = "guard/freezer";
const GATE: &str = "guard/gate";

/// What failed in a try.
#[derive(Debug, thiserror::Error)]
enum ProofError {
    #[error("the dead-man could not be tried")]
    Hold(#[from] HoldError),
    #[error("the gate could not be tried")]
    Gate(#[from] GateError),
    #[error("{0} could not be read")]
    Read(PathBuf, #[source] io::Error),
    #[error("no socket could be made to try the gate with")]
    Socket(#[source] io::Error),
}

/// What to try with.
#[derive(Clone, Debug)]
pub struct Trial {
    /// A runtime folder for this alone.
    pub folder: PathBuf,
    /// This program's own executable.
    pub exe: PathBuf,
    /// The database's user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// An item for each thing that was tried.
    pub items: Vec<CheckItem>,
    /// Whether the lease rung may be offered.
    pub lease: LeaseRung,
}

/// Whether a site on this host may be fenced by the end of its lease alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseRung {
    /// It may.
    Offered {
        /// The longest time from the end of a lease until nothing ran any more; to be compared with the margin.
        kill: Duration,
    },
    /// It may not: names of the items that stand in the way.
    Withheld {
        /// Which.
        because: Vec<String>,
    },
}

/// Tries everything. Takes some seconds, two busy processes for a fifth of a second at a time, and a table of nftables
/// that nothing but its own socket meets.
pub async fn prove(trial: &Trial) -> Proof {
    let mut items = Vec::new();
    let mut longest = Duration::ZERO;
    match kills(trial).await {
        Ok(Kills::All(times)) => {
            longest = times.iter().copied().max().unwrap_or_default();
            items.push(CheckItem::ok(HOLD, told(&times)));
        }
        Ok(Kills::Survived) => items.push(CheckItem::bad(
            HOLD,
            CheckStatus::Fail,
            format!(
                "processes still ran {} s after the end of their lease",
                DEATH.as_secs()
            ),
            "do not rely on leases here; tell the maintainers the kernel's version",
        )),
        Err(e) => items.push(untried(
            HOLD,
            &e,
            "run the guard as root, with CAP_SYS_ADMIN",
        )),
    }
    items.push(
        ipc(trial)
            .await
            .unwrap_or_else(|e| untried(IPC, &e, "see what stands above for guard/hold")),
    );
    items.push(freezer().unwrap_or_else(|e| untried(FREEZER, &e, "mount /proc")));
    items.push(gate().await.unwrap_or_else(|e| {
        untried(
            GATE,
            &e,
            "install nftables and iproute2, and run the guard as root, with CAP_NET_ADMIN",
        )
    }));
    let because: Vec<String> = items
        .iter()
        .filter(|item| item.status != CheckStatus::Ok)
        .map(|item| item.name.clone())
        .collect();
    let lease = if because.is_empty() {
        LeaseRung::Offered { kill: longest }
    } else {
        LeaseRung::Withheld { because }
    };
    Proof { items, lease }
}

/// How long a kill took at most, proved once in each life of the host, for each program and place in
/// it: `folder` keeps it. None where the lease rung is withheld; the items say why.
pub async fn once_a_boot(folder: &Path, trial: &Trial) -> (Option<Span>, Vec<CheckItem>) {
    let path = folder.join(KEPT);
    let life = surroundings(trial);
    let kept = fs::read(&path).ok();
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    if let Some(kept) = kept.filter(|k| k.life == life && !life.is_empty()) {
        return (Some(kept.kill), Vec::new());
    }
    let proof = prove(trial).await;
    let _ = fs::remove_dir_all(&trial.folder);
    let LeaseRung::Offered { kill } = proof.lease else {
        return (None, proof.items);
    };
    let kill = Span::from_millis(u64::try_from(kill.as_millis()).unwrap_or(u64::MAX));
    // Where it cannot be kept it is proved again at the next start.
    if let Ok(bytes) = serde_json::to_vec(&Kept { life, kill }) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        let half = path.with_extension("half");
        let written = made.and_then(|()| fs::write(&half, bytes));
        let _ = written.and_then(|()| fs::rename(&half, &path));
    }
    (Some(kill), proof.items)
}

/// What a proof holds for: this life of the host, this program, and the place within the host that it runs in. Nothing
/// where that cannot be told.
fn surroundings(trial: &Trial) -> String {
    let told = || -> io::Result<String> {
        let exe = fs::metadata("/proc/self/exe")?;
        let mut told = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        told.push_str(&fs::read_to_string("/proc/self/cgroup")?);
        for name in ["ipc", "mnt", "net", "pid", "user"] {
            let place = fs::read_link(format!("/proc/self/ns/{name}"))?;
            told.push_str(&place.to_string_lossy());
        }
        let made = exe.modified()?.duration_since(std::time::UNIX_EPOCH);
        let made = made.map_err(io::Error::other)?.as_nanos();
        Ok(format!("{told} {} {made} {}", exe.len(), trial.uid))
    };
    told().unwrap_or_default()
}

/// A proof that this life of the host has had.
#[derive(Serialize, Deserialize)]
struct Kept {
    life: String,
    kill: Span,
}

enum Kills {
    All(Vec<Duration>),
    Survived,
}

async fn kills(trial: &Trial) -> Result<Kills, ProofError> {
    let mut times = Vec::new();
    let mut late = 0;
    while times.len() < TRIES {
        let hold = Hold::start(&launch(trial, TREE)).await?;
        // A host at work may take long to start it.
        let end = BootTime::now().after(LIFE);
        match hold.arm(end).await {
            // It ended before it could answer: no kill that could be measured.
            Err(HoldError::Gone(_)) if late < LATE && BootTime::now() >= end => {
                late += 1;
                hold.kill().await?;
                continue;
            }
            armed => armed?,
        }
        let Ok(ended) = timeout(LIFE + DEATH, hold.ended()).await else {
            // What the timer did not end may still be killed.
            let _ = timeout(DEATH, hold.kill()).await;
            return Ok(Kills::Survived);
        };
        let now = BootTime::now();
        // One that ended in another way was not killed by the timer.
        if ended? != Ended::Cut || now < end {
            return Ok(Kills::Survived);
        }
        times.push(now.since(end));
    }
    Ok(Kills::All(times))
}

fn told(times: &[Duration]) -> String {
    let each: Vec<String> = times
        .iter()
        .map(|t| format!("{} ms", t.as_millis()))
        .collect();
    format!(
        "nothing ran any more {} after the end of its lease, stopped and busy processes included",
        each.join(", ")
    )
}

/// With an IPC namespace of its own a second postmaster would start on the same data directory.
async fn ipc(trial: &Trial) -> Result<CheckItem, ProofError> {
    let hold = Hold::start(&launch(trial, "sleep 1000")).await?;
    let compared = async {
        let state = hold.state().await?;
        let inner = state.command.unwrap_or(state.init);
        let ours = namespace(Path::new("/proc/self/ns/ipc"))?;
        let theirs = namespace(&PathBuf::from(format!("/proc/{inner}/ns/ipc")))?;
        Ok::<_, ProofError>(ours == theirs)
    };
    let shared = compared.await;
    hold.kill().await?;
    Ok(if shared? {
        CheckItem::ok(IPC, "the database would share the host's IPC namespace")
    } else {
        CheckItem::bad(
            IPC,
            CheckStatus::Fail,
            "the database would have an IPC namespace of its own: a second server could start on its data",
            "remove what makes IPC namespaces here, such as PrivateIPC= in the guard's unit",
        )
    })
}

fn namespace(path: &Path) -> Result<PathBuf, ProofError> {
    fs::read_link(path).map_err(|e| ProofError::Read(path.to_owned(), e))
}

/// Nothing kills what a freezer of version 1 holds before it lets go. Version 2 lets it die.
fn freezer() -> Result<CheckItem, ProofError> {
    let path = Path::new("/proc/self/cgroup");
    let text = fs::read_to_string(path).map_err(|e| ProofError::Read(path.to_owned(), e))?;
    Ok(match freezer_group(&text) {
        None => CheckItem::ok(
            FREEZER,
            "no freezer of cgroup version 1 can hold the dead-man up",
        ),
        Some(group) => CheckItem::bad(
            FREEZER,
            CheckStatus::Fail,
            format!(
                "the guard is in the freezer group {group} of cgroup version 1: frozen processes cannot be killed"
            ),
            "run the guard outside of that group, or with cgroup version 2",
        ),
    })
}

/// The group of a freezer of version 1 that is not the root, which cannot be frozen.
fn freezer_group(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
        let freezer = controllers.split(',').any(|c| c == "freezer");
        (freezer && group != "/").then_some(group)
    })
}

/// Tries the gate on a socket of our own.
async fn gate() -> Result<CheckItem, ProofError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(ProofError::Socket)?;
    let end = listener.local_addr().map_err(ProofError::Socket)?;
    let service = ServiceName::new(format!("proof-{}", std::process::id()));
    let gate = Gate::new(&service, [end])?;
    let tried = passes(&gate, &listener, end).await;
    let removed = gate.remove().await;
    let wrong = tried?;
    removed?;
    Ok(match wrong {
        None => CheckItem::ok(
            GATE,
            "closed it resets connections, open it admits them, and it closes by itself",
        ),
        Some(wrong) => CheckItem::bad(
            GATE,
            CheckStatus::Fail,
            wrong,
            "see 'nft list ruleset' for rules that accept before the gate's, and that nft works in the guard's \
             network namespace",
        ),
    })
}

/// What is wrong with it.
async fn passes(
    gate: &Gate,
    listener: &TcpListener,
    end: SocketAddr,
) -> Result<Option<String>, ProofError> {
    gate.install().await?;
    let refused = || connect(end).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
    if !refused() {
        return Ok(Some(
            "a closed gate does not refuse connections at once".to_owned(),
        ));
    }
    gate.open().await?;
    let Ok(client) = connect(end) else {
        return Ok(Some("an open gate does not admit connections".to_owned()));
    };
    let (mut server, _) = listener.accept().map_err(ProofError::Socket)?;
    gate.close().await?;
    gate.destroy_sockets().await?;
    if server.read(&mut [0]).is_ok() {
        return Ok(Some(
            "a connection's socket could not be destroyed".to_owned(),
        ));
    }
    drop(client);
    gate.open_until(BootTime::now().after(OPENING)).await?;
    sleep(OPENING).await;
    let waited = BootTime::now();
    while gate.state().await? != GateState::Closed || !refused() {
        if BootTime::now().since(waited) > CLOSING {
            return Ok(Some("the gate did not close by itself".to_owned()));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(None)
}

/// To this host itself, where it takes microseconds or is silently dropped.
fn connect(end: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&end, REJECTION)
}

fn launch(trial: &Trial, script: &str) -> Launch {
    Launch {
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        uid: trial.uid,
        gid: trial.gid,
        groups: Vec::new(),
        folder: trial.folder.clone(),
        log: None,
        exe: trial.exe.clone(),
        armed: None,
    }
}

fn untried(name: &str, error: &ProofError, fix: &str) -> CheckItem {
    CheckItem::bad(name, CheckStatus::Unknown, cause::in_full(error), fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_freezer_group_of_version_1_other_than_the_root_is_in_the_way() {
        let hybrid = "6:freezer:/\n4:memory:/api/x\n0::/user.slice/freezer";
        assert_eq!(freezer_group(hybrid), None);
        assert_eq!(
            freezer_group("7:blkio,freezer:/docker/ab\n0::/"),
            Some("/docker/ab")
        );
        assert_eq!(freezer_group("1:name=freezer:/x"), None);
    }
}
