//! A pair with guards on hosts of their own: what the benchmarks of guards stand on.

use std::{process::Command, thread};

use nix::sched::{CloneFlags, unshare};

#[path = "../it/guard_agent/shop.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
pub mod shop;
#[path = "../it/guard_agent/stage.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
pub mod stage;
#[path = "../it/guard_agent/witness.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
pub mod witness;
#[path = "../it/stand"]
#[expect(dead_code, reason = "the tests use more of it")]
pub mod stand {
    pub mod network;
    pub mod postgres;
    pub mod relay;
}

/// Does this in a network namespace of its own, with what it starts.
pub fn apart<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        run()
    });
    thread.join().unwrap()
}
