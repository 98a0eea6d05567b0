//! Paths of fields: `spec.sites[0].name`.

use std::fmt;

/// One step down a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// A key of a map.
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

/// A field's path from the top of its document.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(Vec<Segment>);

impl FieldPath {
    /// The document as a whole.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// A document's `spec`.
    #[must_use]
    pub fn spec() -> Self {
        Self::root().key("spec")
    }

    /// The field `key` below this one.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.then(Segment::Key(key.into()))
    }

    /// The item `index` below this one.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(Segment::Index(index))
    }

    /// This path with another one below it.
    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }

    fn then(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    /// The path above, and the last segment; none at the top.
    #[must_use]
    pub fn split(&self) -> Option<(Self, &Segment)> {
        let (last, rest) = self.0.split_last()?;
        Some((Self(rest.to_vec()), last))
    }

    /// The segments from the top down.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether this is the whole document.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this lies at `other` or below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Reads a path as adapters write it: keys with dots between, places in brackets.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut segments = Vec::new();
        for part in text.split('.') {
            let (key, places) = part.find('[').map_or((part, ""), |at| part.split_at(at));
            if !key.is_empty() {
                segments.push(Segment::Key(key.to_owned()));
            }
            for place in places.split(['[', ']']).filter(|p| !p.is_empty()) {
                segments.push(match place.parse() {
                    Ok(index) => Segment::Index(index),
                    Err(_) => Segment::Key(place.to_owned()),
                });
            }
        }
        Self(segments)
    }
}

impl From<&serde_path_to_error::Path> for FieldPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment as Theirs;
        Self(
            path.iter()
                .map_while(|segment| match segment {
                    Theirs::Seq { index } => Some(Segment::Index(*index)),
                    Theirs::Map { key } => Some(Segment::Key(key.clone())),
                    Theirs::Enum { variant } => Some(Segment::Key(variant.clone())),
                    Theirs::Unknown => None,
                })
                .collect(),
        )
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    if n > 0 {
                        f.write_str(".")?;
                    }
                    if key.is_empty() || key.contains(['.', '[', ']', ' ']) {
                        write!(f, "{key:?}")?;
                    } else {
                        f.write_str(key)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for text in [
            "",
            "spec",
            "spec.sites[0].name",
            "headers.accept",
            "a[1][2].b",
        ] {
            assert_eq!(FieldPath::parse(text).to_string(), text);
        }
    }

    #[test]
    fn knows_what_lies_within() {
        let sites = FieldPath::parse("spec.sites");
        assert!(FieldPath::parse("spec.sites[1].name").is_within(&sites));
        assert!(!FieldPath::parse("spec.sitesOfOthers").is_within(&sites));
    }
}
