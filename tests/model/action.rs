//! What may happen next.

use failover::model::{
    guard::{Boot, FenceOrder, Grantor, PromoteOrder},
    id::{Epoch, SiteName},
    span::Span,
};

/// A site, as an index.
pub type Site = usize;

/// One step of a history.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A unit of time passes everywhere.
    Pass,
    /// The first thing that a guard's agent has under way is done.
    Complete(Site),
    /// A request arrives at the controller: at the one that leads, or at one that was deposed.
    AskController(Leader, (SiteName, Epoch, Boot)),
    /// A request arrives at the other site's guard.
    AskDeputy(Site, (SiteName, Epoch, Boot)),
    /// A grant arrives.
    Grant(Site, (SiteName, Epoch, Boot, Grantor)),
    /// An order to fence arrives.
    Fence(Site, FenceOrder),
    /// The controller has the database stopped for so long.
    Drain(Site, Span),
    /// The controller has a fenced site's data brought into line.
    Resync(Site),
    /// An order to promote arrives.
    Promote(Site, PromoteOrder),
    /// The journal takes the intent to fence the site of the newest epoch.
    OpenFence(Leader),
    /// The journal takes the next epoch.
    OpenEpoch(Leader, Site, Proof),
    /// Another process takes over from a leader that is frozen.
    TakeOver,
    /// The database's processes are killed.
    DatabaseDies(Site),
    /// The guard's process is killed.
    GuardDies(Site),
    /// The guard's process is started.
    GuardStarts(Site),
    /// Everything at the host is lost but the disk.
    HostDies(Site),
    /// The guard is frozen.
    Freeze(Site),
    /// And goes on.
    Thaw(Site),
    /// The guard's state is lost while it does not run.
    StateLost(Site),
    /// Somebody starts the database past the guard.
    StartedByHand(Site),
}

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    /// The one that leads.
    Current,
    /// One that led before, and may not know.
    Deposed,
}

/// Why the old site is believed to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its guard acknowledged the fence.
    Acknowledged,
    /// Its lease is over.
    Lease,
    /// It is the same site.
    Same,
    /// There is none.
    None,
}
