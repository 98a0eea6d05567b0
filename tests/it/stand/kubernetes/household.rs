//! A folder, and processes, that end with the test's process however that ends.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        LazyLock, Mutex,
        mpsc::{Sender, channel},
    },
    thread,
};

use tempfile::TempDir;

/// Reads until whoever holds the other end is gone, and then removes the folder. Processes that are dying meanwhile may
/// still write into it.
const JANITOR: &str = "trap '' INT TERM HUP; cat; \
    n=0; until rm -rf \"$0\" 2>&1 || [ $n = 50 ]; do n=$((n + 1)); sleep 0.1; done";

/// A folder that is removed when this is dropped, and also when the process is killed.
pub struct Household {
    folder: TempDir,
    janitor: Child,
    held: Option<ChildStdin>,
}

impl Household {
    /// Makes it.
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("failover-k8s-").unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", JANITOR])
            .arg(folder.path())
            .current_dir("/")
            // What ends the tests from a terminal is not meant for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut janitor = command.spawn().unwrap();
        Self {
            folder,
            held: janitor.stdin.take(),
            janitor,
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Household {
    fn drop(&mut self) {
        drop(self.held.take());
        let _ = self.janitor.wait();
    }
}

/// Starts a process. One that is to die with its parent dies with the thread that made it, and a test's thread may end
/// before the test does; this thread never ends.
pub fn spawn(command: Command) -> Child {
    type Order = (Command, Sender<io::Result<Child>>);
    static MAKER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
        let (orders, wanted) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in wanted {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, made) = channel();
    MAKER.lock().unwrap().send((command, answer)).unwrap();
    made.recv().unwrap().unwrap()
}
