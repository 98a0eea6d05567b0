//! Open questions with everything that one should know before answering, and pages.

use maud::{Markup, html};

use super::{Part, moment, service::View};
use crate::{
    decide::explain::AskReport,
    model::{approval::Role, id::PersonName},
};

/// The open questions.
#[must_use]
pub fn asks(view: &View<'_>) -> Part {
    let asks = &view.report.asks;
    let body = html! { @for ask in asks { (one(view, ask)) } };
    Part::new("asks", "Questions", (!asks.is_empty()).then_some(body))
}

fn one(view: &View<'_>, ask: &AskReport) -> Markup {
    let heading = format!("ask-{}", ask.id);
    html! {
        article class="ask" aria-labelledby=(heading) {
            h3 id=(heading) { (ask.about) }
            p class="soft" {
                (ask.id) ", plan " code { (ask.plan) }
                @if let Some(by) = &ask.requester { ", asked for by " (by) }
            }
            dl class="facts" {
                dt { "Why" }
                dd { ul { @for reason in &ask.reasons { li { (reason) } } } }
                dt { "Evidence" }
                dd { ul { @for component in &view.report.components {
                    li { strong { (component.name) } " " (component.verdict.to_string()) ": " (component.reason) }
                } } }
                dt { "Expected loss" } dd class="loss" { (ask.loss) }
                dt { "Forecast" } dd { (ask.forecast) }
                dt { "Answers" }
                dd {
                    (ask.approved.len()) " of " (ask.required) " said yes"
                    @if !ask.approved.is_empty() { ": " (names(&ask.approved)) }
                }
                dt { "If nobody answers" }
                dd {
                    @if ask.otherwise.is_empty() { "nothing happens" } @else { (ask.otherwise) }
                    ", at " (moment(ask.expires))
                }
            }
            (answers(view, ask))
        }
    }
}

fn names(people: &[PersonName]) -> String {
    let names: Vec<_> = people.iter().map(PersonName::as_str).collect();
    names.join(", ")
}

/// Both answers, for whoever may give them; for others why they may not.
fn answers(view: &View<'_>, ask: &AskReport) -> Markup {
    let me = &view.visitor.caller.name;
    let policy = &view.service.approvals;
    let glass = policy.break_glass.contains(me);
    let approves = view.may(Role::Approver) && (policy.approvers.contains(me) || glass);
    let field = format!("reason-{}", ask.id);
    if ask.approved.contains(me) {
        return html! { p class="soft" { "You said yes. Another person has to, as well." } };
    }
    if !view.may(Role::Operator) {
        return html! { p class="soft" { "Your role here is viewer: others answer this." } };
    }
    let body = html! {
        input type="hidden" name="ask" value=(ask.id);
        label for=(field) { "Reason" }
        // No single line: Enter in one would press the first button.
        textarea id=(field) name="reason" rows="2" maxlength="500" {}
        @if glass {
            label class="tick" {
                input type="checkbox" name="glass" value="yes";
                " Break the glass: decide alone. It is recorded, and everybody is told."
            }
        }
        div class="row" {
            @if approves {
                button type="submit" name="act" value="approve" { "Approve" }
            }
            button class="quiet" type="submit" name="act" value="deny" { "Deny" }
        }
        @if !approves {
            p class="soft" { "The approvals do not name you: you may only say no." }
        }
    };
    html! {
        form method="post" action={ "/services/" (view.service.name) "/act" } {
            (super::csrf(view.visitor))
            input type="hidden" name="back" value={ "/services/" (view.service.name) };
            (body)
        }
    }
}

/// Pages that nobody has acknowledged.
#[must_use]
pub fn pages(view: &View<'_>) -> Part {
    let pages = &view.report.pages;
    let body = html! {
        ul class="plain" {
            @for page in pages {
                li class="between" {
                    span { (page.title) " " span class="soft" { "(" (page.id) ", since " (moment(page.raised)) "); " (page.course()) } }
                    @if view.may(Role::Operator) {
                        (view.form("acknowledge", &html! {
                            input type="hidden" name="page" value=(page.id);
                            button class="quiet" type="submit" aria-label={ "Acknowledge " (page.id) } { "Acknowledge" }
                        }))
                    }
                }
            }
        }
    };
    Part::new("pages", "Pages", (!pages.is_empty()).then_some(body))
}
