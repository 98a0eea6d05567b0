//! Which groups are in force: those of now, and where one cannot be used, that group as it was.

use std::{collections::BTreeMap, sync::Arc};

use super::Leader;
use crate::{
    driver::{group, registry},
    model::{
        group::ServiceGroup,
        id::{ServiceGroupName, ServiceName},
        service::Service,
    },
    operator::document::{DocumentKind, Key},
};

/// Groups by their names.
pub type Groups = BTreeMap<ServiceGroupName, Arc<ServiceGroup>>;

impl Leader {
    /// Takes the groups out of services as they were compiled. What a group may not name is said of its document.
    pub(super) fn groups(&mut self, services: &mut [Service]) -> Groups {
        let mut groups = Groups::new();
        for own in services.iter_mut().filter_map(|s| s.group.take()) {
            groups.insert(own.group, own.whole);
        }
        groups.retain(|name, whole| {
            let voice = group::voice(whole);
            let crossed = self.means.secrets.crossed(&voice, registry::kinds());
            let is_sound = crossed.is_empty();
            if !is_sound {
                let remarks = self.remarks.entry(key(name)).or_default();
                remarks.errors.extend(crossed);
            }
            is_sound
        });
        for own in self.means.engine.controller.services() {
            let Some(own) = &own.group else { continue };
            let remarks = self.remarks.get(&key(&own.group));
            if remarks.is_some_and(|r| !r.errors.is_empty()) {
                let last = groups.entry(own.group.clone());
                last.or_insert_with(|| own.whole.clone());
            }
        }
        groups
    }
}

/// Puts services in their places.
pub fn place(groups: &Groups, wanted: &mut BTreeMap<ServiceName, Service>) {
    for service in wanted.values_mut() {
        service.group = None;
    }
    for whole in groups.values() {
        ServiceGroup::place(whole, wanted.values_mut());
    }
}

fn key(name: &ServiceGroupName) -> Key {
    Key {
        kind: DocumentKind::Group,
        name: name.to_string(),
    }
}
