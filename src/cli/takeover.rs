//! `failover takeover`: a controller of this host may lead from a journal that another one wrote.

use std::{path::Path, sync::Arc};

use nix::unistd::{Uid, User};

use crate::{
    cli::{act, arguments, documents, engine, identity, journal, output::Output, place::Place},
    driver::{clock::HostRuntime, takeover::take_up},
    error::Error,
    journal::{
        copy::{Copy, CopyError},
        file::JournalFile,
        origin::Origin,
        sqlite::SqliteJournal,
    },
    model::id::PersonName,
    port::{
        journal::Journal,
        runtime::Runtime,
        secret::{HostSecrets, SharedSecrets},
    },
};

/// Takes up a journal: every chain says who did, and begins a later epoch. Where a service is named, the controller that runs
/// does so itself.
///
/// # Errors
/// Where it is not confirmed, another controller has the journal, or it cannot be read or written.
pub async fn takeover(
    args: &arguments::Takeover,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    if !args.yes {
        identity::confirm(journal::GONE)?;
    }
    if let Some(service) = &args.service {
        return act::act(act::take_over(service, args), place, output).await;
    }
    if let Some(url) = &args.from {
        journal::restore_from(url, place, output).await?;
    }
    let path = place.journal();
    if !path.exists() {
        return Err(Error::NoJournal { path: path.clone() });
    }
    let by = PersonName::new(args.by.clone().unwrap_or_else(own_name));
    let opened = SqliteJournal::open(&path)?;
    let chains = opened.chains().await?;
    for chain in &chains {
        let now = HostRuntime::new().now();
        take_up(&opened, chain, &by, &args.reason, now).await?;
    }
    drop(opened);
    if let Some(url) = &args.from {
        claim(url, &path).await?;
    }
    // Only now: what broke off before is begun anew.
    JournalFile::open(&path)?.settle(&Origin::this_host())?;
    output.note(&format!(
        "{} taken over: start 'failover run' here, then see 'failover explain'",
        documents::counted(chains.len(), "service")
    ));
    Ok(())
}

/// Puts the takeover into the copy, which takes one successor alone: a controller that still writes there was not gone.
async fn claim(url: &str, path: &Path) -> Result<(), Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Copy {
        url: url.to_owned(),
        source,
    };
    let secrets: SharedSecrets = Arc::new(HostSecrets);
    let store = engine::store(url).open(&secrets);
    let store = store.map_err(|e| failed(Box::new(e)))?;
    let journal = Arc::new(SqliteJournal::open(path)?);
    let copy = Copy::new(journal, store, Arc::new(HostRuntime::new()));
    match copy.claim().await {
        Ok(()) => Ok(()),
        Err(CopyError::TakenOver(succession)) => Err(Error::TakenOver(succession)),
        Err(CopyError::Foreign { chain, .. } | CopyError::StillWritten { chain, .. }) => {
            Err(Error::StillWritten {
                url: url.to_owned(),
                chain,
                path: path.to_owned(),
            })
        }
        Err(
            error @ (CopyError::Journal(_) | CopyError::Store { .. } | CopyError::Segment { .. }),
        ) => Err(failed(Box::new(error))),
    }
}

/// The user of this process, by number where the system has no name for it.
fn own_name() -> String {
    let uid = Uid::current();
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("user {uid}"), |user| user.name)
}
