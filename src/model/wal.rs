//! Names of WAL segments, as PostgreSQL archives them.

/// A WAL segment by its name: timeline, and its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// High half of its place.
    pub log: u32,
    /// Low half of its place.
    pub part: u32,
    /// On which timeline.
    pub timeline: u32,
}

impl Segment {
    /// The segment that a path names, whatever its last part ends with (`.gz`, `.zst.age`); none for anything else, such
    /// as a half-written segment (`.partial`).
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next()?;
        let (digits, ending) = name.split_at_checked(24)?;
        let is_packed = ending.is_empty() || ending.starts_with('.');
        let is_other = ending.starts_with(".partial") || ending.contains(".backup");
        let upper = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
        if !is_packed || is_other || !digits.chars().all(upper) {
            return None;
        }
        let number = |from: usize| u32::from_str_radix(&digits[from..from + 8], 16).ok();
        Some(Self {
            timeline: number(0)?,
            log: number(8)?,
            part: number(16)?,
        })
    }

    /// As PostgreSQL asks for it.
    #[must_use]
    pub fn name(self) -> String {
        format!("{:08X}{:08X}{:08X}", self.timeline, self.log, self.part)
    }

    /// Whether nothing is missing between this segment and the next one: the same place on a later timeline, or the place
    /// after it. How many segments make up the low half depends on their size, which no name tells.
    #[must_use]
    pub fn leads_to(self, next: Self) -> bool {
        let place = |s: Self| (s.log, s.part);
        place(self) == place(next)
            || (self.log == next.log && self.part.checked_add(1) == Some(next.part))
            || (self.log.checked_add(1) == Some(next.log) && next.part == 0)
    }
}

/// The name of a timeline's history file that a path names (`00000002.history`).
#[must_use]
pub fn history_of_path(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    let (digits, ending) = name.split_at_checked(8)?;
    let is_history = ending == ".history" || ending.starts_with(".history.");
    (is_history && digits.chars().all(|c| c.is_ascii_hexdigit())).then(|| &name[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_known_by_their_names() {
        let name = "0000000100000002000000FF";
        let segment = Segment::of_path(name).unwrap();
        assert_eq!(segment.name(), name);
        assert_eq!((segment.timeline, segment.log, segment.part), (1, 2, 255));
        assert_eq!(
            Segment::of_path(&format!("wal/{name}.zst.age")),
            Some(segment)
        );
        for other in [
            &format!("{name}.partial"),
            &format!("{name}.00000028.backup"),
            "00000002.history",
            "0000000100000002000000fg",
            "short",
            &format!("{name}x"),
        ] {
            assert_eq!(Segment::of_path(other), None, "{other}");
        }
        assert_eq!(
            history_of_path("wal/00000002.history.gz"),
            Some("00000002.history")
        );
        assert_eq!(history_of_path(name), None);
    }

    #[test]
    fn a_gap_is_seen() {
        let at = |timeline, log, part| Segment {
            log,
            part,
            timeline,
        };
        assert!(at(1, 0, 1).leads_to(at(1, 0, 2)));
        assert!(at(1, 0, 255).leads_to(at(1, 1, 0)));
        assert!(at(1, 0, 1).leads_to(at(2, 0, 1)));
        assert!(!at(1, 0, 1).leads_to(at(1, 0, 3)));
        assert!(!at(1, 0, 1).leads_to(at(1, 2, 0)));
    }
}
