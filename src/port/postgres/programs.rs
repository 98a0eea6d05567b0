//! PostgreSQL's programs in a folder of this host, and of which version they are.

use std::{path::Path, process::Command};

/// What its `postgres` says that it is, such as `15.18`; none where not all of these programs are in the folder. It blocks.
#[must_use]
pub fn version(folder: &Path, needed: &[&str]) -> Option<String> {
    if !needed.iter().all(|name| folder.join(name).is_file()) {
        return None;
    }
    let said = Command::new(folder.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    said_version(&String::from_utf8_lossy(&said.stdout))
}

/// `15` of `15.18`.
#[must_use]
pub fn major(version: &str) -> Option<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
fn said_version(said: &str) -> Option<String> {
    Some(said.split_whitespace().nth(2)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_the_server_says() {
        let said = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        let version = said_version(said);
        assert_eq!(version.as_deref(), Some("15.18"));
        assert_eq!(version.as_deref().and_then(major), Some(15));
        assert_eq!(major("18beta1"), Some(18));
        assert_eq!(major("devel"), None);
        assert_eq!(said_version("no server"), None);
    }

    #[test]
    fn a_folder_without_one_of_them_has_no_version() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(super::version(folder.path(), &["postgres"]), None);
    }
}
