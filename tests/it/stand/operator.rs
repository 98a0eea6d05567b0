//! Replicas of `failover operator` by the real binary, in a real cluster, over the stateless service of
//! [`super::controller`].

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{
    controller::{Stand, text},
    kubernetes::Cluster,
};

/// The service, its sites, and the cluster that its operator runs in.
pub struct Operators {
    /// The cluster.
    pub cluster: Cluster,
    /// The service and what it consists of.
    pub stand: Stand,
    replicas: BTreeMap<&'static str, Child>,
}

impl Operators {
    /// A cluster with the definitions and the service's documents, and no replica yet.
    pub async fn new() -> Self {
        Self::of(Cluster::start(), |document| document).await
    }

    /// The same in this cluster, with the documents as `change` has them.
    pub async fn of(cluster: Cluster, change: impl FnOnce(String) -> String) -> Self {
        define(&cluster);
        let stand = Stand::new().await;
        cluster.apply(&change(stand.document()));
        Self {
            cluster,
            stand,
            replicas: BTreeMap::new(),
        }
    }

    /// The same with one replica that leads, and a service that is seen to work.
    pub async fn running() -> Self {
        let mut operators = Self::new().await;
        operators.run();
        operators
    }

    /// Starts a replica that leads, and waits until the service is seen to work.
    pub fn run(&mut self) {
        self.start("one");
        self.until_service("it is healthy", |status| status["verdict"] == "healthy");
    }

    /// The state folder of a replica.
    pub fn state(&self, name: &str) -> PathBuf {
        self.stand.path(name)
    }

    /// Starts a replica, which runs the documents' programs. It takes over from another one after 3 s.
    pub fn start(&mut self, name: &'static str) {
        self.start_with(name, &["--allow-commands"]);
    }

    /// Starts a replica with these flags beside those that each has.
    pub fn start_with(&mut self, name: &'static str, flags: &[&str]) {
        let kubeconfig = self.cluster.kubeconfig();
        let state = self.state(name);
        let secrets = self.stand.path("");
        let args = [
            "operator",
            "--secrets",
            secrets.to_str().unwrap(),
            "--state",
            state.to_str().unwrap(),
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "--identity",
            name,
            "--metrics",
            "off",
            "--lease-duration=3s",
            "--renew-deadline=2s",
            "--retry-period=300ms",
        ];
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file(name))
            .unwrap();
        let child = self
            .stand
            .command(&[&args, flags].concat())
            .stderr(log)
            .spawn()
            .unwrap();
        let before = self.replicas.insert(name, child);
        assert!(before.is_none(), "{name} runs already");
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.stand.path(&format!("{name}.log"))
    }

    /// What a replica has logged.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_file(name)).unwrap_or_default()
    }

    /// Sends a replica a signal.
    pub fn signal(&self, name: &str, signal: Signal) {
        let pid = self.replicas[name].id().cast_signed();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for a replica's end.
    pub fn ended(&mut self, name: &str) -> ExitStatus {
        let mut child = self.replicas.remove(name).unwrap();
        let mut status = None;
        self.cluster.until("the replica ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// A command at a replica's control socket, as one of the three people.
    pub fn says(&self, replica: &str, person: &str, args: &[&str]) {
        let state = self.state(replica);
        let state = ["--state", state.to_str().unwrap()];
        let output = self.stand.cli_as(person, &[args, &state].concat());
        assert!(output.status.success(), "{}", text(&output));
    }

    /// An object's status.
    pub fn status(&self, kind: &str, name: &str) -> Value {
        let text = self.cluster.kubectl(&["get", kind, name, "-o=json"]);
        let object: Value = serde_json::from_str(&text).unwrap();
        object["status"].clone()
    }

    /// Waits until the service's status is so.
    pub fn until_service(&self, what: &str, so: impl Fn(&Value) -> bool) {
        self.until("protectedservice", "shop", what, so);
    }

    /// Waits until a request's status is so.
    pub fn until_run(&self, name: &str, what: &str, so: impl Fn(&Value) -> bool) {
        self.until("failoverrun", name, what, so);
    }

    fn until(&self, kind: &str, name: &str, what: &str, so: impl Fn(&Value) -> bool) {
        let what = format!("{kind} {name}: {what}");
        self.cluster.until(&what, || so(&self.status(kind, name)));
    }

    /// Makes the service's document one that only the controller can tell to be wrong, and waits until it has.
    pub fn break_document(&self) {
        self.cluster.apply(&self.stand.document().replace(
            "timeout: 450ms, with: {url: ",
            "timeout: 450ms, with: {address: ",
        ));
        self.until_service("it says what stays in force", |status| {
            let conditions = status["conditions"].as_array().unwrap();
            let valid = conditions.iter().find(|c| c["type"] == "Valid").unwrap();
            let message = valid["message"].as_str().unwrap();
            valid["status"] == "False" && message.contains("in force before stays in force")
        });
    }

    /// Asks for a run.
    pub fn ask(&self, name: &str, kind: &str) {
        let run = json!({
            "apiVersion": "failover.rs/v1alpha1",
            "kind": "FailoverRun",
            "metadata": {"name": name},
            "spec": {"service": "shop", "kind": kind, "reason": "a test", "requester": "admin"},
        });
        self.cluster.apply(&run.to_string());
    }

    /// Asks for a failover, and has two people approve it at this replica.
    pub fn approved(&self, name: &str, replica: &str) {
        self.ask(name, "failover");
        self.until_run(name, "people are asked", |status| {
            status["progress"] == "Asking"
        });
        let ask = self.status("failoverrun", name)["ask"].clone();
        for person in ["ann", "ben"] {
            self.says(replica, person, &["approve", ask.as_str().unwrap()]);
        }
    }
}

impl Drop for Operators {
    #[expect(
        clippy::print_stdout,
        reason = "a failed test shows what the replicas said"
    )]
    fn drop(&mut self) {
        let names: Vec<_> = self.replicas.keys().copied().collect();
        for child in self.replicas.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for name in names {
                println!("-- {name}\n{}", self.log(name));
            }
        }
    }
}

/// Puts the definitions of the chart in place.
pub fn define(cluster: &Cluster) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/failover/crds");
    let folder = folder.to_str().unwrap();
    cluster.kubectl(&["apply", "--server-side", "-f", folder]);
    cluster.kubectl(&["wait", "crd", "--all", "--for=condition=Established"]);
}
