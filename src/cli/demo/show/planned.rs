//! Showings without an outage: people have something done, and customers order all the time.

use super::{DECISION, READY, Show};
use crate::{
    cli::{
        demo::{
            documents::{self, SERVICE},
            outside::now,
        },
        drill::{self, Told},
        engine,
    },
    decide::event::{Command, Reply},
    desk::line::Weight,
    error::Error,
    model::{
        drill::DrillOutcome,
        id::{AskId, PersonName, ServiceName},
        plan::RunKind,
        record::RecordBody,
    },
};

/// Who asks for planned work.
const ASKS: &str = "ann";
/// Who approves it where that is asked.
const APPROVES: &str = "bob";

impl Show<'_> {
    /// Has the service moved to the standby site.
    ///
    /// # Errors
    /// Where it is refused, or does not come to an end.
    pub(super) async fn switch_over(&mut self) -> Result<(), Error> {
        self.outage("The switchover: ann has the shop moved to its standby site while both work");
        let open = Command::Open {
            kind: RunKind::Switchover,
            to: None,
            plan: None,
            by: PersonName::from(ASKS),
            reason: "a new power supply".to_owned(),
        };
        self.give(open).await.map_err(Error::DemoOutcome)?;
        let mut answered = 0;
        while self.run_outcome().is_none() {
            let so_far = answered;
            self.until("the end of the switchover", DECISION, |show| {
                show.run_outcome().is_some() || show.asks().len() > so_far
            })
            .await?;
            for ask in self.asks().split_off(so_far) {
                answered += 1;
                let approve = Command::Approve {
                    ask: Some(ask),
                    by: PersonName::from(APPROVES),
                    user: None,
                    reason: Some("as planned".to_owned()),
                    break_glass: false,
                };
                self.give(approve).await.map_err(Error::DemoOutcome)?;
            }
        }
        let over = now();
        self.until("orders after the switchover", DECISION, |show| {
            show.customers.first_after(over).is_some()
        })
        .await
    }

    /// Has the recovery exercised: on a copy of the standby, or on paper where there is no database.
    ///
    /// # Errors
    /// Where it is refused for long, or does not come to an end.
    pub(super) async fn drill(&mut self) -> Result<(), Error> {
        self.outage(if self.stage.standby.is_some() {
            "The drill: a copy of the standby is promoted apart from everything; customers go on"
        } else {
            "The drill, on paper: without a database there is nothing to copy; plan, gates and forecast are tried"
        });
        let deadline = tokio::time::Instant::now() + READY;
        loop {
            let drill = Command::Drill {
                policy: Some(documents::drill(self.stage).into()),
                by: PersonName::from(ASKS),
                reason: "to see that it works".to_owned(),
            };
            match self.give(drill).await {
                Ok(()) => break,
                // The lag is not known yet.
                Err(_) if tokio::time::Instant::now() < deadline => {
                    self.pass(std::time::Duration::from_millis(500)).await;
                }
                Err(reason) => return Err(Error::DemoOutcome(reason)),
            }
        }
        self.until("the end of the drill", DECISION, |show| {
            let mut records = show.records.iter();
            records.any(|r| matches!(r.body, RecordBody::DrillClosed { .. }))
        })
        .await
    }

    /// Gives a command; a refusal is an error in a sentence.
    async fn give(&mut self, command: Command) -> Result<(), String> {
        let service = ServiceName::from(SERVICE);
        let reply = self.engine.controller.command(&service, command).await;
        match reply.map_err(|e| engine::cannot_start(&e).to_string())? {
            Reply::Ok(said) => {
                self.story.moment(now(), "answer", &said, Weight::Normal);
                Ok(())
            }
            Reply::Refused(refusal) => Err(refusal.to_string()),
        }
    }

    /// Every question so far.
    fn asks(&self) -> Vec<AskId> {
        let asked = self.records.iter().filter_map(|r| {
            let is_asked = matches!(r.body, RecordBody::AskOpened { .. });
            is_asked.then(|| AskId::of(&r.chain, r.seq))
        });
        asked.collect()
    }

    /// Why the drill came out as it did.
    pub(super) fn judged(&self) -> Option<String> {
        self.records.iter().find_map(|r| {
            if let RecordBody::DrillJudged {
                outcome, reasons, ..
            } = &r.body
            {
                let why = if reasons.is_empty() {
                    match outcome {
                        DrillOutcome::Passed => "everything was as promised".to_owned(),
                        DrillOutcome::Failed | DrillOutcome::BrokenOff => "no reason".to_owned(),
                    }
                } else {
                    reasons.join("; ")
                };
                Some(format!("{outcome}: {why}"))
            } else {
                None
            }
        })
    }

    /// The report of the drill, which it writes to where it was asked for; none where there was no drill.
    ///
    /// # Errors
    /// Where it cannot be made or written.
    pub(super) async fn drill_report(&mut self) -> Result<Option<Told>, Error> {
        if self.judged().is_none() {
            return Ok(None);
        }
        let told = drill::find(&self.place, SERVICE).await?;
        drill::save(&told, &self.report)?;
        // Named so that it is found from anywhere.
        self.report = std::path::absolute(&self.report).unwrap_or(self.report.clone());
        Ok(Some(told))
    }
}
