//! The program of `examples/webhook-fence`, run as a user would, between the kind and a provider that misbehaves.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use failover::{
    driver::registry::kinds,
    model::{
        check::CheckStatus,
        span::Span,
        step::{Presence, Rung, StepResult},
    },
    port::{action::SharedAction, http::client_trusting, kind::Wiring},
    spec,
};
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};
use tempfile::TempDir;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers::any};

use super::{LONG, SECRET, is_failed, is_indeterminate, settings, signature};
use crate::stand::{
    authority::Authority,
    hetzner::{Hetzner, Mood, SERVER, TOKEN},
    wiring::{action, clock, step, wiring},
};

/// Long enough for several rounds.
const MINUTE: Span = Span::from_secs(60);

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/webhook-fence")
        .join(file)
}

/// The running program. It ends with its owner.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    /// Starts it with what it remembers, and writes its log, in this folder.
    fn start(folder: &Path, provider: &str, more: &[(&str, String)]) -> Self {
        let log = folder.join("log");
        let log = File::options().create(true).append(true).open(log);
        let mut child = Command::new("python3")
            .arg(example("fence.py"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("FENCE_KEY", SECRET)
            .env("FENCE_SERVERS", format!("shop/z=1 shop/a={SERVER}"))
            .env("FENCE_LISTEN", "127.0.0.1:0")
            .env("FENCE_MEMORY", folder.join("fence.sqlite"))
            .env("HCLOUD_URL", provider)
            .env("HCLOUD_TOKEN", TOKEN)
            .envs(more.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").map(str::to_owned);
        let log = fs::read_to_string(folder.join("log")).unwrap();
        Self {
            child,
            address: address.unwrap_or_else(|| panic!("{line}{log}")),
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The provider, the program, and the kind.
struct World {
    folder: TempDir,
    wiring: Wiring,
    provider: Hetzner,
    program: Program,
    with: Value,
}

impl World {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(more: &[(&str, String)]) -> Self {
        let folder = TempDir::new().unwrap();
        let provider = Hetzner::start().await;
        let program = Program::start(folder.path(), &provider.url, more);
        Self {
            wiring: wiring(folder.path()),
            with: settings(&program.url(), folder.path()),
            folder,
            provider,
            program,
        }
    }

    fn fence(&self) -> SharedAction {
        action("webhook/fence", &self.with, &self.wiring)
    }

    async fn perform(&self, timeout: Span) -> StepResult {
        self.fence().perform(&step(timeout)).await
    }

    async fn undo(&self) -> StepResult {
        self.fence().undo(&step(LONG)).await.unwrap()
    }

    async fn check(&self) -> CheckStatus {
        let step = step(LONG);
        let items = self.fence().check(&step.from, &step.to).await;
        items[0].status
    }

    /// The program dies and is started again.
    fn restart(&mut self) {
        let again = Program::start(self.folder.path(), &self.provider.url, &[]);
        self.program = again;
        self.with = settings(&self.program.url(), self.folder.path());
    }

    /// Sends this request to the program, and says the status of its answer.
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        let request = headers.iter().fold(
            reqwest::Client::new().post(format!("{}{path}", self.program.url())),
            |request, (name, value)| request.header(*name, *value),
        );
        let answer = request.body(body.to_owned()).send().await.unwrap();
        answer.status().as_u16()
    }

    /// Sends a request that the key's holder signed so many seconds ago.
    async fn post_signed(&self, path: &str, ago: i64, body: &Value) -> u16 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = i64::try_from(now.as_secs()).unwrap() - ago;
        let (at, body) = (at.to_string(), body.to_string());
        let signed = signature("msg_1", &at, &body);
        let headers = [
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signed.as_str()),
        ];
        self.post(path, &headers, &body).await
    }

    /// What somebody who listens gets hold of: a genuine request that never reached the program.
    async fn overheard(&self, part: &str) -> Request {
        let listener = MockServer::start().await;
        let answer = ResponseTemplate::new(200);
        Mock::given(any())
            .respond_with(answer)
            .mount(&listener)
            .await;
        let with = settings(&listener.uri(), self.folder.path());
        let fence = action("webhook/fence", &with, &self.wiring);
        fence.perform(&step(Span::from_secs(1))).await;
        let all = listener.received_requests().await.unwrap();
        let found = all.into_iter().find(|r| r.url.path() == part);
        found.unwrap()
    }

    async fn replay(&self, path: &str, request: &Request) -> u16 {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers = names.map(|name| (name, request.headers[name].to_str().unwrap()));
        let body = std::str::from_utf8(&request.body).unwrap();
        self.post(path, &headers, body).await
    }
}

fn asking(action: &str) -> Value {
    json!({"action": action, "service": "shop", "from": {"name": "a"}})
}

#[tokio::test]
async fn it_is_done_only_once_the_server_is_off() {
    let world = World::new().await;
    let provider = &world.provider;
    assert_eq!(world.check().await, CheckStatus::Ok);
    // The first call is refused, the second one acts and its answer is lost; then it takes its time.
    provider.writes([Mood::Limited, Mood::BadGatewayAfter]);
    provider.reads([Mood::Slow, Mood::Down, Mood::Limited]);
    provider.lasts(3);
    let result = world.perform(MINUTE).await;
    assert_eq!(provider.status(), "off", "{result:?}");
    let StepResult::Done(proof) = &result else {
        panic!("{result:?}")
    };
    assert_eq!(proof.rung, Some(Rung::Infrastructure));
    assert_eq!(proof.summary, "the service says: server 4711 is off");
    assert_eq!(provider.powered(), ["poweroff"]);

    // A repeat does nothing, and the answer is the provider's, not one from memory.
    let result = world.perform(MINUTE).await;
    assert!(matches!(result, StepResult::Done(_)), "{result:?}");
    assert_eq!(provider.powered(), ["poweroff"]);
    assert_eq!(world.check().await, CheckStatus::Warn);
    provider.turn("running");
    let presence = world.fence().observe(&step(LONG)).await;
    assert!(matches!(presence, Presence::Absent { .. }), "{presence:?}");
}

#[tokio::test]
async fn what_does_not_stop_is_never_called_done() {
    let world = World::new().await;
    world.provider.lasts(1000);
    let result = world.perform(Span::from_secs(4)).await;
    assert!(is_indeterminate(&result), "{result:?}");
    assert_eq!(world.provider.status(), "stopping");
    // The next attempt finds it stopping, and the provider locked.
    let result = world.perform(Span::from_secs(4)).await;
    assert!(is_indeterminate(&result), "{result:?}");
    assert_eq!(world.provider.powered(), ["poweroff"]);
    for state in ["migrating", "unknown", "deleting", "initializing"] {
        world.provider.turn(state);
        let presence = world.fence().observe(&step(LONG)).await;
        assert!(
            matches!(presence, Presence::Absent { .. }),
            "{state}: {presence:?}"
        );
    }
}

#[tokio::test]
async fn a_provider_that_acts_and_is_silent_is_seen_to_have_acted() {
    let world = World::new().await;
    world.provider.writes([Mood::SilentAfter]);
    let result = world.perform(Span::from_secs(6)).await;
    assert!(matches!(result, StepResult::Done(_)), "{result:?}");
    assert_eq!(world.provider.status(), "off");
}

#[tokio::test]
async fn it_is_powered_on_again() {
    let world = World::new().await;
    world.perform(MINUTE).await;
    world.provider.lasts(2);
    let undone = world.undo().await;
    assert!(matches!(undone, StepResult::Done(_)), "{undone:?}");
    assert_eq!(world.provider.powered(), ["poweroff", "poweron"]);
}

#[tokio::test]
async fn what_is_not_signed_rightly_is_refused() {
    let mut world = World::new().await;
    fs::write(
        world.folder.path().join("key"),
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
    )
    .unwrap();
    let result = world.perform(LONG).await;
    assert!(is_failed(&result), "{result:?}");
    assert!(format!("{result:?}").contains("HTTP 401"), "{result:?}");
    assert_eq!(world.check().await, CheckStatus::Fail);
    fs::write(world.folder.path().join("key"), SECRET).unwrap();

    // A controller whose clock is wrong by more than five minutes, either way.
    for ahead in [-310, 310] {
        world.wiring.runtime = clock(ahead);
        let result = world.perform(LONG).await;
        assert!(is_failed(&result), "{ahead}: {result:?}");
        assert_eq!(world.check().await, CheckStatus::Fail);
    }
    world.wiring.runtime = clock(-250);
    assert_eq!(world.check().await, CheckStatus::Ok);

    let body = asking("fence").to_string();
    assert_eq!(world.post("/fence", &[], &body).await, 401);
    assert_eq!(
        world.post_signed("/fence", 310, &asking("fence")).await,
        401
    );
    assert_eq!(world.post_signed("/fence", 0, &json!([1])).await, 400);
    assert_eq!(world.post_signed("/erase", 0, &asking("erase")).await, 400);
    assert_eq!(world.provider.powered(), [""; 0]);
    assert_eq!(world.provider.status(), "running");
}

#[tokio::test]
async fn what_is_overheard_is_of_no_use() {
    let mut world = World::new().await;
    let look = world.overheard("/observe").await;
    assert_eq!(world.replay("/fence", &look).await, 403);
    assert_eq!(world.replay("/observe", &look).await, 200);
    let mut changed = look.clone();
    changed.body = String::from_utf8(look.body)
        .unwrap()
        .replace("observe", "fence")
        .into_bytes();
    assert_eq!(world.replay("/fence", &changed).await, 401);
    assert_eq!(world.provider.powered(), [""; 0]);

    let order = world.overheard("/fence").await;
    assert_eq!(world.replay("/undo", &order).await, 403);
    assert_eq!(world.replay("/fence", &order).await, 200);
    assert_eq!(world.replay("/fence", &order).await, 409);
    world.provider.turn("off");
    let undone = world.undo().await;
    assert!(matches!(undone, StepResult::Done(_)), "{undone:?}");
    assert_eq!(world.replay("/fence", &order).await, 409);
    world.restart();
    assert_eq!(world.replay("/fence", &order).await, 409);
    assert_eq!(world.provider.powered(), ["poweroff", "poweron"]);

    // One that was held back while a later one of the same site arrived.
    assert_eq!(world.post_signed("/fence", 60, &asking("fence")).await, 409);
    assert_eq!(world.provider.powered(), ["poweroff", "poweron"]);
}

#[tokio::test]
async fn only_the_servers_that_it_knows_are_touched() {
    let world = World::new().await;
    for (field, value) in [
        ("service", json!("blog")),
        ("from", json!({"name": "b"})),
        ("from", json!("a")),
    ] {
        let mut body = asking("fence");
        body[field] = value;
        let status = world.post_signed("/fence", 0, &body).await;
        assert!(matches!(status, 400 | 422), "{body}: {status}");
    }
    let long = json!({"action": "fence", "more": "x".repeat(70_000)});
    assert_eq!(world.post_signed("/fence", 0, &long).await, 413);
    assert_eq!(world.provider.calls(), 0);
}

#[tokio::test]
async fn a_token_that_is_no_good_is_told_of_before() {
    let world = World::with(&[("HCLOUD_TOKEN", "another one".to_owned())]).await;
    assert_eq!(world.check().await, CheckStatus::Fail);
    let result = world.perform(LONG).await;
    assert!(is_failed(&result), "{result:?}");
    assert!(format!("{result:?}").contains("401"), "{result:?}");
    let log = fs::read_to_string(world.folder.path().join("log")).unwrap();
    assert!(
        !log.contains("another one") && !log.contains(SECRET),
        "{log}"
    );
}

#[tokio::test]
async fn it_speaks_tls_itself() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let files = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (chain, key) = (file("chain.pem", &chain), file("key.pem", &key));
    let mut world = World::with(&[("TLS_CERT", chain), ("TLS_KEY", key)]).await;
    let port = world.program.address.rsplit(':').next().unwrap();
    world.with = settings(&format!("https://localhost:{port}"), world.folder.path());
    assert_eq!(
        world.check().await,
        CheckStatus::Fail,
        "nobody knows its authority"
    );
    let pem = fs::read(authority.path()).unwrap();
    world.wiring.http = client_trusting(Duration::from_secs(5), &pem).unwrap();
    let result = world.perform(LONG).await;
    assert!(matches!(result, StepResult::Done(_)), "{result:?}");
    assert_eq!(world.provider.powered(), ["poweroff"]);
}

#[test]
fn its_runbook_is_right() {
    let file = example("runbook.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let loaded = spec::read_text("runbook.yaml", &text, kinds());
    let errors = loaded.diagnostics.iter();
    let errors: Vec<_> = errors
        .filter(|d| d.severity == spec::Severity::Error)
        .map(|d| &d.message)
        .collect();
    assert_eq!(errors, [""; 0]);
    assert!(text.contains("uses: webhook/fence"));
}
