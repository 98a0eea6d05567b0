//! `failover simulate`: histories of the controller under virtual time, held against the rules.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    arguments::Simulate,
    documents::{self, counted},
    output::Output,
};
use crate::{
    error::Error,
    model::service::Service,
    sim::{
        campaign::{Campaign, Finding, Report},
        coverage::Met,
        fault::{By, Planned},
        kinds,
        rule::Rule,
        scenario::{Scenario, Subject},
        shrink,
        trace::Trace,
    },
};

/// Lines of a broken history that are printed.
const LAST: usize = 40;
/// So many broken histories are shrunk and printed; the rest are listed.
const SHOWN: usize = 3;
/// So many combinations that were not covered are listed.
const LISTED: usize = 12;

/// `failover simulate`.
///
/// # Errors
/// Where documents cannot be used, or a rule did not hold.
pub fn simulate(args: &Simulate, output: Output) -> Result<(), Error> {
    let scripts = args.script.len() as u64;
    let drawn = args.cover.map_or(args.seeds, |most| most.max(args.seeds));
    let (seeds, subject) = match scripts {
        0 => (drawn, subject(args, output)?),
        _ => (scripts, Subject::Scripts(scripts_of(&args.script)?)),
    };
    let campaign = Campaign {
        from: args.from,
        seeds,
        subject,
        weakness: None,
    };
    // A task of the driver that panics is a finding with its seed: its own words would only disturb.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let has_guards = campaign.subject.has_guards();
    let misses = |report: &Report| !report.coverage.missing(has_guards).is_empty();
    let report = campaign.run(|report| {
        report.histories < seeds.min(args.seeds) || (args.cover.is_some() && misses(report))
    });
    let took = began.elapsed();
    let broken = report.findings.iter().take(SHOWN);
    let least: Vec<_> = broken.filter_map(|f| least(&campaign, f)).collect();
    drop(std::panic::take_hook());
    if let Some(folder) = &args.save {
        save(folder, &least)?;
    }
    if output.json() {
        output.value(&as_json(&campaign, &report, &least, took))?;
    } else {
        if campaign.seeds == 1 {
            let written = campaign.play(campaign.from, Trace::written());
            output.line(&script(&campaign, campaign.from))?;
            output.text(&lines(&written.lines))?;
        }
        output.text(&as_text(&campaign, &report, &least, took))?;
    }
    match report.findings.as_slice() {
        [] if args.cover.is_some() && misses(&report) => Err(Error::Uncovered {
            histories: report.histories,
            missing: report.coverage.missing(has_guards).len(),
        }),
        [] => Ok(()),
        [first, ..] => Err(Error::Simulation {
            findings: report.findings.len(),
            seed: first.seed,
        }),
    }
}

fn subject(args: &Simulate, output: Output) -> Result<Subject, Error> {
    if args.file.is_empty() {
        return Ok(Subject::Drawn);
    }
    let services = documents::load(&args.file, output)?;
    for service in &services {
        if let Some(kind) = not_simulated(service) {
            return Err(Error::Usage(format!(
                "{}: {kind} cannot be simulated; leave it out of a copy of the documents",
                service.name
            )));
        }
    }
    Ok(Subject::Documents(
        services.into_iter().map(Arc::new).collect(),
    ))
}

fn scripts_of(paths: &[PathBuf]) -> Result<Vec<Arc<Scenario>>, Error> {
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).map_err(|source| Error::File {
            verb: "read",
            path: path.clone(),
            source,
        })?;
        let script = serde_json::from_str(&text).map_err(|error| {
            let place = path.display();
            Error::Usage(format!(
                "{place}: {error}; it is to be a file that --save has written"
            ))
        })?;
        Ok(Arc::new(script))
    };
    paths.iter().map(read).collect()
}

/// Whoever mends what broke a rule plays the script again, and keeps it as a test.
fn save(folder: &Path, least: &[(Rule, Scenario)]) -> Result<(), Error> {
    for (rule, scenario) in least {
        let path = folder.join(format!("{}-{}.json", scenario.seed, rule.name()));
        let text = serde_json::to_string_pretty(scenario)
            .map_err(|error| Error::Usage(error.to_string()))?;
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text + "\n"));
        written.map_err(|source| Error::File {
            verb: "write",
            path,
            source,
        })?;
    }
    Ok(())
}

/// A kind of a service's steps or probes that no simulation knows.
fn not_simulated(service: &Service) -> Option<String> {
    use crate::model::plan::Action;
    let steps = service
        .runbook
        .steps
        .iter()
        // What people begin is not played.
        .filter(|s| s.on.iter().any(|kind| !kind.is_planned()))
        .filter_map(|s| match &s.action {
            Action::Adapter(uses) => Some(uses),
            Action::Manual { .. } => None,
        });
    let probes = service.components.iter().flat_map(|c| &c.probes);
    let names = steps
        .chain(probes.map(|p| &p.action))
        .map(|u| u.uses.to_string());
    names.into_iter().find(|name| !kinds::is_simulated(name))
}

fn rate(report: &Report, took: Duration) -> f64 {
    let histories = u32::try_from(report.histories).unwrap_or(u32::MAX);
    f64::from(histories) / took.as_secs_f64().max(0.001)
}

fn lines(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "  {line}");
        text
    })
}

/// A seed's faults, as a script.
fn script(campaign: &Campaign, seed: u64) -> String {
    let scenario = campaign.scenario(seed);
    let service = &scenario.service;
    let how = if scenario.synchronous {
        "synchronous"
    } else {
        "asynchronous"
    };
    let mut text = format!(
        "seed {seed}: {} in mode {}, trigger {:?}, RPO {}, {how}, {}",
        service.name,
        service.mode,
        service.trigger,
        service.objectives.rpo,
        counted(scenario.faults.len(), "fault"),
    );
    text.push_str(&faults(&scenario.faults));
    text
}

fn faults(faults: &[Planned]) -> String {
    faults.iter().fold(String::new(), |mut text, fault| {
        let _ = write!(text, "\n  {fault}");
        text
    })
}

/// The fewest faults that still show a finding, and the rule that it breaks first.
fn least(campaign: &Campaign, finding: &Finding) -> Option<(Rule, Scenario)> {
    let rule = finding.violations.first()?.rule;
    Some((rule, shrink::shrink(&campaign.scenario(finding.seed), rule)))
}

fn shown(finding: &Finding, least: &Scenario) -> String {
    let mut text = String::new();
    for violation in &finding.violations {
        let _ = writeln!(text, "seed {}: {violation}", finding.seed);
    }
    let _ = writeln!(
        text,
        "  it takes {}:{}",
        counted(least.faults.len(), "fault"),
        faults(&least.faults)
    );
    let written = crate::sim::history::play(Arc::new(least.clone()), Trace::written());
    let from = written.lines.len().saturating_sub(LAST);
    let _ = writeln!(text, "  the last of {} events:", written.lines.len());
    text.push_str(&lines(&written.lines[from..]));
    text
}

fn as_text(
    campaign: &Campaign,
    report: &Report,
    least: &[(Rule, Scenario)],
    took: Duration,
) -> String {
    let mut text = String::new();
    for (finding, (_, least)) in report.findings.iter().zip(least) {
        text.push_str(&shown(finding, least));
    }
    if report.findings.len() > SHOWN {
        let seeds: Vec<_> = report.findings[SHOWN..]
            .iter()
            .map(|f| {
                let rules: Vec<_> = f.violations.iter().map(|v| v.rule.name()).collect();
                format!("{} ({})", f.seed, rules.join(", "))
            })
            .collect();
        let _ = writeln!(text, "also broken: seeds {}", seeds.join(", "));
    }
    let _ = writeln!(
        text,
        "{} histories of together {} in {:.1} s, {:.0} a second, {} events",
        report.histories,
        report.lasted,
        took.as_secs_f64(),
        rate(report, took),
        report.events,
    );
    let ended: Vec<_> = report
        .ended
        .iter()
        .map(|(how, n)| format!("{n} {how}"))
        .collect();
    let _ = writeln!(text, "runs: {}", ended.join(", "));
    let _ = writeln!(
        text,
        "histories in which customers lost writes of the time between outage and fence: {}",
        report.lost_after_outage
    );
    let [takeovers, elections, back] = handovers(report);
    let _ = writeln!(
        text,
        "another controller took over in {takeovers}, and was elected in {elections}; the one before came back in {back}"
    );
    let missing = report.coverage.missing(campaign.subject.has_guards());
    let _ = writeln!(
        text,
        "covered: {} combinations of verdict, part of a run, rung and gates' answer, and of how another controller comes to lead; {} that one accident leads to were not",
        report.coverage.0.len(),
        missing.len()
    );
    for situation in missing.iter().take(LISTED) {
        let _ = writeln!(text, "  not seen: {situation}");
    }
    if missing.len() > LISTED {
        let _ = writeln!(
            text,
            "  and {} more (--output json lists all)",
            missing.len() - LISTED
        );
    }
    let _ = writeln!(text, "rules broken in {}", histories(report.findings.len()));
    text
}

/// How often another controller took over, how often one was elected, and how often the one before came back.
fn handovers(report: &Report) -> [u64; 3] {
    let mut counts = [0; 3];
    for (handover, times) in report.coverage.handovers() {
        let which = match (handover.met, handover.by) {
            (Met::Back, _) => 2,
            (Met::Quiet | Met::InRun, By::Election) => 1,
            (Met::Quiet | Met::InRun, By::Takeover) => 0,
        };
        counts[which] += times;
    }
    counts
}

fn histories(n: usize) -> String {
    match n {
        0 => "no history".to_owned(),
        1 => "1 history".to_owned(),
        n => format!("{n} histories"),
    }
}

fn as_json(
    campaign: &Campaign,
    report: &Report,
    least: &[(Rule, Scenario)],
    took: Duration,
) -> Value {
    let violations: Vec<Value> = report
        .findings
        .iter()
        .enumerate()
        .flat_map(|(n, finding)| {
            finding.violations.iter().map(move |v| {
                let script = least.get(n).filter(|(rule, _)| *rule == v.rule);
                let script = script.into_iter().flat_map(|(_, least)| &least.faults);
                let script: Vec<String> = script.map(ToString::to_string).collect();
                json!({
                    "seed": finding.seed, "rule": v.rule.name(), "explanation": v.rule.explanation(),
                    "found": v.found, "at": v.at, "faults": script,
                })
            })
        })
        .collect();
    let seen = report.coverage.0.iter();
    let covered: Vec<Value> = seen
        .map(|(situation, times)| json!({"standing": situation.to_string(), "times": times}))
        .collect();
    let missing = report.coverage.missing(campaign.subject.has_guards());
    let [takeovers, elections, back] = handovers(report);
    json!({
        "from": campaign.from, "histories": report.histories, "events": report.events,
        "lasted": report.lasted, "took_s": took.as_secs_f64(), "historiesPerSecond": rate(report, took),
        "runs": report.ended, "lostAfterOutage": report.lost_after_outage, "covered": covered,
        "notCovered": missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "takeovers": takeovers, "elections": elections, "cameBack": back, "violations": violations,
    })
}
