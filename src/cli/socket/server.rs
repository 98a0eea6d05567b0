//! The controller's end of the control socket.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use nix::unistd::Uid;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    time,
};

use super::envelope::{Envelope, VERSION};
use crate::{
    cli::place,
    desk::{
        clerk::{Clerk, Events},
        message::{Answer, Refusal},
        speaker::Speaker,
    },
    error::Error,
};

/// The longest request.
const LONGEST: u64 = 256 * 1024;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);

/// A bound control socket; its file is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Binds the socket in a folder that is this user's alone. A socket that a killed controller left behind is
    /// replaced; one that answers is not.
    ///
    /// # Errors
    /// Where a controller answers, or the folder is not private, or the system refuses.
    pub async fn bind(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Socket {
            socket: path.to_owned(),
            source,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        place::private_folder(folder).map_err(failed)?;
        if !place::is_private(folder).map_err(failed)? {
            return Err(failed(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "the folder {} must belong to this user and be closed to others (chmod 0700)",
                    folder.display()
                ),
            )));
        }
        if UnixStream::connect(path).await.is_ok() {
            return Err(Error::ControllerRuns {
                socket: path.to_owned(),
            });
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Serves until its task ends.
    pub async fn serve(&self, clerk: Arc<Clerk>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let clerk = Arc::clone(&clerk);
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, clerk).await {
                            tracing::debug!(%error, "a control client went away");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot accept");
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn converse(stream: UnixStream, clerk: Arc<Clerk>) -> io::Result<()> {
    let peer = Uid::from_raw(stream.peer_cred()?.uid());
    if peer != nix::unistd::geteuid() && !peer.is_root() {
        tracing::warn!(
            uid = peer.as_raw(),
            "another user was turned away from the control socket"
        );
        return Ok(());
    }
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(LONGEST);
        let wanted = limited.read_until(b'\n', &mut line);
        let Ok(read_bytes) = time::timeout(PATIENCE, wanted).await else {
            return Ok(());
        };
        if read_bytes? == 0 {
            return Ok(());
        }
        let (answer, events) = match serde_json::from_slice::<Envelope>(&line) {
            Ok(envelope) if envelope.version == VERSION => {
                let token = envelope.token.map(|t| t.secret());
                let speaker = Speaker::Local { token, user: peer };
                clerk.answer(envelope.request, &speaker).await
            }
            // Not understood at all means another version too: both ends are one program.
            Ok(_) | Err(_) => (Answer::Refused(Refusal::Version { ours: VERSION }), None),
        };
        say(&mut write, &answer).await?;
        if let Some(mut events) = events {
            return follow(&mut read, &mut write, &mut events).await;
        }
    }
}

/// Sends events until there are no more or the client goes away.
async fn follow(
    read: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    events: &mut Events,
) -> io::Result<()> {
    let mut end = [0; 1];
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => say(write, &event).await?,
                None => return Ok(()),
            },
            _ = read.read(&mut end) => return Ok(()),
        }
    }
}

async fn say<T: serde::Serialize>(write: &mut OwnedWriteHalf, what: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    write.write_all(&line).await
}
