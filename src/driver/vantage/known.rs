//! Which observers there are, of which services, and what each is to look at.

use std::{collections::BTreeMap, sync::Arc};

use futures::channel::mpsc;
use sha2::{Digest, Sha256};

use crate::{
    decide::detect,
    model::{
        id::{ServiceName, VantageName},
        observation::Observation,
        plan::Uses,
        secret::SecretRef,
        service::{Probe, Service, VantagePoint},
        span::Span,
    },
    probe,
    vantage::{
        challenge::Challenges,
        message::{AssignedProbe, Assignment, Revision},
        seat::Seat,
    },
};

/// What is known of services and observers.
pub(super) struct Known {
    pub(super) services: BTreeMap<ServiceName, Expecting>,
    pub(super) seats: BTreeMap<SeatId, Seat>,
    pub(super) challenges: Challenges,
}

/// A service that expects looks.
pub(super) struct Expecting {
    pub(super) service: Arc<Service>,
    pub(super) looks: mpsc::Sender<Observation>,
}

/// Who reports: a name may stand in several services, and is the same observer where its key is the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeatId {
    pub(super) vantage: VantageName,
    pub(super) key: SecretRef,
}

impl Known {
    /// Observers that no service has any more are forgotten.
    pub(super) fn forget(&mut self) {
        let services = &self.services;
        self.seats
            .retain(|id, _| services.values().any(|e| e.is_for(id)));
    }

    /// Who may speak under a name.
    pub(super) fn keys(&self, vantage: &str) -> Vec<SeatId> {
        let open = self.services.values().filter(|e| !e.looks.is_closed());
        let mut ids: Vec<_> = open
            .flat_map(|e| remote(&e.service))
            .map(|(_, id)| id)
            .filter(|id| id.vantage.as_str() == vantage)
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// The services of an observer.
    pub(super) fn of(&self, id: &SeatId) -> Vec<ServiceName> {
        let mine = self.services.values().filter(|e| e.is_for(id));
        mine.map(|e| e.service.name.clone()).collect()
    }

    pub(super) fn assignment(&self, id: &SeatId) -> Vec<Assignment> {
        let mine = self.services.values().filter(|e| e.is_for(id));
        mine.map(|e| e.assignment(id)).collect()
    }

    /// Whether some observer of a service has not been heard, and is not overdue.
    pub(super) fn is_awaited(&self, service: &ServiceName, waited: Span) -> bool {
        self.services.get(service).is_some_and(|e| {
            remote(&e.service).any(|(point, id)| {
                let heard = self.seats.get(&id).is_some_and(|s| s.heard().is_some());
                !heard && waited <= slowest(&e.service, point)
            })
        })
    }
}

impl Expecting {
    pub(super) fn is_for(&self, id: &SeatId) -> bool {
        !self.looks.is_closed() && remote(&self.service).any(|(_, other)| other == *id)
    }

    /// The probes that an observer looks through.
    pub(super) fn probes<'a>(&'a self, id: &'a SeatId) -> impl Iterator<Item = &'a Probe> {
        let known = self.is_for(id);
        let all = self.service.components.iter().flat_map(|c| &c.probes);
        all.filter(move |p| known && p.is_from(&id.vantage))
    }

    pub(super) fn assignment(&self, id: &SeatId) -> Assignment {
        let point = remote(&self.service).find(|(_, other)| other == id);
        Assignment {
            service: self.service.name.clone(),
            sentinels: point.map_or_else(Vec::new, |(point, _)| point.sentinels.clone()),
            probes: self
                .probes(id)
                .map(|p| AssignedProbe {
                    id: p.id.clone(),
                    action: p.action.clone(),
                    every: p.every,
                    timeout: p.timeout,
                })
                .collect(),
        }
    }
}

/// The vantage points of observers elsewhere.
pub(super) fn remote(service: &Service) -> impl Iterator<Item = (&VantagePoint, SeatId)> {
    service.vantage_points.iter().filter_map(|point| {
        let id = SeatId {
            vantage: point.name.clone(),
            key: point.observer()?.clone(),
        };
        Some((point, id))
    })
}

/// How long an observer may be silent: until its slowest probe's looks say nothing any more.
pub(super) fn slowest(service: &Service, point: &VantagePoint) -> Span {
    /// Where it looks through nothing: it reports all the same.
    const IDLE: Span = Span::from_secs(30);
    let probes = service.components.iter().flat_map(|c| &c.probes);
    let mine = probes.filter(|p| p.is_from(&point.name));
    mine.map(detect::shelf_life).max().unwrap_or(IDLE)
}

/// The same with nothing that could be run.
pub(super) fn without_commands(mut assignment: Assignment) -> Assignment {
    let strip = |uses: &mut Uses| {
        if uses.uses.as_str() == probe::command::KIND.name {
            uses.with = serde_json::Value::Null;
        }
    };
    assignment.sentinels.iter_mut().for_each(strip);
    assignment
        .probes
        .iter_mut()
        .for_each(|p| strip(&mut p.action));
    assignment
}

pub(super) fn revision(assignment: &[Assignment]) -> Revision {
    let text = serde_json::to_vec(assignment).unwrap_or_default();
    Revision(hex::encode(Sha256::digest(text)))
}
