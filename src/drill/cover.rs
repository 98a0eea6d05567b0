//! Unix sockets of this host are reached through the file system, whatever the network: a bubble does not see the folders
//! that they lie in. What it shows instead is empty, but for the run's own folder.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    libc::O_PATH,
    mount::{MsFlags, mount},
};

const NONE: Option<&str> = None;
/// Always covered: sockets come there later too.
const RUN: &str = "/run";
/// Folders that cannot be empty: a socket in one of them is covered by itself.
const NEEDED: [&str; 2] = ["/", "/dev"];

/// The sockets of the calling thread's network namespace that lie in the file system.
///
/// # Errors
/// Where the kernel does not tell.
pub fn sockets() -> io::Result<BTreeSet<PathBuf>> {
    Ok(paths(&fs::read_to_string("/proc/thread-self/net/unix")?))
}

/// The eighth word of each line of `/proc/net/unix`, where it is a path.
fn paths(table: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        let at = line.find(" /")?;
        Some(PathBuf::from(&line[at + 1..]))
    };
    table.lines().skip(1).filter_map(path).collect()
}

/// Covers the folders of these sockets in the calling thread's mount namespace, which must be its own.
///
/// # Errors
/// Where one cannot be covered.
pub fn cover(sockets: &BTreeSet<PathBuf>, folder: &Path) -> io::Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let mut folders = BTreeSet::from([PathBuf::from(RUN)]);
    for socket in sockets {
        let Some(above) = socket.parent().and_then(|p| p.canonicalize().ok()) else {
            continue;
        };
        if above.starts_with(folder) {
            continue;
        }
        if NEEDED.iter().any(|needed| above == Path::new(needed)) {
            if socket.exists() {
                let over = mount(Some("/dev/null"), socket, NONE, MsFlags::MS_BIND, NONE);
                unless_gone(over)?;
            }
        } else {
            folders.insert(above);
        }
    }
    for above in folders {
        // A folder within one that is covered by now is gone.
        if above.is_dir() {
            empty(&above, folder)?;
        }
    }
    Ok(())
}

/// What is gone by now needs no cover.
fn unless_gone(covered: nix::Result<()>) -> io::Result<()> {
    match covered {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Puts an empty folder over one; what of the run's lies in it is there again.
fn empty(above: &Path, folder: &Path) -> io::Result<()> {
    let own = folder
        .starts_with(above)
        .then(|| open(folder))
        .transpose()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let covered = mount(
        Some("bubble"),
        above,
        Some("tmpfs"),
        flags,
        Some("size=16m,mode=0755"),
    );
    unless_gone(covered)?;
    if let Some(own) = own {
        fs::create_dir_all(folder)?;
        let way = format!("/proc/thread-self/fd/{}", own.as_raw_fd());
        mount(Some(way.as_str()), folder, NONE, MsFlags::MS_BIND, NONE)?;
    }
    Ok(())
}

fn open(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_PATH)
        .open(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_names_without_a_file() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     00000000: 00000002 00000000 00010000 0001 01 11 /run/postgresql/.s.PGSQL.5432\n\
                     00000000: 00000002 00000000 00000000 0002 01 12 @abstract\n\
                     00000000: 00000003 00000000 00000000 0001 03 13\n\
                     00000000: 00000002 00000000 00010000 0001 01 14 /a folder/socket\n";
        let expected = ["/a folder/socket", "/run/postgresql/.s.PGSQL.5432"].map(PathBuf::from);
        assert_eq!(paths(table), BTreeSet::from(expected));
    }
}
