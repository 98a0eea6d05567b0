//! What a fetched backup is, found by looking at it; and whether it is whole, as far as that can be told unrestored.

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command as Process;

use super::{Fault, programs::Programs, scratch::Scratch};
use crate::{
    backup::program::{self, ProgramError},
    port::account::Account,
};

/// What `pg_dump` writes first into an archive.
const ARCHIVE: &[u8] = b"PGDMP";
/// Where `ustar` stands in a tar file.
const USTAR: u64 = 257;
/// Packed within packed is followed so far.
const DEEP: usize = 3;
/// Bytes at either end of a script that are looked at.
const END: u64 = 4096;
/// A dump as text begins and ends with these.
const BEGINS: &str = "-- PostgreSQL database dump";
const ENDS: &str = "-- PostgreSQL database dump complete";

/// Folders of a data directory that may be empty: an object store, which has no folders, does not keep them.
const FOLDERS: [&str; 16] = [
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal/archive_status",
];

/// What a backup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// An archive of `pg_dump`: custom, directory or tar.
    Archive(PathBuf),
    /// A dump as text.
    Script(PathBuf),
    /// A base backup, unpacked.
    Base {
        /// The data directory.
        data: PathBuf,
        /// Whether it has a manifest, by which every byte is proved.
        manifest: bool,
    },
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Archive(_) => "archive of pg_dump",
            Self::Script(_) => "dump as text",
            // `Verification::proves_base` knows them by these words.
            Self::Base { manifest: true, .. } => "base backup with manifest",
            Self::Base {
                manifest: false, ..
            } => "base backup without manifest",
        })
    }
}

fn here(path: &Path) -> impl Fn(io::Error) -> Fault + '_ {
    move |e| Fault::here(&path.display().to_string(), &e)
}

fn unknown(path: &Path) -> Fault {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Fault::Bad(format!(
        "{name} is neither an archive of pg_dump, nor a dump as text, nor a base backup"
    ))
}

/// Unpacks a file where it is packed by gzip or zstd; answers with what it comes to.
pub async fn unpack(path: &Path, into: &Path, scratch: &Scratch) -> Result<PathBuf, Fault> {
    let head = head(path).map_err(here(path))?;
    let Some(packer) = packer(&head) else {
        return Ok(path.to_owned());
    };
    let mut unpack = Process::new(packer);
    unpack.arg("-dc").current_dir(scratch.path());
    match program::filter(unpack, path, into).await {
        Ok(()) => Ok(into.to_owned()),
        Err(e @ ProgramError::Run(_)) => Err(Fault::of_host(packer, &e)),
        Err(ProgramError::Failed { said, .. }) => {
            Err(Fault::Bad(format!("{packer} cannot unpack it: {said}")))
        }
    }
}

/// Finds out what a backup is, and unpacks it as far as needed.
pub async fn of(path: &Path, scratch: &Scratch) -> Result<Form, Fault> {
    let mut path = path.to_owned();
    for n in 0..DEEP {
        if path.is_dir() {
            return of_folder(&path, scratch).await;
        }
        let head = head(&path).map_err(here(&path))?;
        let unpacked = scratch.path().join(format!("unpacked-{n}"));
        if head.starts_with(ARCHIVE) {
            return Ok(Form::Archive(path));
        } else if is_tar(&path).map_err(here(&path))? {
            fs::create_dir(&unpacked).map_err(here(&unpacked))?;
            untar(&path, &unpacked, scratch).await?;
            if unpacked.join("toc.dat").is_file() {
                return Ok(Form::Archive(path));
            }
            path = unpacked;
            if let Ok(only) = program::only_entry(&path) {
                path = only;
            }
        } else if packer(&head).is_some() {
            path = unpack(&path, &unpacked, scratch).await?;
        } else {
            return of_text(path, &head);
        }
    }
    Err(unknown(&path))
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(END).read_to_end(&mut head)?;
    Ok(head)
}

fn is_tar(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut magic = Vec::new();
    file.seek(SeekFrom::Start(USTAR))?;
    file.take(5).read_to_end(&mut magic)?;
    Ok(magic == b"ustar")
}

fn packer(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(&[0x1f, 0x8b]) {
        Some("gzip")
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Some("zstd")
    } else {
        None
    }
}

async fn untar(file: &Path, into: &Path, scratch: &Scratch) -> Result<(), Fault> {
    let mut tar = Process::new("tar");
    tar.args(["--extract", "--no-same-owner", "--file"])
        .arg(file)
        .arg("--directory")
        .arg(into)
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    match program::run(tar).await {
        Ok(_) => Ok(()),
        Err(e @ ProgramError::Run(_)) => Err(Fault::of_host("tar", &e)),
        Err(ProgramError::Failed { said, .. }) => {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            Err(Fault::Bad(format!("tar cannot unpack {name}: {said}")))
        }
    }
}

/// A dump as text that is cut off would be restored without a complaint: its last line says whether it is whole.
fn of_text(path: PathBuf, head: &[u8]) -> Result<Form, Fault> {
    let text = String::from_utf8_lossy(head);
    if text.contains("-- PostgreSQL database cluster dump") {
        return Err(Fault::Unclear(
            "a dump of a whole cluster (pg_dumpall) is not tried in this version".to_owned(),
        ));
    }
    if !text.contains(BEGINS) {
        return Err(unknown(&path));
    }
    let tail = || -> io::Result<String> {
        let mut file = File::open(&path)?;
        let from = file.metadata()?.len().saturating_sub(END);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    if !tail().map_err(here(&path))?.contains(ENDS) {
        return Err(Fault::Bad(
            "it is cut off: the line is missing that pg_dump ends with".to_owned(),
        ));
    }
    Ok(Form::Script(path))
}

async fn of_folder(path: &Path, scratch: &Scratch) -> Result<Form, Fault> {
    if path.join("toc.dat").is_file() {
        return Ok(Form::Archive(path.to_owned()));
    }
    if path.join("PG_VERSION").is_file() {
        let manifest = path.join("backup_manifest").is_file();
        return base(path.to_owned(), manifest);
    }
    let names: Vec<String> = fs::read_dir(path)
        .map_err(here(path))?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    let of_stem = |stem: &str| names.iter().find(|n| n.split('.').next() == Some(stem));
    let Some(tar) = of_stem("base") else {
        return Err(unknown(path));
    };
    let data = scratch.folder("data")?;
    untar(&path.join(tar), &data, scratch).await?;
    if let Some(wal) = of_stem("pg_wal") {
        let into = data.join("pg_wal");
        fs::create_dir_all(&into).map_err(here(&into))?;
        untar(&path.join(wal), &into, scratch).await?;
    }
    let manifest = path.join("backup_manifest");
    let there = manifest.is_file();
    if there {
        fs::copy(&manifest, data.join("backup_manifest")).map_err(here(&manifest))?;
    }
    if !data.join("PG_VERSION").is_file() {
        return Err(Fault::Bad(format!("{tar} holds no data directory")));
    }
    base(data, there)
}

fn base(data: PathBuf, manifest: bool) -> Result<Form, Fault> {
    let spaces = data.join("pg_tblspc");
    let holds_some = fs::read_dir(&spaces).is_ok_and(|mut e| e.next().is_some());
    // A tar always has the map, an empty one where there is nothing to map.
    let mapped = fs::metadata(data.join("tablespace_map")).is_ok_and(|m| m.len() > 0);
    if holds_some || mapped {
        return Err(Fault::Unclear(
            "it has tablespaces outside its data directory, which is not tried in this version"
                .to_owned(),
        ));
    }
    for name in FOLDERS {
        let folder = data.join(name);
        fs::create_dir_all(&folder).map_err(here(&folder))?;
    }
    Ok(Form::Base { data, manifest })
}

/// Proves a base backup by its manifest, and that it brings the WAL that it needs.
pub async fn check_base(form: &Form, programs: &Programs, scratch: &Scratch) -> Result<(), Fault> {
    if prove_base(form, programs, scratch).await? {
        return Ok(());
    }
    Err(Fault::Unclear(
        "it does not bring the WAL that it needs (pg_basebackup -X stream or fetch), so it cannot be started alone"
            .to_owned(),
    ))
}

/// Proves a base backup by its manifest, and tells whether it brings WAL; what is none needs none.
pub async fn prove_base(
    form: &Form,
    programs: &Programs,
    scratch: &Scratch,
) -> Result<bool, Fault> {
    let Form::Base { data, manifest } = form else {
        return Ok(true);
    };
    let is_segment = |name: &str| name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let wal = fs::read_dir(data.join("pg_wal")).map_err(here(data))?;
    let has_wal = wal
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .any(|name| is_segment(&name));
    if *manifest {
        let mut verify = Process::new(programs.path("pg_verifybackup"));
        if !has_wal {
            verify.arg("--no-parse-wal");
        }
        verify
            .arg(data)
            .env("LC_ALL", "C")
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Account::apply(scratch.account(), &mut verify);
        match program::run(verify).await {
            Ok(_) => {}
            Err(e @ ProgramError::Run(_)) => return Err(Fault::of_host("pg_verifybackup", &e)),
            Err(ProgramError::Failed { said, .. }) => {
                return Err(Fault::Bad(format!("pg_verifybackup: {said}")));
            }
        }
    }
    Ok(has_wal)
}

/// Reads an archive from end to end, which touches no database: what cannot be read is no backup.
pub async fn read_whole(
    archive: &Path,
    programs: &Programs,
    scratch: &Scratch,
) -> Result<(), Fault> {
    let mut read = Process::new(programs.path("pg_restore"));
    read.arg("--file=/dev/null")
        .arg(archive)
        .env("LC_ALL", "C")
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Account::apply(scratch.account(), &mut read);
    match program::run(read).await {
        Ok(_) => Ok(()),
        Err(e @ ProgramError::Run(_)) => Err(Fault::of_host("pg_restore", &e)),
        Err(ProgramError::Failed { said, .. }) if said.contains("unsupported version") => {
            Err(Fault::Unclear(format!(
                "it was made by a newer pg_dump than is here: {said}"
            )))
        }
        Err(ProgramError::Failed { said, .. }) => {
            Err(Fault::Bad(format!("pg_restore cannot read it: {said}")))
        }
    }
}

/// Roles that a script names as owners or for grants.
///
/// # Errors
/// Where it cannot be read.
pub fn roles(script: &Path) -> io::Result<Vec<String>> {
    let mut roles = std::collections::BTreeSet::new();
    for line in BufReader::new(File::open(script)?).split(b'\n') {
        let line = line?;
        let marks = [
            (&b"ALTER "[..], " OWNER TO "),
            (&b"GRANT "[..], " TO "),
            (&b"REVOKE "[..], " FROM "),
        ];
        let Some((_, before)) = marks.into_iter().find(|(start, _)| line.starts_with(start)) else {
            continue;
        };
        let text = String::from_utf8_lossy(&line).into_owned();
        let Some((_, role)) = text.rsplit_once(before) else {
            continue;
        };
        let role = role.trim_end().trim_end_matches(';');
        let role = role
            .trim_end_matches(" WITH GRANT OPTION")
            .trim_matches('"');
        let plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        if !role.is_empty() && role.chars().all(plain) && role != "PUBLIC" {
            roles.insert(role.to_owned());
        }
    }
    Ok(roles.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_its_roles() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dump.sql");
        let text = "ALTER TABLE public.orders OWNER TO shop;\nGRANT SELECT ON TABLE public.orders TO \"read-only\";\n\
                    REVOKE ALL ON SCHEMA public FROM PUBLIC;\nALTER TABLE x ADD y int;\n";
        fs::write(&file, text).unwrap();
        assert_eq!(roles(&file).unwrap(), ["read-only", "shop"]);
    }

    #[test]
    fn what_is_packed_is_known_by_its_first_bytes() {
        assert_eq!(packer(&[0x1f, 0x8b, 8]), Some("gzip"));
        assert_eq!(packer(&[0x28, 0xb5, 0x2f, 0xfd]), Some("zstd"));
        assert_eq!(packer(b"PGDMP"), None);
    }
}
