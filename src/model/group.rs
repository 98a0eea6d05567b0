//! Services that fail over together: who goes first, how many at once, and what is said of all of them.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    id::{ServiceGroupName, ServiceName},
    service::{Announcements, Service},
    span::Span,
    time::Time,
};

/// What the chain of a group is called before its name: no service has a dot in its name.
const CHAIN: &str = "group.";

/// A group of services after validation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceGroup {
    /// Unique name.
    pub name: ServiceGroupName,
    /// What customers call all of it.
    pub title: String,
    /// Who goes first: each wave waits for those before it.
    pub waves: Vec<Vec<Member>>,
    /// Runs of its members that may be open at once.
    pub at_once: usize,
    /// How long those behind wait for one that does not get on.
    pub wait_at_most: Span,
    /// How long outages of its members are gathered before the second wave begins and anything is said.
    pub gather: Span,
    /// What its audience is told, and how.
    pub announcements: Announcements,
    /// The status page that announcements name.
    pub status_url: Option<String>,
}

/// A service in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The service.
    pub service: ServiceName,
    /// As customers know it.
    pub title: String,
}

/// What a service knows of the group that it is in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The group.
    pub group: ServiceGroupName,
    /// Its wave, from 1.
    pub wave: usize,
    /// All of the group.
    #[serde(skip)]
    pub whole: Arc<ServiceGroup>,
}

impl Membership {
    /// Whether both are the same place in a group; the rest of it is for the group alone.
    #[must_use]
    pub fn is_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        let place = |m: &Self| (m.group.clone(), m.wave);
        one.map(place) == other.map(place)
    }
}

impl ServiceGroup {
    /// The chain that its turns and announcements stand in.
    #[must_use]
    pub fn chain(&self) -> ServiceName {
        ServiceName::new(format!("{CHAIN}{}", self.name))
    }

    /// Every member with its wave, from 0, in the order in which they go.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Member)> {
        let waves = self.waves.iter().enumerate();
        waves.flat_map(|(n, wave)| wave.iter().map(move |member| (n, member)))
    }

    /// Puts its members in their places.
    pub fn place<'a>(whole: &Arc<Self>, services: impl IntoIterator<Item = &'a mut Service>) {
        let waves: BTreeMap<_, _> = whole.members().map(|(n, m)| (&m.service, n + 1)).collect();
        for service in services {
            if let Some(wave) = waves.get(&service.name) {
                service.group = Some(Membership {
                    group: whole.name.clone(),
                    wave: *wave,
                    whole: whole.clone(),
                });
            }
        }
    }

    /// Whether a service is in it.
    #[must_use]
    pub fn has(&self, service: &ServiceName) -> bool {
        self.members().any(|(_, m)| m.service == *service)
    }
}

/// What happened in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "event"
)]
pub enum GroupRecord {
    /// Members are in an incident. The first one opens the incident of the group.
    Affected {
        /// Who, besides those that were before.
        members: Vec<ServiceName>,
        /// When the first of their outages began.
        since: Time,
    },
    /// A member may open its run. Durable before the member hears of it.
    TurnGiven {
        /// Who.
        member: ServiceName,
        /// Its wave, from 1.
        wave: usize,
    },
    /// A member's turn is over.
    TurnOver {
        /// Who.
        member: ServiceName,
        /// What came of it, in one sentence.
        reason: String,
    },
    /// A member does not get on: those behind it wait for it no longer.
    Passed {
        /// Who.
        member: ServiceName,
        /// Why, in one sentence.
        reason: String,
    },
}
