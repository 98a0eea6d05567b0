//! Secrets of the cluster: those that documents name, and no others, as they stand now.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret as Object;
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle, time};

use super::bounds::Bounds;
use crate::{
    driver::readiness,
    model::{
        secret::{Secret, SecretRef},
        service::Service,
    },
    port::{
        cause,
        kind::Kinds,
        secret::{SecretError, Secrets},
    },
};

/// How long the first look at a Secret may take; a service that needs it cannot be set up before.
const FIRST: Duration = Duration::from_secs(5);

/// The values of a Secret by their keys.
type Values = BTreeMap<String, String>;

/// Secrets of one namespace, besides the variables and files that are meant for documents.
pub struct ClusterSecrets {
    bounds: Bounds,
    secrets: Api<Object>,
    known: Arc<RwLock<BTreeMap<String, Values>>>,
    watching: RwLock<BTreeMap<String, Watching>>,
}

struct Watching {
    seen: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl ClusterSecrets {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str, bounds: Bounds) -> Self {
        Self {
            bounds,
            secrets: Api::namespaced(client, namespace),
            known: Arc::default(),
            watching: RwLock::default(),
        }
    }

    /// What a service names of this process that it may not, each with its place.
    #[must_use]
    pub fn crossed(&self, service: &Service, kinds: Kinds) -> Vec<String> {
        self.bounds.crossed(service, kinds)
    }

    /// Follows these Secrets and no others; returns once each was looked at, or could not be for a while.
    pub async fn follow(&self, names: &BTreeSet<String>) {
        let fresh: Vec<_> = {
            let mut watching = self
                .watching
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            watching.retain(|name, watching| {
                let wanted = names.contains(name);
                if !wanted {
                    watching.task.abort();
                }
                wanted
            });
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.retain(|name, _| names.contains(name));
            let mut fresh = Vec::new();
            // One that cannot be read is waited for once, not each time that a document changes.
            for name in names {
                if !watching.contains_key(name) {
                    let begun = self.watch(name.clone());
                    fresh.push(begun.seen.clone());
                    watching.insert(name.clone(), begun);
                }
            }
            fresh
        };
        let all = async {
            for mut seen in fresh {
                // A watch that has ended will never have looked.
                let _ = seen.wait_for(|seen| *seen).await;
            }
        };
        if time::timeout(FIRST, all).await.is_err() {
            tracing::warn!("some Secrets cannot be read yet");
        }
    }

    fn watch(&self, name: String) -> Watching {
        let (tell, seen) = watch::channel(false);
        let known = Arc::clone(&self.known);
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher(self.secrets.clone(), only)
            .default_backoff()
            .boxed();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let put = |values| {
                    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
                    match values {
                        Some(values) => known.insert(name.clone(), values),
                        None => known.remove(&name),
                    };
                };
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => {
                        put(Some(values(object)));
                    }
                    Ok(Event::Delete(_)) => put(None),
                    Ok(Event::Init) => {}
                    Ok(Event::InitDone) => drop(tell.send(true)),
                    Err(error) => {
                        tracing::warn!(secret = %name, error = %cause::in_full(&error), "a Secret cannot be read");
                    }
                }
            }
        });
        Watching { seen, task }
    }
}

impl Drop for ClusterSecrets {
    fn drop(&mut self) {
        let watching = self
            .watching
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for watching in watching.values() {
            watching.task.abort();
        }
    }
}

fn values(object: Object) -> Values {
    let data = object.data.unwrap_or_default().into_iter();
    data.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?)))
        .collect()
}

impl Secrets for ClusterSecrets {
    fn read(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        let SecretRef::SecretRef(wanted) = at else {
            return self.bounds.read(at);
        };
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let value = known.get(&wanted.name).and_then(|s| s.get(&wanted.key));
        match value.map(String::as_str) {
            Some("") => Err(SecretError::Empty(at.to_string())),
            Some(value) => Ok(Secret::new(value)),
            None => Err(SecretError::NoKey {
                secret: wanted.name.clone(),
                key: wanted.key.clone(),
            }),
        }
    }
}

/// The Secrets that a service names.
pub fn of_service(service: &Service) -> impl Iterator<Item = String> {
    let references = readiness::references(service).into_keys();
    references.filter_map(|reference| match reference {
        SecretRef::SecretRef(key) => Some(key.name),
        SecretRef::Env(_) | SecretRef::File(_) => None,
    })
}

/// The Secrets that a document names.
pub fn named(document: &Value, names: &mut BTreeSet<String>) {
    match document {
        Value::Object(fields) => {
            let secret = fields.get("secretRef").and_then(|s| s.get("name"));
            names.extend(secret.and_then(Value::as_str).map(ToOwned::to_owned));
            fields.values().for_each(|field| named(field, names));
        }
        Value::Array(items) => items.iter().for_each(|item| named(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_every_secret_that_a_document_names() {
        let document = json!({"a": [{"secretRef": {"name": "one", "key": "k"}}],
            "b": {"with": {"password": {"secretRef": {"name": "two", "key": "k"}}, "env": {"env": "X"}}}});
        let mut names = BTreeSet::new();
        named(&document, &mut names);
        assert_eq!(names, BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    }
}
