//! Deleting what the ladder does not keep any more.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::shelves;
use crate::{
    decide::{
        backups::{Unprunable, prune},
        core::Core,
    },
    driver::fitting::Fitting,
    model::{
        backup::BackupCopy,
        id::{ServiceName, SourceName},
    },
    port::{backup::SharedBackups, cause},
};

/// What may go, and the places that it lies in.
pub struct Pruning {
    /// The copies, oldest first.
    pub copies: Vec<(SourceName, BackupCopy)>,
    places: BTreeMap<SourceName, SharedBackups>,
}

/// Why nothing can be pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// There is no policy.
    #[error("{0} has no backup policy")]
    NoPolicy(ServiceName),
    /// It cannot be said what may go.
    #[error(transparent)]
    Unprunable(#[from] Unprunable),
}

/// What became of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Where it was.
    pub source: SourceName,
    /// The copy.
    #[serde(flatten)]
    pub copy: BackupCopy,
    /// Whether it is gone.
    pub deleted: bool,
    /// Why it may not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Asks every place, and says what may go from those that can delete.
///
/// # Errors
/// Where there is no ladder, a place does not answer, or nothing is known to be a backup.
pub async fn plan(core: &Core, fitting: &Fitting) -> Result<Pruning, PruneError> {
    let service = core.service();
    let none = || PruneError::NoPolicy(service.name.clone());
    let policy = service.backups.as_ref().ok_or_else(none)?;
    let places: BTreeMap<_, _> = policy
        .sources
        .iter()
        .filter_map(|s| Some((s.name.clone(), fitting.backups(&s.action).ok()?)))
        .filter(|(_, place)| place.deletes())
        .collect();
    let deleting: BTreeSet<_> = places.keys().cloned().collect();
    let held = shelves(policy, fitting).await;
    let now = fitting.wiring().runtime.now();
    let copies = prune(policy, &held, &core.state().backups, &deleting, now)?;
    Ok(Pruning { copies, places })
}

/// Deletes them, one after the other.
pub async fn apply(pruning: Pruning) -> Vec<Pruned> {
    let mut done = Vec::new();
    for (source, copy) in pruning.copies {
        let error = match pruning.places.get(&source) {
            Some(place) => place
                .delete(&copy.id)
                .await
                .err()
                .map(|e| cause::in_full(&e)),
            None => Some("its place cannot delete".to_owned()),
        };
        done.push(Pruned {
            source,
            copy,
            deleted: error.is_none(),
            error,
        });
    }
    done
}
