//! Which other host a file lies on.

use std::path::{Path, PathBuf};

/// File systems whose source names a host, as `host:/path`, `//host/share` or `user@host:/path`.
const REMOTE: [&str; 7] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "fuse.sshfs",
    "glusterfs",
    "ceph",
];

/// The host whose file system holds a path; none where it is this one's own. `mounts` is what `/proc/self/mountinfo`
/// says.
pub fn host(mounts: &str, path: &Path) -> Option<String> {
    // The last one of those that lie deepest hides the ones before it.
    let (_, kind, source) = mounts
        .lines()
        .filter_map(parsed)
        .filter(|(point, _, _)| path.starts_with(point))
        .max_by_key(|(point, _, _)| point.components().count())?;
    if !REMOTE.contains(&kind.as_str()) {
        return None;
    }
    let host = match source.strip_prefix("//") {
        Some(share) => share.split('/').next(),
        None => source.rsplit_once(":/").map(|(host, _)| host),
    };
    // Several hosts may be named, any of which does.
    let host = host?.rsplit('@').next()?;
    let host = host.split(',').next()?.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| host.to_owned())
}

/// Mount point, type and source of a line.
fn parsed(line: &str) -> Option<(PathBuf, String, String)> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    Some((
        PathBuf::from(unescaped(point)),
        after.next()?.to_owned(),
        unescaped(after.next()?),
    ))
}

/// The kernel writes spaces and such as `\040`.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3).and_then(|c| u8::from_str_radix(c, 8).ok());
        if let Some(code) = code {
            out.push(char::from(code));
            rest = &after[3..];
        } else {
            out.push('\\');
            rest = after;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
30 22 0:40 / /srv rw,relatime shared:9 - nfs4 192.0.2.1:/export/srv rw,vers=4.2\n\
31 30 8:2 / /srv/own rw,relatime - xfs /dev/sdb1 rw\n\
32 22 0:41 / /mnt/with\\040space rw - cifs //192.0.2.7/share rw\n\
33 22 0:42 / /mnt/ssh rw - fuse.sshfs failover@[2001:db8::1]:/data rw\n";

    #[test]
    fn a_file_lies_on_the_host_that_the_deepest_mount_names() {
        let of = |path: &str| host(MOUNTS, Path::new(path));
        assert_eq!(of("/etc/failover/key"), None);
        assert_eq!(of("/srv/secrets/key").as_deref(), Some("192.0.2.1"));
        assert_eq!(of("/srv/own/key"), None);
        assert_eq!(of("/srvx/key"), None);
        assert_eq!(of("/mnt/with space/key").as_deref(), Some("192.0.2.7"));
        assert_eq!(of("/mnt/ssh/key").as_deref(), Some("2001:db8::1"));
    }
}
