//! `status`, `explain`, `plan` and `check`: they look and change nothing.

use std::fmt::Write as _;

use owo_colors::Style;

use super::{arguments, client::Client, offline::Offline, output::Output, place::Place};
use crate::{
    decide::explain::{AskReport, Report, RunReport},
    desk::message::{Answer, PlanView, Request},
    error::Error,
    model::{
        check::{CheckItem, CheckStatus},
        id::ServiceName,
        observation::Sight,
        plan::{Action, RunKind},
        record::ForecastPart,
        span::Span,
        verdict::Verdict,
    },
};

/// `failover status`.
///
/// # Errors
/// Where no controller answers, or it does not know the service.
pub async fn status(args: &arguments::Status, place: &Place, output: Output) -> Result<(), Error> {
    let service = args.service.as_deref().map(ServiceName::from);
    let mut client = Client::connect(place).await?;
    let reports = reports(&mut client, service.clone()).await?;
    if output.json() && !args.watch {
        return output.value(&serde_json::json!({ "services": reports }));
    }
    for (n, report) in reports.iter().enumerate() {
        if n > 0 && !output.json() {
            output.line("")?;
        }
        if output.json() {
            output.value_line(report)?;
        } else {
            output.text(&overview(report, output))?;
        }
    }
    if args.watch {
        super::watch::Watcher::connect(place, service)
            .await?
            .follow(output)
            .await?;
    }
    Ok(())
}

/// `failover explain`.
///
/// # Errors
/// Where no controller answers, or it does not know the service.
pub async fn explain(
    args: &arguments::Explain,
    place: &Place,
    output: Output,
) -> Result<(), Error> {
    let mut client = Client::connect(place).await?;
    let service = ServiceName::from(args.service.as_str());
    for report in reports(&mut client, Some(service)).await? {
        if output.json() {
            output.value(&report)?;
        } else {
            output.text(&explanation(&report, output))?;
        }
    }
    Ok(())
}

/// `failover plan`.
///
/// # Errors
/// Where no plan can be made, or no controller answers and no documents are given.
pub async fn plan(args: &arguments::Plan, place: &Place, output: Output) -> Result<(), Error> {
    let service = ServiceName::from(args.service.as_str());
    let kind = run_kind(args.kind);
    let to = args.to.as_deref().map(Into::into);
    let view = if args.file.is_empty() {
        let mut client = Client::connect(place).await?;
        plan_of(&mut client, service, kind, to).await?
    } else {
        let offline = Offline::new(&args.file, &service, place, output)?;
        offline.plan(kind, to.as_ref())?
    };
    if output.json() {
        output.value(&view)
    } else {
        output.text(&plan_text(&view, output))
    }
}

/// `failover check`.
///
/// # Errors
/// Where an item is not ok, or no controller answers and no documents are given.
pub async fn check(args: &arguments::Check, place: &Place, output: Output) -> Result<(), Error> {
    let service = args.service.as_deref().map(ServiceName::from);
    let mut checked: Vec<(ServiceName, Vec<CheckItem>)> = Vec::new();
    if args.file.is_empty() {
        let mut client = Client::connect(place).await?;
        for report in reports(&mut client, service).await? {
            let request = Request::Check {
                service: report.service.clone(),
            };
            if let Answer::Check(items) = client.ask(request, None).await? {
                checked.push((report.service, items));
            }
        }
    } else {
        for offline in Offline::all(&args.file, service.as_ref(), place, output)? {
            let name = offline.service().clone();
            checked.push((name, offline.check().await?));
        }
    }
    if output.json() {
        let services: Vec<_> = checked
            .iter()
            .map(|(service, items)| {
                serde_json::json!({ "service": service, "green": green(items), "items": items })
            })
            .collect();
        output.value(&serde_json::json!({ "services": services }))?;
    } else {
        for (service, items) in &checked {
            output.text(&check_text(service, items, output))?;
        }
    }
    let (bad, all) = checked
        .iter()
        .flat_map(|(_, items)| items)
        .fold((0, 0), |(bad, all), item| {
            (bad + usize::from(item.hinders()), all + 1)
        });
    if bad > 0 {
        let verb = if bad == 1 { "is" } else { "are" };
        return Err(Error::NotReady {
            failing: format!("{bad} of {all} items {verb}"),
        });
    }
    Ok(())
}

/// Where services stand.
///
/// # Errors
/// Where the controller does not know the service.
pub async fn reports(
    client: &mut Client,
    service: Option<ServiceName>,
) -> Result<Vec<Report>, Error> {
    let Answer::Status(reports) = client.ask(Request::Status { service }, None).await? else {
        return Err(unexpected());
    };
    Ok(reports)
}

/// The plan of a run, from the controller.
///
/// # Errors
/// Where no plan can be made.
pub async fn plan_of(
    client: &mut Client,
    service: ServiceName,
    kind: RunKind,
    to: Option<crate::model::id::SiteName>,
) -> Result<PlanView, Error> {
    let request = Request::Plan { service, kind, to };
    let Answer::Plan(view) = client.ask(request, None).await? else {
        return Err(unexpected());
    };
    Ok(*view)
}

/// An answer to another question than was asked: the other end is another program.
#[must_use]
pub fn unexpected() -> Error {
    Error::Lost {
        source: std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "an answer that does not fit the question",
        ),
    }
}

/// The kind of run that the command line names.
#[must_use]
pub fn run_kind(kind: arguments::Kind) -> RunKind {
    match kind {
        arguments::Kind::Failover => RunKind::Failover,
        arguments::Kind::Redirect => RunKind::Redirect,
        arguments::Kind::Switchover => RunKind::Switchover,
        arguments::Kind::Failback => RunKind::Failback,
    }
}

fn overview(report: &Report, output: Output) -> String {
    let bold = |text: &str| output.paint(text, Style::new().bold());
    let mut text = format!("{}  {}\n", bold(report.service.as_str()), report.headline);
    let mode = if report.mode == report.mode_wanted {
        report.mode.to_string()
    } else {
        format!(
            "{} (the documents ask for {})",
            report.mode, report.mode_wanted
        )
    };
    let _ = writeln!(text, "  mode       {mode}, epoch {}", report.epoch);
    if let Some(paused) = &report.paused {
        let _ = writeln!(text, "  paused     by {paused}");
    }
    for component in &report.components {
        let verdict = output.paint(&component.verdict.to_string(), color(component.verdict));
        let _ = writeln!(
            text,
            "  {:<10} {verdict}: {}",
            component.name, component.reason
        );
    }
    for guard in &report.guards {
        let _ = writeln!(text, "  guard      {}: {}", guard.site, guard.says);
    }
    let _ = writeln!(text, "  loss now   {}", report.loss);
    let _ = writeln!(text, "  readiness  {}", report.readiness);
    if let Some(next) = &report.next {
        let _ = writeln!(text, "  next       {next}");
    }
    if let Some(run) = &report.run {
        text.push_str(&run_text(run, report));
    }
    for ask in &report.asks {
        text.push_str(&ask_text(ask));
    }
    for page in &report.pages {
        let _ = writeln!(
            text,
            "  page       {} (since {})\n             {}\n             failover ack {}",
            page.title,
            page.raised.clock(),
            page.course(),
            page.id
        );
    }
    text
}

fn run_text(run: &RunReport, report: &Report) -> String {
    let state = match (&run.outcome, report.rto_left) {
        (Some(outcome), _) => format!("ended {outcome}: {}", run.reason),
        (None, Some(left)) => format!("{left} of the RTO left"),
        (None, None) => run.reason.clone(),
    };
    let mut text = format!(
        "  run        {}, {} from {} to {}: {state}\n",
        run.id, run.kind, run.from, run.to
    );
    for step in &run.steps {
        let took = step
            .took
            .map_or_else(|| format!("expected {}", step.expected), |t| t.to_string());
        let _ = write!(text, "    {:<9} {:<20} {took:<14}", step.state, step.id);
        let _ = writeln!(text, " {}", step.detail);
    }
    text
}

fn ask_text(ask: &AskReport) -> String {
    let mut text = format!(
        "  question   {}: {}, {} of {} approved, ends {}\n",
        ask.id,
        ask.about,
        ask.approved.len(),
        ask.required,
        ask.expires.clock()
    );
    for reason in &ask.reasons {
        let _ = writeln!(text, "             because {reason}");
    }
    let _ = writeln!(text, "             loss: {}", ask.loss);
    let _ = writeln!(text, "             {}", ask.forecast);
    let _ = writeln!(text, "             plan: {}", ask.plan);
    for command in &ask.commands {
        let _ = writeln!(text, "             {command}");
    }
    text
}

fn explanation(report: &Report, output: Output) -> String {
    let bold = |text: &str| output.paint(text, Style::new().bold());
    let mut text = format!("{}\n", bold(&report.headline));
    for sentence in &report.sentences {
        let _ = writeln!(text, "{sentence}");
    }
    let _ = writeln!(text, "\n{}", bold("What is seen"));
    for component in &report.components {
        let verdict = output.paint(&component.verdict.to_string(), color(component.verdict));
        let _ = writeln!(
            text,
            "  {}: {verdict}. {}",
            component.name, component.reason
        );
        for w in &component.witnesses {
            let sight = match w.sight {
                Sight::Up => Style::new().green(),
                Sight::Down => Style::new().red(),
                Sight::Unknown => Style::new().yellow(),
            };
            let _ = writeln!(
                text,
                "    {:<14} {:<14} {:<20} {} {} ago: {}",
                w.vantage,
                w.network,
                w.probe,
                output.paint(&format!("{:<7}", w.sight.to_string()), sight),
                w.age,
                w.detail
            );
        }
    }
    if !report.guards.is_empty() {
        let _ = writeln!(text, "\n{}", bold("What the guards say"));
        for guard in &report.guards {
            let _ = writeln!(text, "  {:<14} {}", guard.site, guard.says);
        }
    }
    // Without a plan there is nothing to weigh; the sentences above say why there is none.
    if !report.forecast.is_empty() {
        let _ = writeln!(text, "\n{}", bold("What the gates say to a failover now"));
        for gate in &report.gates {
            let _ = writeln!(text, "  {:<6} {:<12} {}", gate.says, gate.gate, gate.reason);
        }
        let _ = writeln!(text, "\n{}", bold("What it would take and cost"));
        text.push_str(&forecast_text(&report.forecast, report.rto));
        let _ = writeln!(text, "  expected loss: {}", report.loss);
    }
    let _ = writeln!(text, "  readiness: {}", report.readiness);
    for ask in &report.asks {
        text.push_str(&ask_text(ask));
    }
    text
}

/// A plan for people.
#[must_use]
pub fn plan_text(view: &PlanView, output: Output) -> String {
    let bold = |text: &str| output.paint(text, Style::new().bold());
    let plan = &view.plan;
    let mut text = format!(
        "{}\n  plan {}  runbook {}\n\n",
        bold(&format!(
            "{} of {} from {} to {}",
            plan.kind, plan.service, plan.from, plan.to
        )),
        view.hash,
        plan.runbook
    );
    for (n, step) in plan.steps.iter().enumerate() {
        let does = match &step.action {
            Action::Adapter(uses) => uses.uses.to_string(),
            Action::Manual { .. } => "a person".to_owned(),
        };
        let expected = view.expected.get(&step.id).copied().unwrap_or(step.timeout);
        let needs: Vec<_> = step.needs.iter().map(ToString::to_string).collect();
        let after = if needs.is_empty() {
            String::new()
        } else {
            format!("  after {}", needs.join(", "))
        };
        let after = match &step.instead_of {
            Some(first) => format!("{after}, should {first} fail"),
            None => after,
        };
        let _ = writeln!(
            text,
            "  {:>2}  {:<8} {:<18} {:<22} {:>6}{after}",
            n + 1,
            step.phase.to_string(),
            step.id,
            does,
            expected.to_string()
        );
    }
    let _ = writeln!(text, "\n{}", bold("Forecast"));
    text.push_str(&forecast_text(&view.forecast, view.rto));
    let _ = writeln!(text, "  expected loss: {}", view.loss);
    if !view.remarks.is_empty() {
        let _ = writeln!(text, "\n{}", bold("Remarks"));
        for remark in &view.remarks {
            let _ = writeln!(text, "  {}\n    fix: {}", remark.text, remark.fix);
        }
    }
    text
}

fn forecast_text(parts: &[ForecastPart], rto: Span) -> String {
    let mut text = String::new();
    let mut total = Span::ZERO;
    for part in parts {
        total = total.saturating_add(part.expected);
        let how = if part.rehearsed {
            "measured in drills"
        } else if part.measured {
            "measured"
        } else if part.expected == Span::ZERO {
            "beside the others"
        } else {
            "never measured: its time-out"
        };
        let _ = writeln!(
            text,
            "  {:<8} {:>8}  {how}",
            part.part,
            part.expected.to_string()
        );
    }
    let verdict = if total <= rto { "within" } else { "BEYOND" };
    let _ = writeln!(
        text,
        "  {:<8} {:>8}  {verdict} the RTO of {rto}",
        "total",
        total.to_string()
    );
    text
}

fn check_text(service: &ServiceName, items: &[CheckItem], output: Output) -> String {
    let word = if green(items) { "green" } else { "not green" };
    let mut text = output.paint(&format!("{service}: {word}"), Style::new().bold());
    text.push('\n');
    let widest = items
        .iter()
        .map(|i| i.name.len())
        .max()
        .unwrap_or(0)
        .min(36);
    for item in items {
        let style = match item.status {
            CheckStatus::Ok => Style::new().green(),
            CheckStatus::Warn | CheckStatus::Unknown => Style::new().yellow(),
            CheckStatus::Fail => Style::new().red(),
        };
        let status = output.paint(&format!("{:<7}", item.status.to_string()), style);
        let _ = writeln!(text, "  {status} {:<widest$}  {}", item.name, item.detail);
        if let Some(fix) = &item.fix {
            let _ = writeln!(text, "  {:<7} {:<widest$}  fix: {fix}", "", "");
        }
    }
    text
}

fn green(items: &[CheckItem]) -> bool {
    !items.iter().any(CheckItem::hinders)
}

fn color(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Healthy => Style::new().green(),
        Verdict::Degraded | Verdict::Suspect | Verdict::Inconclusive => Style::new().yellow(),
        Verdict::Down => Style::new().red().bold(),
    }
}
