//! The ready-made texts, and how a template's variables are filled in.

use crate::model::{
    announcement::{Announcement, Phase},
    service::{Announcements, Template},
};

/// What is said when the last message knows of no loss.
const NO_LOSS: &str = "No loss of data is known.";

/// The template of a phase: the document's, or the ready-made one.
#[must_use]
pub fn of(announcements: &Announcements, phase: Phase) -> Template {
    announcements
        .templates
        .get(&phase)
        .cloned()
        .unwrap_or_else(|| ready_made(phase))
}

/// The text for a phase where the document has none of its own. It names the state, the beginning, what customers
/// see, what works now, what is known of data and the next update; never a repair time, a cause or a host.
#[must_use]
pub fn ready_made(phase: Phase) -> Template {
    let (subject, first, short) = match phase {
        Phase::Investigating => (
            "{service}: we are looking into a problem",
            "We are looking into a problem with {service}. It began at {started}.",
            "{service}: we are looking into a problem that began at {started}.",
        ),
        Phase::FailingOver => (
            "{service}: we are moving to our standby site",
            "{service} has not worked as it should since {started}. We are moving it to our standby site.",
            "{service} has not worked as it should since {started}. We are moving it to our standby site.",
        ),
        Phase::OnStandby => (
            "{service} works again, from our standby site",
            "{service} works again, from our standby site. The problem began at {started}.",
            "{service} works again, from our standby site. The problem began at {started}.",
        ),
        Phase::Recovered => (
            "{service} works as usual again",
            "{service} works as usual again. The problem that began at {started} is over.",
            "{service} works as usual again. The problem that began at {started} is over.",
        ),
        Phase::Correction => (
            "{service}: a correction",
            "Our last message about {service} was wrong. We are sorry, and are checking what is right.",
            "Our last message about {service} was wrong. We are sorry, and are checking what is right.",
        ),
        Phase::Maintenance => (
            "{service}: planned maintenance",
            "We are doing planned maintenance on {service}. It began at {started}; a short interruption is possible.",
            "{service}: planned maintenance since {started}. A short interruption is possible.",
        ),
        Phase::MaintenanceOver => (
            "{service}: the planned maintenance is over",
            "The planned maintenance on {service} that began at {started} is over.",
            "{service}: the planned maintenance that began at {started} is over.",
        ),
    };
    let symptom = match phase {
        Phase::Investigating | Phase::FailingOver | Phase::Correction => "{symptom}",
        // It works again: what customers saw is told as what was.
        Phase::OnStandby | Phase::Recovered => "The problem was: {symptom}",
        Phase::Maintenance | Phase::MaintenanceOver => "",
    };
    let symptom = if symptom.is_empty() {
        String::new()
    } else {
        format!("{symptom}\n")
    };
    Template {
        subject: Some(subject.to_owned()),
        text: format!(
            "{first}\n{symptom}Use this address now: {{fallbackUrl}}\n{{dataSafety}}\n\
             The next update comes by {{nextUpdate}}.\nStatus page: {{statusUrl}}\nIncident {{incident}}"
        ),
        short: Some(format!(
            "{short}\n{symptom}Use this address now: {{fallbackUrl}}\n{{dataSafety}}\n\
             Next update by {{nextUpdate}}.\nIncident {{incident}}"
        )),
    }
}

/// Fills the variables in. A line is left out where it holds variables and all of them are empty.
#[must_use]
pub fn fill(template: &str, announcement: &Announcement) -> String {
    let lines: Vec<String> = template
        .lines()
        .filter_map(|line| fill_line(line, announcement))
        .collect();
    lines.join("\n").trim().to_owned()
}

fn fill_line(line: &str, announcement: &Announcement) -> Option<String> {
    let mut out = String::with_capacity(line.len() * 2);
    let (mut variables, mut empty) = (0, 0);
    let mut rest = line;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let name = rest.find('}').map(|close| &rest[1..close]);
        let value = name.and_then(|name| value(name, announcement).map(|value| (name, value)));
        if let Some((name, value)) = value {
            variables += 1;
            empty += usize::from(value.is_empty());
            out.push_str(&value);
            rest = &rest[name.len() + 2..];
        } else {
            out.push('{');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    (variables == 0 || empty < variables).then(|| out.trim_end().to_owned())
}

/// The value of a variable; `None` where the name is none of [`Template::VARIABLES`].
fn value(name: &str, a: &Announcement) -> Option<String> {
    Some(match name {
        "service" => a.title.clone(),
        "symptom" => a.symptom.trim().to_owned(),
        "started" => a.started.date(),
        "fallbackUrl" => a.fallback_url.clone().unwrap_or_default(),
        "statusUrl" => a.status_url.clone().unwrap_or_default(),
        "nextUpdate" => next_update(a),
        "dataSafety" => data_safety(a),
        "incident" => a.incident.to_string(),
        "phase" => a.phase.to_string(),
        _ => return None,
    })
}

/// When the next update comes; where they come less often than before, that as well.
fn next_update(a: &Announcement) -> String {
    let Some(at) = a.next_update else {
        return String::new();
    };
    match a.less_often {
        Some(every) => format!("{}, and from then on every {every}", at.date()),
        None => at.date(),
    }
}

/// Said only where it is known; the last message says at least that no loss is known.
fn data_safety(a: &Announcement) -> String {
    match (&a.data_safety, a.phase) {
        (Some(known), _) => known.trim().to_owned(),
        (None, Phase::Recovered) => NO_LOSS.to_owned(),
        (
            None,
            Phase::Investigating
            | Phase::FailingOver
            | Phase::OnStandby
            | Phase::Correction
            | Phase::Maintenance
            | Phase::MaintenanceOver,
        ) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::sample;

    #[test]
    fn a_line_of_empty_variables_is_left_out() {
        let mut a = sample::announcement(Phase::FailingOver);
        a.fallback_url = None;
        a.data_safety = None;
        let text = fill(
            "{service} since {started}\nUse {fallbackUrl}\nA line without any\nBoth {fallbackUrl} {incident}\n{dataSafety}",
            &a,
        );
        assert_eq!(
            text,
            "Shop since 2026-11-21 14:03 UTC\nA line without any\nBoth  shop-i7"
        );
    }

    #[test]
    fn whoever_is_told_less_often_hears_of_it() {
        let mut a = sample::announcement(Phase::Investigating);
        let line = "The next update comes by {nextUpdate}.";
        assert_eq!(
            fill(line, &a),
            "The next update comes by 2026-11-21 14:43 UTC."
        );
        a.less_often = Some(crate::model::span::Span::from_secs(3600));
        assert_eq!(
            fill(line, &a),
            "The next update comes by 2026-11-21 14:43 UTC, and from then on every 1h."
        );
        a.next_update = None;
        assert_eq!(fill(line, &a), "");
    }

    #[test]
    fn braces_that_are_no_variable_stay() {
        let a = sample::announcement(Phase::OnStandby);
        assert_eq!(
            fill("{not} {{service}} { {phase", &a),
            "{not} {Shop} { {phase"
        );
    }

    #[test]
    fn a_value_is_not_filled_in_twice() {
        let mut a = sample::announcement(Phase::OnStandby);
        a.symptom = "{incident}".to_owned();
        assert_eq!(fill("{symptom}", &a), "{incident}");
    }

    #[test]
    fn the_last_message_says_that_no_loss_is_known() {
        let mut a = sample::announcement(Phase::Recovered);
        a.data_safety = None;
        assert!(fill(&ready_made(Phase::Recovered).text, &a).contains(NO_LOSS));
        a.phase = Phase::FailingOver;
        assert!(!fill(&ready_made(Phase::FailingOver).text, &a).contains("data"));
    }

    #[test]
    fn what_is_over_is_not_told_as_what_is() {
        let line = |phase| {
            let text = fill(&ready_made(phase).text, &sample::announcement(phase));
            text.lines().nth(1).unwrap().to_owned()
        };
        assert_eq!(line(Phase::FailingOver), "Orders cannot be placed.");
        assert_eq!(
            line(Phase::OnStandby),
            "The problem was: Orders cannot be placed."
        );
    }

    #[test]
    fn the_ready_made_texts_use_only_known_variables() {
        let a = sample::announcement(Phase::OnStandby);
        for phase in [
            Phase::Investigating,
            Phase::FailingOver,
            Phase::OnStandby,
            Phase::Recovered,
            Phase::Correction,
        ] {
            let t = ready_made(phase);
            for text in [Some(t.text), t.short, t.subject].into_iter().flatten() {
                let filled = fill(&text, &a);
                assert!(!filled.contains(['{', '}']), "{filled}");
            }
        }
    }
}
