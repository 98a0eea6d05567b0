//! A bot at work: it hears, answers, follows what happens, and keeps its cards up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use futures::future::{Either, select};

use super::{
    card::{self, Matter},
    flood::{Flood, Heard},
    phrase::{self, Phrase, Verb},
    shown::Shown,
    talk::{self, Reply, Talk, Turn},
    teller::{Saying, Tag, Teller},
    ticket::{Deed, Tickets},
};
use crate::{
    decide::explain::Report,
    desk::{
        clerk::Clerk,
        message::{Event, Wish},
        speaker::Speaker,
    },
    model::{
        duty::Duty,
        id::{PersonName, ServiceName, TelegramUser},
        page::PageTopic,
        record::{AskOutcome, Record, RecordBody},
        service::Service,
        span::Span,
        time::Time,
    },
    port::{
        chat::{Author, ChatError, Post, PostId, Room, Said, SharedChat, Words},
        runtime::SharedRuntime,
    },
};

/// What was written longer ago is not done any more.
const STALE: Span = Span::from_secs(60);
/// Whoever gave a command hears something after this.
const PATIENCE: Span = Span::from_millis(900);
/// Wait after nothing could be heard.
const DEAF: Span = Span::from_secs(5);
/// Whether this process leads is looked at again after this where it does not.
const AGAIN: Span = Span::from_secs(1);
/// Rooms that are spoken in at once.
const ROOMS: usize = 200;
/// Where a service's rooms that want every change are kept.
const STALKED: &str = "chat-stalked.json";

/// A service that is spoken of, and where.
pub struct Spoken {
    /// Which.
    pub service: ServiceName,
    /// The rooms that its documents list.
    pub rooms: Vec<Room>,
    /// Where its bot keeps things.
    pub state: PathBuf,
}

/// What is known of one service's rooms.
struct Place {
    rooms: Vec<Room>,
    state: PathBuf,
    stalked: BTreeSet<String>,
    /// What the cards show.
    matter: Option<Matter>,
}

/// A bot: one account of a chat, and the services that are spoken of with it.
pub struct Bot {
    pub(super) chat: SharedChat,
    pub(super) talk: Talk,
    pub(super) runtime: SharedRuntime,
    flood: Mutex<Flood>,
    places: Mutex<BTreeMap<ServiceName, Place>>,
    mouths: Mutex<BTreeMap<Room, Teller>>,
    shown: Arc<Shown>,
    /// Strangers who were answered within the last minute.
    answered: Mutex<BTreeMap<(Author, Room, Verb), Time>>,
}

impl Bot {
    /// A bot that has not heard anything yet.
    pub fn new(chat: SharedChat, clerk: &Arc<Clerk>, runtime: &SharedRuntime) -> Self {
        Self {
            chat,
            talk: Talk {
                clerk: clerk.clone(),
                runtime: runtime.clone(),
                tickets: Mutex::new(Tickets::default()),
                choices: AtomicU64::new(0),
            },
            runtime: runtime.clone(),
            flood: Mutex::new(Flood::default()),
            places: Mutex::new(BTreeMap::new()),
            mouths: Mutex::new(BTreeMap::new()),
            shown: Arc::default(),
            answered: Mutex::new(BTreeMap::new()),
        }
    }

    /// Whether it speaks through this chat.
    pub fn is_of(&self, chat: &SharedChat) -> bool {
        Arc::ptr_eq(&self.chat, chat)
    }

    /// The services that it speaks of.
    pub fn services(&self) -> Vec<ServiceName> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.keys().cloned().collect()
    }

    /// Speaks of these services from now on, and of no others.
    pub fn speaks_of(&self, spoken: Vec<Spoken>) {
        for (room, tag, id, text) in self.take_up(spoken) {
            self.mouth(&room).say(Saying::Known(tag, id, text));
        }
    }

    /// What an earlier process showed of the services that are new here.
    fn take_up(&self, spoken: Vec<Spoken>) -> Vec<(Room, Tag, PostId, String)> {
        let mut known = Vec::new();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let named: BTreeSet<ServiceName> = spoken.iter().map(|s| s.service.clone()).collect();
        places.retain(|service, _| named.contains(service));
        for Spoken {
            service,
            rooms,
            state,
        } in spoken
        {
            if !places.contains_key(&service) {
                known.extend(self.shown.open(&service, &state));
            }
            let place = places.entry(service).or_insert_with(|| Place {
                rooms: Vec::new(),
                stalked: stalked(&state),
                state,
                matter: None,
            });
            place.rooms = rooms;
        }
        known
    }

    /// Hears and answers until its task ends.
    pub async fn hear(self: Arc<Self>) {
        let mut was_deaf = false;
        loop {
            // Only the leader listens: what it takes is heard by nobody else.
            if !self.talk.clerk.controller.leads() {
                let again = self.runtime.now().after(AGAIN);
                self.runtime.sleep_until(again).await;
                continue;
            }
            match self.chat.listen().await {
                Ok(said) => {
                    was_deaf = false;
                    for said in said {
                        self.clone().attend(said).await;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut was_deaf, true) {
                        tracing::error!(chat = self.chat.account(), %error, "nothing is heard in the chat; commands work on the controller's host and on the web");
                    }
                    let wait = match error {
                        ChatError::Later { after, .. } => after,
                        ChatError::Lost { .. }
                        | ChatError::Refused { .. }
                        | ChatError::Broken { .. } => DEAF,
                    };
                    self.runtime
                        .sleep_until(self.runtime.now().after(wait))
                        .await;
                }
            }
        }
    }

    /// Takes words in their order; what takes its time goes on beside those that come after.
    async fn attend(self: Arc<Self>, said: Said) {
        let late = self.runtime.sleep_until(self.runtime.now().after(PATIENCE));
        let task = tokio::spawn(self.take(said));
        if let Either::Left((Err(error), _)) = select(task, late).await {
            tracing::error!(%error, "a command broke off: this is a fault of failover");
        }
    }

    async fn take(self: Arc<Self>, said: Said) {
        let heard = {
            let mut flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
            flood.hear(said.author, self.runtime.now())
        };
        match heard {
            Heard::Yes => {}
            Heard::NoMore => {
                tracing::warn!(author = ?said.author, room = %said.room.0, "says more than anybody can mean: not listened to for a while");
                return;
            }
            Heard::No => return,
        }
        let here = self.here(&said.room);
        match said.what {
            Words::Press { press, ticket } => {
                self.press(&said.room, said.is_private, said.author, &press, &ticket)
                    .await;
            }
            Words::Text(text) => {
                if let Some(phrase) = phrase::read(&text) {
                    self.command(
                        &said.room,
                        said.is_private,
                        said.author,
                        said.at,
                        &here,
                        phrase,
                    )
                    .await;
                }
            }
            Words::Stale { text, why } => {
                if phrase::read(&text).is_some() && (said.is_private || !here.is_empty()) {
                    self.say(&said.room, Post::text(format!("That is not done: {why}.")));
                }
            }
        }
    }

    /// The services whose documents list a room.
    pub(super) fn here(&self, room: &Room) -> Vec<Arc<Service>> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let mut services = self.talk.clerk.visible(&Speaker::host());
        services.retain(|s| places.get(&s.name).is_some_and(|p| p.rooms.contains(room)));
        services
    }

    /// The services that somebody may speak of in a room: where it is listed, or in private, and where they are known.
    pub(super) fn spoken_of(
        &self,
        room: &Room,
        is_private: bool,
        speaker: &Speaker,
    ) -> Vec<Arc<Service>> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let mut services = self.talk.clerk.visible(speaker);
        services.retain(|s| {
            let place = places.get(&s.name);
            place.is_some_and(|place| is_private || place.rooms.contains(room))
        });
        services
    }

    async fn command(
        &self,
        room: &Room,
        is_private: bool,
        author: Author,
        at: Option<Time>,
        here: &[Arc<Service>],
        phrase: Phrase,
    ) {
        if here.is_empty() && !is_private {
            let known = self.known(author);
            let asks = matches!(
                &phrase,
                Phrase::Command {
                    verb: Verb::WhoAmI,
                    ..
                }
            );
            if asks && !known.is_empty() {
                let text = format!(
                    "This room's number is {}: it goes into team.chat.with.chats.",
                    room.0
                );
                self.say(room, Post::text(text));
                return;
            }
            // A room that nobody listed hears nothing else, not even that.
            tracing::warn!(room = %room.0, ?author, "a command came from a room that no document lists");
            self.note_strangers(author, &known, "spoke in a room that no document lists")
                .await;
            return;
        }
        let speaker = match author {
            Author::Telegram(user) => Speaker::Telegram(user),
            Author::Unknowable(why) => {
                self.note_strangers(author, here, why).await;
                self.say(room, Post::text(format!("That is not done: {why}.")));
                return;
            }
        };
        let (verb, rest) = match phrase {
            Phrase::Command { verb, rest } => (verb, rest),
            Phrase::Unknown { word, nearest } => {
                let hint = nearest.map_or("/help lists them".to_owned(), |w| {
                    format!("did you mean /{w}?")
                });
                self.say(
                    room,
                    Post::text(format!("There is no command /{word}: {hint}")),
                );
                return;
            }
        };
        let services = self.spoken_of(room, is_private, &speaker);
        if verb == Verb::WhoAmI {
            if !services.is_empty() || self.is_news(author, room, verb) {
                self.say(room, Post::text(talk::who(&speaker, &services)));
            }
            return;
        }
        if services.is_empty() {
            self.note_strangers(author, here, "is nobody of the team")
                .await;
            if self.is_news(author, room, Verb::Help) {
                let text =
                    "You are nobody of the team here: /whoami says what your documents lack.";
                self.say(room, Post::text(text));
            }
            return;
        }
        let age = at.map_or(Span::ZERO, |at| self.runtime.wall().since(at));
        if age > STALE && verb != Verb::Help {
            let age = Span::from_secs(age.as_millis() / 1000);
            self.say(room, Post::text(format!("That was written {age} ago and is not done: write it again if you still mean it.")));
            return;
        }
        let known = self.services();
        let turn = Turn {
            speaker: &speaker,
            room,
            services: &services,
            known: &known,
            verb,
            rest: &rest,
        };
        let said = self.in_time(room, self.reply(&turn)).await;
        let reply = said.unwrap_or_else(|why| Reply::text(format!("Not done: {why}")));
        match reply.choice {
            Some(choice) => {
                let tag = Tag::Choice(choice);
                self.mouth(room).say(Saying::Put(tag, reply.post));
            }
            None => self.say(room, reply.post),
        }
    }

    async fn reply(&self, turn: &Turn<'_>) -> talk::Said {
        if turn.verb == Verb::Stalk {
            return self.stalk(turn);
        }
        self.talk.take(turn).await
    }

    /// Says that something takes its time where it does.
    pub(super) async fn in_time<T>(&self, room: &Room, work: impl Future<Output = T>) -> T {
        let late = self.runtime.sleep_until(self.runtime.now().after(PATIENCE));
        match select(Box::pin(work), late).await {
            Either::Left((done, _)) => done,
            Either::Right(((), work)) => {
                self.say(room, Post::text("Still at it: the controller has not answered yet. It waits for its journal, or for somebody whom it has asked."));
                work.await
            }
        }
    }

    fn stalk(&self, turn: &Turn<'_>) -> talk::Said {
        let (service, rest) = talk::pick(turn)?;
        let word = phrase::word(rest).0;
        let on = match word {
            "" | "on" => true,
            "off" => false,
            _ => return Err(format!("write {}", phrase::usage(Verb::Stalk))),
        };
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = places.get_mut(&service.name) else {
            return Err("this service is not spoken of any more".to_owned());
        };
        if on {
            place.stalked.insert(turn.room.0.clone());
        } else {
            place.stalked.remove(&turn.room.0);
        }
        if let Err(error) = keep(&place.state, &place.stalked) {
            tracing::warn!(%error, "which rooms want every change could not be kept");
        }
        Ok(Reply::text(if on {
            format!(
                "{}: every change is said here until /stalk {} off",
                service.name, service.name
            )
        } else {
            format!("{}: only what matters is said here", service.name)
        }))
    }

    /// The services that somebody is known at, wherever they spoke.
    fn known(&self, author: Author) -> Vec<Arc<Service>> {
        match author {
            Author::Telegram(user) => {
                let mut services = self.talk.clerk.visible(&Speaker::Telegram(user));
                let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
                services.retain(|s| places.contains_key(&s.name));
                services
            }
            Author::Unknowable(_) => Vec::new(),
        }
    }

    pub(super) async fn note_strangers(
        &self,
        author: Author,
        services: &[Arc<Service>],
        why: &str,
    ) {
        for service in services {
            let who = match author {
                Author::Telegram(user) => {
                    let person = Speaker::Telegram(user)
                        .person(service)
                        .map(|p| p.name.clone());
                    // Who is nobody of the team is nobody in the journal either: it never forgets.
                    person.unwrap_or_else(|| PersonName::new("telegram/stranger"))
                }
                Author::Unknowable(_) => PersonName::new("telegram/unknown"),
            };
            self.talk
                .clerk
                .turned_away(&service.name, who.as_str(), why)
                .await;
        }
    }

    pub(super) fn say(&self, room: &Room, post: Post) {
        self.mouth(room).say(Saying::Say(post));
    }

    /// Whether this stranger was not answered so within the last minute.
    fn is_news(&self, author: Author, room: &Room, verb: Verb) -> bool {
        let now = self.runtime.now();
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.retain(|_, at| now.since(*at) < STALE);
        answered.insert((author, room.clone(), verb), now).is_none()
    }

    pub(super) fn mouth(&self, room: &Room) -> Teller {
        let mut mouths = self.mouths.lock().unwrap_or_else(PoisonError::into_inner);
        if mouths.len() >= ROOMS && !mouths.contains_key(room) {
            // Rooms that nobody lists are those of people who wrote in private; they get another mouth.
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            mouths.retain(|known, _| places.values().any(|p| p.rooms.contains(known)));
        }
        mouths
            .entry(room.clone())
            .or_insert_with(|| {
                let (clerk, shown) = (self.talk.clerk.clone(), self.shown.clone());
                Teller::start(self.chat.clone(), room.clone(), &self.runtime, shown, clerk)
            })
            .clone()
    }

    fn rooms(&self, service: &ServiceName) -> Vec<Room> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places
            .get(service)
            .map(|p| p.rooms.clone())
            .unwrap_or_default()
    }

    /// Takes up what has just happened.
    pub async fn follow(&self, event: &Event) {
        let service = &event.record.chain;
        let rooms = self.rooms(service);
        if rooms.is_empty() {
            return;
        }
        self.tell_stalkers(&event.record);
        // How something ended is said before it is shown that it has.
        for room in &rooms {
            self.react(room, event).await;
        }
        self.show(&event.report, false);
    }

    async fn react(&self, room: &Room, event: &Event) {
        let report = &event.report;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a room hears of five of the many kinds of record"
        )]
        match &event.record.body {
            RecordBody::AskClosed { ask, outcome } => {
                let text = format!("❓ {}: question {ask} {}", report.title, ended(outcome));
                self.mouth(room).say(Saying::End(
                    Tag::Question(report.service.clone(), ask.clone()),
                    Post::text(text),
                ));
            }
            RecordBody::Approved {
                ask,
                by,
                reason: Some(reason),
                break_glass: true,
                ..
            } => {
                let text = format!(
                    "🔨 {}: {by} broke the glass for {ask}\n{reason}",
                    report.title
                );
                self.say(room, Post::text(text));
            }
            RecordBody::AskOpened { .. } | RecordBody::Approved { .. } => {
                for ask in &report.asks {
                    let post = self.talk.question(room, report, ask);
                    self.mouth(room).say(Saying::Put(
                        Tag::Question(report.service.clone(), ask.id.clone()),
                        post,
                    ));
                }
            }
            RecordBody::HandOverOffered { to, by, .. } => self.offer(room, report, to, by),
            RecordBody::PageRaised { page } => {
                if let PageTopic::ChannelBroken(channel) = &page.topic {
                    self.paging_fails(room, &report.service, channel).await;
                }
                if page.topic == PageTopic::UpdateDue {
                    let commander = report.duties.get(&Duty::Commander);
                    let whom = commander.map_or_else(String::new, |name| format!("{name}: "));
                    let text = format!(
                        "📣 {whom}{}\n$ /announce {} PHASE TEXT",
                        page.title, report.service
                    );
                    self.say(room, Post::text(text));
                }
            }
            RecordBody::IncidentClosed { incident, reason } => {
                let matter = Matter::Incident(incident.clone());
                let post = Post::text(card::over(report, &matter, reason));
                let tag = Tag::Card(report.service.clone(), matter);
                self.mouth(room).say(Saying::End(tag, post));
            }
            _ => {}
        }
    }

    fn offer(&self, room: &Room, report: &Report, to: &PersonName, by: &PersonName) {
        let service = self.talk.clerk.visible(&Speaker::host());
        let service = service.iter().find(|s| s.name == report.service);
        let user = service.and_then(|s| s.team.person(to)?.telegram);
        let text = format!(
            "👤 {}: {by} asks {to} to lead.\nUntil {to} accepts, {by} does: /accept {}",
            report.title, report.service
        );
        let buttons = user.map(|user| {
            let of = Speaker::Telegram(user);
            let deed = Deed::Give(Box::new(Wish::Accept));
            let label = format!("{to}: I lead");
            vec![vec![self.talk.ticket(
                room,
                &report.service,
                Some(&of),
                &label,
                (deed, None),
            )]]
        });
        self.say(
            room,
            Post {
                text,
                buttons: buttons.unwrap_or_default(),
            },
        );
    }

    /// Where paging fails people are called by whoever reads this.
    async fn paging_fails(&self, room: &Room, name: &ServiceName, channel: &str) {
        let services = self.talk.clerk.visible(&Speaker::host());
        let Some(service) = services.iter().find(|s| s.name == *name) else {
            return;
        };
        if !service
            .team
            .channels
            .iter()
            .any(|c| c.name.as_str() == channel)
        {
            return;
        }
        if let Ok(contacts) = self.talk.contacts(&Speaker::host(), service).await {
            let text =
                format!("☎ Paging through {channel} fails: call people yourself.\n{contacts}");
            self.say(room, Post::text(text));
        }
    }

    fn tell_stalkers(&self, record: &Record) {
        let Some(text) = card::news(record) else {
            return;
        };
        let rooms: Vec<Room> = {
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let place = places.get(&record.chain);
            let stalked = place.map(|p| p.stalked.clone()).unwrap_or_default();
            let rooms = stalked.into_iter().map(Room);
            rooms
                .filter(|room| {
                    place.is_some_and(|p| p.rooms.contains(room))
                        || self.is_of_team(&record.chain, room)
                })
                .collect()
        };
        for room in rooms {
            self.say(&room, Post::text(text.clone()));
        }
    }

    /// Whether a private room is that of somebody of a service's team.
    fn is_of_team(&self, service: &ServiceName, room: &Room) -> bool {
        let services = self.talk.clerk.visible(&Speaker::host());
        let service = services.iter().find(|s| s.name == *service);
        let user = room.0.parse().ok().map(TelegramUser);
        service.is_some_and(|s| user.is_some() && s.team.people.iter().any(|p| p.telegram == user))
    }

    /// Draws cards and questions as things stand now.
    pub async fn redraw(&self, renews: bool) {
        for service in self.services() {
            if let Ok(report) = self.talk.report(&Speaker::host(), &service).await {
                self.show(&report, renews);
            }
        }
    }

    fn show(&self, report: &Report, renews: bool) {
        let matter = Matter::of(report);
        let (rooms, before) = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(place) = places.get_mut(&report.service) else {
                return;
            };
            // A card that is over is drawn once more by whoever hears of it; then it is left.
            let before = if matter.is_some() {
                std::mem::replace(&mut place.matter, matter.clone())
            } else {
                place.matter.clone()
            };
            (place.rooms.clone(), before)
        };
        if let Some(Matter::Drill(_)) = before.as_ref().filter(|_| matter.is_none()) {
            self.end_drill(report, &rooms);
        }
        for room in &rooms {
            let mouth = self.mouth(room);
            if let Some(matter) = &matter {
                let tag = Tag::Card(report.service.clone(), matter.clone());
                mouth.say(Saying::Put(tag, Post::text(card::live(report))));
            }
            let card = matter
                .iter()
                .cloned()
                .map(|m| Tag::Card(report.service.clone(), m));
            let asks = report.asks.iter();
            let asks = asks.map(|ask| Tag::Question(report.service.clone(), ask.id.clone()));
            mouth.say(Saying::Only(
                report.service.clone(),
                card.chain(asks).collect(),
            ));
            for ask in report.asks.iter().filter(|_| renews) {
                let post = self.talk.question(room, report, ask);
                mouth.say(Saying::Put(
                    Tag::Question(report.service.clone(), ask.id.clone()),
                    post,
                ));
            }
        }
    }

    fn end_drill(&self, report: &Report, rooms: &[Room]) {
        let taken = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places
                .get_mut(&report.service)
                .and_then(|p| p.matter.take())
        };
        let Some(matter @ Matter::Drill(_)) = taken else {
            return;
        };
        let Matter::Drill(id) = &matter else {
            return;
        };
        let last = report.drills.iter().filter_map(|d| d.last.as_ref());
        let how = last.into_iter().find(|last| last.id == *id).map_or_else(
            || "Nothing of it is left.".to_owned(),
            |last| format!("It {}. {}", last.outcome, last.reasons.join("; ")),
        );
        for room in rooms {
            let tag = Tag::Card(report.service.clone(), matter.clone());
            let post = Post::text(card::over(report, &matter, &how));
            self.mouth(room).say(Saying::End(tag, post));
        }
    }
}

fn ended(outcome: &AskOutcome) -> String {
    match outcome {
        AskOutcome::Approved => "is approved".to_owned(),
        AskOutcome::Denied { by, reason } => match reason {
            Some(reason) => format!("was denied by {by}: {reason}"),
            None => format!("was denied by {by}"),
        },
        AskOutcome::Expired { proceed: true } => {
            "was not answered in time; it goes on by itself".to_owned()
        }
        AskOutcome::Expired { proceed: false } => "was not answered in time".to_owned(),
        AskOutcome::Void { reason } => format!("is void: {reason}"),
    }
}

/// The rooms that want every change; a file that cannot be read means none.
fn stalked(state: &std::path::Path) -> BTreeSet<String> {
    fs::read(state.join(STALKED))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn keep(state: &std::path::Path, rooms: &BTreeSet<String>) -> io::Result<()> {
    fs::create_dir_all(state)?;
    let mut new = tempfile::NamedTempFile::new_in(state)?;
    serde_json::to_writer(&mut new, rooms)?;
    new.persist(state.join(STALKED))?;
    Ok(())
}
