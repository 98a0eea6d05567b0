//! A report as `JUnit` XML: each step, each injected fault, the RTO, the RPO and the clean-up are test cases.

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::Told;
use crate::{
    decide::drill::report::{Report, StepLine, StepStatus},
    error::Error,
    model::{drill::DrillOutcome, span::Span},
};

/// The report as XML.
///
/// # Errors
/// Where it cannot be written.
pub fn of(told: &Told) -> Result<String, Error> {
    let report = &told.report;
    let name = format!("failover drill {} of {}", report.policy, report.service);
    let mut suite = TestSuite::new(report.drill.to_string());
    for step in &report.steps {
        suite.add_test_case(case(report, step.id.as_str(), status(step), step.took));
    }
    for leg in &report.legs {
        for step in &leg.steps {
            let name = format!("{} to {}: {}", leg.kind, leg.to, step.id);
            suite.add_test_case(case(report, &name, status(step), step.took));
        }
        let wrong = leg.shortcomings(report.rto.objective);
        let came = match (&leg.run, wrong.as_slice()) {
            (None, _) => skipped("it was not begun"),
            (Some(_), []) => TestCaseStatus::success(),
            (Some(_), wrong) => failed(&wrong.join("; ")),
        };
        let name = format!("{} to {}", leg.kind, leg.to);
        suite.add_test_case(case(report, &name, came, leg.downtime));
    }
    for step in &report.not_exercised {
        suite.add_test_case(case(report, step.id.as_str(), skipped(&step.why), None));
    }
    for one in &report.injected {
        let status = match &one.wrong {
            Some(wrong) => failed(&format!("{wrong} ({})", one.came)),
            None => TestCaseStatus::success(),
        };
        let name = format!("no failover: {}", one.fault);
        suite.add_test_case(case(report, &name, status, None));
    }
    suite.add_test_case(rto(report));
    suite.add_test_case(rpo(report));
    let left = if told.left.is_empty() {
        TestCaseStatus::success()
    } else {
        failed(&told.left.join("; "))
    };
    suite.add_test_case(case(report, "nothing is left behind", left, None));
    let whole = match report.outcome {
        Some(DrillOutcome::Passed) => TestCaseStatus::success(),
        Some(DrillOutcome::Failed) => failed(&report.reasons.join("; ")),
        Some(DrillOutcome::BrokenOff) => broken(&report.reasons.join("; ")),
        None => skipped("it goes on"),
    };
    suite.add_test_case(case(report, "the drill is passed", whole, None));
    let mut document = Document::new(name);
    document.add_test_suite(suite);
    document
        .to_string()
        .map_err(|e| Error::Output(std::io::Error::other(e)))
}

fn status(step: &StepLine) -> TestCaseStatus {
    match step.result {
        StepStatus::Done => TestCaseStatus::success(),
        StepStatus::NotBegun | StepStatus::LeftOut => skipped(&step.evidence),
        StepStatus::Failed => failed(&step.evidence),
        StepStatus::Unclear => broken(&step.evidence),
    }
}

fn rto(report: &Report) -> TestCase {
    let (total, objective) = (report.rto.total, report.rto.objective);
    let status = if total <= objective {
        TestCaseStatus::success()
    } else {
        failed(&format!("recovery takes {total}, the RTO is {objective}"))
    };
    case(report, "recovery time objective", status, Some(total))
}

fn rpo(report: &Report) -> TestCase {
    let objective = report.rpo.objective;
    let status = match report.rpo.measured {
        None => skipped("it was not measured"),
        Some(age) if age <= objective => TestCaseStatus::success(),
        Some(age) => failed(&format!(
            "the newest data was {age} old, the RPO is {objective}"
        )),
    };
    case(report, "recovery point objective", status, None)
}

fn case(report: &Report, name: &str, status: TestCaseStatus, took: Option<Span>) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("{}.{}", report.service, report.policy));
    if let Some(took) = took {
        case.set_time(took.to_std());
    }
    case
}

fn failed(why: &str) -> TestCaseStatus {
    with(TestCaseStatus::non_success(NonSuccessKind::Failure), why)
}

fn broken(why: &str) -> TestCaseStatus {
    with(TestCaseStatus::non_success(NonSuccessKind::Error), why)
}

fn skipped(why: &str) -> TestCaseStatus {
    with(TestCaseStatus::skipped(), why)
}

fn with(mut status: TestCaseStatus, why: &str) -> TestCaseStatus {
    status.set_message(why.to_owned());
    status
}
