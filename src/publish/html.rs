//! The page for people: status first, then the address that works, then what was said.
//!
//! It works without JavaScript, loads nothing, and reads well at 320 px, by ear and in the dark.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    style::{CSS, POLICY},
    view::{
        Availability, ComponentView, CutOver, Fallback, IncidentView, ServiceView, Status,
        StatusView,
    },
};
use crate::model::{announcement::Phase, span::Span, time::Time};

/// Past incidents that the page shows; `incidents.json` has more.
const PAST: usize = 15;

/// Seconds after which the page loads itself again while something is not as usual.
const REFRESH: u32 = 60;

/// The page as HTML.
#[must_use]
pub fn page(view: &StatusView) -> String {
    let headline = view.headline();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(*POLICY);
                @if view.unsettled() { meta http-equiv="refresh" content=(REFRESH); }
                meta name="color-scheme" content="light dark";
                title { (headline) " · " (view.title) }
                meta name="description" content=(headline);
                @if let Some(url) = &view.url { link rel="canonical" href=(url); }
                link rel="alternate" type="application/atom+xml" title="Updates" href="feed.atom";
                style { (PreEscaped(CSS)) }
            }
            body {
                a class="skip" href="#now" { "Skip to the current state" }
                header {
                    p class="brand" { (view.title) }
                    (track(view))
                }
                main id="now" {
                    (drills(view))
                    (now(view, &headline))
                    (parts(view))
                    (open_incidents(view))
                    (past_incidents(view))
                }
                (footer(view))
            }
        }
    }
    .into_string()
}

/// Two rails, the usual way above and the second below: intact, broken, or switched over.
fn track(view: &StatusView) -> Markup {
    let fallback = view.services.iter().any(|s| s.fallback.is_some());
    let (class, upper, lower, way) = if fallback {
        (
            "track works",
            "M150 10H600",
            "M0 42H100",
            "M0 10H90C130 10 130 42 170 42H600",
        )
    } else {
        match view.worst() {
            Status::Operational | Status::Maintenance => {
                ("track", "M0 10H600", "M0 42H600", "M0 10H600")
            }
            Status::Degraded | Status::PartialOutage => (
                "track dull",
                "M0 10H600",
                "M0 42H600",
                "M0 10H90M112 10H130M152 10H600",
            ),
            Status::MajorOutage => (
                "track cut",
                "M150 10H600",
                "M0 42H600",
                "M0 10H110M110 0V20",
            ),
        }
    };
    html! {
        svg class=(class) viewBox="0 0 600 52" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            path d=(upper) {}
            path d=(lower) {}
            path class="way" d=(way) {}
        }
    }
}

/// An exercise is called one, above everything else.
fn drills(view: &StatusView) -> Markup {
    html! {
        @for drill in view.incidents.iter().filter(|i| i.drill && i.ended.is_none()) {
            p class="drill" {
                "[DRILL] This is an exercise, not an outage: " (drill.title)
            }
        }
    }
}

fn now(view: &StatusView, headline: &str) -> Markup {
    let several = view.services.len() > 1;
    let next = view.services.iter().filter_map(|s| s.next_update).min();
    html! {
        section class="now" aria-labelledby="headline" {
            h1 id="headline" { (headline) }
            @for service in &view.services { (call(view, service)) }
            @for service in &view.services {
                (symptom(service, several))
                (helpless(service, several))
            }
            @if view.worst() == Status::Operational && view.open().next().is_none() {
                @if let Some(last) = view.just_ended() { (ended(view, last)) }
            }
            @if let Some(next) = next {
                p class="next" { "Next update by " (moment(view, next)) }
            }
            p class="asof" { "As of " (moment(view, view.generated)) }
        }
    }
}

/// What is wrong in customers' words; beside an address that works, it is said of the usual one, until that leads to
/// the same place.
fn symptom(service: &ServiceView, named: bool) -> Markup {
    let usual = service.fallback.is_some();
    let gone = usual && service.dns == Some(CutOver::Switched);
    html! {
        @if let Some(symptom) = &service.symptom {
            @if service.status != Status::Operational && !gone {
                p class="lead" {
                    @if named { strong { (service.title) } ": " }
                    @if usual { "At the usual address: " }
                    (symptom)
                }
            }
        }
    }
}

/// Says that there is nothing to say yet, where customers would look for an address.
fn helpless(service: &ServiceView, named: bool) -> Markup {
    html! {
        @if service.status >= Status::PartialOutage && service.fallback.is_none() {
            p class="lead" {
                "There is no other address to use "
                @if named { "for " (service.title) " " }
                "yet. It will stand here as soon as one is seen to work."
            }
        }
    }
}

fn ended(view: &StatusView, incident: &IncidentView) -> Markup {
    html! {
        p class="lead" {
            "The outage that began at " (moment(view, incident.started))
            @if let Some(end) = incident.ended { " ended at " (moment(view, end)) }
            ". " a href={ "#" (incident.id) } { "What happened" }
        }
    }
}

/// The address that works, as large as it can be.
fn call(view: &StatusView, service: &ServiceView) -> Markup {
    let Some(fallback) = &service.fallback else {
        return html! {};
    };
    let id = format!("use-{}", service.name);
    html! {
        div class="call" role="group" aria-labelledby=(id) {
            h2 id=(id) {
                "Use this address for " (service.title) " now"
            }
            (address(fallback))
            p {
                "Seen to work from outside at " (moment(view, fallback.verified)) "."
                @match service.dns {
                    Some(CutOver::Switching) => {
                        " Your usual address is being switched to it and may not work for you yet."
                    }
                    Some(CutOver::Switched) => { " Your usual address now leads there as well." }
                    Some(CutOver::Unchanged) | None => {}
                }
            }
        }
    }
}

/// A link only where it leads to the web.
fn address(fallback: &Fallback) -> Markup {
    let web = fallback.url.starts_with("https://") || fallback.url.starts_with("http://");
    html! {
        @if web {
            a class="url" href=(fallback.url) { (breakable(&fallback.url)) }
        } @else {
            p class="url" { (fallback.url) }
        }
    }
}

/// A URL that a narrow page breaks between its parts, not within a word.
fn breakable(url: &str) -> Markup {
    html! {
        @for part in url.split_inclusive(['/', '.', '-', '?', '&']) { (part) wbr; }
    }
}

fn parts(view: &StatusView) -> Markup {
    let several = view.services.len() > 1;
    html! {
        section aria-labelledby="parts" {
            h2 id="parts" { @if several { "Services" } @else { "In detail" } }
            @for service in &view.services {
                @if several {
                    h3 { (service.title) }
                }
                (figure(view, service))
                ul class="parts" {
                    @for component in &service.components { (part(component)) }
                    @if service.components.is_empty() {
                        li { span { (service.title) } (state(service.status)) }
                    }
                }
            }
        }
    }
}

fn part(component: &ComponentView) -> Markup {
    html! {
        li {
            span { (component.title) }
            (state(component.status))
            @if let Some(availability) = component.availability.as_ref().filter(|a| a.is_telling()) {
                (days(availability))
            }
        }
    }
}

/// The figure that is published, with what it is made of and what is promised.
fn figure(view: &StatusView, service: &ServiceView) -> Markup {
    let Some(measured) = service.availability.as_ref().filter(|a| a.is_telling()) else {
        return html! {};
    };
    let shortly = |span: &Span| *span > Span::ZERO;
    html! {
        p class="figure" {
            "Available " strong { (percent(measured.percent())) } " of the time since "
            (moment(view, measured.since))
            @if shortly(&measured.down) { ", down for " (duration(measured.down)) }
            @if shortly(&measured.maintenance) {
                ", planned maintenance of " (duration(measured.maintenance)) " apart"
            }
            @if let Some(promised) = service.promised { ". Promised: " (percent(promised)) }
            "."
        }
    }
}

fn days(availability: &Availability) -> Markup {
    html! {
        div class="past-days" {
            (percent(availability.percent()))
            @if availability.days.len() > 1 {
                div class="days" aria-hidden="true" {
                    @for day in &availability.days {
                        i class=(day.map_or("none", tone)) {}
                    }
                }
                span class="unseen" { (bad_days(&availability.days)) }
            }
        }
    }
}

/// What the row of days shows, for those who listen.
fn bad_days(days: &[Option<Status>]) -> String {
    let bad = days
        .iter()
        .filter(|d| d.is_some_and(|s| s >= Status::PartialOutage))
        .count();
    format!("{bad} of the last {} days had an outage", days.len())
}

/// `99.99 %`: up to three decimals, without idle zeros.
fn percent(value: f64) -> String {
    let digits = format!("{value:.3}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}\u{a0}%")
}

/// A status as a word, a shape and a colour: no one of them alone.
fn state(status: Status) -> Markup {
    let shape = match status {
        Status::Operational => "M2 8.5L6.5 13 14 3.5",
        Status::Maintenance => "M3 3H13V13H3Z",
        Status::Degraded => "M8 2L14.5 13.5H1.5Z",
        Status::PartialOutage => {
            "M8 1.5A6.5 6.5 0 1 0 8 14.5A6.5 6.5 0 1 0 8 1.5M3.5 12.5L12.5 3.5"
        }
        Status::MajorOutage => "M3 3L13 13M13 3L3 13",
    };
    html! {
        span class={ "state " (tone(status)) } {
            svg viewBox="0 0 16 16" aria-hidden="true" focusable="false" fill="none" stroke="currentColor" stroke-width="2.4" stroke-linecap="round" stroke-linejoin="round" {
                path d=(shape) {}
            }
            (status)
        }
    }
}

fn tone(status: Status) -> &'static str {
    match status {
        Status::Operational => "ok",
        Status::Maintenance => "info",
        Status::Degraded => "warn",
        Status::PartialOutage | Status::MajorOutage => "bad",
    }
}

fn open_incidents(view: &StatusView) -> Markup {
    let open: Vec<&IncidentView> = view
        .incidents
        .iter()
        .filter(|i| i.ended.is_none())
        .collect();
    html! {
        @if !open.is_empty() {
            section aria-labelledby="updates" {
                h2 id="updates" { "Updates" }
                @for incident in open {
                    article class="incident" id=(incident.id) {
                        h3 { (incident.marked_title()) }
                        p class="span" { "Since " (moment(view, incident.started)) }
                        (updates(view, incident))
                    }
                }
            }
        }
    }
}

fn past_incidents(view: &StatusView) -> Markup {
    let past: Vec<&IncidentView> = view
        .incidents
        .iter()
        .filter(|i| i.ended.is_some())
        .collect();
    html! {
        section aria-labelledby="past" {
            h2 id="past" { "Past incidents" }
            @if past.is_empty() {
                p class="quiet" { "None on record." }
            }
            @for (n, incident) in past.iter().take(PAST).enumerate() {
                details class="incident" id=(incident.id) open[n == 0] {
                    summary { h3 { (incident.marked_title()) } }
                    @if let Some(end) = incident.ended {
                        p class="span" {
                            (moment(view, incident.started)) " to " (moment(view, end))
                            ", " (lasted(incident.started, end))
                        }
                    }
                    (updates(view, incident))
                }
            }
        }
    }
}

fn updates(view: &StatusView, incident: &IncidentView) -> Markup {
    html! {
        @if incident.updates.is_empty() {
            p class="quiet" { "Nothing was announced." }
        } @else {
            ol class="updates" {
                @for update in &incident.updates {
                    li {
                        p {
                            span class="phase" { (phase(update.phase)) }
                            span class="at" { (moment(view, update.at)) }
                        }
                        p class="said" { (update.text) }
                    }
                }
            }
        }
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Investigating => "Investigating",
        Phase::FailingOver => "Failing over",
        Phase::OnStandby => "On standby",
        Phase::Recovered => "Recovered",
        Phase::Correction => "Correction",
        Phase::Maintenance => "Maintenance",
        Phase::MaintenanceOver => "Maintenance over",
    }
}

fn footer(view: &StatusView) -> Markup {
    html! {
        footer {
            p {
                "All times are UTC. "
                @if view.unsettled() { "This page loads itself again every minute." }
            }
            nav aria-label="Other formats" {
                a href="feed.atom" { "Atom feed" }
                a href="summary.json" { "summary.json" }
                a href="incidents.json" { "incidents.json" }
                a href=(if view.services.len() == 1 { "fallback.json" } else { "components.json" }) {
                    (if view.services.len() == 1 { "fallback.json" } else { "components.json" })
                }
            }
        }
    }
}

/// `14:03 UTC` on the day of the page, else with its date.
fn moment(view: &StatusView, at: Time) -> Markup {
    let date = at.date();
    let today = view.generated.date();
    let short = match date.split_once(' ') {
        Some((day, clock)) if today.starts_with(day) => clock,
        Some(_) | None => &date,
    };
    html! { time datetime=(at) { (short) } }
}

/// `17 minutes`, `2 hours 5 minutes`.
fn lasted(from: Time, to: Time) -> String {
    duration(to.since(from))
}

/// Below a minute in seconds, rounded up.
fn duration(span: Span) -> String {
    let seconds = span.as_millis().div_ceil(1000);
    let minutes = span.as_millis().div_ceil(60_000);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let say = |n: u64, unit: &str| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    match (hours, minutes) {
        _ if seconds < 60 => say(seconds, "second"),
        (0, m) => say(m, "minute"),
        (h, 0) => say(h, "hour"),
        (h, m) => format!("{} {}", say(h, "hour"), say(m, "minute")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::view::tests as views, *};

    /// Elements of HTML that have no end tag.
    const VOID: [&str; 3] = ["meta", "link", "wbr"];

    /// The start tags, after a check that every element is closed where it must be.
    fn tags(page: &str) -> Vec<String> {
        let body = page.strip_prefix("<!DOCTYPE html>").unwrap();
        let (mut open, mut all) = (Vec::new(), Vec::new());
        let mut rest = body;
        while let Some((text, after)) = rest.split_once('<') {
            assert!(!text.contains('>'), "a bare > in {text:?}");
            let (tag, after) = after.split_once('>').unwrap();
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "before {after:.60}");
                continue;
            }
            all.push(tag.to_owned());
            let name = tag.split(' ').next().unwrap();
            if name == "style" {
                rest = rest.split_once("</style>").unwrap().1;
            } else if !VOID.contains(&name) {
                open.push(name.to_owned());
            }
        }
        assert_eq!(open, Vec::<String>::new());
        all
    }

    fn all_views() -> [StatusView; 5] {
        let mut drill = views::outage();
        drill.incidents[0].drill = true;
        [
            views::normal(),
            views::outage(),
            views::on_standby(),
            views::recovered(),
            drill,
        ]
    }

    #[test]
    fn is_well_formed_with_landmarks_and_headings_in_order() {
        for view in all_views() {
            let tags = tags(&page(&view));
            let count = |name: &str| {
                tags.iter()
                    .filter(|t| t.split(' ').next() == Some(name))
                    .count()
            };
            for landmark in ["header", "main", "footer", "nav", "h1", "title"] {
                assert_eq!(count(landmark), 1, "{landmark}");
            }
            assert!(tags.contains(&"html lang=\"en\"".to_owned()));
            assert!(tags.contains(&"a class=\"skip\" href=\"#now\"".to_owned()));
            assert!(tags.contains(&"main id=\"now\"".to_owned()));
            let mut level = 0;
            for tag in &tags {
                let name = tag.split(' ').next().unwrap();
                if let Some(n) = name.strip_prefix('h').and_then(|n| n.parse::<u8>().ok()) {
                    assert!(n <= level + 1, "h{n} after h{level}");
                    level = n;
                }
            }
            assert_eq!(count("script") + count("img") + count("iframe"), 0);
            assert!(
                tags.iter()
                    .all(|t| !t.contains(" style=") && !t.contains(" on"))
            );
        }
    }

    #[test]
    fn ids_are_unique_and_every_label_and_anchor_leads_somewhere() {
        for view in all_views() {
            let tags = tags(&page(&view));
            let values = |key: &str| -> Vec<String> {
                let key = format!(" {key}=\"");
                tags.iter()
                    .filter_map(|t| t.split_once(key.as_str()))
                    .map(|(_, v)| v.split('"').next().unwrap().to_owned())
                    .collect()
            };
            let mut ids = values("id");
            for target in values("aria-labelledby") {
                assert!(ids.contains(&target), "{target}");
            }
            for anchor in values("href").iter().filter_map(|h| h.strip_prefix('#')) {
                assert!(ids.iter().any(|id| id == anchor), "{anchor}");
            }
            let all = ids.len();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), all);
        }
    }

    #[test]
    fn the_address_that_works_stands_before_everything_but_the_headline() {
        let page = page(&views::on_standby());
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
        let url = at("<a class=\"url\" href=\"https://standby.example.com/shop\">");
        assert!(at("works at another address</h1>") < url);
        assert!(url < at("In detail"));
        assert!(page.contains(
            "Seen to work from outside at <time datetime=\"2026-11-21T14:07:21.000Z\">14:07 UTC</time>."
        ));
        assert!(page.contains("is being switched"));
        assert!(
            page.contains("Next update by <time datetime=\"2026-11-21T14:25:00.000Z\">14:25 UTC")
        );
    }

    #[test]
    fn several_services_are_told_apart() {
        let mut view = views::on_standby();
        let mut mail = views::outage().services.remove(0);
        mail.name = "mail".into();
        mail.title = "Example Mail".into();
        view.services.push(mail);
        let page = page(&view);
        tags(&page);
        assert!(page.contains("<strong>Example Mail</strong>: The shop does not open"));
        assert!(page.contains("<strong>Example Shop</strong>: At the usual address: "));
        assert!(page.contains("no other address to use for Example Mail yet"));
        assert!(!page.contains("no other address to use for Example Shop"));
        assert!(page.contains("<h3>Example Mail</h3>"));
    }

    #[test]
    fn only_an_unsettled_page_loads_itself_again() {
        let refresh = "http-equiv=\"refresh\" content=\"60\"";
        for (view, expected) in [
            (views::normal(), false),
            (views::outage(), true),
            (views::on_standby(), true),
            (views::recovered(), false),
        ] {
            assert_eq!(page(&view).contains(refresh), expected);
        }
    }

    #[test]
    fn whatever_the_texts_hold_stays_text() {
        let evil = "</title><script>alert(1)</script>\" onload=\"x";
        let mut view = views::on_standby();
        view.title = evil.into();
        view.services[0].title = evil.into();
        view.services[0].symptom = Some(evil.into());
        view.services[0].components[0].title = evil.into();
        view.incidents[0].title = evil.into();
        view.incidents[0].updates[0].text = evil.into();
        view.services[0].fallback.as_mut().unwrap().url = "javascript:alert(1)".into();
        let page = page(&view);
        let tags = tags(&page);
        assert!(
            tags.iter()
                .all(|t| !t.starts_with("script") && !t.contains(" onload=\""))
        );
        assert!(!page.contains("href=\"javascript:"));
    }

    #[test]
    fn other_days_show_their_date() {
        let mut view = views::recovered();
        view.generated = views::at("23:00:00").after(crate::model::span::Span::from_secs(7200));
        let page = page(&view);
        assert!(page.contains(">2026-11-21 15:10 UTC</time>"));
        assert!(page.contains(">01:00 UTC</time>"));
        assert!(page.contains("1 hour 7 minutes"));
    }

    #[test]
    fn availability_is_shown_only_where_it_was_measured() {
        let mut view = views::normal();
        assert!(!page(&view).contains("class=\"past-days\""));
        assert!(!page(&view).contains("class=\"figure\""));
        let mut hour = views::measured();
        hour.up = Span::from_secs(3600);
        view.services[0].availability = Some(hour);
        assert!(!page(&view).contains("class=\"figure\""));
        view.services[0].components[0].availability = Some(views::measured());
        view.services[0].availability = Some(views::measured());
        view.services[0].promised = Some(99.9);
        let page = page(&view);
        assert!(page.contains("<div class=\"past-days\">99.93\u{a0}%<div"));
        assert!(page.contains(
            "<i class=\"none\"></i><i class=\"ok\"></i><i class=\"info\"></i><i class=\"bad\"></i>"
        ));
        assert!(page.contains("1 of the last 4 days had an outage"));
        assert!(page.contains(
            "Available <strong>99.93\u{a0}%</strong> of the time since <time datetime=\"2026-11-19T08:00:00.000Z\">\
             2026-11-19 08:00 UTC</time>, down for 2 minutes, planned maintenance of 10 minutes apart. \
             Promised: 99.9\u{a0}%."
        ));
        tags(&page);
    }
}
