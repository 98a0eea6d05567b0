//! A real pair, and a controller that drills a copy of its standby: what the benchmarks of drills stand on.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    documents::documents,
    stand::{
        controller::{Stand, text},
        postgres::Pair,
    },
};

/// How long everything may take to be seen to be well.
const LONGEST: Duration = Duration::from_mins(1);

/// A pair, and a controller that drills its standby. Fields are dropped in this order.
pub struct Drilled {
    /// The controller.
    pub stand: Stand,
    /// The pair.
    pub pair: Pair,
    folder: TempDir,
}

impl Drilled {
    /// Starts a controller beside a pair, whose standby is copied at the default rate.
    pub fn start(runtime: &Runtime, pair: Pair) -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let mut stand = runtime.block_on(Stand::new());
        let own = documents(&stand, &pair, &folder).replace("maxRate: 1024", "maxRate: 32");
        stand.write(&own);
        stand.start(&[]);
        Self {
            stand,
            pair,
            folder,
        }
    }

    /// A whole drill, which is to pass and to leave nothing. How long it took.
    pub fn drill(&self) -> Duration {
        let end = Instant::now() + LONGEST;
        loop {
            let began = Instant::now();
            let asked = ["drill", "shop", "--reason", "a benchmark"];
            let output = self.stand.cli_as("ann", &asked);
            if output.status.success() {
                let left = fs::read_dir(self.folder.path()).unwrap().count();
                assert_eq!(left, 0, "something is left in the folder of drills");
                return began.elapsed();
            }
            // Until everything was seen to be well.
            let said = text(&output);
            let waits = said.contains("no drill now") && Instant::now() < end;
            assert!(waits, "{said}");
            sleep(Duration::from_millis(200));
        }
    }
}
