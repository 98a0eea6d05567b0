//! The custom resource definitions: schemas from the very types that files are read with, with what can be checked at
//! admission.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{AddNullable, RecursiveTransform},
};
use serde_json::{Value, json};

use super::{
    approval::{ApprovalSpec, ApprovalStatus},
    resource::{DocumentStatus, FailoverRunSpec, FailoverRunStatus, GROUP, ServiceStatus, VERSION},
    revision::ServiceRevisionSpec,
    rule::{self, Rules},
};
use crate::{
    announce::kubernetes::LedgerChunkSpec,
    journal::kubernetes::JournalEntrySpec,
    port::kind::Kinds,
    spec::{
        self,
        document::{BackupPolicySpec, ProtectedServiceSpec, RunbookSpec, ServiceGroupSpec},
    },
};

/// Why a definition could not be made; a fault of failover.
#[derive(Debug, thiserror::Error)]
#[error("the definition of {kind} cannot be made")]
pub struct CrdError {
    kind: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a definition says besides its schema.
struct Kind {
    word: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
    /// Name, type, path, and whether only wide listings have it.
    columns: &'static [(&'static str, &'static str, &'static str, bool)],
    rules: Rules,
}

const SERVICE: Kind = Kind {
    word: "ProtectedService",
    plural: "protectedservices",
    singular: "protectedservice",
    short: &["ps", "protected"],
    columns: &[
        ("Verdict", "string", ".status.verdict", false),
        ("Active", "string", ".status.active", false),
        ("Mode", "string", ".status.mode", false),
        ("Lag", "string", ".status.lag", false),
        ("Budget", "string", ".status.budget", false),
        ("Readiness", "string", ".status.readiness", false),
        ("Run", "string", ".status.run", false),
        ("Epoch", "integer", ".status.epoch", true),
        ("Valid", "string", VALID, true),
        ("Headline", "string", ".status.headline", true),
        AGE,
    ],
    rules: rule::SERVICE,
};
const RUNBOOK: Kind = Kind {
    word: "Runbook",
    plural: "runbooks",
    singular: "runbook",
    short: &["rb"],
    columns: &[
        ("Title", "string", ".spec.title", false),
        ("Valid", "string", VALID, false),
        AGE,
    ],
    rules: rule::RUNBOOK,
};
const POLICY: Kind = Kind {
    word: "BackupPolicy",
    plural: "backuppolicies",
    singular: "backuppolicy",
    short: &["bp"],
    columns: &[
        ("Service", "string", ".spec.service", false),
        ("Valid", "string", VALID, false),
        AGE,
    ],
    rules: rule::POLICY,
};
const SERVICE_GROUP: Kind = Kind {
    word: "ServiceGroup",
    plural: "servicegroups",
    singular: "servicegroup",
    short: &["sg"],
    columns: &[
        ("Title", "string", ".spec.title", false),
        ("At once", "integer", ".spec.atOnce", false),
        ("Valid", "string", VALID, false),
        AGE,
    ],
    rules: rule::SERVICE_GROUP,
};
const RUN: Kind = Kind {
    word: "FailoverRun",
    plural: "failoverruns",
    singular: "failoverrun",
    short: &["fr"],
    columns: &[
        ("Service", "string", ".spec.service", false),
        ("Kind", "string", ".spec.kind", false),
        ("Progress", "string", ".status.progress", false),
        ("Steps", "string", ".status.steps", false),
        ("Run", "string", ".status.run", false),
        ("Message", "string", ".status.message", true),
        AGE,
    ],
    rules: rule::RUN,
};
const ENTRY: Kind = Kind {
    word: "JournalEntry",
    plural: "journalentries",
    singular: "journalentry",
    short: &["je"],
    columns: &[
        ("Chain", "string", ".spec.chain", false),
        ("First", "integer", ".spec.first", false),
        ("Last", "integer", ".spec.last", false),
        AGE,
    ],
    rules: rule::ENTRY,
};
const APPROVAL: Kind = Kind {
    word: "Approval",
    plural: "approvals",
    singular: "approval",
    short: &[],
    columns: &[
        ("Service", "string", ".spec.service", false),
        ("Ask", "string", ".spec.ask", false),
        ("Answer", "string", ".spec.answer", false),
        ("Approver", "string", ".spec.approver", false),
        ("Reception", "string", ".status.reception", false),
        ("Message", "string", ".status.message", true),
        AGE,
    ],
    rules: rule::APPROVAL,
};
const REVISION: Kind = Kind {
    word: "ServiceRevision",
    plural: "servicerevisions",
    singular: "servicerevision",
    short: &["sr"],
    columns: &[AGE],
    rules: rule::REVISION,
};
const CHUNK: Kind = Kind {
    word: "LedgerChunk",
    plural: "ledgerchunks",
    singular: "ledgerchunk",
    short: &[],
    columns: &[
        ("Service", "string", ".spec.service", false),
        ("Message", "string", ".spec.message", false),
        ("Channel", "string", ".spec.channel", false),
        AGE,
    ],
    rules: rule::CHUNK,
};
const VALID: &str = ".status.conditions[?(@.type==\"Valid\")].status";
const AGE: (&str, &str, &str, bool) = ("Age", "date", ".metadata.creationTimestamp", false);

/// Every definition as YAML, with the file that it stands in.
///
/// # Errors
/// Where a schema is none; that is a fault of failover.
pub fn all(kinds: Kinds) -> Result<Vec<(String, String)>, CrdError> {
    let written = definitions(kinds)?.into_iter().map(|(kind, definition)| {
        let text = serde_saphyr::to_string(&definition).map_err(|e| CrdError {
            kind: kind.word,
            source: e.into(),
        })?;
        Ok((format!("{}.yaml", kind.plural), text))
    });
    written.collect()
}

/// The schema of each kind, with its name.
///
/// # Errors
/// Where a schema is none; that is a fault of failover.
pub fn schemas(kinds: Kinds) -> Result<Vec<(&'static str, Value)>, CrdError> {
    let made = definitions(kinds)?.into_iter().map(|(kind, definition)| {
        let version = definition.spec.versions.first();
        let schema = version.and_then(|version| version.schema.as_ref());
        (
            kind.word,
            json!(schema.map(|schema| &schema.open_api_v3_schema)),
        )
    });
    Ok(made.collect())
}

fn definitions(kinds: Kinds) -> Result<Vec<(&'static Kind, CustomResourceDefinition)>, CrdError> {
    [
        define::<ProtectedServiceSpec>(&SERVICE, Some(schema::<ServiceStatus>(kinds)), kinds),
        define::<RunbookSpec>(&RUNBOOK, Some(schema::<DocumentStatus>(kinds)), kinds),
        define::<BackupPolicySpec>(&POLICY, Some(schema::<DocumentStatus>(kinds)), kinds),
        define::<ServiceGroupSpec>(&SERVICE_GROUP, Some(schema::<DocumentStatus>(kinds)), kinds),
        define::<FailoverRunSpec>(&RUN, Some(schema::<FailoverRunStatus>(kinds)), kinds),
        define::<ApprovalSpec>(&APPROVAL, Some(schema::<ApprovalStatus>(kinds)), kinds),
        define::<JournalEntrySpec>(&ENTRY, None, kinds),
        define::<ServiceRevisionSpec>(&REVISION, None, kinds),
        define::<LedgerChunkSpec>(&CHUNK, None, kinds),
    ]
    .into_iter()
    .collect()
}

fn define<S: JsonSchema>(
    kind: &'static Kind,
    status: Option<Value>,
    kinds: Kinds,
) -> Result<(&'static Kind, CustomResourceDefinition), CrdError> {
    let mut properties = json!({"spec": schema::<S>(kinds)});
    let mut version = json!({
        "name": VERSION,
        "served": true,
        "storage": true,
        "additionalPrinterColumns": kind.columns.iter().map(column).collect::<Vec<_>>(),
    });
    if let Some(status) = status {
        properties["status"] = status;
        version["subresources"] = json!({"status": {}});
    }
    let description = properties["spec"]["description"].clone();
    let mut whole = json!({
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": properties,
    });
    rule::apply(&mut whole, kind.rules);
    version["schema"] = json!({"openAPIV3Schema": whole});
    let definition = json!({
        "metadata": {"name": format!("{}.{GROUP}", kind.plural)},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.word,
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": kind.short,
                "categories": ["failover"],
            },
            "versions": [version],
        },
    });
    // Read as what the server takes it for, so that nothing is in it that is lost there.
    let definition = serde_json::from_value(definition).map_err(|e| CrdError {
        kind: kind.word,
        source: e.into(),
    })?;
    Ok((kind, definition))
}

fn column((name, kind, path, wide): &(&str, &str, &str, bool)) -> Value {
    let mut column = json!({"name": name, "type": kind, "jsonPath": path});
    if *wide {
        column["priority"] = 1.into();
    }
    column
}

/// The structural schema of a type.
fn schema<S: JsonSchema>(kinds: Kinds) -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator = settings
        .with_transform(RecursiveTransform(loosen))
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<S>().to_value();
    settle(&mut schema, kinds);
    schema
}

/// What is either a word or a map has no type that the server knows: the controller checks it.
fn loosen(schema: &mut Schema) {
    let Some(branches) = schema.get("oneOf").and_then(Value::as_array) else {
        return;
    };
    let of = |kind: &str| branches.iter().any(|b| b.get("type") == Some(&json!(kind)));
    if of("string") && of("object") {
        schema.remove("oneOf");
        schema.insert(
            "x-kubernetes-preserve-unknown-fields".to_owned(),
            true.into(),
        );
    }
}

/// What the server does not take, or must not do: it would write defaults into what people keep in their repositories,
/// and an upgrade could not change them any more.
fn settle(schema: &mut Value, kinds: Kinds) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(mark) = object.remove("x-uses")
        && let Some(mark) = mark.as_str()
        && let Some(uses) = object.get_mut("properties").and_then(|p| p.get_mut("uses"))
    {
        uses["enum"] = spec::adapters(kinds, mark).into();
    }
    for unwanted in ["default", "examples", "title"] {
        object.remove(unwanted);
    }
    object.retain(|key, value| match (key.as_str(), value) {
        ("format", Value::String(format)) => !format.starts_with("uint"),
        ("additionalProperties", Value::Bool(more)) => *more,
        (_, _) => true,
    });
    for (key, value) in object {
        match key.as_str() {
            "properties" => value
                .as_object_mut()
                .into_iter()
                .flat_map(|fields| fields.values_mut())
                .for_each(|field| settle(field, kinds)),
            "items" | "additionalProperties" => settle(value, kinds),
            "anyOf" | "oneOf" | "allOf" => value
                .as_array_mut()
                .into_iter()
                .flatten()
                .for_each(|branch| settle(branch, kinds)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::driver::registry;

    fn definitions() -> Vec<(String, Value)> {
        let all = all(registry::kinds()).unwrap().into_iter();
        all.map(|(file, text)| (file, serde_saphyr::from_str(&text).unwrap()))
            .collect()
    }

    #[test]
    fn the_charts_definitions_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/failover/crds");
        let made = all(registry::kinds()).unwrap();
        let there = fs::read_dir(&folder).unwrap().count();
        assert_eq!(there, made.len(), "files in {}", folder.display());
        for (file, text) in made {
            let there = fs::read_to_string(folder.join(&file)).unwrap_or_default();
            assert!(
                there == text,
                "{file} is not what the types say: failover operator crds --to charts/failover/crds"
            );
        }
    }

    #[test]
    fn each_rule_finds_its_place() {
        let kinds = [
            SERVICE,
            RUNBOOK,
            POLICY,
            SERVICE_GROUP,
            RUN,
            APPROVAL,
            ENTRY,
            REVISION,
        ];
        for (kind, (_, definition)) in kinds.iter().zip(definitions()) {
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let mut schema = schema.clone();
            for (at, _) in kind.rules {
                assert!(
                    rule::find(&mut schema, at).is_some(),
                    "{}: there is no {at}",
                    kind.word
                );
            }
        }
    }

    #[test]
    fn nothing_is_written_into_what_people_keep() {
        for (file, definition) in definitions() {
            let text = definition.to_string();
            for word in ["\"default\":", "x-uses", "$ref", "uint"] {
                assert!(!text.contains(word), "{file} has {word}");
            }
        }
    }

    #[test]
    fn adapters_are_listed_where_they_are_named() {
        let (_, service) = definitions().remove(0);
        let spec =
            &service["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let probe = &spec["properties"]["components"]["items"]["properties"]["probes"]["items"];
        let uses = probe["properties"]["uses"]["enum"].as_array().unwrap();
        assert!(uses.contains(&"probe/http".into()), "{uses:?}");
        assert!(!uses.contains(&"command/fence".into()), "{uses:?}");
    }
}
