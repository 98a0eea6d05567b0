//! The API of the cluster as the operator uses it: the resources, what is seen of them, and what is written back.

use std::time::Duration;

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::{Map, Value, json};
use tokio::time;

use super::{
    document::DocumentKind,
    resource::{GROUP, VERSION},
};
use crate::port::cause;

/// How long one write may take.
const WRITE: Duration = Duration::from_secs(5);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// Documents.
    Document(DocumentKind),
    /// Requests for runs.
    Run,
    /// Answers to questions.
    Approval,
}

/// One namespace of a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
}

/// What came of writing.
#[derive(Debug)]
pub enum Written {
    /// It stands there.
    Done(Box<DynamicObject>),
    /// Nothing was different.
    Same,
    /// The resource is another one by now, or gone: what is seen next decides.
    Overtaken,
    /// It could not be written just now.
    Later,
}

impl Cluster {
    /// A namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
        }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Resources of a kind.
    #[must_use]
    pub fn api(&self, watched: Watched) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(watched))
    }

    /// Everything that is seen of the resources, from now on and for ever.
    #[must_use]
    pub fn watch(&self) -> BoxStream<'static, (Watched, Event<DynamicObject>)> {
        let documents = DocumentKind::ALL.map(Watched::Document);
        let all = documents
            .into_iter()
            .chain([Watched::Run, Watched::Approval]);
        let each = all.map(|watched| {
            let events = watcher(self.api(watched), watcher::Config::default());
            events
                .default_backoff()
                .filter_map(move |event| async move {
                    match event {
                        Ok(event) => Some((watched, event)),
                        Err(error) => {
                            let error = cause::in_full(&error);
                            tracing::warn!(resources = plural(watched), %error, "resources cannot be watched; trying again");
                            None
                        }
                    }
                })
                .boxed()
        });
        stream::select_all(each).boxed()
    }

    /// Writes a status where it is another one than the resource has.
    pub async fn write_status(
        &self,
        watched: Watched,
        object: &DynamicObject,
        status: &Value,
    ) -> Written {
        let current = object.data.get("status").unwrap_or(&Value::Null);
        if current == status {
            return Written::Same;
        }
        let patch = json!({
            "metadata": {"resourceVersion": object.metadata.resource_version},
            "status": merged(current, status),
        });
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let params = PatchParams::default();
        let patch = Patch::Merge(patch);
        let api = self.api(watched);
        answer(name, api.patch_status(name, &params, &patch)).await
    }

    /// Sets what keeps a resource from going.
    pub async fn write_finalizers(
        &self,
        watched: Watched,
        object: &DynamicObject,
        finalizers: &[String],
    ) -> Written {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let patch = Patch::Merge(json!({"metadata": {
            "resourceVersion": object.metadata.resource_version,
            "finalizers": finalizers,
        }}));
        let params = PatchParams::default();
        let api = self.api(watched);
        answer(name, api.patch(name, &params, &patch)).await
    }
}

async fn answer(
    name: &str,
    asked: impl Future<Output = Result<DynamicObject, kube::Error>>,
) -> Written {
    match time::timeout(WRITE, asked).await {
        Ok(Ok(object)) => Written::Done(Box::new(object)),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Written::Overtaken,
        Ok(Err(error)) => {
            tracing::warn!(name, error = %cause::in_full(&error), "a resource cannot be written; trying again");
            Written::Later
        }
        Err(_) => {
            tracing::warn!(name, "the API server does not answer; trying again");
            Written::Later
        }
    }
}

/// A merge leaves alone what it does not name: what is gone has to be named.
fn merged(current: &Value, wanted: &Value) -> Value {
    let mut patch = wanted.as_object().cloned().unwrap_or_default();
    let none = Map::new();
    for gone in current.as_object().unwrap_or(&none).keys() {
        patch.entry(gone).or_insert(Value::Null);
    }
    Value::Object(patch)
}

/// A kind as the API names it.
#[must_use]
pub fn resource(watched: Watched) -> ApiResource {
    let kind = match watched {
        Watched::Document(kind) => kind.word(),
        Watched::Run => "FailoverRun",
        Watched::Approval => "Approval",
    };
    let gvk = GroupVersionKind::gvk(GROUP, VERSION, kind);
    ApiResource::from_gvk_with_plural(&gvk, plural(watched))
}

fn plural(watched: Watched) -> &'static str {
    match watched {
        Watched::Document(kind) => kind.plural(),
        Watched::Run => "failoverruns",
        Watched::Approval => "approvals",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_named_in_a_merge() {
        let current = json!({"run": "shop-r1", "mode": "ask"});
        let wanted = json!({"mode": "ask", "verdict": "down"});
        assert_eq!(
            merged(&current, &wanted),
            json!({"run": null, "mode": "ask", "verdict": "down"})
        );
        assert_eq!(merged(&Value::Null, &wanted), wanted);
    }
}
