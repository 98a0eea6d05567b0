//! `failover runbook show`: a runbook as a person would follow it.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{arguments, documents, output::Output};
use crate::{
    driver::registry,
    error::Error,
    model::{
        plan::{Action, OnFailure, RunKind, StepPhase},
        service::Runbook,
        span::Span,
    },
    spec::{self, ReadyMade, ReadyStep},
};

/// What is shown of a runbook.
struct Shown {
    name: String,
    title: String,
    steps: Vec<ShownStep>,
}

struct ShownStep {
    id: String,
    name: String,
    does: Does,
    lines: Vec<String>,
}

enum Does {
    Adapter(String),
    Person(String),
}

/// `failover runbook show`.
///
/// # Errors
/// Where there is no such runbook, or the documents have errors.
pub fn show(args: &arguments::RunbookShow, output: Output) -> Result<(), Error> {
    let all: Vec<Shown> = if args.file.is_empty() {
        spec::RUNBOOKS.iter().filter_map(ready_made).collect()
    } else {
        let mut seen = BTreeSet::new();
        documents::load(&args.file, output)?
            .iter()
            .map(|service| &service.runbook)
            .filter(|runbook| seen.insert(runbook.name.clone()))
            .map(used)
            .collect()
    };
    let wanted: Vec<&Shown> = all
        .iter()
        .filter(|r| args.name.as_ref().is_none_or(|name| &r.name == name))
        .collect();
    if wanted.is_empty() {
        let known: Vec<_> = all.iter().map(|r| r.name.as_str()).collect();
        return Err(Error::Usage(format!(
            "there is no runbook {:?}; known are {}",
            args.name.as_deref().unwrap_or_default(),
            known.join(", ")
        )));
    }
    let pages: Vec<_> = wanted.into_iter().map(markdown).collect();
    if output.json() {
        output.value(&serde_json::json!({ "markdown": pages }))
    } else {
        output.text(&pages.join("\n"))
    }
}

/// One that comes with the program, before a service gives it its settings.
fn ready_made(ready: &ReadyMade) -> Option<Shown> {
    let (title, steps) = ready.steps(registry::kinds())?;
    Some(Shown {
        name: ready.name.to_owned(),
        title,
        steps: steps.into_iter().map(written).collect(),
    })
}

fn written(step: ReadyStep) -> ShownStep {
    let kinds: Vec<_> = step.runs.iter().map(|r| RunKind::from(*r)).collect();
    let mut lines = settled(step.phase, &step.needs, &kinds);
    lines.extend(step.spec.instead_of.as_deref().map(stands_in));
    lines.push(limits(step.timeout, step.spec.retry.attempts));
    lines.extend(step.spec.on_failure.map(when_failed));
    let spec = step.spec;
    ShownStep {
        name: spec.name.unwrap_or_else(|| spec.id.clone()),
        id: spec.id,
        does: match (spec.uses, spec.manual) {
            (Some(uses), _) => Does::Adapter(uses),
            (None, manual) => Does::Person(manual.unwrap_or_default()),
        },
        lines,
    }
}

/// What every step has, whether written or by default.
fn settled(phase: StepPhase, needs: &[String], kinds: &[RunKind]) -> Vec<String> {
    let kinds: Vec<_> = kinds.iter().map(RunKind::to_string).collect();
    vec![
        format!("part of the run: {phase}"),
        after(needs),
        format!("takes part in: {}", kinds.join(", ")),
    ]
}

fn stands_in(first: &str) -> String {
    format!("stands in for: {first}, should that not be possible")
}

fn limits(timeout: Span, attempts: u32) -> String {
    format!("time-out {timeout}, attempts {attempts}")
}

/// One as a service uses it, with everything settled.
fn used(runbook: &Runbook) -> Shown {
    let steps = runbook.steps.iter().map(|step| {
        let needs: Vec<_> = step.needs.iter().map(ToString::to_string).collect();
        let mut lines = settled(step.phase, &needs, &step.on);
        lines.extend(step.instead_of.as_ref().map(|s| stands_in(s.as_str())));
        lines.push(limits(step.timeout, step.retry.attempts));
        lines.push(when_failed(step.on_failure));
        ShownStep {
            id: step.id.to_string(),
            name: step.name.clone(),
            does: match &step.action {
                Action::Adapter(uses) => Does::Adapter(uses.uses.to_string()),
                Action::Manual { instructions } => Does::Person(instructions.clone()),
            },
            lines,
        }
    });
    Shown {
        name: runbook.name.to_string(),
        title: runbook.title.clone(),
        steps: steps.collect(),
    }
}

fn after(needs: &[String]) -> String {
    if needs.is_empty() {
        return "at once".to_owned();
    }
    let needs: Vec<_> = needs.iter().map(|n| format!("`{n}`")).collect();
    format!("after {}", needs.join(", "))
}

fn when_failed(on_failure: OnFailure) -> String {
    let then = match on_failure {
        OnFailure::Stop => "the run stops and people are paged",
        OnFailure::Continue => "the run goes on and says so",
        OnFailure::Ask => "people are asked whether to go on",
    };
    format!("when it has failed for good: {then}")
}

fn markdown(runbook: &Shown) -> String {
    let mut text = format!("# {}\n\nRunbook `{}`.\n", runbook.title, runbook.name);
    for (n, step) in runbook.steps.iter().enumerate() {
        let _ = write!(text, "\n## {}. {}\n\n", n + 1, step.name);
        match &step.does {
            Does::Adapter(uses) => {
                let kind = registry::kinds().get(uses);
                let about = kind.map_or("", |k| k.summary).trim_end_matches('.');
                let _ = writeln!(text, "- step `{}` uses `{uses}`: {about}", step.id);
            }
            Does::Person(instructions) => {
                let _ = writeln!(
                    text,
                    "- step `{}` is done by a person: {}",
                    step.id,
                    instructions.trim()
                );
            }
        }
        for line in &step.lines {
            let _ = writeln!(text, "- {line}");
        }
    }
    text
}
