//! Messages that are edited in place, written down so that the next process edits or closes them too.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{card::Matter, teller::Tag};
use crate::{
    model::id::{AskId, IncidentId, RunId, ServiceName},
    port::chat::{PostId, Room},
};

/// Where a service's messages are kept.
const FILE: &str = "chat-shown.json";
/// Messages of one service that are kept; the oldest go first.
const MOST: usize = 100;

/// A message as it was shown last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    about: About,
    room: String,
    id: String,
    text: String,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum About {
    Incident(IncidentId),
    Drill(RunId),
    Question(AskId),
}

impl About {
    /// A choice is one person's and ends with its process: nothing of it is kept.
    fn of(tag: &Tag) -> Option<(&ServiceName, Self)> {
        match tag {
            Tag::Card(service, Matter::Incident(id)) => Some((service, Self::Incident(id.clone()))),
            Tag::Card(service, Matter::Drill(id)) => Some((service, Self::Drill(id.clone()))),
            Tag::Question(service, id) => Some((service, Self::Question(id.clone()))),
            Tag::Choice(_) => None,
        }
    }

    fn tag(self, service: &ServiceName) -> Tag {
        match self {
            Self::Incident(id) => Tag::Card(service.clone(), Matter::Incident(id)),
            Self::Drill(id) => Tag::Card(service.clone(), Matter::Drill(id)),
            Self::Question(id) => Tag::Question(service.clone(), id),
        }
    }
}

/// What stands in the rooms, service by service.
#[derive(Debug, Default)]
pub struct Shown(Mutex<BTreeMap<ServiceName, (PathBuf, Vec<Entry>)>>);

impl Shown {
    /// Takes up what an earlier process showed of a service: each message with its room, id and text. A file that
    /// cannot be read means none.
    pub fn open(&self, service: &ServiceName, state: &Path) -> Vec<(Room, Tag, PostId, String)> {
        let file = state.join(FILE);
        let read = fs::read(&file).ok();
        let entries: Vec<Entry> = read
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let known = entries.iter().cloned().map(|entry| {
            let tag = entry.about.tag(service);
            (Room(entry.room), tag, PostId(entry.id), entry.text)
        });
        let known = known.collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(service.clone(), (file, entries));
        known
    }

    /// Writes down how a message stands in a room, or that it is edited no more.
    pub fn keep(&self, room: &Room, tag: &Tag, message: Option<(&PostId, &str)>) {
        let Some((service, about)) = About::of(tag) else {
            return;
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((file, entries)) = all.get_mut(service) else {
            return;
        };
        let before = entries.clone();
        entries.retain(|entry| entry.room != room.0 || entry.about != about);
        entries.extend(message.map(|(id, text)| Entry {
            about,
            room: room.0.clone(),
            id: id.0.clone(),
            text: text.to_owned(),
        }));
        if entries.len() > MOST {
            entries.remove(0);
        }
        if *entries != before
            && let Err(error) = write(file, entries)
        {
            tracing::warn!(%error, "what is shown in the chat could not be kept");
        }
    }
}

fn write(file: &Path, entries: &[Entry]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut new, entries)?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_found_again_until_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let (shop, room) = (ServiceName::from("shop"), Room("-1".to_owned()));
        let card = Tag::Card(shop.clone(), Matter::Incident("shop-i7".into()));
        let question = Tag::Question(shop.clone(), "shop-a9".into());
        let shown = Shown::default();
        assert_eq!(shown.open(&shop, folder.path()), []);
        let id = |n: &str| PostId(n.to_owned());
        shown.keep(&room, &card, Some((&id("5"), "down")));
        shown.keep(&room, &question, Some((&id("6"), "may it?")));
        shown.keep(&room, &card, Some((&id("5"), "still down")));
        shown.keep(&room, &question, None);
        let found = Shown::default().open(&shop, folder.path());
        assert_eq!(found, [(room, card, id("5"), "still down".to_owned())]);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let shop = ServiceName::from("shop");
        let shown = Shown::default();
        shown.open(&shop, folder.path());
        for n in 0..MOST + 5 {
            let tag = Tag::Question(shop.clone(), AskId::new(format!("shop-a{n}")));
            shown.keep(
                &Room("-1".to_owned()),
                &tag,
                Some((&PostId(n.to_string()), "?")),
            );
        }
        let found = Shown::default().open(&shop, folder.path());
        assert_eq!(found.len(), MOST);
        assert_eq!(found[0].2, PostId("5".to_owned()));
    }
}
