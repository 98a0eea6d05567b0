//! Outlets: channels with their recipients, and places for the status page.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    fault::OutletFault,
    stagehand::{self, lock},
    world::SharedWorld,
};
use crate::{
    model::{
        check::CheckItem,
        id::{AnnouncementId, IdempotencyKey},
        span::Span,
    },
    port::{
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent, SharedChannel},
        kind::{MakeError, Wiring},
        runtime::SharedRuntime,
        target::{PageFile, SharedTarget, Target, WriteError},
    },
};

/// How many people a channel reaches.
const PEOPLE: usize = 3;

struct SimulatedChannel {
    world: SharedWorld,
    runtime: SharedRuntime,
}

/// Makes a channel.
///
/// # Errors
/// Where no simulation is on this thread.
pub fn channel(wiring: &Wiring) -> Result<SharedChannel, MakeError> {
    Ok(Arc::new(SimulatedChannel {
        world: stagehand::world()?,
        runtime: wiring.runtime.clone(),
    }))
}

#[async_trait]
impl Channel for SimulatedChannel {
    /// The subject names the announcement; a page has none.
    fn compile(&self, notice: &Notice) -> Compiled {
        match notice {
            Notice::Announcement { announcement, .. } => Compiled {
                subject: Some(announcement.id.to_string()),
                text: announcement.phase.to_string(),
                ..Compiled::default()
            },
            Notice::Page { page, .. } | Notice::PageOver { page, .. } => Compiled {
                text: page.title.clone(),
                ..Compiled::default()
            },
        }
    }

    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError> {
        Ok((1..=PEOPLE)
            .map(|n| Recipient(format!("person-{n}")))
            .collect())
    }

    async fn send(&self, message: &Compiled, to: &Recipient, key: &IdempotencyKey) -> Sent {
        let (takes, fault) = {
            let mut world = lock(&self.world);
            let now = world.now;
            if world.is_cut_off() {
                return Sent::Later {
                    after: Span::from_secs(5),
                    everyone: true,
                    reason: "no answer".to_owned(),
                };
            }
            if let Some(id) = &message.subject {
                world.watchman.announces(&AnnouncementId::new(id), now);
                world.watchman.tells(key, now);
            }
            let (to, text) = (&to.0, &message.text);
            world.trace.note(now, 9, || format!("tell {to}: {text}"));
            (world.chance.millis(20, 400), world.outlet_fault())
        };
        self.runtime
            .sleep_until(self.runtime.now().after(takes))
            .await;
        match fault {
            None => Sent::Accepted { reference: None },
            Some(OutletFault::Later) => Sent::Later {
                after: Span::from_secs(5),
                everyone: true,
                reason: "not now".to_owned(),
            },
            Some(OutletFault::Broken) => Sent::Broken {
                reason: "the credential is not accepted".to_owned(),
            },
            Some(OutletFault::Unanswered) => Sent::Unknown {
                reason: "the answer was lost".to_owned(),
            },
        }
    }

    fn workers(&self) -> usize {
        2
    }

    async fn check(&self) -> Vec<CheckItem> {
        Vec::new()
    }
}

struct SimulatedTarget;

/// Makes a place for the status page.
#[must_use]
pub fn target() -> SharedTarget {
    Arc::new(SimulatedTarget)
}

#[async_trait]
impl Target for SimulatedTarget {
    async fn write(&self, _files: &[PageFile]) -> Result<(), WriteError> {
        Ok(())
    }

    async fn check(&self) -> Vec<CheckItem> {
        Vec::new()
    }
}
