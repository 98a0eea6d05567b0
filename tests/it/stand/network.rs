//! Hosts apart: each has a network namespace of its own, and a router between them, in one more, decides what passes.
//!
//! The namespaces have no names: they are held by descriptors and by what runs in them, so that nothing is left of them
//! whatever becomes of the test.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    process::Command,
    sync::Arc,
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::postgres::until;

/// The namespace of the thread that asks.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace.
pub struct Namespace {
    file: File,
}

/// A thread that is in a namespace; it goes back when this is dropped. What it starts meanwhile stays there.
pub struct Inside {
    before: File,
    // It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Namespace {
    /// A new one, with nothing but its loopback.
    pub fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            File::open(OWN).unwrap()
        });
        Self {
            file: made.join().unwrap(),
        }
    }

    pub fn enter(&self) -> Inside {
        let before = File::open(OWN).unwrap();
        setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
        Inside {
            before,
            _thread: PhantomData,
        }
    }

    /// Every process in it gets the signal; one that they start meanwhile gets it too.
    pub fn signal(&self, signal: Signal) {
        let mut told = Vec::new();
        loop {
            let new: Vec<i32> = self.processes().filter(|p| !told.contains(p)).collect();
            if new.is_empty() {
                return;
            }
            for pid in new {
                let _ = kill(Pid::from_raw(pid), signal);
                told.push(pid);
            }
        }
    }

    /// Ends every process in it, and returns when none is left.
    pub fn empty(&self) {
        until("every process of the host has ended", || {
            self.signal(Signal::SIGKILL);
            self.processes().next().is_none()
        });
    }

    fn processes(&self) -> impl Iterator<Item = i32> {
        let own = self.file.metadata().unwrap().ino();
        let all = fs::read_dir("/proc").unwrap();
        all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(move |pid: &i32| {
                let of = fs::metadata(format!("/proc/{pid}/ns/net"));
                of.is_ok_and(|of| of.ino() == own)
            })
    }

    /// How other programs name it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        setns(&self.before, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

/// A host in a network.
#[derive(Clone)]
pub struct Host {
    pub inside: Arc<Namespace>,
    pub address: IpAddr,
}

/// Hosts that reach each other through a router.
pub struct Network {
    hosts: BTreeMap<&'static str, Host>,
    pub router: Arc<Namespace>,
}

impl Network {
    /// All of these reach each other.
    pub fn of(names: &[&'static str]) -> Self {
        let router = Arc::new(Namespace::new());
        let mut hosts = BTreeMap::new();
        for (number, name) in (1_u8..).zip(names) {
            let inside = Namespace::new();
            {
                let _inside = inside.enter();
                ip(&format!(
                    "link add eth0 type veth peer name way{number} netns {}",
                    router.path()
                ));
                ip(&format!("address add 10.77.{number}.2/24 dev eth0"));
                ip("link set eth0 up");
            }
            {
                let _inside = router.enter();
                ip(&format!("address add 10.77.{number}.1/24 dev way{number}"));
                ip(&format!("link set way{number} up"));
            }
            let _inside = inside.enter();
            ip(&format!("route add default via 10.77.{number}.1"));
            let address = IpAddr::from(Ipv4Addr::new(10, 77, number, 2));
            let inside = Arc::new(inside);
            hosts.insert(*name, Host { inside, address });
        }
        let network = Self { hosts, router };
        let inside = network.router.enter();
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        drop(inside);
        network.nft("add table inet faults");
        network.nft("add chain inet faults way { type filter hook forward priority 0; }");
        network
    }

    pub fn host(&self, name: &str) -> &Host {
        &self.hosts[name]
    }

    /// Nothing passes from one to the other any more, and nobody is told.
    pub fn cut(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|name| self.hosts[name].address);
        self.rule(&format!("ip saddr {from} ip daddr {to} drop"));
    }

    /// Nothing passes between the two any more.
    pub fn part(&self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Nothing passes from or to it any more.
    pub fn isolate(&self, name: &str) {
        self.mute(name);
        self.deafen(name);
    }

    /// Nothing that it sends arrives any more; it hears everything.
    pub fn mute(&self, name: &str) {
        let address = self.hosts[name].address;
        self.rule(&format!("ip saddr {address} drop"));
    }

    /// Nothing that is sent to it arrives any more; everybody hears it.
    pub fn deafen(&self, name: &str) {
        let address = self.hosts[name].address;
        self.rule(&format!("ip daddr {address} drop"));
    }

    /// So many of a hundred packets are lost, whosever they are.
    pub fn lose(&self, percent: u8) {
        self.rule(&format!("numgen random mod 100 < {percent} drop"));
    }

    /// Nothing passes any more.
    pub fn black_out(&self) {
        self.rule("drop");
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.nft("flush chain inet faults way");
    }

    fn rule(&self, rule: &str) {
        self.nft(&format!("add rule inet faults way {rule}"));
    }

    fn nft(&self, command: &str) {
        let _inside = self.router.enter();
        run("nft", &[command]);
    }
}

fn ip(command: &str) {
    run("ip", &command.split(' ').collect::<Vec<_>>());
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {told}");
}
