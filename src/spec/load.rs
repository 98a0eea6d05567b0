//! Files and folders are read, and everything in them is put together into services.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use schemars::schema_for;
use serde_json::Value;

use super::{
    backup,
    code::{Code, Severity},
    compile,
    complaint::{Complaint, DocId},
    diagnostic::{Diagnostic, Place, Related, masked, one_line},
    document::{
        API_VERSION, BackupPolicyDocument, KINDS, ProtectedService, RunbookDocument,
        ServiceGroupDocument,
    },
    fit, group, leak, mend, nearest,
    outline::{Outline, outline},
    path::FieldPath,
    ready,
    scope::Scope,
    tree::{self, Data, Node},
};
use crate::{
    model::{backup::BackupPolicy, group::ServiceGroup, service::Service},
    port::kind::Kinds,
};

/// How deep folders may lie within each other.
const MAX_FOLDERS: usize = 16;

static SERVICE_SCHEMA: LazyLock<Value> = LazyLock::new(|| schema_for!(ProtectedService).to_value());
static RUNBOOK_SCHEMA: LazyLock<Value> = LazyLock::new(|| schema_for!(RunbookDocument).to_value());
static BACKUP_SCHEMA: LazyLock<Value> =
    LazyLock::new(|| schema_for!(BackupPolicyDocument).to_value());
static GROUP_SCHEMA: LazyLock<Value> =
    LazyLock::new(|| schema_for!(ServiceGroupDocument).to_value());

/// What reading documents came to.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The services that nothing is wrong with, by name.
    pub services: Vec<Service>,
    /// Everything wrong, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// Whether the documents can be used: nothing but warnings.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.diagnostics
            .iter()
            .all(|d| d.severity == Severity::Warning)
    }
}

/// A text with the name that errors give it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Usually a path.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Reads files, and folders with everything named `*.yaml` or `*.yml` below them.
#[must_use]
pub fn load(paths: &[PathBuf], kinds: Kinds) -> Loaded {
    let mut files = BTreeSet::new();
    let mut unreadable = Vec::new();
    for path in paths {
        if let Err((path, error)) = gather(path, 0, &mut files) {
            unreadable.push(cannot_read(&path, &error));
        }
    }
    let mut sources = Vec::new();
    for file in files {
        match read_file(&file) {
            Ok(text) => sources.push(Source {
                name: file.display().to_string(),
                text,
            }),
            Err(error) => unreadable.push(cannot_read(&file, &error)),
        }
    }
    let mut loaded = read(&sources, kinds);
    if loaded.services.is_empty() && loaded.is_usable() && unreadable.is_empty() {
        let places: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        unreadable.push(
            Diagnostic::of_file(
                Code::Nothing,
                places.join(", "),
                "there is no ProtectedService here",
            )
            .hint("name a folder with *.yaml files, or begin with `failover init`"),
        );
    }
    loaded.diagnostics.splice(0..0, unreadable);
    loaded
}

/// Reads one text.
#[must_use]
pub fn read_text(name: &str, text: &str, kinds: Kinds) -> Loaded {
    let source = Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    read(&[source], kinds)
}

type At<T> = Result<T, (PathBuf, io::Error)>;

/// Folders are followed in order; names that begin with a dot are left out, as in a mounted `ConfigMap`.
fn gather(path: &Path, depth: usize, files: &mut BTreeSet<PathBuf>) -> At<()> {
    let at = |error| (path.to_owned(), error);
    if !fs::metadata(path).map_err(at)?.is_dir() {
        files.insert(path.to_owned());
        return Ok(());
    }
    if depth == MAX_FOLDERS {
        return Err(at(io::Error::other(
            "folders lie too deep within each other",
        )));
    }
    for entry in fs::read_dir(path).map_err(at)? {
        let entry = entry.map_err(at)?.path();
        let hidden = entry
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with('.'));
        let named = entry.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if !hidden && (named || entry.is_dir()) {
            gather(&entry, depth + 1, files)?;
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if usize::try_from(size).is_ok_and(|n| n > tree::MAX_BYTES) {
        return Err(io::Error::other(format!(
            "it has {size} bytes, more than {}",
            tree::MAX_BYTES
        )));
    }
    let bytes = fs::read(path)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is no UTF-8 text"))
}

fn cannot_read(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::of_file(
        Code::Unreadable,
        path.display().to_string(),
        format!("cannot be read: {error}"),
    )
}

/// Reads texts that belong together.
#[must_use]
pub fn read(sources: &[Source], kinds: Kinds) -> Loaded {
    let mut reading = Reading::new(kinds);
    for source in sources {
        reading.take(source);
    }
    reading.unique_names();
    let given = reading.runbooks.len();
    let wanted: BTreeSet<_> = reading
        .services
        .iter()
        .flat_map(|(_, s)| s.spec.runbooks().map(ToOwned::to_owned))
        .collect();
    for ready in ready::RUNBOOKS {
        let taken = reading
            .runbooks
            .iter()
            .any(|(_, r)| r.metadata.name == ready.name);
        if wanted.contains(ready.name) && !taken {
            reading.take(&Source {
                name: format!("the ready-made runbook {}", ready.name),
                text: ready.text.to_owned(),
            });
        }
    }
    reading.finish(given)
}

/// A document in its file.
struct Located {
    file: usize,
    root: Node,
    tainted: BTreeSet<FieldPath>,
}

struct File {
    name: String,
    text: Arc<str>,
    masks: Vec<Range<usize>>,
    faults: Vec<tree::Fault>,
}

struct Reading {
    kinds: Kinds,
    files: Vec<File>,
    documents: Vec<Located>,
    services: Vec<(DocId, ProtectedService)>,
    runbooks: Vec<(DocId, RunbookDocument)>,
    backups: Vec<(DocId, BackupPolicyDocument)>,
    groups: Vec<(DocId, ServiceGroupDocument)>,
    complaints: Vec<Complaint>,
}

impl Reading {
    fn new(kinds: Kinds) -> Self {
        Self {
            kinds,
            files: Vec::new(),
            documents: Vec::new(),
            services: Vec::new(),
            runbooks: Vec::new(),
            backups: Vec::new(),
            groups: Vec::new(),
            complaints: Vec::new(),
        }
    }

    fn take(&mut self, source: &Source) {
        let forest = tree::read(&source.text);
        let broken = forest.faults.iter().any(|f| f.code != Code::DuplicateKey);
        let file = self.files.len();
        self.files.push(File {
            name: source.name.clone(),
            text: source.text.as_str().into(),
            masks: if broken {
                leak::in_broken(&source.text)
            } else {
                Vec::new()
            },
            faults: forest.faults,
        });
        for root in forest.documents {
            let doc = DocId(self.documents.len());
            let leaks = leak::find(&root);
            self.complaints
                .extend(leaks.into_iter().map(|l| leaked(doc, l)));
            self.documents.push(Located {
                file,
                root,
                tainted: BTreeSet::new(),
            });
            self.document(doc);
        }
    }

    /// Reads one document as what it says it is.
    fn document(&mut self, doc: DocId) {
        let root = &self.documents[doc.0].root;
        match kind_of(root, doc) {
            Ok(Kind::Service) => {
                let mended = mend::read::<ProtectedService>(root.value(), &SERVICE_SCHEMA);
                if let Some(service) = self.mended(doc, mended) {
                    self.services.push((doc, service));
                }
            }
            Ok(Kind::Runbook) => {
                let mended = mend::read::<RunbookDocument>(root.value(), &RUNBOOK_SCHEMA);
                if let Some(runbook) = self.mended(doc, mended) {
                    self.runbooks.push((doc, runbook));
                }
            }
            Ok(Kind::Backups) => {
                let mended = mend::read::<BackupPolicyDocument>(root.value(), &BACKUP_SCHEMA);
                if let Some(policy) = self.mended(doc, mended) {
                    self.backups.push((doc, policy));
                }
            }
            Ok(Kind::Group) => {
                let mended = mend::read::<ServiceGroupDocument>(root.value(), &GROUP_SCHEMA);
                if let Some(group) = self.mended(doc, mended) {
                    self.groups.push((doc, group));
                }
            }
            Err(complaint) => self.complaints.push(*complaint),
        }
    }

    fn mended<T>(&mut self, doc: DocId, mended: mend::Mended<T>) -> Option<T> {
        let scope = Scope {
            doc,
            kinds: self.kinds,
            tainted: &BTreeSet::new(),
            complaints: &mut Vec::new(),
        };
        let complaints = mended
            .found
            .iter()
            .map(|f| scope.misfit(f, &FieldPath::root()));
        self.complaints.extend(complaints);
        self.documents[doc.0].tainted = mended.tainted;
        mended.value
    }

    fn unique_names(&mut self) {
        let services = self
            .services
            .iter()
            .map(|(d, s)| (*d, "a service", &s.metadata.name));
        let runbooks = self
            .runbooks
            .iter()
            .map(|(d, r)| (*d, "a runbook", &r.metadata.name));
        let backups = self
            .backups
            .iter()
            .map(|(d, b)| (*d, "a backup policy", &b.metadata.name));
        let groups = self
            .groups
            .iter()
            .map(|(d, g)| (*d, "a service group", &g.metadata.name));
        let all = services.chain(runbooks).chain(backups).chain(groups);
        let all: Vec<_> = all.collect();
        for (n, (doc, what, name)) in all.iter().enumerate() {
            if let Some((first, _, _)) = all[..n].iter().find(|(_, w, m)| w == what && m == name) {
                let path = FieldPath::parse("metadata.name");
                let complaint = Complaint::new(
                    Code::Duplicate,
                    *doc,
                    path.clone(),
                    format!("there is already {what} `{name}`"),
                );
                self.complaints
                    .push(complaint.related(*first, path, "the first one"));
            }
        }
    }

    /// Checks everything against everything else. Runbooks from `given` on are ready-made.
    fn finish(mut self, given: usize) -> Loaded {
        let mut complaints = std::mem::take(&mut self.complaints);
        let outlines: Vec<Outline<'_>> = self
            .runbooks
            .iter()
            .map(|(doc, runbook)| outline(&mut self.scope(*doc, &mut complaints), runbook))
            .collect();
        let mut policies = self.policies(&mut complaints);
        let mut services: Vec<_> = self
            .services
            .iter()
            .map(|(doc, service)| {
                let mut scope = self.scope(*doc, &mut complaints);
                let policy = policies.remove(service.metadata.name.as_str());
                let compiled = compile::service(&mut scope, service, &outlines, policy);
                (*doc, compiled)
            })
            .collect();
        for outline in &outlines[..given] {
            let used = self
                .services
                .iter()
                .any(|(_, s)| s.spec.runbooks().any(|name| name == outline.name));
            if !used {
                let mut scope = self.scope(outline.doc, &mut complaints);
                fit::check_alone(&mut scope, outline);
                if !self.services.is_empty() {
                    let at = FieldPath::parse("metadata.name");
                    let message = format!("no service uses the runbook `{}`", outline.name);
                    let complaint = scope.about(Code::Unused, at, message);
                    scope.add(complaint);
                }
            }
        }
        let mut groups = self.compiled_groups(&mut complaints);
        let diagnostics = self.diagnostics(complaints);
        groups.retain(|(doc, _)| !self.is_faulty(*doc, &diagnostics));
        services.retain(|(doc, service)| {
            let drills = service.drills.iter().filter_map(|d| d.runbook.as_ref());
            let names: Vec<_> = drills.chain([&service.runbook]).map(|r| &r.name).collect();
            let runbooks = outlines
                .iter()
                .filter(|o| names.iter().any(|name| name.as_str() == o.name))
                .map(|o| o.doc);
            let backups = self
                .backups
                .iter()
                .filter(|(_, b)| b.spec.service == service.name.as_str())
                .map(|(doc, _)| *doc);
            [*doc]
                .into_iter()
                .chain(runbooks)
                .chain(backups)
                .all(|d| !self.is_faulty(d, &diagnostics))
        });
        let mut services: Vec<_> = services.into_iter().map(|(_, s)| s).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        for (_, group) in groups {
            ServiceGroup::place(&Arc::new(group), &mut services);
        }
        Loaded {
            services,
            diagnostics: diagnostics.into_iter().map(|(_, _, d)| d).collect(),
        }
    }

    /// The backup policies by the service that each is for.
    fn policies(&self, complaints: &mut Vec<Complaint>) -> BTreeMap<&str, BackupPolicy> {
        let mut policies = BTreeMap::new();
        for (n, (doc, document)) in self.backups.iter().enumerate() {
            let name = document.spec.service.as_str();
            let at = FieldPath::spec().key("service");
            let mut scope = self.scope(*doc, complaints);
            let service = self.services.iter().find(|(_, s)| s.metadata.name == name);
            if service.is_none() {
                let known: Vec<_> = self
                    .services
                    .iter()
                    .map(|(_, s)| s.metadata.name.as_str())
                    .collect();
                backup::no_service(&mut scope, name, &known);
            }
            let first = self.backups[..n]
                .iter()
                .find(|(_, b)| b.spec.service == name);
            if let Some((first, _)) = first {
                let message = format!("there is already a backup policy for `{name}`");
                let complaint = scope.about(Code::Duplicate, at.clone(), message).related(
                    *first,
                    at,
                    "the first one",
                );
                scope.add(complaint);
            }
            let policy = backup::policy(&mut scope, document, service.map(|(_, s)| &s.spec));
            policies.entry(name).or_insert(policy);
        }
        policies
    }

    fn compiled_groups(&self, complaints: &mut Vec<Complaint>) -> Vec<(DocId, ServiceGroup)> {
        let services: Vec<_> = self.services.iter().map(|(_, s)| s).collect();
        let mut taken = BTreeMap::new();
        let compiled = self.groups.iter().map(|(doc, document)| {
            let mut scope = self.scope(*doc, complaints);
            let group = group::group(&mut scope, document, &services, &mut taken);
            (*doc, group)
        });
        compiled.collect()
    }

    fn scope<'a>(&'a self, doc: DocId, complaints: &'a mut Vec<Complaint>) -> Scope<'a> {
        Scope {
            doc,
            kinds: self.kinds,
            tainted: &self.documents[doc.0].tainted,
            complaints,
        }
    }

    /// Whether anything but a warning stands in the document's file.
    fn is_faulty(&self, doc: DocId, diagnostics: &[(usize, usize, Diagnostic)]) -> bool {
        let file = self.documents[doc.0].file;
        diagnostics
            .iter()
            .any(|(f, _, d)| *f == file && d.severity == Severity::Error)
    }

    /// Complaints and faults with their places, in order of files and lines. Where the text itself is at fault,
    /// nothing more is said of what it seems to mean.
    fn diagnostics(&self, mut complaints: Vec<Complaint>) -> Vec<(usize, usize, Diagnostic)> {
        let texts = self.masked_texts(&complaints);
        let mut seen = BTreeSet::new();
        complaints.retain(|c| seen.insert((c.doc, c.path.clone(), c.code, c.message.clone())));
        one_a_secret(&mut complaints);
        let mut found: Vec<_> = complaints
            .iter()
            .map(|c| self.located(c, &texts))
            .filter(|(file, at, _)| !self.files[*file].faults.iter().any(|f| f.at.start == *at))
            .collect();
        for (n, file) in self.files.iter().enumerate() {
            for fault in &file.faults {
                found.push((n, fault.at.start, faulty(file, &texts[n], fault)));
            }
        }
        found.sort_by_key(|(file, at, d)| (*file, *at, d.code));
        found
    }

    /// The texts of all files with the secrets that were complained of masked.
    fn masked_texts(&self, complaints: &[Complaint]) -> Vec<Arc<str>> {
        let mut masks: Vec<_> = self.files.iter().map(|f| f.masks.clone()).collect();
        for complaint in complaints.iter().filter(|c| c.code == Code::SecretValue) {
            let located = &self.documents[complaint.doc.0];
            if let Some((node, _)) = located.root.find(&complaint.path) {
                node.scalars(&mut masks[located.file]);
            }
        }
        let files = self.files.iter().zip(&masks);
        files.map(|(f, masks)| masked(&f.text, masks)).collect()
    }

    fn located(&self, complaint: &Complaint, texts: &[Arc<str>]) -> (usize, usize, Diagnostic) {
        let (file, at) = self.place(complaint.doc, &complaint.path, complaint.key);
        let name = &self.files[file].name;
        let mut diagnostic = Diagnostic::of_file(complaint.code, name, &complaint.message);
        diagnostic.path = complaint.path.to_string();
        diagnostic.expected.clone_from(&complaint.expected);
        diagnostic.hint.clone_from(&complaint.hint);
        if let Some((doc, path, message)) = &complaint.related {
            let (other, place) = self.place(*doc, path, false);
            diagnostic.related.push(Related {
                file: self.files[other].name.clone(),
                line: Place::of(&texts[other], place.start).line,
                message: message.clone(),
                at: (other == file).then(|| place.start..one_line(&texts[other], &place)),
            });
        }
        (file, at.start, diagnostic.at(&texts[file], at))
    }

    /// Where a field stands, or what lies around it where it is not there.
    fn place(&self, doc: DocId, path: &FieldPath, key: bool) -> (usize, Range<usize>) {
        let located = &self.documents[doc.0];
        let mut path = path.clone();
        loop {
            if let Some((node, entry)) = located.root.find(&path) {
                let holds_more = !matches!(node.data, Data::Scalar(_));
                let at = match (entry, &node.data) {
                    (Some(entry), _) if key || holds_more => entry.key_at.clone(),
                    (None, Data::Map(entries)) => entries
                        .first()
                        .map_or_else(|| node.at.clone(), |e| e.key_at.clone()),
                    (_, _) => node.at.clone(),
                };
                return (located.file, at);
            }
            match path.split() {
                Some((above, _)) => path = above,
                None => return (located.file, located.root.at.clone()),
            }
        }
    }
}

fn leaked(doc: DocId, leak: leak::Leak) -> Complaint {
    if leak.within {
        return Complaint::new(Code::SecretValue, doc, leak.path, "a secret stands in this text").hint(
            "take it out and give it as a reference where the adapter has a field for it; if it was ever committed, replace it",
        );
    }
    let message = "a secret must be given as a reference, never as a value";
    Complaint::new(Code::SecretValue, doc, leak.path, message)
        .expected("{env: NAME} or {file: /path}")
        .hint("if this value was ever committed, replace it: it is known")
}

/// Of several complaints about one field that holds a secret keeps one, with what the adapter says of it.
fn one_a_secret(complaints: &mut Vec<Complaint>) {
    let advice: BTreeMap<_, _> = complaints
        .iter()
        .filter(|c| c.code == Code::With)
        .filter_map(|c| Some(((c.doc, c.path.clone()), c.hint.clone()?)))
        .collect();
    let secrets: BTreeSet<_> = complaints
        .iter()
        .filter(|c| c.code == Code::SecretValue)
        .map(|c| (c.doc, c.path.clone()))
        .collect();
    let mut seen = BTreeSet::new();
    complaints.retain_mut(|complaint| {
        let place = (complaint.doc, complaint.path.clone());
        if complaint.code != Code::SecretValue {
            return !(secrets.contains(&place) && complaint.code == Code::With);
        }
        if let Some(advice) = advice.get(&place) {
            complaint.hint = Some(advice.clone());
        }
        seen.insert(place)
    });
}

fn faulty(file: &File, text: &Arc<str>, fault: &tree::Fault) -> Diagnostic {
    let mut diagnostic = Diagnostic::of_file(fault.code, &file.name, &fault.message);
    diagnostic.hint.clone_from(&fault.hint);
    if let Some((at, message)) = &fault.related {
        diagnostic.related.push(Related {
            file: file.name.clone(),
            line: Place::of(text, at.start).line,
            message: message.clone(),
            at: Some(at.start..one_line(text, at)),
        });
    }
    diagnostic.at(text, fault.at.clone())
}

/// The kinds of documents.
enum Kind {
    Service,
    Runbook,
    Backups,
    Group,
}

fn kind_of(root: &Node, doc: DocId) -> Result<Kind, Box<Complaint>> {
    let complain = |path: &str, message: String| {
        Box::new(Complaint::new(
            Code::Foreign,
            doc,
            FieldPath::parse(path),
            message,
        ))
    };
    let text = |key: &str| match &root.entry(key)?.value.data {
        Data::Scalar(Value::String(text)) => Some(text.as_str()),
        Data::Scalar(_) | Data::List(_) | Data::Map(_) => None,
    };
    if !matches!(root.data, Data::Map(_)) {
        let complaint = complain("", "a document is a map".to_owned());
        return Err(Box::new(
            complaint.expected("apiVersion, kind, metadata and spec"),
        ));
    }
    match text("apiVersion") {
        Some(API_VERSION) => {}
        Some(other) => {
            let complaint = complain("apiVersion", format!("`{other}` is not ours"));
            return Err(Box::new(complaint.expected(API_VERSION)));
        }
        None => {
            let complaint = complain("apiVersion", "the field `apiVersion` is missing".to_owned());
            return Err(Box::new(complaint.expected(API_VERSION)));
        }
    }
    match text("kind") {
        Some("ProtectedService") => Ok(Kind::Service),
        Some("Runbook") => Ok(Kind::Runbook),
        Some("BackupPolicy") => Ok(Kind::Backups),
        Some("ServiceGroup") => Ok(Kind::Group),
        other => {
            let complaint = match other {
                Some(other) => complain("kind", format!("there is no kind `{other}`"))
                    .maybe_hint(nearest::hint(other, &KINDS)),
                None => *complain("kind", "the field `kind` is missing".to_owned()),
            };
            Err(Box::new(complaint.expected(KINDS.join(" or "))))
        }
    }
}
