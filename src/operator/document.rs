//! Resources as the documents that they are: kept as they were last seen, and compiled as files are.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::{
    model::{id::ServiceName, service::Service},
    port::kind::Kinds,
    spec::{
        self, Severity, Source,
        document::{API_VERSION, ProtectedServiceSpec},
    },
};

/// The kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentKind {
    /// A `ProtectedService`.
    Service,
    /// A `Runbook`.
    Runbook,
    /// A `BackupPolicy`.
    Policy,
    /// A `ServiceGroup`.
    Group,
}

impl DocumentKind {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Service, Self::Runbook, Self::Policy, Self::Group];

    /// As `kind` has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Service => "ProtectedService",
            Self::Runbook => "Runbook",
            Self::Policy => "BackupPolicy",
            Self::Group => "ServiceGroup",
        }
    }

    /// As paths of the API have it.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Service => "protectedservices",
            Self::Runbook => "runbooks",
            Self::Policy => "backuppolicies",
            Self::Group => "servicegroups",
        }
    }
}

/// Names a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: DocumentKind,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The document of a service.
    #[must_use]
    pub fn of_service(service: &ServiceName) -> Self {
        Self {
            kind: DocumentKind::Service,
            name: service.to_string(),
        }
    }

    /// As diagnostics name it.
    fn source(&self) -> String {
        format!("{}/{}", self.kind.word(), self.name)
    }
}

/// A resource as it was last seen.
#[derive(Clone, Debug)]
pub struct Held {
    /// The resource.
    pub object: DynamicObject,
    /// As it is compiled.
    text: String,
}

impl Held {
    /// The generation that a status is about.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or_default()
    }

    /// Its status, null where it has none.
    #[must_use]
    pub fn status(&self) -> &Value {
        self.object.data.get("status").unwrap_or(&Value::Null)
    }

    /// Whether somebody wants it to go.
    #[must_use]
    pub fn is_going(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Whether something keeps it from going.
    #[must_use]
    pub fn is_kept_by(&self, finalizer: &str) -> bool {
        let all = self.object.metadata.finalizers.iter().flatten();
        all.into_iter().any(|f| f == finalizer)
    }
}

/// Resources as they were last seen.
#[derive(Debug, Default)]
pub struct Documents {
    held: BTreeMap<Key, Held>,
}

/// What documents came to.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The services that nothing is wrong with.
    pub services: Vec<Service>,
    /// What there is to say of each document; absent where there is nothing.
    pub remarks: BTreeMap<Key, Remarks>,
}

/// What there is to say of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// What keeps it from being used.
    pub errors: Vec<String>,
    /// What does not.
    pub warnings: Vec<String>,
}

impl Documents {
    /// Takes in a resource; whether what it says as a document is new.
    pub fn put(&mut self, key: Key, mut object: DynamicObject) -> bool {
        // Larger than all the rest, and of no use here.
        object.metadata.managed_fields = None;
        let text = text(&key, &object);
        let going = object.metadata.deletion_timestamp.is_some();
        let before = self.held.insert(
            key,
            Held {
                object,
                text: text.clone(),
            },
        );
        before.is_none_or(|before| before.text != text || before.is_going() != going)
    }

    /// Forgets a resource that is gone; whether there was one.
    pub fn remove(&mut self, key: &Key) -> bool {
        self.held.remove(key).is_some()
    }

    /// Forgets all resources of a kind but these; whether any was forgotten.
    pub fn keep(&mut self, kind: DocumentKind, names: &BTreeSet<String>) -> bool {
        let before = self.held.len();
        self.held
            .retain(|key, _| key.kind != kind || names.contains(&key.name));
        self.held.len() < before
    }

    /// A resource.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Held> {
        self.held.get(key)
    }

    /// Every resource.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Held)> {
        self.held.iter()
    }

    /// What a service is compiled from: its own document, its runbooks and its backup policies.
    #[must_use]
    pub fn of_service(&self, service: &ServiceName) -> Vec<String> {
        let own = Key::of_service(service);
        let spec = |held: &Held| held.object.data.get("spec").cloned().unwrap_or_default();
        let named = self.held.get(&own).map(spec).unwrap_or_default();
        let named = serde_json::from_value::<ProtectedServiceSpec>(named).ok();
        let runbooks: BTreeSet<&str> = named
            .iter()
            .flat_map(ProtectedServiceSpec::runbooks)
            .collect();
        let belongs = |key: &Key, held: &Held| match key.kind {
            DocumentKind::Service => *key == own,
            DocumentKind::Runbook => runbooks.contains(key.name.as_str()),
            DocumentKind::Policy => spec(held)["service"] == service.as_str(),
            // A group is compiled with all of its services, and put upon them.
            DocumentKind::Group => false,
        };
        let all = self.held.iter().filter(|(key, held)| belongs(key, held));
        all.map(|(_, held)| held.text.clone()).collect()
    }

    /// Compiles them as files are, apart from those that are left out.
    #[must_use]
    pub fn compile(&self, kinds: Kinds, left_out: &BTreeSet<Key>) -> Compiled {
        let wanted = self.held.iter().filter(|(key, _)| !left_out.contains(key));
        let sources: Vec<Source> = wanted
            .map(|(key, held)| Source {
                name: key.source(),
                text: held.text.clone(),
            })
            .collect();
        let loaded = spec::read(&sources, kinds);
        let keys: BTreeMap<String, &Key> = self.held.keys().map(|k| (k.source(), k)).collect();
        let mut remarks: BTreeMap<Key, Remarks> = BTreeMap::new();
        for found in &loaded.diagnostics {
            let Some(key) = keys.get(&found.file) else {
                tracing::warn!("{found}");
                continue;
            };
            let remark = remarks.entry((*key).clone()).or_default();
            let list = match found.severity {
                Severity::Error => &mut remark.errors,
                Severity::Warning => &mut remark.warnings,
            };
            list.push(sentence(found));
        }
        Compiled {
            services: loaded.services,
            remarks,
        }
    }
}

/// Compiles the documents of one service; none where they cannot be used.
#[must_use]
pub fn compile(documents: &[String], kinds: Kinds) -> Option<Service> {
    let sources: Vec<Source> = documents
        .iter()
        .enumerate()
        .map(|(n, text)| Source {
            name: format!("revision/{n}"),
            text: text.clone(),
        })
        .collect();
    spec::read(&sources, kinds).services.into_iter().next()
}

/// A diagnostic without its place in a text that nobody wrote.
fn sentence(found: &spec::Diagnostic) -> String {
    let place = if found.path.is_empty() {
        String::new()
    } else {
        format!("{}: ", found.path)
    };
    let expected = found.expected.as_ref().map(|e| format!("expected {e}"));
    let all = [
        Some(format!("{place}{}", found.message)),
        expected,
        found.hint.clone(),
    ];
    let told: Vec<_> = all.into_iter().flatten().collect();
    format!("{} [{}]", told.join("; "), found.code)
}

/// What a resource says as a document: nothing that the server or other programs added. JSON is YAML as well.
fn text(key: &Key, object: &DynamicObject) -> String {
    let document = json!({
        "apiVersion": API_VERSION,
        "kind": key.kind.word(),
        "metadata": {"name": key.name},
        "spec": object.data.get("spec").unwrap_or(&Value::Null),
    });
    format!("{document:#}")
}

#[cfg(test)]
mod tests {
    use kube::{api::ApiResource, core::GroupVersionKind};

    use super::*;
    use crate::driver::registry;

    fn key(kind: DocumentKind, name: &str) -> Key {
        Key {
            kind,
            name: name.to_owned(),
        }
    }

    fn object(key: &Key, spec: &Value) -> DynamicObject {
        let gvk = GroupVersionKind::gvk("failover.rs", "v1alpha1", key.kind.word());
        let resource = ApiResource::from_gvk_with_plural(&gvk, key.kind.plural());
        DynamicObject::new(&key.name, &resource).data(json!({"spec": spec}))
    }

    fn shop(runbook: &str) -> Value {
        json!({
            "objectives": {"rto": "5m", "rpo": "1m"},
            "sites": [
                {"name": "east", "role": "primary", "addresses": ["192.0.2.10"]},
                {"name": "west", "role": "standby", "addresses": ["192.0.2.20"]},
            ],
            "components": [{
                "name": "app",
                "kind": "application",
                "probes": [{"uses": "probe/http", "with": {"url": "http://192.0.2.10/ \"\u{1f600}\\"}}],
            }],
            "runbook": runbook,
        })
    }

    #[test]
    fn what_the_server_adds_changes_no_document() {
        let mut documents = Documents::default();
        let key = key(DocumentKind::Service, "shop");
        let mut seen = object(&key, &shop("redirect"));
        assert!(documents.put(key.clone(), seen.clone()));
        seen.metadata.resource_version = Some("2".to_owned());
        seen.metadata.labels = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        seen.data["status"] = json!({"verdict": "healthy"});
        assert!(!documents.put(key.clone(), seen.clone()));
        assert_eq!(documents.get(&key).unwrap().status()["verdict"], "healthy");
        seen.data["spec"]["title"] = "The shop".into();
        assert!(documents.put(key, seen));
    }

    #[test]
    fn a_service_is_compiled_from_its_own_documents_alone() {
        let mut documents = Documents::default();
        let mut put = |kind, name, spec: &Value| {
            let key = key(kind, name);
            documents.put(key.clone(), object(&key, spec));
        };
        let mut service = shop("mine");
        service["components"][0]["probes"][0]["with"]["url"] = "http://192.0.2.10/".into();
        for name in ["shop", "books"] {
            put(DocumentKind::Service, name, &service);
        }
        let steps = json!({"steps": [{"id": "verify", "uses": "service/verify"}]});
        for name in ["mine", "other"] {
            put(DocumentKind::Runbook, name, &steps);
        }
        let whole = documents.compile(registry::kinds(), &BTreeSet::new());
        let own = documents.of_service(&"shop".into());
        assert_eq!(own.len(), 2, "{own:?}");
        let alone = super::compile(&own, registry::kinds()).unwrap();
        let same = whole.services.iter().find(|s| s.name == alone.name);
        assert_eq!(same.unwrap().config, alone.config);
    }

    #[test]
    fn the_secrets_of_what_runs_are_known_without_its_documents() {
        let mut documents = Documents::default();
        let runbook = key(DocumentKind::Runbook, "mine");
        let steps = json!({"steps": [{"id": "verify", "uses": "service/verify"}]});
        documents.put(runbook.clone(), object(&runbook, &steps));
        let key = key(DocumentKind::Service, "shop");
        let mut service = shop("mine");
        let with = &mut service["components"][0]["probes"][0]["with"];
        *with = json!({
            "url": "http://127.0.0.1/",
            "headers": {"authorization": {"secret": {"secretRef": {"name": "token", "key": "k"}}}},
        });
        documents.put(key.clone(), object(&key, &service));
        let compiled = documents.compile(registry::kinds(), &BTreeSet::new());
        let running = compiled.services.first().unwrap();
        let names: Vec<_> = crate::operator::secret::of_service(running).collect();
        assert_eq!(names, ["token"]);
    }

    #[test]
    fn errors_stand_with_the_document_that_has_them() {
        let mut documents = Documents::default();
        let service = key(DocumentKind::Service, "shop");
        documents.put(service.clone(), object(&service, &shop("mine")));
        let runbook = key(DocumentKind::Runbook, "mine");
        let steps = json!({"steps": [{
            "id": "a", "uses": "command/fence", "needs": ["b"],
            "with": {"perform": ["true"], "observe": ["true"]},
        }]});
        documents.put(runbook.clone(), object(&runbook, &steps));
        let compiled = documents.compile(registry::kinds(), &BTreeSet::new());
        assert!(compiled.services.is_empty());
        let own = documents.of_service(&"shop".into());
        assert_eq!(own.len(), 2, "{own:?}");
        assert!(super::compile(&own, registry::kinds()).is_none());
        let errors = compiled.remarks[&runbook].errors.join("\n");
        assert!(errors.contains("spec.steps[0].needs[0]: "), "{errors}");
        let left_out = BTreeSet::from([runbook]);
        let compiled = documents.compile(registry::kinds(), &left_out);
        let errors = compiled.remarks[&service].errors.join("\n");
        assert!(errors.contains("spec.runbook: "), "{errors}");
    }
}
