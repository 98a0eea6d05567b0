//! `publish/folder`: the page as files of a folder that a web server serves.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    model::check::{CheckItem, CheckStatus},
    port::{
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
        target::{PageFile, SharedTarget, Target, WriteError},
    },
};

/// `publish/folder`.
pub const KIND: Kind = Kind::new::<FolderWith>(
    "publish/folder",
    "writes the status page into a folder, each file whole",
    "path: /srv/www/status\n",
    Make::Target(make),
);

/// Mode of the files where none is given: a web server of another user may read them.
const MODE: u32 = 0o644;

/// Settings of `publish/folder`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FolderWith {
    /// The folder, absolute. It is made where it is missing.
    pub path: PathBuf,
    /// Mode of the files as an octal text; default `"0644"`.
    #[serde(default)]
    pub mode: Option<String>,
}

impl FolderWith {
    fn mode(&self) -> Option<u32> {
        match &self.mode {
            None => Some(MODE),
            Some(text) => u32::from_str_radix(text, 8)
                .ok()
                .filter(|m| (0o400..=0o777).contains(m)),
        }
    }
}

impl kind::With for FolderWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !self.path.is_absolute() {
            problems.push(Problem::new("path", "must be absolute").hint("such as /srv/www/status"));
        }
        if self.mode().is_none() {
            problems.push(
                Problem::new("mode", "expected an octal mode that lets the owner read")
                    .hint("in quotes, such as \"0644\""),
            );
        }
        problems
    }
}

fn make(with: &Value, _: &Wiring) -> Result<SharedTarget, MakeError> {
    let with: FolderWith = kind::read(with)?;
    let mode = with.mode().unwrap_or(MODE);
    Ok(Arc::new(Folder::new(with.path, mode)))
}

/// Why a file of the page could not be put into the folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The path leads out of the folder.
    #[error("{0:?} is no path inside the folder")]
    Path(String),
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A folder that a web server serves.
pub struct Folder {
    place: Arc<Place>,
    /// Two writes at once would fight over the same temporary names.
    turn: Arc<Mutex<()>>,
}

struct Place {
    root: PathBuf,
    mode: u32,
}

impl Folder {
    /// A folder whose files get this mode.
    #[must_use]
    pub fn new(root: PathBuf, mode: u32) -> Self {
        Self {
            place: Arc::new(Place { root, mode }),
            turn: Arc::default(),
        }
    }

    fn target(&self) -> String {
        format!("folder {}", self.place.root.display())
    }

    /// Does work in its turn. A disk that hangs is not given up by whoever gives up waiting: the turn ends with the work.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> T + Send + 'static,
    ) -> Result<T, WriteError> {
        let place = Arc::clone(&self.place);
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let work = move || {
            let _turn = turn;
            work(&place)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| self.error(e))
    }

    fn error(&self, source: impl std::error::Error + Send + Sync + 'static) -> WriteError {
        WriteError {
            target: self.target(),
            source: Box::new(source),
        }
    }
}

#[async_trait]
impl Target for Folder {
    async fn write(&self, files: &[PageFile]) -> Result<(), WriteError> {
        let mut files = files.to_vec();
        files.sort_by_key(|f| f.path == "index.html");
        self.blocking(move |place| files.iter().try_for_each(|f| place.put(f)))
            .await?
            .map_err(|e| self.error(e))
    }

    async fn check(&self) -> Vec<CheckItem> {
        let tried = self.blocking(Place::try_out).await;
        let problem = match tried {
            Ok(Ok(())) => {
                return vec![CheckItem::ok(
                    "publish/folder",
                    format!("{} can be written", self.target()),
                )];
            }
            Ok(Err(e)) => e,
            Err(e) => FolderError::Io {
                path: self.place.root.clone(),
                source: io::Error::other(e),
            },
        };
        let why =
            std::error::Error::source(&problem).map_or_else(String::new, |e| format!(": {e}"));
        vec![CheckItem::bad(
            "publish/folder",
            CheckStatus::Fail,
            format!("{problem}{why}"),
            format!(
                "let the controller's user write to {}",
                self.place.root.display()
            ),
        )]
    }
}

impl Place {
    /// Puts one file in place whole: a reader sees the old one or the new one.
    fn put(&self, file: &PageFile) -> Result<(), FolderError> {
        let path = self.inside(&file.path)?;
        if fs::read(&path).is_ok_and(|there| there == file.bytes) {
            return Ok(());
        }
        let dir = path.parent().unwrap_or(&self.root);
        self.make_dir(dir)
            .and_then(|()| {
                let temporary = temporary(&path);
                self.fill(&temporary, &file.bytes)?;
                fs::rename(&temporary, &path)?;
                fs::File::open(dir)?.sync_all()
            })
            .map_err(|source| FolderError::Io { path, source })
    }

    /// Folders are for everyone to enter who may read the files.
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let enter = self.mode | (self.mode & 0o444) >> 2 | 0o700;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(enter)
            .create(dir)
    }

    /// A file under a name that no reader asks for, on disk when this returns.
    fn fill(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(self.mode))?;
        file.sync_all()
    }

    fn inside(&self, path: &str) -> Result<PathBuf, FolderError> {
        let relative = Path::new(path);
        let plain = relative
            .components()
            .all(|c| matches!(c, Component::Normal(_)));
        if plain && !path.is_empty() && !path.ends_with('/') {
            Ok(self.root.join(relative))
        } else {
            Err(FolderError::Path(path.to_owned()))
        }
    }

    /// Writes and removes a file that no reader asks for.
    fn try_out(&self) -> Result<(), FolderError> {
        let path = temporary(&self.root.join("check"));
        self.make_dir(&self.root)
            .and_then(|()| self.fill(&path, b"written by failover check\n"))
            .and_then(|()| fs::remove_file(&path))
            .map_err(|source| FolderError::Io { path, source })
    }
}

/// The name under which a file is written before it gets its own: the same each time, so that a crash leaves at most
/// one behind and the next write replaces it.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::kind::With as _;

    fn page(path: &str, text: &str) -> PageFile {
        PageFile {
            path: path.into(),
            content_type: "text/plain",
            bytes: text.as_bytes().to_vec(),
        }
    }

    fn read(dir: &tempfile::TempDir, path: &str) -> String {
        fs::read_to_string(dir.path().join(path)).unwrap()
    }

    #[tokio::test]
    async fn writes_files_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("status");
        let folder = Folder::new(root.clone(), 0o640);
        folder
            .write(&[page("index.html", "one"), page("api/v2/status.json", "{}")])
            .await
            .unwrap();
        assert_eq!(read(&dir, "status/index.html"), "one");
        assert_eq!(read(&dir, "status/api/v2/status.json"), "{}");
        let mode = fs::metadata(root.join("index.html"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
        folder.write(&[page("index.html", "two")]).await.unwrap();
        assert_eq!(read(&dir, "status/index.html"), "two");
        assert_eq!(read(&dir, "status/api/v2/status.json"), "{}");
    }

    #[tokio::test]
    async fn an_unchanged_file_is_left_alone() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned(), MODE);
        let inode = || fs::metadata(dir.path().join("index.html")).unwrap().ino();
        folder.write(&[page("index.html", "one")]).await.unwrap();
        let before = inode();
        folder.write(&[page("index.html", "one")]).await.unwrap();
        assert_eq!(inode(), before);
        fs::write(dir.path().join("index.html"), "spoilt").unwrap();
        folder.write(&[page("index.html", "one")]).await.unwrap();
        assert_eq!(read(&dir, "index.html"), "one");
    }

    #[tokio::test]
    async fn the_page_keeps_standing_where_a_file_before_it_fails() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned(), MODE);
        folder.write(&[page("index.html", "old")]).await.unwrap();
        fs::create_dir_all(dir.path().join("feed.atom/taken")).unwrap();
        let error = folder
            .write(&[page("index.html", "new"), page("feed.atom", "x")])
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("cannot write the status page to folder ")
        );
        assert_eq!(read(&dir, "index.html"), "old");
    }

    #[tokio::test]
    async fn what_a_crash_left_behind_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".index.html.new"), "half").unwrap();
        let folder = Folder::new(dir.path().to_owned(), MODE);
        folder.write(&[page("index.html", "whole")]).await.unwrap();
        assert_eq!(read(&dir, "index.html"), "whole");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_write_that_hangs_keeps_its_turn_when_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("hangs");
        // Whoever opens it waits for the other side, as on a server that is gone.
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let folder = Folder::new(dir.path().to_owned(), MODE);
        let soon = std::time::Duration::from_millis(300);
        let old = [page("hangs", "old")];
        assert!(
            tokio::time::timeout(soon, folder.write(&old))
                .await
                .is_err()
        );
        let new = [page("new", "new")];
        assert!(
            tokio::time::timeout(soon, folder.write(&new))
                .await
                .is_err()
        );
        assert!(!dir.path().join("new").exists());
        drop(fs::OpenOptions::new().write(true).open(&pipe).unwrap());
        folder.write(&new).await.unwrap();
        assert_eq!(read(&dir, "hangs"), "old");
    }

    #[tokio::test]
    async fn refuses_paths_that_lead_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("in"), MODE);
        for path in ["../out", "/etc/out", "a/../../out", "", "a/"] {
            assert!(folder.write(&[page(path, "x")]).await.is_err(), "{path}");
        }
        assert!(!dir.path().join("out").exists());
    }

    #[tokio::test]
    async fn check_says_whether_it_can_write() {
        let dir = tempfile::tempdir().unwrap();
        let items = Folder::new(dir.path().to_owned(), MODE).check().await;
        assert_eq!(items[0].status, CheckStatus::Ok);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let items = Folder::new(file.join("below"), MODE).check().await;
        assert_eq!(items[0].status, CheckStatus::Fail);
    }

    #[test]
    fn settings_are_checked() {
        let with = |json: &str| serde_json::from_str::<FolderWith>(json).unwrap().problems();
        assert!(with(r#"{"path": "/srv/status"}"#).is_empty());
        assert_eq!(with(r#"{"path": "status"}"#)[0].path, "path");
        assert_eq!(with(r#"{"path": "/s", "mode": "rw"}"#)[0].path, "mode");
        assert_eq!(with(r#"{"path": "/s", "mode": "0000"}"#)[0].path, "mode");
    }
}
