//! Tokens that were nobody's: how many an address may try.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use crate::model::{span::Span, time::Time};

/// So many in a row are taken for mistakes.
const ALLOWED: u32 = 10;
/// Then none is looked at until so long after the first.
const WINDOW: Span = Span::from_secs(60);
/// Addresses that are remembered; beyond, the one that failed first is forgotten.
const KEPT: usize = 4096;

/// Failed attempts, by address.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<BTreeMap<IpAddr, Failed>>);

#[derive(Debug)]
struct Failed {
    first: Time,
    count: u32,
}

impl Attempts {
    /// How long an address has to wait before its next attempt is looked at; none where it need not.
    #[must_use]
    pub fn wait(&self, address: IpAddr, now: Time) -> Option<Span> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failed.get(&place(address))?;
        let until = failed.first.after(WINDOW);
        (failed.count >= ALLOWED && now < until).then(|| until.since(now))
    }

    /// An attempt of an address failed.
    pub fn failed(&self, address: IpAddr, now: Time) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, failed| now.since(failed.first) < WINDOW);
        if all.len() >= KEPT {
            let first = all.iter().min_by_key(|(_, f)| f.first).map(|(a, _)| *a);
            if let Some(first) = first {
                all.remove(&first);
            }
        }
        let failed = all.entry(place(address)).or_insert(Failed {
            first: now,
            count: 0,
        });
        failed.count = failed.count.saturating_add(1);
    }
}

/// One host may have all addresses of a /64 of IPv6.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time::from_millis(secs * 1000)
    }

    #[test]
    fn an_address_that_fails_too_often_waits_and_no_other_does() {
        let attempts = Attempts::default();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let near: IpAddr = "2001:db8::ffff".parse().unwrap();
        let far: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        for _ in 0..ALLOWED {
            assert_eq!(attempts.wait(one, at(10)), None);
            attempts.failed(one, at(10));
        }
        assert_eq!(attempts.wait(one, at(20)), Some(Span::from_secs(50)));
        assert_eq!(attempts.wait(near, at(20)), Some(Span::from_secs(50)));
        assert_eq!(attempts.wait(far, at(20)), None);
        assert_eq!(attempts.wait(one, at(70)), None);
        attempts.failed(one, at(70));
        assert_eq!(attempts.wait(one, at(70)), None, "it begins anew");
    }

    #[test]
    fn an_address_of_ipv4_is_the_same_in_both_forms() {
        let attempts = Attempts::default();
        let plain: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        for _ in 0..ALLOWED {
            attempts.failed(mapped, at(0));
        }
        assert!(attempts.wait(plain, at(0)).is_some());
    }
}
