//! The drain of the demo, as a user would write one: the database of the site that is left is stopped in order, and the
//! standby is waited for until it has all of its log. Nothing is promised yet: where no fence follows, it is started again.

use std::{io, net::SocketAddr, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    fence::{self, ABSENT, DONE, START, UNCLEAR},
    host::HostState,
};
use crate::{cli::arguments::PartVerb, model::observation::Lsn};

/// How long the standby may take to get the last of the log.
const LAST: Duration = Duration::from_secs(5);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(20);

/// Asks both hosts' agents, and ends the process with what they say.
///
/// # Errors
/// Where the HTTP client cannot be made.
pub async fn run(verb: PartVerb, agent: SocketAddr, standby: SocketAddr) -> io::Result<()> {
    let http = fence::client(START)?;
    let post = |what: &str| http.post(format!("http://{agent}/{what}"));
    let (said, status) = match verb {
        PartVerb::Perform => match fence::ask(post("drain")).await {
            (_, DONE) => stands(&http, agent, standby).await,
            other => other,
        },
        PartVerb::Observe => stands(&http, agent, standby).await,
        PartVerb::Undo => fence::ask(post("start")).await,
    };
    fence::end(&said, status)
}

/// Whether the database is stopped in order and the standby has its log to the end.
async fn stands(http: &reqwest::Client, agent: SocketAddr, standby: SocketAddr) -> (String, i32) {
    let state = match state(http, agent).await {
        Ok(state) => state,
        Err(error) => return (error, UNCLEAR),
    };
    let Some(end) = state.drained else {
        let status = if state.database.is_some() {
            ABSENT
        } else {
            UNCLEAR
        };
        return (format!("it is not stopped in order: {state}"), status);
    };
    let deadline = Instant::now() + LAST;
    loop {
        let said = match has(http, standby).await {
            // The log ends with the record that begins there.
            Ok(has) if has > end => {
                let said =
                    format!("stopped in order at {end}, and the standby has its log up to {has}");
                return (format!("failover: lsn={end}\n{said}"), DONE);
            }
            Ok(has) => format!("the standby has its log up to {has} only, and it ends at {end}"),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return (said, ABSENT);
        }
        sleep(ASK).await;
    }
}

async fn state(http: &reqwest::Client, agent: SocketAddr) -> Result<HostState, String> {
    let unknown = |e: reqwest::Error| format!("the agent of its host cannot be asked: {e}");
    let answer = http.get(format!("http://{agent}/state")).send().await;
    answer.map_err(unknown)?.json().await.map_err(unknown)
}

/// How much of the log the standby has.
async fn has(http: &reqwest::Client, standby: SocketAddr) -> Result<Lsn, String> {
    let unknown = |e: reqwest::Error| format!("the standby's host cannot be asked: {e}");
    let answer = http.get(format!("http://{standby}/position")).send().await;
    let answer = answer.map_err(unknown)?;
    let well = answer.status().is_success();
    let text = answer.text().await.map_err(unknown)?;
    if !well {
        return Err(text);
    }
    Lsn::parse(text.trim()).ok_or_else(|| format!("the standby's host says {text}"))
}
