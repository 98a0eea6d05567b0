//! Which bots there are: one for each account that documents name, for as long as they do.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::Arc,
};

use futures::{FutureExt, StreamExt, select_biased};

use super::session::{Bot, Spoken};
use crate::{
    desk::{
        clerk::{Clerk, Events},
        speaker::Speaker,
    },
    model::{id::ServiceName, plan::Uses, service::Service, span::Span},
    port::{cause, chat::SharedChat, runtime::SharedRuntime},
};

/// Whether the documents name other chats is looked at so often.
const LOOK: Span = Span::from_secs(2);
/// Cards are drawn anew so often while a budget runs.
const REDRAW: Span = Span::from_secs(15);
/// Questions get new buttons so often: the old ones end with their tickets.
const RENEW: Span = Span::from_secs(200);

/// Wait after a fault of its own.
const ANEW: Span = Span::from_secs(5);

/// Runs the bots of all services for as long as the controller runs, with whatever chats the documents name.
pub async fn serve(clerk: Arc<Clerk>, runtime: SharedRuntime) {
    loop {
        let run = AssertUnwindSafe(run(clerk.clone(), runtime.clone()));
        if run.catch_unwind().await.is_err() {
            tracing::error!("the bot broke off and begins anew: this is a fault of failover");
        }
        runtime.sleep_until(runtime.now().after(ANEW)).await;
    }
}

async fn run(clerk: Arc<Clerk>, runtime: SharedRuntime) {
    let mut bots: Bots = BTreeMap::new();
    let mut made: Made = BTreeMap::new();
    let mut followed: BTreeSet<ServiceName> = BTreeSet::new();
    let mut events: Events = futures::stream::pending().boxed();
    let (mut look, mut redraw, mut renew) = (runtime.now(), runtime.now(), runtime.now());
    loop {
        let now = runtime.now();
        if now >= look {
            look = now.after(LOOK);
            arrange(&clerk, &runtime, &mut made, &mut bots);
            let services: BTreeSet<ServiceName> =
                bots.values().flat_map(|(bot, _)| bot.services()).collect();
            if services != followed {
                if let Ok(all) = clerk.watch(None, &Speaker::host()) {
                    events = all;
                    followed = services;
                }
                // What happened before is not told again; what is open is shown.
                (redraw, renew) = (now, now);
            }
        }
        let renews = now >= renew;
        if now >= redraw || renews {
            redraw = now.after(REDRAW);
            for (bot, _) in bots.values() {
                bot.close_lapsed().await;
                bot.redraw(renews).await;
            }
        }
        if renews {
            renew = now.after(RENEW);
        }
        let wake = runtime.sleep_until(look.min(redraw).min(renew));
        select_biased! {
            event = events.next().fuse() => if let Some(event) = event {
                for (bot, _) in bots.values() {
                    bot.follow(&event).await;
                }
            } else {
                events = futures::stream::pending().boxed();
                followed.clear();
            },
            () = wake.fuse() => {}
        }
    }
}

/// Bots by their account: one account is one bot, however many services name it.
type Bots = BTreeMap<String, (Arc<Bot>, Hearing)>;
/// The chats that documents name, as they were made for these documents.
type Made = BTreeMap<ServiceName, (Uses, Option<(SharedChat, PathBuf)>)>;

/// Ends a bot's ears when it is dropped.
struct Hearing(tokio::task::JoinHandle<()>);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts bots for chats that documents name now, and ends those of chats that they name no more.
fn arrange(clerk: &Arc<Clerk>, runtime: &SharedRuntime, made: &mut Made, bots: &mut Bots) {
    let services = clerk.visible(&Speaker::host());
    made.retain(|name, (uses, _)| {
        let same = |s: &&Arc<Service>| s.name == *name && s.team.chat.as_ref() == Some(uses);
        services.iter().any(|s| same(&s))
    });
    for service in &services {
        if let (Some(uses), false) = (&service.team.chat, made.contains_key(&service.name)) {
            let chat = (uses.clone(), make(clerk, service, uses));
            made.insert(service.name.clone(), chat);
        }
    }
    let mut wanted: BTreeMap<String, (Vec<SharedChat>, Vec<Spoken>)> = BTreeMap::new();
    for (service, (_, chat)) in made.iter() {
        let Some((chat, state)) = chat else {
            continue;
        };
        let spoken = Spoken {
            service: service.clone(),
            rooms: chat.rooms(),
            state: state.clone(),
        };
        let same = wanted.entry(chat.account()).or_default();
        same.0.push(chat.clone());
        same.1.push(spoken);
    }
    // A bot whose settings changed is another one.
    bots.retain(|key, (bot, _)| {
        let chats = wanted.get(key).map(|(chats, _)| chats);
        chats.is_some_and(|chats| chats.iter().any(|chat| bot.is_of(chat)))
    });
    for (key, (chats, spoken)) in wanted {
        let (bot, _) = bots.entry(key).or_insert_with(|| {
            let bot = Arc::new(Bot::new(chats[0].clone(), clerk, runtime));
            let hearing = tokio::spawn(bot.clone().hear());
            (bot, Hearing(hearing))
        });
        bot.speaks_of(spoken);
    }
}

/// The chat of a service, and where it keeps things.
fn make(clerk: &Clerk, service: &Service, uses: &Uses) -> Option<(SharedChat, PathBuf)> {
    let fitting = clerk.controller.fitting(&service.name).ok()?;
    match fitting.chat(uses) {
        Ok(chat) => Some((chat, fitting.wiring().state.clone())),
        Err(error) => {
            let error = cause::in_full(&error);
            tracing::error!(service = %service.name, %error, "its chat cannot be used");
            None
        }
    }
}
