//! The desk of the operator: the leader's alone, over TLS, and the next leader's after it.

use nix::sys::signal::Signal;
use reqwest::{Certificate, StatusCode};
use tokio::net::TcpStream;

use crate::stand::{
    bind::free_port,
    kubernetes::Cluster,
    operator::Operators,
    visitor::{self, Visitor, said, token},
};

/// Replicas with a desk, and the certificate of them all.
struct Desks {
    operators: Operators,
    root: Certificate,
}

impl Desks {
    /// Two people who approve and one who looks; no replica yet.
    async fn new() -> Self {
        let operators = Operators::of(Cluster::start(), |document| {
            let looks = document.replace("{name: cleo,", "{name: cleo, role: viewer,");
            looks.replace("approvers: [ann, ben, cleo]", "approvers: [ann, ben]")
        })
        .await;
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        operators.stand.file("tls.crt", &made.cert.pem());
        let key = made.signing_key.serialize_pem();
        operators.stand.file("tls.key", &key);
        let root = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        Self { operators, root }
    }

    fn start(&mut self, name: &'static str, port: u16) {
        let address = format!("127.0.0.1:{port}");
        let file = |name: &str| self.operators.stand.path(name).display().to_string();
        let (certificate, key) = (file("tls.crt"), file("tls.key"));
        let flags = ["--allow-commands", "--desk-listen", &address];
        let tls = ["--desk-cert", &certificate, "--desk-key", &key];
        self.operators
            .start_with(name, &[&flags[..], &tls[..]].concat());
    }

    /// Where a replica says that its desk is, once it is seen to be.
    fn url(&self, name: &str) -> String {
        let mut found = None;
        self.operators.cluster.until("the desk is open", || {
            found = said(&self.operators.log(name));
            found.is_some()
        });
        found.unwrap()
    }

    async fn login(&self, url: &str, person: &str) -> Visitor {
        let mut visitor = Visitor::at(url);
        visitor.client = visitor::client()
            .tls_certs_only([self.root.clone()])
            .build()
            .unwrap();
        let entered = visitor.login(token(person), "/").await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{}", entered.text);
        visitor
    }
}

async fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_approve_at_whoever_leads_and_log_in_anew_at_the_next_leader() {
    let mut desks = Desks::new().await;
    let [first, second] = [free_port(), free_port()];
    desks.start("one", first);
    desks
        .operators
        .until_service("it is healthy", |status| status["verdict"] == "healthy");
    desks.start("two", second);
    let url = desks.url("one");
    assert_eq!(url, format!("https://127.0.0.1:{first}"));
    desks.operators.cluster.until("the other one waits", || {
        desks.operators.log("two").contains("waiting for the lease")
    });
    assert!(!listens(second).await, "who does not lead does not speak");

    desks.operators.ask("move-1", "failover");
    desks
        .operators
        .until_run("move-1", "people are asked", |status| {
            status["progress"] == "Asking"
        });
    let ask = desks.operators.status("failoverrun", "move-1")["ask"].clone();
    let yes = [("act", "approve"), ("ask", ask.as_str().unwrap())];
    let mut cleo = desks.login(&url, "cleo").await;
    let looks = cleo.act("shop", &yes).await;
    assert!(looks.contains("Not done."), "{looks}");
    let mut ann = desks.login(&url, "ann").await;
    let taken = ann.act("shop", &yes).await;
    assert!(taken.contains("another person must approve"), "{taken}");

    desks.operators.signal("one", Signal::SIGKILL);
    desks.operators.ended("one");
    let url = desks.url("two");
    assert_eq!(url, format!("https://127.0.0.1:{second}"));
    assert!(!listens(first).await);
    // What a browser held is worth nothing there, and it is told where to log in.
    ann.url.clone_from(&url);
    let turned = ann.get("/services/shop").await;
    assert_eq!(turned.status, StatusCode::SEE_OTHER);
    assert_eq!(turned.leads_to(), "/login?next=%2Fservices%2Fshop");

    let mut ann = desks.login(&url, "ann").await;
    desks
        .operators
        .until_service("the next leader has it", |status| {
            status["asks"][0]["id"] == ask
        });
    let again = ann.act("shop", &yes).await;
    assert!(again.contains("ann has already approved"), "{again}");
    assert_eq!(desks.operators.stand.effects(), "");
    let mut ben = desks.login(&url, "ben").await;
    let taken = ben.act("shop", &yes).await;
    assert!(taken.contains("Done."), "{taken}");
    desks.operators.until_run("move-1", "it is done", |status| {
        status["progress"] == "Done"
    });
    assert_eq!(desks.operators.stand.effects(), "stop promote");
    let timeline = ben.get("/services/shop/timeline").await.text;
    for words in ["ann approved", "ben approved", "cleo"] {
        assert!(timeline.contains(words), "{words}: {timeline}");
    }

    // A clean end closes it, too.
    desks.operators.signal("two", Signal::SIGTERM);
    assert!(desks.operators.ended("two").success());
    assert!(!listens(second).await);
}
