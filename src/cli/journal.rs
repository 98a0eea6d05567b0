//! `failover journal` and `failover timeline`: read the journal itself, whether or not a controller runs.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::Path,
    sync::Arc,
};

use owo_colors::Style;

use super::{arguments, client::Client, engine, identity, look, output::Output, place::Place};
use crate::{
    desk::{
        line::{self, Line, Weight},
        message::{Answer, Request},
    },
    error::Error,
    journal::{
        export::{self, ExportError},
        file::JournalFile,
        restore,
        verify::{self, Finding},
    },
    model::{
        id::{Seq, ServiceName},
        record::Record,
    },
    port::{
        journal::JournalError,
        secret::{HostSecrets, SharedSecrets},
    },
};

/// `failover journal …`.
///
/// # Errors
/// Where the journal cannot be read, or is not whole.
pub async fn journal(
    args: &arguments::Journal,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    match args {
        arguments::Journal::Restore(args) => restored(args, place, output).await,
        arguments::Journal::Show(args) => show(args, place, output),
        arguments::Journal::Export(args) => export(args, place, output),
        arguments::Journal::Verify(args) => verify(args, place, output),
    }
}

/// `failover timeline`.
///
/// # Errors
/// Where the journal cannot be read.
pub async fn timeline(
    args: &arguments::Timeline,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let records = records(place, &args.service).await?;
    if args.last.is_none_or(|n| n > records.len()) {
        tell_cut(place, &records, output);
    }
    let skip = args.last.map_or(0, |n| records.len().saturating_sub(n));
    for record in &records[skip..] {
        let line = line::of(record);
        if output.json() {
            output.value_line(&serde_json::json!({
                "seq": record.seq, "at": record.at, "topic": line.topic, "text": line.text,
            }))?;
        } else {
            output.line(&told(record, &line, output))?;
        }
    }
    Ok(())
}

/// Says where records of a controller elsewhere are not all there are.
pub fn tell_cut(place: &Place, records: &[Record], output: Output) {
    if let (Some(_), Some(first)) = (&place.server, records.first().filter(|r| r.seq > Seq(1))) {
        output.note(&format!(
            "the desk tells the newest {} records: what was before {} stands in the journal on the controller's host",
            records.len(),
            first.at
        ));
    }
}

/// Every record of a service; of a controller elsewhere the newest that its desk tells.
///
/// # Errors
/// Where the journal cannot be read, or knows no such service.
pub async fn records(place: &Place, service: &str) -> Result<Vec<Record>, Error> {
    if place.server.is_some() {
        let request = Request::Timeline {
            service: service.into(),
            last: usize::MAX,
        };
        let answer = Client::connect(place).await?.ask(request, None).await?;
        let Answer::Timeline(records) = answer else {
            return Err(look::unexpected());
        };
        return Ok(records);
    }
    let file = open(place)?;
    let chain = chain(&file, service)?;
    Ok(file.records(&chain, Seq(1))?)
}

/// A record's line with its time, for people.
#[must_use]
pub fn told(record: &Record, line: &Line, output: Output) -> String {
    let style = match line.weight {
        Weight::Detail => Style::new().dimmed(),
        Weight::Normal => Style::new(),
        Weight::Heavy => Style::new().bold(),
        Weight::Bad => Style::new().bold().red(),
    };
    format!(
        "{}  {:<10} {}",
        record.at,
        line.topic,
        output.paint(&line.text, style)
    )
}

fn show(args: &arguments::JournalShow, place: &Place, output: Output) -> Result<(), Error> {
    let file = open(place)?;
    let chain = chain(&file, &args.service)?;
    for record in file.records(&chain, Seq(args.from.max(1)))? {
        if output.json() {
            output.value_line(&record)?;
        } else {
            let line = line::of(&record);
            output.line(&format!(
                "{:>6}  e{}  {}  {:<20}  {}",
                record.seq,
                record.epoch,
                record.at,
                record.body.kind(),
                line.text
            ))?;
        }
    }
    Ok(())
}

fn export(args: &arguments::JournalExport, place: &Place, output: Output) -> Result<(), Error> {
    let file = open(place)?;
    let chains = match &args.service {
        Some(name) => vec![chain(&file, name)?],
        None => file.heads()?.into_iter().map(|(chain, _)| chain).collect(),
    };
    let Some(path) = &args.to else {
        return match export::write(&file, &chains, &mut io::stdout().lock()) {
            Ok(_) => Ok(()),
            Err(ExportError::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(ExportError::Write(e)) => Err(Error::Output(e)),
            Err(error) => Err(failed(error, &place.journal())),
        };
    };
    let written = write_to(&file, &chains, path)?;
    if output.json() {
        output.value(&serde_json::json!({ "records": written, "file": path }))
    } else {
        output.line(&format!("{written} records in {}", path.display()))
    }
}

/// Exports every chain to a file that must not exist yet. Gives the number of records.
///
/// # Errors
/// Where the journal cannot be read, or the file not be written.
pub fn export_to(place: &Place, path: &Path) -> Result<u64, Error> {
    let file = open(place)?;
    let chains: Vec<_> = file.heads()?.into_iter().map(|(chain, _)| chain).collect();
    write_to(&file, &chains, path)
}

fn write_to(file: &JournalFile, chains: &[ServiceName], path: &Path) -> Result<u64, Error> {
    let made = File::options().write(true).create_new(true).open(path);
    let out = made.map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            Error::Exists {
                path: path.to_owned(),
            }
        } else {
            cannot("write", path, source)
        }
    })?;
    let mut out = BufWriter::new(out);
    let written = export::write(file, chains, &mut out).map_err(|e| failed(e, path))?;
    out.flush()
        .and_then(|()| out.get_ref().sync_all())
        .map_err(|source| cannot("write", path, source))?;
    Ok(written)
}

fn verify(args: &arguments::JournalVerify, place: &Place, output: Output) -> Result<(), Error> {
    let findings = match &args.from {
        Some(path) => {
            let file = File::open(path).map_err(|source| cannot("read", path, source))?;
            verify::export(&mut BufReader::new(file)).map_err(|e| failed(e, path))?
        }
        None => verify::journal(&open(place)?)?,
    };
    show_findings(&findings, output)?;
    match findings.iter().find_map(|f| Some((f, f.broken.as_ref()?))) {
        Some((finding, broken)) => Err(Error::Journal(JournalError::Broken {
            chain: finding.chain.clone(),
            seq: broken.seq,
            reason: broken.reason.clone(),
        })),
        None => Ok(()),
    }
}

fn show_findings(findings: &[Finding], output: Output) -> Result<(), Error> {
    if output.json() {
        return output.value(&serde_json::json!({
            "whole": findings.iter().all(|f| f.broken.is_none()),
            "chains": findings,
        }));
    }
    for finding in findings {
        output.line(&sentence(finding))?;
    }
    if findings.is_empty() {
        output.note("The journal holds no records yet.");
    }
    Ok(())
}

async fn restored(
    args: &arguments::JournalRestore,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    if !args.yes {
        identity::confirm(GONE)?;
    }
    restore_from(&args.from, place, output).await?;
    output.note(&format!(
        "restored to {}: 'failover takeover' lets a controller of this host lead from it",
        place.journal().display()
    ));
    Ok(())
}

/// Two controllers on two copies of one journal would each act on their own: only a person knows that the other is gone.
pub const GONE: &str =
    "The controller that wrote this journal must never run again: is it stopped for good?";

/// Makes the journal anew from its copy, where there is none.
///
/// # Errors
/// Where there is one, or the copy cannot be read or is not whole.
pub async fn restore_from(url: &str, place: &Place, output: Output) -> Result<(), Error> {
    let copy = |source| Error::Copy {
        url: url.to_owned(),
        source,
    };
    let secrets: SharedSecrets = Arc::new(HostSecrets);
    let store = engine::store(url)
        .open(&secrets)
        .map_err(|e| copy(Box::new(e)))?;
    place.prepare()?;
    let findings = restore::restore(&store, &place.journal())
        .await
        .map_err(|e| copy(Box::new(e)))?;
    show_findings(&findings, output)
}

fn sentence(finding: &Finding) -> String {
    let state = if finding.broken.is_none() {
        "whole"
    } else {
        "BROKEN after"
    };
    format!(
        "{}: {state}, {} records, epoch {}, last hash {}",
        finding.chain, finding.records, finding.epoch, finding.hash
    )
}

/// Opens the state folder's journal to look at it.
///
/// # Errors
/// Where there is none, or it cannot be read.
pub fn open(place: &Place) -> Result<JournalFile, Error> {
    let path = place.journal();
    if !path.exists() {
        return Err(Error::NoJournal { path });
    }
    Ok(JournalFile::open_to_read(&path)?)
}

fn chain(file: &JournalFile, name: &str) -> Result<ServiceName, Error> {
    let heads = file.heads()?;
    match heads.iter().find(|(chain, _)| chain.as_str() == name) {
        Some((chain, _)) => Ok(chain.clone()),
        None => Err(Error::NoService {
            name: name.to_owned(),
            known: heads.iter().map(|(chain, _)| chain.to_string()).collect(),
        }),
    }
}

fn cannot(verb: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File {
        verb,
        path: path.to_owned(),
        source,
    }
}

fn failed(error: ExportError, path: &Path) -> Error {
    match error {
        ExportError::Journal(error) => Error::Journal(error),
        ExportError::Write(source) => cannot("write", path, source),
        ExportError::Read(source) => cannot("read", path, source),
        error @ ExportError::Shape { .. } => Error::Export {
            path: path.to_owned(),
            source: error,
        },
    }
}
