//! What was, read from the records: incidents as customers heard of them, and measured availability.

use std::sync::Arc;

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

/// What was, for the status page. Clones share what does not change any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The incidents, oldest first.
    pub incidents: Vec<Arc<PastIncident>>,
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
                self.incidents.push(Arc::new(PastIncident {
                    id: IncidentId::of(&record.chain, record.seq),
                    components: components.clone(),
                    since: *since,
                    ended: None,
                    outage: !components.is_empty(),
                    told: Vec::new(),
                }));
                if self.incidents.len() > KEPT {
                    self.incidents.remove(0);
                }
            }
            RecordBody::IncidentClosed { incident, .. } => {
                if let Some(open) = self.incidents.iter_mut().find(|i| &i.id == incident) {
                    Arc::make_mut(open).ended.get_or_insert(record.at);
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
                    let open = Arc::make_mut(open);
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
                    let open = Arc::make_mut(open);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        id::{Epoch, Seq, ServiceName},
        loss::LossForecast,
        record::FORMAT,
    };

    fn record(seq: u64, body: RecordBody) -> Record {
        Record {
            format: FORMAT,
            chain: ServiceName::from("shop"),
            seq: Seq(seq),
            epoch: Epoch(1),
            at: Time::from_millis(1_800_000_000_000),
            prev: String::new(),
            body,
        }
    }

    fn opened(seq: u64) -> Record {
        let body = RecordBody::IncidentOpened {
            components: Vec::new(),
            since: Time::default(),
            reason: String::new(),
            loss: LossForecast::Stateless,
        };
        record(seq, body)
    }

    #[test]
    fn a_clone_shares_what_does_not_change_any_more() {
        let mut history = History::default();
        history.apply(&opened(1));
        let shown = history.clone();
        history.apply(&opened(2));
        let note = RecordBody::Note {
            by: "ann".into(),
            text: String::new(),
        };
        history.apply(&record(3, note));
        assert!(Arc::ptr_eq(&shown.incidents[0], &history.incidents[0]));
        let incident = IncidentId::of(&"shop".into(), Seq(1));
        let reason = String::new();
        history.apply(&record(4, RecordBody::IncidentClosed { incident, reason }));
        assert!(history.incidents[0].ended.is_some());
        assert_eq!(shown.incidents[0].ended, None);
    }
}
