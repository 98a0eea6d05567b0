//! The two clocks of a host.

use rustix::time::{ClockId, clock_gettime};

use super::machine::Clocks;
use crate::{guard::hold::BootTime, model::time::Time};

/// Now, on both.
#[must_use]
pub fn now() -> Clocks {
    Clocks {
        holder: holder(),
        grantor: grantor(),
    }
}

/// `CLOCK_MONOTONIC_RAW` in milliseconds, rounded down: what anyone who grants leases waits on.
#[must_use]
pub fn grantor() -> Time {
    let now = clock_gettime(ClockId::MonotonicRaw);
    Time::from_millis(
        now.tv_sec
            .saturating_mul(1000)
            .saturating_add(now.tv_nsec / 1_000_000),
    )
}

/// That moment of the holder's clock, as the kernel's timer counts.
#[must_use]
pub fn boot_time(at: Time) -> BootTime {
    BootTime::from_millis(u64::try_from(at.as_millis()).unwrap_or_default())
}

/// That moment of the kernel's timer, as the machine counts.
#[must_use]
pub fn time(at: BootTime) -> Time {
    Time::from_millis(i64::try_from(at.as_millis()).unwrap_or(i64::MAX))
}

/// How far the wall clock is ahead of the holder's, in milliseconds: the same from look to look while nobody sets it.
#[must_use]
pub fn wall() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    let wall = now
        .tv_sec
        .saturating_mul(1000)
        .saturating_add(now.tv_nsec / 1_000_000);
    wall.saturating_sub(holder().as_millis())
}

fn holder() -> Time {
    time(BootTime::now())
}
