//! Errors with their causes in one line, for people.

use std::{error::Error, iter};

/// An error's causes, the nearest first, without the error itself.
pub fn causes<'a>(error: &'a (dyn Error + 'a)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(error.source(), |e| (*e).source())
}

/// The error and its causes.
#[must_use]
pub fn in_full(error: &dyn Error) -> String {
    causes(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The error and its causes, without what was said already: the errors of some libraries repeat their causes.
#[must_use]
pub fn without_repeats(error: &dyn Error) -> String {
    causes(error).fold(error.to_string(), |text, cause| {
        let more = cause.to_string();
        if text.contains(&more) {
            text
        } else {
            format!("{text}: {more}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file is of no use: it is empty")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("it is empty")]
    struct Middle(#[source] std::fmt::Error);

    #[test]
    fn causes_follow_the_error() {
        let error = Outer(Middle(std::fmt::Error));
        let last = std::fmt::Error.to_string();
        assert_eq!(
            in_full(&error),
            format!("the file is of no use: it is empty: it is empty: {last}")
        );
        assert_eq!(
            without_repeats(&error),
            format!("the file is of no use: it is empty: {last}")
        );
    }
}
