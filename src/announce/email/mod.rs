//! Mail to everybody on a list, or to a team.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lettre::message::Mailbox;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{
    letter::{DkimWith, Letter, LetterError},
    list::{Kept, List, ListError, ListWith},
    smtp::{Failure, Smtp, SmtpWith, Stage},
    unsubscribe::{Leaving, PATH, UnsubscribeWith},
    verdict::Policy,
};
use super::message::Message;
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::IdempotencyKey,
        secret::Secret,
        span::Span,
    },
    port::{
        cause,
        channel::{Channel, Compiled, Notice, Recipient, RecipientsError, Sent, SharedChannel},
        endpoint,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
    },
};

mod address;
pub mod letter;
pub mod list;
pub mod smtp;
mod source;
pub mod unsubscribe;
mod verdict;

/// `announce/email`.
pub const KIND: Kind = Kind::new::<EmailWith>(
    "announce/email",
    "mail to everybody on a list",
    "smtp:\n  host: mail.example.net\n  login: {user: status, password: {env: SMTP_PASSWORD}}\n\
     from: Example status <status@example.net>\nlist: {csv: /etc/failover/customers.csv}\n\
     unsubscribe: {url: \"https://status.example.net\", key: {env: UNSUBSCRIBE_KEY}}\n",
    Make::Channel(make),
);

/// The shortest key for unsubscribe links, in characters.
const SHORTEST_KEY: usize = 16;

/// Settings of `announce/email`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmailWith {
    /// The mail server that takes the mails.
    pub smtp: SmtpWith,
    /// Who they are from: `Name <user@host>`.
    pub from: String,
    /// Where answers go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Where mails go that cannot be delivered; default: `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounces: Option<String>,
    /// Who gets them.
    pub list: ListWith,
    /// How old the list may be before readiness complains.
    #[serde(default = "max_age")]
    pub max_age: Span,
    /// How many percent of the recipients a refresh may lose before it is refused.
    #[serde(default = "may_lose")]
    pub may_lose_percent: u8,
    /// Longest time that fetching the list may take.
    #[serde(default = "list_timeout")]
    pub list_timeout: Span,
    /// One-click unsubscribing; compulsory for a list of customers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsubscribe: Option<UnsubscribeWith>,
    /// Signature, where the mail server does not sign itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dkim: Option<DkimWith>,
    /// How many mails may be under way at once.
    #[serde(default = "workers")]
    pub workers: u8,
}

fn max_age() -> Span {
    Span::from_secs(24 * 3600)
}

fn may_lose() -> u8 {
    20
}

fn list_timeout() -> Span {
    Span::from_secs(60)
}

fn workers() -> u8 {
    4
}

impl With for EmailWith {
    fn program(&self) -> Option<&'static str> {
        matches!(self.list, ListWith::Command(_)).then_some("list.command")
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.smtp.problems();
        problems.extend(self.list.problems());
        for (field, value) in [
            ("from", Some(&self.from)),
            ("replyTo", self.reply_to.as_ref()),
            ("bounces", self.bounces.as_ref()),
        ] {
            if value.is_some_and(|v| mailbox(v).is_none()) {
                problems.push(
                    Problem::new(field, "is no email address")
                        .hint("write user@host, or Name <user@host>"),
                );
            }
        }
        match &self.unsubscribe {
            Some(with) => problems.extend(endpoint::problem("unsubscribe.url", &with.url)),
            None if matches!(self.list, ListWith::Addresses(_)) => {}
            None => problems.push(
                Problem::new(
                    "unsubscribe",
                    "is missing: people on a list must be able to leave it",
                )
                .hint("give the public url of the status listener and a key"),
            ),
        }
        if self.may_lose_percent > 100 {
            problems.push(Problem::new("mayLosePercent", "is more than 100"));
        }
        if self.workers == 0 {
            problems.push(Problem::new("workers", "is zero"));
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        // The source of the list is not among them: it is read ahead of need.
        vec![self.smtp.host.clone()]
    }
}

fn mailbox(text: &str) -> Option<Mailbox> {
    if text.chars().any(char::is_control) {
        return None;
    }
    text.parse().ok()
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedChannel, MakeError> {
    let with: EmailWith = read(with)?;
    let wrong = |field: &str| MakeError(format!("with.{field}: is no email address"));
    let optional = |field: &'static str, text: &Option<String>| match text {
        Some(text) => mailbox(text).map(Some).ok_or_else(|| wrong(field)),
        None => Ok(None),
    };
    Ok(Arc::new(Email {
        from: mailbox(&with.from).ok_or_else(|| wrong("from"))?,
        reply_to: optional("replyTo", &with.reply_to)?,
        bounces: optional("bounces", &with.bounces)?,
        list: List::new(with.list.clone(), with.may_lose_percent, &wiring.state),
        smtp: Smtp::new(
            with.smtp.clone(),
            Arc::clone(&wiring.secrets),
            Arc::clone(&wiring.runtime),
        ),
        policy: Mutex::default(),
        wiring: wiring.clone(),
        with,
    }))
}

struct Email {
    with: EmailWith,
    wiring: Wiring,
    from: Mailbox,
    reply_to: Option<Mailbox>,
    bounces: Option<Mailbox>,
    list: List,
    smtp: Arc<Smtp>,
    policy: Mutex<Policy>,
}

#[async_trait]
impl Channel for Email {
    fn compile(&self, notice: &Notice) -> Compiled {
        let message = Message::of(notice);
        let text = message.long.text();
        Compiled {
            html: Some(letter::paragraphs(&text).into_string()),
            subject: Some(message.subject),
            text,
            ..Compiled::default()
        }
    }

    /// Whoever asks begins a mailing: what the server refused in the one before is forgotten.
    async fn recipients(&self) -> Result<Vec<Recipient>, RecipientsError> {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = Policy::default();
        let known = match self.kept().await? {
            // An outage right after the first start: now is late, and better than never.
            Err(ListError::Missing) => self.fetch().await.map(|kept| {
                let all = kept.recipients.into_iter();
                all.map(Recipient).collect()
            }),
            known => known,
        };
        known.map_err(|e| unusable(&e))
    }

    async fn known(&self) -> Result<Vec<Recipient>, RecipientsError> {
        self.kept().await?.map_err(|e| unusable(&e))
    }

    async fn send(&self, message: &Compiled, to: &Recipient, key: &IdempotencyKey) -> Sent {
        let (address, mail) = match self.write(message, to, key) {
            Ok(letter) => letter,
            Err(sent) => return sent,
        };
        let from = &self.bounces.as_ref().unwrap_or(&self.from).email;
        let delivered = self.smtp.deliver(from, &address, &mail).await;
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        match delivered {
            Ok(reference) => {
                policy.accepted();
                Sent::Accepted {
                    reference: Some(reference),
                }
            }
            Err(failure) => self.lasting(verdict::judge(&failure, to, &mut policy)),
        }
    }

    fn workers(&self) -> usize {
        self.with.workers.into()
    }

    async fn refresh(&self) -> Option<CheckItem> {
        const NAME: &str = "announce/email/list";
        if !self.list.is_fetched() {
            return None;
        }
        let refreshed = self.fetch().await;
        let status = match &refreshed {
            Ok(_) => return Some(self.check_list().await),
            Err(ListError::Shrunk { .. }) => CheckStatus::Warn,
            Err(
                ListError::Source(_)
                | ListError::Empty { .. }
                | ListError::Missing
                | ListError::File { .. },
            ) => CheckStatus::Fail,
        };
        let detail = refreshed
            .err()
            .map(|e| cause::in_full(&e))
            .unwrap_or_default();
        // An old list that is young enough still does.
        let status = match self.check_list().await.status {
            CheckStatus::Ok => CheckStatus::Warn,
            CheckStatus::Warn | CheckStatus::Unknown | CheckStatus::Fail => status,
        };
        let fix = "make the source of the list work; until then the old list is used";
        Some(CheckItem::bad(NAME, status, detail, fix))
    }

    async fn check(&self) -> Vec<CheckItem> {
        let mut items = vec![self.check_server().await, self.check_list().await];
        items.extend(self.check_keys());
        items
    }
}

fn unusable(error: &ListError) -> RecipientsError {
    RecipientsError {
        reason: cause::in_full(error),
    }
}

impl Email {
    async fn kept(&self) -> Result<Result<Vec<Recipient>, ListError>, RecipientsError> {
        let list = self.list.clone();
        tokio::task::spawn_blocking(move || list.recipients())
            .await
            .map_err(|e| RecipientsError {
                reason: e.to_string(),
            })
    }

    async fn fetch(&self) -> Result<Kept, ListError> {
        let now = self.wiring.runtime.now();
        self.list
            .refresh(&self.wiring.secrets, now, self.with.list_timeout)
            .await
    }

    /// A team's addresses stand in a document, and a page must reach them once the mail server has come to its senses:
    /// only customers' addresses are given up for good.
    fn lasting(&self, sent: Sent) -> Sent {
        match sent {
            Sent::Refused { reason, suppress } => Sent::Refused {
                reason,
                suppress: suppress && self.list.is_fetched(),
            },
            Sent::Accepted { .. }
            | Sent::Unknown { .. }
            | Sent::Unsure { .. }
            | Sent::Later { .. }
            | Sent::Broken { .. } => sent,
        }
    }

    fn write(
        &self,
        message: &Compiled,
        to: &Recipient,
        key: &IdempotencyKey,
    ) -> Result<(lettre::Address, Vec<u8>), Sent> {
        let broken = |reason: String| Sent::Broken { reason };
        let secret = |at| {
            self.wiring
                .secrets
                .read(at)
                .map_err(|e| broken(format!("a key for mails cannot be read: {e}")))
        };
        let link = match &self.with.unsubscribe {
            Some(with) => Some(self.link(with, to, &secret(&with.key)?)),
            None => None,
        };
        let sign = match &self.with.dkim {
            Some(dkim) => Some((dkim, secret(&dkim.key)?)),
            None => None,
        };
        let letter = Letter {
            from: &self.from,
            reply_to: self.reply_to.as_ref(),
            subject: message.subject.as_deref().unwrap_or_default(),
            text: &message.text,
            html: message.html.as_deref().unwrap_or_default(),
            at: self.wiring.runtime.wall(),
        };
        let sign = sign.as_ref().map(|(dkim, secret)| (*dkim, secret));
        letter
            .to(&to.0, key, link.as_deref(), sign)
            .map_err(|e| match e {
                LetterError::Recipient => Sent::Refused {
                    reason: e.to_string(),
                    suppress: false,
                },
                LetterError::Key(_) | LetterError::Build(_) => broken(cause::in_full(&e)),
            })
    }

    fn link(&self, with: &UnsubscribeWith, to: &Recipient, key: &Secret) -> String {
        let leaving = Leaving {
            service: self.wiring.service.name.clone(),
            list: with.list.clone(),
            to: to.clone(),
        };
        let base = with.url.trim_end_matches('/');
        format!("{base}{PATH}/{}", leaving.token(key))
    }

    async fn check_server(&self) -> CheckItem {
        const NAME: &str = "announce/email/server";
        let server = format!("{}:{}", self.with.smtp.host, self.with.smtp.port());
        match self.smtp.try_out().await {
            Ok(()) => CheckItem::ok(NAME, format!("{server} would take mails")),
            Err(Failure::Setup { reason } | Failure::Address { reason }) => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                reason,
                "correct the channel's smtp settings",
            ),
            Err(Failure::Lost { what, .. }) => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                format!("{server} {what}"),
                "check that this host may reach it",
            ),
            Err(Failure::Answer { stage, code, text }) => CheckItem::bad(
                NAME,
                CheckStatus::Fail,
                format!("{server} answered {code} {text}"),
                if stage == Stage::Login {
                    "correct the login"
                } else {
                    "ask who runs the server to let this host in"
                },
            ),
        }
    }

    async fn check_list(&self) -> CheckItem {
        const NAME: &str = "announce/email/list";
        const REFRESH: &str = "let the list be refreshed: its source must answer";
        if let ListWith::Addresses(all) = &self.with.list {
            return CheckItem::ok(NAME, format!("{} addresses", all.len()));
        }
        let list = self.list.clone();
        let kept = tokio::task::spawn_blocking(move || list.kept()).await;
        let kept = match kept {
            Ok(Ok(Some(kept))) => kept,
            Ok(Ok(None)) => {
                let detail = ListError::Missing.to_string();
                return CheckItem::bad(NAME, CheckStatus::Fail, detail, REFRESH);
            }
            Ok(Err(e)) => {
                return CheckItem::bad(NAME, CheckStatus::Fail, cause::in_full(&e), REFRESH);
            }
            Err(e) => return CheckItem::bad(NAME, CheckStatus::Unknown, e.to_string(), REFRESH),
        };
        let age = self.wiring.runtime.now().since(kept.at);
        let mut detail = format!(
            "{} recipients, fetched {} ago",
            kept.recipients.len(),
            Span::from_secs(age.as_millis() / 1000)
        );
        if kept.skipped > 0 {
            detail = format!("{detail}; {} lines are no addresses", kept.skipped);
        }
        if age > self.with.max_age {
            let detail = format!("{detail}, older than {}", self.with.max_age);
            return CheckItem::bad(NAME, CheckStatus::Fail, detail, REFRESH);
        }
        CheckItem::ok(NAME, detail)
    }

    fn check_keys(&self) -> Vec<CheckItem> {
        let mut items = Vec::new();
        let bad = |name: &str, detail: String, fix: &str| {
            CheckItem::bad(name, CheckStatus::Fail, detail, fix)
        };
        if let Some(with) = &self.with.unsubscribe {
            const NAME: &str = "announce/email/unsubscribe";
            const FIX: &str = "set the key to at least 16 characters that nobody can guess";
            items.push(match self.wiring.secrets.read(&with.key) {
                Err(e) => bad(NAME, e.to_string(), FIX),
                Ok(key) if key.expose().len() < SHORTEST_KEY => {
                    bad(NAME, "the key for the links is too short".to_owned(), FIX)
                }
                Ok(_) => CheckItem::ok(NAME, format!("links lead to {}", with.url)),
            });
        }
        if let Some(dkim) = &self.with.dkim {
            const NAME: &str = "announce/email/dkim";
            const FIX: &str = "make the key anew, and publish its public half in DNS";
            let key = self.wiring.secrets.read(&dkim.key);
            items.push(match key.map(|key| letter::config(dkim, &key)) {
                Err(e) => bad(NAME, e.to_string(), FIX),
                Ok(Err(e)) => bad(NAME, e.to_string(), FIX),
                Ok(Ok(_)) => CheckItem::ok(
                    NAME,
                    format!("signs as {}._domainkey.{}", dkim.selector, dkim.domain),
                ),
            });
        }
        items
    }
}
