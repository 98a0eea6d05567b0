//! Programs that adapters run by themselves, each in a process group of its own.

use std::{
    io,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
};

/// A program and what it started. Dropped before the program has ended, it is killed as a whole; what a program that ended
/// by itself leaves running is its own affair.
pub struct Group {
    /// The program.
    pub child: Child,
}

impl Group {
    /// Starts a program in a group of its own.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(program: &mut Command) -> io::Result<Self> {
        let child = program.process_group(0).spawn()?;
        Ok(Self { child })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that was waited for has no number here any more: it may be somebody else's by now.
        let leader = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = leader {
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

/// What came of a program.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// The end of what it said on standard error.
    pub said: String,
}

/// Runs a program to its end, and keeps so many bytes of its standard error: the last. Dropping the future kills its whole
/// group.
///
/// # Errors
/// Where it cannot be run.
pub async fn run(program: &mut Command, keep: usize) -> io::Result<Ended> {
    let mut group = Group::start(program.stderr(Stdio::piped()))?;
    let said = end_of(group.child.stderr.take(), keep);
    let (status, said) = tokio::join!(group.child.wait(), said);
    Ok(Ended {
        status: status?,
        said,
    })
}

async fn end_of(stream: Option<impl AsyncRead + Unpin>, keep: usize) -> String {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..n]);
            let over = kept.len().saturating_sub(keep);
            kept.drain(..over);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The last characters of what a program said, at most so many, its lines joined.
#[must_use]
pub fn last_words(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let joined = lines.join(" / ");
    let skip = joined.chars().count().saturating_sub(most);
    joined.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_one_line_and_not_too_many() {
        let said = "a warning\n\n  FATAL: no größe\n";
        assert_eq!(last_words(said, 300), "a warning / FATAL: no größe");
        assert_eq!(last_words(said, 5), "größe");
        assert_eq!(last_words("", 5), "");
    }

    #[tokio::test]
    async fn the_end_of_what_a_program_said_is_kept() {
        let script = "for i in 1 2 3 4 5; do printf %04096d $i >&2; done; exit 3";
        let ended = run(Command::new("sh").args(["-c", script]), 10).await;
        let ended = ended.unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(ended.said, "0000000005");
    }
}
