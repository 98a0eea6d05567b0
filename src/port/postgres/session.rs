//! One session with one server, bounded by a deadline.

use std::{io, time::Duration};

use nix::libc;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};
use tokio_postgres::{
    Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow,
    config::{ChannelBinding as Binding, SslMode},
    error::DbError,
    tls::{MakeTlsConnect, TlsConnect},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    conninfo::{ChannelBinding, Conninfo, Host, TlsMode},
    error::{Doing, PostgresError, Whose},
    tls,
};
use crate::{
    model::{
        secret::{Secret, SecretRef},
        span::Span,
    },
    port::{connection::race, secret::SharedSecrets},
};

/// How long a closed session may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where and as whom to log in; the password is read anew for each session.
#[derive(Clone)]
pub struct Login {
    /// The server.
    pub conninfo: Conninfo,
    /// Its password, where one is needed.
    pub password: Option<SecretRef>,
    /// Where secrets come from.
    pub secrets: SharedSecrets,
}

impl Login {
    /// Opens a session that ends, with everything asked in it, `within` from now.
    ///
    /// # Errors
    /// [`PostgresError`] says what happened and whose it is.
    pub async fn open(&self, within: Duration) -> Result<Session, PostgresError> {
        let opened = Instant::now();
        let deadline = opened + within;
        let wire = dial(&self.conninfo, opened, deadline).await?;
        self.enter(wire, opened, deadline).await
    }

    /// The same over a TCP connection that was made elsewhere, such as through a proxy.
    ///
    /// # Errors
    /// [`PostgresError`] says what happened and whose it is.
    pub async fn over(
        &self,
        stream: TcpStream,
        within: Duration,
    ) -> Result<Session, PostgresError> {
        let opened = Instant::now();
        self.enter(Wire::Tcp(stream), opened, opened + within).await
    }

    async fn enter(
        &self,
        wire: Wire,
        opened: Instant,
        deadline: Instant,
    ) -> Result<Session, PostgresError> {
        let at = &self.conninfo;
        let password = self.password.as_ref().map(|at| self.secrets.read(at));
        let password = password
            .transpose()
            .map_err(|source| PostgresError::Password {
                server: at.server(),
                source,
            })?;
        let mut config = config(at, password.as_ref(), deadline - opened);
        let (client, open) = match wire {
            Wire::Socket(stream) => {
                config.ssl_mode(SslMode::Disable);
                greet(at, &config, stream, NoTls, opened, deadline).await?
            }
            Wire::Tcp(stream) if at.tls == TlsMode::Disable => {
                greet(at, &config, stream, NoTls, opened, deadline).await?
            }
            Wire::Tcp(stream) => {
                let mut tls = MakeRustlsConnect::new(tls::client(at)?);
                let name = match &at.host {
                    Host::Name(name) | Host::Address(_, Some(name)) => name.clone(),
                    Host::Address(address, None) => address.to_string(),
                    Host::Socket(_) => String::new(),
                };
                let Ok(tls) = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, &name);
                greet(at, &config, stream, tls, opened, deadline).await?
            }
        };
        Ok(Session {
            client,
            server: at.server(),
            opened,
            deadline,
            _open: open,
        })
    }
}

/// A session. The server drops what it still does for it a little after its deadline.
pub struct Session {
    client: Client,
    server: String,
    opened: Instant,
    deadline: Instant,
    // Dropped with the session: its task then says goodbye and ends.
    _open: oneshot::Sender<()>,
}

impl Session {
    /// What is left until the deadline.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Asks, and returns all rows of all statements as text.
    ///
    /// # Errors
    /// [`PostgresError`] says what happened and whose it is.
    pub async fn rows(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, PostgresError> {
        let answer = match timeout_at(self.deadline, self.client.simple_query(sql)).await {
            Ok(Ok(messages)) => messages,
            Ok(Err(e)) => return Err(refine(&self.server, e)),
            Err(_) => {
                return Err(PostgresError::Timeout {
                    server: self.server.clone(),
                    doing: Doing::Answer,
                    after: Span::from(self.opened.elapsed()),
                });
            }
        };
        Ok(answer
            .into_iter()
            .filter_map(|message| {
                if let SimpleQueryMessage::Row(row) = message {
                    Some(row)
                } else {
                    None
                }
            })
            .collect())
    }

    /// Asks, and returns the last row.
    ///
    /// # Errors
    /// As [`Session::rows`]; `Protocol` where no row came.
    pub async fn row(&self, sql: &str) -> Result<SimpleQueryRow, PostgresError> {
        let rows = self.rows(sql).await?;
        rows.into_iter()
            .next_back()
            .ok_or_else(|| PostgresError::Protocol {
                server: self.server.clone(),
                source: Some("it sent no row".into()),
            })
    }

    /// Writes, durably and without a trace, as any client would: a temporary table is made and dropped in one
    /// transaction that is committed.
    ///
    /// That writes the catalogue and the log, and is refused where a client's write would be: in recovery, and
    /// where transactions are read-only by default. It needs the right `TEMPORARY` in the database, which
    /// everybody has unless it was revoked. It does not wait for synchronous standbys: a primary whose standby
    /// is gone still writes.
    ///
    /// # Errors
    /// Where the write was refused ([`PostgresError::answer`] is `ReadOnly`), or nothing can be said.
    pub async fn try_write(&self) -> Result<(), PostgresError> {
        self.rows(
            "BEGIN; SET LOCAL synchronous_commit = local; \
             CREATE TEMPORARY TABLE failover_write_attempt (n int) ON COMMIT DROP; \
             INSERT INTO failover_write_attempt VALUES (1); COMMIT",
        )
        .await
        .map(drop)
    }
}

/// What a session runs over.
enum Wire {
    Tcp(TcpStream),
    Socket(UnixStream),
}

fn config(at: &Conninfo, password: Option<&Secret>, within: Duration) -> Config {
    let mut config = Config::new();
    config
        .user(&at.user)
        .dbname(&at.database)
        .application_name(&at.application)
        .ssl_mode(match at.tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        })
        .channel_binding(match at.binding {
            ChannelBinding::Disable => Binding::Disable,
            ChannelBinding::Prefer => Binding::Prefer,
            ChannelBinding::Require => Binding::Require,
        });
    if let Some(password) = password {
        config.password(password.expose());
    }
    // A little later than our own time-out, which tells more.
    let limit = (within + FAREWELL).as_millis();
    let given = at.options.as_deref().unwrap_or_default();
    config.options(format!("{given} -c statement_timeout={limit}").trim());
    config
}

/// Opens the connection itself. A host with several addresses is one server: the first that takes it counts.
async fn dial(at: &Conninfo, opened: Instant, deadline: Instant) -> Result<Wire, PostgresError> {
    let late = |_| PostgresError::Timeout {
        server: at.server(),
        doing: Doing::Connect,
        after: Span::from(opened.elapsed()),
    };
    let unconnected = |source| unconnected(at, source);
    match &at.host {
        Host::Socket(folder) => {
            let path = folder.join(format!(".s.PGSQL.{}", at.port));
            let stream = timeout_at(deadline, UnixStream::connect(path)).await;
            stream.map_err(late)?.map(Wire::Socket).map_err(unconnected)
        }
        Host::Address(address, _) => {
            let stream = timeout_at(deadline, TcpStream::connect((*address, at.port))).await;
            stream.map_err(late)?.map(Wire::Tcp).map_err(unconnected)
        }
        Host::Name(name) => {
            let unresolved = |source| PostgresError::Resolve {
                server: at.server(),
                source,
            };
            let addresses = timeout_at(deadline, lookup_host((name.as_str(), at.port))).await;
            let addresses: Vec<_> = addresses
                .map_err(|_| unresolved(io::ErrorKind::TimedOut.into()))?
                .map_err(unresolved)?
                .collect();
            let stream = timeout_at(deadline, race(&addresses, TcpStream::connect)).await;
            stream.map_err(late)?.map(Wire::Tcp).map_err(|failures| {
                let mut errors: Vec<_> = failures.into_iter().map(unconnected).collect();
                // One address that is down says more than one that this host has no route to.
                errors.sort_by_key(|e| e.whose() == Whose::Theirs);
                let nowhere = || unresolved(io::ErrorKind::NotFound.into());
                errors.pop().unwrap_or_else(nowhere)
            })
        }
    }
}

/// What a connection that was not made says.
fn unconnected(at: &Conninfo, source: io::Error) -> PostgresError {
    let server = at.server();
    match source.raw_os_error() {
        // A socket that is not there is a server that does not listen.
        Some(libc::ECONNREFUSED | libc::ENOENT) => PostgresError::Refused { server, source },
        Some(libc::ECONNRESET | libc::EPIPE) => PostgresError::Closed {
            server,
            source: Some(Box::new(source)),
        },
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ETIMEDOUT) => {
            PostgresError::Unreachable { server, source }
        }
        // No route, no free port, no file descriptor, a firewall of this host: all our own.
        Some(_) | None => PostgresError::NoWay { server, source },
    }
}

/// TLS, start-up and login, then the connection lives in a task of its own.
async fn greet<S, T>(
    at: &Conninfo,
    config: &Config,
    stream: S,
    tls: T,
    opened: Instant,
    deadline: Instant,
) -> Result<(Client, oneshot::Sender<()>), PostgresError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<S>,
    T::Stream: Send + 'static,
{
    let Ok(greeted) = timeout_at(deadline, config.connect_raw(stream, tls)).await else {
        return Err(PostgresError::Timeout {
            server: at.server(),
            doing: Doing::Greet,
            after: Span::from(opened.elapsed()),
        });
    };
    let (client, mut connection) = greeted.map_err(|e| refine(&at.server(), e))?;
    let (open, closed) = oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            _ = &mut connection => {}
            _ = closed => {
                // A server that does not answer would keep its half of the conversation for ever.
                let _ = timeout(FAREWELL, connection).await;
            }
        }
    });
    Ok((client, open))
}

/// Gives the protocol crate's error its place.
fn refine(server: &str, error: tokio_postgres::Error) -> PostgresError {
    let server = server.to_owned();
    let closed = error.is_closed();
    // The crate keeps its kinds to itself, and names them in its text only.
    let kind = error.to_string();
    let Some(cause) = error.into_source() else {
        return if closed {
            PostgresError::Closed {
                server,
                source: None,
            }
        } else {
            PostgresError::Protocol {
                server,
                source: Some(kind.into()),
            }
        };
    };
    let cause = match cause.downcast::<DbError>() {
        Ok(source) => return PostgresError::Answer { server, source },
        Err(other) => other,
    };
    if kind.contains("TLS") {
        return PostgresError::Tls {
            server,
            source: cause,
        };
    }
    if kind.contains("authentication") || kind.contains("configuration") {
        return PostgresError::Login {
            server,
            source: cause,
        };
    }
    match cause.downcast::<io::Error>() {
        // The crate reports bytes that it cannot read as this kind.
        Ok(e) if e.kind() == io::ErrorKind::InvalidInput || kind.contains("parsing") => {
            PostgresError::Protocol {
                server,
                source: Some(e),
            }
        }
        Ok(e) => PostgresError::Closed {
            server,
            source: Some(e),
        },
        Err(other) => PostgresError::Protocol {
            server,
            source: Some(other),
        },
    }
}
