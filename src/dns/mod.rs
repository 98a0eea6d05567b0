//! DNS: providers, the live answers, the cut-over, and an embedded authoritative server. Knows `port/` and `model/` only.
//!
//! A provider swaps a record set for another only if it still is what was read. `live` asks the servers themselves,
//! so that a cut-over is measured and not assumed.

use crate::port::kind::Kind;

pub mod cloudflare;
pub mod cutover;
pub mod embedded;
pub mod external_dns;
pub mod live;
pub mod readiness;
pub mod rehearsal;
pub mod repoint;
pub mod rfc2136;
pub mod rrset;
pub mod tsig;
pub mod ttl;
pub mod update;
pub mod wire;

/// The kinds of this room; a new one is a line here.
pub const KINDS: &[Kind] = &[
    rfc2136::KIND,
    cloudflare::KIND,
    external_dns::KIND,
    embedded::KIND,
    repoint::KIND,
    cutover::KIND,
    rehearsal::KIND,
];
