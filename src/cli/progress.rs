//! What happens, as it happens: a line for each record and, on a terminal, what runs and what is left of the RTO.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{journal, output::Output};
use crate::{
    decide::explain::{Report, RunReport},
    desk::{
        line::{self, Weight},
        message::Event,
    },
    driver::clock::HostRuntime,
    error::Error,
    model::{span::Span, time::Time},
    port::runtime::Runtime,
};

/// Columns of the bar.
const BAR: u64 = 24;

/// What happens, as it happens.
pub struct Progress {
    output: Output,
    bar: Option<ProgressBar>,
    /// Whether details are shown too.
    details: bool,
}

impl Progress {
    /// Nothing yet.
    #[must_use]
    pub fn new(output: Output) -> Self {
        Self {
            output,
            bar: None,
            details: output.json(),
        }
    }

    /// Shows a record and what follows from it.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub fn event(&mut self, event: &Event) -> Result<(), Error> {
        let line = line::of(&event.record);
        if self.output.json() {
            self.output.value_line(&serde_json::json!({
                "service": event.record.chain,
                "seq": event.record.seq,
                "at": event.record.at,
                "topic": line.topic,
                "text": line.text,
                "record": event.record.body,
            }))?;
        } else if self.details || line.weight > Weight::Detail {
            let told = journal::told(&event.record, &line, self.output);
            self.print(&format!("{}  {told}", event.record.chain))?;
        }
        self.report(&event.report);
        Ok(())
    }

    /// Prints a line without disturbing the bar.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub fn print(&self, text: &str) -> Result<(), Error> {
        self.aside(|| self.output.line(text))
    }

    /// Does something without disturbing the bar.
    pub fn aside<T>(&self, something: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(something),
            None => something(),
        }
    }

    /// Shows what runs, where a run is open and there is a terminal.
    pub fn report(&mut self, report: &Report) {
        let open = report
            .run
            .as_ref()
            .filter(|run| run.outcome.is_none() && self.output.live);
        let Some(run) = open else {
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
            return;
        };
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        if let Some(style) = style(run, report.rto) {
            bar.set_style(style);
        }
        bar.set_message(running(run));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A bar that runs down as the RTO does.
fn style(run: &RunReport, rto: Span) -> Option<ProgressStyle> {
    let (since, verified) = (run.since, run.verified);
    let style = ProgressStyle::with_template("{spinner} {left} {msg}").ok()?;
    let clock = HostRuntime::new();
    Some(style.with_key(
        "left",
        move |_: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let text = left(since, verified, rto, clock.now());
            let _ = out.write_str(&text);
        },
    ))
}

/// `[#########---------------] 38s of 1m left`.
fn left(since: Time, verified: Option<Time>, rto: Span, now: Time) -> String {
    let spent = verified.unwrap_or(now).since(since);
    let left = rto.saturating_sub(spent);
    let gone = spent.as_millis().min(rto.as_millis());
    let filled = (gone * BAR).checked_div(rto.as_millis()).unwrap_or(BAR);
    let columns = |c: &str, n: u64| c.repeat(usize::try_from(n).unwrap_or(0));
    let bar = format!("[{}{}]", columns("#", filled), columns("-", BAR - filled));
    let seconds = |span: Span| Span::from_secs(span.as_millis() / 1000);
    match verified {
        Some(_) => format!("{bar} verified after {}", seconds(spent)),
        None if left == Span::ZERO => {
            format!(
                "{bar} RTO of {rto} lost {} ago",
                seconds(spent.saturating_sub(rto))
            )
        }
        None => format!("{bar} {} of {rto} left", seconds(left)),
    }
}

/// The steps that are under way.
fn running(run: &RunReport) -> String {
    let steps: Vec<_> = run
        .steps
        .iter()
        .filter(|s| s.state == "running" || s.state == "unclear")
        .map(|s| s.id.to_string())
        .collect();
    if steps.is_empty() {
        format!("{} {}", run.kind, run.id)
    } else {
        format!("{} {}: {}", run.kind, run.id, steps.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_runs_down_with_the_rto() {
        let at = |secs: i64| Time::from_millis(secs * 1000);
        let rto = Span::from_secs(60);
        assert_eq!(
            left(at(0), None, rto, at(15)),
            "[######------------------] 45s of 1m left"
        );
        assert_eq!(
            left(at(0), None, rto, at(70)),
            "[########################] RTO of 1m lost 10s ago"
        );
        assert_eq!(
            left(at(0), Some(at(30)), rto, at(99)),
            "[############------------] verified after 30s"
        );
    }
}
