//! Speaking SMTP: connections that are kept, and how far a mail got.

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, TlsParameters, TlsParametersBuilder},
        commands::{Data, Mail, Noop, Rcpt, Rset},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    model::{secret::SecretRef, span::Span, time::Time},
    port::{
        endpoint,
        kind::Problem,
        runtime::SharedRuntime,
        secret::{SecretError, SharedSecrets},
    },
};

/// Servers close connections that carried many mails; ours are changed before.
const MAILS_PER_CONNECTION: u32 = 100;

/// How long a connection is kept without use. Servers wait at least 5 minutes (RFC 5321, 4.5.3.2.7).
const IDLE: Span = Span::from_secs(30);

/// So many time-outs may pass between the final dot and the answer, because servers scan in between (RFC 5321 wants
/// 10 minutes against 5 for other commands; more here, because ours are short).
const PATIENCE_AT_END: u32 = 8;

/// So many time-outs may pass before the final dot, but never more than [`BEFORE_DOT`].
const PATIENCE_BEFORE_DOT: u32 = 4;

/// A mail whose final dot is not out within this is not sent. It is below the minute after which a page calls an outcome
/// unknown: of this mail it is known.
const BEFORE_DOT: Duration = Duration::from_secs(45);

/// How long a server may take to forget a mail that it refused.
const RESET: Duration = Duration::from_secs(5);

/// The mail server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SmtpWith {
    /// Its name, as its certificate has it.
    pub host: String,
    /// Its port. Default: 587 with `starttls`, 465 with `implicit`, 25 with `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is encrypted.
    #[serde(default)]
    pub tls: SmtpTls,
    /// Path of a PEM file with the certificate authority of the server, where the system does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Login, where the server wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginWith>,
    /// The name that this host gives itself. Default: its host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// Time-out of one command. All of them up to the end of the mail together have four times that, and 45s at most.
    #[serde(default = "command_timeout")]
    pub timeout: Span,
}

fn command_timeout() -> Span {
    Span::from_secs(30)
}

/// Login to the mail server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginWith {
    /// User name.
    pub user: String,
    /// Password.
    pub password: SecretRef,
}

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SmtpTls {
    /// It begins in the clear and must be encrypted before anything is said.
    #[default]
    Starttls,
    /// It is encrypted from the start.
    Implicit,
    /// Not at all: only for a server on this host.
    None,
}

impl SmtpWith {
    /// What the types cannot say.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.host.is_empty() || self.host.contains(['/', '@', ' ']) {
            problems.push(Problem::new("smtp.host", "is no host name"));
        }
        if self.tls == SmtpTls::None && !endpoint::is_loopback_name(&self.host) {
            problems.push(
                Problem::new("smtp.tls", "none is only for a server on this host")
                    .hint("use starttls or implicit"),
            );
        }
        if self.timeout == Span::ZERO {
            problems.push(Problem::new("smtp.timeout", "is zero"));
        }
        problems
    }

    /// The port that is spoken to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            SmtpTls::Starttls => 587,
            SmtpTls::Implicit => 465,
            SmtpTls::None => 25,
        })
    }
}

/// How far a mail got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Connection, greeting, encryption.
    Connect,
    /// Login.
    Login,
    /// `MAIL FROM`.
    Sender,
    /// `RCPT TO`.
    Recipient,
    /// `DATA` and the mail itself, before the final dot.
    Data,
    /// The final dot is out.
    End,
}

/// Why a mail was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server said no.
    Answer {
        /// To what.
        stage: Stage,
        /// Its code.
        code: u16,
        /// Its text.
        text: String,
    },
    /// The connection failed, or no answer came.
    Lost {
        /// After what.
        stage: Stage,
        /// In plain words.
        what: String,
    },
    /// It can never work like this.
    Setup {
        /// In plain words.
        reason: String,
    },
    /// This server cannot carry this address.
    Address {
        /// In plain words.
        reason: String,
    },
}

impl Failure {
    fn of(stage: Stage, e: &Error) -> Self {
        if let Some(code) = e.status() {
            return Self::Answer {
                stage,
                code: code.into(),
                text: e.source().map(ToString::to_string).unwrap_or_default(),
            };
        }
        if bad_certificate(e) {
            return Self::Setup {
                reason: "the mail server's certificate is not valid for its name: check smtp.host and smtp.ca".to_owned(),
            };
        }
        if e.is_client() {
            let why = e.source().map(ToString::to_string).unwrap_or_default();
            return Self::Setup {
                reason: format!("the mail server cannot be used: {why}"),
            };
        }
        let what = if e.is_timeout() {
            "did not answer in time"
        } else if stage == Stage::Connect {
            "cannot be reached"
        } else {
            "closed the connection"
        };
        Self::Lost {
            stage,
            what: what.to_owned(),
        }
    }
}

fn bad_certificate(e: &Error) -> bool {
    let mut cause = e.source();
    while let Some(e) = cause {
        let inner = e
            .downcast_ref::<std::io::Error>()
            .and_then(|io| io.get_ref())
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(_)) =
            inner.or_else(|| e.downcast_ref::<rustls::Error>())
        {
            return true;
        }
        cause = e.source();
    }
    false
}

/// The server, and connections to it that are kept between mails.
pub struct Smtp {
    with: SmtpWith,
    secrets: SharedSecrets,
    runtime: SharedRuntime,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    sessions: Vec<(Session, Time)>,
    tidied: bool,
}

struct Session {
    connection: AsyncSmtpConnection,
    mails: u32,
}

impl Smtp {
    /// A server that nobody has spoken to yet.
    #[must_use]
    pub fn new(with: SmtpWith, secrets: SharedSecrets, runtime: SharedRuntime) -> Arc<Self> {
        Arc::new(Self {
            with,
            secrets,
            runtime,
            idle: Mutex::default(),
        })
    }

    /// Hands one mail over. `Ok` has the server's words, which mostly hold its queue id.
    ///
    /// # Errors
    /// Where it was not accepted, or that is not known (`Lost` at `End`).
    pub async fn deliver(
        self: &Arc<Self>,
        from: &Address,
        to: &Address,
        mail: &[u8],
    ) -> Result<String, Failure> {
        let until = self.before_dot();
        let kept = self.take();
        let was_kept = kept.is_some();
        let mut session = match kept {
            Some(session) => session,
            None => self.connect(until).await?,
        };
        let mut sent = self.converse(&mut session, from, to, mail, until).await;
        if was_kept && matches!(&sent, Err(Failure::Lost { stage, .. }) if *stage < Stage::Data) {
            // A kept connection may have been closed since; nothing was said about this mail yet.
            session = self.connect(until).await?;
            sent = self.converse(&mut session, from, to, mail, until).await;
        }
        session.mails += 1;
        let usable = match &sent {
            Ok(_) | Err(Failure::Address { .. }) => true,
            Err(Failure::Answer { code, .. }) if *code != 421 => {
                let until = Instant::now() + RESET;
                let reset = self.command(&mut session.connection, Rset, until).await;
                reset.is_ok()
            }
            Err(Failure::Answer { .. } | Failure::Lost { .. } | Failure::Setup { .. }) => false,
        };
        if usable && session.mails < MAILS_PER_CONNECTION {
            self.keep(session);
        }
        sent
    }

    /// Connects, logs in and asks for nothing.
    ///
    /// # Errors
    /// Where a mail would fail for a reason that does not lie in it.
    pub async fn try_out(&self) -> Result<(), Failure> {
        let until = self.before_dot();
        let mut session = self.connect(until).await?;
        let answer = self.command(&mut session.connection, Noop, until).await;
        answer.map_err(|e| e.at(Stage::Login))?;
        let _ = timeout(self.with.timeout.to_std(), session.connection.quit()).await;
        Ok(())
    }

    async fn converse(
        &self,
        session: &mut Session,
        from: &Address,
        to: &Address,
        mail: &[u8],
        until: Instant,
    ) -> Result<String, Failure> {
        let connection = &mut session.connection;
        let mut parameters = Vec::new();
        let wide = |a: &Address| !AsRef::<str>::as_ref(a).is_ascii();
        if wide(from) || wide(to) {
            if !connection
                .server_info()
                .supports_feature(Extension::SmtpUtfEight)
            {
                return Err(Failure::Address {
                    reason: "the address holds letters beyond ASCII, and the mail server cannot carry them (no SMTPUTF8)"
                        .to_owned(),
                });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !mail.is_ascii() {
            if !connection
                .server_info()
                .supports_feature(Extension::EightBitMime)
            {
                return Err(Failure::Setup {
                    reason: "the mail holds letters beyond ASCII in its headers, and the mail server cannot carry them (no 8BITMIME)"
                        .to_owned(),
                });
            }
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let sender = Mail::new(Some(from.clone()), parameters);
        let answer = self.command(connection, sender, until).await;
        answer.map_err(|e| e.at(Stage::Sender))?;
        let recipient = Rcpt::new(to.clone(), Vec::new());
        let answer = self.command(connection, recipient, until).await;
        answer.map_err(|e| e.at(Stage::Recipient))?;
        let answer = self.command(connection, Data, until).await;
        answer.map_err(|e| e.at(Stage::Data))?;
        self.content(connection, mail, until).await
    }

    /// Sends the mail and its final dot. Only once every byte before the dot is out may the server have accepted it.
    async fn content(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &[u8],
        until: Instant,
    ) -> Result<String, Failure> {
        let dot = AtomicBool::new(false);
        let parts = std::iter::once(Some(mail)).chain(std::iter::once_with(|| {
            dot.store(true, Ordering::Relaxed);
            None
        }));
        let talk = connection.message_iter(parts.map_while(|p| p));
        tokio::pin!(talk);
        let mut answer = timeout_at(until, &mut talk).await;
        if answer.is_err() && dot.load(Ordering::Relaxed) {
            let limit = self.with.timeout.to_std() * PATIENCE_AT_END;
            answer = timeout(limit, talk).await;
        }
        let stage = if dot.load(Ordering::Relaxed) {
            Stage::End
        } else {
            Stage::Data
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer.message().collect::<Vec<_>>().join(" ")),
            Ok(Err(e)) => Err(Failure::of(stage, &e)),
            Err(_) => Err(Failure::Lost {
                stage,
                what: "did not answer in time".to_owned(),
            }),
        }
    }

    /// Until when a mail's final dot must be out, if it is begun now.
    fn before_dot(&self) -> Instant {
        let most = self.with.timeout.to_std() * PATIENCE_BEFORE_DOT;
        Instant::now() + most.min(BEFORE_DOT)
    }

    async fn connect(&self, until: Instant) -> Result<Session, Failure> {
        let limit = Instant::now() + self.with.timeout.to_std() * 3;
        timeout_at(limit.min(until), self.connect_at_leisure())
            .await
            .unwrap_or_else(|_| {
                Err(Failure::Lost {
                    stage: Stage::Connect,
                    what: "did not answer in time".to_owned(),
                })
            })
    }

    async fn connect_at_leisure(&self) -> Result<Session, Failure> {
        let hello = match &self.with.helo {
            Some(name) => ClientId::Domain(name.clone()),
            None => ClientId::default(),
        };
        let server = (self.with.host.as_str(), self.with.port());
        let limit = Some(self.with.timeout.to_std());
        let implicit = match self.with.tls {
            SmtpTls::Implicit => Some(self.tls().await?),
            SmtpTls::Starttls | SmtpTls::None => None,
        };
        let failed = |e: Error| Failure::of(Stage::Connect, &e);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, limit, &hello, implicit, None)
                .await
                .map_err(failed)?;
        if self.with.tls == SmtpTls::Starttls {
            if !connection.can_starttls() {
                return Err(Failure::Setup {
                    reason: "the mail server offers no STARTTLS: set smtp.tls to implicit, or use its other port".to_owned(),
                });
            }
            let tls = self.tls().await?;
            connection.starttls(tls, &hello).await.map_err(failed)?;
        }
        if let Some(login) = &self.with.login {
            let password = self.secrets.read(&login.password).map_err(unreadable)?;
            let credentials = Credentials::new(login.user.clone(), password.expose().to_owned());
            connection
                .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
                .await
                .map_err(|e| Failure::of(Stage::Login, &e))?;
        }
        Ok(Session {
            connection,
            mails: 0,
        })
    }

    async fn tls(&self) -> Result<TlsParameters, Failure> {
        let mut builder = TlsParametersBuilder::new(self.with.host.clone());
        let wrong = |path: &str| Failure::Setup {
            reason: format!("the certificate authority {path} cannot be used"),
        };
        if let Some(path) = &self.with.ca {
            let pem = tokio::fs::read(path).await.map_err(|_| wrong(path))?;
            let certificate = Certificate::from_pem(&pem).map_err(|_| wrong(path))?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build().map_err(|_| Failure::Setup {
            reason: "no encrypted connection can be made: check this host's root certificates"
                .to_owned(),
        })
    }

    async fn command(
        &self,
        connection: &mut AsyncSmtpConnection,
        command: impl std::fmt::Display,
        until: Instant,
    ) -> Result<(), NoAnswer> {
        let limit = Instant::now() + self.with.timeout.to_std();
        match timeout_at(limit.min(until), connection.command(command)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(NoAnswer::Error(e)),
            Err(_) => Err(NoAnswer::TimedOut),
        }
    }

    fn take(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (session, since) = idle.sessions.pop()?;
        (self.runtime.now().since(since) < IDLE).then_some(session)
    }

    fn keep(self: &Arc<Self>, session: Session) {
        let now = self.runtime.now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.sessions.push((session, now));
        if !idle.tidied {
            idle.tidied = true;
            let tidy = tidy(Arc::downgrade(self), Arc::clone(&self.runtime));
            self.runtime.spawn("smtp tidy", Box::pin(tidy));
        }
    }
}

/// Closes connections that nobody used for a while, until none is left.
async fn tidy(smtp: Weak<Smtp>, runtime: SharedRuntime) {
    loop {
        runtime.sleep_until(runtime.now().after(IDLE)).await;
        let Some(smtp) = smtp.upgrade() else { return };
        let old: Vec<Session> = {
            let mut idle = smtp.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let now = runtime.now();
            let (old, kept) = std::mem::take(&mut idle.sessions)
                .into_iter()
                .partition(|(_, since)| now.since(*since) >= IDLE);
            idle.sessions = kept;
            idle.tidied = !idle.sessions.is_empty();
            let old: Vec<(Session, Time)> = old;
            old.into_iter().map(|(session, _)| session).collect()
        };
        for mut session in old {
            let limit = smtp.with.timeout.to_std();
            let _ = timeout(limit, session.connection.quit()).await;
        }
        let idle = smtp.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !idle.tidied {
            return;
        }
    }
}

enum NoAnswer {
    Error(Error),
    TimedOut,
}

impl NoAnswer {
    fn at(self, stage: Stage) -> Failure {
        match self {
            Self::Error(e) => Failure::of(stage, &e),
            Self::TimedOut => Failure::Lost {
                stage,
                what: "did not answer in time".to_owned(),
            },
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function for map_err"
)]
fn unreadable(e: SecretError) -> Failure {
    Failure::Setup {
        reason: format!("the mail server's password cannot be read: {e}"),
    }
}
