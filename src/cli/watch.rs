//! Following a running controller from the command line.

use super::{client::Client, output::Output, place::Place, progress::Progress};
use crate::{
    desk::message::{Answer, Event, Request},
    error::Error,
    model::{
        id::{RunId, ServiceName},
        record::{AskOutcome, RecordBody, RunOutcome},
    },
};

/// A connection on which records come as they are written.
pub struct Watcher {
    client: Client,
}

impl Watcher {
    /// Begins to follow; records from now on are seen.
    ///
    /// # Errors
    /// Where no controller answers.
    pub async fn connect(place: &Place, service: Option<ServiceName>) -> Result<Self, Error> {
        let mut client = Client::connect(place).await?;
        let Answer::Watching = client.ask(Request::Watch { service }, None).await? else {
            return Err(super::look::unexpected());
        };
        Ok(Self { client })
    }

    /// Prints what happens until the controller stops.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn follow(mut self, output: Output) -> Result<(), Error> {
        let mut progress = Progress::new(output);
        while let Some(event) = self.client.event().await? {
            progress.event(&event)?;
        }
        Ok(())
    }

    /// Prints what happens until the drill that begins now is closed; gives its id.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn until_drill_ends(mut self, output: Output) -> Result<RunId, Error> {
        let mut progress = Progress::new(output);
        while let Some(event) = self.client.event().await? {
            progress.event(&event)?;
            if let RecordBody::DrillClosed { drill, .. } = &event.record.body {
                return Ok(drill.clone());
            }
        }
        Err(Error::Lost {
            source: std::io::ErrorKind::UnexpectedEof.into(),
        })
    }

    /// Prints what happens until a run ends, or the question about it is answered with no.
    ///
    /// # Errors
    /// Where the run does not end well.
    pub async fn until_run_ends(mut self, output: Output) -> Result<(), Error> {
        let mut progress = Progress::new(output);
        while let Some(event) = self.client.event().await? {
            progress.event(&event)?;
            if let Some(ended) = end(&event) {
                return ended;
            }
        }
        Err(Error::Lost {
            source: std::io::ErrorKind::UnexpectedEof.into(),
        })
    }
}

/// Whether a record ends the wait, and how.
fn end(event: &Event) -> Option<Result<(), Error>> {
    let refused = |reason: String| {
        let chain = &event.record.chain;
        let help = format!("'failover timeline {chain}' shows how it went");
        Some(Err(Error::Refused { reason, help }))
    };
    if let RecordBody::RunClosed {
        outcome, reason, ..
    } = &event.record.body
    {
        return if *outcome == RunOutcome::Done {
            Some(Ok(()))
        } else {
            refused(format!("the run did not end well: {reason}"))
        };
    }
    if let RecordBody::AskClosed { ask, outcome } = &event.record.body {
        return match outcome {
            AskOutcome::Approved | AskOutcome::Expired { proceed: true } => None,
            AskOutcome::Denied { by, .. } => refused(format!("{by} denied {ask}")),
            AskOutcome::Expired { proceed: false } => {
                refused(format!("nobody answered {ask} in time"))
            }
            AskOutcome::Void { reason } => refused(format!("{ask} is void: {reason}")),
        };
    }
    None
}
