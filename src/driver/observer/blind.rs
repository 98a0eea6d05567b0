//! Probes that cannot be made here see nothing, and say why: the others go on.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    driver::watch::ProbeMaker,
    model::observation::{Look, Sight},
    port::probe::{LookContext, Probe, SharedProbe},
    probe::command,
};

/// Makes probes as `maker` does, and blind ones where it cannot, or where a command would be run without leave.
pub(super) fn careful(maker: ProbeMaker, commands: bool) -> ProbeMaker {
    Arc::new(move |uses| {
        if uses.uses.as_str() == command::KIND.name && !commands {
            return Ok(blind(
                "commands are not run here: start the observer with --allow-commands".to_owned(),
            ));
        }
        Ok(maker(uses).unwrap_or_else(|e| blind(format!("the probe cannot be made here: {e}"))))
    })
}

fn blind(reason: String) -> SharedProbe {
    Arc::new(Blind(reason))
}

struct Blind(String);

#[async_trait]
impl Probe for Blind {
    async fn look(&self, _: &LookContext) -> Look {
        Look::new(Sight::Unknown, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{plan::Uses, service::Via, span::Span},
        port::kind::MakeError,
    };

    async fn seen(commands: bool, kind: &str) -> Look {
        let maker: ProbeMaker = Arc::new(|_| Err(MakeError("no such file".to_owned())));
        let uses = Uses {
            uses: kind.into(),
            with: serde_json::json!({"run": ["/bin/true"]}),
        };
        let context = LookContext {
            via: Via::Direct,
            timeout: Span::from_secs(1),
        };
        let probe = careful(maker, commands)(&uses).unwrap();
        probe.look(&context).await
    }

    #[tokio::test]
    async fn a_command_needs_leave() {
        let look = seen(false, "probe/command").await;
        assert_eq!(look.sight, Sight::Unknown);
        assert!(look.detail.contains("--allow-commands"), "{}", look.detail);
        let look = seen(true, "probe/command").await;
        assert!(look.detail.contains("no such file"), "{}", look.detail);
    }

    #[tokio::test]
    async fn what_cannot_be_made_is_unknown() {
        let look = seen(false, "probe/http").await;
        assert_eq!(look.sight, Sight::Unknown);
    }
}
