//! A button is pressed.

use std::sync::PoisonError;

use super::{
    session::Bot,
    teller::{Saying, Tag},
    ticket::{self, Choice, Deed},
};
use crate::{
    desk::{message::Wish, speaker::Speaker},
    model::id::ServiceName,
    port::chat::{Author, Post, PressId, Room},
};

impl Bot {
    /// Does what a button says, where whoever pressed it may.
    pub async fn press(
        &self,
        room: &Room,
        is_private: bool,
        author: Author,
        press: &PressId,
        word: &str,
    ) {
        let Author::Telegram(user) = author else {
            return self
                .answer(press, "Nobody can tell who you are.", true)
                .await;
        };
        let speaker = Speaker::Telegram(user);
        let services = self.spoken_of(room, is_private, &speaker);
        if services.is_empty() {
            let here = self.here(room);
            self.note_strangers(author, &here, "pressed a button and is nobody of the team")
                .await;
            return self
                .answer(press, "You are nobody of the team here.", true)
                .await;
        }
        let of = {
            let tickets = self
                .talk
                .tickets
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            tickets.service(word).cloned()
        };
        if let Some(of) = of.filter(|of| services.iter().all(|s| s.name != *of)) {
            let why = format!("You are nobody of the team of {of}.");
            self.note_strangers(author, &services, "pressed a button of another service")
                .await;
            return self.answer(press, &why, true).await;
        }
        let taken = {
            let mut tickets = self
                .talk
                .tickets
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            tickets.take(word, room, &speaker, self.runtime.now())
        };
        let ticket = match taken {
            Ok(ticket) => ticket,
            Err(why) => {
                let why = match why {
                    ticket::Refused::Unknown => {
                        "This button was used, or is not valid any more: /status shows what is open."
                    }
                    ticket::Refused::Expired => {
                        "This button is too old: /status shows what is open."
                    }
                    ticket::Refused::Elsewhere => "This button is of another room.",
                    ticket::Refused::NotYours => "This button is somebody else's.",
                };
                self.note_strangers(author, &services, &format!("pressed a button: {why}"))
                    .await;
                return self.answer(press, why, true).await;
            }
        };
        let who = services.iter().find(|s| s.name == ticket.service);
        let who = who.and_then(|s| speaker.person(s));
        let by = who.map_or_else(String::new, |person| format!("{}: ", person.name));
        let wish = match ticket.deed {
            Deed::Drop(what) => {
                self.close_choice(room, ticket.choice, format!("→ {by}nothing is done"));
                self.answer(press, "Nothing is done.", false).await;
                let text = format!("decided in the chat not to go on: {what}");
                return self.note(&speaker, &ticket.service, text).await;
            }
            Deed::Give(wish) => *wish,
            Deed::Tell {
                wish,
                incident,
                phase,
            } => {
                let report = self.talk.report(&speaker, &ticket.service).await;
                if !report.is_ok_and(|r| r.incident == incident && r.phase == phase) {
                    let why = "Not done: things have changed since it was shown.";
                    self.close_choice(room, ticket.choice, format!("→ {by}{why}"));
                    return self.answer(press, why, true).await;
                }
                *wish
            }
        };
        let given = self
            .in_time(
                room,
                self.talk.give(&speaker, &ticket.service, wish.clone()),
            )
            .await;
        match given {
            Ok(said) => {
                self.answer(press, "Done.", false).await;
                if ticket.choice.is_some() {
                    self.close_choice(room, ticket.choice, format!("→ {by}{said}"));
                } else {
                    self.say(room, Post::text(format!("{by}{said}")));
                }
            }
            Err(why) => {
                self.answer(press, &format!("Not done: {why}"), true).await;
                self.close_choice(room, ticket.choice, format!("→ not done: {why}"));
                self.restore(room, &ticket.service, &wish).await;
            }
        }
    }

    /// Writes down, and shows, which choices nobody took while their buttons were good.
    pub async fn close_lapsed(&self) {
        let lapsed = {
            let tickets = self.talk.tickets.lock();
            let mut tickets = tickets.unwrap_or_else(PoisonError::into_inner);
            tickets.lapsed(self.runtime.now())
        };
        for ticket in lapsed {
            self.close_choice(
                &ticket.room,
                ticket.choice,
                "→ nobody pressed a button in time: nothing is done".to_owned(),
            );
            if let (Some(of), Deed::Drop(what)) = (ticket.of, ticket.deed) {
                let text = format!("was asked in the chat and did not answer in time: {what}");
                self.note(&of, &ticket.service, text).await;
            }
        }
    }

    async fn note(&self, speaker: &Speaker, service: &ServiceName, text: String) {
        let noted = self.talk.give(speaker, service, Wish::Note { text }).await;
        if let Err(why) = noted {
            tracing::warn!(%service, why, "what was decided in the chat could not be written down");
        }
    }

    /// A question whose button was used up by somebody who may not answer it gets new ones.
    async fn restore(&self, room: &Room, service: &ServiceName, wish: &Wish) {
        let (Wish::Approve { ask, .. } | Wish::Deny { ask, .. }) = wish else {
            return;
        };
        if let Ok(report) = self.talk.report(&Speaker::host(), service).await
            && let Some(open) = report.asks.iter().find(|a| a.id == *ask)
        {
            let post = self.talk.question(room, &report, open);
            self.mouth(room).say(Saying::Put(
                Tag::Question(service.clone(), ask.clone()),
                post,
            ));
        }
    }

    fn close_choice(&self, room: &Room, choice: Option<Choice>, how: String) {
        if let Some(choice) = choice {
            self.mouth(room)
                .say(Saying::Close(Tag::Choice(choice), how));
        }
    }

    async fn answer(&self, press: &PressId, text: &str, aloud: bool) {
        if !self.talk.clerk.controller.leads() {
            return;
        }
        if let Err(error) = self.chat.answer(press, text, aloud).await {
            tracing::debug!(%error, "whoever pressed a button was not answered");
        }
    }
}
