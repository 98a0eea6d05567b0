//! A program that works on the data directory, as the guard runs it: in a PID namespace of its own, so that it ends with
//! everything that it started, and with the guard.

use std::{
    io,
    process::{Output, Stdio, id},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::{CallOff, ServerError};
use crate::guard::hold::Launch;

/// A killed program that is still there after that is worth a word.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs it to its end, or until that is called off.
///
/// # Errors
/// Where it was called off; the inner one where it could not be run.
pub async fn run(launch: &Launch, off: &CallOff) -> Result<io::Result<Output>, ServerError> {
    let mut child = match start(launch).await {
        Ok(child) => child,
        Err(error) => return Ok(Err(error)),
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let said = async { tokio::join!(all(out), all(err)) };
    tokio::pin!(said);
    let (stdout, stderr) = match off.unless(&mut said).await {
        Ok(said) => said,
        Err(called_off) => {
            // Whoever still works holds an end of what is read here.
            let _ = child.kill().await;
            if timeout(PATIENCE, &mut said).await.is_err() {
                tracing::error!(
                    program = %launch.program.display(),
                    "it was killed and has not ended: the kernel waits for a disk or the network; nothing is started on the data before it has"
                );
                said.await;
            }
            return Err(called_off);
        }
    };
    Ok(child.wait().await.map(|status| Output {
        status,
        stdout,
        stderr,
    }))
}

async fn start(launch: &Launch) -> io::Result<Child> {
    let mut child = Command::new(&launch.exe)
        .args(["guard-part", "tool", &id().to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    // Closed behind it, which tells the child that this was all.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&serde_json::to_vec(launch)?).await?;
    }
    Ok(child)
}

async fn all(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut read = Vec::new();
    if let Some(mut stream) = stream {
        // What was read until it broke is what there is.
        let _ = stream.read_to_end(&mut read).await;
    }
    read
}
