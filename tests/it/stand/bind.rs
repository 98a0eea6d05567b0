//! A real BIND in a folder of its own, as a user without rights, with zones that take updates from keys.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use failover::dns::{
    rrset,
    wire::{self, Endpoint, Travel},
};
use tempfile::TempDir;

/// The secret of `failover-key.` (hmac-sha256) and `strong-key.` (hmac-sha512).
pub const SECRET: &str = "c2VjcmV0LW9mLXRoZS1kcmlsbC1vbmx5LTAxMjM0NTY=";

/// Another secret.
pub const WRONG: &str = "bm90LXRoZS1zZWNyZXQtb2YtdGhlLWRyaWxsLTAxMjM=";

/// Who BIND runs as where the tests run as root.
const NOBODY: u32 = 65534;

const ZONE: &str = "$TTL 300
@ IN SOA ns hostmaster 7 3600 600 604800 60
@ IN NS ns
@ IN CAA 0 issue \"ca.example\"
@ IN MX 10 mail
ns IN A 127.0.0.1
mail IN A 192.0.2.25
app 300 IN A 192.0.2.1
app 300 IN A 192.0.2.2
app IN TXT \"stays as it is\"
six IN AAAA 2001:db8::1
www IN CNAME app
other IN A 192.0.2.99
";

/// A running BIND. It ends when it is dropped.
pub struct Bind {
    child: Child,
    folder: TempDir,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Bind {
    /// Starts BIND as a resolver that remembers answers, and asks `upstream` for `demo.test`.
    pub async fn resolver(upstream: SocketAddr) -> Self {
        Self::run(|at, port| resolving(at, port, upstream)).await
    }

    /// Starts BIND with the zones `demo.test` (both keys may update), `closed.test` (nobody may) and
    /// `policy.test` (`failover-key.` may update A of `app.policy.test` only).
    pub async fn start() -> Self {
        Self::run(configuration).await
    }

    /// Starts BIND with one zone of this name and content, which `failover-key.` may update.
    pub async fn with_zone(zone: &str, content: &str) -> Self {
        let configuration = |at: &Path, port: u16| {
            fs::write(at.join(zone), format!("{HEAD}{content}")).unwrap();
            of_zone(at, port, zone)
        };
        Self::run(configuration).await
    }

    /// Starts BIND with further zones, like `demo.test`, which `failover-key.` may update.
    pub async fn with_zones(zones: &[String]) -> Self {
        Self::run(|at, port| {
            let mut text = configuration(at, port);
            for zone in zones {
                fs::write(at.join(zone), ZONE).unwrap();
                let _ = writeln!(
                    text,
                    "zone \"{zone}\" {{ type primary; file \"{zone}\"; allow-update {{ key \"failover-key.\"; }}; }};"
                );
            }
            text
        })
        .await
    }

    async fn run(configuration: impl Fn(&Path, u16) -> String) -> Self {
        for _ in 0..5 {
            if let Some(bind) = Self::try_start(&configuration).await {
                return bind;
            }
        }
        panic!("BIND does not start");
    }

    async fn try_start(configuration: &impl Fn(&Path, u16) -> String) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let at = folder.path();
        for zone in ["demo.test", "closed.test", "policy.test", "ready.test"] {
            fs::write(at.join(zone), ZONE).unwrap();
        }
        fs::write(at.join("named.conf"), configuration(at, port)).unwrap();
        let mut command = Command::new("/usr/sbin/named");
        command
            .args(["-f", "-n", "1", "-c"])
            .arg(at.join("named.conf"))
            .arg("-L")
            .arg(at.join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if nix::unistd::Uid::effective().is_root() {
            for entry in fs::read_dir(at).unwrap() {
                chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
            }
            chown(at, Some(NOBODY), Some(NOBODY)).unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn().expect("BIND is installed (bind9)");
        let mut bind = Self {
            child,
            folder,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        bind.ready().await.then_some(bind)
    }

    async fn ready(&mut self) -> bool {
        let name = rrset::name("ready.test").unwrap();
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let question = wire::question(&name, hickory_proto::rr::RecordType::SOA, false);
            let answer = wire::exchange(
                &Endpoint::from(self.address),
                &question.to_vec().unwrap(),
                Travel::Udp,
                Duration::from_millis(300),
            )
            .await;
            if answer.is_ok_and(|a| a.message.authoritative && !a.message.answers.is_empty()) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("BIND does not answer: {}", self.log());
    }

    /// What BIND has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// All records of a zone but the SOA, sorted, by a transfer.
    pub fn records(&self, zone: &str) -> Vec<String> {
        let port = self.address.port().to_string();
        let output = Command::new("dig")
            .args(["@127.0.0.1", "-p", &port, "+noall", "+answer", zone, "AXFR"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut records: Vec<String> = text
            .lines()
            .filter(|l| !l.contains("\tSOA\t"))
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        records.sort();
        assert!(!records.is_empty(), "{}", self.log());
        records
    }

    /// The serial of a zone: it begins at 7, and rises with every change.
    pub fn serial(&self, zone: &str) -> u32 {
        let port = self.address.port().to_string();
        let output = Command::new("dig")
            .args(["@127.0.0.1", "-p", &port, "+short", zone, "SOA"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().nth(2).unwrap().parse().unwrap()
    }

    /// Lets somebody else change a zone: the lines of an `nsupdate` script.
    pub fn change(&self, lines: &str) {
        let output = nsupdate(self.address, "hmac-sha256:failover-key", SECRET, lines);
        assert!(output.contains("NOERROR"), "{output}");
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The head of a zone whose answers live for a second.
const HEAD: &str = "$TTL 1
@ IN SOA ns hostmaster 7 3600 600 604800 1
@ IN NS ns
ns IN A 127.0.0.1
";

fn of_zone(at: &Path, port: u16, zone: &str) -> String {
    let at = at.display();
    format!(
        r#"
key "failover-key." {{ algorithm hmac-sha256; secret "{SECRET}"; }};
options {{
    directory "{at}";
    pid-file none;
    session-keyfile none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
    notify no;
    allow-transfer {{ any; }};
}};
controls {{ }};
zone "{zone}" {{ type primary; file "{zone}"; allow-update {{ key "failover-key."; }}; }};
zone "ready.test" {{ type primary; file "ready.test"; }};
"#
    )
}

fn resolving(at: &Path, port: u16, upstream: SocketAddr) -> String {
    let (at, ip, theirs) = (at.display(), upstream.ip(), upstream.port());
    format!(
        r#"
options {{
    directory "{at}";
    pid-file none;
    session-keyfile none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion yes;
    allow-recursion {{ any; }};
    dnssec-validation no;
    empty-zones-enable no;
    qname-minimization off;
}};
controls {{ }};
zone "." {{ type forward; forward only; forwarders {{ {ip} port {theirs}; }}; }};
zone "ready.test" {{ type primary; file "ready.test"; }};
"#
    )
}

/// Runs `nsupdate` with a key, and gives what it says of the answer.
pub fn nsupdate(server: SocketAddr, key: &str, secret: &str, lines: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new("nsupdate")
        .args(["-y", &format!("{key}:{secret}"), "-t", "5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nsupdate is installed (bind9-dnsutils)");
    let script = format!(
        "server {} {}\n{lines}\nsend\nanswer\nquit\n",
        server.ip(),
        server.port()
    );
    let mut input = child.stdin.take().unwrap();
    input.write_all(script.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A port that nothing listens on now, neither UDP nor TCP.
pub fn free_port() -> u16 {
    loop {
        // Below those that the system gives to whoever connects: nobody gets it before it is used.
        let port = 10_240 + rand::random::<u16>() % 22_000;
        let address = ("127.0.0.1", port);
        let tcp = std::net::TcpListener::bind(address);
        if tcp.is_ok() && std::net::UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}

fn configuration(at: &Path, port: u16) -> String {
    let at = at.display();
    format!(
        r#"
key "failover-key." {{ algorithm hmac-sha256; secret "{SECRET}"; }};
key "strong-key." {{ algorithm hmac-sha512; secret "{SECRET}"; }};
options {{
    directory "{at}";
    pid-file none;
    session-keyfile none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
    notify no;
    allow-transfer {{ any; }};
}};
controls {{ }};
zone "demo.test" {{
    type primary;
    file "demo.test";
    allow-update {{ key "failover-key."; key "strong-key."; }};
}};
zone "closed.test" {{
    type primary;
    file "closed.test";
}};
zone "ready.test" {{ type primary; file "ready.test"; }};
zone "policy.test" {{
    type primary;
    file "policy.test";
    update-policy {{ grant "failover-key." name app.policy.test. A; }};
}};
"#
    )
}
