//! Where a controller keeps its state and listens.

use std::{
    env, fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::arguments::Global;
use crate::{error::Error, journal::succession::Succession, model::secret::Secret};

/// The journal's file within the state folder.
pub const JOURNAL: &str = "journal.sqlite";

/// Who took over, within the state folder.
const SUCCESSION: &str = "taken-over.json";

/// Where a controller keeps its state and listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Folder of journal and lists.
    pub state: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// The controller that is asked is another one.
    pub server: Option<Server>,
    /// Who asks it; none: as the environment says.
    pub token: Option<Secret>,
}

/// A controller elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where its desk is.
    pub url: String,
    /// PEM file of who signed the desk's certificate; none: whoever this host trusts.
    pub ca: Option<PathBuf>,
}

impl Place {
    /// As flags and environment say.
    ///
    /// # Errors
    /// Where nothing says where the state is.
    pub fn new(global: &Global) -> Result<Self, Error> {
        let state = match &global.state {
            Some(path) => path.clone(),
            None => default_state(
                nix::unistd::geteuid().is_root(),
                env::var_os("XDG_STATE_HOME").map(PathBuf::from),
                env::var_os("HOME").map(PathBuf::from),
            )
            .ok_or(Error::NoHome)?,
        };
        let socket = global
            .socket
            .clone()
            .unwrap_or_else(|| state.join("control").join("failover.sock"));
        // A variable that is set to nothing names nobody.
        let named = global.server.as_ref().filter(|url| !url.trim().is_empty());
        let server = named.map(|url| Server {
            url: url.clone(),
            ca: global.server_ca.clone(),
        });
        Ok(Self {
            state,
            socket,
            server,
            token: None,
        })
    }

    /// The same, asked with this token where one is given.
    #[must_use]
    pub fn with_token(&self, token: Option<Secret>) -> Self {
        Self {
            token: token.or_else(|| self.token.clone()),
            ..self.clone()
        }
    }

    /// The same for a command that uses what stands on this host alone.
    ///
    /// # Errors
    /// Where nothing says where the state is, or a controller elsewhere is named.
    pub fn here(global: &Global, command: &str) -> Result<Self, Error> {
        let place = Self::new(global)?;
        match &place.server {
            None => Ok(place),
            Some(server) => Err(Error::Usage(format!(
                "'failover {command}' uses the state folder of this host, and {} is asked by --server or \
                 $FAILOVER_SERVER: run it on the controller's host, without them",
                server.url
            ))),
        }
    }

    /// The journal's file.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.state.join(JOURNAL)
    }

    /// Who took this controller's place, where it ever found that out: it does not begin again, with the journal's copy at
    /// hand or without.
    ///
    /// # Errors
    /// Where what is written there cannot be read.
    pub fn succession(&self) -> Result<Option<Succession>, Error> {
        let path = self.state.join(SUCCESSION);
        let read = |verb, source| Error::File {
            verb,
            path: path.clone(),
            source,
        };
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|e| read("understand", e.into())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(read("read", e)),
        }
    }

    /// Keeps in mind who took this controller's place.
    pub fn was_taken_over(&self, by: &Succession) {
        let path = self.state.join(SUCCESSION);
        let text = serde_json::to_string(by).unwrap_or_default();
        if let Err(error) = fs::write(&path, text) {
            let path = path.display();
            tracing::error!(%path, %error, "the takeover could not be kept in mind: do not start this controller again");
        }
    }

    /// Makes the state folder for its owner alone, where there is none.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn prepare(&self) -> Result<(), Error> {
        private_folder(&self.state).map_err(|source| Error::State {
            path: self.state.clone(),
            source,
        })
    }
}

/// Makes a folder (and those above it) that only its owner may enter, where there is none.
///
/// # Errors
/// Where it cannot be made.
pub fn private_folder(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Whether a folder is this user's and nobody else may enter it.
///
/// # Errors
/// Where it cannot be looked at.
pub fn is_private(path: &Path) -> std::io::Result<bool> {
    let meta = fs::metadata(path)?;
    let others = meta.mode() & 0o077;
    Ok(meta.uid() == nix::unistd::geteuid().as_raw() && others == 0)
}

fn default_state(root: bool, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    if root {
        return Some(PathBuf::from("/var/lib/failover"));
    }
    let base = xdg
        .filter(|p| p.is_absolute())
        .or_else(|| home.map(|h| h.join(".local/state")))?;
    Some(base.join("failover"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_where_the_platform_keeps_it() {
        let home = Some(PathBuf::from("/home/ann"));
        assert_eq!(
            default_state(true, None, home.clone()),
            Some("/var/lib/failover".into())
        );
        assert_eq!(
            default_state(false, None, home.clone()),
            Some("/home/ann/.local/state/failover".into())
        );
        assert_eq!(
            default_state(false, Some("/x".into()), home.clone()),
            Some("/x/failover".into())
        );
        assert_eq!(
            default_state(false, Some("relative".into()), home),
            Some("/home/ann/.local/state/failover".into())
        );
        assert_eq!(default_state(false, None, None), None);
    }
}
