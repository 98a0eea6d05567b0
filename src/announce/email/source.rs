//! Where lists of recipients come from: a file, a query, a command.

use std::{io, process::Stdio, sync::Arc};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use rustls_platform_verifier::Verifier;
use tokio::{io::AsyncReadExt, process::Command};
use tokio_postgres::{SimpleQueryMessage, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::list::{ListWith, SqlWith};
use crate::{
    model::span::Span,
    port::{
        kind::Problem,
        secret::{SecretError, SharedSecrets},
    },
};

/// Most that is read of a list: some ten million addresses.
const LARGEST: u64 = 512 * 1024 * 1024;

/// Why a list could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is no CSV with addresses.
    #[error("{path} is no CSV file with a column of addresses: name the column email")]
    Csv {
        /// The file.
        path: String,
    },
    /// A password cannot be read.
    #[error("the database's password cannot be read")]
    Secret(#[source] SecretError),
    /// A certificate authority cannot be used.
    #[error("the certificate authority {path} cannot be used")]
    Authority {
        /// The file.
        path: String,
    },
    /// The connection string is wrong, or the database refuses.
    #[error("the database refuses")]
    Database(#[source] tokio_postgres::Error),
    /// The command cannot be started.
    #[error("the command {program} cannot be run")]
    Start {
        /// Its first word.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The command failed.
    #[error("the command {program} ended with {status}")]
    Command {
        /// Its first word.
        program: String,
        /// How it ended.
        status: String,
    },
    /// It took too long.
    #[error("it took longer than {0}")]
    TimedOut(Span),
}

/// What is wrong with the settings of a query.
pub fn problems(sql: &SqlWith) -> Vec<Problem> {
    let mut problems = Vec::new();
    match sql.conninfo.parse::<tokio_postgres::Config>() {
        Err(_) => problems.push(
            Problem::new("list.sql.conninfo", "is no connection string")
                .hint("write it like host=db1 dbname=shop user=mailer"),
        ),
        Ok(config) if config.get_password().is_some() => problems.push(
            Problem::new("list.sql.conninfo", "holds a password")
                .hint("write password: {env: …} or {file: …} beside it"),
        ),
        Ok(_) => {}
    }
    if sql.query.trim().is_empty() {
        problems.push(Problem::new("list.sql.query", "is empty"));
    }
    problems
}

/// Fetches the lines that may be addresses.
pub async fn fetch(
    from: &ListWith,
    secrets: &SharedSecrets,
    timeout: Span,
) -> Result<Vec<String>, SourceError> {
    let fetching = async {
        match from {
            ListWith::Addresses(all) => Ok(all.clone()),
            ListWith::Csv(path) => {
                let path = path.clone();
                match tokio::task::spawn_blocking(move || csv(&path)).await {
                    Ok(lines) => lines,
                    Err(e) => Err(SourceError::Read {
                        path: "the list".to_owned(),
                        source: io::Error::other(e),
                    }),
                }
            }
            ListWith::Command(argv) => command(argv).await,
            ListWith::Sql(sql) => query(sql, secrets).await,
        }
    };
    tokio::time::timeout(timeout.to_std(), fetching)
        .await
        .unwrap_or(Err(SourceError::TimedOut(timeout)))
}

fn csv(path: &str) -> Result<Vec<String>, SourceError> {
    let wrong = || SourceError::Csv {
        path: path.to_owned(),
    };
    let file = std::fs::File::open(path).map_err(|source| SourceError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(::csv::Trim::All)
        .from_reader(io::Read::take(file, LARGEST));
    let mut rows = reader.records();
    let Some(first) = rows.next() else {
        return Ok(Vec::new());
    };
    let first = first.map_err(|_| wrong())?;
    let named = first.iter().position(|cell| {
        ["email", "e-mail", "mail", "address"].iter().any(|name| {
            cell.trim_start_matches('\u{feff}')
                .eq_ignore_ascii_case(name)
        })
    });
    let mut lines = Vec::new();
    let column = if let Some(column) = named {
        column
    } else {
        let column = first.iter().position(|cell| cell.contains('@'));
        let column = column.ok_or_else(wrong)?;
        lines.extend(first.get(column).map(str::to_owned));
        column
    };
    for row in rows {
        let row = row.map_err(|_| wrong())?;
        lines.push(row.get(column).unwrap_or_default().to_owned());
    }
    Ok(lines)
}

async fn command(argv: &[String]) -> Result<Vec<String>, SourceError> {
    let program = argv.first().cloned().unwrap_or_default();
    let failed = |source| SourceError::Start {
        program: program.clone(),
        source,
    };
    let mut child = Command::new(&program)
        .args(argv.get(1..).unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let group = KillGroup(child.id());
    let mut text = String::new();
    if let Some(out) = child.stdout.take() {
        out.take(LARGEST)
            .read_to_string(&mut text)
            .await
            .map_err(failed)?;
    }
    let status = child.wait().await.map_err(failed)?;
    drop(group);
    if !status.success() {
        return Err(SourceError::Command {
            program,
            status: status.to_string(),
        });
    }
    Ok(lines(&text))
}

/// Ends everything that a command started, when it is done or given up.
struct KillGroup(Option<u32>);

impl Drop for KillGroup {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // The group is gone already in most cases.
            let _ = nix::sys::signal::killpg(
                nix::unistd::Pid::from_raw(id),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

async fn query(sql: &SqlWith, secrets: &SharedSecrets) -> Result<Vec<String>, SourceError> {
    let mut config: tokio_postgres::Config = sql.conninfo.parse().map_err(SourceError::Database)?;
    config.application_name("failover-list");
    if let Some(at) = &sql.password {
        config.password(secrets.read(at).map_err(SourceError::Secret)?.expose());
    }
    let tls = MakeRustlsConnect::new(tls(sql.ca.as_deref())?);
    if sql.ca.is_some() {
        config.ssl_mode(SslMode::Require);
    }
    let (client, connection) = config.connect(tls).await.map_err(SourceError::Database)?;
    let driving = tokio::spawn(connection);
    let asked = async {
        client.batch_execute("BEGIN TRANSACTION READ ONLY").await?;
        client.simple_query(&sql.query).await
    };
    let rows = asked.await.map_err(SourceError::Database);
    drop(client);
    driving.abort();
    let cells = rows?.into_iter().filter_map(|message| {
        if let SimpleQueryMessage::Row(row) = message {
            row.get(0).map(str::to_owned)
        } else {
            None
        }
    });
    Ok(cells.collect())
}

fn tls(ca: Option<&str>) -> Result<rustls::ClientConfig, SourceError> {
    let path = ca.unwrap_or("of this system");
    let wrong = || SourceError::Authority {
        path: path.to_owned(),
    };
    let mut roots = Vec::new();
    if let Some(ca) = ca {
        let read = CertificateDer::pem_file_iter(ca).map_err(|_| wrong())?;
        roots = read.collect::<Result<_, _>>().map_err(|_| wrong())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(roots, provider.clone()).map_err(|_| wrong())?;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| wrong())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}
