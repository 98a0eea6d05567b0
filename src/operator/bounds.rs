//! What documents may name of the operator's own process: whoever may write documents is not to have what the operator
//! has, such as the token of its account.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use serde_json::Value;

use crate::{
    driver::readiness,
    model::{
        readiness::Reading,
        secret::{Secret, SecretRef},
        service::Service,
    },
    port::{
        cause,
        kind::Kinds,
        secret::{HostSecrets, SecretError, Secrets},
    },
};

/// What `{env: NAME}` means here begins so: nothing that the operator has for itself does.
pub const PREFIX: &str = "FAILOVER_SECRET_";

/// What a document gets that names a program where none is run.
const NO_PROGRAMS: &str = "documents may have no program run here, as it would read all that the operator may: use a \
                           kind that runs none, or start the operator with --allow-commands (allowCommands of the chart)";

/// One folder, variables with the [`PREFIX`], and programs where they are allowed: a program reads whatever the operator
/// reads, and failover itself is one.
#[derive(Clone, Debug)]
pub struct Bounds {
    folder: PathBuf,
    programs: bool,
}

impl Bounds {
    /// Files below this folder, and no others; `programs`: whether documents may have the operator run any.
    #[must_use]
    pub const fn new(folder: PathBuf, programs: bool) -> Self {
        Self { folder, programs }
    }

    /// Reads a file or a variable of this process.
    ///
    /// # Errors
    /// Where it is out of bounds, cannot be read, or is empty.
    pub fn read(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        match at {
            SecretRef::File(path) => {
                let real = self.within(path)?;
                HostSecrets.read(&SecretRef::File(real))
            }
            SecretRef::Env(name) => {
                let variable = format!("{PREFIX}{name}");
                let read = HostSecrets.read(&SecretRef::Env(variable.clone()));
                read.map_err(|error| match error {
                    SecretError::Env(_) => SecretError::NotGiven {
                        name: name.clone(),
                        variable,
                    },
                    other @ (SecretError::File { .. }
                    | SecretError::NoCluster(_)
                    | SecretError::NoKey { .. }
                    | SecretError::Outside { .. }
                    | SecretError::NotGiven { .. }
                    | SecretError::Empty(_)) => other,
                })
            }
            SecretRef::SecretRef(_) => HostSecrets.read(at),
        }
    }

    /// Where a file truly is. A mounted Secret's keys are links within its own folder; one that leads out of it is not.
    fn within(&self, named: &str) -> Result<String, SecretError> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            |source| SecretError::File { path, source }
        };
        let outside = || SecretError::Outside {
            path: named.to_owned(),
            folder: self.folder.display().to_string(),
        };
        let path = Path::new(named);
        let climbs = path.components().any(|part| part == Component::ParentDir);
        if climbs || !path.starts_with(&self.folder) {
            return Err(outside());
        }
        let real = fs::canonicalize(path).map_err(failed(path))?;
        let folder = fs::canonicalize(&self.folder).map_err(failed(&self.folder))?;
        if !real.starts_with(folder) {
            return Err(outside());
        }
        real.into_os_string().into_string().map_err(|_| outside())
    }

    /// What a service names that it may not, each with its place. A file that is merely not there yet may come.
    #[must_use]
    pub fn crossed(&self, service: &Service, kinds: Kinds) -> Vec<String> {
        let mut crossed = Vec::new();
        for (reference, places) in readiness::references(service) {
            let SecretRef::File(path) = &reference else {
                continue;
            };
            if let Err(error @ SecretError::Outside { .. }) = self.within(path) {
                let error = cause::in_full(&error);
                // As documents have it: what they `use` is an action only once it is compiled.
                let places = places.iter().map(|p| p.replace(".action.", "."));
                crossed.extend(places.map(|place| format!("{place}: {error}")));
            }
        }
        if !self.programs {
            let places = programs(service, kinds).into_iter();
            crossed.extend(places.map(|place| format!("{place}: {NO_PROGRAMS}")));
        }
        crossed
    }
}

/// Where a service has the operator run a program, in its process or on data that may name any.
fn programs(service: &Service, kinds: Kinds) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::to_value(service) {
        walk(&value, "", kinds, &mut found);
    }
    for (n, comparison) in service.readiness.compare.iter().enumerate() {
        let commands = comparison.sites.iter();
        let commands = commands.filter(|(_, reading)| matches!(reading, Reading::Command(_)));
        found.extend(commands.map(|(site, _)| format!("readiness.compare[{n}].sites.{site}")));
    }
    // PostgreSQL's own, from a folder that the document may name, over data that may name any other.
    if let Some(policy) = &service.backups {
        let verify = policy.verify.as_ref().map(|_| "backups.verify");
        let take = policy.take.as_ref().map(|_| "backups.take");
        found.extend(verify.into_iter().chain(take).map(ToOwned::to_owned));
    }
    found
}

/// Finds each `uses` that runs a program.
fn walk(value: &Value, path: &str, kinds: Kinds, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(uses)) = fields.get("uses") {
                let with = fields.get("with").unwrap_or(&Value::Null);
                let program = kinds.get(uses).and_then(|kind| (kind.program)(with));
                if let Some(field) = program {
                    let field = Some(field).filter(|field| !field.is_empty());
                    let field = field.map_or_else(String::new, |field| format!(".with.{field}"));
                    let place = path.strip_suffix(".action").unwrap_or(path);
                    found.push(format!("{place}{field} ({uses})"));
                }
            }
            for (key, below) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(below, &path, kinds, found);
            }
        }
        Value::Array(items) => {
            for (n, below) in items.iter().enumerate() {
                walk(below, &format!("{path}[{n}]"), kinds, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::driver::registry;

    /// A Secret as it is mounted, beside something that nobody is to read.
    fn mounted() -> (TempDir, Bounds) {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("secrets/hook/..2026")).unwrap();
        fs::write(at("secrets/hook/..2026/key"), "s3cret\n").unwrap();
        symlink("..2026", at("secrets/hook/..data")).unwrap();
        symlink("..data/key", at("secrets/hook/key")).unwrap();
        fs::write(at("token"), "the operator's").unwrap();
        symlink(at("token"), at("secrets/hook/out")).unwrap();
        fs::create_dir(at("secrets-of-others")).unwrap();
        fs::write(at("secrets-of-others/key"), "theirs").unwrap();
        let bounds = Bounds::new(at("secrets"), false);
        (folder, bounds)
    }

    fn read(bounds: &Bounds, folder: &TempDir, name: &str) -> Result<Secret, SecretError> {
        let path = folder.path().join(name).display().to_string();
        bounds.read(&SecretRef::File(path))
    }

    #[test]
    fn a_key_of_a_mounted_secret_is_read_through_its_links() {
        let (folder, bounds) = mounted();
        let value = read(&bounds, &folder, "secrets/hook/key").unwrap();
        assert_eq!(value.expose(), "s3cret");
    }

    #[test]
    fn nothing_else_is_read_by_whatever_way() {
        let (folder, bounds) = mounted();
        for name in [
            "token",
            "secrets/../token",
            "secrets/hook/../hook/key",
            "secrets/hook/out",
            "secrets-of-others/key",
        ] {
            let error = read(&bounds, &folder, name).unwrap_err();
            assert!(
                matches!(error, SecretError::Outside { .. }),
                "{name}: {error}"
            );
        }
        let relative = bounds.read(&SecretRef::File("secrets/hook/key".to_owned()));
        assert!(matches!(relative, Err(SecretError::Outside { .. })));
        let missing = read(&bounds, &folder, "secrets/hook/other").unwrap_err();
        assert!(matches!(missing, SecretError::File { .. }), "{missing}");
    }

    #[test]
    fn every_kind_that_runs_a_program_is_known() {
        let mut run: Vec<&str> = registry::kinds()
            .0
            .iter()
            .filter(|kind| {
                let example = serde_saphyr::from_str::<Value>(kind.example).unwrap();
                (kind.program)(&example).is_some()
            })
            .map(|kind| kind.name)
            .collect();
        run.sort_unstable();
        // Those whose example names a program that they do without otherwise: backup/s3.
        let expected = [
            "backup/command",
            "backup/pgbackrest",
            "backup/restic",
            "backup/restore",
            "backup/s3",
            "command/drain",
            "command/fence",
            "command/promote",
            "drill/clone",
            "drill/promote",
            "drill/serve",
            "probe/command",
        ];
        assert_eq!(run, expected);
    }

    #[test]
    fn a_list_that_a_program_prints_is_a_program() {
        let email = registry::kinds().get("announce/email").unwrap();
        let mut with: Value = serde_saphyr::from_str(email.example).unwrap();
        assert_eq!((email.program)(&with), None);
        with["list"] = serde_json::json!({"command": ["/bin/list"]});
        assert_eq!((email.program)(&with), Some("list.command"));
        with["list"] = serde_json::json!({"nonsense": 1});
        assert_eq!((email.program)(&with), Some(""));
    }

    #[test]
    fn a_variable_of_the_operator_itself_is_none_of_the_documents() {
        let bounds = Bounds::new(PathBuf::from("/nowhere"), false);
        let error = bounds.read(&SecretRef::Env("PATH".to_owned())).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("FAILOVER_SECRET_PATH"), "{told}");
        assert!(std::env::var("PATH").is_ok());
    }
}
