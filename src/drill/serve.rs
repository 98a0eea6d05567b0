//! `drill/serve`: the application, beside the promoted clone, in the bubble.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use nix::unistd::{Gid, Uid, User};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    time::sleep,
};

use super::{
    bubble::{Bubble, BubbleError},
    clone::Cloned,
    exchange::{self, Expected},
    folder::{Folder, blocking},
    process,
    server::{PORT, SHOWN},
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        plan::StepPhase,
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        cause,
        command::argv_problems,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        program::last_words,
        request::{BodyWith, StatusRange},
    },
};

/// Between two looks at the application.
const AGAIN: Duration = Duration::from_millis(100);
/// How long one answer may take.
const TRY: Duration = Duration::from_secs(5);
/// Whom it runs as unless told otherwise.
const NOBODY: &str = "nobody";
/// Variables of our own environment that it gets.
const INHERITED: [&str; 3] = ["PATH", "LANG", "TZ"];
/// What a drill sets itself.
const OURS: [&str; 6] = [
    "PGHOST",
    "PGPORT",
    "PGUSER",
    "PGDATABASE",
    "DATABASE_URL",
    "HOME",
];

/// `drill/serve`.
pub const KIND: Kind = Kind::new::<ServeWith>(
    "drill/serve",
    "starts the application beside a drill's promoted clone, in its bubble, and waits until it answers",
    "program: /opt/shop/bin/server\n\
     args: [--listen, 127.0.0.1:8080]\n\
     url: http://127.0.0.1:8080/healthz\n",
    Make::Action(make),
)
.in_phase(StepPhase::Traffic);

/// Settings of `drill/serve`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServeWith {
    /// The program. No shell is in between. It goes on until the drill ends, and must not leave its folder's
    /// environment behind: what it starts is found by `FAILOVER_KEY`.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Variables of its environment. It also gets PATH, LANG, TZ, `HOME` (its own empty folder), `FAILOVER_DRILL=1`, and
    /// the way to the clone as `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE` and `DATABASE_URL`. No secret is needed: the
    /// clone lets everybody in the bubble in.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What it must answer at, in the bubble: `http://127.0.0.1:PORT/path`.
    pub url: String,
    /// Statuses that are right; default `2xx`.
    #[serde(default = "exchange::success")]
    pub status: Vec<StatusRange>,
    /// What the body must and must not hold.
    #[serde(default)]
    pub body: BodyWith,
    /// The account of this host that it runs as, not root; default `nobody`.
    #[serde(default = "nobody")]
    pub account: String,
    /// The role that it logs in as. Default: the cluster's owner.
    #[serde(default)]
    pub role: Option<String>,
    /// The database. Default: the one that the clone's connection names.
    #[serde(default)]
    pub database: Option<String>,
}

fn nobody() -> String {
    NOBODY.to_owned()
}

impl With for ServeWith {
    fn program(&self) -> Option<&'static str> {
        Some("program")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = exchange::url_problem("url", &self.url)
            .into_iter()
            .collect();
        if self.program.is_empty() || self.program.contains('\0') {
            problems.push(Problem::new("program", "expected a program"));
        }
        let words: Vec<String> = std::iter::once("x".to_owned())
            .chain(self.args.clone())
            .collect();
        let wrong = argv_problems("args", &words).into_iter();
        problems.extend(wrong.map(|p| Problem::new("args", p.message)));
        for (name, value) in &self.env {
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            let path = format!("env.{name}");
            if !begins || !name.chars().all(legal) {
                problems.push(Problem::new(
                    path,
                    "expected a variable's name: letters, digits and _",
                ));
            } else if name.starts_with("FAILOVER_") || OURS.contains(&name.as_str()) {
                problems.push(Problem::new(
                    path,
                    "this variable is set by the drill itself",
                ));
            } else if value.contains('\0') {
                problems.push(Problem::new(path, "a NUL cannot be passed on"));
            }
        }
        if self.status.is_empty() {
            problems.push(Problem::new("status", "expected at least one status").hint("[2xx]"));
        }
        if self.account == "root" {
            problems.push(Problem::new("account", "root could leave the bubble").hint(NOBODY));
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        crate::port::endpoint::host(&self.url).into_iter().collect()
    }
}

fn make(with: &Value, _wiring: &Wiring) -> Result<SharedAction, MakeError> {
    Ok(Arc::new(Serving { with: read(with)? }))
}

struct Serving {
    with: ServeWith,
}

#[async_trait]
impl Action for Serving {
    async fn perform(&self, step: &StepContext) -> StepResult {
        self.serve(step).await.unwrap_or_else(|result| result)
    }

    async fn observe(&self, step: &StepContext) -> Presence {
        let folder = Folder::of_step(step);
        let (looked, mark) = (folder.clone(), mark(step));
        let found = blocking(move || {
            let bubble = match Bubble::find(&looked) {
                Ok(Some(bubble)) => bubble,
                Ok(None) => return Ok(Ok(None)),
                Err(e) => return Ok(Err(e)),
            };
            let all = bubble.marked(&mark)?;
            Ok(Ok((!all.is_empty()).then_some(bubble)))
        });
        let bubble = match found.await {
            Ok(Ok(Some(bubble))) => bubble,
            Ok(Ok(None)) => return Presence::absent("the application does not run"),
            Ok(Err(e)) => return Presence::unknown(cause::in_full(&e)),
            Err(e) => {
                return Presence::unknown(format!("the application cannot be looked for: {e}"));
            }
        };
        match self.ask(bubble).await {
            Ok(Ok(())) => Presence::InPlace(self.proof()),
            Ok(Err(why)) => Presence::unknown(format!(
                "the application runs, and {}: {why}",
                self.with.url
            )),
            Err(e) => Presence::unknown(cause::in_full(&e)),
        }
    }

    async fn undo(&self, step: &StepContext) -> Option<StepResult> {
        Some(match end(step).await {
            Ok(()) => StepResult::done("the application is ended"),
            Err(why) => StepResult::indeterminate(format!("the application is not ended: {why}")),
        })
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        let bad =
            |text: String, fix: &str| CheckItem::bad("drill/serve", CheckStatus::Fail, text, fix);
        if !nix::unistd::geteuid().is_root() {
            return vec![bad(
                "nobody but root can start an application in a bubble".to_owned(),
                "run the controller as root",
            )];
        }
        vec![match self.account() {
            Ok(_) => CheckItem::ok(
                "drill/serve",
                format!("{} would be started", self.with.program),
            ),
            Err(why) => bad(why, "name an account of this host"),
        }]
    }
}

impl Serving {
    async fn serve(&self, step: &StepContext) -> Result<StepResult, StepResult> {
        let begun = Instant::now();
        let until = begun + step.limit();
        let folder = Folder::of_step(step);
        let cloned = Cloned::needed(&folder)?;
        let failed = |e: &BubbleError| {
            StepResult::failed(format!("nothing was started: {}", cause::in_full(e)))
        };
        let bubble = find(&folder).await.map_err(|e| failed(&e))?;
        if !bubble.can_be_entered() {
            return Err(failed(&BubbleError::Closed));
        }
        // Of an earlier attempt nothing counts.
        end(step).await.map_err(|why| {
            StepResult::failed(format!("an earlier attempt is still there: {why}"))
        })?;
        let (uid, gid) = self.account().map_err(StepResult::failed)?;
        let home = folder.application(&step.step);
        let log = prepare(&home, uid, gid)
            .map_err(|e| StepResult::failed(format!("{}: {e}", home.display())))?;
        let mut command = self.command(step, &cloned, &home);
        command.uid(uid.as_raw()).gid(gid.as_raw());
        let handle = Handle::current();
        let started = blocking(move || Ok(bubble.start(command, log, &handle))).await;
        let mut child = match started {
            Ok(Ok(child)) => child,
            Ok(Err(e)) => return Err(failed(&e)),
            Err(e) => return Err(StepResult::failed(format!("nothing was started: {e}"))),
        };
        let log = home.with_extension("log");
        loop {
            let missing = match self.ask(bubble).await {
                Ok(Ok(())) => break,
                Ok(Err(why)) => why,
                Err(e) => cause::in_full(&e),
            };
            let said = || last_words(&fs::read_to_string(&log).unwrap_or_default(), SHOWN);
            if let Some(status) = ended(&mut child) {
                let _ = end(step).await;
                let program = &self.with.program;
                return Err(StepResult::failed(format!(
                    "{program} ended ({status}): {}",
                    said()
                )));
            }
            if Instant::now() + AGAIN > until {
                let after = Span::from(begun.elapsed());
                return Err(StepResult::indeterminate(format!(
                    "the application runs, and {} is not as it should be after {after}: {missing}; it said: {}",
                    self.with.url,
                    said()
                )));
            }
            sleep(AGAIN).await;
        }
        let took = Span::from(begun.elapsed());
        let mut proof = self
            .proof()
            .with("seconds", format!("{:.3}", took.as_secs_f64()));
        proof.summary = format!("{} after {took}", proof.summary);
        Ok(StepResult::Done(proof))
    }

    fn proof(&self) -> Proof {
        Proof::new(format!("{} answers in the bubble", self.with.url))
            .with("url", self.with.url.clone())
    }

    async fn ask(&self, bubble: Bubble) -> Result<Result<(), String>, BubbleError> {
        let url = self.with.url.clone();
        let expected = Expected {
            status: self.with.status.clone(),
            body: self.with.body.clone(),
        };
        bubble
            .inside(move || async move {
                let client = exchange::client(TRY)?;
                exchange::ask(&client, &url, &expected).await
            })
            .await
    }

    fn account(&self) -> Result<(Uid, Gid), String> {
        let name = &self.with.account;
        match User::from_name(name) {
            Ok(Some(user)) if !user.uid.is_root() => Ok((user.uid, user.gid)),
            Ok(Some(_)) => Err(format!(
                "the account {name} is root's, who could leave the bubble"
            )),
            Ok(None) => Err(format!("there is no account {name} on this host")),
            Err(e) => Err(format!("the account {name} cannot be looked up: {e}")),
        }
    }

    fn command(&self, step: &StepContext, cloned: &Cloned, home: &PathBuf) -> Command {
        let mut command = Command::new(&self.with.program);
        command.args(&self.with.args).env_clear().current_dir(home);
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let role = self
            .with
            .role
            .as_ref()
            .unwrap_or(&cloned.original.superuser);
        let database = self.with.database.as_ref().unwrap_or(&cloned.database);
        let mut url = url::Url::parse("postgresql://127.0.0.1").ok();
        if let Some(url) = &mut url {
            let _ = url.set_username(role);
            let _ = url.set_port(Some(PORT));
            url.set_path(database);
            command.env("DATABASE_URL", url.as_str());
        }
        command
            .envs(&self.with.env)
            .env("HOME", home)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", PORT.to_string())
            .env("PGUSER", role)
            .env("PGDATABASE", database)
            .env("FAILOVER_DRILL", "1")
            .env("FAILOVER_RUN", step.run.as_str())
            .env("FAILOVER_KEY", step.key.as_str());
        command
    }
}

/// What is in the environment of everything that a step started.
fn mark(step: &StepContext) -> String {
    format!("FAILOVER_KEY={}", step.key)
}

/// The application's own folder, and its log beside it.
fn prepare(home: &PathBuf, uid: Uid, gid: Gid) -> std::io::Result<File> {
    let above = home.parent().unwrap_or(home);
    fs::create_dir_all(home)?;
    let pass =
        |path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o711));
    pass(above)?;
    fs::set_permissions(home, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    std::os::unix::fs::chown(home, Some(uid.as_raw()), Some(gid.as_raw()))?;
    File::create(home.with_extension("log"))
}

fn ended(child: &mut Child) -> Option<std::process::ExitStatus> {
    child.try_wait().ok().flatten()
}

async fn find(folder: &Folder) -> Result<Bubble, BubbleError> {
    let folder = folder.clone();
    let found = blocking(move || Ok(Bubble::of(&folder))).await;
    found.map_err(|e| BubbleError::Io("the bubble cannot be looked for".to_owned(), e))?
}

/// Ends what a step started in the bubble, and removes its folder.
async fn end(step: &StepContext) -> Result<(), String> {
    let (folder, mark, home) = (
        Folder::of_step(step),
        mark(step),
        Folder::of_step(step).application(&step.step),
    );
    let ended = blocking(move || {
        let bubble = Bubble::find(&folder).map_err(std::io::Error::other)?;
        if let Some(bubble) = bubble.filter(|bubble| bubble.can_be_entered()) {
            process::end(|| bubble.marked(&mark))?;
        }
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        Ok(())
    });
    ended.await.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_mistake_is_named_at_its_field() {
        let with = json!({
            "program": "", "args": ["a\u{0}b"], "url": "http://shop.example.com/",
            "env": {"PGHOST": "db", "FAILOVER_X": "1", "a b": "1", "GOOD": "1"},
            "status": [], "account": "root",
        });
        let paths: Vec<_> = (KIND.check)(&with).into_iter().map(|p| p.path).collect();
        let expected = [
            "url",
            "program",
            "args",
            "env.FAILOVER_X",
            "env.PGHOST",
            "env.a b",
            "status",
            "account",
        ];
        assert_eq!(paths, expected);
    }
}
