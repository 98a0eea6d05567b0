//! Whether the cluster has the definitions of this version. What an older one does not know, the API server takes out of
//! every document without a word, and a document without a field says something else.

use kube::Client;
use serde_json::Value;

use super::{
    crd,
    replica::ReplicaError,
    resource::{GROUP, VERSION},
};
use crate::{
    driver::registry,
    model::span::Span,
    port::{cause, runtime::SharedRuntime},
};

/// What was just applied takes the server a moment to publish.
const PATIENCE: Span = Span::from_secs(15);
/// The server is asked again after this.
const AGAIN: Span = Span::from_secs(1);

/// Ends when the cluster has them. A server that does not answer is waited for.
///
/// # Errors
/// Where it lacks some.
pub async fn settle(client: &Client, runtime: &SharedRuntime) -> Result<(), ReplicaError> {
    let own = crd::schemas(registry::kinds()).map_err(ReplicaError::Crd)?;
    let mut lacks_since = None;
    let mut is_told = false;
    loop {
        let now = runtime.now();
        match published(client).await {
            Ok(published) => {
                let lacking = lacking(&own, &published);
                if lacking.is_empty() {
                    return Ok(());
                }
                let since = *lacks_since.get_or_insert(now);
                if now.since(since) >= PATIENCE {
                    return Err(ReplicaError::Definitions(lacking));
                }
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                tracing::warn!(
                    "the API server does not show its definitions to this account: whether they are those of this version is not known"
                );
                return Ok(());
            }
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(error = %cause::in_full(&error), "the API server does not say which definitions it has; trying again");
                }
            }
        }
        runtime.sleep_until(now.after(AGAIN)).await;
    }
}

/// The schemas that the server publishes of the group; none where it does not know the group.
async fn published(client: &Client) -> Result<Value, kube::Error> {
    let path = format!("/openapi/v3/apis/{GROUP}/{VERSION}");
    let request = http::Request::get(path).body(Vec::new());
    let request = request.map_err(kube::Error::HttpError)?;
    match client.request(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Value::Null),
        answer => answer,
    }
}

/// What the server would take out, as paths.
fn lacking(own: &[(&'static str, Value)], published: &Value) -> Vec<String> {
    let there = published["components"]["schemas"].as_object();
    let of = |kind: &str| {
        let known = |schema: &&Value| {
            let mut marks = schema["x-kubernetes-group-version-kind"]
                .as_array()
                .into_iter()
                .flatten();
            marks.any(|mark| mark["kind"] == kind)
        };
        there.into_iter().flat_map(|all| all.values()).find(known)
    };
    let mut lacking = Vec::new();
    for (kind, schema) in own {
        match of(kind) {
            None => lacking.push((*kind).to_owned()),
            Some(there) => compare(kind, schema, there, &mut lacking),
        }
    }
    lacking
}

fn compare(at: &str, own: &Value, there: &Value, lacking: &mut Vec<String>) {
    let keeps_all = |schema: &Value| schema["x-kubernetes-preserve-unknown-fields"] == true;
    if keeps_all(there) {
        return;
    }
    if keeps_all(own) {
        lacking.push(at.to_owned());
        return;
    }
    for (name, field) in own["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match there["properties"].get(name) {
            Some(there) => compare(&at, field, there, lacking),
            None => lacking.push(at),
        }
    }
    for key in ["items", "additionalProperties"] {
        if own[key].is_object() {
            compare(&format!("{at}[]"), &own[key], &there[key], lacking);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn published(spec: &Value) -> Value {
        json!({"components": {"schemas": {"rs.failover.v1alpha1.Thing": {
            "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": "Thing"}],
            "properties": {"spec": spec, "metadata": {}},
        }}}})
    }

    fn found(spec: &Value) -> Vec<String> {
        let free = json!({"x-kubernetes-preserve-unknown-fields": true});
        let own = json!({"properties": {"spec": {"properties": {
            "name": {"type": "string"},
            "people": {"items": {"properties": {"role": {"type": "string"}}}},
            "with": free,
        }}}});
        lacking(&[("Thing", own)], &published(spec))
    }

    #[test]
    fn what_the_server_would_take_out_is_named_by_its_path() {
        let free = json!({"x-kubernetes-preserve-unknown-fields": true});
        let mut there = json!({"properties": {
            "name": {"type": "string"},
            "people": {"items": {"properties": {"role": {}, "later": {}}}},
            "with": free,
            "later": {},
        }});
        assert!(found(&there).is_empty(), "more is no less");
        assert!(found(&free).is_empty(), "nothing is taken out there");
        there["properties"]["with"] = json!({"type": "object"});
        there["properties"]["people"]["items"]["properties"] = json!({});
        assert_eq!(
            found(&there),
            ["Thing.spec.people[].role", "Thing.spec.with"]
        );
        assert_eq!(lacking(&[("Thing", json!({}))], &Value::Null), ["Thing"]);
    }
}
