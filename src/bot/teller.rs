//! What is to be said in one room, in order and no faster than its chat takes it.
//!
//! An answer to a person goes before a card, and of a card only its last state is shown.

use std::{collections::VecDeque, sync::Arc};

use futures::{FutureExt, StreamExt, channel::mpsc, select_biased};

use super::{card::Matter, shown::Shown, ticket::Choice};
use crate::{
    desk::clerk::Clerk,
    model::{
        id::{AskId, ServiceName},
        span::Span,
        time::Time,
    },
    port::{
        chat::{ChatError, Post, PostId, Room, SharedChat},
        runtime::SharedRuntime,
    },
};

/// Messages that pass at once.
const BURST: u64 = 5;
/// Then one passes in this time: groups take 20 a minute.
const PACE: Span = Span::from_secs(3);
/// Time between two edits of one card.
const EDITS: Span = Span::from_secs(3);
/// Whether this process leads is looked at again after this where it does not.
const AGAIN: Span = Span::from_secs(1);
/// Messages that wait at most; whoever floods a room loses the oldest.
const MOST: usize = 200;

/// Messages that are edited in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// The card of a service's incident or drill.
    Card(ServiceName, Matter),
    /// A question.
    Question(ServiceName, AskId),
    /// A choice that one person has.
    Choice(Choice),
}

/// Something to be said.
#[derive(Debug)]
pub enum Saying {
    /// A message.
    Say(Post),
    /// A message that takes the place of the one with the same tag.
    Put(Tag, Post),
    /// The message with this tag is edited no more after this; nothing is said where there is none.
    End(Tag, Post),
    /// Of a service's cards and questions only these are still open.
    Only(ServiceName, Vec<Tag>),
    /// An earlier process showed this message: it is the one with this tag.
    Known(Tag, PostId, String),
    /// The message with this tag keeps its text, loses its buttons, and says how it ended.
    Close(Tag, String),
}

/// A room's mouth.
#[derive(Clone, Debug)]
pub struct Teller(mpsc::UnboundedSender<Saying>);

impl Teller {
    /// Begins to speak in a room, until the last handle is dropped.
    pub fn start(
        chat: SharedChat,
        room: Room,
        runtime: &SharedRuntime,
        shown: Arc<Shown>,
        clerk: Arc<Clerk>,
    ) -> Self {
        let (say, said) = mpsc::unbounded();
        let mouth = Mouth {
            chat,
            room,
            shown,
            clerk,
            runtime: runtime.clone(),
            waiting: VecDeque::new(),
            cards: Vec::new(),
            passes: BURST,
            counted: runtime.now(),
            not_before: runtime.now(),
            is_broken: false,
            was_message: false,
        };
        runtime.spawn("a room's mouth", mouth.speak(said).boxed());
        Self(say)
    }

    /// Has something said.
    pub fn say(&self, saying: Saying) {
        if self.0.unbounded_send(saying).is_err() {
            tracing::debug!("a room is not spoken in any more");
        }
    }
}

/// A message that is edited in place.
struct Kept {
    tag: Tag,
    id: Option<PostId>,
    shown: Option<Post>,
    wanted: Option<Post>,
    edited: Time,
    ends: bool,
}

struct Mouth {
    chat: SharedChat,
    room: Room,
    shown: Arc<Shown>,
    clerk: Arc<Clerk>,
    runtime: SharedRuntime,
    waiting: VecDeque<Post>,
    cards: Vec<Kept>,
    passes: u64,
    counted: Time,
    not_before: Time,
    is_broken: bool,
    /// Whether the last thing that was said was a message.
    was_message: bool,
}

impl Mouth {
    async fn speak(mut self, mut said: mpsc::UnboundedReceiver<Saying>) {
        loop {
            let due = self.due();
            let wake = async {
                match due {
                    Some(at) => self.runtime.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            select_biased! {
                saying = said.next() => match saying {
                    Some(saying) => self.take(saying),
                    // Whoever does not lead any more says nothing any more.
                    None => return,
                },
                () = wake.boxed().fuse() => self.turn().await,
            }
        }
    }

    fn take(&mut self, saying: Saying) {
        match saying {
            Saying::Say(post) => {
                self.waiting.push_back(post);
                if self.waiting.len() > MOST {
                    self.waiting.pop_front();
                }
            }
            Saying::Put(tag, post) => self.put(tag, post, false),
            Saying::End(tag, post) => {
                if self.cards.iter().any(|kept| kept.tag == tag) {
                    self.put(tag, post, true);
                }
            }
            Saying::Only(service, open) => {
                let is_over = |tag: &Tag| match tag {
                    Tag::Card(of, _) | Tag::Question(of, _) => {
                        *of == service && !open.contains(tag)
                    }
                    Tag::Choice(_) => false,
                };
                let over: Vec<Tag> = self
                    .cards
                    .iter()
                    .filter(|kept| !kept.ends && is_over(&kept.tag))
                    .map(|kept| kept.tag.clone())
                    .collect();
                for tag in over {
                    self.take(Saying::Close(tag, "→ this is over".to_owned()));
                }
            }
            Saying::Known(tag, id, text) => {
                if !self.cards.iter().any(|kept| kept.tag == tag) {
                    self.cards.push(Kept {
                        tag,
                        id: Some(id),
                        shown: Some(Post::text(text)),
                        wanted: None,
                        edited: self.runtime.now().before(EDITS),
                        ends: false,
                    });
                }
            }
            Saying::Close(tag, how) => {
                let kept = self.cards.iter().find(|kept| kept.tag == tag);
                let post = kept.and_then(|kept| kept.wanted.as_ref().or(kept.shown.as_ref()));
                if let Some(post) = post {
                    let post = Post::text(format!("{}\n{how}", post.text));
                    self.put(tag, post, true);
                }
            }
        }
    }

    fn put(&mut self, tag: Tag, post: Post, ends: bool) {
        if let Some(kept) = self.cards.iter_mut().find(|kept| kept.tag == tag) {
            kept.wanted = (kept.shown.as_ref() != Some(&post)).then_some(post);
            kept.ends |= ends;
        } else {
            self.cards.push(Kept {
                tag,
                id: None,
                shown: None,
                wanted: Some(post),
                edited: self.runtime.now().before(EDITS),
                ends,
            });
        }
        if self.cards.len() > MOST {
            self.cards.remove(0);
        }
        self.cards.retain(|kept| !kept.is_over());
    }

    /// When there is something to say next.
    fn due(&self) -> Option<Time> {
        let message = (!self.waiting.is_empty()).then_some(self.not_before);
        let card = self
            .cards
            .iter()
            .filter(|kept| kept.wanted.is_some())
            .map(|kept| kept.edited.after(EDITS).max(self.not_before))
            .min();
        let soonest = [message, card].into_iter().flatten().min()?;
        Some(soonest.max(self.next_pass()))
    }

    fn next_pass(&self) -> Time {
        if self.passes > 0 {
            self.counted
        } else {
            self.counted.after(PACE)
        }
    }

    async fn turn(&mut self) {
        let now = self.runtime.now();
        let gained = now.since(self.counted).as_millis() / PACE.as_millis();
        if gained > 0 {
            self.passes = self.passes.saturating_add(gained).min(BURST);
            self.counted = now;
        }
        if self.passes == 0 || now < self.not_before {
            return;
        }
        // Another process may lead by now, and say it itself.
        if !self.clerk.controller.leads() {
            self.not_before = now.after(AGAIN);
            return;
        }
        let is_due = |kept: &Kept| kept.wanted.is_some() && now >= kept.edited.after(EDITS);
        let is_question = |kept: &Kept| matches!(kept.tag, Tag::Question(..));
        let asks = self.cards.iter().any(|k| is_due(k) && is_question(k));
        let shows = self.cards.iter().any(is_due);
        // A question goes before everything; else messages and cards take turns.
        let message_next = !asks && (!shows || !self.was_message);
        self.was_message = false;
        if message_next && let Some(post) = self.waiting.pop_front() {
            self.was_message = true;
            self.passes -= 1;
            let said = self.chat.post(&self.room, &post).await;
            // A message that may have been said is not said again.
            if let Err(ChatError::Later { .. }) = &said {
                self.waiting.push_front(post);
            }
            self.settle(said.map(drop));
            return;
        }
        let mut due = self.cards.iter_mut().filter(|k| is_due(k));
        let Some(kept) = due.find(|k| !asks || is_question(k)) else {
            return;
        };
        self.passes -= 1;
        kept.edited = now;
        let Some(post) = kept.wanted.take() else {
            return;
        };
        let said = match &kept.id {
            Some(id) => self.chat.edit(&self.room, id, &post).await,
            None => match self.chat.post(&self.room, &post).await {
                Ok(id) => {
                    kept.id = Some(id);
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        match &said {
            Ok(()) | Err(ChatError::Broken { .. }) => kept.shown = Some(post),
            // An edit that may be there can be made once more; a message that may be there would stand twice.
            Err(ChatError::Lost { .. }) if kept.id.is_none() => kept.shown = Some(post),
            Err(ChatError::Later { .. } | ChatError::Lost { .. }) => kept.wanted = Some(post),
            // Somebody removed it, or it is too old to be edited: the next state is a new message.
            Err(ChatError::Refused { .. }) => kept.id = None,
        }
        let text = kept.shown.as_ref().map(|post| post.text.as_str());
        let message = kept.id.as_ref().zip(text).filter(|_| !kept.is_over());
        self.shown.keep(&self.room, &kept.tag, message);
        self.cards.retain(|kept| !kept.is_over());
        self.settle(said);
    }

    fn settle(&mut self, said: Result<(), ChatError>) {
        match said {
            Ok(()) => self.is_broken = false,
            Err(ChatError::Later { after, reason }) => {
                tracing::debug!(room = %self.room.0, reason, wait = %after, "a chat wants slower words");
                self.not_before = self.runtime.now().after(after);
            }
            Err(ChatError::Lost { reason } | ChatError::Refused { reason }) => {
                tracing::warn!(room = %self.room.0, reason, "a message was not said for sure");
            }
            Err(ChatError::Broken { reason }) => {
                if !std::mem::replace(&mut self.is_broken, true) {
                    tracing::error!(room = %self.room.0, reason, "nothing can be said in this room");
                }
            }
        }
    }
}

impl Kept {
    fn is_over(&self) -> bool {
        self.ends && self.wanted.is_none()
    }
}
