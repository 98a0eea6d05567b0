//! The processes of this host that this user sees, and where they work.

use std::{fs, io, path::PathBuf};

/// The numbers of all processes that this one sees.
///
/// # Errors
/// Where the system does not tell.
pub fn all() -> io::Result<impl Iterator<Item = i32>> {
    Ok(fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

/// The folder that a process works in, be it removed meanwhile; none where it has ended, or is another user's.
#[must_use]
pub fn works_in(pid: i32) -> Option<PathBuf> {
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let text = cwd.to_str();
    let gone = text.and_then(|text| text.strip_suffix(" (deleted)"));
    Some(gone.map(PathBuf::from).unwrap_or(cwd))
}
