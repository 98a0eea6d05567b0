//! YAML as a tree of values that know their place, with everything that is wrong with the text itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use serde_json::Value;
use serde_saphyr::granit_parser::{
    ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span as YamlSpan, Tag, options,
};

use super::{
    code::Code,
    path::{FieldPath, Segment},
    scalar,
};

/// Most bytes of one file; the API server refuses larger objects too.
pub const MAX_BYTES: usize = 1_500_000;
/// Most values of one file after aliases were followed.
const MAX_VALUES: usize = 50_000;
/// How deep values may lie within each other.
const MAX_DEPTH: usize = 64;

/// A value and where it stands in the text.
#[derive(Clone, Debug)]
pub struct Node {
    /// Bytes of the text; for maps and lists where they begin.
    pub at: Range<usize>,
    /// What it holds.
    pub data: Data,
}

/// What a value holds.
#[derive(Clone, Debug)]
pub enum Data {
    /// Null, a boolean, a number or text.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the text, keys unique.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_at: Range<usize>,
    /// The value.
    pub value: Node,
}

/// Something wrong with the text itself.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which error.
    pub code: Code,
    /// Where.
    pub at: Range<usize>,
    /// What.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Another place that belongs to it.
    pub related: Option<(Range<usize>, String)>,
}

/// What reading a text came to.
#[derive(Debug, Default)]
pub struct Forest {
    /// The documents, empty ones left out.
    pub documents: Vec<Node>,
    /// Everything wrong with the text.
    pub faults: Vec<Fault>,
}

impl Node {
    /// The value without its places.
    #[must_use]
    pub fn value(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Data::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|e| (e.key.clone(), e.value.value()))
                    .collect(),
            ),
        }
    }

    /// The entry of that key, where this is a map.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|e| e.key == key),
            Data::Scalar(_) | Data::List(_) => None,
        }
    }

    /// The value at a path, and its key where it has one.
    #[must_use]
    pub fn find(&self, path: &FieldPath) -> Option<(&Self, Option<&Entry>)> {
        let mut node = self;
        let mut key = None;
        for segment in path.segments() {
            match (segment, &node.data) {
                (Segment::Key(name), Data::Map(_)) => {
                    let entry = node.entry(name)?;
                    key = Some(entry);
                    node = &entry.value;
                }
                (Segment::Index(index), Data::List(items)) => {
                    key = None;
                    node = items.get(*index)?;
                }
                (Segment::Key(_) | Segment::Index(_), _) => return None,
            }
        }
        Some((node, key))
    }

    /// Where the scalars at and below this stand.
    pub fn scalars(&self, found: &mut Vec<Range<usize>>) {
        match &self.data {
            Data::Scalar(_) => found.push(self.at.clone()),
            Data::List(items) => items.iter().for_each(|i| i.scalars(found)),
            Data::Map(entries) => entries.iter().for_each(|e| e.value.scalars(found)),
        }
    }

    fn size(&self) -> usize {
        1 + match &self.data {
            Data::Scalar(_) => 0,
            Data::List(items) => items.iter().map(Self::size).sum(),
            Data::Map(entries) => entries.iter().map(|e| e.value.size()).sum(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.data {
            Data::Scalar(_) => 0,
            Data::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Data::Map(entries) => entries.iter().map(|e| e.value.depth()).max().unwrap_or(0),
        }
    }
}

/// Reads every document of a text.
#[must_use]
pub fn read(text: &str) -> Forest {
    let mut forest = Forest::default();
    if text.len() > MAX_BYTES {
        forest.faults.push(Fault::new(
            Code::TooLarge,
            0..0,
            format!("the file has {} bytes, more than {MAX_BYTES}", text.len()),
        ));
        return forest;
    }
    let mut parser = Parser::new_from_str_with_options(text, options! { emit_comments: false });
    let mut builder = Builder::default();
    loop {
        match parser.next() {
            None => break,
            Some(Ok((event, span))) => {
                if builder.take(event, &span).is_err() {
                    break;
                }
            }
            Some(Err(error)) => {
                builder.forest.faults.push(syntax(text, &error));
                builder.abandon();
                if !matches!(parser.proceed_next_document(), Ok(true)) {
                    break;
                }
            }
        }
    }
    builder.forest
}

fn syntax(text: &str, error: &ScanError) -> Fault {
    let at = error.marker().byte_offset().unwrap_or(text.len());
    let at = at.min(text.len());
    let kind = error.kind();
    let fault = Fault::new(Code::Syntax, at..at, kind.to_string());
    if matches!(kind, ErrorKind::UnknownAnchor) {
        fault.hint("name the value with &name before it is used with *name")
    } else if line_of(text, at).contains('\t') {
        fault.hint("indent with spaces: YAML allows no tabs there")
    } else {
        fault
    }
}

fn line_of(text: &str, at: usize) -> &str {
    let begin = text
        .get(..at)
        .and_then(|t| t.rfind('\n'))
        .map_or(0, |n| n + 1);
    text.get(begin..)
        .map_or("", |rest| rest.lines().next().unwrap_or(""))
}

impl Fault {
    fn new(code: Code, at: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            code,
            at,
            message: message.into(),
            hint: None,
            related: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Reading cannot go on.
struct Stop;

#[derive(Default)]
struct Builder {
    forest: Forest,
    stack: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    values: usize,
}

enum Frame {
    List {
        at: Range<usize>,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        at: Range<usize>,
        anchor: usize,
        entries: Vec<Entry>,
        merges: Vec<Node>,
        key: Option<Key>,
    },
}

struct Key {
    text: String,
    at: Range<usize>,
    merge: bool,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &YamlSpan) -> Result<(), Stop> {
        let at = bytes(span);
        match event {
            Event::DocumentStart(..) => self.abandon(),
            Event::Scalar(text, style, anchor, tag) => {
                return self.scalar(&text, style, tag.as_deref(), anchor, at);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", &at);
                self.complex_key(&at)?;
                return self.push(Frame::List {
                    at,
                    anchor,
                    items: Vec::new(),
                });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", &at);
                self.complex_key(&at)?;
                return self.push(Frame::Map {
                    at,
                    anchor,
                    entries: Vec::new(),
                    merges: Vec::new(),
                    key: None,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => return self.pop(),
            Event::Alias(id) => return self.alias(id, at),
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentEnd
            | Event::Anchor(..)
            | Event::UnresolvedAlias(_)
            | Event::Comment(..)
            | _ => {}
        }
        Ok(())
    }

    /// Forgets what was begun; anchors hold within one document.
    fn abandon(&mut self) {
        self.stack.clear();
        self.anchors.clear();
    }

    fn fault(&mut self, fault: Fault) {
        self.forest.faults.push(fault);
    }

    fn check_tag(&mut self, tag: Option<&Tag>, own: &str, at: &Range<usize>) {
        if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema_tag(own)) {
            self.fault(
                Fault::new(
                    Code::Unsupported,
                    at.clone(),
                    format!("the tag `{tag}` has no meaning here"),
                )
                .hint("leave the tag out; quote text that looks like something else"),
            );
        }
    }

    /// A map or list as a key has no place in JSON.
    fn complex_key(&mut self, at: &Range<usize>) -> Result<(), Stop> {
        if let Some(Frame::Map { key: None, .. }) = self.stack.last() {
            self.fault(Fault::new(
                Code::Unsupported,
                at.clone(),
                "a key must be text, not a list or a map",
            ));
            return Err(Stop);
        }
        Ok(())
    }

    fn push(&mut self, frame: Frame) -> Result<(), Stop> {
        if self.stack.len() >= MAX_DEPTH {
            let at = frame.at();
            self.fault(Fault::new(
                Code::TooLarge,
                at,
                format!("values lie more than {MAX_DEPTH} deep within each other"),
            ));
            return Err(Stop);
        }
        self.stack.push(frame);
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        anchor: usize,
        at: Range<usize>,
    ) -> Result<(), Stop> {
        self.check_tag(tag, "str", &at);
        let plain = matches!(style, ScalarStyle::Plain) && tag.is_none();
        let value = if plain {
            scalar::resolve(text).unwrap_or_else(|e| {
                self.fault(Fault::new(Code::Ambiguous, at.clone(), e.message).hint(e.hint));
                Value::String(text.to_owned())
            })
        } else {
            Value::String(text.to_owned())
        };
        if let Some(Frame::Map {
            key: key @ None, ..
        }) = self.stack.last_mut()
        {
            *key = Some(Key {
                text: text.to_owned(),
                at,
                merge: plain && text == "<<",
            });
            return Ok(());
        }
        self.place(
            Node {
                at,
                data: Data::Scalar(value),
            },
            anchor,
        )
    }

    fn alias(&mut self, id: usize, at: Range<usize>) -> Result<(), Stop> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            self.fault(Fault::new(
                Code::TooLarge,
                at,
                "an alias lies within the very value that it stands for",
            ));
            return Err(Stop);
        };
        if self.stack.len() + node.depth() > MAX_DEPTH {
            self.fault(Fault::new(
                Code::TooLarge,
                at,
                format!("aliases lie more than {MAX_DEPTH} deep within each other"),
            ));
            return Err(Stop);
        }
        if let (
            Some(Frame::Map {
                key: key @ None, ..
            }),
            Data::Scalar(value),
        ) = (self.stack.last_mut(), &node.data)
        {
            *key = Some(Key {
                text: value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned),
                at,
                merge: false,
            });
            return Ok(());
        }
        self.complex_key(&at)?;
        self.values += node.size();
        self.place(node, 0)
    }

    fn pop(&mut self) -> Result<(), Stop> {
        match self.stack.pop() {
            Some(Frame::List { at, anchor, items }) => self.place(
                Node {
                    at,
                    data: Data::List(items),
                },
                anchor,
            ),
            Some(Frame::Map {
                at,
                anchor,
                mut entries,
                merges,
                ..
            }) => {
                for from in merges {
                    self.merge(&mut entries, from);
                }
                self.place(
                    Node {
                        at,
                        data: Data::Map(entries),
                    },
                    anchor,
                )
            }
            None => Ok(()),
        }
    }

    /// Adds what `<<` brings and the map does not say itself.
    fn merge(&mut self, entries: &mut Vec<Entry>, from: Node) {
        match from.data {
            Data::Map(more) => {
                let known: BTreeSet<String> = entries.iter().map(|e| e.key.clone()).collect();
                entries.extend(more.into_iter().filter(|e| !known.contains(&e.key)));
            }
            Data::List(items) if items.iter().all(|i| matches!(i.data, Data::Map(_))) => {
                for item in items {
                    self.merge(entries, item);
                }
            }
            Data::List(_) | Data::Scalar(_) => self.fault(
                Fault::new(Code::Unsupported, from.at, "`<<` can only bring in maps")
                    .hint("write `<<: *name`, where &name stands before a map"),
            ),
        }
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        self.values += 1;
        if self.values > MAX_VALUES {
            self.fault(
                Fault::new(
                    Code::TooLarge,
                    node.at,
                    format!(
                        "the file has more than {MAX_VALUES} values once its aliases are followed"
                    ),
                )
                .hint("repeat less through aliases, or split the file"),
            );
            return Err(Stop);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => {
                if !matches!(node.data, Data::Scalar(Value::Null)) {
                    self.forest.documents.push(node);
                }
            }
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map {
                entries,
                merges,
                key,
                ..
            }) => {
                let Some(key) = key.take() else {
                    return Ok(());
                };
                if key.merge {
                    merges.push(node);
                    return Ok(());
                }
                if let Some(first) = entries.iter().find(|e| e.key == key.text) {
                    let first = first.key_at.clone();
                    let mut fault = Fault::new(
                        Code::DuplicateKey,
                        key.at,
                        format!("the key `{}` stands here a second time", key.text),
                    )
                    .hint("keep one of the two: kubectl would silently take the last");
                    fault.related = Some((first, "it first stands here".to_owned()));
                    self.fault(fault);
                    return Ok(());
                }
                entries.push(Entry {
                    key: key.text,
                    key_at: key.at,
                    value: node,
                });
            }
        }
        Ok(())
    }
}

impl Frame {
    fn at(&self) -> Range<usize> {
        match self {
            Self::List { at, .. } | Self::Map { at, .. } => at.clone(),
        }
    }
}

fn bytes(span: &YamlSpan) -> Range<usize> {
    let offset = |m: &Marker| m.byte_offset().unwrap_or(0);
    let start = offset(&span.start);
    start..offset(&span.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(text: &str) -> Vec<Value> {
        let forest = read(text);
        assert!(forest.faults.is_empty(), "{:?}", forest.faults);
        forest.documents.iter().map(Node::value).collect()
    }

    fn codes(text: &str) -> Vec<Code> {
        read(text).faults.iter().map(|f| f.code).collect()
    }

    #[test]
    fn reads_documents_and_their_places() {
        let text = "a: 1\n---\n# nothing\n---\nb:\n  - x\n  - {c: \"y\"}\n";
        assert_eq!(
            values(text),
            [json!({"a": 1}), json!({"b": ["x", {"c": "y"}]})]
        );
        let forest = read(text);
        let (node, key) = forest.documents[1]
            .find(&FieldPath::parse("b[1].c"))
            .expect("there");
        assert_eq!(&text[node.at.clone()], "\"y\"");
        assert_eq!(&text[key.expect("a key").key_at.clone()], "c");
    }

    #[test]
    fn merges_maps_without_overwriting() {
        assert_eq!(
            values("base: &b {x: 1, z: 2}\nown:\n  <<: *b\n  z: 3\n"),
            [json!({"base": {"x": 1, "z": 2}, "own": {"z": 3, "x": 1}})]
        );
    }

    #[test]
    fn finds_every_duplicate_key() {
        assert_eq!(
            codes("a: 1\na: 2\nb: {c: 1, c: 2}\n"),
            [Code::DuplicateKey, Code::DuplicateKey]
        );
    }

    #[test]
    fn refuses_bombs_and_loops() {
        let ten = |item: &str| [item; 10].join(", ");
        let mut bomb = vec![format!("a0: &a0 [{}]", ten("x"))];
        for n in 1..9 {
            bomb.push(format!("a{n}: &a{n} [{}]", ten(&format!("*a{}", n - 1))));
        }
        assert_eq!(codes(&bomb.join("\n")), [Code::TooLarge]);
        assert_eq!(codes("a: &a [*a]\n"), [Code::TooLarge]);
        assert_eq!(
            codes(&("[".repeat(100) + &"]".repeat(100))),
            [Code::TooLarge]
        );
    }

    #[test]
    fn goes_on_after_a_broken_document() {
        let forest = read("a: [1\n---\nb: 2\n");
        assert_eq!(forest.faults.len(), 1);
        assert_eq!(forest.documents.len(), 1);
        assert_eq!(forest.documents[0].value(), json!({"b": 2}));
    }

    #[test]
    fn refuses_keys_that_kubectl_would_change() {
        assert_eq!(codes("on: [failover]\n"), [Code::Ambiguous]);
        assert_eq!(codes("? [a]\n: b\n"), [Code::Unsupported]);
        assert_eq!(codes("a: !secret b\n"), [Code::Unsupported]);
    }
}
