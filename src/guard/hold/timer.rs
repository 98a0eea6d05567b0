//! The kernel's end of the lease.

use nix::{
    errno::Errno,
    sys::{
        signal::{SigEvent, SigevNotify, Signal},
        time::TimeSpec,
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
};

use super::boot_time::BootTime;

/// A timer of this process that sends it SIGKILL. Nothing of this process has to run for that: the kernel does it to a
/// stopped process as well.
#[derive(Debug)]
pub struct DeadMan {
    timer: Timer,
    armed: Option<BootTime>,
}

impl DeadMan {
    /// Makes it, unarmed. The timer belongs to the process that made it: it is gone with an `exec`, and no child has it.
    ///
    /// # Errors
    /// Where the kernel has no such timer to give.
    pub fn new() -> Result<Self, Errno> {
        let event = SigEvent::new(SigevNotify::SigevSignal {
            signal: Signal::SIGKILL,
            si_value: 0,
        });
        Ok(Self {
            timer: Timer::new(ClockId::CLOCK_BOOTTIME, event)?,
            armed: None,
        })
    }

    /// Sets the moment of death, in place of an earlier one. Does not return where it is past.
    ///
    /// # Errors
    /// Where the kernel does not take it; the earlier moment still holds then.
    pub fn arm(&mut self, until: BootTime) -> Result<(), Errno> {
        self.set(spec(until))?;
        self.armed = Some(until);
        Ok(())
    }

    /// Takes the moment of death away.
    ///
    /// # Errors
    /// Where the kernel does not take it; the earlier moment still holds then.
    pub fn disarm(&mut self) -> Result<(), Errno> {
        self.set(TimeSpec::new(0, 0))?;
        self.armed = None;
        Ok(())
    }

    /// When it kills.
    #[must_use]
    pub fn armed(&self) -> Option<BootTime> {
        self.armed
    }

    fn set(&mut self, at: TimeSpec) -> Result<(), Errno> {
        let absolute = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        self.timer.set(Expiration::OneShot(at), absolute)
    }
}

/// A moment as the timer takes it. Zero would disarm it, so the moment of boot is one nanosecond later; moments beyond
/// what the kernel can tell are cut to ones that no machine lives to see.
fn spec(until: BootTime) -> TimeSpec {
    const LAST: u64 = 1 << 32;
    let seconds = i64::try_from((until.as_millis() / 1000).min(LAST)).unwrap_or(i64::MAX);
    let nanos = i64::try_from(until.as_millis() % 1000 * 1_000_000).unwrap_or_default();
    TimeSpec::new(seconds, if seconds == 0 { nanos.max(1) } else { nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_moment_disarms() {
        let moment = |ms| spec(BootTime::from_millis(ms));
        assert_eq!(moment(0), TimeSpec::new(0, 1));
        assert_eq!(moment(1), TimeSpec::new(0, 1_000_000));
        assert_eq!(moment(12_345), TimeSpec::new(12, 345_000_000));
        assert_eq!(moment(u64::MAX).tv_sec(), 1 << 32);
    }

    #[test]
    fn the_kernel_takes_moments_to_come_and_lets_go_of_them() {
        let mut dead_man = DeadMan::new().unwrap();
        let hour = BootTime::now().after(std::time::Duration::from_hours(1));
        dead_man.arm(hour).unwrap();
        assert_eq!(dead_man.armed(), Some(hour));
        assert!(dead_man.timer.get().unwrap().is_some());
        dead_man.disarm().unwrap();
        assert_eq!(dead_man.armed(), None);
        assert!(dead_man.timer.get().unwrap().is_none());
    }
}
