//! How much of one person is listened to.

use std::collections::BTreeMap;

use crate::{
    model::{span::Span, time::Time},
    port::chat::Author,
};

/// So much is taken of one person...
const MOST: u32 = 20;
/// ...in this time.
const WINDOW: Span = Span::from_secs(10);
/// People that are kept in mind.
const PEOPLE: usize = 1_000;

/// What came from whom of late.
#[derive(Debug, Default)]
pub struct Flood(BTreeMap<Author, (Time, u32)>);

/// Whether somebody is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Yes.
    Yes,
    /// No, and that is news.
    NoMore,
    /// Still not.
    No,
}

impl Flood {
    /// Notes that somebody spoke.
    pub fn hear(&mut self, author: Author, now: Time) -> Heard {
        if self.0.len() >= PEOPLE {
            self.0.retain(|_, (since, _)| now.since(*since) < WINDOW);
        }
        if self.0.len() >= PEOPLE && !self.0.contains_key(&author) {
            return Heard::No;
        }
        let (since, count) = self.0.entry(author).or_insert((now, 0));
        if now.since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        match (*count).cmp(&(MOST + 1)) {
            std::cmp::Ordering::Less => Heard::Yes,
            std::cmp::Ordering::Equal => Heard::NoMore,
            std::cmp::Ordering::Greater => Heard::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::TelegramUser;

    #[test]
    fn a_thousand_presses_are_not_a_thousand_answers() {
        let mut flood = Flood::default();
        let (ann, ben) = (
            Author::Telegram(TelegramUser(1)),
            Author::Telegram(TelegramUser(2)),
        );
        let start = Time::from_millis(0);
        let heard: Vec<_> = (0..1_000).map(|_| flood.hear(ann, start)).collect();
        let count = |what| heard.iter().filter(|h| **h == what).count();
        assert_eq!((count(Heard::Yes), count(Heard::NoMore)), (20, 1));
        assert_eq!(flood.hear(ben, start), Heard::Yes);
        assert_eq!(flood.hear(ann, start.after(WINDOW)), Heard::Yes);
    }
}
