//! The command contract: how fences, promotions and probes run programs of the user's own.
//!
//! # What a program is given
//! - Its argument list as written; no shell unless the list begins with one (`[sh, -c, …]`).
//! - An environment of `PATH`, `HOME`, `LANG` and `TZ`, the secrets that `env` names, and the context:
//!   `FAILOVER_VERB` (`perform`, `observe`, `undo`, `probe`, `check`), `FAILOVER_SERVICE`, `FAILOVER_TIMEOUT`
//!   (seconds), and for steps `FAILOVER_RUN`, `FAILOVER_STEP`, `FAILOVER_ATTEMPT`, `FAILOVER_EPOCH`,
//!   `FAILOVER_KEY` (the same over every repeat of the step), `FAILOVER_KIND`, `FAILOVER_FROM`, `FAILOVER_TO`,
//!   and one `FAILOVER_FACT_<STEP>_<FACT>` for each fact of a step that is done. `failover check` runs `observe`
//!   with the verb `check`, outside any run. Probes get `FAILOVER_SOURCE_ADDRESS` or `FAILOVER_PROXY` where their
//!   vantage point reaches out that way. Programs that a guard's own document names get `FAILOVER_SITE`,
//!   `FAILOVER_ACTION`, and either `FAILOVER_KEY`, `FAILOVER_ATTEMPT` and `FAILOVER_EPOCH`, where the controller asked,
//!   or `FAILOVER_EVENT` (`controllerSilent`, `controllerHeard`). That of an observer gets `FAILOVER_VANTAGE` and
//!   `FAILOVER_EVENT`.
//! - The same context as one JSON object on standard input, with both sites in full.
//!
//! # What its end means
//! | verb | exit status | meaning |
//! |---|---|---|
//! | `perform`, `undo` | 0 | done |
//! | | 1 | failed; nothing is left half-done |
//! | | 75 | indeterminate: it may or may not have happened |
//! | `observe`, `probe`, `check` | 0 | in place; up |
//! | | 1 | not in place; down |
//! | all | any other, 126 and 127 too, a signal, the time-out, a program that cannot be started | indeterminate; unknown |
//!
//! # What it may say
//! Lines on standard output of the form `failover: key=value` become facts of the proof. The last lines of
//! standard error, else of standard output, become evidence; values of secrets are masked in both.
//!
//! # How it is ended
//! It runs in a process group of its own. At the time-out, and when the step is cancelled, the whole group gets
//! SIGKILL. What a program that ended by itself leaves running in the background is its own affair.

mod context;
mod ending;
mod output;
mod steps;

use std::{
    collections::BTreeMap,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    process::{ChildStdin, Command as Process},
    time::{Instant, timeout_at},
};

pub use context::{Context, Verb, Why};
pub use ending::{Ending, Run};
use output::{Mask, Tail, Whole};
pub use steps::{Steps, StepsWith, UndoneWith};

use super::{
    cause,
    kind::Problem,
    program::Group,
    secret::{SecretError, SharedSecrets},
};
use crate::model::{
    secret::{Secret, SecretRef},
    span::Span,
};

/// Variables of our own environment that programs get.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Where programs are looked for where we have no `PATH` ourselves.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long output that is already written may take to arrive after the program has ended.
const DRAIN: Duration = Duration::from_millis(200);

/// A program that the user named, with the secrets that it gets.
#[derive(Clone)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Secrets for its environment, by the names they get there.
    pub env: BTreeMap<String, SecretRef>,
    /// Where secrets come from.
    pub secrets: SharedSecrets,
}

/// What is wrong with an argument list in a `with`.
#[must_use]
pub fn argv_problems(path: &str, argv: &[String]) -> Vec<Problem> {
    match argv.first() {
        None => vec![Problem::new(
            path,
            "the list is empty: expected a program and its arguments",
        )],
        Some(program) if program.is_empty() => {
            vec![Problem::new(format!("{path}[0]"), "expected a program")]
        }
        Some(program) if argv.len() == 1 && program.contains(char::is_whitespace) => vec![
            Problem::new(
                format!("{path}[0]"),
                "no shell splits this: it is taken as the name of one program",
            )
            .hint("write a list, [program, argument], or [sh, -c, \"…\"]"),
        ],
        Some(_) => argv
            .iter()
            .enumerate()
            .filter(|(_, word)| word.contains('\0'))
            .map(|(n, _)| Problem::new(format!("{path}[{n}]"), "a NUL cannot be passed on"))
            .collect(),
    }
}

/// What is wrong with the names that secrets shall get in the environment.
#[must_use]
pub fn env_problems(env: &BTreeMap<String, SecretRef>) -> Vec<Problem> {
    env.keys()
        .filter_map(|name| {
            let first = name.chars().next();
            let legal = first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !legal {
                Some("expected a variable's name: letters, digits and _")
            } else if name.starts_with("FAILOVER_") || INHERITED.contains(&name.as_str()) {
                Some("this variable is set by failover itself")
            } else {
                None
            }
            .map(|message| Problem::new(format!("env.{name}"), message))
        })
        .collect()
}

impl Command {
    /// Runs the program for at most `limit`. Dropping the future kills the whole group.
    pub async fn run(&self, context: &Context, limit: Duration) -> Run {
        self.drive(context, limit, None).await
    }

    /// The same without context, for what the program prints: its standard output, at most `most` bytes of it, is
    /// returned whole and is no evidence. Whoever holds that open is waited for.
    pub async fn collect(&self, limit: Duration, most: u64) -> (Run, Vec<u8>) {
        let mut whole = Whole::new(most);
        let context = Context::default();
        let run = self.drive(&context, limit, Some(&mut whole)).await;
        (run, whole.bytes)
    }

    async fn drive(
        &self,
        context: &Context,
        limit: Duration,
        mut whole: Option<&mut Whole>,
    ) -> Run {
        let deadline = Instant::now() + limit;
        let secrets = match self.read_secrets() {
            Ok(secrets) => secrets,
            Err(e) => return Run::unstarted(Ending::NoSecret(cause::in_full(&e))),
        };
        let mut group = match self.spawn(context, &secrets) {
            Ok(group) => group,
            Err(e) => return Run::unstarted(Ending::NotStarted(e)),
        };
        let mask = Mask::of(secrets.values());
        let mut out = Tail::new(&mask, true);
        let mut err = Tail::new(&mask, false);
        let ending = {
            let child = &mut group.child;
            let (stdin, stdout, stderr) =
                (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let wants_all = whole.is_some();
            let listen = async {
                match whole.as_mut() {
                    Some(whole) => whole.read(stdout).await,
                    None => out.read(stdout).await,
                }
            };
            let talk = async { tokio::join!(tell(stdin, context), listen, err.read(stderr)) };
            tokio::pin!(talk);
            let mut told = false;
            let waited = timeout_at(deadline, async {
                loop {
                    tokio::select! {
                        status = child.wait() => return status,
                        _ = &mut talk, if !told => told = true,
                    }
                }
            })
            .await;
            match waited {
                Err(_) => Ending::TimedOut(Span::from(limit)),
                Ok(Err(e)) => Ending::NotStarted(e.to_string()),
                Ok(Ok(status)) => {
                    // Whoever still holds its output open is not waited for, unless all of it is wanted.
                    let until = if wants_all {
                        deadline
                    } else {
                        Instant::now() + DRAIN
                    };
                    if told || timeout_at(until, &mut talk).await.is_ok() || !wants_all {
                        ended(status)
                    } else {
                        Ending::TimedOut(Span::from(limit))
                    }
                }
            }
        };
        drop(group);
        let (said, facts) = out.finish();
        let (complaint, _) = err.finish();
        Run {
            ending,
            facts,
            said: if complaint.is_empty() {
                said
            } else {
                complaint
            },
        }
    }

    fn read_secrets(&self) -> Result<BTreeMap<&str, Secret>, SecretError> {
        self.env
            .iter()
            .map(|(name, at)| Ok((name.as_str(), self.secrets.read(at)?)))
            .collect()
    }

    fn spawn(&self, context: &Context, secrets: &BTreeMap<&str, Secret>) -> Result<Group, String> {
        let Some((program, arguments)) = self.argv.split_first() else {
            return Err("no program is named".to_owned());
        };
        let mut process = Process::new(program);
        process.args(arguments).env_clear();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                process.env(name, value);
            } else if name == "PATH" {
                process.env(name, DEFAULT_PATH);
            }
        }
        process
            .envs(&context.env)
            .envs(secrets.iter().map(|(name, s)| (name, s.expose())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Group::start(&mut process).map_err(|e| format!("cannot start {program}: {e}"))
    }
}

fn ended(status: ExitStatus) -> Ending {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited(code),
        (None, signal) => Ending::Signalled(signal.unwrap_or_default()),
    }
}

/// A program need not read what it is told.
async fn tell(stdin: Option<ChildStdin>, context: &Context) {
    if let Some(mut stdin) = stdin
        && !context.json.is_null()
    {
        let _ = stdin.write_all(context.json.to_string().as_bytes()).await;
    }
}
