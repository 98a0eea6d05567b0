//! The custom resource definitions: schemas from the very types that files are read with, with what can be checked at
//! admission.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use schemars::{JsonSchema, generate::SchemaSettings, transform::AddNullable};
use serde_json::{Value, json};

use super::{
    resource::{DocumentStatus, FailoverRunSpec, FailoverRunStatus, GROUP, ServiceStatus, VERSION},
    rule::{self, Rules},
};
use crate::{
    journal::kubernetes::JournalEntrySpec,
    port::kind::Kinds,
    spec::{
        self,
        document::{BackupPolicySpec, ProtectedServiceSpec, RunbookSpec},
    },
};

/// Why a definition could not be made; a fault of failover.
#[derive(Debug, thiserror::Error)]
#[error("the definition of {kind} cannot be made")]
pub struct CrdError {
    kind: &'static str,
    #[source]
    source: serde_json::Error,
}

/// What a definition says besides its schema.
struct Kind {
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
    /// Name, type, path, and whether only wide listings have it.
    columns: &'static [(&'static str, &'static str, &'static str, bool)],
    rules: Rules,
}

const SERVICE: Kind = Kind {
    kind: "ProtectedService",
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
    kind: "Runbook",
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
    kind: "BackupPolicy",
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
const RUN: Kind = Kind {
    kind: "FailoverRun",
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
    kind: "JournalEntry",
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
const VALID: &str = ".status.conditions[?(@.type==\"Valid\")].status";
const AGE: (&str, &str, &str, bool) = ("Age", "date", ".metadata.creationTimestamp", false);

/// Every definition, by the file that it stands in.
///
/// # Errors
/// Where a schema is none; that is a fault of failover.
pub fn all(kinds: Kinds) -> Result<Vec<(String, CustomResourceDefinition)>, CrdError> {
    [
        define::<ProtectedServiceSpec>(&SERVICE, Some(schema::<ServiceStatus>(kinds)), kinds),
        define::<RunbookSpec>(&RUNBOOK, Some(schema::<DocumentStatus>(kinds)), kinds),
        define::<BackupPolicySpec>(&POLICY, Some(schema::<DocumentStatus>(kinds)), kinds),
        define::<FailoverRunSpec>(&RUN, Some(schema::<FailoverRunStatus>(kinds)), kinds),
        define::<JournalEntrySpec>(&ENTRY, None, kinds),
    ]
    .into_iter()
    .collect()
}

fn define<S: JsonSchema>(
    kind: &Kind,
    status: Option<Value>,
    kinds: Kinds,
) -> Result<(String, CustomResourceDefinition), CrdError> {
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
                "kind": kind.kind,
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": kind.short,
                "categories": ["failover"],
            },
            "versions": [version],
        },
    });
    let file = format!("{}.yaml", kind.plural);
    serde_json::from_value(definition)
        .map(|definition| (file, definition))
        .map_err(|source| CrdError {
            kind: kind.kind,
            source,
        })
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
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<S>().to_value();
    settle(&mut schema, kinds);
    schema
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
