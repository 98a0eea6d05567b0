//! Orders: what adapters ask of the world. An order is under way once it is sent: whoever sent it may die meanwhile.

use futures::channel::oneshot;

use super::{
    fault::Mishap,
    network::{Leg, Party},
    site::{Life, Power, lsn},
    world::{Happening, World},
};
use crate::{
    model::{observation::DatabaseRole, plan::StepPhase, service::RecordKind, span::Span},
    port::dns::RecordSet,
};

/// What an adapter asks for.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Switch a site's host off for good.
    SwitchOff(usize),
    /// Switch it on again.
    SwitchOn(usize),
    /// Is it off?
    IsOff(usize),
    /// Have a site's database refuse writers.
    RefuseWriters(usize),
    /// Have it take writers again.
    TakeWriters(usize),
    /// Does it refuse writers?
    Refuses(usize),
    /// Try a write.
    TryWrite(usize),
    /// Promote a site's database.
    Promote(usize),
    /// Is it a primary?
    IsPrimary(usize),
    /// Read a record of the zone.
    ReadZone(String, RecordKind),
    /// Swap a record of the zone.
    SwapZone {
        /// Its name.
        name: String,
        /// Its type.
        kind: RecordKind,
        /// What stands there.
        expect: RecordSet,
        /// What shall stand there.
        want: RecordSet,
    },
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Yes, or done, with facts for a proof.
    Yes(String, Vec<(&'static str, String)>),
    /// No, or not done.
    No(String),
    /// A record of the zone.
    Zone(RecordSet),
    /// The record is another one.
    Conflict(RecordSet),
    /// The host refuses the connection: no process is there.
    Closed,
}

impl Reply {
    fn yes(words: &str) -> Self {
        Self::Yes(words.to_owned(), Vec::new())
    }

    fn no(words: &str) -> Self {
        Self::No(words.to_owned())
    }
}

/// An order under way.
#[derive(Debug)]
pub struct Order {
    deed: Deed,
    /// How the answer gets back; none where nobody can hear it.
    back: Option<(Span, oneshot::Sender<Reply>)>,
}

impl Deed {
    /// Who is asked.
    #[must_use]
    pub fn to(&self) -> Party {
        match self {
            Self::SwitchOff(_) | Self::SwitchOn(_) | Self::IsOff(_) => Party::Power,
            Self::RefuseWriters(n)
            | Self::TakeWriters(n)
            | Self::Refuses(n)
            | Self::TryWrite(n)
            | Self::Promote(n)
            | Self::IsPrimary(n) => Party::Site(*n),
            Self::ReadZone(..) | Self::SwapZone { .. } => Party::Names,
        }
    }

    /// The part of a run that it changes something for; none where it only looks.
    fn changes(&self) -> Option<StepPhase> {
        match self {
            Self::SwitchOff(_)
            | Self::SwitchOn(_)
            | Self::RefuseWriters(_)
            | Self::TakeWriters(_) => Some(StepPhase::Fence),
            Self::Promote(_) => Some(StepPhase::Promote),
            Self::SwapZone { .. } => Some(StepPhase::Traffic),
            Self::IsOff(_)
            | Self::Refuses(_)
            | Self::TryWrite(_)
            | Self::IsPrimary(_)
            | Self::ReadZone(..) => None,
        }
    }

    /// How long it takes there.
    fn work(&self) -> (u64, u64) {
        match self {
            Self::SwitchOff(_) | Self::SwitchOn(_) => (200, 3000),
            Self::Promote(_) => (300, 2500),
            Self::RefuseWriters(_) | Self::TakeWriters(_) => (20, 300),
            Self::IsOff(_)
            | Self::Refuses(_)
            | Self::TryWrite(_)
            | Self::IsPrimary(_)
            | Self::ReadZone(..)
            | Self::SwapZone { .. } => (1, 50),
        }
    }
}

impl Happening {
    /// An order that arrives without anybody waiting for an answer.
    #[must_use]
    pub fn late(deed: Deed) -> Self {
        Self::Arrives(Order { deed, back: None })
    }
}

/// A swallowed order arrives never, a late one after this.
const LATE: (u64, u64) = (8_000, 60_000);

impl World {
    /// Sends an order of the controller. The answer comes, or never does.
    pub fn order(&mut self, deed: Deed) -> oneshot::Receiver<Reply> {
        let (answer, answered) = oneshot::channel();
        let (from, to) = (self.speaker, deed.to());
        let Leg { arrives, again } = self.network.send((from, to), &mut self.chance);
        let back = self.network.send((to, from), &mut self.chance).arrives;
        let (least, most) = deed.work();
        let work = self.chance.millis(least, most);
        let late = self.chance.millis(LATE.0, LATE.1);
        let mishap = deed.changes().and_then(|phase| self.mishap(phase));
        self.trace.note(self.now, 2, || format!("sent: {deed:?}"));
        let Some(arrives) = arrives else {
            return answered;
        };
        if deed.changes().is_some() {
            self.deposed(|| format!("it ordered {deed:?}"));
            self.doubted();
        }
        let at = arrives.saturating_add(work);
        let copy = again.map(|again| (again.saturating_add(work), deed.clone()));
        let back = back.map(|back| (back, answer));
        match mishap {
            None => self.plan(at, Happening::Arrives(Order { deed, back })),
            Some(Mishap::Refused) => {
                if let Some((back, answer)) = back {
                    let reply = Reply::no("it was refused, and nothing was changed");
                    self.plan(at.saturating_add(back), Happening::Answers(reply, answer));
                }
                return answered;
            }
            Some(Mishap::Unanswered) => {
                self.plan(at, Happening::Arrives(Order { deed, back: None }));
            }
            Some(Mishap::Late) => {
                let at = at.saturating_add(late);
                self.plan(at, Happening::Arrives(Order { deed, back: None }));
            }
            Some(Mishap::Swallowed) => return answered,
        }
        if let Some((at, deed)) = copy {
            self.plan(at, Happening::Arrives(Order { deed, back: None }));
        }
        answered
    }

    pub(super) fn arrive(&mut self, order: Order) {
        self.notice();
        let reply = self.obey(&order.deed);
        let (now, deed) = (self.now, &order.deed);
        self.trace.note(now, 3, || match &reply {
            Some(reply) => format!("arrived: {deed:?}: {reply:?}"),
            None => format!("arrived: {deed:?}: no answer"),
        });
        self.look_around();
        if let (Some(reply), Some((after, to))) = (reply, order.back) {
            self.plan(after, Happening::Answers(reply, to));
        }
    }

    /// Does what is asked; no answer where nobody is there to give one.
    fn obey(&mut self, deed: &Deed) -> Option<Reply> {
        match deed {
            Deed::SwitchOff(n) => Some(self.switch_off(*n)),
            Deed::SwitchOn(n) => {
                let was_on = self.sites[*n].is_on();
                self.sites[*n].power = Power::On;
                if !was_on {
                    self.powered(*n, true);
                }
                self.take_effect();
                Some(Reply::yes("the host is on again"))
            }
            Deed::IsOff(n) if self.sites[*n].power == Power::Off || self.watchman.lied => {
                Some(Reply::yes("the host is off"))
            }
            Deed::IsOff(_) => Some(Reply::no("the host is not switched off")),
            Deed::RefuseWriters(n) => self.at_database(*n, |d| {
                if d.role == DatabaseRole::Primary {
                    d.read_only = true;
                }
                Reply::yes("it refuses writes by default")
            }),
            Deed::TakeWriters(n) => self.at_database(*n, |d| {
                d.read_only = false;
                Reply::yes("it takes writes again by default")
            }),
            Deed::Refuses(n) => self.at_database(*n, |d| {
                if d.read_only || d.role == DatabaseRole::Standby {
                    Reply::yes("it refuses writes by default")
                } else {
                    Reply::no("it takes writes")
                }
            }),
            Deed::TryWrite(n) => {
                let takes = self.sites[*n].takes_writes();
                self.at_database(*n, |_| {
                    if takes {
                        Reply::yes("a write was made")
                    } else {
                        Reply::no("a write was refused")
                    }
                })
            }
            Deed::Promote(n) => self.promote(*n),
            Deed::IsPrimary(n) => self.at_database(*n, |d| match d.role {
                DatabaseRole::Primary => Reply::Yes(
                    "it is the primary".to_owned(),
                    vec![("timeline", d.timeline.to_string())],
                ),
                DatabaseRole::Standby => Reply::no("it is still a standby"),
            }),
            Deed::ReadZone(name, kind) => {
                let held = self.zone.get(&(name.clone(), *kind));
                Some(Reply::Zone(held.cloned().unwrap_or(RecordSet {
                    values: [].into(),
                    ttl: 0,
                })))
            }
            Deed::SwapZone {
                name,
                kind,
                expect,
                want,
            } => Some(self.swap(name, *kind, expect, want)),
        }
    }

    fn switch_off(&mut self, n: usize) -> Reply {
        if self.lies() {
            self.watchman.lied = true;
        } else {
            self.sites[n].power = Power::Off;
            self.powered(n, false);
        }
        Reply::yes("the host is off")
    }

    /// Asks a database. A host that runs refuses for a process that is gone; nobody answers for the rest.
    fn at_database(
        &mut self,
        n: usize,
        ask: impl FnOnce(&mut super::site::Database) -> Reply,
    ) -> Option<Reply> {
        let site = &mut self.sites[n];
        if !site.is_on() {
            return None;
        }
        let database = site.database.as_mut()?;
        match database.life {
            Life::Runs => Some(ask(database)),
            Life::Gone => Some(Reply::Closed),
            Life::Frozen => None,
        }
    }

    fn promote(&mut self, n: usize) -> Option<Reply> {
        let timeline = self.highest_timeline() + 1;
        let mut length = None;
        let reply = self.at_database(n, |d| {
            if d.role == DatabaseRole::Standby {
                d.role = DatabaseRole::Primary;
                d.timeline = timeline;
                d.read_only = false;
                length = Some(d.log.len());
            }
            Reply::Yes(
                "it is the primary now; a write was made".to_owned(),
                vec![
                    ("timeline", d.timeline.to_string()),
                    ("lsn", lsn(d.log.len()).to_string()),
                ],
            )
        });
        if length.is_some() {
            self.watchman
                .promoted_at(n, None, &self.sites, &self.customers, self.now);
        }
        reply
    }

    /// The newest timeline of all databases.
    pub(super) fn highest_timeline(&self) -> u32 {
        let all = self.sites.iter().filter_map(|s| s.database.as_ref());
        all.map(|d| d.timeline).max().unwrap_or(1)
    }

    fn swap(
        &mut self,
        name: &str,
        kind: RecordKind,
        expect: &RecordSet,
        want: &RecordSet,
    ) -> Reply {
        let held = self
            .zone
            .entry((name.to_owned(), kind))
            .or_insert(RecordSet {
                values: [].into(),
                ttl: 0,
            });
        if held != expect && held != want {
            return Reply::Conflict(held.clone());
        }
        *held = want.clone();
        if let Some(site) = self.led_to() {
            let takes = self.written_from(site).is_some();
            self.watchman.led(site, takes, self.now);
        }
        Reply::yes("the zone holds it")
    }
}
