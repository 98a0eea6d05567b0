//! Telegram's Bot API as channels and chats use it, through teloxide: one bot, its token, and the groups that moved.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use teloxide::{
    Bot,
    requests::Requester,
    types::{ChatId, Recipient as Chat},
};

use self::answer::{Answer, answer};
use super::{endpoint, kind::Problem, kind::Wiring, secret::SharedSecrets};
use crate::model::{
    check::{CheckItem, CheckStatus},
    secret::{Secret, SecretRef},
    span::Span,
};

pub mod answer;
pub mod markdown;

/// Where the Bot API is, unless documents say otherwise.
#[must_use]
pub fn base_url() -> String {
    "https://api.telegram.org".to_owned()
}

/// Time-out of one request, unless documents say otherwise.
#[must_use]
pub fn timeout() -> Span {
    Span::from_secs(17)
}

/// The longest message after its markup is taken off, in UTF-16 units.
pub const LONGEST: usize = 4096;

/// Where it is remembered which groups have become supergroups.
const MOVED: &str = "telegram-moved.json";

/// A bot by its token.
pub struct Account {
    token: SecretRef,
    base_url: String,
    timeout: Span,
    secrets: SharedSecrets,
    /// Groups that have become supergroups: their new ids.
    moved: Mutex<BTreeMap<String, i64>>,
    file: PathBuf,
    /// The bot of the token that was last read.
    bot: Mutex<Option<(Secret, Bot)>>,
}

impl Account {
    /// The bot of a token; `timeout` is that of one request.
    #[must_use]
    pub fn new(token: &SecretRef, base_url: &str, timeout: Span, wiring: &Wiring) -> Self {
        let file = wiring.state.join(MOVED);
        Self {
            token: token.clone(),
            base_url: base_url.to_owned(),
            timeout,
            secrets: wiring.secrets.clone(),
            moved: Mutex::new(moved(&file)),
            file,
            bot: Mutex::new(None),
        }
    }

    /// The bot of today's token; its connections outlive a change of the token.
    ///
    /// # Errors
    /// In plain words, where the token cannot be read or no client can be made.
    pub fn bot(&self) -> Result<Bot, String> {
        let token = self
            .secrets
            .read(&self.token)
            .map_err(|e| format!("the bot's token cannot be read: {e}"))?;
        let url = url::Url::parse(self.base_url.trim_end_matches('/'))
            .map_err(|e| format!("baseUrl is no URL: {e}"))?;
        let mut kept = self.bot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, bot)) = kept.as_ref()
            && *of == token
        {
            return Ok(bot.clone());
        }
        let client = match kept.as_ref() {
            Some((_, bot)) => bot.client().clone(),
            None => teloxide::net::default_reqwest_settings()
                .timeout(self.timeout.to_std())
                .build()
                .map_err(|_| {
                    "no HTTPS client can be made: check this host's root certificates".to_owned()
                })?,
        };
        let bot = Bot::with_client(token.expose(), client).set_api_url(url);
        *kept = Some((token, bot.clone()));
        Ok(bot)
    }

    /// Whether the bot and its chats can be had, as items of the kind of this name; `fix` says what to do about a chat.
    pub async fn check(&self, kind: &str, chats: &[String], fix: &str) -> Vec<CheckItem> {
        let name = format!("{kind}/bot");
        let bot = match self.bot() {
            Ok(bot) => bot,
            Err(reason) => {
                let fix = "set the bot's token";
                return vec![CheckItem::bad(name, CheckStatus::Fail, reason, fix)];
            }
        };
        let me = answer(bot.get_me().await.map(|me| me.username().to_owned()));
        let is_known = matches!(me, Answer::Posted { .. });
        let mut items = vec![item(&name, me, "make a new token with @BotFather")];
        for named in chats.iter().filter(|_| is_known) {
            let Some(chat) = self.chat(named) else {
                continue;
            };
            let seen = answer(bot.get_chat(chat).await.map(|_| named.clone()));
            items.push(item(&format!("{kind}/chat/{named}"), seen, fix));
        }
        items
    }

    /// The chat that a document names, where it is now.
    #[must_use]
    pub fn chat(&self, name: &str) -> Option<Chat> {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        match moved.get(name) {
            Some(id) => Some(Chat::Id(ChatId(*id))),
            None => parse(name),
        }
    }

    /// As documents name a chat that has this id now.
    #[must_use]
    pub fn name(&self, id: i64) -> String {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let named = moved.iter().find(|(_, new)| **new == id);
        named.map_or_else(|| id.to_string(), |(name, _)| name.clone())
    }

    /// Remembers that a group has become a supergroup.
    pub fn remember(&self, name: &str, id: i64) {
        let mut known = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), id);
        // Another channel may have noted its own groups since this one was made.
        let mut all = moved(&self.file);
        all.append(&mut known.clone());
        if let Err(e) = keep(&self.file, &all) {
            tracing::warn!(error = %e, chat = name, new_id = id, "cannot note that a Telegram group has a new id: change it in chats");
        }
    }
}

/// A chat as documents name it: `@channel`, or a number.
#[must_use]
pub fn parse(chat: &str) -> Option<Chat> {
    match chat.strip_prefix('@') {
        Some(name) if !name.is_empty() => Some(Chat::ChannelUsername(chat.to_owned())),
        Some(_) => None,
        None => chat.parse().ok().map(|id| Chat::Id(ChatId(id))),
    }
}

/// What is wrong with the settings that every user of the Bot API has.
#[must_use]
pub fn problems(base_url: &str, chats: &[String]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = endpoint::problem("baseUrl", base_url).into_iter().collect();
    if chats.is_empty() {
        problems.push(Problem::new(
            "chats",
            "is empty, expected at least one chat",
        ));
    }
    for (i, chat) in chats.iter().enumerate() {
        if parse(chat).is_none() {
            problems.push(
                Problem::new(format!("chats[{i}]"), "is no chat")
                    .hint("write @channel, or the chat's number in quotes"),
            );
        }
    }
    problems
}

fn item(name: &str, answer: Answer, fix: &str) -> CheckItem {
    match answer {
        Answer::Posted { id } => CheckItem::ok(name, id.unwrap_or_else(|| "answers".to_owned())),
        Answer::Later { reason, .. } | Answer::Lost { reason } => {
            CheckItem::bad(name, CheckStatus::Unknown, reason, "check again later")
        }
        Answer::Moved { to } => CheckItem::bad(
            name,
            CheckStatus::Warn,
            format!("the group has become a supergroup with id {to}"),
            "write the new id into chats",
        ),
        Answer::Closed { reason }
        | Answer::Token { reason }
        | Answer::Unparsable { reason }
        | Answer::Refused { reason } => CheckItem::bad(name, CheckStatus::Fail, reason, fix),
    }
}

/// What was noted of groups that moved; a file that cannot be read only costs one more request each.
fn moved(file: &Path) -> BTreeMap<String, i64> {
    fs::read(file)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn keep(file: &Path, moved: &BTreeMap<String, i64>) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut new, moved)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_are_names_or_numbers() {
        assert_eq!(
            parse("@status"),
            Some(Chat::ChannelUsername("@status".to_owned()))
        );
        assert_eq!(parse("-100123"), Some(Chat::Id(ChatId(-100_123))));
        assert_eq!(parse("status"), None);
        assert_eq!(parse("@"), None);
    }

    #[test]
    fn what_moved_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state").join(MOVED);
        assert!(moved(&file).is_empty());
        let map = BTreeMap::from([("-5".to_owned(), -1005)]);
        keep(&file, &map).unwrap();
        assert_eq!(moved(&file), map);
        fs::write(&file, "half").unwrap();
        assert!(moved(&file).is_empty());
    }
}
