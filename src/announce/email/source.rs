//! Where lists of recipients come from: a file, a query, a command.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    address,
    list::{ListWith, SqlWith},
};
use crate::{
    model::span::Span,
    port::{
        command::{Command, Ending},
        kind::Problem,
        postgres::{Login, PostgresError, TlsMode},
        secret::SharedSecrets,
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
    /// The database does not give it.
    #[error("the database gives no list")]
    Database(#[source] PostgresError),
    /// The command failed.
    #[error("the command {program} gives no list: {ending}")]
    Command {
        /// Its first word.
        program: String,
        /// How it ended, and what it said on standard error.
        ending: String,
    },
    /// It took too long.
    #[error("it took longer than {0}")]
    TimedOut(Span),
}

/// What is wrong with the settings of a query.
pub fn problems(sql: &SqlWith) -> Vec<Problem> {
    let mut problems = Vec::new();
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
            ListWith::Command(argv) => command(argv, secrets, timeout).await,
            ListWith::Sql(sql) => query(sql, secrets, timeout)
                .await
                .map_err(SourceError::Database),
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

/// Runs as the steps' programs do: it sees none of the controller's own secrets.
async fn command(
    argv: &[String],
    secrets: &SharedSecrets,
    timeout: Span,
) -> Result<Vec<String>, SourceError> {
    let command = Command {
        argv: argv.to_vec(),
        env: BTreeMap::new(),
        secrets: Arc::clone(secrets),
    };
    let (run, text) = command.collect(timeout.to_std(), LARGEST).await;
    if run.ending != Ending::Exited(0) {
        return Err(SourceError::Command {
            program: argv.first().cloned().unwrap_or_default(),
            ending: address::hide(&run.told()),
        });
    }
    Ok(lines(&String::from_utf8_lossy(&text)))
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

async fn query(
    sql: &SqlWith,
    secrets: &SharedSecrets,
    timeout: Span,
) -> Result<Vec<String>, PostgresError> {
    let mut conninfo = sql.conninfo.clone();
    if let Some(ca) = &sql.ca {
        conninfo.root = Some(ca.into());
        if matches!(conninfo.tls, TlsMode::Prefer | TlsMode::Require) {
            conninfo.tls = TlsMode::VerifyFull;
        }
    }
    let login = Login {
        conninfo,
        password: sql.password.clone(),
        secrets: Arc::clone(secrets),
    };
    let session = login.open(timeout.to_std()).await?;
    session.rows("BEGIN TRANSACTION READ ONLY").await?;
    let rows = session.rows(&sql.query).await?;
    let first = rows.iter().filter_map(|row| row.try_get(0).ok().flatten());
    Ok(first.map(str::to_owned).collect())
}
