//! Who owns a field of an object, as the server keeps it in `managedFields`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

/// The name under which steps change fields.
pub const MANAGER: &str = "failover";

/// An owner of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Argo CD, which sets the field back to what Git has.
    Argo(String),
    /// Flux, which does so too.
    Flux(String),
    /// A `HorizontalPodAutoscaler`, or KEDA.
    Autoscaler(String),
    /// Anything else: it sets the field back when it is used again.
    Tool(String),
}

impl Owner {
    /// The one of that manager's name; `subresource` tells an autoscaler from other controllers.
    #[must_use]
    pub fn new(manager: &str, subresource: Option<&str>) -> Self {
        let name = manager.to_owned();
        match manager {
            "kustomize-controller" | "helm-controller" => Self::Flux(name),
            "keda-operator" => Self::Autoscaler(name),
            "kube-controller-manager" if subresource == Some("scale") => Self::Autoscaler(name),
            _ if manager.starts_with("argocd") => Self::Argo(name),
            _ => Self::Tool(name),
        }
    }

    /// Its name as field manager.
    #[must_use]
    pub fn manager(&self) -> &str {
        match self {
            Self::Argo(name) | Self::Flux(name) | Self::Autoscaler(name) | Self::Tool(name) => name,
        }
    }

    /// Whether it sets the field back by itself.
    #[must_use]
    pub fn insists(&self) -> bool {
        match self {
            Self::Argo(_) | Self::Flux(_) | Self::Autoscaler(_) => true,
            Self::Tool(_) => false,
        }
    }

    /// In words.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Argo(name) => format!("Argo CD ({name})"),
            Self::Flux(name) => format!("Flux ({name})"),
            Self::Autoscaler(name) => format!("an autoscaler ({name})"),
            Self::Tool(name) => name.clone(),
        }
    }

    /// What to do, so that the field is failover's when it is needed.
    #[must_use]
    pub fn fix(&self, field: &str) -> String {
        self.fix_in(field, "the step")
    }

    /// The same, where `force` is a setting of this place.
    #[must_use]
    pub fn fix_in(&self, field: &str, place: &str) -> String {
        match self {
            Self::Argo(_) => format!(
                "have Argo CD leave {field} alone (spec.ignoreDifferences, and the sync option \
                 RespectIgnoreDifferences=true), and leave it out of what is in Git"
            ),
            Self::Flux(_) => format!(
                "leave {field} out of what is in Git, or annotate the object with \
                 kustomize.toolkit.fluxcd.io/ssa: IfNotPresent"
            ),
            Self::Autoscaler(_) => format!(
                "change the autoscaler's own bounds with kubernetes/patch instead of {field}, or take it away"
            ),
            Self::Tool(name) => format!(
                "leave {field} out of what {name} applies, or write `force: true` in {place}: it is set back when \
                 {name} is used again"
            ),
        }
    }
}

/// Who owns a field or a part of it, besides failover. The path is made of the names from the object's root.
#[must_use]
pub fn owners(managed: Option<&Vec<ManagedFieldsEntry>>, path: &[&str]) -> Vec<Owner> {
    let entries = managed.into_iter().flatten();
    let mut owners: Vec<Owner> = entries
        .filter(|entry| {
            let fields = entry.fields_v1.as_ref();
            fields.is_some_and(|fields| has(&fields.0, path))
        })
        .filter_map(|entry| {
            let name = entry.manager.as_deref().filter(|m| *m != MANAGER)?;
            Some(Owner::new(name, entry.subresource.as_deref()))
        })
        .collect();
    owners.sort();
    owners.dedup();
    owners
}

/// A field that ends early in the set is owned with all below it. Members of lists have keys of their own there, so that
/// whoever owns anything of a list counts.
fn has(fields: &Value, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else {
        return true;
    };
    if first.parse::<usize>().is_ok() || *first == "-" {
        return true;
    }
    let Some(below) = fields.get(format!("f:{first}")) else {
        return false;
    };
    below.as_object().is_none_or(serde_json::Map::is_empty) || has(below, rest)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, subresource: Option<&str>, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            subresource: subresource.map(str::to_owned),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    #[test]
    fn owners_are_told_by_their_names() {
        let replicas = || json!({"f:spec": {"f:replicas": {}}});
        let all = vec![
            entry("failover", None, replicas()),
            entry("kustomize-controller", None, replicas()),
            entry("argocd-controller", None, replicas()),
            entry("kube-controller-manager", Some("scale"), replicas()),
            entry("kubectl-client-side-apply", None, replicas()),
            entry("somebody", None, json!({"f:spec": {"f:template": {}}})),
        ];
        let found = owners(Some(&all), &["spec", "replicas"]);
        let told: Vec<String> = found.iter().map(Owner::told).collect();
        assert_eq!(
            told,
            [
                "Argo CD (argocd-controller)",
                "Flux (kustomize-controller)",
                "an autoscaler (kube-controller-manager)",
                "kubectl-client-side-apply"
            ]
        );
        assert_eq!(found.iter().filter(|o| o.insists()).count(), 3);
        assert!(!Owner::new("kube-controller-manager", None).insists());
    }

    #[test]
    fn a_field_is_owned_with_what_is_above_and_below_it() {
        let whole = vec![entry("a", None, json!({"f:spec": {"f:replica": {}}}))];
        assert_eq!(
            owners(Some(&whole), &["spec", "replica", "enabled"]).len(),
            1
        );
        let part = vec![entry(
            "a",
            None,
            json!({"f:spec": {"f:replica": {"f:enabled": {}}}}),
        )];
        assert_eq!(owners(Some(&part), &["spec", "replica"]).len(), 1);
        assert_eq!(owners(Some(&part), &["spec", "other"]), []);
        let list = vec![entry(
            "a",
            None,
            json!({"f:spec": {"f:list": {"k:{\"name\":\"x\"}": {}}}}),
        )];
        assert_eq!(
            owners(Some(&list), &["spec", "list", "0", "value"]).len(),
            1
        );
        assert_eq!(owners(None, &["spec"]), []);
    }
}
