//! What a look says about readiness: items of `failover check`, and certificates that end soon.

use crate::model::{
    check::{CheckItem, CheckStatus},
    observation::{Look, Sight},
    span::Span,
    time::Time,
};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Adds the certificate's end to the detail where it is near.
pub(super) fn mention_expiry(look: &mut Look, now: Time, warn_before: Span) {
    if look.sight != Sight::Up {
        return;
    }
    if let Some(left) = ending(look, now, warn_before) {
        look.detail.push_str(", certificate ends ");
        look.detail.push_str(&left);
    }
}

/// One item for the look itself, one for the certificate where there is one.
pub(super) fn items(name: &str, look: &Look, now: Time, warn_before: Span) -> Vec<CheckItem> {
    let mut items = vec![match look.sight {
        Sight::Up => CheckItem::ok(name, &look.detail),
        Sight::Down => CheckItem::bad(
            name,
            CheckStatus::Fail,
            &look.detail,
            "bring up what the probe looks at, or correct the probe's settings",
        ),
        Sight::Unknown => CheckItem::bad(
            name,
            CheckStatus::Unknown,
            &look.detail,
            "correct this vantage point's own network or settings",
        ),
    }];
    if let Some(expires) = look.facts.certificate_expires {
        let name = format!("{name} certificate");
        items.push(match ending(look, now, warn_before) {
            Some(left) => CheckItem::bad(
                name,
                CheckStatus::Warn,
                format!("ends {left}"),
                "renew the certificate; its automatic renewal seems to have failed",
            ),
            None => CheckItem::ok(name, format!("ends at {}", expires.date())),
        });
    }
    items
}

fn ending(look: &Look, now: Time, warn_before: Span) -> Option<String> {
    let expires = look.facts.certificate_expires?;
    if expires > now.after(warn_before) {
        return None;
    }
    let days = expires.since(now).as_millis() / DAY_MS;
    Some(match days {
        0 if expires <= now => format!("before now, at {}", expires.date()),
        0 => format!("within a day, at {}", expires.date()),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_mentioned_only_when_it_ends_soon() {
        let now = Time::from_millis(0);
        let mut look = Look::new(Sight::Up, "HTTP 200 in 4 ms");
        look.facts.certificate_expires = Some(now.after(Span::from_secs(9 * 24 * 3600 + 5)));
        let mut near = look.clone();
        mention_expiry(&mut near, now, Span::from_secs(14 * 24 * 3600));
        assert_eq!(near.detail, "HTTP 200 in 4 ms, certificate ends in 9 days");
        mention_expiry(&mut look, now, Span::from_secs(24 * 3600));
        assert_eq!(look.detail, "HTTP 200 in 4 ms");
    }

    #[test]
    fn what_cannot_be_told_is_not_green() {
        let look = Look::new(Sight::Unknown, "this host has no route to it");
        let items = items("probe/http u", &look, Time::default(), Span::ZERO);
        assert_eq!(items[0].status, CheckStatus::Unknown);
    }
}
