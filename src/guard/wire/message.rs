//! What is said on the wire, and who may say it.

use serde::{Deserialize, Serialize};

use super::{Party, certificate::Proof};
use crate::model::{
    action::{ActOrder, ActQuery, ActReport},
    guard::{
        DrainOrder, FenceAck, FenceOrder, Grant, Grantor, LeaseRequest, PromoteOrder, Report,
        ResyncOrder, Terms,
    },
    id::SiteName,
    time::Time,
};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Message {
    /// A guard asks for a lease.
    Ask {
        /// What it asks.
        request: LeaseRequest,
        /// The controller's signature under the terms of the promise that the request reports.
        proof: Option<Proof>,
    },
    /// A request is granted.
    Grant(Grant),
    /// The controller orders a fence.
    Fence(FenceOrder),
    /// A guard says that its site is fenced.
    Fenced(FenceAck),
    /// The controller orders a promotion.
    Promote {
        /// What it orders.
        order: PromoteOrder,
        /// Its signature under the terms, for the guard to show.
        proof: Proof,
    },
    /// The controller has a database stopped in order.
    Drain(DrainOrder),
    /// The controller has the data of a fenced site brought into line.
    Resync(ResyncOrder),
    /// The controller asks for an action of the guard's own document.
    Act(ActOrder),
    /// It asks what became of one.
    Recall(ActQuery),
    /// A guard says what became of one at its site.
    Acted {
        /// The site.
        site: SiteName,
        /// What it says.
        report: ActReport,
    },
    /// Somebody asks how a guard's site stands.
    Look,
    /// How it stands.
    Report {
        /// When it stood so, on the clock of the guard: of two reports of one life the later one counts, whichever
        /// comes last.
        at: Time,
        /// How it stood.
        report: Report,
    },
}

impl Message {
    /// Whether that party may say this: nobody speaks for another.
    #[must_use]
    pub fn may_come_from(&self, sender: &Party) -> bool {
        match (self, sender) {
            (Self::Ask { request, .. }, Party::Guard(site)) => request.report.site == *site,
            (Self::Fenced(ack), Party::Guard(site)) => ack.site == *site,
            (Self::Report { report, .. }, Party::Guard(site)) => report.site == *site,
            (Self::Acted { site: own, .. }, Party::Guard(site)) => own == site,
            (Self::Grant(grant), Party::Guard(_)) => grant.by == Grantor::Deputy,
            (Self::Grant(grant), Party::Controller(_)) => grant.by == Grantor::Controller,
            (
                Self::Fence(_)
                | Self::Promote { .. }
                | Self::Drain(_)
                | Self::Resync(_)
                | Self::Act(_)
                | Self::Recall(_),
                Party::Controller(_),
            )
            | (Self::Look, _) => true,
            (
                Self::Fence(_)
                | Self::Promote { .. }
                | Self::Drain(_)
                | Self::Resync(_)
                | Self::Act(_)
                | Self::Recall(_),
                Party::Guard(_),
            )
            | (
                Self::Ask { .. } | Self::Fenced(_) | Self::Report { .. } | Self::Acted { .. },
                Party::Controller(_),
            ) => false,
        }
    }

    /// The terms that it shows as the controller's, and their proof.
    #[must_use]
    pub fn shown(&self) -> Option<(&Terms, &Proof)> {
        match self {
            Self::Ask { request, proof } => {
                let promise = request.report.promise.as_ref()?;
                Some((promise.terms.as_ref()?, proof.as_ref()?))
            }
            Self::Promote { order, proof } => Some((&order.terms, proof)),
            Self::Grant(_)
            | Self::Fence(_)
            | Self::Fenced(_)
            | Self::Drain(_)
            | Self::Resync(_)
            | Self::Act(_)
            | Self::Recall(_)
            | Self::Acted { .. }
            | Self::Look
            | Self::Report { .. } => None,
        }
    }
}
