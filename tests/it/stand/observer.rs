//! `failover vantage` by the real binary, beside the controller of a stand.

use std::{
    ffi::OsStr,
    fs,
    path::PathBuf,
    process::{Child, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;

use super::{
    authority::Authority,
    bind::free_port,
    controller::{Stand, until},
};

/// The key of the observer.
pub const KEY: &str = "9f2c4be07d1a358866f0e3c29b5d47a1c8e6f4130b7a2d5990eec14f23a8b67d";

/// The vantage point that an observer takes the place of.
const THERE: &str = "- {name: there, network: there, via: {sourceAddress: 127.0.0.2}}";

/// A listener for observers, and an observer that may run.
pub struct Paris {
    port: u16,
    authority: Authority,
    certificate: PathBuf,
    key: PathBuf,
    outputs: PathBuf,
    child: Option<Child>,
}

impl Paris {
    /// Puts the observer `paris` in the network `ovh` into the stand's document, with these further settings, and the
    /// key and a certificate into its folder.
    pub fn of(stand: &Stand, more: &str) -> Self {
        stand.file("paris-key", KEY);
        stand.write(&Self::document(stand, more));
        let authority = certify(stand);
        Self {
            port: free_port(),
            authority,
            certificate: stand.path("chain.pem"),
            key: stand.path("key.pem"),
            outputs: stand.path("paris"),
            child: None,
        }
    }

    /// Puts a certificate of another authority in the place of the first.
    pub fn renew(&mut self, stand: &Stand) {
        self.authority = certify(stand);
    }

    /// The stand's document with the observer in it.
    pub fn document(stand: &Stand, more: &str) -> String {
        let key = stand.reference("paris-key");
        let remote = format!("- {{name: paris, network: ovh, remote: {{key: {key}}}{more}}}");
        let document = stand.document();
        assert!(document.contains(THERE));
        document.replace(THERE, &remote)
    }

    /// Flags of the controller.
    pub fn listen(&self) -> [String; 6] {
        [
            "--vantage-listen".to_owned(),
            format!("127.0.0.1:{}", self.port),
            "--tls-cert".to_owned(),
            self.certificate.display().to_string(),
            "--tls-key".to_owned(),
            self.key.display().to_string(),
        ]
    }

    /// The controller's URL.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A client that trusts the controller's certificate.
    pub fn client(&self) -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pem = fs::read(self.authority.path()).unwrap();
        let trusted = reqwest::Certificate::from_pem(&pem).unwrap();
        let client = reqwest::Client::builder().no_proxy();
        client.tls_certs_only([trusted]).build().unwrap()
    }

    /// Starts the controller with the observer's listener.
    pub fn controller(&self, stand: &mut Stand, words: &str) {
        let flags = self.listen();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        stand.start_until(words, &flags);
    }

    /// Starts the observer with its key in a file of the stand.
    pub fn observe(&mut self, stand: &Stand, flags: &[&str]) {
        self.observe_with::<&str>(stand, flags, &[]);
    }

    /// The same with these variables.
    pub fn observe_with<V: AsRef<OsStr>>(
        &mut self,
        stand: &Stand,
        flags: &[&str],
        variables: &[(&str, V)],
    ) {
        let key = format!("file:{}", stand.path("paris-key").display());
        let (url, ca) = (self.url(), self.authority.path());
        let mut args = vec!["vantage", "--controller", &url, "--name", "paris"];
        args.extend([
            "--key",
            &key,
            "--ca",
            &ca,
            "--output",
            "json",
            "--log-format",
            "json",
        ]);
        args.extend(flags);
        self.spawn(stand, &args, variables);
    }

    /// Starts an observer by these words.
    pub fn spawn<V: AsRef<OsStr>>(
        &mut self,
        stand: &Stand,
        args: &[&str],
        variables: &[(&str, V)],
    ) {
        let file = |name: &str| {
            let path = self.outputs.with_extension(name);
            fs::File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap()
        };
        let mut command = stand.command(args);
        for (name, value) in variables {
            command.env(name, value);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// The path of the authority's own certificate.
    pub fn ca(&self) -> String {
        self.authority.path()
    }

    /// What it has printed and logged.
    pub fn said(&self) -> String {
        let read = |name| fs::read_to_string(self.outputs.with_extension(name));
        read("stdout").unwrap_or_default() + &read("stderr").unwrap_or_default()
    }

    /// The events that it told, in order.
    pub fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.outputs.with_extension("stdout")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }

    /// Waits until it has told such an event so often.
    pub fn until_told(&self, event: &str, times: usize) -> Value {
        let told = || {
            let events = self.events().into_iter();
            events.filter(|e| e["event"] == event).collect::<Vec<_>>()
        };
        until(
            &format!("the observer tells {event}: {}", self.said()),
            || told().len() >= times,
        );
        told().pop().unwrap()
    }

    /// Sends it a signal and waits for its end.
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        child.wait().unwrap()
    }
}

/// Puts a fresh certificate and its key into the stand's folder.
fn certify(stand: &Stand) -> Authority {
    let authority = Authority::new();
    let (chain, key) = authority.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    stand.file("chain.pem", &chain);
    stand.file("key.pem", &key);
    authority
}

impl Drop for Paris {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
