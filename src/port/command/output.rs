//! What programs say: the last lines and the facts, without secrets.

use std::collections::{BTreeMap, VecDeque};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::model::secret::Secret;

/// Lines kept of each stream.
const LINES: usize = 5;
/// Bytes kept of a line.
const LINE: usize = 4096;
/// Characters of evidence that are shown.
const SHOWN: usize = 300;
/// Facts taken from one run.
const FACTS: usize = 64;
/// The values that must not be shown.
pub(super) struct Mask {
    values: Vec<String>,
    longest: usize,
}

impl Mask {
    pub(super) fn of<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let mut values: Vec<String> = secrets
            .flat_map(|s| s.expose().lines())
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        // A secret within another one must not spoil the longer one's mask.
        values.sort_by_key(|v| std::cmp::Reverse(v.len()));
        let longest = values.first().map_or(0, String::len);
        Self { values, longest }
    }

    fn apply(&self, text: &str) -> String {
        self.values
            .iter()
            .fold(text.to_owned(), |text, v| text.replace(v, "***"))
    }
}

/// The last lines of a stream.
pub(super) struct Tail<'a> {
    mask: &'a Mask,
    wants_facts: bool,
    lines: VecDeque<String>,
    facts: BTreeMap<String, String>,
    open: Vec<u8>,
    cut: bool,
}

impl<'a> Tail<'a> {
    pub(super) fn new(mask: &'a Mask, wants_facts: bool) -> Self {
        Self {
            mask,
            wants_facts,
            lines: VecDeque::new(),
            facts: BTreeMap::new(),
            open: Vec::new(),
            cut: false,
        }
    }

    pub(super) async fn read(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = [0; 4096];
        while let Ok(n) = stream.read(&mut buffer).await {
            if n == 0 {
                break;
            }
            for byte in &buffer[..n] {
                self.take(*byte);
            }
        }
    }

    fn take(&mut self, byte: u8) {
        if byte == b'\n' {
            self.close();
        } else if self.open.len() < LINE + self.mask.longest {
            self.open.push(byte);
        } else {
            self.cut = true;
        }
    }

    fn close(&mut self) {
        let mut bytes = std::mem::take(&mut self.open);
        if std::mem::take(&mut self.cut) {
            // The first half of a secret at the cut would not be recognised.
            bytes.truncate(LINE);
            let whole = bytes.len().saturating_sub(self.mask.longest);
            bytes.truncate(whole);
        }
        let line = self.mask.apply(String::from_utf8_lossy(&bytes).trim());
        let fact = line.strip_prefix("failover:").filter(|_| self.wants_facts);
        if let Some((key, value)) = fact.and_then(|f| f.split_once('=')) {
            let key = key.trim();
            let legal = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if legal && !key.is_empty() && self.facts.len() < FACTS {
                self.facts.insert(key.to_owned(), clipped(value.trim()));
            }
        } else if !line.is_empty() {
            if self.lines.len() == LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(clipped(&line));
        }
    }

    /// What it said last, and its facts.
    pub(super) fn finish(mut self) -> (String, BTreeMap<String, String>) {
        self.close();
        let mut said = String::new();
        for line in self.lines.iter().rev() {
            if !said.is_empty() && said.len() + line.len() > SHOWN {
                break;
            }
            let separator = if said.is_empty() { "" } else { " / " };
            said = format!("{line}{separator}{said}");
        }
        (said, self.facts)
    }
}

/// At most so much as is shown, without control characters.
fn clipped(text: &str) -> String {
    let mut short: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}

/// All that a stream holds, without masks: for what is no evidence.
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    most: u64,
}

impl Whole {
    pub(super) fn new(most: u64) -> Self {
        Self {
            bytes: Vec::new(),
            most,
        }
    }

    pub(super) async fn read(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        if let Some(stream) = stream {
            // What breaks off is told by how the program ends.
            let _ = stream.take(self.most).read_to_end(&mut self.bytes).await;
        }
    }
}
