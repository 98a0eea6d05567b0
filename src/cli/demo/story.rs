//! The demo as it is told: one line for each thing that happens, counted from the outage.

use std::io::{self, Write};

use owo_colors::Style;

use super::{
    documents::CUSTOMERS,
    outside::{Received, Service},
    stage::TEAM_CHAT,
};
use crate::{
    cli::{
        output::{self, Output},
        progress::Progress,
    },
    desk::{
        line::{self, Weight},
        message::Event,
    },
    model::{
        record::{ForecastPart, RecordBody},
        span::Span,
        time::Time,
    },
};

/// Columns that facts are kept within.
const COLUMNS: usize = 100;
/// Columns before a fact.
const INDENT: usize = 15;
/// In a page that asks, the command that answers.
const ANSWER: &str = "failover approve ";

/// The demo as it is told: to standard output, or beside it where that holds the JSON.
pub struct Story {
    output: Output,
    progress: Progress,
    color: bool,
    outage: Option<Time>,
    mails: usize,
    /// What happened lately: records and messages come by different ways, and are told in the order of their times.
    lately: Vec<(Time, String)>,
}

impl Story {
    /// Nothing yet.
    #[must_use]
    pub fn new(output: Output) -> Self {
        Self {
            output,
            progress: Progress::new(output),
            color: if output.json() {
                output.live
            } else {
                output.color
            },
            outage: None,
            mails: 0,
            lately: Vec::new(),
        }
    }

    /// A heading.
    pub fn heading(&mut self, text: &str) {
        self.catch_up(None);
        self.tell(&format!("\n{}", self.paint(text, Style::new().bold())));
    }

    /// Something to know, with its name before it.
    pub fn fact(&self, name: &str, text: &str) {
        let mut name = name;
        for line in wrapped(text, COLUMNS - INDENT) {
            self.tell(&format!("  {name:<12} {line}"));
            name = "";
        }
    }

    /// The outage begins: from here on time counts.
    pub fn outage(&mut self, at: Time, text: &str) {
        self.outage = Some(at);
        self.mails = 0;
        self.heading(text);
    }

    /// Something that happened now.
    pub fn moment(&mut self, at: Time, topic: &str, text: &str, weight: Weight) {
        let style = match weight {
            Weight::Detail => Style::new().dimmed(),
            Weight::Normal => Style::new(),
            Weight::Heavy => Style::new().bold(),
            Weight::Bad => Style::new().bold().red(),
        };
        let line = format!(
            "{}  {topic:<10} {}",
            self.clock(at),
            self.paint(text, style)
        );
        self.lately.push((at, line));
    }

    /// Tells what happened up to a moment, or all of it.
    pub fn catch_up(&mut self, until: Option<Time>) {
        // Stable: what happened at once stays in the order that it came in.
        self.lately.sort_by_key(|(at, _)| *at);
        let ripe = self
            .lately
            .partition_point(|(at, _)| until.is_none_or(|until| *at <= until));
        for (_, line) in self.lately.drain(..ripe).collect::<Vec<_>>() {
            self.tell(&line);
        }
    }

    /// A record, and what follows from it.
    pub fn record(&mut self, event: &Event) {
        self.progress.report(&event.report);
        if self.outage.is_none() {
            return;
        }
        // A page is told when the team gets it.
        if let RecordBody::PageRaised { .. } = &event.record.body {
            return;
        }
        let line = line::of(&event.record);
        if line.weight > Weight::Detail {
            self.moment(event.record.at, line.topic, &line.text, line.weight);
        }
        if let RecordBody::RunOpened { forecast, .. } = &event.record.body {
            let rto = event.report.rto;
            self.moment(
                event.record.at,
                "budget",
                &budget(forecast, rto),
                Weight::Normal,
            );
        }
    }

    /// A message as somebody got it.
    pub fn message(&mut self, message: &Received) {
        let to_team = message.to == TEAM_CHAT.to_string();
        let topic = match message.service {
            Service::Mail => "mail",
            Service::X => "X",
            Service::Telegram => "Telegram",
        };
        if to_team {
            self.page(message);
            return;
        }
        if message.service == Service::Mail {
            self.mails += 1;
            // Everybody gets the same: one is shown, the rest is counted.
            if self.mails == CUSTOMERS {
                let text = format!("… {CUSTOMERS} customers have it");
                self.moment(message.at, topic, &text, Weight::Normal);
            }
            if self.mails > 1 {
                return;
            }
        }
        let subject = message
            .subject
            .as_ref()
            .map(|s| format!(", subject: {s}"))
            .unwrap_or_default();
        let text = format!("to {}{subject}", message.to);
        self.moment(message.at, topic, &text, Weight::Normal);
        self.body(message, 0);
    }

    /// A page as the team gets it: one that asks for an answer in full, of others the first line.
    fn page(&mut self, message: &Received) {
        let first = message.text.lines().next().unwrap_or_default();
        let asks = message.text.contains(ANSWER);
        let weight = if asks { Weight::Heavy } else { Weight::Detail };
        self.moment(message.at, "page", first, weight);
        if asks {
            self.body(message, 1);
        }
    }

    /// The lines of a message from one on.
    fn body(&mut self, message: &Received, from: usize) {
        for line in message.text.trim().lines().skip(from) {
            self.lately
                .push((message.at, format!("                     | {line}")));
        }
    }

    /// Prints a line without disturbing what runs.
    pub fn tell(&self, text: &str) {
        self.progress.aside(|| {
            // Whether anybody reads it changes nothing.
            let _ = if self.output.json() {
                writeln!(io::stderr().lock(), "{text}")
            } else {
                writeln!(io::stdout().lock(), "{text}")
            };
        });
    }

    fn clock(&self, at: Time) -> String {
        match self.outage {
            Some(outage) => format!("{:>+8.2} s", seconds(at.since(outage))),
            None => " ".repeat(10),
        }
    }

    fn paint(&self, text: &str, style: Style) -> String {
        output::paint(text, style, self.color)
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        self.catch_up(None);
    }
}

/// A text in lines of at most so many columns; a word that is longer stays whole.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let long = word.trim_end().chars().count();
        if used > 0 && used + long > columns {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
        used += word.chars().count();
    }
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn budget(parts: &[ForecastPart], rto: Span) -> String {
    let all: Vec<_> = parts
        .iter()
        .map(|p| format!("{} {}", p.part, p.expected))
        .collect();
    let total = parts
        .iter()
        .fold(Span::ZERO, |sum, p| sum.saturating_add(p.expected));
    let note = if parts.iter().any(|p| p.measured) {
        ""
    } else {
        " (time-outs: nothing was measured yet)"
    };
    format!("{} = {total} of the RTO of {rto}{note}", all.join(" + "))
}

/// A span in seconds.
#[must_use]
pub fn seconds(span: Span) -> f64 {
    span.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_fact_is_wrapped_between_words() {
        assert_eq!(wrapped("aa bb  cc", 6), ["aa bb", "cc"]);
        assert_eq!(wrapped("a muchlonger b", 4), ["a", "muchlonger", "b"]);
        assert_eq!(wrapped("step         0.17 s", 40), ["step         0.17 s"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
