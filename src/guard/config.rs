//! What a guard is told on its host: `guard.yaml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
};

use serde::Deserialize;

use crate::{
    model::{
        id::{ActionName, ServiceName, SiteName},
        public_key::PublicKey,
        secret::SecretRef,
        span::Span,
    },
    port::{
        command::{argv_problems, env_problems},
        kind::Problem,
        postgres::{Conninfo, ConninfoError},
    },
};

/// Longest name of a service, a site or a controller: requests carry several in one datagram.
const NAME: usize = 63;
/// Names that cannot be told apart or would not stand in the name of a table.
const NAMES: &str = "letters, digits, '-', '_' and '.'";

/// Why a document is no guard's.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is not right.
    #[error("{0}")]
    Text(String),
    /// A name cannot be used.
    #[error("{field} is {name:?}: expected 1 to {NAME} of {NAMES}")]
    Name {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        name: String,
    },
    /// Two parties have one name.
    #[error("{field} is {name:?}, and so is another: controller and sites need names of their own")]
    Same {
        /// Where the second stands.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// A path is a relative one.
    #[error("{field} is {path}: expected a whole path, from /", path = path.display())]
    Relative {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        path: PathBuf,
    },
    /// A lease would run out between two requests.
    #[error("renewal is {0}: expected 20ms to 10s")]
    Renewal(Span),
    /// The other site cannot be reached like this.
    #[error("database.resync.source cannot be used")]
    Source(#[source] Box<ConninfoError>),
    /// The controller speaks twice a second; who misses it for a moment would page for nothing.
    #[error("controllerSilence is {0}: expected 2s or more")]
    Silence(Span),
    /// An action is named that is none.
    #[error("onSilence names {0:?}, which is none of `actions`")]
    NoAction(ActionName),
    /// A program cannot be run as it stands there.
    #[error("actions.{action}.{field}: {message}")]
    Action {
        /// Which.
        action: ActionName,
        /// Where in it.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// There is nothing to gate.
    #[error("database.listen is empty: name every address and port that PostgreSQL listens on")]
    NoListen,
}

/// `guard.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The service that is guarded.
    pub service: ServiceName,
    /// The site that this host is.
    pub site: SiteName,
    /// UDP address that the controller and the other guard send to.
    pub listen: SocketAddr,
    /// This guard's private key: Ed25519, PKCS#8 as PEM.
    pub key: SecretRef,
    /// The controller.
    pub controller: Controller,
    /// The other site's guard; none where there is none.
    #[serde(default)]
    pub peer: Option<Peer>,
    /// Folder of what has to outlive a reboot.
    pub state: PathBuf,
    /// Folder of what must not; `/run/failover/SERVICE` where none is named.
    #[serde(default)]
    pub runtime: Option<PathBuf>,
    /// How often a primary asks for its lease.
    #[serde(default = "renewal")]
    pub renewal: Span,
    /// How long the controller may be silent before that is told.
    #[serde(default = "controller_silence")]
    pub controller_silence: Span,
    /// The action that tells it, and that it is over.
    #[serde(default)]
    pub on_silence: Option<ActionName>,
    /// Programs of this host.
    #[serde(default)]
    pub actions: BTreeMap<ActionName, Program>,
    /// What is guarded.
    pub database: Database,
}

/// A program of this host, run without a shell and as the guard's user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Secrets for its environment, by the names they get there.
    #[serde(default)]
    pub env: BTreeMap<String, SecretRef>,
    /// It is killed with all that it started when it takes longer.
    #[serde(default = "program_timeout")]
    pub timeout: Span,
}

impl Program {
    fn problems(&self) -> Vec<Problem> {
        let mut all = argv_problems("command", &self.command);
        all.extend(env_problems(&self.env));
        let limits = Span::from_secs(1)..=Span::from_secs(3_600);
        if !limits.contains(&self.timeout) {
            all.push(Problem::new("timeout", "expected 1s to 1h"));
        }
        all
    }
}

fn controller_silence() -> Span {
    Span::from_secs(300)
}

fn program_timeout() -> Span {
    Span::from_secs(60)
}

/// The controller, as a guard knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Controller {
    /// Its name.
    pub name: String,
    /// Where its wire listens.
    pub address: SocketAddr,
    /// What it signs with, in base64 or hex.
    pub public_key: PublicKey,
}

/// The other site's guard.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Its site.
    pub site: SiteName,
    /// Where its wire listens.
    pub address: SocketAddr,
    /// What it signs with, in base64 or hex.
    pub public_key: PublicKey,
}

/// The database, as a guard starts and sees it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Database {
    /// The server itself, by its whole path: it has to stay in the foreground.
    pub program: PathBuf,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its whole environment, but for `PATH`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The user it runs as.
    pub user: String,
    /// Its group; the user's own where none is named.
    #[serde(default)]
    pub group: Option<String>,
    /// The groups it is in besides; those of the system where none are named.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Every address and port that it listens on: what the gate stands before.
    pub listen: BTreeSet<SocketAddr>,
    /// How to connect to look and to promote, best over the Unix socket: the gate does not shut the guard out there. The
    /// role needs `EXECUTE` on `pg_promote`.
    pub connection: Conninfo,
    /// The role's password.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// How its data is brought into line once it was left; none: people do it, and say so with `failover guard rejoin`.
    #[serde(default)]
    pub resync: Option<Resync>,
    /// What its output is appended to.
    #[serde(default)]
    pub log_file: Option<PathBuf>,
}

/// How a site that was left follows again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resync {
    /// How `pg_rewind` and `pg_basebackup` connect to the other site, as libpq has it. The role needs `REPLICATION`, and
    /// `EXECUTE` on the functions that `pg_rewind` names.
    pub source: String,
    /// The role's password.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// Folder in which what the other site never got is kept.
    pub salvage: PathBuf,
}

impl Resync {
    /// How this program itself connects there.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn conninfo(&self) -> Result<Conninfo, ConfigError> {
        let read = self.source.parse();
        read.map_err(|source| ConfigError::Source(Box::new(source)))
    }
}

fn renewal() -> Span {
    Span::from_millis(150)
}

impl Config {
    /// Reads the text of a document.
    ///
    /// # Errors
    /// Where it is no such document, with what is wrong and where.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serde_saphyr::from_str(text).map_err(|e| ConfigError::Text(told(&e)))?;
        config.check()?;
        Ok(config)
    }

    /// Where sockets of this boot are.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.runtime
            .clone()
            .unwrap_or_else(|| PathBuf::from("/run/failover").join(self.service.as_str()))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let peer = self.peer.as_ref().map(|p| ("peer.site", p.site.as_str()));
        let parties = [
            ("site", self.site.as_str()),
            ("controller.name", &self.controller.name),
        ];
        let mut known = BTreeSet::new();
        for (field, name) in parties.into_iter().chain(peer) {
            check_name(field, name)?;
            if !known.insert(name) {
                let name = name.to_owned();
                return Err(ConfigError::Same { field, name });
            }
        }
        check_name("service", self.service.as_str())?;
        let paths = [
            ("state", Some(&self.state)),
            ("runtime", self.runtime.as_ref()),
            ("database.program", Some(&self.database.program)),
            ("database.dataDir", Some(&self.database.data_dir)),
            ("database.logFile", self.database.log_file.as_ref()),
            (
                "database.resync.salvage",
                self.database.resync.as_ref().map(|r| &r.salvage),
            ),
        ];
        for (field, path) in paths {
            if let Some(path) = path.filter(|p| !p.is_absolute()) {
                let path = path.clone();
                return Err(ConfigError::Relative { field, path });
            }
        }
        if !(Span::from_millis(20)..=Span::from_secs(10)).contains(&self.renewal) {
            return Err(ConfigError::Renewal(self.renewal));
        }
        if let Some(resync) = &self.database.resync {
            resync.conninfo()?;
        }
        if self.controller_silence < Span::from_secs(2) {
            return Err(ConfigError::Silence(self.controller_silence));
        }
        self.check_actions()?;
        if self.database.listen.is_empty() {
            return Err(ConfigError::NoListen);
        }
        Ok(())
    }
}

impl Config {
    fn check_actions(&self) -> Result<(), ConfigError> {
        for (name, program) in &self.actions {
            check_name("actions", name.as_str())?;
            if let Some(problem) = program.problems().into_iter().next() {
                return Err(ConfigError::Action {
                    action: name.clone(),
                    field: problem.path,
                    message: problem.message,
                });
            }
        }
        let named = self.on_silence.as_ref();
        match named.filter(|name| !self.actions.contains_key(*name)) {
            Some(name) => Err(ConfigError::NoAction(name.clone())),
            None => Ok(()),
        }
    }
}

fn check_name(field: &'static str, name: &str) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME || name.starts_with('.') || !name.chars().all(plain) {
        let name = name.to_owned();
        return Err(ConfigError::Name { field, name });
    }
    Ok(())
}

/// What is wrong and where, without what stands there: it may be a secret.
fn told(error: &serde_saphyr::Error) -> String {
    let whole = error.without_snippet().to_string();
    let first = whole.lines().next().unwrap_or_default();
    // A scalar where a reference should be is taken for the name of its kind.
    if first.starts_with("unknown variant `")
        && first.contains("expected one of env, file, secretRef")
    {
        let place = first
            .rsplit_once(" at line ")
            .map_or("", |(_, place)| place);
        return format!(
            "a secret does not belong into the document: expected {{file: /PATH}} or {{env: NAME}} at line {place}"
        );
    }
    let parts = first.split('"').enumerate();
    let shown = parts.map(|(n, part)| if n % 2 == 0 { part } else { "…" });
    shown.collect::<Vec<_>>().join("\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::cause;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn document() -> String {
        format!(
            "service: shop\nsite: paris\nlisten: 10.0.0.1:7400\nkey: {{file: /etc/failover/guard.key}}\n\
             controller: {{name: dr, address: '10.0.0.9:7400', publicKey: {KEY}}}\n\
             peer: {{site: milan, address: '10.0.1.1:7400', publicKey: {KEY}}}\n\
             state: /var/lib/failover/guard\n\
             database:\n  program: /usr/lib/postgresql/15/bin/postgres\n  args: [-D, /srv/pg]\n  user: postgres\n  \
             dataDir: /srv/pg\n  listen: ['10.0.0.1:5432', '127.0.0.1:5432']\n  \
             connection: host=/run/postgresql user=failover\n"
        )
    }

    fn fault(text: &str) -> String {
        cause::without_repeats(&Config::read(text).unwrap_err())
    }

    #[test]
    fn a_document_is_read() {
        let config = Config::read(&document()).unwrap();
        assert_eq!(config.renewal, Span::from_millis(150));
        assert_eq!(config.runtime(), PathBuf::from("/run/failover/shop"));
        assert_eq!(config.database.listen.len(), 2);
        assert_eq!(config.controller_silence, Span::from_secs(300));
        let paging =
            "onSilence: page\nactions: {page: {command: [/bin/page, --now], timeout: 10s}}\n";
        let paging = Config::read(&(document() + paging)).unwrap();
        let named = paging
            .on_silence
            .and_then(|a| paging.actions.get(&a).cloned());
        assert_eq!(named.unwrap().timeout, Span::from_secs(10));
        let alone = document().replace("peer: ", "# ");
        assert_eq!(Config::read(&alone).unwrap().peer, None);
    }

    #[test]
    fn what_is_not_right_is_told_with_its_place() {
        let unknown = fault(&document().replace("dataDir", "datadir"));
        assert!(
            unknown.contains("datadir") && unknown.contains("dataDir"),
            "{unknown}"
        );
        assert!(unknown.contains("line 12"), "{unknown}");
        let twice = fault(&format!("{}site: rome\n", document()));
        assert!(
            twice.contains("site") && twice.contains("line 15"),
            "{twice}"
        );
        let key = fault(&document().replace(KEY, "AAAA"));
        assert!(key.contains("32 bytes"), "{key}");
        let same = fault(&document().replace("milan", "paris"));
        assert!(same.contains("peer.site"), "{same}");
        let relative = fault(&document().replace("state: /var", "state: var"));
        assert!(relative.contains("whole path"), "{relative}");
        let hasty = fault(&format!("{}controllerSilence: 1s\n", document()));
        assert!(hasty.contains("2s or more"), "{hasty}");
        let nobody = fault(&format!("{}onSilence: page\n", document()));
        assert!(nobody.contains("\"page\""), "{nobody}");
        for (program, expected) in [
            ("command: []", "actions.page.command"),
            ("command: [page --now]", "no shell"),
            ("command: [page], timeout: 2h", "1s to 1h"),
            ("command: [page], env: {PATH: {env: P}}", "env.PATH"),
        ] {
            let told = fault(&format!("{}actions: {{page: {{{program}}}}}\n", document()));
            assert!(told.contains(expected), "{told}");
        }
        for shown in [
            "key: hunter2secret".to_owned(),
            "controllerSilence: hunter2secret".to_owned(),
        ] {
            let (field, _) = shown.split_once(':').unwrap();
            let lines = document();
            let lines = lines.lines().filter(|l| !l.starts_with(field));
            let text = lines.collect::<Vec<_>>().join("\n");
            let told = fault(&format!("{text}\n{shown}\n"));
            assert!(
                told.contains("line ") && !told.contains("hunter2"),
                "{told}"
            );
        }
        let fast = fault(&format!("{}renewal: 1ms\n", document()));
        assert!(fast.contains("20ms"), "{fast}");
    }
}
