//! `failover backups`: what there is, and what breaks the policy.

mod prune;
mod restore;
mod take;
mod verify;

use std::fmt::Write as _;

use owo_colors::Style;

use super::{
    arguments, client::Client, documents::counted, look, offline::Offline, output::Output,
    place::Place,
};
use crate::{
    desk::message::{Answer, Request},
    driver::backups::{CopyView, SourceView, Survey, rounded},
    error::Error,
    model::{
        backup::{BackupKind, Restored},
        id::ServiceName,
        time::Time,
    },
};

/// Shows what backups there are.
///
/// # Errors
/// Where a policy is broken, or no controller answers and no documents are given.
pub async fn backups(
    args: &arguments::Backups,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    if let Some(command) = &args.command {
        return match command {
            arguments::BackupsCommand::Verify(args) => {
                Box::pin(verify::verify(args, place, output)).await
            }
            arguments::BackupsCommand::Prune(args) => prune::prune(args, place, output).await,
            arguments::BackupsCommand::Take(args) => {
                Box::pin(take::take(args, place, output)).await
            }
            arguments::BackupsCommand::Restore(args) => {
                Box::pin(restore::restore(args, place, output)).await
            }
        };
    }
    let surveys = surveys(args, place, output).await?;
    if output.json() {
        output.value(&serde_json::json!({ "services": surveys }))?;
    } else {
        for (n, survey) in surveys.iter().enumerate() {
            if n > 0 {
                output.line("")?;
            }
            output.text(&text(survey, args.all, output))?;
        }
        if surveys.is_empty() {
            output.note("no service has a backup policy: see 'failover help backups'");
        }
    }
    verdict(&surveys)
}

async fn surveys(
    args: &arguments::Backups,
    place: &Place,
    output: Output,
) -> Result<Vec<Survey>, Error> {
    let service = args.service.as_deref().map(ServiceName::from);
    let mut surveys = Vec::new();
    if args.file.is_empty() {
        let mut client = Client::connect(place).await?;
        for report in look::reports(&mut client, service).await? {
            let request = Request::Backups {
                service: report.service,
            };
            if let Answer::Backups(Some(survey)) = client.ask(request, None).await? {
                surveys.push(*survey);
            }
        }
    } else {
        for offline in Offline::all(&args.file, service.as_ref(), place, output)? {
            surveys.extend(offline.backups().await?);
        }
    }
    Ok(surveys)
}

fn verdict(surveys: &[Survey]) -> Result<(), Error> {
    let broken: Vec<_> = surveys
        .iter()
        .filter(|s| !s.judgement.breaches.is_empty())
        .collect();
    let rules: usize = broken.iter().map(|s| s.judgement.breaches.len()).sum();
    let names: Vec<_> = broken.iter().map(|s| s.service.to_string()).collect();
    if rules == 0 {
        return Ok(());
    }
    Err(Error::Backups {
        broken: format!(
            "the backups of {} break {}",
            names.join(", "),
            counted(rules, "rule")
        ),
    })
}

fn text(survey: &Survey, all: bool, output: Output) -> String {
    let bold = |text: &str| output.paint(text, Style::new().bold());
    let mut text = format!(
        "{}  policy {}\n",
        bold(survey.service.as_str()),
        survey.policy
    );
    let widest = survey.sources.iter().map(|s| s.name.as_str().len()).max();
    let widest = widest.unwrap_or(0).max(6);
    let _ = writeln!(
        text,
        "  {:<widest$}  {:<28}  {:<4}  {:>6}  {:>8}  {:>9}  {:<9}  restored",
        "source", "place", "kind", "copies", "newest", "size", "encrypted"
    );
    for source in &survey.sources {
        text.push_str(&rows(source, survey.at, all, widest));
    }
    if survey.judgement.breaches.is_empty() {
        let _ = writeln!(
            text,
            "  {}",
            output.paint("the policy is kept", Style::new().green())
        );
    }
    for breach in &survey.judgement.breaches {
        let (word, style) = if breach.certain {
            ("broken ", Style::new().red())
        } else {
            ("unknown", Style::new().yellow())
        };
        let _ = writeln!(
            text,
            "  {} {}  {}",
            output.paint(word, style),
            breach.rule,
            breach.text
        );
        let _ = writeln!(text, "          fix: {}", breach.fix);
    }
    if let Some((at, what)) = &survey.judgement.next {
        let _ = writeln!(text, "  next    {}  {what}", at.date());
    }
    text
}

/// A line for each kind, or for each copy.
fn rows(source: &SourceView, now: Time, all: bool, widest: usize) -> String {
    let mut text = String::new();
    let location = &source.location;
    let parts = [
        &location.provider,
        &location.region,
        &location.country,
        &location.continent,
    ];
    let place: Vec<_> = parts.into_iter().flatten().map(String::as_str).collect();
    let place: String = place.join(" ").chars().take(28).collect();
    if let Some(reason) = &source.unknown {
        let _ = writeln!(
            text,
            "  {:<widest$}  {place:<28}  cannot be told: {reason}",
            source.name
        );
        return text;
    }
    for kind in [BackupKind::Full, BackupKind::Log] {
        let copies: Vec<_> = source
            .copies
            .iter()
            .filter(|c| c.copy.kind == kind)
            .collect();
        let Some(newest) = copies.iter().max_by_key(|c| c.copy.at) else {
            continue;
        };
        let _ = writeln!(
            text,
            "  {:<widest$}  {place:<28}  {kind:<4}  {:>6}  {:>8}  {:>9}  {:<9}  {}",
            source.name,
            copies.len(),
            rounded(now.since(newest.copy.at)).to_string(),
            size(newest.copy.bytes),
            encrypted(newest.copy.encrypted),
            last_restored(&copies)
        );
        for copy in copies.iter().rev().filter(|_| all) {
            let _ = writeln!(
                text,
                "  {:<widest$}    {}  {}  {}  {}",
                "",
                copy.copy.at.date(),
                copy.copy.id,
                size(copy.copy.bytes),
                restored(copy)
            );
        }
    }
    if text.is_empty() {
        let _ = writeln!(text, "  {:<widest$}  {place:<28}  nothing yet", source.name);
    }
    text
}

/// The newest copy that was restored with success, and one that is bad where it is newer.
fn last_restored(copies: &[&CopyView]) -> String {
    let tried = |c: &&&CopyView| {
        c.copy.is_empty()
            || matches!(
                c.restored,
                Some(Restored::Good | Restored::Bad { .. } | Restored::Wrong { .. })
            )
    };
    match copies.iter().filter(tried).max_by_key(|c| c.copy.at) {
        Some(copy) => restored(copy),
        None => "never".to_owned(),
    }
}

fn restored(copy: &CopyView) -> String {
    if copy.copy.is_empty() {
        return format!("EMPTY: {} is no backup", copy.copy.id);
    }
    let when = copy.tried.map(Time::date).unwrap_or_default();
    match &copy.restored {
        Some(Restored::Good) => format!("good {when}"),
        Some(Restored::Bad { reason }) => format!("BAD {when}: {reason}"),
        Some(Restored::Wrong { reason }) => format!("WRONG {when}: {reason}"),
        Some(Restored::Unknown { reason }) => format!("not to the end {when}: {reason}"),
        None => "never".to_owned(),
    }
}

fn encrypted(encrypted: Option<bool>) -> &'static str {
    match encrypted {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    }
}

/// Bytes as people say them.
#[must_use]
pub fn size(bytes: Option<u64>) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let Some(bytes) = bytes else {
        return "?".to_owned();
    };
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_as_people_do() {
        let said: Vec<_> = [0, 1023, 1024, 1536, 5 << 30].map(|n| size(Some(n))).into();
        assert_eq!(said, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(size(None), "?");
    }
}
