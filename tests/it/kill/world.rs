//! The other side of everything that a controller does, of one story: each part counts what happened to it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

use failover::{driver::registry::kinds, model::service::Service, spec};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::process::Child;

use crate::stand::{
    bind,
    host::{Host, http},
    life::Orders,
    point::Point,
    smtp::Scripted,
    telegram::{self, Chat, Telegram},
    webhook::{self, Receiver},
    x::{self, X},
};

/// Where Telegram shows announcements.
pub const CHAT: &str = "-1001";
/// Who gets mails.
pub const CUSTOMERS: [&str; 2] = ["ann@example.com", "ben@example.com"];

/// No life of a controller is longer.
const LONGEST: Duration = Duration::from_mins(1);

/// A fence that is performed anew each time it is asked, and looks only once nobody is at it any more.
const FENCE: &str = r#"#!/bin/sh
exec 9>>"$2/fence.lock"
flock 9
case "$1" in
perform)
    echo "$FAILOVER_KEY" >>"$2/fence.log"
    if [ -e "$2/fatal" ]; then
        rm "$2/fatal"
        kill -KILL $PPID
    fi
    ;;
observe) test -s "$2/fence.log" ;;
esac
"#;

/// Everything around one controller.
pub struct World {
    folder: TempDir,
    primary: Host,
    standby: Standby,
    /// Where the zone is updated.
    pub dns: SocketAddr,
    /// Its own zone.
    pub zone: String,
    pub x: X,
    pub mail: Scripted,
    pub telegram: Telegram,
    /// Customers' webhook.
    pub hook: Receiver,
    /// The team's webhook.
    pub pager: Receiver,
}

/// The standby's application, which is promoted by a request.
struct Standby {
    host: Host,
    /// The keys of all requests to promote.
    promotions: Arc<Mutex<Vec<String>>>,
    /// Whom it kills when it has been promoted, before it answers; 0: nobody.
    victim: Arc<AtomicI32>,
}

impl Standby {
    async fn start() -> Self {
        let promotions = Arc::<Mutex<Vec<String>>>::default();
        let victim = Arc::<AtomicI32>::default();
        let (asked, fatal) = (promotions.clone(), victim.clone());
        let host = Host::answering(move |head| {
            let mut asked = asked.lock().unwrap();
            if head.starts_with("POST /promote ") {
                let key = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("idempotency-key")
                        .then(|| value.to_owned())
                });
                asked.push(key.unwrap());
                let victim = fatal.swap(0, Ordering::SeqCst);
                if victim != 0 {
                    kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
                }
            }
            let primary = head.starts_with("GET /primary ");
            if primary && asked.is_empty() {
                http("409 Conflict", "", "a standby")
            } else {
                http("200 OK", "", "the shop is open")
            }
        })
        .await;
        Self {
            host,
            promotions,
            victim,
        }
    }
}

impl World {
    /// Everything is well; updates of `zone` go to `dns`.
    pub async fn new(dns: SocketAddr, zone: &str) -> Self {
        let up = AtomicBool::new(true);
        let primary = Host::answering(move |head| {
            if head.starts_with("GET /end ") {
                up.store(false, Ordering::SeqCst);
            }
            if up.load(Ordering::SeqCst) {
                http("200 OK", "", "the shop is open")
            } else {
                http("503 Service Unavailable", "", "")
            }
        })
        .await;
        let telegram = Telegram::start().await;
        telegram.chat(CHAT, Chat::Open);
        Self {
            folder: folder(),
            primary,
            standby: Standby::start().await,
            dns,
            zone: zone.to_owned(),
            x: X::start().await,
            mail: Scripted::start(&[]).await,
            telegram,
            hook: Receiver::start().await,
            pager: Receiver::start().await,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The controller's journal.
    pub fn journal(&self) -> PathBuf {
        self.at("journal.sqlite")
    }

    /// The controller's ledger.
    pub fn ledger(&self) -> PathBuf {
        self.at("ledger.sqlite")
    }

    /// The status page's files.
    pub fn page(&self) -> PathBuf {
        self.at("page")
    }

    /// The keys of the promotions that were asked for.
    pub fn promotions(&self) -> Vec<String> {
        self.standby.promotions.lock().unwrap().clone()
    }

    /// The keys under which the old primary was fenced.
    pub fn fences(&self) -> Vec<String> {
        let log = fs::read_to_string(self.at("fence.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// The next fencing kills the controller that asked for it, when the old primary is fenced.
    pub fn make_fence_fatal(&self) {
        fs::write(self.at("fatal"), "").unwrap();
    }

    /// The next promotion kills this controller, when the standby is promoted.
    pub fn make_promotion_fatal(&self, controller: &Child) {
        let victim = i32::try_from(controller.id().unwrap()).unwrap();
        self.standby.victim.store(victim, Ordering::SeqCst);
    }

    /// The service, for a controller in the test's own process.
    pub fn services(&self) -> Vec<Service> {
        let documents = self.at("shop.yaml");
        fs::write(&documents, self.documents()).unwrap();
        let loaded = spec::load(&[documents], kinds());
        assert!(loaded.is_usable());
        loaded.services
    }

    /// The primary does not answer as it should any more.
    pub async fn end_primary(&self) {
        let ended = reqwest::get(self.end()).await.unwrap();
        assert_eq!(ended.status(), 503);
    }

    fn end(&self) -> String {
        format!("{}end", self.primary.url())
    }

    /// What controllers said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    /// One life of a controller.
    pub async fn live(&self, die: Option<&Point>) -> ExitStatus {
        let mut child = self.begin(die);
        let ended = tokio::time::timeout(LONGEST, child.wait()).await;
        ended.unwrap_or_else(|_| panic!("{}", self.log())).unwrap()
    }

    /// Starts a controller; it ends when it is dropped.
    pub fn begin(&self, die: Option<&Point>) -> Child {
        let documents = self.at("shop.yaml");
        fs::write(&documents, self.documents()).unwrap();
        let orders = Orders {
            documents,
            state: self.folder.path().to_owned(),
            die: die.cloned(),
            end_primary: Some(self.end()),
        };
        let mut process = orders.process("kill::controller::life", &self.at("log"));
        // Reading all authorities that the system trusts takes longer than everything else in such a life.
        process.env("SSL_CERT_FILE", self.authority());
        process.spawn().unwrap()
    }

    fn authority(&self) -> PathBuf {
        let file = self.at("authority.pem");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&file, made.cert.pem()).unwrap();
        file
    }

    fn documents(&self) -> String {
        fs::write(self.at("fence.sh"), FENCE).unwrap();
        fs::write(
            self.at("customers.csv"),
            format!("email\n{}\n", CUSTOMERS.join("\n")),
        )
        .unwrap();
        for (name, value) in SECRETS.iter().chain(&x::KEYS) {
            fs::write(self.at(&format!("secret-{name}")), value).unwrap();
        }
        DOCUMENTS
            .replace("FOLDER", text(self.folder.path()))
            .replace("PRIMARY", &self.primary.url())
            .replace("STANDBY", &self.standby.host.url())
            .replace("ZONE", &self.zone)
            .replace("DNS", &self.dns.to_string())
            .replace("TELEGRAM", &self.telegram.url)
            .replace("MAILPORT", &self.mail.port.to_string())
            .replace("HOOK", &self.hook.url)
            .replace("PAGER", &self.pager.url)
            .replace("XURL", &self.x.url)
            .replace("CHAT", CHAT)
    }
}

/// In memory where the system has a place for that: SIGKILL spares what was written, on a disk or not.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const SECRETS: [(&str, &str); 4] = [
    ("tsig", bind::SECRET),
    ("telegram", telegram::TOKEN),
    ("webhook", webhook::SECRET),
    ("unsubscribe", "a key that nobody can guess"),
];

const DOCUMENTS: &str = r#"
apiVersion: failover.rs/v1alpha1
kind: ProtectedService
metadata:
  name: shop
spec:
  title: Shop
  mode: ask
  objectives: {rto: 10m, rpo: 1m}
  sites:
    - {name: a, role: primary, addresses: [192.0.2.1, 192.0.2.2], url: "PRIMARY"}
    - {name: b, role: standby, addresses: [198.51.100.1], url: "STANDBY"}
  vantagePoints:
    - {name: north, network: north}
    - {name: south, network: south}
  quorum: {networks: 1, failures: 2, successes: 1}
  components:
    - name: app
      kind: application
      probes:
        - {id: app-a, uses: probe/http, with: {url: "PRIMARY"}, site: a, every: 2s, timeout: 2s, from: [north]}
        - {id: app-b, uses: probe/http, with: {url: "STANDBY"}, site: b, every: 2s, timeout: 2s, from: [north]}
  trigger: {immediate: {}}
  dns:
    provider:
      uses: dns/rfc2136
      with: {server: "DNS", key: {name: failover-key., secret: {file: FOLDER/secret-tsig}}}
    zone: ZONE
    records: [{name: app.ZONE, type: A}]
    authorities: ["DNS"]
  publication:
    url: https://status.example.net/
    targets:
      - {uses: publish/folder, with: {path: FOLDER/page}}
  announcements:
    symptom: Orders cannot be placed.
    channels:
      - name: x
        uses: announce/x
        with:
          apiKey: {file: FOLDER/secret-apiKey}
          apiSecret: {file: FOLDER/secret-apiSecret}
          accessToken: {file: FOLDER/secret-accessToken}
          accessSecret: {file: FOLDER/secret-accessSecret}
          baseUrl: XURL
      - name: telegram
        uses: announce/telegram
        with: {token: {file: FOLDER/secret-telegram}, chats: ["CHAT"], baseUrl: "TELEGRAM"}
      - name: webhook
        uses: announce/webhook
        with: {url: "HOOK", secret: {file: FOLDER/secret-webhook}, allowPrivate: true}
      - name: email
        uses: announce/email
        with:
          smtp: {host: 127.0.0.1, port: MAILPORT, tls: none}
          from: Shop <status@example.com>
          list: {csv: FOLDER/customers.csv}
          unsubscribe: {url: "https://status.example.net", key: {file: FOLDER/secret-unsubscribe}}
  team:
    people:
      - {name: ann, tokenHash: "sha256:3e872b00389b0a41b472b00d8e12c94af1526ddfa6c9d452e2c48351e47a4cbe"}
    channels:
      - name: pager
        uses: announce/webhook
        with: {url: "PAGER", secret: {file: FOLDER/secret-webhook}, allowPrivate: true}
  runbook: stateless-failover
  steps:
    stop-primary:
      with:
        perform: [/bin/sh, FOLDER/fence.sh, perform, FOLDER]
        observe: [/bin/sh, FOLDER/fence.sh, observe, FOLDER]
      timeout: 10s
      retry: {attempts: 3, backoff: 50ms}
    promote:
      with: {url: "STANDBYpromote", observe: {url: "STANDBYprimary"}}
      timeout: 10s
      retry: {attempts: 3, backoff: 50ms}
    repoint:
      retry: {attempts: 3, backoff: 50ms}
    cutover:
      retry: {attempts: 3, backoff: 50ms}
    verify:
      retry: {attempts: 3, backoff: 50ms}
    fallback:
      retry: {attempts: 3, backoff: 50ms}
"#;
