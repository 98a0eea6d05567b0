//! The `take` part of a `BackupPolicy`, and what becomes of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    backup::{BackupPolicySpec, BackupSourceSpec, Encryption},
    code::Code,
    path::FieldPath,
    schedule::{self, ScheduleSpec},
    scope::Scope,
};
use crate::{
    model::{
        id::SourceName,
        secret::SecretRef,
        span::Span,
        taking::{Packing, Take, TakeForm, is_sealed},
    },
    port::postgres::Conninfo,
};

/// Backups that are taken on the controller's host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TakeSpec {
    /// When. Without it only `failover backups take` takes one. One that was missed while nothing ran is taken when it
    /// runs again, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// Where it is taken from, as libpq says it. A base backup needs a role with REPLICATION, and may be taken from a
    /// standby.
    pub connection: String,
    /// The role's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// What is taken: a base backup of the whole cluster, which WAL can be replayed on, or a dump of one database.
    #[serde(default)]
    pub form: TakeForm,
    /// How it is packed.
    #[serde(default)]
    pub compress: Packing,
    /// Public keys of age (`age1…`) that can read it; each alone can. Without any it is not encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encrypt: Vec<String>,
    /// The sources that it is put into: of backup/folder or backup/s3. Its name there is the source's first pattern of
    /// full backups that has the moment to the minute and no `*`, and ends with `.age` exactly where it is encrypted.
    pub to: Vec<String>,
    /// Longest time that it may take.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Folder that it is made in. Default: the host's folder for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Mebibytes of that disk that stay free, whatever happens.
    #[serde(default = "keep_free")]
    pub keep_free: u64,
    /// Folder of PostgreSQL's programs. Default: they are looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<String>,
    /// Whether, once one was taken on schedule, what the retention ladder lets go is deleted, as `failover backups prune
    /// --apply` does. Look at what that shows without `--apply` first.
    #[serde(default)]
    pub prune: bool,
}

fn timeout() -> Span {
    Span::from_secs(6 * 3600)
}

const fn keep_free() -> u64 {
    1024
}

/// Checks what is to be taken.
pub fn take(scope: &mut Scope<'_>, spec: &BackupPolicySpec) -> Option<Take> {
    let said = spec.take.as_ref()?;
    let path = FieldPath::spec().key("take");
    let schedule = schedule::schedule(scope, said.schedule.as_ref(), &path);
    let mut bad = |field: FieldPath, message: String, expected: &str| {
        let complaint = scope.about(Code::BadValue, field, message);
        scope.add(complaint.expected(expected));
    };
    if let Err(e) = said.connection.parse::<Conninfo>() {
        let expected = "a connection such as host=db.example.com user=backup dbname=shop";
        bad(path.key("connection"), e.to_string(), expected);
    }
    for (n, key) in said.encrypt.iter().enumerate() {
        if !key.starts_with("age1") {
            let message = format!("`{key}` is no public key of age");
            bad(path.key("encrypt").index(n), message, "a key such as age1…");
        }
    }
    for (field, folder) in [("folder", &said.folder), ("programs", &said.programs)] {
        if folder.as_ref().is_some_and(|f| !f.starts_with('/')) {
            let message = "this is no path from /".to_owned();
            bad(path.key(field), message, "a folder such as /var/lib/backup");
        }
    }
    if said.timeout == Span::ZERO {
        let message = "no backup takes no time at all".to_owned();
        bad(path.key("timeout"), message, "a duration such as 6h");
    }
    if said.to.is_empty() {
        let message = "it would be put nowhere".to_owned();
        bad(path.key("to"), message, "at least one source");
    }
    places(scope, spec, said, &path);
    Some(Take {
        schedule,
        connection: said.connection.clone(),
        password: said.password.clone(),
        form: said.form,
        compress: said.compress,
        encrypt: said.encrypt.clone(),
        to: said.to.iter().map(SourceName::new).collect(),
        timeout: said.timeout,
        folder: said.folder.clone(),
        keep_free: said.keep_free,
        programs: said.programs.clone(),
        prune: said.prune,
    })
}

fn places(scope: &mut Scope<'_>, spec: &BackupPolicySpec, said: &TakeSpec, path: &FieldPath) {
    let known: Vec<_> = spec.sources.iter().map(|s| s.name.as_str()).collect();
    let list = FieldPath::spec().key("sources");
    for (n, name) in said.to.iter().enumerate() {
        let at = path.key("to").index(n);
        if !scope.refers("source", name, &known, &at, &list) {
            continue;
        }
        let Some((m, source)) = spec
            .sources
            .iter()
            .enumerate()
            .find(|(_, s)| &s.name == name)
        else {
            continue;
        };
        if let Some((message, expected)) = unfit(spec, said, source) {
            let complaint = scope.about(Code::Backups, at, message).expected(expected);
            scope.add(complaint.rests_on(list.index(m)));
        }
    }
}

/// Why a backup cannot be put into a source, and what would do.
fn unfit(
    spec: &BackupPolicySpec,
    said: &TakeSpec,
    source: &BackupSourceSpec,
) -> Option<(String, String)> {
    let name = &source.name;
    if !matches!(source.uses.as_str(), "backup/folder" | "backup/s3") {
        return Some((
            format!("nothing can be put into `{name}`"),
            "a source of backup/folder or backup/s3".to_owned(),
        ));
    }
    let sealed = !said.encrypt.is_empty();
    let patterns = source.with.0.get("full").and_then(|f| f.as_array());
    let mut patterns = patterns.into_iter().flatten().filter_map(|p| p.as_str());
    let names = |p: &str| {
        let whole = ["%Y", "%m", "%d", "%H", "%M"].iter().all(|f| p.contains(f));
        whole && !p.contains('*') && !p.ends_with('/') && is_sealed(p) == sealed
    };
    if !patterns.any(names) {
        let ending = if sealed { ".age" } else { "" };
        return Some((
            format!("no pattern of `{name}` says what a backup taken here is called"),
            format!("among its `full`, one like nightly/%Y-%m-%dT%H%M.backup{ending}"),
        ));
    }
    let open = source
        .with
        .0
        .get("encrypted")
        .and_then(serde_json::Value::as_bool)
        != Some(true);
    (spec.encrypted == Encryption::Required && !sealed && open).then(|| {
        (
            format!(
                "the policy wants backups encrypted, and what is put into `{name}` would not be"
            ),
            "keys in `take.encrypt`".to_owned(),
        )
    })
}
