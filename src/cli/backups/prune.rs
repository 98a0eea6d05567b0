//! `failover backups prune`: deletes what the ladder does not keep any more.

use super::{
    super::{arguments, documents::counted, offline::Offline, output::Output, place::Place},
    size,
};
use crate::{driver::backups::prune::Pruned, error::Error, model::id::ServiceName};

/// Shows what would be deleted, and deletes it where that is wanted.
///
/// # Errors
/// Where it cannot be said what may go, or something could not be deleted.
pub async fn prune(
    args: &arguments::BackupsPrune,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let service = ServiceName::from(args.service.as_str());
    let offline = Offline::new(&args.file, &service, place, output)?;
    let pruned = offline.prune(args.apply).await?;
    if output.json() {
        output.value(&serde_json::json!({
            "service": service, "applied": args.apply, "copies": pruned,
        }))?;
    } else {
        output.text(&text(&pruned, args.apply))?;
    }
    let failed = pruned.iter().filter(|p| p.error.is_some()).count();
    if failed > 0 {
        let reason = format!("{} could not be deleted", counted(failed, "backup"));
        return Err(Error::Refused {
            reason,
            help: "the cause stands beside each; the same command tries again".to_owned(),
        });
    }
    Ok(())
}

fn text(pruned: &[Pruned], applied: bool) -> String {
    let lines = pruned.iter().map(|p| {
        let end = match (&p.error, p.deleted) {
            (Some(error), _) => format!("  NOT deleted: {error}"),
            (None, true) => "  deleted".to_owned(),
            (None, false) => String::new(),
        };
        let at = p.copy.at.date();
        format!(
            "{}  {}  {}  {}{end}\n",
            p.source,
            at,
            p.copy.id,
            size(p.copy.bytes)
        )
    });
    let counted = counted(pruned.len(), "backup");
    let end = match (pruned.len(), applied) {
        (0, _) => "nothing to delete\n".to_owned(),
        (_, true) => format!("{counted} beyond the ladder\n"),
        (_, false) => format!("{counted} beyond the ladder; nothing was deleted: add --apply\n"),
    };
    lines.chain([end]).collect()
}
