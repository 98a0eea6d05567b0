//! Clocks: how far those of the sites' servers are from this host's. Signed requests, certificates and the age of what
//! a standby replayed hang on them.

use futures::future::join_all;

use super::server;
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        service::Service,
        span::Span,
        time::Time,
    },
    port::{guard::Guards, kind::Wiring, runtime::SharedRuntime},
};

/// From here on signatures are refused sooner or later: S3 allows 15 minutes, TSIG five, observers less.
const FAR_MS: u64 = 60_000;
/// A report is under way for so long at most, or it is a late one.
const WIRE_MS: i64 = 100;
/// What a guard said longer ago says nothing of now.
const FRESH: Span = Span::from_secs(15);
/// `Date` counts in seconds.
const DATE_MS: i64 = 500;

/// An item for a clock that is so far ahead, and may be so much off that.
#[must_use]
pub fn item(name: &str, whose: &str, (skew, error): (i64, i64), max: Span) -> CheckItem {
    let name = format!("clock/{name}");
    let apart = skew.unsigned_abs().saturating_sub(error.unsigned_abs());
    let way = if skew < 0 { "behind" } else { "ahead of" };
    let text = format!(
        "the clock of {whose} is {} ms {way} this host's (± {error} ms)",
        skew.unsigned_abs()
    );
    if apart <= max.as_millis() {
        return CheckItem::ok(name, text);
    }
    let status = if apart >= FAR_MS {
        CheckStatus::Fail
    } else {
        CheckStatus::Warn
    };
    CheckItem::bad(
        name,
        status,
        format!("{text}, more than {max}: signed requests may be refused, and lag is told wrongly"),
        "let NTP set the clocks of both hosts",
    )
}

/// The clocks of the guards' hosts, as their last reports have them. One that is not heard is left out: the guard has
/// an item of its own.
#[must_use]
pub fn guards(service: &Service, guards: &dyn Guards, now: Time) -> Vec<CheckItem> {
    let sites = service.guards.iter().flat_map(|g| g.sites.keys());
    let seen = sites.filter_map(|site| {
        let heard = guards.heard(site).filter(|h| h.age < FRESH)?;
        let shown = heard
            .said
            .as_millis()
            .checked_add(heard.report.seen.wall?)?;
        let at = now.before(heard.age);
        let skew = (shown - at.as_millis(), WIRE_MS);
        let whose = format!("the guard's host at {site}");
        Some(item(
            &format!("{site}/guard"),
            &whose,
            skew,
            service.readiness.max_skew,
        ))
    });
    seen.collect()
}

/// The clocks of the HTTP servers that the service's probes look at, as their answers have them. One that does not tell
/// is left out: whether it answers is its probe's business.
pub async fn servers(service: &Service, wiring: &Wiring) -> Vec<CheckItem> {
    let urls = service
        .components
        .iter()
        .flat_map(|c| &c.probes)
        .filter_map(|p| {
            let site = p.site.as_ref().filter(|_| !p.cold)?;
            let url = p.action.with.get("url")?.as_str()?;
            (p.action.uses.as_str() == "probe/http").then_some((site, url))
        });
    let mut first = std::collections::BTreeMap::new();
    for (site, url) in urls {
        first.entry(site).or_insert(url);
    }
    let asked = first.into_iter().map(|(site, url)| async move {
        let skew = date(wiring, url).await?;
        let whose = format!("the HTTP server at {site}");
        Some(item(
            &format!("{site}/http"),
            &whose,
            skew,
            service.readiness.max_skew,
        ))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn date(wiring: &Wiring, url: &str) -> Option<(i64, i64)> {
    let runtime: &SharedRuntime = &wiring.runtime;
    let before = runtime.now();
    let answer = wiring.http.get(url).send().await.ok()?;
    let after = runtime.now();
    let shown = answer.headers().get("date")?.to_str().ok()?;
    shown_at(shown, before, after)
}

fn shown_at(date: &str, before: Time, after: Time) -> Option<(i64, i64)> {
    let shown = jiff::fmt::rfc2822::parse(date).ok()?;
    let shown = shown.timestamp().as_millisecond().checked_add(DATE_MS)?;
    let (skew, error) = server::skew(shown, before, after);
    Some((skew, error + DATE_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_is_certain_of_it() {
        let max = Span::from_secs(1);
        let of = |skew, error| item("ham", "ham", (skew, error), max);
        assert_eq!(of(900, 5).status, CheckStatus::Ok);
        assert_eq!(of(-1_004, 5).status, CheckStatus::Ok);
        assert_eq!(of(1_400, 5).status, CheckStatus::Warn);
        assert_eq!(of(-1_400, 500).status, CheckStatus::Ok);
        assert_eq!(of(-61_000, 5).status, CheckStatus::Fail);
        assert!(of(-1_400, 5).detail.contains("1400 ms behind"));
    }

    #[test]
    fn a_date_of_http_is_a_moment() {
        let at = Time::parse("2026-11-22T20:00:00.200Z").unwrap();
        let seen = shown_at("Sun, 22 Nov 2026 20:00:00 GMT", at, at);
        assert_eq!(seen, Some((300, 501)));
        assert_eq!(shown_at("soon", at, at), None);
    }
}
