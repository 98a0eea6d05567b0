//! Clocks that a test turns by hand: its own, and that of a process.

use std::{fs, path::Path, sync::Arc};

use failover::{
    model::{span::Span, time::Time},
    port::runtime::Runtime,
};
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::watch;

/// Stands still until it is turned; who sleeps wakes up when it gets there.
pub struct HandClock {
    now: watch::Sender<Time>,
}

impl HandClock {
    /// Stands at this time.
    pub fn at(now: Time) -> Arc<Self> {
        Arc::new(Self {
            now: watch::Sender::new(now),
        })
    }

    /// Turns it forward.
    pub fn turn(&self, by: Span) {
        self.now.send_modify(|now| *now = now.after(by));
    }
}

impl Runtime for HandClock {
    fn now(&self) -> Time {
        *self.now.borrow()
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // A clock that is gone never gets there.
            if now.wait_for(|now| *now >= at).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

/// The time of day of the processes that are started with [`SetClock::env`], as libfaketime has them see it.
pub struct SetClock(TempDir);

impl SetClock {
    /// It is right.
    pub fn new() -> Self {
        let clock = Self(TempDir::with_prefix("failover-clock-").unwrap());
        clock.set("+0");
        clock
    }

    /// It is set so many seconds wrong, such as `+3600`.
    pub fn set(&self, by: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, format!("{by}\n")).unwrap();
        fs::rename(new, self.0.path().join("offset")).unwrap();
    }

    /// What a process is started with.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
        assert!(Path::new(LIBRARY).exists(), "faketime is missing");
        let yes = || "1".to_owned();
        vec![
            ("LD_PRELOAD", LIBRARY.to_owned()),
            (
                "FAKETIME_TIMESTAMP_FILE",
                self.0.path().join("offset").display().to_string(),
            ),
            ("FAKETIME_NO_CACHE", yes()),
            // Nobody sets these.
            ("FAKETIME_DONT_FAKE_MONOTONIC", yes()),
            ("NO_FAKE_STAT", yes()),
        ]
    }
}

impl Drop for SetClock {
    /// A process that was killed leaves what it shared with its children.
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let known = ["faketime_shm_", "sem.faketime_sem_"];
            let pid = known.iter().find_map(|prefix| name.strip_prefix(prefix));
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
