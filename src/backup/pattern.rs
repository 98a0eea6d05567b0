//! Patterns of names: `*` within a part of a path, and the moment at which a backup was taken.

use std::iter::Peekable;

use crate::model::time::Time;

/// A pattern of paths below a place of backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Vec<Token>>,
    /// Whether it names a folder, all of which is one copy.
    pub is_folder: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    Star,
    Field(Field),
}

/// A part of a moment, with so many digits as it always has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl Field {
    const ALL: [Self; 6] = [
        Self::Year,
        Self::Month,
        Self::Day,
        Self::Hour,
        Self::Minute,
        Self::Second,
    ];

    const fn letter(self) -> char {
        match self {
            Self::Year => 'Y',
            Self::Month => 'm',
            Self::Day => 'd',
            Self::Hour => 'H',
            Self::Minute => 'M',
            Self::Second => 'S',
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::Year => 4,
            Self::Month | Self::Day | Self::Hour | Self::Minute | Self::Second => 2,
        }
    }
}

/// What a pattern found in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path of the copy: the object's own, or its folder's with a slash at its end.
    pub path: String,
    /// When it was taken, where the pattern says.
    pub at: Option<Time>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Where it is none; what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_folder = text.ends_with('/');
        let body = text.strip_suffix('/').unwrap_or(text);
        if body.is_empty() || body.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(
                "expected a path below the place, such as nightly/shop-%Y-%m-%d.dump".into(),
            );
        }
        let parts: Vec<_> = body.split('/').map(tokens).collect::<Result<_, _>>()?;
        let mut fields: Vec<_> = parts
            .iter()
            .flatten()
            .filter_map(|t| match t {
                Token::Field(field) => Some(*field),
                Token::Char(_) | Token::Star => None,
            })
            .collect();
        let named = fields.len();
        fields.sort_unstable();
        fields.dedup();
        if fields.len() < named {
            return Err("a part of the moment stands there twice".into());
        }
        if !matches!(named, 0 | 3..) || fields[..] != Field::ALL[..named] {
            return Err(
                "expected a moment as %Y, %m, %d, then %H, %M and %S as far as there are; or none of them".into(),
            );
        }
        Ok(Self { parts, is_folder })
    }

    /// What it finds in an object's path; none where it does not fit.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Found> {
        let names: Vec<&str> = path.split('/').collect();
        let fits = if self.is_folder {
            names.len() > self.parts.len()
        } else {
            names.len() == self.parts.len()
        };
        if !fits {
            return None;
        }
        let mut values = [None; 6];
        for (part, name) in self.parts.iter().zip(&names) {
            let chars: Vec<char> = name.chars().collect();
            if !fit(part, &chars, &mut values) {
                return None;
            }
        }
        let at = match values[0] {
            Some(_) => Some(moment(values)?),
            None => None,
        };
        let path = if self.is_folder {
            format!("{}/", names[..self.parts.len()].join("/"))
        } else {
            path.to_owned()
        };
        Some(Found { path, at })
    }
}

impl Pattern {
    /// The name of a copy of this moment; none where the pattern leaves any of it open, or names a folder.
    #[must_use]
    pub fn name(&self, at: Time) -> Option<String> {
        let digits = at.rfc_digits();
        let mut minutes = false;
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut name = String::new();
            for token in part {
                match token {
                    Token::Char(c) => name.push(*c),
                    Token::Star => return None,
                    Token::Field(field) => {
                        minutes |= *field == Field::Minute;
                        name.push_str(&digits[*field as usize]);
                    }
                }
            }
            parts.push(name);
        }
        (minutes && !self.is_folder).then(|| parts.join("/"))
    }
}

fn tokens(part: &str) -> Result<Vec<Token>, String> {
    let mut chars = part.chars().peekable();
    let mut out = Vec::new();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => Token::Star,
            '%' => field(&mut chars)?,
            other => Token::Char(other),
        });
    }
    Ok(out)
}

fn field(chars: &mut Peekable<impl Iterator<Item = char>>) -> Result<Token, String> {
    let letter = chars.next();
    if letter == Some('%') {
        return Ok(Token::Char('%'));
    }
    Field::ALL
        .into_iter()
        .find(|f| Some(f.letter()) == letter)
        .map(Token::Field)
        .ok_or_else(|| "after % expected Y, m, d, H, M, S or another %".to_owned())
}

/// Whether a name fits a part, and what its fields are then.
fn fit(part: &[Token], name: &[char], values: &mut [Option<i16>; 6]) -> bool {
    let Some((token, rest)) = part.split_first() else {
        return name.is_empty();
    };
    match token {
        Token::Char(c) => name.first() == Some(c) && fit(rest, &name[1..], values),
        Token::Star => (0..=name.len()).any(|n| fit(rest, &name[n..], values)),
        Token::Field(field) => {
            let Some((digits, after)) = name.split_at_checked(field.digits()) else {
                return false;
            };
            let text: String = digits.iter().collect();
            let value = text
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| text.parse());
            let Some(Ok(value)) = value else { return false };
            values[*field as usize] = Some(value);
            fit(rest, after, values)
        }
    }
}

fn moment(values: [Option<i16>; 6]) -> Option<Time> {
    let small = |n: usize| i8::try_from(values[n].unwrap_or(0)).ok();
    let date = jiff::civil::DateTime::new(
        values[0]?,
        small(1)?,
        small(2)?,
        small(3)?,
        small(4)?,
        small(5)?,
        0,
    );
    let moment = date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Time::from_millis(moment.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &str, path: &str) -> Option<(String, String)> {
        let found = Pattern::parse(pattern).unwrap().find(path)?;
        Some((found.path, found.at.map_or_else(String::new, Time::date)))
    }

    fn pair(path: &str, at: &str) -> (String, String) {
        (path.to_owned(), at.to_owned())
    }

    #[test]
    fn finds_the_moment_in_a_name() {
        assert_eq!(
            find("shop-%Y-%m-%d.dump", "shop-2026-11-02.dump"),
            Some(pair("shop-2026-11-02.dump", "2026-11-02 00:00 UTC"))
        );
        assert_eq!(
            find("%Y/%m/*-%dT%H%M%SZ.*", "2026/11/a-b-02T031500Z.sql.gz"),
            Some(pair(
                "2026/11/a-b-02T031500Z.sql.gz",
                "2026-11-02 03:15 UTC"
            ))
        );
        assert_eq!(
            find("wal/*", "wal/00000001"),
            Some(pair("wal/00000001", ""))
        );
    }

    #[test]
    fn a_folder_is_one_copy() {
        assert_eq!(
            find("base/%Y%m%d/", "base/20261102/pg_wal/0001"),
            Some(pair("base/20261102/", "2026-11-02 00:00 UTC"))
        );
        assert_eq!(find("base/%Y%m%d/", "base/20261102"), None);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        for path in [
            "shop-2026-13-02.dump",
            "shop-2026-1-02.dump",
            "x/shop-2026-11-02.dump",
            "shop-2026-11-02.dum",
        ] {
            assert_eq!(find("shop-%Y-%m-%d.dump", path), None, "{path}");
        }
        assert_eq!(find("*.dump", "a/b.dump"), None);
    }

    #[test]
    fn wrong_patterns_are_told() {
        for wrong in [
            "", "/", "a//b", "../x", "%Y-%m", "%d-%H", "%Y%m%d%d", "%x", "a%",
        ] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Pattern::parse("100%%-%Y%m%d").is_ok());
    }
}
