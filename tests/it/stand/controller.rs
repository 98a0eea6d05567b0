//! `failover run` by the real binary over a stateless service whose sites, team and customers are stand-ins.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    bind::free_port,
    host::{Host, http},
    webhook::{Receiver, SECRET},
};

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_failover");

/// How long anything may take, on a machine that does ten things at once.
const PATIENCE: Duration = Duration::from_mins(1);

/// The secret that the fence's program is given, and says aloud.
const FENCE_SECRET: &str = "s3cret-of-the-fence";

/// Tokens of three people.
pub const TOKENS: [(&str, &str); 3] = [
    ("ann", "fot_token-of-ann-0123456789abcdef"),
    ("ben", "fot_token-of-ben-0123456789abcdef"),
    ("cleo", "fot_token-of-cleo-0123456789abcde"),
];

/// A service, and a controller that may run on it.
pub struct Stand {
    folder: TempDir,
    east: (Host, Arc<AtomicBool>),
    west: Host,
    dns: u16,
    page: u16,
    figures: u16,
    /// What customers get.
    pub customers: Receiver,
    team: Receiver,
    child: Option<Child>,
    /// Further fields of people, by name.
    pub more: Vec<(&'static str, String)>,
    /// The team's chat, as a part of the document.
    pub chat: String,
    /// Everything that any command of this stand has printed.
    said: Mutex<String>,
}

impl Stand {
    /// A service in the mode `ask` that wants two people, and nothing that runs yet.
    pub async fn new() -> Self {
        let up = Arc::new(AtomicBool::new(true));
        let east_up = up.clone();
        let east = Host::answering(move |_| {
            if east_up.load(Ordering::SeqCst) {
                http("200 OK", "", "open")
            } else {
                http("503 Service Unavailable", "", "closed")
            }
        })
        .await;
        let west = Host::answering(|_| http("200 OK", "", "open")).await;
        let stand = Self {
            folder: TempDir::new().unwrap(),
            east: (east, up),
            west,
            dns: free_port(),
            page: free_port(),
            figures: free_port(),
            customers: Receiver::start().await,
            team: Receiver::start().await,
            child: None,
            more: Vec::new(),
            chat: String::new(),
            said: Mutex::default(),
        };
        fs::create_dir(stand.documents()).unwrap();
        stand.file("secret", SECRET);
        stand.file("fence-secret", FENCE_SECRET);
        stand.file("go", "");
        for (name, token) in TOKENS {
            stand.file(&format!("token-{name}"), token);
        }
        stand.program(
            "stop",
            "echo \"token is $FENCE_TOKEN\"\ncase $FAILOVER_VERB in\n\
             perform) echo stop >> effects; while [ ! -e go ]; do sleep 0.05; done; touch stopped;;\n\
             undo) rm -f stopped;;\n*) [ -e stopped ];;\nesac",
        );
        stand.program(
            "promote",
            "case $FAILOVER_VERB in\nperform) echo promote >> effects; touch promoted;;\n\
             *) [ -e promoted ];;\nesac",
        );
        stand.write(&stand.document());
        stand
    }

    /// The same with a controller that runs and has looked once.
    pub async fn running() -> Self {
        let mut stand = Self::new().await;
        stand.start(&[]);
        stand
    }

    /// A path within the stand's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The documents' folder.
    pub fn documents(&self) -> PathBuf {
        self.path("documents")
    }

    /// Writes a file within the stand's folder.
    pub fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A program of that text.
    pub fn program(&self, name: &str, text: &str) {
        let folder = self.folder.path().display();
        self.file(name, &format!("#!/bin/sh\ncd {folder}\n{text}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    }

    /// Puts the service's document in place, at once as a careful editor does.
    pub fn write(&self, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.documents().join("shop.yaml")).unwrap();
    }

    /// What the fence and the promotion did, one word a time, in order.
    pub fn effects(&self) -> String {
        let text = fs::read_to_string(self.path("effects")).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What the team was paged with, as it was sent.
    pub fn paged(&self) -> Vec<Value> {
        self.team.seen.lock().unwrap().taken.clone()
    }

    /// Whether the primary answers well.
    pub fn east_is_up(&self, up: bool) {
        self.east.1.store(up, Ordering::SeqCst);
    }

    /// The documents: a service and its runbook.
    pub fn document(&self) -> String {
        let people: Vec<_> = TOKENS
            .iter()
            .map(|(name, token)| {
                let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
                let hash = hex::encode(hash.as_ref());
                let more = self.more.iter().find(|(n, _)| n == name);
                let more = more.map_or("", |(_, text)| text);
                format!("      - {{name: {name}, tokenHash: \"sha256:{hash}\"{more}}}\n")
            })
            .collect();
        format!(
            "apiVersion: failover.rs/v1alpha1
kind: ProtectedService
metadata: {{name: shop}}
spec:
  title: The shop
  mode: ask
  objectives: {{rto: 5m, rpo: 0s}}
  sites:
    - {{name: east, role: primary, addresses: [192.0.2.1], url: \"{east}\"}}
    - {{name: west, role: standby, addresses: [198.51.100.1], url: \"{west}\"}}
  vantagePoints:
    - {{name: here, network: here}}
    - {{name: there, network: there, via: {{sourceAddress: 127.0.0.2}}}}
  quorum: {{failures: 2}}
  components:
    - name: app
      kind: application
      probes:
        - {{id: app-east, uses: probe/http, site: east, every: 500ms, timeout: 450ms, with: {{url: \"{east}\"}}}}
        - {{id: app-west, uses: probe/http, site: west, every: 500ms, timeout: 450ms, with: {{url: \"{west}\"}}}}
  dns:
    provider:
      uses: dns/embedded
      with:
        listen: 127.0.0.1:{dns}
        nameServers: [{{name: ns.demo.test., addresses: [127.0.0.1]}}]
    zone: demo.test
    ttl: 2s
    records: [{{name: shop.demo.test, type: A}}]
    authorities: [\"127.0.0.1:{dns}\"]
    resolvers: [\"127.0.0.1:{dns}\"]
  announcements:
    symptom: Orders cannot be placed.
    channels:
      - name: hook
        uses: announce/webhook
        with: {{url: \"{customers}\", secret: {secret}, allowPrivate: true}}
  team:
    people:
{people}    channels:
      - name: on-call
        uses: announce/webhook
        with: {{url: \"{team}\", secret: {secret}, allowPrivate: true}}
{chat}  approvals: {{required: 2, approvers: [ann, ben, cleo]}}
  runbook: move
---
apiVersion: failover.rs/v1alpha1
kind: Runbook
metadata: {{name: move}}
spec:
  title: Move the shop
  steps:
    - id: stop
      uses: command/fence
      timeout: 50s
      with: {{perform: [\"{stop}\"], observe: [\"{stop}\"], undo: [\"{stop}\"], env: {{FENCE_TOKEN: {token}}}}}
    - id: promote
      uses: command/promote
      with: {{perform: [\"{promote}\"], observe: [\"{promote}\"]}}
    - {{id: repoint, uses: dns/repoint}}
    - {{id: cutover, uses: dns/cutover, needs: [repoint]}}
    - {{id: verify, uses: service/verify}}
",
            east = self.east.0.url(),
            west = self.west.url(),
            dns = self.dns,
            customers = self.customers.url,
            team = self.team.url,
            secret = self.reference("secret"),
            token = self.reference("fence-secret"),
            people = people.concat(),
            chat = self.chat,
            stop = self.path("stop").display(),
            promote = self.path("promote").display(),
        )
    }

    /// A reference to a secret in a file of this folder, as documents have it.
    pub fn reference(&self, name: &str) -> String {
        format!("{{file: \"{}\"}}", self.path(name).display())
    }

    /// A command with nothing of this process's environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("FAILOVER_STATE", self.path("state"))
            .stdin(Stdio::null())
            .args(args);
        command
    }

    /// Runs a command to its end.
    pub fn cli(&self, args: &[&str]) -> Output {
        self.finish(self.command(args))
    }

    /// The same as one of the three people.
    pub fn cli_as(&self, person: &str, args: &[&str]) -> Output {
        let token = self.path(&format!("token-{person}"));
        let mut command = self.command(args);
        command.arg("--token-file").arg(token);
        self.finish(command)
    }

    /// The same with this variable.
    pub fn cli_with(&self, name: &str, value: &str, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.env(name, value);
        self.finish(command)
    }

    fn finish(&self, mut command: Command) -> Output {
        let output = command.output().unwrap();
        self.said.lock().unwrap().push_str(&text(&output));
        output
    }

    /// What a command answers as JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.cli(&[args, &["--output", "json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a command prints for people.
    pub fn shows(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the controller with these further flags, and waits until it answers and everybody has looked.
    pub fn start(&mut self, flags: &[&str]) {
        self.start_until("\"healthy\"", flags);
    }

    /// The same, but it waits until the status holds these words.
    pub fn start_until(&mut self, words: &str, flags: &[&str]) {
        let documents = self.documents();
        let page = format!("127.0.0.1:{}", self.page);
        let figures = format!("127.0.0.1:{}", self.figures);
        let mut args = vec!["run", "-f", documents.to_str().unwrap()];
        args.extend(["--listen", &page, "--metrics", &figures]);
        args.extend(flags);
        let log = |name| {
            let path = self.path(name);
            fs::File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap()
        };
        let child = self
            .command(&args)
            .stdout(log("stdout"))
            .stderr(log("stderr"))
            .spawn();
        self.child = Some(child.unwrap());
        until("the controller answers", || {
            assert!(
                self.child.as_mut().unwrap().try_wait().unwrap().is_none(),
                "{}",
                fs::read_to_string(self.folder.path().join("stderr")).unwrap()
            );
            let output = self.command(&["status", "-o", "json"]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).contains(words)
        });
    }

    /// What the controller has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// What the controller has printed.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.path("stdout")).unwrap_or_default()
    }

    /// Sends the controller a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Waits for the controller's end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        until("the controller ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Fetches from the figures' listener: status and body.
    pub async fn figures(&self, path: &str) -> (u16, String) {
        let client = client();
        answer(client.get(format!("http://127.0.0.1:{}{path}", self.figures))).await
    }

    /// Where the status page is served.
    pub fn page_address(&self) -> String {
        format!("127.0.0.1:{}", self.page)
    }

    /// The controller's process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Fetches from the status page's listener.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let client = client();
        answer(client.get(format!("http://{}{path}", self.page_address()))).await
    }

    /// Presses the button of a form there.
    pub async fn click(&self, path: &str) -> (u16, String) {
        let client = client();
        answer(client.post(format!("http://127.0.0.1:{}{path}", self.page))).await
    }

    /// Texts of the timeline, one a line.
    pub fn timeline(&self) -> String {
        self.shows(&["timeline", "shop"])
    }

    /// The id of the open question.
    pub fn question(&self) -> Option<String> {
        let status = self.json(&["status"]);
        let id = status["services"][0]["asks"][0]["id"].as_str();
        id.map(ToOwned::to_owned)
    }

    /// Where a secret has got to that it should not: outputs, logs, and every file of the state folder.
    pub fn leaks(&self) -> Vec<String> {
        let secrets = TOKENS.map(|(_, token)| token);
        let secrets = [SECRET, FENCE_SECRET].into_iter().chain(secrets);
        let mut places = vec![
            (
                "outputs".to_owned(),
                self.said.lock().unwrap().clone().into_bytes(),
            ),
            ("stdout".to_owned(), self.printed().into_bytes()),
            ("stderr".to_owned(), self.log().into_bytes()),
        ];
        collect(&self.path("state"), &mut places);
        secrets
            .flat_map(|secret| {
                let held =
                    |bytes: &[u8]| bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
                places
                    .iter()
                    .filter(|(_, bytes)| held(bytes))
                    .map(|(place, _)| format!("{secret} in {place}"))
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

fn client() -> reqwest::Client {
    // Another test may have installed it already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn collect(folder: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, places);
        } else if let Ok(bytes) = fs::read(&path) {
            places.push((path.display().to_string(), bytes));
        }
    }
}

/// What a command printed on both.
pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Polls until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
