//! The last step of the demo's switchover, as a user would write one: the database of the site that was left follows the
//! new primary, so that there is a standby again.

use std::{io, net::SocketAddr};

use super::fence::{self, START, UNCLEAR};
use crate::cli::arguments::PartVerb;

/// Asks the host's agent, and ends the process with what it says.
///
/// # Errors
/// Where the HTTP client cannot be made.
pub async fn run(verb: PartVerb, agent: SocketAddr, primary: SocketAddr) -> io::Result<()> {
    let http = fence::client(START)?;
    let url = format!("http://{agent}/follow");
    let (said, status) = match verb {
        PartVerb::Perform => fence::ask(http.post(url).json(&primary)).await,
        PartVerb::Observe => fence::ask(http.get(url)).await,
        PartVerb::Undo => (
            "a database that follows harms nobody: it is left as it is".to_owned(),
            UNCLEAR,
        ),
    };
    fence::end(&said, status)
}
