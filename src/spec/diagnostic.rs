//! What is wrong with a document, with its place in the text, for people and for programs.

use std::{fmt, ops::Range, sync::Arc};

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, ThemeCharacters,
    ThemeStyles,
};
use serde::Serialize;

use super::code::{Code, Severity};

/// What is wrong with a document. Secrets in its text are masked.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// `FO-1xx`; `failover help` explains it.
    pub code: Code,
    /// Whether the documents can be used in spite of it.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1; absent where the file as a whole is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The field, such as `spec.sites[0].name`; empty for the document as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
    /// Other places that belong to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
    #[serde(skip)]
    pub(super) marked: Option<Marked>,
}

/// Another place that belongs to a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Related {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What there is to say of it.
    pub message: String,
    /// Its place in the text, where it is the same file.
    #[serde(skip)]
    pub(super) at: Option<Range<usize>>,
}

/// The text with its secrets masked, and the place that is meant.
#[derive(Clone, Debug)]
pub(super) struct Marked {
    pub(super) text: Arc<str>,
    pub(super) at: Range<usize>,
}

/// How diagnostics are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// With colours and line drawing, for terminals.
    Fancy,
    /// In plain ASCII.
    Plain,
}

impl Diagnostic {
    /// A diagnostic about a file as a whole.
    pub fn of_file(code: Code, file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.page().severity,
            file: file.into(),
            line: None,
            column: None,
            path: String::new(),
            message: message.into(),
            expected: None,
            hint: None,
            snippet: None,
            related: Vec::new(),
            marked: None,
        }
    }

    /// The same with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with its place in a text.
    #[must_use]
    pub(super) fn at(mut self, text: &Arc<str>, at: Range<usize>) -> Self {
        let place = Place::of(text, at.start);
        self.line = Some(place.line);
        self.column = Some(place.column);
        self.snippet = Some(place.text.to_owned());
        self.marked = Some(Marked {
            text: Arc::clone(text),
            at: place.begin..place.begin.max(one_line(text, &at)),
        });
        self
    }

    /// Draws it with its snippet.
    #[must_use]
    pub fn render(&self, look: Look, width: usize) -> String {
        let theme = match look {
            Look::Fancy => GraphicalTheme::unicode(),
            Look::Plain => GraphicalTheme {
                characters: ThemeCharacters {
                    error: "error:".to_owned(),
                    warning: "warning:".to_owned(),
                    ..ThemeCharacters::ascii()
                },
                styles: ThemeStyles::none(),
            },
        };
        let mut out = String::new();
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width)
            .with_links(false)
            .with_wrap_lines(look == Look::Fancy)
            .with_context_lines(1);
        match handler.render_report(&mut out, &Drawn::new(self)) {
            Ok(()) => out,
            Err(fmt::Error) => self.to_string(),
        }
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `file:line:column: error[FO-1xx]: path: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {severity}[{}]: {}", self.code, Headline(self))
    }
}

struct Headline<'a>(&'a Diagnostic);

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            write!(f, "{}: ", self.0.path)?;
        }
        f.write_str(&self.0.message)
    }
}

/// A diagnostic as miette draws it.
struct Drawn<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<NamedSource<String>>,
}

impl<'a> Drawn<'a> {
    fn new(diagnostic: &'a Diagnostic) -> Self {
        let source = diagnostic
            .marked
            .as_ref()
            .map(|marked| NamedSource::new(&diagnostic.file, marked.text.to_string()));
        Self { diagnostic, source }
    }
}

impl fmt::Debug for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.diagnostic, f)
    }
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.is_none() {
            write!(f, "{}: ", self.diagnostic.file)?;
        }
        Headline(self.diagnostic).fmt(f)
    }
}

impl std::error::Error for Drawn<'_> {}

impl miette::Diagnostic for Drawn<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let expected = self
            .diagnostic
            .expected
            .as_ref()
            .map(|e| format!("expected {e}"));
        let elsewhere = self
            .diagnostic
            .related
            .iter()
            .filter(|r| r.at.is_none())
            .map(|r| format!("{} ({}:{})", r.message, r.file, r.line));
        let lines: Vec<_> = expected
            .into_iter()
            .chain(elsewhere)
            .chain(self.diagnostic.hint.clone())
            .collect();
        (!lines.is_empty()).then(|| Box::new(lines.join("\n")) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let marked = self.diagnostic.marked.as_ref()?;
        let main = LabeledSpan::new_primary_with_span(None, marked.at.clone());
        let related = self.diagnostic.related.iter().filter_map(|r| {
            let at = r.at.clone()?;
            Some(LabeledSpan::new_with_span(Some(r.message.clone()), at))
        });
        Some(Box::new(std::iter::once(main).chain(related)))
    }
}

/// A place in a text.
pub(super) struct Place<'a> {
    /// Line, from 1.
    pub(super) line: usize,
    /// Column in characters, from 1.
    pub(super) column: usize,
    /// The line's text.
    text: &'a str,
    /// The place in bytes, on a character's boundary.
    begin: usize,
}

impl<'a> Place<'a> {
    pub(super) fn of(text: &'a str, at: usize) -> Self {
        let begin = boundary(text, at);
        let line_begin = text[..begin].rfind('\n').map_or(0, |n| n + 1);
        Self {
            line: text[..begin].matches('\n').count() + 1,
            column: text[line_begin..begin].chars().count() + 1,
            text: text[line_begin..].lines().next().unwrap_or(""),
            begin,
        }
    }
}

/// The end of a place, not beyond its first line, on a character's boundary.
pub(super) fn one_line(text: &str, at: &Range<usize>) -> usize {
    let begin = boundary(text, at.start);
    let end = boundary(text, at.end).max(begin);
    let marked = &text[begin..end];
    begin + marked.find('\n').unwrap_or(marked.trim_end().len())
}

fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The text with the bytes of these places masked; its length and lines stay.
pub(super) fn masked(text: &str, places: &[Range<usize>]) -> Arc<str> {
    let mut out = text.to_owned();
    for place in places {
        let begin = boundary(text, place.start);
        let end = boundary(text, place.end).max(begin);
        let stars: String = text[begin..end]
            .bytes()
            .map(|b| if b == b'\n' { '\n' } else { '*' })
            .collect();
        out.replace_range(begin..end, &stars);
    }
    out.into()
}
