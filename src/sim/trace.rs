//! What happened in a history: a fingerprint of all of it, and the words where somebody wants to read them.

use crate::model::time::Time;

/// FNV-1a, 64 bits: offset and prime as published by Fowler, Noll and Vo.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// What happened.
#[derive(Clone, Debug)]
pub struct Trace {
    print: u64,
    lines: Option<Vec<String>>,
    /// How many things happened.
    pub events: u64,
}

impl Trace {
    /// Keeps the fingerprint alone.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            print: OFFSET,
            lines: None,
            events: 0,
        }
    }

    /// Keeps every line as well.
    #[must_use]
    pub fn written() -> Self {
        Self {
            lines: Some(Vec::new()),
            ..Self::silent()
        }
    }

    /// Something happened; `what` tells its kind and parties apart.
    pub fn note(&mut self, at: Time, what: u64, words: impl FnOnce() -> String) {
        self.events += 1;
        self.mix(&at.as_millis().to_le_bytes());
        self.mix(&what.to_le_bytes());
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{} {}", since_begin(at), words()));
        }
    }

    /// More of what happened.
    pub fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.print = (self.print ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    /// The fingerprint: two histories with the same one were the same.
    #[must_use]
    pub fn print(&self) -> u64 {
        self.print
    }

    /// The lines, where they were kept.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

/// Seconds since the beginning, as `+12.345s`.
fn since_begin(at: Time) -> String {
    let ms = at.since(super::world::BEGIN).as_millis();
    format!("+{:>4}.{:03}s", ms / 1000, ms % 1000)
}
