//! A small disk of its own, which a test can fill to the last byte.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use super::postgres::until;

/// A file system in memory, mounted below a folder of the test; gone when it is dropped. Mounting needs root.
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts an empty disk of so many KiB.
    pub fn new(kib: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount(
            Some("failover-test"),
            folder.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(format!("size={kib}k").as_str()),
        )
        .expect("a test with a full disk has to mount one: run the tests as root");
        Self { folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file that takes all the room that is left.
    pub fn fill(&self) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.ballast())
            .unwrap();
        loop {
            match file.write(&[0; 4096]) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::StorageFull => return,
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// Takes that file away again. Emptied first: a child that was forked meanwhile, and has not yet become its program,
    /// holds a copy of the open file, and with it the room.
    pub fn free(&self) {
        std::fs::write(self.ballast(), "").unwrap();
        std::fs::remove_file(self.ballast()).unwrap();
    }

    /// Lets nobody write any more. Who has a file open to write is in the way; that may for a moment be a child that was
    /// forked meanwhile and has not yet become its program.
    pub fn make_read_only(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        until("nobody has a file open to write", || {
            let none = None::<&str>;
            match mount(none, self.path(), none, flags, none) {
                Ok(()) => true,
                Err(Errno::EBUSY) => false,
                Err(e) => panic!("{e}"),
            }
        });
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached, so that it goes even while a test that failed has files open.
        let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
    }
}

/// A file that can be read and not written, as on a disk that failed; as it was once this is dropped.
pub struct Sealed(PathBuf);

impl Sealed {
    /// Of this file, which is open to write for nobody just now.
    pub fn new(file: PathBuf) -> Self {
        let none = None::<&str>;
        mount(Some(&file), &file, none, MsFlags::MS_BIND, none).unwrap();
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &file, none, flags, none).unwrap();
        Self(file)
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
