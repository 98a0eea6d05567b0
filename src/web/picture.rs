//! Small pictures as SVG: lines of what was measured, and the budget as one bar.

use maud::{Markup, html};

use super::course::{Line, POINTS};

/// Width and height of a line's picture, in its own units.
const WIDE: f64 = 120.0;
const HIGH: f64 = 28.0;

/// A line of what was measured. Where nothing was, it has a gap. It says in words what a person would see in it.
#[must_use]
pub fn line(line: &Line, what: &str, unit: &str) -> Markup {
    let values: Vec<f64> = line.iter().flatten().copied().collect();
    let Some(most) = values.iter().copied().reduce(f64::max) else {
        return html! { span class="quiet" { "nothing measured" } };
    };
    let now = match line.back().copied().flatten() {
        Some(now) => format!("{} {unit} now", figure(now)),
        None => "not measured now".to_owned(),
    };
    let words = format!("{what}: {now}, at most {} {unit}", figure(most));
    let view = format!("0 0 {WIDE} {HIGH}");
    html! {
        svg class="line" role="img" aria-label=(words) viewBox=(view) preserveAspectRatio="none" {
            title { (words) }
            @for run in runs(line, most) { polyline points=(run) {} }
        }
    }
}

/// The last value of a line, for people.
#[must_use]
pub fn latest(line: &Line, unit: &str) -> Option<String> {
    let value = line.back().copied().flatten()?;
    Some(format!("{} {unit}", figure(value)))
}

/// The points of each stretch without a gap.
fn runs(line: &Line, most: f64) -> Vec<String> {
    let step = WIDE / count(POINTS - 1);
    // The newest stands at the right edge, however few there are.
    let first = POINTS.saturating_sub(line.len());
    let height = |value: f64| {
        if most > 0.0 {
            HIGH - 2.0 - value / most * (HIGH - 4.0)
        } else {
            HIGH - 2.0
        }
    };
    let mut runs = vec![Vec::new()];
    for (at, value) in line.iter().enumerate() {
        match (value, runs.last_mut()) {
            (Some(value), Some(run)) => {
                run.push(format!(
                    "{:.1},{:.1}",
                    count(first + at) * step,
                    height(*value)
                ));
            }
            (None, _) | (_, None) => runs.push(Vec::new()),
        }
    }
    let mut runs: Vec<Vec<String>> = runs.into_iter().filter(|run| !run.is_empty()).collect();
    for run in &mut runs {
        if let [only] = run.as_slice() {
            // A line of one point would not be seen.
            let again = only.clone();
            run.push(again);
        }
    }
    runs.into_iter().map(|run| run.join(" ")).collect()
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::MAX, f64::from)
}

fn figure(value: f64) -> String {
    if value >= 10.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// A part of the bar: its name and what it takes, in milliseconds.
pub type Part<'a> = (&'a str, u64);

/// What each part of the way takes, against what was promised, as one bar.
#[must_use]
pub fn budget(parts: &[Part<'_>], promised: u64, words: &str) -> Markup {
    let total: u64 = parts.iter().map(|(_, ms)| ms).sum();
    let whole = total.max(promised).max(1);
    let share = |ms: u64| 1000 * ms / whole;
    let mut at = 0;
    let bars: Vec<_> = parts
        .iter()
        .map(|(name, ms)| {
            let (from, wide) = (share(at), share(*ms).max(1));
            at += ms;
            (*name, from, wide)
        })
        .collect();
    let limit = share(promised);
    html! {
        svg class="budget" role="img" aria-label=(words) viewBox="0 0 1000 24" preserveAspectRatio="none" {
            title { (words) }
            rect class="promised" x="0" y="8" width=(limit) height="8" {}
            @for (name, from, wide) in bars {
                @let within = wide.min(limit.saturating_sub(from));
                @if within > 0 { (bar("share", name, from, within)) }
                @if wide > within { (bar("beyond", name, from + within, wide - within)) }
            }
            rect class="limit" x=(limit.saturating_sub(4)) y="0" width="4" height="24" {}
        }
    }
}

fn bar(class: &str, name: &str, from: u64, wide: u64) -> Markup {
    html! { rect class=(class) x=(from) y="3" width=(wide) height="18" { title { (name) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_gap_and_no_zero() {
        let line: Line = [Some(1.0), Some(2.0), None, Some(4.0), None].into();
        let picture = self::line(&line, "latency", "ms").into_string();
        assert_eq!(picture.matches("<polyline").count(), 2, "{picture}");
        assert!(
            picture.contains("latency: not measured now, at most 4.0 ms"),
            "{picture}"
        );
        assert!(picture.contains("119.5,2.0 119.5,2.0"), "{picture}");
    }

    #[test]
    fn nothing_measured_is_said() {
        let none: Line = [None, None].into();
        assert!(
            line(&none, "lag", "s")
                .into_string()
                .contains("nothing measured")
        );
        let zero: Line = [Some(0.0), Some(0.0)].into();
        assert!(
            line(&zero, "lag", "s")
                .into_string()
                .contains("lag: 0 s now, at most 0 s")
        );
    }

    #[test]
    fn a_budget_that_is_overdrawn_reaches_beyond_its_limit() {
        let bar = budget(&[("detect", 100), ("fence", 300)], 200, "too much").into_string();
        assert!(bar.contains(r#"class="limit" x="496""#), "{bar}");
        assert!(
            bar.contains(r#"class="share" x="250" y="3" width="250""#),
            "{bar}"
        );
        assert!(
            bar.contains(r#"class="beyond" x="500" y="3" width="500""#),
            "{bar}"
        );
    }
}
