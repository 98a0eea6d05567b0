//! The ready-made runbooks, usable by name where no document of that name is given.

/// A ready-made runbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyMade {
    /// Its name.
    pub name: &'static str,
    /// The document.
    pub text: &'static str,
}

/// Every ready-made runbook.
pub const RUNBOOKS: [ReadyMade; 4] = [
    ReadyMade {
        name: "postgres-failover",
        text: include_str!("../../runbooks/postgres-failover.yaml"),
    },
    ReadyMade {
        name: "postgres-promote",
        text: include_str!("../../runbooks/postgres-promote.yaml"),
    },
    ReadyMade {
        name: "redirect",
        text: include_str!("../../runbooks/redirect.yaml"),
    },
    ReadyMade {
        name: "stateless-failover",
        text: include_str!("../../runbooks/stateless-failover.yaml"),
    },
];
