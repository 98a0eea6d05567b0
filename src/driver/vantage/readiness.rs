//! Readiness: an item for each observer.

use super::{
    Desk,
    known::{remote, slowest},
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        service::{Service, VantagePoint},
        span::Span,
    },
    port::cause,
    vantage::{key::Key, seat::Heard},
};

/// An observer's clock that is wrong by more is told: certificates are judged by it.
const CLOCK: u64 = 60_000;

/// What to do about one that is not heard.
const START: &str = "run `failover vantage` there, with this name and key, and the controller with --vantage-listen; \
                     its log says what it is refused for";

impl Desk {
    /// Readiness: an item for each observer of a service.
    #[must_use]
    pub fn check(&self, service: &Service) -> Vec<CheckItem> {
        let now = self.runtime.now();
        let items = remote(service).map(|(point, id)| {
            let life = slowest(service, point);
            if let Err(error) = Key::read(self.secrets.as_ref(), &id.key) {
                let detail = cause::in_full(&error);
                return bad(
                    point,
                    CheckStatus::Fail,
                    detail,
                    "give the controller the key that the observer signs with",
                );
            }
            let heard = self.known().seats.get(&id).and_then(|s| s.heard().cloned());
            match heard {
                Some(heard) => known_item(point, &heard, now.since(heard.at), life),
                None if now.since(self.began) <= life => bad(
                    point,
                    CheckStatus::Unknown,
                    "it has not reported yet, and this controller has just begun".to_owned(),
                    START,
                ),
                None => bad(
                    point,
                    CheckStatus::Fail,
                    format!(
                        "it has not reported in the {} since this controller began",
                        now.since(self.began)
                    ),
                    START,
                ),
            }
        });
        items.collect()
    }
}

/// Items for a check without a controller: nothing is heard of observers then.
#[must_use]
pub fn unheard(service: &Service) -> Vec<CheckItem> {
    let items = remote(service).map(|(point, _)| {
        let detail = "observers report to the running controller, not to this check".to_owned();
        let fix = "ask the controller: `failover check` without -f";
        bad(point, CheckStatus::Unknown, detail, fix)
    });
    items.collect()
}

fn known_item(point: &VantagePoint, heard: &Heard, silent: Span, life: Span) -> CheckItem {
    let ahead = if heard.ahead_ms < 0 {
        "behind"
    } else {
        "ahead"
    };
    let skew = Span::from_millis(heard.ahead_ms.unsigned_abs());
    let detail = format!(
        "last report {silent} ago; its clock is {skew} {ahead}, which is not used; version {}",
        heard.version
    );
    if silent > life {
        bad(point, CheckStatus::Fail, detail, START)
    } else if heard.ahead_ms.unsigned_abs() > CLOCK {
        bad(
            point,
            CheckStatus::Warn,
            detail,
            "set its clock: it judges certificates by it",
        )
    } else {
        CheckItem::ok(item_name(point), detail)
    }
}

fn bad(point: &VantagePoint, status: CheckStatus, detail: String, fix: &str) -> CheckItem {
    CheckItem::bad(item_name(point), status, detail, fix)
}

fn item_name(point: &VantagePoint) -> String {
    format!("vantage/{}/observer", point.name)
}
