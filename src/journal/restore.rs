//! A journal from its copy, on a host that has nothing else.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as ObjectPath;

use super::{
    chain::{Checker, Head},
    copy::{CopyError, read_segment, unreachable_store},
    export::Exported,
    file::JournalFile,
    origin::NOWHERE,
    verify::{self, Finding},
};
use crate::{
    model::id::ServiceName,
    port::{
        journal::{JournalError, Line},
        store::Store,
    },
};

/// How many segments are fetched at once.
const AT_ONCE: usize = 16;

/// Why a journal could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The copy cannot be read.
    #[error("the journal's copy cannot be read back")]
    Copy(#[source] CopyError),
    /// The copy is not whole.
    #[error("the journal's copy at {store} cannot be trusted")]
    Chain {
        /// Which store.
        store: String,
        /// Where it breaks.
        #[source]
        source: JournalError,
    },
    /// There is nothing to restore.
    #[error("there is no copy of a journal at {store}")]
    Nothing {
        /// Which store.
        store: String,
    },
    /// There is a journal already.
    #[error("{file} is there already: a journal is only restored where there is none")]
    There {
        /// Which file.
        file: String,
    },
    /// The journal cannot be written.
    #[error("the restored journal cannot be written")]
    Write(#[source] JournalError),
}

/// One chain as it stands in the copy, checked from its first record to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedChain {
    /// The chain.
    pub chain: ServiceName,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// Reads every chain of a copy back, and checks it.
///
/// # Errors
/// Where the store cannot be read, or a chain is not whole.
pub async fn read_back(store: &Store) -> Result<Vec<CopiedChain>, RestoreError> {
    let listed = store
        .objects
        .list_with_delimiter(Some(&store.prefix))
        .await
        .map_err(|e| RestoreError::Copy(unreachable_store(store, e)))?;
    let mut chains = Vec::new();
    for folder in listed.common_prefixes {
        chains.extend(read_chain(store, &folder).await?);
    }
    Ok(chains)
}

/// Makes a journal from a copy, where there is none, and verifies it.
///
/// # Errors
/// Where there is a journal already, or the copy cannot be read, or is not whole; no journal is left behind then.
pub async fn restore(store: &Store, to: &Path) -> Result<Vec<Finding>, RestoreError> {
    if to.exists() {
        return Err(RestoreError::There {
            file: to.display().to_string(),
        });
    }
    let chains = read_back(store).await?;
    if chains.is_empty() {
        return Err(RestoreError::Nothing {
            store: store.name.clone(),
        });
    }
    let half = half_made(to);
    let findings = write(&chains, &half);
    if findings.is_ok() {
        fs::rename(&half, to).map_err(|e| moved(to, e))?;
    } else {
        // What is left of it says nothing that the copy does not say.
        let _ = fs::remove_file(&half);
    }
    findings
}

/// The file is closed, and its log with it, when this returns.
fn write(chains: &[CopiedChain], to: &Path) -> Result<Vec<Finding>, RestoreError> {
    match fs::remove_file(to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(moved(to, e)),
        Ok(()) | Err(_) => {}
    }
    let mut file = JournalFile::open(to).map_err(RestoreError::Write)?;
    let lines = chains
        .iter()
        .flat_map(|c| c.lines.iter().map(|line| (&c.chain, line)));
    file.append(lines).map_err(RestoreError::Write)?;
    // Nobody leads from it before a person said that the other controller is gone.
    file.settle(NOWHERE).map_err(RestoreError::Write)?;
    verify::journal(&file).map_err(RestoreError::Write)
}

fn half_made(to: &Path) -> PathBuf {
    let mut name = OsString::from(to);
    name.push(".restoring");
    PathBuf::from(name)
}

fn moved(to: &Path, source: io::Error) -> RestoreError {
    RestoreError::Write(JournalError::Io {
        place: to.display().to_string(),
        source: source.into(),
    })
}

async fn read_chain(
    store: &Store,
    folder: &ObjectPath,
) -> Result<Option<CopiedChain>, RestoreError> {
    let mut objects: Vec<ObjectPath> = store
        .objects
        .list(Some(folder))
        .map_ok(|object| object.location)
        .try_collect()
        .await
        .map_err(|e| RestoreError::Copy(unreachable_store(store, e)))?;
    objects.sort();
    let segments: Vec<Vec<Exported>> = stream::iter(&objects)
        .map(|object| read_segment(store, object))
        .buffered(AT_ONCE)
        .try_collect()
        .await
        .map_err(RestoreError::Copy)?;
    let exported: Vec<Exported> = segments.into_iter().flatten().collect();
    let Some(chain) = exported.first().map(|first| first.chain.clone()) else {
        return Ok(None);
    };
    let mut checker = Checker::behind(chain.clone(), Head::default());
    let mut lines = Vec::with_capacity(exported.len());
    for Exported { line, .. } in exported {
        checker.next(&line).map_err(|source| RestoreError::Chain {
            store: store.name.clone(),
            source,
        })?;
        lines.push(line);
    }
    Ok(Some(CopiedChain { chain, lines }))
}
