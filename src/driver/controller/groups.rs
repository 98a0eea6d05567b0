//! The loops of groups: they begin, change and end with what the documents of the services say.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt, channel::mpsc};

use super::{Controller, StartError};
use crate::{
    decide::event::{Event, Trouble},
    driver::{
        fitting::{Fitting, FittingError},
        group::{GroupLoop, Heard, Joined, Parts, Tell, voice},
        perform::{Performer, Underway},
        service::{Input, LoopError},
    },
    model::{
        group::{Membership, ServiceGroup},
        id::{ServiceGroupName, ServiceName},
        service::Service,
    },
    port::cause,
};

/// Whether nothing of a service changed that its loop would have to know.
pub fn is_same(old: &Service, new: &Service) -> bool {
    old.config == new.config && Membership::is_same(old.group.as_ref(), new.group.as_ref())
}

/// The groups of services. A service whose newer document cannot be used may still name a group as it was: what most
/// members say counts.
fn wanted(services: &[Service]) -> BTreeMap<ServiceGroupName, Arc<ServiceGroup>> {
    let mut named: BTreeMap<ServiceGroupName, Vec<(Arc<ServiceGroup>, usize)>> = BTreeMap::new();
    for own in services.iter().filter_map(|s| s.group.as_ref()) {
        let all = named.entry(own.group.clone()).or_default();
        match all.iter_mut().find(|(whole, _)| *whole == own.whole) {
            Some((_, times)) => *times += 1,
            None => all.push((own.whole.clone(), 1)),
        }
    }
    let most = |all: Vec<(Arc<ServiceGroup>, usize)>| {
        let most = all.into_iter().max_by_key(|(_, times)| *times);
        most.map(|(whole, _)| whole)
    };
    let chosen = named
        .into_iter()
        .filter_map(|(n, all)| Some((n, most(all)?)));
    chosen.collect()
}

impl Controller {
    /// Begins, changes and ends groups, so that they are those of these services.
    pub(super) async fn keep_groups(
        self: &Arc<Self>,
        services: &[Service],
    ) -> Result<(), StartError> {
        let wanted = wanted(services);
        let running = self.board.groups();
        for gone in running.keys().filter(|name| !wanted.contains_key(*name)) {
            self.board.leave(gone);
        }
        for (name, whole) in wanted {
            match running.get(&name) {
                Some(joined) if joined.whole == whole => {}
                Some(joined) => {
                    let performer = self.speaker(&whole, joined.results.clone())?;
                    let changed = Heard::Changed(Box::new((whole.as_ref().clone(), performer)));
                    drop(joined.heard.unbounded_send(changed));
                    let joined = Joined {
                        whole,
                        ..joined.clone()
                    };
                    self.board.change(name, joined);
                }
                None => self.begin_group(whole).await?,
            }
        }
        Ok(())
    }

    async fn begin_group(self: &Arc<Self>, whole: Arc<ServiceGroup>) -> Result<(), StartError> {
        let (results, inbox) = mpsc::unbounded();
        let (heard, news) = mpsc::unbounded();
        let controller = Arc::downgrade(self);
        let tell: Tell = Box::new(move |member: &ServiceName, event: Event| {
            if let Some(controller) = controller.upgrade()
                && let Err(error) = controller.tell(member, event)
            {
                tracing::debug!(error = %cause::in_full(&error), "a member of a group does not run");
            }
        });
        let parts = Parts {
            group: whole.as_ref().clone(),
            journal: self.means.journal.clone(),
            runtime: self.means.runtime.clone(),
            performer: self.speaker(&whole, results.clone())?,
            inbox,
            heard: news,
            tell,
            leader: self.means.leader.clone(),
        };
        let looping = GroupLoop::new(parts).await.map_err(StartError::Loop)?;
        let chain = whole.chain();
        self.board.join(Joined {
            whole,
            heard,
            results,
        });
        let ended = self.ended.clone();
        let task = async move {
            let end = AssertUnwindSafe(Box::pin(looping.run()))
                .catch_unwind()
                .await;
            let end = end.unwrap_or_else(|_| {
                let service = chain.to_string();
                Err(LoopError::Panicked { service })
            });
            if end.is_err() {
                drop(ended.unbounded_send((chain, end)));
            }
        };
        self.means.runtime.spawn("group", Box::pin(task));
        Ok(())
    }

    /// What performs a group's effects. A channel that cannot be made keeps nobody from a turn: the team hears of it.
    fn speaker(
        &self,
        group: &ServiceGroup,
        results: mpsc::UnboundedSender<Input>,
    ) -> Result<Performer, StartError> {
        let means = &self.means;
        let service = Arc::new(voice(group));
        let bad = |source: FittingError| StartError::Fitting {
            service: service.name.clone(),
            source,
        };
        let fitting = Fitting::new(
            &service,
            means.kinds,
            means.runtime.clone(),
            means.secrets.clone(),
            &means.state,
        )
        .map_err(bad)?;
        let mut channels = BTreeMap::new();
        for channel in &group.announcements.channels {
            match fitting.channel(&channel.action) {
                Ok(made) => drop(channels.insert(channel.name.clone(), made)),
                Err(error) => {
                    let reason = cause::in_full(&error);
                    tracing::error!(group = %group.name, channel = %channel.name, reason, "a channel cannot be set up");
                    let channel = channel.name.to_string();
                    let trouble = Event::Trouble(Trouble::Channel { channel, reason });
                    drop(results.unbounded_send(Input::Event(trouble)));
                }
            }
        }
        Ok(Performer {
            fitting,
            customers: Arc::new(channels),
            team: Arc::default(),
            ledger: means.ledger.clone(),
            runtime: means.runtime.clone(),
            results,
            metrics: means.metrics.clone(),
            running: Underway::default(),
            copy: means.copy.clone(),
            tenure: means.leader.as_ref().map(|l| l.tenure.clone()),
        })
    }
}
