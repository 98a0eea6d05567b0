//! What was, read from the records: incidents as customers heard of them, and measured availability.

use super::availability::Measured;
use crate::model::{
    announcement::{Announcement, Phase},
    id::{ComponentName, IncidentId},
    record::{Record, RecordBody},
    time::Time,
    verdict::Verdict,
};

/// Incidents that are kept for the status page.
const KEPT: usize = 50;

/// What was, for the status page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The incidents, oldest first.
    pub incidents: Vec<PastIncident>,
    /// How long each component worked and did not.
    pub measured: Measured,
}

/// An incident as customers heard of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PastIncident {
    /// Its id.
    pub id: IncidentId,
    /// Components that were down.
    pub components: Vec<ComponentName>,
    /// When it began.
    pub since: Time,
    /// When it was over.
    pub ended: Option<Time>,
    /// Whether anything was down at all, as opposed to a run that a person asked for.
    pub outage: bool,
    /// What was said, oldest first.
    pub told: Vec<Announcement>,
}

impl History {
    /// Takes in a record.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a projection of four kinds of record"
    )]
    pub fn apply(&mut self, record: &Record) {
        self.measured.apply(record);
        match &record.body {
            RecordBody::IncidentOpened {
                components, since, ..
            } => {
                self.incidents.push(PastIncident {
                    id: IncidentId::of(&record.chain, record.seq),
                    components: components.clone(),
                    since: *since,
                    ended: None,
                    outage: !components.is_empty(),
                    told: Vec::new(),
                });
                if self.incidents.len() > KEPT {
                    self.incidents.remove(0);
                }
            }
            RecordBody::IncidentClosed { incident, .. } => {
                if let Some(open) = self.incidents.iter_mut().find(|i| &i.id == incident) {
                    open.ended.get_or_insert(record.at);
                }
            }
            RecordBody::VerdictChanged {
                component,
                to: Verdict::Down,
                ..
            } => {
                if let Some(open) = self.incidents.iter_mut().rev().find(|i| i.ended.is_none())
                    && !open.components.contains(component)
                {
                    open.components.push(component.clone());
                    open.outage = true;
                }
            }
            RecordBody::PhaseEntered {
                phase,
                announcement,
            } => {
                if let Some(open) = self
                    .incidents
                    .iter_mut()
                    .find(|i| i.id == announcement.incident)
                {
                    open.told.push((**announcement).clone());
                    if *phase == Phase::Recovered {
                        open.ended = Some(record.at);
                    }
                }
            }
            _ => {}
        }
    }
}
