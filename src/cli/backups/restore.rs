//! `failover backups restore`: brings a backup back into a folder of its own, to a moment where archived WAL allows it.

use std::fmt::Write as _;

use super::super::{arguments, offline::Offline, output::Output, place::Place};
use super::verify::unless_stopped;
use crate::{
    driver::backups::moment::{Moments, Offer, Wish},
    error::Error,
    model::id::ServiceName,
};

/// Says what is restored, and restores it.
///
/// # Errors
/// Where it cannot be restored, or the folder is not empty.
pub async fn restore(
    args: &arguments::BackupsRestore,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let service = ServiceName::from(args.service.as_str());
    let offline = Offline::new(&args.file, &service, place, output)?;
    let wish = Wish {
        at: args.at,
        copy: args.copy.as_deref().map(Into::into),
        wal: args.wal.as_deref().map(Into::into),
    };
    let offer = offline.offer(&wish).await?;
    if !output.json() {
        output.text(&text(&offer, &wish, args))?;
    }
    let Some(to) = args.to.as_ref().filter(|_| !args.dry_run) else {
        if output.json() {
            output.value(&serde_json::json!({ "chosen": offer.chosen, "moments": offer.all }))?;
        }
        return Ok(());
    };
    let to = std::path::absolute(to).map_err(Error::Output)?;
    let programs = args.programs.as_deref();
    let recovered = unless_stopped(offline.restore(&offer, &wish, &to, programs)).await??;
    if output.json() {
        output.value(&recovered)?;
    } else {
        let reached = recovered.reached.as_deref().unwrap_or("none was replayed");
        output.text(&format!(
            "restored to {0}\n  last transaction: {reached}\n  position {1}, timeline {2}, {3} archived segments\n  \
             it does not run; start it with: pg_ctl -D {0} -o '-p 5433' start\n",
            to.display(),
            recovered.lsn,
            recovered.timeline,
            recovered.segments
        ))?;
    }
    Ok(())
}

fn text(offer: &Offer, wish: &Wish, args: &arguments::BackupsRestore) -> String {
    let mut text = String::from("moments that can be brought back\n");
    for moments in &offer.all {
        let _ = writeln!(text, "  {}", moments.words());
    }
    let Moments { source, copy, .. } = &offer.chosen;
    let to = match &args.to {
        Some(to) => format!(" to {}", to.display()),
        None => String::new(),
    };
    let _ = writeln!(text, "restore {copy} of {source}{to}");
    match (wish.at, &offer.archive) {
        (Some(at), Some(wal)) => {
            let _ = writeln!(text, "  WAL from {wal} is replayed until {at}");
        }
        (None, Some(wal)) => {
            let _ = writeln!(text, "  WAL from {wal} is replayed as far as there is");
        }
        (_, None) => text.push_str("  no source keeps WAL: nothing is replayed\n"),
    }
    text.push_str("  nothing that runs is touched, and the folder must be absent or empty\n");
    text
}
