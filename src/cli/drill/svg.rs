//! The pictures of a report: drawn as text, so that the page needs nothing else.

use maud::{Markup, html};

use super::figure::{brief, label, short};
use crate::{
    decide::drill::report::{Report, StepStatus},
    model::span::Span,
};

/// Width of a picture.
const WIDTH: f64 = 720.0;
/// Room for names at the left.
const NAMES: f64 = 214.0;
/// Characters that surely fit there.
const COLUMNS: usize = 30;
/// Room for figures at the right.
const FIGURES: f64 = 80.0;
/// Height of a row.
const ROW: f64 = 26.0;

/// How long a span is drawn where `whole` fills the picture.
fn length(span: Span, whole: Span) -> f64 {
    let whole = whole.as_secs_f64();
    if whole <= 0.0 {
        return 0.0;
    }
    (WIDTH - NAMES - FIGURES) * span.as_secs_f64() / whole
}

/// Recovery time part by part, one after the other, with the objective as a line.
pub fn recovery(report: &Report) -> Markup {
    let objective = report.rto.objective;
    let whole = report.rto.total.max(objective);
    let mut parts = Vec::new();
    let mut begin = Span::ZERO;
    for part in &report.rto.parts {
        parts.push((begin, part));
        begin = begin.saturating_add(part.counts());
    }
    let rows = u16::try_from(parts.len()).unwrap_or(u16::MAX);
    let bottom = f64::from(rows) * ROW;
    let limit = NAMES + length(objective, whole);
    let told = format!(
        "Recovery takes {} of {}: {}",
        brief(report.rto.total),
        brief(objective),
        parts
            .iter()
            .map(|(_, p)| format!("{} {}", label(p), brief(p.counts())))
            .collect::<Vec<_>>()
            .join(", ")
    );
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", bottom + 24.0)) role="img" aria-label=(told) {
            @for (n, (begin, part)) in (0_u16..).zip(&parts) {
                @let y = f64::from(n) * ROW;
                text x="0" y=(y + 17.0) { (label(part)) }
                rect class=(if part.measured.is_some() { "measured" } else { "forecast" })
                    x=(NAMES + length(*begin, whole)) y=(y + 4.0)
                    width=(length(part.counts(), whole).max(2.0)) height=(ROW - 8.0) rx="2" {}
                text class="figure" x=(WIDTH) y=(y + 17.0) { (brief(part.counts())) }
            }
            line class="limit" x1=(limit) x2=(limit) y1="0" y2=(bottom) {}
            text class="small" x=(limit) y=(bottom + 16.0) text-anchor="end" { "RTO " (brief(objective)) }
        }
    }
}

/// Which step was done when.
pub fn steps(report: &Report) -> Markup {
    let begun: Vec<_> = report
        .steps
        .iter()
        .filter_map(|s| Some((s, s.begun?, s.took.unwrap_or(Span::ZERO))))
        .collect();
    let ends = begun
        .iter()
        .map(|(_, begun, took)| begun.saturating_add(*took));
    let whole = ends.max().unwrap_or(Span::ZERO);
    let rows = u16::try_from(begun.len()).unwrap_or(u16::MAX);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", f64::from(rows) * ROW)) role="img"
            aria-label=(format!("The steps over {}", brief(whole))) {
            @for (n, (step, begun, took)) in (0_u16..).zip(&begun) {
                @let y = f64::from(n) * ROW;
                text x="0" y=(y + 17.0) { (short(&step.name, COLUMNS)) title { (step.name) } }
                rect class=(if step.result == StepStatus::Done { "measured" } else { "bad" })
                    x=(NAMES + length(*begun, whole)) y=(y + 4.0)
                    width=(length(*took, whole).max(2.0)) height=(ROW - 8.0) rx="2" {}
                text class="figure" x=(WIDTH) y=(y + 17.0) { (brief(*took)) }
            }
        }
    }
}
