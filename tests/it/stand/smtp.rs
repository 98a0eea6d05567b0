//! Mail servers: a real one (Exim), a relay that loses the line at the worst moment, and one that says what it is told
//! to say, for refusals that a real one cannot be brought to.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, User},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::patience::until;

pub const USER: &str = "status";
pub const PASSWORD: &str = "sesame";

/// Exim on a free port with everything it needs in a folder of its own. It knows `example.com`, whose mailbox `gone`
/// does not exist.
pub struct Exim {
    pub port: u16,
    folder: TempDir,
    child: Child,
}

impl Exim {
    /// Wants encryption and a login, as a provider's server does.
    pub async fn start() -> Self {
        Self::run(
            "deny !authenticated = *\n       message = 5.7.1 log in first\n",
            "",
        )
        .await
    }

    /// Takes mails from everybody.
    pub async fn start_open() -> Self {
        Self::run("", "").await
    }

    /// The same, but what it has taken it only keeps: for many mails, of which the log tells who gets them.
    pub async fn start_keeping() -> Self {
        let settings = "queue_only = true\nsplit_spool_directory = true\n";
        Self::run("", settings).await
    }

    async fn run(login: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let nobody = User::from_name("nobody").unwrap().unwrap();
        for name in ["spool", "mail", "mail/new", "mail/cur", "mail/tmp"] {
            fs::create_dir(root.join(name)).unwrap();
            chown(
                root.join(name),
                Some(nobody.uid.as_raw()),
                Some(nobody.gid.as_raw()),
            )
            .unwrap();
        }
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(root.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(root.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        chown(root.join("key.pem"), Some(nobody.uid.as_raw()), None).unwrap();
        let group = nix::unistd::Group::from_gid(nobody.gid).unwrap().unwrap();
        let settings = CONF
            .replace("ROOT", &root.display().to_string())
            .replace("GROUP", &group.name)
            .replace("LOGIN", login)
            .replace("MORE", more);
        for _ in 0..5 {
            if let Some((port, child)) = Self::try_run(root, &settings).await {
                return Self {
                    port,
                    folder,
                    child,
                };
            }
        }
        panic!(
            "Exim does not start: {}",
            fs::read_to_string(root.join("log")).unwrap()
        );
    }

    /// Somebody else may take the port before Exim does; then its greeting is missing.
    async fn try_run(root: &Path, settings: &str) -> Option<(u16, Child)> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let settings = settings.replace("PORT", &port.to_string());
        fs::write(root.join("conf"), settings).unwrap();
        let log = fs::File::create(root.join("log")).unwrap();
        let mut child = Command::new("/usr/sbin/exim4")
            .arg("-C")
            .arg(root.join("conf"))
            .arg("-bdf")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("the tests need Exim: apt-get install exim4-daemon-light");
        let mut greeted = false;
        until("Exim greets or ends", || {
            let ended = child.try_wait().unwrap().is_some();
            let greeting = greets(port);
            async move { ended || greeting.await }
        })
        .await;
        if child.try_wait().unwrap().is_none() {
            greeted = greets(port).await;
        }
        if !greeted {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        Some((port, child))
    }

    /// The authority that signed the server's certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// The mails that lie in the mailbox, oldest first, once there are so many.
    pub async fn mails(&self, count: usize) -> Vec<String> {
        let folder = self.folder.path().join("mail/new");
        until(&format!("{count} mails"), || async {
            files(&folder).len() >= count
        })
        .await;
        self.mails_now()
    }

    /// The mails that lie in the mailbox now.
    pub fn mails_now(&self) -> Vec<String> {
        let mut files = files(&self.folder.path().join("mail/new"));
        files.sort();
        files
            .iter()
            .map(|f| fs::read_to_string(f).unwrap())
            .collect()
    }

    /// How often it took a mail for each recipient.
    pub fn taken(&self) -> BTreeMap<String, usize> {
        let mut taken = BTreeMap::new();
        for line in self.log().lines().filter(|line| line.contains(" <= ")) {
            if let Some((_, to)) = line.rsplit_once(" for ") {
                *taken.entry(to.trim().to_owned()).or_default() += 1;
            }
        }
        taken
    }

    /// What the server wrote into its log.
    pub fn log(&self) -> String {
        let main = fs::read_to_string(self.folder.path().join("spool/mainlog"));
        main.unwrap_or_default()
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = killpg(id, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

async fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    let mut line = [0; 64];
    let n = stream.read(&mut line).await.unwrap_or(0);
    String::from_utf8_lossy(&line[..n]).contains("ESMTP Exim")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap();
    all.map(|entry| entry.unwrap().path()).collect()
}

const CONF: &str = r"
exim_user = nobody
exim_group = GROUP
primary_hostname = localhost
spool_directory = ROOT/spool
log_file_path = ROOT/spool/%slog
pid_file_path = ROOT/spool/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = PORT
tls_advertise_hosts = *
tls_certificate = ROOT/cert.pem
tls_privatekey = ROOT/key.pem
smtputf8_advertise_hosts = *
domainlist ours = example.com
acl_smtp_rcpt = rcpt
host_lookup =
rfc1413_hosts =
message_logs = false
log_selector = +smtp_connection +received_recipients
MORE
timezone = UTC
deliver_drop_privilege = true
keep_environment =
begin acl
rcpt:
  LOGIN
  deny !domains = +ours
       message = 5.7.1 relaying denied
  deny local_parts = gone
       message = 5.1.1 <$local_part@$domain> no such mailbox
  accept
begin routers
all:
  driver = accept
  transport = keep
begin transports
keep:
  driver = appendfile
  directory = ROOT/mail
  maildir_format
  envelope_to_add = true
  user = nobody
  group = GROUP
begin retry
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${if and{{eq{$auth2}{status}}{eq{$auth3}{sesame}}}}
  server_set_id = $auth2
  server_prompts = :
  server_advertise_condition = ${if def:tls_in_cipher}
";

/// Passes everything on to a server, but cuts the line to the client when that server has answered the final dot.
pub struct CutAfterDot {
    pub port: u16,
    task: JoinHandle<()>,
}

impl CutAfterDot {
    /// Cuts the first `times` lines; later ones are left alone.
    pub async fn before(server: u16, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(Mutex::new(times));
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, server, left.clone()));
            }
        });
        Self { port, task }
    }
}

impl Drop for CutAfterDot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, server: u16, left: Arc<Mutex<usize>>) {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    let mut tail = Vec::new();
    loop {
        tokio::select! {
            n = client.read(&mut up) => {
                let n = n.unwrap_or(0);
                if n == 0 { return }
                server.write_all(&up[..n]).await.unwrap();
                tail.extend_from_slice(&up[..n]);
                let cut = tail.ends_with(b"\r\n.\r\n") && {
                    let mut left = left.lock().unwrap();
                    let cut = *left > 0;
                    *left = left.saturating_sub(1);
                    cut
                };
                if cut {
                    // The server has taken the mail when its answer is there; the client never sees it.
                    let _ = server.read(&mut down).await;
                    return;
                }
            }
            n = server.read(&mut down) => {
                let n = n.unwrap_or(0);
                if n == 0 { return }
                client.write_all(&down[..n]).await.unwrap();
            }
        }
    }
}

/// In place of an answer: none, ever. A mail is taken.
pub const SILENCE: &str = "250 (silence)";

/// A server that takes everything, except for what it was told to answer otherwise.
pub struct Scripted {
    pub port: u16,
    /// Every command, in the order in which they came.
    pub heard: Arc<Mutex<Vec<String>>>,
    /// The mails that it took.
    pub taken: Arc<Mutex<Vec<String>>>,
    lines: Arc<Mutex<VecDeque<(&'static str, &'static str)>>>,
    task: JoinHandle<()>,
}

impl Scripted {
    pub async fn start(features: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let shared = (heard.clone(), taken.clone(), lines.clone());
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (heard, taken, lines) = shared.clone();
                tokio::spawn(async move {
                    // A client that hangs up ends the conversation.
                    let _ = converse(client, features, &heard, &taken, &lines).await;
                });
            }
        });
        Self {
            port,
            heard,
            taken,
            lines,
            task,
        }
    }

    /// Answers the next command that begins like this with that; an empty answer hangs up. `.` is the end of a mail.
    pub fn next(&self, lines: impl IntoIterator<Item = (&'static str, &'static str)>) {
        self.lines.lock().unwrap().extend(lines);
    }

    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(
    client: TcpStream,
    features: &[&str],
    heard: &Mutex<Vec<String>>,
    taken: &Mutex<Vec<String>>,
    lines: &Mutex<VecDeque<(&'static str, &'static str)>>,
) -> std::io::Result<()> {
    let (read, mut write) = client.into_split();
    let mut read = BufReader::new(read);
    let mut mail: Option<String> = None;
    let say = |command: &str, ordinary: String| {
        let mut lines = lines.lock().unwrap();
        match lines.front() {
            Some((begins, answer)) if command.starts_with(begins) => {
                let answer = (*answer).to_owned();
                lines.pop_front();
                answer
            }
            Some(_) | None => ordinary,
        }
    };
    write.write_all(b"220 stand.example ESMTP\r\n").await?;
    loop {
        let mut line = String::new();
        if read.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(text) = &mut mail
            && line != "."
        {
            text.push_str(line);
            text.push('\n');
            continue;
        }
        heard.lock().unwrap().push(line.to_owned());
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        let ordinary = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                let all = std::iter::once(&"stand.example").chain(features);
                let count = features.len();
                all.enumerate()
                    .map(|(i, f)| format!("250{}{f}", if i == count { ' ' } else { '-' }))
                    .collect::<Vec<_>>()
                    .join("\r\n")
            }
            "DATA" => "354 go on".to_owned(),
            "QUIT" => "221 bye".to_owned(),
            "AUTH" => "235 2.7.0 welcome".to_owned(),
            _ => "250 2.0.0 ok".to_owned(),
        };
        let answer = say(line, ordinary);
        if answer.is_empty() {
            return Ok(());
        }
        if verb.eq_ignore_ascii_case("DATA") && answer.starts_with('3') {
            mail = Some(String::new());
        } else if line == "." {
            let text = mail.take().unwrap_or_default();
            if answer.starts_with('2') {
                taken.lock().unwrap().push(text);
            }
        }
        if answer == SILENCE {
            return std::future::pending().await;
        }
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
        if verb.eq_ignore_ascii_case("QUIT") || answer.starts_with("421") {
            return Ok(());
        }
    }
}
