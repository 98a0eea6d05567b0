//! The words of a text message: made of characters that are cheap to send, and cut without breaking what a person types.

use super::segment;
use crate::{
    announce::{
        cut::cut_marked,
        message::{Message, one_line},
    },
    model::page::Page,
    port::channel::Notice,
};

/// Twilio takes no longer text (error 21617).
const LONGEST: usize = 1600;

/// Marks where something was left out. The one character for it is none of GSM-7's and would more than double the cost.
const GAP: &str = "...";

/// Fewer characters than this of a page's first line are not worth another command.
const HEAD: usize = 32;

/// The text of a notice in at most so many segments, and whether anything had to go.
pub fn compose(notice: &Notice, segments: usize) -> (String, bool) {
    let fits = |t: &str| segment::measure(t).segments <= segments && t.chars().count() <= LONGEST;
    match notice {
        Notice::Announcement { .. } | Notice::PageOver { .. } => {
            let whole = plain(&Message::of(notice).short.text());
            let text = cut_marked(&whole, GAP, fits);
            let was_cut = text != whole;
            (text, was_cut)
        }
        Notice::Page { page, id, .. } => {
            let lines = Lines::of(&Message::of(notice), page, id);
            let whole = lines.text(&lines.head, lines.middle.len(), lines.commands.len());
            if fits(&whole) {
                return (whole, false);
            }
            (lines.cut(fits), true)
        }
    }
}

/// A page, line by line. Commands stand without the words around them, which cost a segment.
struct Lines {
    head: String,
    middle: Vec<String>,
    commands: Vec<String>,
    acknowledge: Option<String>,
}

impl Lines {
    fn of(message: &Message, page: &Page, id: &str) -> Self {
        let middle = &message.short.middle;
        let commands = &page.commands;
        Self {
            head: plain(&message.subject),
            middle: middle.iter().map(|l| plain(&one_line(l))).collect(),
            commands: commands.iter().map(|c| one_line(c)).collect(),
            acknowledge: (!id.is_empty()).then(|| one_line(&format!("failover ack {id}"))),
        }
    }

    /// Explanations go first, then words of the first line, then commands from the end; how to acknowledge goes last.
    fn cut(&self, fits: impl Fn(&str) -> bool) -> String {
        for middle in (0..self.middle.len()).rev() {
            let text = self.text(&self.head, middle, self.commands.len());
            if fits(&text) {
                return text;
            }
        }
        let enough = self.head.chars().count().min(HEAD);
        for commands in (0..=self.commands.len()).rev() {
            let with = |head: &str| self.text(head, 0, commands);
            let head = cut_marked(&self.head, GAP, |h| fits(&with(h)));
            let text = with(&head);
            if fits(&text) && (commands == 0 || head.chars().count() >= enough) {
                return text;
            }
        }
        cut_marked(&self.text("", 0, 0), GAP, fits)
    }

    /// With so many of the explanations and of the commands.
    fn text(&self, head: &str, middle: usize, commands: usize) -> String {
        let mut lines = Vec::new();
        if !head.is_empty() {
            lines.push(head);
        }
        lines.extend(self.middle[..middle].iter().map(String::as_str));
        let whole = middle == self.middle.len() && commands == self.commands.len();
        if (!whole || head.is_empty()) && !head.ends_with(GAP) {
            lines.push(GAP);
        }
        lines.extend(self.commands[..commands].iter().map(String::as_str));
        lines.extend(self.acknowledge.as_deref());
        lines.join("\n")
    }
}

/// Prose in characters of GSM-7 where these say the same, without control characters.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '…' => out.push_str(GAP),
            '“' | '”' | '„' | '«' | '»' => out.push('"'),
            '‘' | '’' | '‚' | '`' => out.push('\''),
            '–' | '—' | '‑' | '−' => out.push('-'),
            '•' | '·' => out.push('*'),
            '→' => out.push_str("->"),
            '\t' | '\u{a0}' | '\u{2009}' | '\u{202f}' => out.push(' '),
            '\u{200b}' | '\u{feff}' => {}
            '\n' => out.push(c),
            _ if c.is_control() => {}
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::segment::{Alphabet, measure},
        *,
    };
    use crate::{
        announce::{sample, template},
        model::{
            announcement::Phase,
            page::{PageTopic, Severity},
        },
    };

    #[test]
    fn a_page_in_three_segments_is_whole() {
        let (text, was_cut) = compose(&sample::page(), 3);
        assert_eq!(
            text,
            "[critical] shop: Approval needed: fail over to standby\n\
             Nobody has acknowledged this yet (repeat 2).\n\
             The database is down, seen from 3 of 3 networks.\n\
             Up to 4 s of writes would be lost.\n\
             If nobody answers, nothing is done.\n\
             failover approve shop-a3\n\
             failover deny shop-a3\n\
             failover ack shop-p4"
        );
        assert!(!was_cut);
        assert_eq!(measure(&text).alphabet, Alphabet::Gsm7);
    }

    #[test]
    fn in_one_segment_its_commands_stay() {
        assert_eq!(
            compose(&sample::page(), 1),
            (
                "[critical] shop: Approval needed: fail over to standby\n\
                 ...\n\
                 failover approve shop-a3\n\
                 failover deny shop-a3\n\
                 failover ack shop-p4"
                    .to_owned(),
                true
            )
        );
    }

    #[test]
    fn a_dear_character_in_prose_is_said_with_a_cheap_one() {
        let mut page = sample::page();
        let Notice::Page { page: of, .. } = &mut page else {
            panic!("no page")
        };
        of.title = "It’s “down” – since 14:03…\u{1b}\r\nTo: +44".to_owned();
        let (text, _) = compose(&page, 3);
        assert!(text.starts_with("[critical] shop: It's \"down\" - since 14:03... To: +44\n"));
        assert_eq!(measure(&text).alphabet, Alphabet::Gsm7);
    }

    #[test]
    fn an_announcement_keeps_its_url() {
        let notice = Notice::Announcement {
            announcement: Box::new(sample::announcement(Phase::OnStandby)),
            template: template::ready_made(Phase::OnStandby),
        };
        let (text, was_cut) = compose(&notice, 1);
        assert!(was_cut && text.contains("https://shop.standby.example.net/"));
        assert!(text.contains("..."), "{text}");
    }

    #[test]
    fn a_page_that_stands_in_no_journal_cannot_be_acknowledged() {
        let Notice::Page {
            service,
            page,
            repeat,
            ..
        } = sample::page()
        else {
            panic!("no page")
        };
        let notice = Notice::Page {
            service,
            page,
            repeat,
            id: String::new(),
        };
        let (text, _) = compose(&notice, 3);
        assert!(text.ends_with("\nfailover deny shop-a3"), "{text}");
    }

    fn notices() -> impl Strategy<Value = Notice> {
        let words = "(\\PC{0,12}[ \n\r\u{0}]){0,14}";
        (
            "[a-z0-9-]{1,63}",
            words,
            prop::collection::vec(words, 0..4),
            prop::collection::vec(
                "failover [a-z]{3,9} [a-z0-9-]{1,40}( --reason \\PC{0,20})?",
                0..4,
            ),
            0_u32..3,
            1_u32..1_000_000,
        )
            .prop_map(
                |(service, title, body, commands, repeat, page)| Notice::Page {
                    id: format!("{service}-p{page}"),
                    service: service.as_str().into(),
                    page: Box::new(Page {
                        topic: PageTopic::Hold,
                        severity: Severity::Critical,
                        title,
                        body,
                        commands,
                    }),
                    repeat,
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_comes_out_fits_and_can_be_acknowledged(notice in notices(), most in 1_usize..=10) {
            let (text, was_cut) = compose(&notice, most);
            prop_assert!(measure(&text).segments <= most);
            prop_assert!(text.chars().count() <= LONGEST);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
            let Notice::Page { page, id, .. } = &notice else { panic!("no page") };
            let lines: Vec<&str> = text.lines().collect();
            let acknowledge = format!("failover ack {id}");
            prop_assert_eq!(lines.last().copied(), Some(acknowledge.as_str()));
            // Each command stands there whole or not at all, in order from the first.
            let whole: Vec<String> = page.commands.iter().map(|c| one_line(c)).collect();
            let there: Vec<&str> = lines.iter().copied().filter(|l| l.starts_with("failover ")).collect();
            let kept = there.len() - 1;
            prop_assert!(kept <= whole.len() && there[..kept] == whole[..kept], "{text}");
            prop_assert!(was_cut || kept == whole.len());
            prop_assert!(!was_cut || text.contains(GAP));
        }
    }
}
