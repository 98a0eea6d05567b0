//! The fence of the demo, as a user would write one: a small program that asks the old primary's host to stop for good,
//! and whether it has. Its exit status is the contract of `failover help commands`.

use std::{io, net::SocketAddr, process, time::Duration};

use reqwest::StatusCode;

use super::host::HostState;
use crate::cli::arguments::FenceVerb;

/// It may or may not have happened.
const UNCLEAR: i32 = 75;
/// How long the host's agent may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks a host's agent, and ends the process with what it says. Of a host that does not answer nothing can be said.
///
/// # Errors
/// Where the HTTP client cannot be made.
pub async fn run(verb: FenceVerb, agent: SocketAddr) -> io::Result<()> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(io::Error::other)?;
    let url = format!("http://{agent}/fence");
    let request = match verb {
        FenceVerb::Perform => http.post(url),
        FenceVerb::Observe => http.get(url),
    };
    let (said, status) = match request.send().await {
        Ok(answer) if answer.status() == StatusCode::OK => (told(answer).await, 0),
        Ok(answer) if answer.status() == StatusCode::CONFLICT => (told(answer).await, 1),
        Ok(answer) => (
            format!("the agent of its host answers {}", answer.status()),
            UNCLEAR,
        ),
        Err(error) if error.is_timeout() => (
            format!(
                "the agent of its host does not answer within {} s: whether its database can still write cannot be told",
                PATIENCE.as_secs()
            ),
            UNCLEAR,
        ),
        Err(error) => (
            format!("the agent of its host cannot be asked: {error}"),
            UNCLEAR,
        ),
    };
    io::Write::write_all(&mut io::stdout(), format!("{said}\n").as_bytes())?;
    process::exit(status)
}

async fn told(answer: reqwest::Response) -> String {
    match answer.json::<HostState>().await {
        Ok(state) => {
            let part = |name: &str, pid: Option<u32>| match pid {
                Some(pid) => format!("{name} runs as process {pid}"),
                None => format!("{name} has no process"),
            };
            let may = if state.fenced {
                "nothing may be started"
            } else {
                "it is not fenced"
            };
            format!(
                "{}, {}, {may}",
                part("database", state.database),
                part("shop", state.shop)
            )
        }
        Err(error) => format!("the agent's answer cannot be read: {error}"),
    }
}
