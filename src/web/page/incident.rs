//! The open incident: who does what in it, and how it is handed over.

use maud::{Markup, html};

use super::{Part, moment, service::View};
use crate::model::{approval::Role, duty::Duty, id::IncidentId};

/// The incident; nothing where none is open.
#[must_use]
pub fn part(view: &View<'_>) -> Part {
    let body = view.report.incident.as_ref().map(|id| body(view, id));
    Part::new("incident", "Incident", body)
}

fn body(view: &View<'_>, id: &IncidentId) -> Markup {
    let report = &view.report;
    let me = &view.visitor.caller.name;
    html! {
        p {
            strong { (id) }
            @if let Some(since) = report.since { ", since " (moment(since)) }
            @if let Some(by) = &report.declared { ", declared by " (by) }
            @if let Some(phase) = report.phase { "; customers heard last: " (phase.to_string()) }
            @if let Some(next) = report.next_update { "; they are to hear again by " (moment(next)) }
        }
        table {
            caption class="unseen" { "Who does what" }
            thead { tr { th scope="col" { "Duty" } th scope="col" { "Who" } } }
            tbody {
                @for duty in Duty::ALL {
                    tr {
                        th scope="row" { (duty) }
                        td { @match report.duties.get(&duty) {
                            Some(who) => { (who) }
                            None => { span class="soft" { "nobody" } }
                        } }
                    }
                }
            }
        }
        @if let Some(asked) = &report.offered_to {
            p { (asked) " is asked to lead it." }
            @if asked == me {
                (view.form("accept", &html! { button type="submit" { "Accept and lead" } }))
            }
        }
        @if view.may(Role::Operator) {
            details id="duties" {
                summary { "Duties, remarks and the end of it" }
                (view.form("duty", &html! {
                    label for="duty" { "Duty" }
                    select id="duty" name="duty" { @for duty in Duty::ALL { option value=(duty) { (duty) } } }
                    (people(view, "duty-person", "Who"))
                    button class="quiet" type="submit" { "Give the duty" }
                }))
                (view.form("hand-over", &html! {
                    (people(view, "lead-person", "Who is to lead"))
                    button class="quiet" type="submit" { "Ask to lead" }
                }))
                (view.form("resolve", &html! {
                    label for="resolve-reason" { "Why it is over" }
                    input id="resolve-reason" name="reason" type="text" required maxlength="500" autocomplete="off";
                    button class="quiet" type="submit" { "Resolve the incident" }
                }))
            }
        }
    }
}

fn people(view: &View<'_>, id: &str, what: &str) -> Markup {
    let me = &view.visitor.caller.name;
    html! {
        label for=(id) { (what) }
        select id=(id) name="person" {
            @for member in &view.team {
                option value=(member.name) selected[member.name == *me] {
                    (member.name)
                    @if let Some(phone) = &member.phone { ", " (phone) }
                }
            }
        }
    }
}
