//! What the checks of one document share: where they complain, which fields may be relied on, which kinds there are.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    code::Code,
    complaint::{Complaint, DocId},
    document::With,
    mend::Found,
    misfit::Misfit,
    nearest,
    path::FieldPath,
    settings,
};
use crate::port::kind::{Kind, Kinds, Make};

/// What an adapter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Looks.
    Probe,
    /// Acts.
    Step,
    /// Keeps a zone.
    Dns,
    /// Speaks.
    Channel,
    /// Takes commands.
    Chat,
    /// Holds the status page.
    Target,
    /// Holds backups.
    Backup,
}

impl Family {
    /// The family of a kind.
    #[must_use]
    pub const fn of(kind: &Kind) -> Self {
        match kind.make {
            Make::Probe(_) => Self::Probe,
            Make::Action(_) => Self::Step,
            Make::Dns(_) => Self::Dns,
            Make::Channel(_) => Self::Channel,
            Make::Chat(_) => Self::Chat,
            Make::Target(_) => Self::Target,
            Make::Backup(_) => Self::Backup,
        }
    }

    /// As the schema marks it.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Step => "step",
            Self::Dns => "dns",
            Self::Channel => "channel",
            Self::Chat => "chat",
            Self::Target => "target",
            Self::Backup => "backup",
        }
    }

    const fn spoken(self) -> &'static str {
        match self {
            Self::Probe => "a probe",
            Self::Step => "a step",
            Self::Dns => "a DNS provider",
            Self::Channel => "a channel",
            Self::Chat => "a chat",
            Self::Target => "a target for the status page",
            Self::Backup => "a place of backups",
        }
    }
}

/// What the checks of one document share.
pub struct Scope<'a> {
    /// The document.
    pub doc: DocId,
    /// Every kind there is.
    pub kinds: Kinds,
    /// Fields of it that hold a stand-in: nothing may be concluded from them.
    pub tainted: &'a BTreeSet<FieldPath>,
    /// Where complaints go.
    pub complaints: &'a mut Vec<Complaint>,
}

impl Scope<'_> {
    /// Whether the field and all below it are as the document says.
    pub fn is_sound(&self, path: &FieldPath) -> bool {
        !self
            .tainted
            .iter()
            .any(|t| t.is_within(path) || path.is_within(t))
    }

    /// A complaint about a field of this document.
    pub fn about(&self, code: Code, path: FieldPath, message: impl Into<String>) -> Complaint {
        Complaint::new(code, self.doc, path, message)
    }

    /// Adds a complaint, unless it rests on something that is wrong itself.
    pub fn add(&mut self, complaint: Complaint) {
        let own = complaint.doc == self.doc;
        if own && !self.is_sound(&complaint.path) {
            return;
        }
        if complaint.rests_on.iter().all(|p| self.is_sound(p)) {
            self.complaints.push(complaint);
        }
    }

    /// Checks that a name is a label: lower-case letters, digits and dashes.
    pub fn label(&mut self, name: &str, path: &FieldPath) {
        if !is_label(name) {
            let complaint = self
                .about(Code::BadValue, path.clone(), format!("`{name}` cannot be a name"))
                .expected("lower-case letters, digits and dashes, at most 63, a letter or digit at both ends")
                .maybe_hint(label_like(name).map(|l| format!("for example `{l}`")));
            self.add(complaint);
        }
    }

    /// Checks that names differ from each other.
    pub fn unique<'n>(
        &mut self,
        what: &str,
        names: impl IntoIterator<Item = (&'n str, FieldPath)>,
    ) {
        let mut first: BTreeMap<&str, FieldPath> = BTreeMap::new();
        for (name, path) in names {
            if let Some(taken) = first.get(name) {
                let complaint = self
                    .about(
                        Code::Duplicate,
                        path,
                        format!("there is already {what} `{name}`"),
                    )
                    .related(self.doc, taken.clone(), "the first one")
                    .rests_on(taken.clone());
                self.add(complaint);
            } else {
                first.insert(name, path);
            }
        }
    }

    /// Checks that a name stands for something; `list` is where such things are declared.
    pub fn refers(
        &mut self,
        what: &str,
        name: &str,
        known: &[&str],
        path: &FieldPath,
        list: &FieldPath,
    ) -> bool {
        if known.contains(&name) {
            return true;
        }
        let expected = match known {
            [] => format!("a name from `{list}`, which holds none"),
            [only] => (*only).to_owned(),
            _ => format!("one of {}", known.join(", ")),
        };
        let complaint = self
            .about(
                Code::Dangling,
                path.clone(),
                format!("there is no {what} `{name}`"),
            )
            .expected(expected)
            .maybe_hint(nearest::hint(name, known));
        self.add(complaint);
        false
    }

    /// Checks an adapter and its settings; `path` is where `uses` and `with` stand.
    pub fn uses(
        &mut self,
        family: Family,
        uses: &str,
        with: &With,
        path: &FieldPath,
    ) -> Option<&'static Kind> {
        let kind = self.kind(family, uses, path)?;
        for found in settings::check(kind, &with.value()) {
            let complaint = self.misfit(&found, &path.key("with"));
            self.add(complaint);
        }
        Some(kind)
    }

    /// Checks an adapter's name only.
    pub fn kind(&mut self, family: Family, uses: &str, path: &FieldPath) -> Option<&'static Kind> {
        let path = path.key("uses");
        let fitting: Vec<_> = self
            .kinds
            .0
            .iter()
            .filter(|k| Family::of(k) == family)
            .map(|k| k.name)
            .collect();
        let Some(kind) = self.kinds.get(uses) else {
            let complaint = self.about(
                Code::UnknownKind,
                path,
                format!("there is no adapter `{uses}`"),
            );
            self.add(match nearest::hint(uses, &fitting) {
                Some(hint) => complaint.hint(hint),
                None => complaint.expected(format!("one of {}", fitting.join(", "))),
            });
            return None;
        };
        let own = Family::of(kind);
        if own != family {
            let complaint = self
                .about(
                    Code::WrongFamily,
                    path,
                    format!("`{uses}` is {}, not {}", own.spoken(), family.spoken()),
                )
                .expected(format!("one of {}", fitting.join(", ")));
            self.add(complaint);
            return None;
        }
        Some(kind)
    }

    /// A misfit below `base` as a complaint.
    pub fn misfit(&self, found: &Found, base: &FieldPath) -> Complaint {
        let own_words = matches!(found.misfit, Misfit::Other(_));
        let code = if own_words && !base.is_root() {
            Code::With
        } else {
            found.misfit.code()
        };
        let mut complaint = self
            .about(code, base.join(&found.path), found.misfit.message())
            .maybe_hint(found.hint.clone().or_else(|| found.misfit.hint()));
        complaint.expected = found.misfit.expected();
        complaint.key = matches!(
            found.misfit,
            Misfit::UnknownField { .. } | Misfit::MissingField(_)
        );
        complaint
    }
}

/// Whether a text can be a name.
pub fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The name that was probably meant.
fn label_like(name: &str) -> Option<String> {
    let like: String = name
        .trim()
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let like = like.trim_matches('-');
    is_label(like).then(|| like.to_owned())
}
