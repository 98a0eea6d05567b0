//! What is wrong with a field of a document, before its place in the text is looked up.

use super::{code::Code, path::FieldPath};

/// Names one of the documents that are read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocId(pub usize);

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Which error.
    pub code: Code,
    /// In which document.
    pub doc: DocId,
    /// About which field.
    pub path: FieldPath,
    /// Whether its key is meant rather than its value.
    pub key: bool,
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// Another field that belongs to it, and what there is to say of it.
    pub related: Option<(DocId, FieldPath, String)>,
    /// Fields that the conclusion rests on; where one of them is wrong itself, nothing is concluded.
    pub rests_on: Vec<FieldPath>,
}

impl Complaint {
    /// A complaint about a field.
    pub fn new(code: Code, doc: DocId, path: FieldPath, message: impl Into<String>) -> Self {
        Self {
            code,
            doc,
            path,
            key: false,
            message: message.into(),
            expected: None,
            hint: None,
            related: None,
            rests_on: Vec::new(),
        }
    }

    /// The same about the field's key.
    #[must_use]
    pub fn on_key(mut self) -> Self {
        self.key = true;
        self
    }

    /// The same with what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// The same with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with what to do, where there is something.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// The same with another field that belongs to it.
    #[must_use]
    pub fn related(mut self, doc: DocId, path: FieldPath, what: impl Into<String>) -> Self {
        self.related = Some((doc, path, what.into()));
        self
    }

    /// The same, resting on another field of the document.
    #[must_use]
    pub fn rests_on(mut self, path: FieldPath) -> Self {
        self.rests_on.push(path);
        self
    }
}
