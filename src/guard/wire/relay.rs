//! The way around: where nothing passes between two, the third passes their datagrams on.
//!
//! A datagram goes around as it was signed. Only its first byte differs, which nobody signs: it says that the datagram is
//! to be passed on, or was. Only the first of these is passed on, and as the second, so nothing goes on twice. Who passes
//! it on need not be believed: he could drop, hold back and repeat it, as every network can. He in turn sends on only what
//! somebody he knows has signed for somebody else he knows, as large as it came, and not too much of it.

use super::{Dropped, Frame, PASSED, Party, TO_PASS, VERSION, Wire};
use crate::model::{span::Span, time::Time};

/// Which way a datagram goes, or came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Straight to its receiver.
    Straight,
    /// By way of the third one.
    Around,
}

/// Which ways something is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// Both: nobody knows which of them is cut. Whoever gets it twice takes it as one.
    Both,
    /// The one by which the question came.
    Only(Way),
}

impl Ways {
    /// Whether this way is one of them.
    #[must_use]
    pub fn include(self, way: Way) -> bool {
        match self {
            Self::Both => true,
            Self::Only(only) => only == way,
        }
    }
}

/// Asks the receiver to pass a datagram on that was sealed for another one.
pub fn mark(datagram: &mut [u8]) {
    if let Some(first) = datagram.first_mut().filter(|first| **first == VERSION) {
        *first = TO_PASS;
    }
}

impl Wire {
    /// Whether this is to be passed on; nothing of it is proved.
    #[must_use]
    pub fn is_to_pass(datagram: &[u8]) -> bool {
        datagram.first() == Some(&TO_PASS)
    }

    /// To whom it is to be passed on, and what is to be sent.
    ///
    /// # Errors
    /// With why it is to be dropped.
    pub fn pass(&self, datagram: &[u8]) -> Result<(Party, Vec<u8>), Dropped> {
        let frame = Frame::read(datagram)?;
        if frame.version != TO_PASS {
            return Err(Dropped::Version);
        }
        let to = self.others.get(frame.to).map(|(party, _)| party);
        let to = to
            .filter(|_| frame.to != frame.from)
            .ok_or(Dropped::Receiver)?;
        self.sender(&frame)?;
        let mut passed = datagram.to_vec();
        passed[0] = PASSED;
        Ok((to.clone(), passed))
    }
}

/// How much is passed on: more than two guards and a controller ever ask for, and not what somebody might make of it who
/// repeats their datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    second: Time,
    passed: u32,
}

/// Datagrams in a second. A guard that asks every 20 ms, and the answers, are 100.
const MOST: u32 = 400;

impl Allowance {
    /// From now on, by a clock that nobody sets.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            second: now,
            passed: 0,
        }
    }

    /// Takes one more.
    ///
    /// # Errors
    /// Where there were too many.
    pub fn take(&mut self, now: Time) -> Result<(), Dropped> {
        if now.since(self.second) >= Span::from_secs(1) {
            *self = Self::new(now);
        }
        if self.passed >= MOST {
            return Err(Dropped::Rate);
        }
        self.passed += 1;
        Ok(())
    }
}
