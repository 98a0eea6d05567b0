//! How the team is paged: which message goes to which channel, and who hears that a page is over.

use futures::future::join_all;

use super::{FAULT, Performer, caught, problems};
use crate::{
    announce::fanout::{FanoutError, Patience},
    decide::{
        core::Core,
        escalation::{self, Calling, Over},
    },
    model::{
        id::{ChannelName, PageId, Seq, ServiceName},
        page::{Page, Severity},
        time::Time,
    },
    port::{
        cause,
        channel::{Compiled, Notice, Sent, SharedChannel},
        ledger::Mailing,
    },
};

/// A page was sent on a channel if one of so many last rounds was.
const ROUNDS: u32 = 10;

/// A message as it goes out, and its name in the ledger.
type Outgoing = (String, Notice);

/// What goes out on each channel.
type Post = Vec<(ChannelName, Vec<Outgoing>)>;

impl Performer {
    /// Sends a recorded message to its level: in one on channels of people, page by page where the other side keeps them.
    pub(super) fn page(&self, core: &Core, message: Seq) {
        let (service, state) = (core.service(), core.state());
        let Some(sent) = state.pager.messages.get(&message) else {
            return;
        };
        let levels = service.team.levels();
        let level = usize::try_from(sent.level).ok().and_then(|n| levels.get(n));
        let open: Vec<_> = sent
            .pages
            .iter()
            .filter_map(|(id, round)| Some((id, *round, &state.pages.get(id)?.page)))
            .collect();
        let each: Vec<Outgoing> = open
            .iter()
            .map(|(id, round, page)| {
                let notice = Notice::Page {
                    service: service.name.clone(),
                    page: Box::new((*page).clone()),
                    repeat: *round,
                    id: id.to_string(),
                };
                (single(id, *round, sent.level), notice)
            })
            .collect();
        let together = if let [_, _, ..] = open[..] {
            let pages: Vec<_> = open.iter().map(|(id, _, page)| (*id, *page)).collect();
            let notice = Notice::Page {
                service: service.name.clone(),
                page: Box::new(escalation::together(service, &pages)),
                repeat: 0,
                id: String::new(),
            };
            vec![(joint(&service.name, message), notice)]
        } else {
            each.clone()
        };
        let post = level
            .into_iter()
            .flat_map(|level| &level.channels)
            .map(|name| {
                let outgoing = if self.keeps_state(name) {
                    &each
                } else {
                    &together
                };
                (name.clone(), outgoing.clone())
            })
            .collect();
        self.post(service.name.clone(), post);
    }

    /// Tells that pages are over: wherever they are kept, and of critical ones everybody who was reached.
    pub(super) fn page_over(&self, core: &Core, pages: &[PageId]) {
        let service = core.service();
        let over: Vec<(&PageId, &Over)> = pages
            .iter()
            .filter_map(|id| core.state().pager.over.get_key_value(id))
            .collect();
        let Some((first, _)) = over.first() else {
            return;
        };
        let levels = service.team.levels();
        let was_sent = |name: &ChannelName, over: &Over| {
            let told = over.told.keys().filter_map(|n| usize::try_from(*n).ok());
            told.filter_map(|n| levels.get(n))
                .any(|level| level.channels.contains(name))
        };
        let notice = |id: &PageId, page: &Page| Notice::PageOver {
            service: service.name.clone(),
            page: Box::new(page.clone()),
            id: id.to_string(),
        };
        let (mut kept, mut heard) = (Post::new(), Vec::new());
        for name in self.team.keys() {
            let sent: Vec<_> = over.iter().filter(|(_, o)| was_sent(name, o)).collect();
            if self.keeps_state(name) {
                let each = sent
                    .iter()
                    .map(|(id, over)| (format!("{id}-over"), notice(id, &over.page)));
                kept.push((name.clone(), each.collect()));
                continue;
            }
            let of_people = sent
                .into_iter()
                .filter(|(_, o)| o.page.severity == Severity::Critical && !o.is_replaced)
                .map(|(id, over)| ((*id).clone(), (*over).clone()));
            heard.push((name.clone(), of_people.collect::<Vec<_>>()));
        }
        self.post(service.name.clone(), kept);
        let (performer, service) = (self.clone(), service.clone());
        let name = format!("{first}-over");
        let task = async move {
            let mut post = Post::new();
            for (channel, over) in heard {
                let mut reached = Vec::new();
                for (id, over) in over {
                    if performer
                        .was_reached(&service.name, &channel, &id, &over)
                        .await
                    {
                        reached.push((id, over.page));
                    }
                }
                let pages: Vec<_> = reached.iter().map(|(id, page)| (id, page)).collect();
                let page = match pages[..] {
                    [] => continue,
                    [(_, page)] => page.clone(),
                    [_, ..] => escalation::together(&service, &pages),
                };
                let notice = Notice::PageOver {
                    service: service.name.clone(),
                    page: Box::new(page),
                    id: String::new(),
                };
                post.push((channel, vec![(name.clone(), notice)]));
            }
            performer.post(service.name.clone(), post);
        };
        self.runtime.spawn("page", Box::pin(task));
    }

    fn keeps_state(&self, channel: &ChannelName) -> bool {
        let channel = self.team.get(channel);
        channel.is_some_and(|channel| channel.keeps_state())
    }

    /// Whether anybody of a channel may have got a page. A ledger that does not say is no reason to be silent.
    async fn was_reached(
        &self,
        service: &ServiceName,
        channel: &ChannelName,
        id: &PageId,
        over: &Over,
    ) -> bool {
        for (level, calling) in &over.told {
            for message in messages(service, id, *level, calling) {
                let mailing = team_mailing(service, &message, channel);
                let tally = self.ledger.tally(&mailing).await;
                if tally.is_ok_and(|t| t.sent + t.unknown + t.queued > 0) {
                    return true;
                }
            }
        }
        false
    }

    /// Sends on each channel what is for it, one after the other; those that cannot send are told of.
    fn post(&self, service: ServiceName, post: Post) {
        let performer = self.clone();
        let since = self.runtime.now();
        let task = async move {
            let paging = post.iter().filter_map(|(name, outgoing)| {
                let channel = performer.team.get(name)?;
                let (performer, service) = (&performer, &service);
                Some(async move {
                    for (message, notice) in outgoing {
                        let mailing = team_mailing(service, message, name);
                        let told = caught(performer.page_channel(channel, &mailing, notice, since));
                        let broken = told.await.unwrap_or_else(|| Some(FAULT.to_owned()));
                        if let Some(reason) = broken {
                            performer.troubled(name, &reason);
                        }
                    }
                })
            });
            join_all(paging).await;
        };
        self.runtime.spawn("page", Box::pin(task));
    }

    /// Pages without the journal and without the ledger, which lies beside it: for when they cannot be written. What is
    /// not delivered is not tried again; the next repeat is on its way.
    pub fn page_at_once(&self, core: &Core, page: Page, repeat: u32) {
        let (service, performer) = (core.service().name.clone(), self.clone());
        let task = async move { performer.page_unrecorded(&service, page, repeat).await };
        self.runtime.spawn("page", Box::pin(task));
    }

    /// The same, done when it ends.
    pub async fn page_unrecorded(&self, service: &ServiceName, page: Page, repeat: u32) {
        let message = format!(
            "{service}-journal-{}-{repeat}",
            self.runtime.now().as_secs()
        );
        let notice = Notice::Page {
            service: service.clone(),
            page: Box::new(page),
            repeat,
            id: String::new(),
        };
        let paging = self.team.iter().map(|(name, channel)| {
            let mailing = team_mailing(service, &message, name);
            let notice = &notice;
            async move {
                let told = caught(async {
                    let compiled = channel.compile(notice);
                    send_unrecorded(channel, &compiled, &mailing).await
                });
                if let Err(reason) = told.await.unwrap_or_else(|| Err(FAULT.to_owned())) {
                    tracing::error!(service = %mailing.service, channel = %name, reason, "a page was not delivered");
                }
            }
        });
        join_all(paging).await;
    }

    /// Pages everybody of a channel once; why it cannot send, where it cannot.
    async fn page_channel(
        &self,
        channel: &SharedChannel,
        mailing: &Mailing,
        notice: &Notice,
        since: Time,
    ) -> Option<String> {
        let compiled = channel.compile(notice);
        let told = self
            .fanout(channel, mailing, Patience::page(), since)
            .run(&compiled)
            .await;
        match told {
            Ok(outcome) => outcome.broken.or_else(|| problems(&outcome.problems)),
            // Better twice than not at all.
            Err(error @ FanoutError::Ledger(_)) => {
                tracing::error!(service = %mailing.service, channel = %mailing.channel, error = %cause::in_full(&error), "paged without the ledger");
                send_unrecorded(channel, &compiled, mailing).await.err()
            }
            Err(error @ FanoutError::Recipients(_)) => Some(cause::in_full(&error)),
        }
    }
}

/// A page's name in the ledger.
fn single(id: &PageId, round: u32, level: u32) -> String {
    match level {
        0 => format!("{id}-{round}"),
        _ => format!("{id}-{round}-{level}"),
    }
}

/// The name of several pages' message.
fn joint(service: &ServiceName, message: Seq) -> String {
    format!("{service}-g{message}")
}

/// The names under which a page was sent to a level of late.
fn messages(service: &ServiceName, id: &PageId, level: u32, calling: &Calling) -> Vec<String> {
    let rounds = calling.round.saturating_sub(ROUNDS)..=calling.round;
    rounds
        .map(|round| single(id, round, level))
        .chain([joint(service, calling.message)])
        .collect()
}

/// Whose messages a service's pages are in the ledger.
#[must_use]
pub fn team_of(service: &ServiceName) -> ServiceName {
    ServiceName::new(format!("{service}/team"))
}

/// Names a page of one channel. Whoever unsubscribed as a customer is still paged.
fn team_mailing(service: &ServiceName, message: &str, channel: &ChannelName) -> Mailing {
    Mailing {
        service: team_of(service),
        message: message.to_owned(),
        channel: channel.clone(),
    }
}

/// Sends to everybody of a channel once; the error says why somebody did not get it for sure.
async fn send_unrecorded(
    channel: &SharedChannel,
    message: &Compiled,
    mailing: &Mailing,
) -> Result<(), String> {
    let recipients = channel.recipients().await.map_err(|e| e.reason)?;
    let mut missed = None;
    for to in recipients {
        match channel.send(message, &to, &mailing.key(&to)).await {
            Sent::Accepted { .. } => {}
            Sent::Unknown { reason }
            | Sent::Unsure { reason, .. }
            | Sent::Later { reason, .. }
            | Sent::Refused { reason, .. }
            | Sent::Broken { reason } => missed = Some(reason),
        }
    }
    missed.map_or(Ok(()), Err)
}
