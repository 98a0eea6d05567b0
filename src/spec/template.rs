//! Which variables a text to customers may hold.

use crate::model::service::Template;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A variable that nobody fills in.
    Unknown(String),
    /// A brace that is not closed, or closes nothing.
    Brace,
}

/// Everything wrong with the variables of a text. Braces stand for variables only.
#[must_use]
pub fn flaws(text: &str) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let brace = &rest[at..];
        let inside = brace.strip_prefix('{').and_then(|after| {
            let end = after.find(['{', '}', '\n'])?;
            after[end..].starts_with('}').then(|| &after[..end])
        });
        if let Some(name) = inside {
            if !Template::VARIABLES.contains(&name) {
                flaws.push(Flaw::Unknown(name.to_owned()));
            }
            rest = &brace[name.len() + 2..];
        } else {
            flaws.push(Flaw::Brace);
            rest = &brace[1..];
        }
    }
    flaws
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_wrong_variables() {
        assert_eq!(flaws("{service} {fallbackUrl}"), []);
        assert_eq!(
            flaws("{servcie} is {down} }"),
            [
                Flaw::Unknown("servcie".into()),
                Flaw::Unknown("down".into()),
                Flaw::Brace
            ]
        );
        assert_eq!(flaws("{service"), [Flaw::Brace]);
        assert_eq!(flaws("{a {service}"), [Flaw::Brace]);
        assert_eq!(flaws("{"), [Flaw::Brace]);
    }
}
