//! What a text message costs: networks carry and charge it by segments (3GPP TS 23.038 and 23.040).

use std::fmt;

/// GSM-7's characters of one septet, without the escape.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡\
     ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

/// GSM-7's characters of two septets: the escape and one more.
const EXTENDED: &str = "\u{c}^{}\\[~]|€";

/// How a text is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Seven bits a character; only where every character is one of GSM-7's.
    Gsm7,
    /// Sixteen bits a unit, two units for an emoji.
    Ucs2,
}

impl Alphabet {
    /// Units in a message of one segment.
    #[must_use]
    pub fn single(self) -> usize {
        match self {
            Self::Gsm7 => 160,
            Self::Ucs2 => 70,
        }
    }

    /// Units in each segment of a longer message: a header takes the rest.
    #[must_use]
    pub fn part(self) -> usize {
        match self {
            Self::Gsm7 => 153,
            Self::Ucs2 => 67,
        }
    }
}

impl fmt::Display for Alphabet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gsm7 => "GSM-7",
            Self::Ucs2 => "UCS-2",
        })
    }
}

/// How long a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How it is carried.
    pub alphabet: Alphabet,
    /// Septets or 16-bit units.
    pub units: usize,
    /// How many segments are charged.
    pub segments: usize,
}

/// How long a text is, and how many segments it takes.
#[must_use]
pub fn measure(text: &str) -> Size {
    let alphabet = if text.chars().all(|c| septets(c).is_some()) {
        Alphabet::Gsm7
    } else {
        Alphabet::Ucs2
    };
    let widths = text.chars().map(|c| match alphabet {
        Alphabet::Gsm7 => septets(c).unwrap_or(2),
        Alphabet::Ucs2 => c.len_utf16(),
    });
    let units = widths.clone().sum();
    let segments = if units <= alphabet.single() {
        1
    } else {
        parts(widths, alphabet.part())
    };
    Size {
        alphabet,
        units,
        segments,
    }
}

/// A character of two units is never split between two segments.
fn parts(widths: impl Iterator<Item = usize>, room: usize) -> usize {
    let (mut parts, mut used) = (1, 0);
    for width in widths {
        if used + width > room {
            parts += 1;
            used = 0;
        }
        used += width;
    }
    parts
}

fn septets(c: char) -> Option<usize> {
    if BASIC.contains(c) {
        Some(1)
    } else {
        EXTENDED.contains(c).then_some(2)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", Alphabet::Gsm7, 0, 1)]
    #[case(&"a".repeat(160), Alphabet::Gsm7, 160, 1)]
    #[case(&"a".repeat(161), Alphabet::Gsm7, 161, 2)]
    #[case(&"a".repeat(306), Alphabet::Gsm7, 306, 2)]
    #[case(&"a".repeat(307), Alphabet::Gsm7, 307, 3)]
    #[case(&"€".repeat(80), Alphabet::Gsm7, 160, 1)]
    // 152 septets and an escape do not fit: each part ends one short.
    #[case(&"€".repeat(153), Alphabet::Gsm7, 306, 3)]
    #[case("Ä ö ñ à [x] {y}", Alphabet::Gsm7, 19, 1)]
    #[case("one `tick`", Alphabet::Ucs2, 10, 1)]
    #[case("an ellipsis…", Alphabet::Ucs2, 12, 1)]
    #[case(&"я".repeat(70), Alphabet::Ucs2, 70, 1)]
    #[case(&"я".repeat(71), Alphabet::Ucs2, 71, 2)]
    #[case(&"я".repeat(135), Alphabet::Ucs2, 135, 3)]
    // 33 emoji take 66 of 67 units, and none is split.
    #[case(&"🙂".repeat(66), Alphabet::Ucs2, 132, 2)]
    #[case(&"🙂".repeat(67), Alphabet::Ucs2, 134, 3)]
    fn sizes(
        #[case] text: &str,
        #[case] alphabet: Alphabet,
        #[case] units: usize,
        #[case] segments: usize,
    ) {
        let expected = Size {
            alphabet,
            units,
            segments,
        };
        assert_eq!(measure(text), expected, "{text}");
    }
}
