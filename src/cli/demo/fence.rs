//! The fence of the demo, as a user would write one: a small program that asks the old primary's host to stop for good,
//! and whether it has. Its exit status is the contract of `failover help commands`.

use std::{io, net::SocketAddr, process, time::Duration};

use reqwest::{RequestBuilder, StatusCode};

use super::host::HostState;
use crate::cli::arguments::PartVerb;

/// It is done, or in place.
pub const DONE: i32 = 0;
/// It is not in place.
pub const ABSENT: i32 = 1;
/// It may or may not have happened.
pub const UNCLEAR: i32 = 75;
/// How long the host's agent may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it may take where it starts a database.
pub const START: Duration = Duration::from_secs(20);

/// Asks a host's agent, and ends the process with what it says. Of a host that does not answer nothing can be said.
///
/// # Errors
/// Where the HTTP client cannot be made.
pub async fn run(verb: PartVerb, agent: SocketAddr) -> io::Result<()> {
    let url = format!("http://{agent}/fence");
    let (said, status) = match verb {
        PartVerb::Perform => ask(client(PATIENCE)?.post(url)).await,
        PartVerb::Observe => ask(client(PATIENCE)?.get(url)).await,
        PartVerb::Undo => ask(client(START)?.post(format!("http://{agent}/release"))).await,
    };
    end(&said, status)
}

/// A client that waits so long.
///
/// # Errors
/// Where it cannot be made.
pub fn client(patience: Duration) -> io::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(patience)
        .build()
        .map_err(io::Error::other)
}

/// What an agent says to a request, and the exit status of that.
pub async fn ask(request: RequestBuilder) -> (String, i32) {
    match request.send().await {
        Ok(answer) if answer.status() == StatusCode::OK => (told(answer).await, DONE),
        Ok(answer) if answer.status() == StatusCode::CONFLICT => (told(answer).await, ABSENT),
        Ok(answer) => {
            let status = answer.status();
            let why = answer.text().await.unwrap_or_default();
            (
                format!("the agent of its host answers {status}: {why}"),
                UNCLEAR,
            )
        }
        Err(error) if error.is_timeout() => (
            "the agent of its host does not answer in time: whether its database can still write cannot be told"
                .to_owned(),
            UNCLEAR,
        ),
        Err(error) => (
            format!("the agent of its host cannot be asked: {error}"),
            UNCLEAR,
        ),
    }
}

/// Says it, and ends the process.
///
/// # Errors
/// Where it cannot be said.
pub fn end(said: &str, status: i32) -> io::Result<()> {
    io::Write::write_all(&mut io::stdout(), format!("{said}\n").as_bytes())?;
    process::exit(status)
}

async fn told(answer: reqwest::Response) -> String {
    match answer.json::<HostState>().await {
        Ok(state) => state.to_string(),
        Err(error) => format!("the agent's answer cannot be read: {error}"),
    }
}
