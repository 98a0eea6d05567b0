//! What a notice says, before a channel cuts it to its length and escapes it.

use serde_json::Value;

use super::{cut::cut, template};
use crate::{
    model::{announcement::Announcement, page::Page, service::Template},
    port::channel::Notice,
};

/// Marks every message of an exercise.
pub const DRILL: &str = "[DRILL] ";

/// A notice in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub subject: String,
    /// For channels with room.
    pub long: Body,
    /// For short channels.
    pub short: Body,
}

/// A text with a part that may be shortened first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// What must be said first.
    pub head: String,
    /// Sentences that may be left out from the end.
    pub middle: Vec<String>,
    /// What must be said last: commands.
    pub tail: Vec<String>,
}

impl Message {
    /// Puts a notice into words.
    #[must_use]
    pub fn of(notice: &Notice) -> Self {
        match notice {
            Notice::Announcement {
                announcement,
                template,
            } => Self::announcement(announcement, template),
            Notice::Page {
                service,
                page,
                repeat,
                id,
            } => Self::page(service.as_str(), page, *repeat, id),
            Notice::PageOver { service, page, .. } => Self::over(service.as_str(), page),
        }
    }

    fn announcement(a: &Announcement, template: &Template) -> Self {
        let mark = if a.drill { DRILL } else { "" };
        let ready = template::ready_made(a.phase);
        let template = if template.text.trim().is_empty() {
            &ready
        } else {
            template
        };
        let own = a.text.as_deref();
        let say = |text: &str| Body {
            head: format!("{mark}{}", template::fill(text, a)),
            ..Body::default()
        };
        let subject = template.subject.as_deref().unwrap_or("{service}: {phase}");
        Self {
            subject: one_line(&format!("{mark}{}", template::fill(subject, a))),
            long: say(own.unwrap_or(&template.text)),
            short: say(own.or(template.short.as_deref()).unwrap_or(&template.text)),
        }
    }

    fn over(service: &str, page: &Page) -> Self {
        let subject = one_line(&format!("[closed] {service}: {}", page.title));
        let body = Body {
            head: subject.clone(),
            middle: vec!["Nobody needs to act on this any more.".to_owned()],
            tail: vec![format!("$ failover status {service}")],
        };
        Self {
            subject,
            long: body.clone(),
            short: body,
        }
    }

    fn page(service: &str, page: &Page, repeat: u32, id: &str) -> Self {
        let subject = one_line(&format!("[{}] {service}: {}", page.severity, page.title));
        let again =
            (repeat > 0).then(|| format!("Nobody has acknowledged this yet (repeat {repeat})."));
        let mut tail = Vec::new();
        if !page.commands.is_empty() {
            tail.push("What to do next:".to_owned());
            tail.extend(page.commands.iter().map(|c| format!("$ {}", one_line(c))));
        }
        // What stands in no journal cannot be acknowledged.
        if !id.is_empty() {
            tail.push("Acknowledge with:".to_owned());
            tail.push(format!("$ failover ack {id}"));
        }
        let body = Body {
            head: subject.clone(),
            middle: again.into_iter().chain(page.body.iter().cloned()).collect(),
            tail,
        };
        Self {
            subject,
            long: body.clone(),
            short: body,
        }
    }
}

impl Body {
    /// The whole text.
    #[must_use]
    pub fn text(&self) -> String {
        self.with(&self.middle, None)
    }

    /// The text cut until it fits, and whether anything had to go.
    pub fn fit(&self, fits: impl Fn(&str) -> bool) -> (String, bool) {
        let whole = self.text();
        if fits(&whole) {
            return (whole, false);
        }
        for keep in (0..self.middle.len()).rev() {
            let text = self.with(&self.middle[..keep], Some("…"));
            if fits(&text) {
                return (text, true);
            }
        }
        (cut(&whole, fits), true)
    }

    fn with(&self, middle: &[String], gap: Option<&str>) -> String {
        let mut lines = vec![self.head.as_str()];
        lines.extend(middle.iter().map(String::as_str));
        lines.extend(gap);
        lines.extend(self.tail.iter().map(String::as_str));
        lines.join("\n")
    }
}

/// What a page is about in one word, such as `twoWriters`: the same over all its repeats.
#[must_use]
pub fn topic(page: &Page) -> String {
    let named = match serde_json::to_value(&page.topic) {
        Ok(Value::String(word)) => Some(word),
        Ok(Value::Object(one)) => one.into_iter().next().map(|(word, _)| word),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | Err(_) => None,
    };
    named.unwrap_or_default()
}

/// The text on one line, without control characters: fit for a subject and for a header.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        announce::sample,
        model::{announcement::Phase, page::PageTopic},
    };

    fn announced(phase: Phase, change: impl FnOnce(&mut Announcement)) -> Message {
        let mut a = sample::announcement(phase);
        change(&mut a);
        Message::of(&Notice::Announcement {
            announcement: Box::new(a),
            template: template::ready_made(phase),
        })
    }

    #[test]
    fn on_standby_says_where_to_go() {
        let m = announced(Phase::OnStandby, |_| {});
        assert_eq!(m.subject, "Shop works again, from our standby site");
        assert_eq!(
            m.long.text(),
            "Shop works again, from our standby site. The problem began at 2026-11-21 14:03 UTC.\n\
             The problem was: Orders cannot be placed.\n\
             Use this address now: https://shop.standby.example.net/\n\
             Everything up to 14:02 UTC is safe.\n\
             The next update comes by 2026-11-21 14:43 UTC.\n\
             Status page: https://status.example.net/\n\
             Incident shop-i7"
        );
    }

    #[test]
    fn an_exercise_is_marked_everywhere() {
        let m = announced(Phase::FailingOver, |a| a.drill = true);
        for text in [&m.subject, &m.long.text(), &m.short.text()] {
            assert!(text.starts_with("[DRILL] "), "{text}");
        }
        let m = announced(Phase::Correction, |a| {
            a.drill = true;
            a.text = Some("It was us, {service}.".to_owned());
        });
        assert_eq!(m.long.text(), "[DRILL] It was us, Shop.");
        assert_eq!(m.short, m.long);
    }

    #[test]
    fn an_empty_template_is_the_ready_made_one() {
        let notice = |template| Notice::Announcement {
            announcement: Box::new(sample::announcement(Phase::OnStandby)),
            template,
        };
        assert_eq!(
            Message::of(&notice(Template::default())),
            Message::of(&notice(template::ready_made(Phase::OnStandby)))
        );
    }

    #[test]
    fn a_page_keeps_its_commands_when_it_is_cut() {
        let m = Message::of(&sample::page());
        let whole = m.short.text();
        assert_eq!(
            whole,
            "[critical] shop: Approval needed: fail over to standby\n\
             Nobody has acknowledged this yet (repeat 2).\n\
             The database is down, seen from 3 of 3 networks.\n\
             Up to 4 s of writes would be lost.\n\
             If nobody answers, nothing is done.\n\
             What to do next:\n\
             $ failover approve shop-a3\n\
             $ failover deny shop-a3\n\
             Acknowledge with:\n\
             $ failover ack shop-p4"
        );
        let (text, was_cut) = m.short.fit(|t| t.chars().count() <= 260);
        assert!(was_cut);
        assert!(text.contains("\n…\nWhat to do next:\n$ failover approve shop-a3"));
        assert!(text.ends_with("$ failover ack shop-p4"));
        assert!(!text.contains("If nobody answers"));
    }

    #[test]
    fn a_topic_is_one_word() {
        let Notice::Page { mut page, .. } = sample::page() else {
            panic!("no page")
        };
        assert_eq!(topic(&page), "ask");
        page.topic = PageTopic::TwoWriters;
        assert_eq!(topic(&page), "twoWriters");
    }

    #[test]
    fn a_subject_is_one_line() {
        assert_eq!(one_line("a\r\nBcc: x@y\u{0}\tz "), "a Bcc: x@y z");
    }
}
