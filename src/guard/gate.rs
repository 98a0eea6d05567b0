//! The gate before a database: a packet filter that admits its local end for as long as the lease lasts.
//!
//! A table `inet failover-SERVICE`, so that it goes as a whole and takes no other service's with it, holds a set of the
//! ports that are open, whose elements may have a time-out, and two chains. They reject whatever has the database's
//! *local* address and port and is not in the set: a fenced host can still stream from the new primary, whose port is the
//! remote one. The kernel closes the gate by itself, to a jiffy, with
//! no process running. It stops counting while the machine is suspended, and Unix sockets pass it: the dead-man in
//! [`super::hold`] covers both. A reset, not silence, meets who is rejected.

use std::{collections::BTreeSet, io, net::SocketAddr, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

mod ruleset;
mod sockets;

use self::ruleset::Ruleset;
use super::hold::BootTime;
use crate::model::id::ServiceName;

/// What `nft` and `ss` may take: they wait for the kernel's lock, and for nothing else.
const TOOL: Duration = Duration::from_secs(10);

/// Why the gate could not be moved, or not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The service's name cannot stand in a name of nftables.
    #[error(
        "service {0} has a name that nftables does not take: letters, digits, '-', '_' and '.' only"
    )]
    Name(ServiceName),
    /// There is nothing to guard.
    #[error("the gate of service {0} has no local address to guard")]
    NoEnd(ServiceName),
    /// The tool is not installed.
    #[error("{tool} is not installed: {package} has it")]
    Missing {
        /// Which.
        tool: &'static str,
        /// The package that holds it.
        package: &'static str,
    },
    /// This process may not.
    #[error("{tool} needs root or CAP_NET_ADMIN: {said}")]
    NotPrivileged {
        /// Which.
        tool: &'static str,
        /// What it said.
        said: String,
    },
    /// The tool could not be run.
    #[error("cannot run {tool}")]
    Run {
        /// Which.
        tool: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The tool said no.
    #[error("{tool} refused: {said}")]
    Refused {
        /// Which.
        tool: &'static str,
        /// What it said.
        said: String,
    },
    /// The gate is not installed, or somebody flushed the ruleset.
    #[error("the gate of service {0} is not installed")]
    Absent(ServiceName),
    /// The tool's answer is not understood.
    #[error("the answer of {tool} is not understood")]
    Answer {
        /// Which.
        tool: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The moment until which it should be open is past.
    #[error("the gate cannot be opened until a moment that is past")]
    Past,
    /// Sockets outlived their end.
    #[error(
        "{left} sockets of the database could not be destroyed: the kernel needs CONFIG_INET_DIAG_DESTROY"
    )]
    Sockets {
        /// How many.
        left: usize,
    },
}

/// How a gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateState {
    /// It is not there, or not whole: everything passes.
    Absent,
    /// Nothing passes.
    Closed,
    /// Everything passes until the kernel closes it.
    Closing,
    /// Everything passes.
    Open,
}

/// The gate of one service.
#[derive(Clone, Debug)]
pub struct Gate {
    service: ServiceName,
    ruleset: Ruleset,
    ends: BTreeSet<SocketAddr>,
}

impl Gate {
    /// Of a database that listens there. An unspecified address (`0.0.0.0`, `::`) stands for every local address of its
    /// family.
    ///
    /// # Errors
    /// Where nftables would not take the name, or there is no address.
    pub fn new(
        service: &ServiceName,
        ends: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Self, GateError> {
        let ends: BTreeSet<SocketAddr> = ends.into_iter().collect();
        if ends.is_empty() {
            return Err(GateError::NoEnd(service.clone()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if service.as_str().is_empty() || !service.as_str().chars().all(plain) {
            return Err(GateError::Name(service.clone()));
        }
        Ok(Self {
            service: service.clone(),
            ruleset: Ruleset::of(service.as_str(), &ends),
            ends,
        })
    }

    /// Installs it, closed. One that is there already stays as open as it is, and its rules are written anew.
    ///
    /// # Errors
    /// Where `nft` does not do it; then nothing has changed.
    pub async fn install(&self) -> Result<(), GateError> {
        self.apply(&self.ruleset.install()).await
    }

    /// Opens it until the kernel closes it at that moment, whatever held before. Gives the latest moment at which it
    /// closes: the kernel counts from when it takes the time-out, which is a little later than it was reckoned here.
    ///
    /// # Errors
    /// Where the moment is past, or `nft` does not do it; then nothing has changed.
    pub async fn open_until(&self, until: BootTime) -> Result<BootTime, GateError> {
        let left = until.since(BootTime::now());
        if left.is_zero() {
            return Err(GateError::Past);
        }
        self.change(&self.ruleset.open_for(left)).await?;
        Ok(BootTime::now().after(left))
    }

    /// Opens it for good: for a standby, which admits readers only, or an unbounded lease.
    ///
    /// # Errors
    /// Where `nft` does not do it; then nothing has changed.
    pub async fn open(&self) -> Result<(), GateError> {
        self.change(&self.ruleset.open()).await
    }

    /// Closes it. Established connections are reset when either end next speaks.
    ///
    /// # Errors
    /// Where `nft` does not do it; then nothing has changed.
    pub async fn close(&self) -> Result<(), GateError> {
        self.change(&self.ruleset.close()).await
    }

    /// Uninstalls it; everything passes then. Harmless where it is not there.
    ///
    /// # Errors
    /// Where `nft` does not do it.
    pub async fn remove(&self) -> Result<(), GateError> {
        self.apply(&self.ruleset.remove()).await
    }

    /// How it stands.
    ///
    /// # Errors
    /// Where `nft` does not tell.
    pub async fn state(&self) -> Result<GateState, GateError> {
        match self.list().await {
            Ok(table) => Ok(self.ruleset.state(&table)),
            Err(GateError::Absent(_)) => Ok(GateState::Absent),
            Err(other) => Err(other),
        }
    }

    /// Destroys every connected socket with the database's local end. After a kill behind a closed gate the kernel
    /// still holds what the dead sent last, and would deliver it when the gate opens: this comes first. Gives how many
    /// there were. Sockets that listen stay.
    ///
    /// # Errors
    /// Where `ss` does not do it, or one is left.
    pub async fn destroy_sockets(&self) -> Result<usize, GateError> {
        let found = sockets::list(&self.ends).await?;
        sockets::destroy(&self.ends).await?;
        match sockets::list(&self.ends).await? {
            0 => Ok(found),
            left => Err(GateError::Sockets { left }),
        }
    }

    /// A change of a gate that must be there.
    async fn change(&self, transaction: &str) -> Result<(), GateError> {
        self.apply(transaction).await.map_err(|e| self.absent(e))
    }

    async fn apply(&self, transaction: &str) -> Result<(), GateError> {
        run(NFT, &["-f", "-"], transaction).await.map(drop)
    }

    async fn list(&self) -> Result<serde_json::Value, GateError> {
        let args = ["-j", "list", "table", "inet", self.ruleset.table()];
        let said = run(NFT, &args, "").await.map_err(|e| self.absent(e))?;
        serde_json::from_str(&said).map_err(|source| GateError::Answer {
            tool: NFT.name,
            source,
        })
    }

    fn absent(&self, error: GateError) -> GateError {
        if let GateError::Refused { said, .. } = &error
            && said.contains("No such file or directory")
        {
            return GateError::Absent(self.service.clone());
        }
        error
    }
}

/// A program that speaks with the kernel, and where it comes from.
#[derive(Clone, Copy, Debug)]
struct Tool {
    name: &'static str,
    package: &'static str,
}

const NFT: Tool = Tool {
    name: "nft",
    package: "nftables",
};
const SS: Tool = Tool {
    name: "ss",
    package: "iproute2",
};

/// Runs it with that input, and gives what it prints.
async fn run(tool: Tool, args: &[&str], input: &str) -> Result<String, GateError> {
    let Tool { name, package } = tool;
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            GateError::Missing {
                tool: name,
                package,
            }
        } else {
            GateError::Run { tool: name, source }
        }
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new(name)
        .args(args)
        .env("LC_ALL", "C")
        // Where it is on all distributions, and a service's or user's path may lack.
        .env("PATH", format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let ran = async {
        if let Some(mut stdin) = stdin {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let out = match timeout(TOOL, ran).await {
        Ok(out) => out.map_err(failed)?,
        Err(_) => return Err(failed(io::ErrorKind::TimedOut.into())),
    };
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    let first = said.lines().next().unwrap_or_default().to_owned();
    if said.contains("Operation not permitted") || said.contains("must be root") {
        return Err(GateError::NotPrivileged {
            tool: name,
            said: first,
        });
    }
    Err(GateError::Refused {
        tool: name,
        said: first,
    })
}
