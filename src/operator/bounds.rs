//! What documents may name of the operator's own process: whoever may write documents is not to have what the operator
//! has, such as the token of its account.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use crate::{
    driver::readiness,
    model::{
        secret::{Secret, SecretRef},
        service::Service,
    },
    port::{
        cause,
        secret::{HostSecrets, SecretError, Secrets},
    },
};

/// What `{env: NAME}` means here begins so: nothing that the operator has for itself does.
pub const PREFIX: &str = "FAILOVER_SECRET_";

/// One folder, and variables with the [`PREFIX`].
#[derive(Clone, Debug)]
pub struct Bounds {
    folder: PathBuf,
}

impl Bounds {
    /// Files below this folder, and no others.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
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
    pub fn crossed(&self, service: &Service) -> Vec<String> {
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
        crossed
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

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
        let bounds = Bounds::new(at("secrets"));
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
    fn a_variable_of_the_operator_itself_is_none_of_the_documents() {
        let bounds = Bounds::new(PathBuf::from("/nowhere"));
        let error = bounds.read(&SecretRef::Env("PATH".to_owned())).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("FAILOVER_SECRET_PATH"), "{told}");
        assert!(std::env::var("PATH").is_ok());
    }
}
