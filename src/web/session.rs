//! Sessions: who has logged in with a browser. They are in memory only, and so end with the process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;

use crate::{
    desk::token::TokenHash,
    model::{secret::Secret, span::Span, time::Time},
};

/// A session ends when nobody has used it for so long.
const IDLE: Span = Span::from_secs(2 * 60 * 60);
/// It ends after so long in any case.
const LONGEST: Span = Span::from_secs(12 * 60 * 60);
/// Sessions at once; the one that was not used for longest gives way.
const KEPT: usize = 512;

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<BTreeMap<Key, Session>>);

/// A session's name here: the hash of what the browser holds, so that nobody who reads memory or a log can use it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(TokenHash);

#[derive(Debug)]
struct Session {
    holder: TokenHash,
    csrf: Secret,
    begun: Time,
    used: Time,
    said: Option<Said>,
}

/// What is told once, on the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether something was done.
    pub done: bool,
    /// What.
    pub text: String,
}

/// A session that holds.
#[derive(Clone, Debug)]
pub struct Known {
    /// Which.
    pub key: Key,
    /// The hash of the personal token that it was begun with.
    pub holder: TokenHash,
    csrf: Secret,
}

impl Known {
    /// What every form of this session carries.
    #[must_use]
    pub fn csrf(&self) -> &str {
        self.csrf.expose()
    }

    /// Whether a form is one of this session's; compared in constant time.
    #[must_use]
    pub fn owns(&self, csrf: &str) -> bool {
        self.csrf().as_bytes().ct_eq(csrf.as_bytes()).into()
    }
}

impl Sessions {
    /// Begins a session; the answer is what the browser is to hold. It is always a fresh one, whatever the browser
    /// held before.
    #[must_use]
    pub fn begin(&self, holder: TokenHash, now: Time) -> Secret {
        let id = random();
        let mut open = self.open();
        open.retain(|_, session| session.holds(now));
        while open.len() >= KEPT {
            let eldest = open.iter().min_by_key(|(_, s)| s.used);
            let Some(eldest) = eldest.map(|(key, _)| key.clone()) else {
                break;
            };
            open.remove(&eldest);
        }
        let session = Session {
            holder,
            csrf: random(),
            begun: now,
            used: now,
            said: None,
        };
        open.insert(Key(TokenHash::of(&id)), session);
        id
    }

    /// The session of what a browser holds, where it still is one; it counts as used.
    #[must_use]
    pub fn find(&self, id: &Secret, now: Time) -> Option<Known> {
        let key = Key(TokenHash::of(id));
        let mut open = self.open();
        let session = open.get_mut(&key).filter(|s| s.holds(now))?;
        session.used = now;
        Some(Known {
            holder: session.holder.clone(),
            csrf: session.csrf.clone(),
            key,
        })
    }

    /// Whether a session holds; asking does not count as using it.
    #[must_use]
    pub fn holds(&self, key: &Key, now: Time) -> bool {
        self.open().get(key).is_some_and(|s| s.holds(now))
    }

    /// Ends a session.
    pub fn end(&self, key: &Key) {
        self.open().remove(key);
    }

    /// Has the next page of a session say something.
    pub fn say(&self, key: &Key, said: Said) {
        if let Some(session) = self.open().get_mut(key) {
            session.said = Some(said);
        }
    }

    /// What is to be said, once.
    #[must_use]
    pub fn hear(&self, key: &Key) -> Option<Said> {
        self.open().get_mut(key)?.said.take()
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Key, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn holds(&self, now: Time) -> bool {
        now.since(self.used) < IDLE && now.since(self.begun) < LONGEST
    }
}

/// 256 random bits.
fn random() -> Secret {
    let bytes: [u8; 32] = rand::random();
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time::from_millis(secs * 1000)
    }

    fn holder() -> TokenHash {
        TokenHash::of(&Secret::new("fot_somebody"))
    }

    #[test]
    fn a_session_ends_when_it_is_not_used_and_after_a_day_of_work_in_any_case() {
        let sessions = Sessions::default();
        let id = sessions.begin(holder(), at(0));
        let (idle, longest) = (7_200, 43_200);
        assert!(sessions.find(&id, at(idle - 1)).is_some());
        assert!(
            sessions.find(&id, at(2 * idle - 2)).is_some(),
            "it was used"
        );
        assert!(sessions.find(&id, at(4 * idle)).is_none());
        let id = sessions.begin(holder(), at(0));
        for secs in (0..longest).step_by(3_600) {
            assert!(sessions.find(&id, at(secs)).is_some(), "{secs}");
        }
        assert!(sessions.find(&id, at(longest)).is_none());
    }

    #[test]
    fn looking_at_a_session_does_not_prolong_it() {
        let sessions = Sessions::default();
        let id = sessions.begin(holder(), at(0));
        let key = sessions.find(&id, at(0)).unwrap().key;
        for secs in (0..7_200).step_by(100) {
            assert!(sessions.holds(&key, at(secs)));
        }
        assert!(!sessions.holds(&key, at(7_200)));
    }

    #[test]
    fn each_session_has_forms_of_its_own() {
        let sessions = Sessions::default();
        let [one, other] = [0, 1].map(|secs| {
            let id = sessions.begin(holder(), at(secs));
            sessions.find(&id, at(secs)).unwrap()
        });
        assert!(one.owns(one.csrf()) && !one.owns(other.csrf()) && !one.owns(""));
        assert_ne!(one.key, other.key);
        sessions.end(&one.key);
        assert!(!sessions.holds(&one.key, at(1)) && sessions.holds(&other.key, at(1)));
    }

    #[test]
    fn too_many_sessions_push_out_the_one_that_was_not_used_for_longest() {
        let sessions = Sessions::default();
        let first = sessions.begin(holder(), at(0));
        let second = sessions.begin(holder(), at(1));
        assert!(sessions.find(&first, at(2)).is_some());
        for _ in 2..=KEPT {
            let _ = sessions.begin(holder(), at(3));
        }
        assert!(sessions.find(&first, at(4)).is_some());
        assert!(sessions.find(&second, at(4)).is_none());
    }

    #[test]
    fn what_is_said_is_said_once() {
        let sessions = Sessions::default();
        let id = sessions.begin(holder(), at(0));
        let key = sessions.find(&id, at(0)).unwrap().key;
        let said = Said {
            done: true,
            text: "paused".to_owned(),
        };
        sessions.say(&key, said.clone());
        assert_eq!(sessions.hear(&key), Some(said));
        assert_eq!(sessions.hear(&key), None);
    }
}
