//! What can go wrong between us and a PostgreSQL server, and whose fault it is.

use std::{error::Error, fmt, io};

use tokio_postgres::error::{DbError, SqlState};

use crate::{
    model::span::Span,
    port::{cause, secret::SecretError},
};

/// Why a server could not be asked, or what it answered instead.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The password cannot be read.
    #[error("cannot read the password for {server}")]
    Password {
        /// The server.
        server: String,
        /// The cause.
        #[source]
        source: SecretError,
    },
    /// A certificate or key of ours cannot be used.
    #[error("cannot use {path} for TLS with {server}")]
    Certificates {
        /// The server.
        server: String,
        /// The file, or what else was to be used.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Its name has no address, or no name server answers.
    #[error("cannot resolve the name of {server}")]
    Resolve {
        /// The server.
        server: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is no way out from here: our own side.
    #[error("there is no way from here to {server}")]
    NoWay {
        /// The server.
        server: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The host lives and nothing listens.
    #[error("{server} refuses connections")]
    Refused {
        /// The server.
        server: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The network says that the host cannot be reached.
    #[error("{server} cannot be reached")]
    Unreachable {
        /// The server.
        server: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Nothing came in time.
    #[error("{server} {doing} within {after}")]
    Timeout {
        /// The server.
        server: String,
        /// What it failed to do.
        doing: Doing,
        /// How long was waited.
        after: Span,
    },
    /// The connection ended without an answer.
    #[error("{server} closed the connection")]
    Closed {
        /// The server.
        server: String,
        /// The cause, where the system gives one.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// TLS could not be agreed on, or its certificate is not the right one.
    #[error("no TLS with {server}")]
    Tls {
        /// The server.
        server: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The login needs what was not given or is not known here.
    #[error("cannot log in at {server}")]
    Login {
        /// The server.
        server: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server answered with an error.
    #[error("{server} answers")]
    Answer {
        /// The server.
        server: String,
        /// What it says.
        #[source]
        source: Box<DbError>,
    },
    /// What came is not PostgreSQL's protocol, or not what was asked for.
    #[error("{server} does not answer as PostgreSQL does")]
    Protocol {
        /// The server.
        server: String,
        /// The cause, where there is one.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

/// What a server failed to do in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// The connection was not set up.
    Connect,
    /// It took the connection but did not begin to talk.
    Greet,
    /// It did not answer a query.
    Answer,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "took no connection",
            Self::Greet => "took the connection but did not speak",
            Self::Answer => "gave no answer",
        })
    }
}

/// Whose an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The looker's own: nothing can be said of the server.
    Ours,
    /// The server's: it does not work.
    Theirs,
    /// Nobody's: the server lives and is busy.
    Busy,
}

/// What a server's error answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is starting up, recovering from a crash, or not yet consistent.
    Starting,
    /// It is shutting down.
    Stopping,
    /// It ended this session, because of a shutdown, a crash or a person.
    Ended,
    /// It has no room for one more session.
    Full,
    /// It, or this session's default, takes no writes.
    ReadOnly,
    /// Login refused: password, `pg_hba.conf`, unknown role or database.
    Denied,
    /// A right is missing.
    Forbidden,
    /// It cancelled the query, because it took too long or a person wished so.
    Cancelled,
    /// The statement is wrong for this server: unknown table or function, syntax, a pooler in between.
    Statement,
    /// Anything else: out of disk or memory, damaged data, internal errors.
    Trouble,
}

impl PostgresError {
    /// What the server's answer means; none where there was no answer in PostgreSQL's protocol.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        match self {
            Self::Answer { source, .. } => Some(meaning(source)),
            Self::Password { .. }
            | Self::Certificates { .. }
            | Self::Resolve { .. }
            | Self::NoWay { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::Tls { .. }
            | Self::Login { .. }
            | Self::Protocol { .. } => None,
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn whose(&self) -> Whose {
        match self {
            Self::Password { .. }
            | Self::Certificates { .. }
            | Self::Resolve { .. }
            | Self::NoWay { .. }
            | Self::Tls { .. }
            | Self::Login { .. } => Whose::Ours,
            Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::Protocol { .. } => Whose::Theirs,
            Self::Answer { source, .. } => match meaning(source) {
                Answer::Denied | Answer::Forbidden | Answer::Statement => Whose::Ours,
                Answer::Full => Whose::Busy,
                Answer::Starting
                | Answer::Stopping
                | Answer::Ended
                | Answer::ReadOnly
                | Answer::Cancelled
                | Answer::Trouble => Whose::Theirs,
            },
        }
    }

    /// Whether the time-out of our own ended it, so that the server may still have done what was asked.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// The whole chain in one line, for people.
    #[must_use]
    pub fn told(&self) -> String {
        if let Self::Answer { server, source } = self {
            // The protocol crate prints severity and code in its own manner; people know PostgreSQL's.
            let detail = source
                .detail()
                .map(|d| format!(" ({d})"))
                .unwrap_or_default();
            return format!(
                "{server} answers: {}{detail} [{}]",
                source.message(),
                source.code().code()
            );
        }
        cause::without_repeats(self)
    }

    /// What to do about it, where that is on our side.
    #[must_use]
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            Self::Password { .. } => Some("set the secret that the field password names"),
            Self::Certificates { .. } => {
                Some("check the files named by sslrootcert, sslcert and sslkey")
            }
            Self::Resolve { .. } => {
                Some("check the name and this host's name servers, or give hostaddr")
            }
            Self::NoWay { .. } => Some("check this host's own network"),
            Self::Tls { .. } => Some(
                "check sslmode and sslrootcert, and that the server has TLS and a valid certificate",
            ),
            Self::Login { .. } => Some(
                "give the field password, or a method in pg_hba.conf that is known here (scram-sha-256)",
            ),
            Self::Answer { source, .. } => match meaning(source) {
                Answer::Denied => Some(
                    "check user, password, dbname and pg_hba.conf (failover init prints what is needed)",
                ),
                Answer::Forbidden => Some("grant what is missing (failover init prints the SQL)"),
                Answer::Statement => Some(
                    "connect to PostgreSQL 13 or newer itself, not to a pooler, and check the query",
                ),
                Answer::Full => Some("raise max_connections or superuser_reserved_connections"),
                Answer::Starting
                | Answer::Stopping
                | Answer::Ended
                | Answer::ReadOnly
                | Answer::Cancelled
                | Answer::Trouble => None,
            },
            Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::Protocol { .. } => None,
        }
    }
}

/// What a server's error answer means, by SQLSTATE.
fn meaning(error: &DbError) -> Answer {
    let code = error.code();
    if *code == SqlState::CANNOT_CONNECT_NOW {
        // One code for starting and stopping: only the text tells. Another language counts as starting, which
        // proves less.
        return if error.message().contains("shutting down") {
            Answer::Stopping
        } else {
            Answer::Starting
        };
    }
    if *code == SqlState::ADMIN_SHUTDOWN || *code == SqlState::CRASH_SHUTDOWN {
        return Answer::Ended;
    }
    if *code == SqlState::TOO_MANY_CONNECTIONS || *code == SqlState::CONFIGURATION_LIMIT_EXCEEDED {
        return Answer::Full;
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Answer::ReadOnly;
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return Answer::Forbidden;
    }
    if *code == SqlState::QUERY_CANCELED {
        return Answer::Cancelled;
    }
    match code.code().get(..2) {
        // 28 login, 3D unknown database.
        Some("28" | "3D") => Answer::Denied,
        // 42 syntax and names, 0A not supported, 08 protocol violation as poolers answer it.
        Some("42" | "0A" | "08") => Answer::Statement,
        _ => Answer::Trouble,
    }
}
