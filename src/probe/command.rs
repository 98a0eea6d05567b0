//! `probe/command`: a program of the user's own looks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::ServiceName,
        observation::{Evidence, Look, Sight},
        secret::SecretRef,
        span::Span,
    },
    port::{
        command::{Command, Context, Ending, Run, argv_problems, env_problems},
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        probe::{LookContext, Probe, SharedProbe},
    },
};

/// How much earlier than its time-out a look is ended, so that what the program said is not lost.
const ACCOUNT: Duration = Duration::from_millis(50);

/// `probe/command`.
pub const KIND: Kind = Kind::new::<CommandWith>(
    "probe/command",
    "runs a program: exit status 0 is up, 1 is down, anything else is unknown",
    "run: [/usr/local/bin/check-shop, --quick]\n\
     env:\n  SHOP_TOKEN: {env: SHOP_TOKEN}\n",
    Make::Probe(make),
)
.giving(Evidence::Outside);

/// Settings of `probe/command`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandWith {
    /// Program and arguments. Exit status 0: up; 1: down; any other end, the time-out too: unknown.
    pub run: Vec<String>,
    /// Secrets for the program's environment, by the names they get there.
    #[serde(default)]
    pub env: BTreeMap<String, SecretRef>,
}

impl With for CommandWith {
    fn program(&self) -> Option<&'static str> {
        Some("run")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut all = argv_problems("run", &self.run);
        all.extend(env_problems(&self.env));
        all
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedProbe, MakeError> {
    let with: CommandWith = read(with)?;
    Ok(Arc::new(CommandProbe {
        command: Command {
            argv: with.run,
            env: with.env,
            secrets: Arc::clone(&wiring.secrets),
        },
        service: wiring.service.name.clone(),
    }))
}

struct CommandProbe {
    command: Command,
    service: ServiceName,
}

impl CommandProbe {
    async fn run(&self, context: &LookContext) -> Run {
        let timeout = context.timeout.to_std();
        let limit = timeout.saturating_sub(ACCOUNT.min(timeout / 10));
        let told = Context::of_probe(&self.service, &context.via, context.timeout);
        self.command.run(&told, limit).await
    }
}

#[async_trait]
impl Probe for CommandProbe {
    async fn look(&self, context: &LookContext) -> Look {
        let started = Instant::now();
        let run = self.run(context).await;
        let sight = match run.ending {
            Ending::Exited(0) => Sight::Up,
            Ending::Exited(1) => Sight::Down,
            Ending::Exited(_)
            | Ending::Signalled(_)
            | Ending::TimedOut(_)
            | Ending::NotStarted(_)
            | Ending::NoSecret(_) => Sight::Unknown,
        };
        let mut look = Look::new(sight, run.told());
        look.latency = Some(Span::from(started.elapsed()));
        look
    }

    async fn check(&self, context: &LookContext) -> Vec<CheckItem> {
        let look = self.look(context).await;
        let name = "probe/command";
        vec![match look.sight {
            Sight::Up => CheckItem::ok(name, look.detail),
            Sight::Down => CheckItem::bad(
                name,
                CheckStatus::Warn,
                look.detail,
                "it says down: look whether that is so",
            ),
            Sight::Unknown => CheckItem::bad(
                name,
                CheckStatus::Fail,
                look.detail,
                "run it by hand: it must end with 0 (up) or 1 (down) within the probe's timeout",
            ),
        }]
    }
}
