//! Real Kubernetes clusters under a temporary folder: etcd and an API server, and for workloads the controller-manager,
//! the scheduler and kwok, whose nodes play what becomes of Pods.
//!
//! Whatever happens, nothing is left: processes and files go when the cluster is dropped, and with the test's own
//! process.

mod access;
mod household;

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use self::{
    access::Access,
    household::{Household, spawn},
};
use super::bind::free_port;

/// What anything may take to start, on a machine that does ten things at once.
const PATIENCE: Duration = Duration::from_mins(2);

/// Who asks what of the API server is written down for all but its own parts.
const AUDIT: &str = r#"{
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["part", "system:apiserver"]},
        {"level": "Metadata"}
    ]
}"#;

const POD_ENDS: &str = "apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-end}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: Exists}
    - {key: .status.phase, operator: NotIn, values: [Succeeded, Failed]}
  next:
    statusTemplate: |
      {{ $now := Now }}
      containerStatuses:
      {{ range .spec.containers }}
      - image: {{ .image | Quote }}
        name: {{ .name | Quote }}
        ready: false
        restartCount: 0
        state:
          terminated:
            exitCode: 0
            finishedAt: {{ $now | Quote }}
            reason: Completed
            startedAt: {{ $now | Quote }}
      {{ end }}
      phase: Succeeded";
const POD_GOES: &str = "apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-go}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: Exists}
    - {key: .status.phase, operator: In, values: [Succeeded, Failed]}
  next: {delete: true}
";

/// A program that a cluster is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What the API server stores in.
    Etcd,
    /// What everything else speaks to.
    ApiServer,
    /// What makes Pods of Deployments, and so on.
    Controllers,
    /// What gives Pods to nodes.
    Scheduler,
    /// The kubelets of all nodes, played by kwok.
    Kubelets,
}

impl Part {
    fn tool(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::Controllers => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelets => "kwok",
        }
    }
}

/// One cluster.
pub struct Cluster {
    household: Household,
    access: Access,
    etcd: u16,
    nodes: usize,
    processes: Mutex<BTreeMap<Part, Child>>,
}

impl Cluster {
    /// etcd and an API server: whatever is only stored works, and nothing becomes of it.
    pub fn start() -> Self {
        Self::boot(0)
    }

    /// A whole cluster with so many nodes, on which Deployments become ready and Jobs end.
    pub fn with_nodes(nodes: usize) -> Self {
        assert!(nodes > 0, "a Pod needs a node");
        let cluster = Self::boot(nodes);
        let made: Vec<Value> = (0..nodes).map(node).collect();
        cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": made}).to_string());
        for part in [Part::Controllers, Part::Scheduler, Part::Kubelets] {
            cluster.launch(part);
        }
        cluster.until("nodes and accounts are ready", || {
            let ready = cluster.kubectl(&[
                "get",
                "nodes",
                "-o=jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}",
            ]);
            ready.matches("True").count() == nodes
                && cluster.finds("/api/v1/namespaces/default/serviceaccounts/default")
        });
        cluster
    }

    /// Starts on free ports. Between finding and binding them somebody else may take one, so several are tried.
    fn boot(nodes: usize) -> Self {
        for _ in 0..5 {
            let household = Household::new();
            let cluster = Self {
                access: Access::new(household.folder(), free_port()),
                household,
                etcd: free_port(),
                nodes,
                processes: Mutex::default(),
            };
            fs::write(cluster.file("audit.json"), AUDIT).unwrap();
            fs::write(cluster.file("stages.yaml"), stages()).unwrap();
            cluster.launch(Part::Etcd);
            cluster.launch(Part::ApiServer);
            if cluster.becomes_ready() {
                return cluster;
            }
        }
        panic!("the API server does not start");
    }

    /// Whether the API server answers before one of the two ends.
    fn becomes_ready(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.finds("/readyz") && self.finds("/api/v1/namespaces/default") {
                return true;
            }
            if !self.is_running(Part::Etcd) || !self.is_running(Part::ApiServer) {
                return false;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("the API server does not become ready:\n{}", self.logs());
    }

    /// The kubeconfig of somebody who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.access.admin.clone()
    }

    /// The kubeconfig of a service account, which has to be there; its token is good for a day.
    pub fn of_service_account(&self, namespace: &str, name: &str) -> PathBuf {
        let token = self.kubectl(&["create", "token", name, "-n", namespace, "--duration=24h"]);
        self.access
            .of_token(&format!("{namespace}.{name}"), token.trim())
    }

    /// The kubeconfig of a person: requests are made as this user of these groups, by impersonation.
    pub fn of_user(&self, user: &str, groups: &[&str]) -> PathBuf {
        self.access.of_user(user, groups)
    }

    /// Runs kubectl as one who may do everything, and returns what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        succeeded(&self.kubectl_by(&self.kubeconfig(), arguments, ""))
    }

    /// Runs kubectl with this kubeconfig and this on its standard input.
    pub fn kubectl_by(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Output {
        self.run("kubectl", kubeconfig, arguments, input)
    }

    /// Applies documents at the server, as one who may do everything.
    pub fn apply(&self, documents: &str) -> String {
        let arguments = ["apply", "--server-side", "-f", "-"];
        succeeded(&self.kubectl_by(&self.kubeconfig(), &arguments, documents))
    }

    /// Runs helm as one who may do everything.
    pub fn helm(&self, arguments: &[&str]) -> Output {
        self.run("helm", &self.kubeconfig(), arguments, "")
    }

    fn run(&self, name: &str, kubeconfig: &Path, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(tool(name))
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .env("KUBECACHEDIR", self.file("cache"))
            .env("HELM_CACHE_HOME", self.file("helm-cache"))
            .env("HELM_CONFIG_HOME", self.file("helm-config"))
            .env("HELM_DATA_HOME", self.file("helm-data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end without having read everything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// What was asked of the API server by a user since the cluster started, in order: entries of its audit log.
    /// A service account is `system:serviceaccount:NAMESPACE:NAME`; of an impersonated user it is the one who is played.
    pub fn requests_of(&self, user: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.file("audit.log")).unwrap_or_default();
        log.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|entry| {
                let played = &entry["impersonatedUser"]["username"];
                let by = if played.is_null() {
                    &entry["user"]["username"]
                } else {
                    played
                };
                by == user
            })
            .collect()
    }

    /// SIGKILL for one part, and waits until it has ended.
    pub fn crash(&self, part: Part) {
        let child = self.processes.lock().unwrap().remove(&part);
        let mut child = child.unwrap_or_else(|| panic!("{part:?} is not running"));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts a part again that was ended, where and as it was. The API server answers when this returns.
    pub fn restart(&self, part: Part) {
        self.launch(part);
        if part == Part::ApiServer {
            assert!(
                self.becomes_ready(),
                "it does not start again:\n{}",
                self.logs()
            );
        }
    }

    /// SIGSTOP for one part: the kernel still takes connections, nobody answers.
    pub fn freeze(&self, part: Part) {
        self.signal(part, Signal::SIGSTOP);
    }

    /// SIGCONT for one part.
    pub fn thaw(&self, part: Part) {
        self.signal(part, Signal::SIGCONT);
    }

    fn signal(&self, part: Part, signal: Signal) {
        let processes = self.processes.lock().unwrap();
        let child = &processes[&part];
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }

    /// Waits until something is so, with the cluster's logs where it never is.
    pub fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !so() {
            assert!(began.elapsed() < PATIENCE, "never: {what}\n{}", self.logs());
            sleep(Duration::from_millis(100));
        }
    }

    /// Whether the API server answers this path with 200.
    pub fn finds(&self, path: &str) -> bool {
        self.access.status(path) == Some(200)
    }

    /// The end of what each part has logged.
    pub fn logs(&self) -> String {
        let parts = [
            Part::Etcd,
            Part::ApiServer,
            Part::Controllers,
            Part::Scheduler,
            Part::Kubelets,
        ];
        let logs = parts.iter().filter_map(|part| {
            let text = fs::read_to_string(self.log(*part)).ok()?;
            let lines: Vec<&str> = text.lines().rev().take(30).collect();
            let end: Vec<&str> = lines.into_iter().rev().collect();
            Some(format!("-- {}\n{}\n", part.tool(), end.join("\n")))
        });
        logs.collect()
    }

    fn log(&self, part: Part) -> PathBuf {
        self.file(&format!("{}.log", part.tool()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.household.folder().join(name)
    }

    fn is_running(&self, part: Part) -> bool {
        let mut processes = self.processes.lock().unwrap();
        let child = processes.get_mut(&part);
        child.is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    fn launch(&self, part: Part) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(part))
            .unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(tool(part.tool()))
            .args(self.arguments(part))
            .current_dir(self.household.folder())
            .env("HOME", self.household.folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let before = self.processes.lock().unwrap().insert(part, spawn(command));
        assert!(before.is_none(), "{part:?} is running already");
    }

    fn arguments(&self, part: Part) -> Vec<String> {
        let kubeconfig = format!("--kubeconfig={}", text(&self.access.part));
        let own = |more: &[&str]| {
            let mut all: Vec<String> = vec![kubeconfig.clone()];
            all.extend(more.iter().map(|&a| a.to_owned()));
            all
        };
        match part {
            Part::Etcd => self.etcd_arguments(),
            Part::ApiServer => self.api_server_arguments(),
            Part::Controllers => own(&[
                "--leader-elect=false",
                "--secure-port=0",
                "--service-account-private-key-file=account.key",
                "--root-ca-file=authority.pem",
            ]),
            Part::Scheduler => own(&["--leader-elect=false", "--secure-port=0"]),
            Part::Kubelets => own(&[
                "--manage-all-nodes=true",
                "--node-lease-duration-seconds=40",
                "--config=stages.yaml",
            ]),
        }
    }

    fn etcd_arguments(&self) -> Vec<String> {
        let clients = format!("http://127.0.0.1:{}", self.etcd);
        // It has no peers, and would like to know where they find it all the same.
        let peers = "http://127.0.0.1:1";
        vec![
            "--data-dir=etcd".to_owned(),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
        ]
    }

    fn api_server_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd),
            format!("--secure-port={}", self.access.address.port()),
            format!("--advertise-address={}", self.access.address.ip()),
            format!("--bind-address={}", self.access.address.ip()),
        ];
        arguments.extend(
            [
                "--cert-dir=certificates",
                "--tls-cert-file=server.pem",
                "--tls-private-key-file=server.key",
                "--client-ca-file=authority.pem",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-account-key-file=account.pub",
                "--service-account-signing-key-file=account.key",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--endpoint-reconciler-type=none",
                "--authorization-mode=RBAC",
                "--allow-privileged=true",
                "--shutdown-delay-duration=0s",
                "--audit-policy-file=audit.json",
                "--audit-log-path=audit.log",
                "--audit-log-mode=blocking",
            ]
            .map(str::to_owned),
        );
        if self.nodes == 0 {
            // Without its controller no account would ever be there for a Pod.
            arguments.push("--disable-admission-plugins=ServiceAccount".to_owned());
        }
        arguments
    }
}

impl Drop for Cluster {
    #[expect(
        clippy::print_stdout,
        reason = "a failed test shows what the cluster said"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.logs());
        }
        let processes = self.processes.get_mut();
        let processes = processes.unwrap_or_else(std::sync::PoisonError::into_inner);
        for child in processes.values_mut() {
            let _ = child.kill();
        }
        for child in processes.values_mut() {
            let _ = child.wait();
        }
    }
}

/// What a command printed, where it has succeeded.
pub fn succeeded(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{told}");
    printed.into_owned()
}

/// What a command said against it, where it has failed.
pub fn refused(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{printed}{told}");
    told.into_owned()
}

/// Where a tool is: in the folder that `KUBEBUILDER_ASSETS` names, else where `tests/operator/build` puts it.
pub fn tool(name: &str) -> PathBuf {
    let brought = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let built = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .map(|target| target.join("kubernetes"));
    let found = brought
        .into_iter()
        .chain(built)
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    found
        .unwrap_or_else(|| panic!("{name} is not there: run tests/operator/build, which builds it"))
}

/// What becomes of Pods and nodes, with the end of a Pod as a kubelet brings it about: it says first that every container
/// has ended, and then deletes what is left.
fn stages() -> String {
    let brought = fs::read_to_string(tool("stages.yaml")).unwrap();
    let kept = brought
        .split("\n---\n")
        .filter(|stage| !stage.contains("\n  name: pod-delete\n"));
    kept.chain([POD_ENDS, POD_GOES])
        .collect::<Vec<_>>()
        .join("\n---\n")
}

fn node(number: usize) -> Value {
    let name = format!("node-{number}");
    let room = json!({"cpu": "32", "memory": "256Gi", "pods": "110"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {"allocatable": room, "capacity": room},
    })
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
