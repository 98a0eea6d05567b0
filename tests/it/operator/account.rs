//! The operator as the chart runs it: its arguments, its variables, its account and no other right.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::chart::install;
use crate::stand::{
    bind::free_port,
    controller::{PROGRAM, Stand, TOKENS},
    kubernetes::{Cluster, succeeded},
    webhook::SECRET,
};

/// What the API server knows the operator as.
const ACCOUNT: &str = "system:serviceaccount:ops:dr-failover";

/// A replica outside the cluster's nodes, which play their Pods only.
pub struct Replica {
    folder: TempDir,
    child: Child,
}

impl Replica {
    /// Starts what the Deployment of the namespace `ops` says. What it mounts would stand elsewhere on this host.
    fn start(cluster: &Cluster, secrets: &Path) -> Self {
        let deployment =
            cluster.kubectl(&["get", "deployment", "dr-failover", "-n=ops", "-o=json"]);
        let deployment: Value = serde_json::from_str(&deployment).unwrap();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let folder = TempDir::new().unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", PROGRAM]).env_clear();
        for argument in container["args"].as_array().unwrap() {
            let argument = argument.as_str().unwrap();
            // The chart's port may be taken on this host.
            if !argument.starts_with("--metrics=") {
                command.arg(argument);
            }
        }
        for variable in container["env"].as_array().unwrap() {
            if let Some(value) = variable["value"].as_str() {
                command.env(variable["name"].as_str().unwrap(), value);
            }
        }
        let child = command
            .arg(format!("--metrics=127.0.0.1:{}", free_port()))
            .arg("--secrets")
            .arg(secrets)
            .arg("--kubeconfig")
            .arg(cluster.of_service_account("ops", "dr-failover"))
            .env("POD_NAME", "dr-failover-0")
            .env("POD_NAMESPACE", "ops")
            .env("POD_IP", "192.0.2.7")
            .env("FAILOVER_STATE", folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { folder, child }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Replica {
    #[expect(
        clippy::print_stdout,
        reason = "a failed test shows what the operator said"
    )]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

/// The chart in the namespace `ops`, a replica with its account, and the stand's service, which is seen to be well. Its
/// people are known to the API server as `NAME@example.com`.
pub async fn installed() -> (Stand, Cluster, Replica) {
    let stand = Stand::new().await;
    let cluster = Cluster::start();
    let values = format!(
        "{{secrets: {{documents: [hook]}}, allowCommands: true, \
         reach: {{statusPage: {{enabled: true, port: {}}}}}}}",
        free_port()
    );
    succeeded(&install(&cluster, "install", &values));
    let value = format!("--from-literal=key={SECRET}");
    cluster.kubectl(&["create", "secret", "generic", "hook", "-n=ops", &value]);
    let replica = Replica::start(&cluster, &stand.path(""));

    let secret = "{secretRef: {name: hook, key: key}}";
    let mut documents = stand.document().replace(&stand.reference("secret"), secret);
    assert!(documents.contains(secret));
    for (name, _) in TOKENS {
        let known = format!("{{name: {name}, kubernetes: {name}@example.com, ");
        documents = documents.replace(&format!("{{name: {name}, "), &known);
    }
    assert!(documents.contains("cleo@example.com"));
    let admin = cluster.kubeconfig();
    let apply = ["apply", "--server-side", "-n=ops", "-f", "-"];
    succeeded(&cluster.kubectl_by(&admin, &apply, &documents));
    cluster.until("the service is seen to be well", || {
        asked(&cluster, "protectedservice", "shop", ".status.verdict") == "healthy"
    });
    (stand, cluster, replica)
}

/// What stands at a path of an object.
pub fn asked(cluster: &Cluster, kind: &str, name: &str, path: &str) -> String {
    let path = format!("-o=jsonpath={{{path}}}");
    cluster.kubectl(&["get", kind, name, "-n=ops", &path])
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_refused_nothing_that_it_needs() {
    let (_stand, cluster, _replica) = installed().await;
    let asked = |kind: &str, name: &str, path: &str| asked(&cluster, kind, name, path);

    let spec = json!({
        "service": "shop",
        "kind": "failover",
        "plan": "00000000",
        "reason": "a test",
        "requester": "admin",
    });
    let request = json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "FailoverRun",
        "metadata": {"name": "stale", "namespace": "ops"},
        "spec": spec,
    });
    cluster.apply(&request.to_string());
    cluster.until("a request for another plan is refused", || {
        asked("failoverrun", "stale", ".status.progress") == "Refused"
    });
    let told = asked("failoverrun", "stale", ".status.message");
    assert!(told.contains(" now, not 00000000"), "{told}");
    let approval = json!({
        "apiVersion": "failover.rs/v1alpha1",
        "kind": "Approval",
        "metadata": {"name": "late", "namespace": "ops"},
        "spec": {"service": "shop", "ask": "shop-a1", "answer": "approve", "approver": "admin"},
    });
    cluster.apply(&approval.to_string());
    cluster.until("an answer of a stranger is refused", || {
        asked("approval", "late", ".status.reception") == "Refused"
    });
    let told = asked("approval", "late", ".status.message");
    assert!(told.contains("has kubernetes: admin"), "{told}");
    cluster.kubectl(&[
        "delete",
        "protectedservice",
        "shop",
        "-n=ops",
        "--timeout=60s",
    ]);

    let reached = asked(
        "endpointslice",
        "dr-failover-status",
        ".endpoints[*].addresses[*]",
    );
    assert_eq!(reached, "192.0.2.7");
    let requests = cluster.requests_of(ACCOUNT);
    let refused: Vec<_> = requests
        .iter()
        .filter(|r| r["responseStatus"]["code"] == 403)
        .map(|r| (&r["verb"], &r["requestURI"]))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    let used = |verb: &str, resource: &str| {
        requests.iter().any(|r| {
            let object = &r["objectRef"];
            let subresource = object["subresource"].as_str().unwrap_or_default();
            let named = format!(
                "{}/{subresource}",
                object["resource"].as_str().unwrap_or_default()
            );
            r["verb"] == verb && named.trim_end_matches('/') == resource
        })
    };
    for (verb, resource) in [
        ("create", "leases"),
        ("update", "leases"),
        ("create", "journalentries"),
        ("list", "servicerevisions"),
        ("patch", "servicerevisions"),
        ("watch", "protectedservices"),
        ("patch", "protectedservices"),
        ("patch", "protectedservices/status"),
        ("patch", "runbooks/status"),
        ("patch", "failoverruns/status"),
        ("patch", "approvals/status"),
        ("patch", "endpointslices"),
        ("watch", "secrets"),
        ("create", "events"),
    ] {
        assert!(used(verb, resource), "never: {verb} {resource}");
    }
}
