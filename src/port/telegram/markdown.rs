//! Telegram's MarkdownV2.

/// Characters that must be escaped in text. Source: <https://core.telegram.org/bots/api#markdownv2-style>.
const SPECIAL: &str = r"_*[]()~`>#+-=|{}.!\";

/// The text with its first line in bold and its commands (`$ …`) as code. What Telegram shows is the text.
#[must_use]
pub fn mark_up(text: &str) -> String {
    let lines = text.lines().enumerate().map(|(i, line)| {
        if let Some(command) = line.strip_prefix("$ ") {
            format!("$ `{}`", escape(command, r"`\"))
        } else if i == 0 && !line.trim().is_empty() {
            format!("*{}*", escape(line, SPECIAL))
        } else {
            escape(line, SPECIAL)
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn escape(text: &str, special: &str) -> String {
    let mut out = String::with_capacity(text.len() * 5 / 4);
    for c in text.chars() {
        if special.contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The length that Telegram counts: UTF-16 units.
#[must_use]
pub fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_character_is_escaped() {
        assert_eq!(
            mark_up("a\n_*[]()~`>#+-=|{}.!\\"),
            "*a*\n\\_\\*\\[\\]\\(\\)\\~\\`\\>\\#\\+\\-\\=\\|\\{\\}\\.\\!\\\\"
        );
    }

    #[test]
    fn commands_are_code() {
        assert_eq!(
            mark_up("[critical] shop\nNext:\n$ failover ack shop-p1 --reason `x`"),
            "*\\[critical\\] shop*\nNext:\n$ `failover ack shop-p1 --reason \\`x\\``"
        );
    }

    #[test]
    fn lengths_are_in_utf_16() {
        assert_eq!(length("aé🙂"), 4);
    }
}
