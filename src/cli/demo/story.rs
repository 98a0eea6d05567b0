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
        line::{self, Weight},
        output::{self, Output},
        progress::Progress,
        socket::message::Event,
    },
    model::{
        record::{ForecastPart, RecordBody},
        span::Span,
        time::Time,
    },
};

/// The demo as it is told: to standard output, or beside it where that holds the JSON.
pub struct Story {
    output: Output,
    progress: Progress,
    color: bool,
    outage: Option<Time>,
    mails: usize,
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
        }
    }

    /// A heading.
    pub fn heading(&self, text: &str) {
        self.tell(&format!("\n{}", self.paint(text, Style::new().bold())));
    }

    /// Something to know, with its name before it.
    pub fn fact(&self, name: &str, text: &str) {
        self.tell(&format!("  {name:<12} {text}"));
    }

    /// The outage begins: from here on time counts.
    pub fn outage(&mut self, at: Time, text: &str) {
        self.outage = Some(at);
        self.mails = 0;
        self.heading(text);
    }

    /// Something that happened now.
    pub fn moment(&self, at: Time, topic: &str, text: &str, weight: Weight) {
        let style = match weight {
            Weight::Detail => Style::new().dimmed(),
            Weight::Normal => Style::new(),
            Weight::Heavy => Style::new().bold(),
            Weight::Bad => Style::new().bold().red(),
        };
        self.tell(&format!(
            "{}  {topic:<10} {}",
            self.clock(at),
            self.paint(text, style)
        ));
    }

    /// A record, and what follows from it.
    pub fn record(&mut self, event: &Event) {
        self.progress.report(&event.report);
        if self.outage.is_none() {
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
            Service::Telegram if to_team => "page",
            Service::Telegram => "Telegram",
        };
        if to_team {
            let first = message.text.lines().next().unwrap_or_default();
            self.moment(message.at, topic, first, Weight::Detail);
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
        for line in message.text.trim().lines() {
            self.tell(&format!("                     | {line}"));
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
