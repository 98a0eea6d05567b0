//! Figures of a report as people read them: no more digits than tell something.

use crate::{decide::drill::report::RtoPart, model::span::Span};

/// A span with about three digits: `30ms`, `6.7s`, `10m55s`.
pub fn brief(span: Span) -> String {
    let ms = span.as_millis();
    match ms {
        0..1000 => span.to_string(),
        1000..60_000 => {
            let seconds = format!("{:.1}", span.as_secs_f64());
            format!("{}s", seconds.trim_end_matches(".0"))
        }
        _ => Span::from_secs((ms + 500) / 1000).to_string(),
    }
}

/// What a part of the recovery time is called.
pub fn label(part: &RtoPart) -> &str {
    match part.part.as_str() {
        "dnsTtl" => "DNS TTL",
        other => other,
    }
}

/// How far steps were off what was expected of them, in percent of that.
pub fn off(error: f64) -> String {
    if error < 0.0 {
        format!("{:.1} % less time than expected", -error)
    } else {
        format!("{error:.1} % more time than expected")
    }
}

/// The beginning of a name that has no more room than this.
pub fn short(name: &str, columns: usize) -> String {
    if name.chars().count() <= columns {
        return name.to_owned();
    }
    let begin: String = name.chars().take(columns.saturating_sub(1)).collect();
    format!("{}…", begin.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_no_more_digits_than_tell_something() {
        for (ms, said) in [
            (0, "0s"),
            (30, "30ms"),
            (1_000, "1s"),
            (6_687, "6.7s"),
            (59_999, "60s"),
            (60_400, "1m"),
            (654_731, "10m55s"),
            (43_200_000, "12h"),
        ] {
            assert_eq!(brief(Span::from_millis(ms)), said);
        }
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(short("Wärme", 5), "Wärme");
        assert_eq!(short("Wärme ab", 7), "Wärme…");
    }

    #[test]
    fn an_error_says_which_way() {
        assert_eq!(off(-12.34), "12.3 % less time than expected");
        assert_eq!(off(5.0), "5.0 % more time than expected");
    }
}
