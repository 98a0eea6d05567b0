//! Which documents are in force: those of now, and where they cannot be used those before.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use kube::{Resource as _, ResourceExt as _};

use super::{AGAIN, FINALIZER, LONGEST_WAIT, Leader, Shown, groups, unused};
use crate::{
    decide::state::State,
    driver::registry,
    model::{
        id::{ConfigHash, Seq, ServiceName},
        record::Record,
        service::Service,
    },
    operator::{
        cluster::{self, Watched, Written},
        document::{self, DocumentKind, Key},
        event, secret,
    },
    port::{cause, journal::Journal as _},
};

impl Leader {
    /// What could not be set up is tried again, each time after twice the wait.
    pub(super) fn plan_retry(&mut self) {
        let now = self.means.runtime.now();
        let waits = !self.troubles.is_empty() || !self.revisions.are_read();
        self.retry = waits.then(|| {
            let wait = match self.retry {
                // A document changed meanwhile: that was no try of its own.
                Some((at, wait)) if now < at => wait,
                Some((_, wait)) => wait.saturating_mul(2).min(LONGEST_WAIT),
                None => AGAIN,
            };
            (now.after(wait), wait)
        });
    }

    /// Puts changed documents in force.
    pub(super) async fn load(&mut self) {
        let gone = self.gone().await;
        self.revisions.read().await;
        self.follow_secrets().await;
        let mut compiled = self.documents.compile(registry::kinds(), &gone);
        self.remarks = compiled.remarks;
        let in_groups = self.groups(&mut compiled.services);
        self.troubles.clear();
        let mut wanted = BTreeMap::new();
        for service in compiled.services {
            let crossed = self.means.secrets.crossed(&service, registry::kinds());
            if crossed.is_empty() {
                wanted.insert(service.name.clone(), service);
            } else {
                let remarks = self.remarks.entry(Key::of_service(&service.name));
                remarks.or_default().errors.extend(crossed);
            }
        }
        let usable: BTreeMap<ServiceName, ConfigHash> = wanted
            .iter()
            .map(|(name, service)| (name.clone(), service.config.clone()))
            .collect();
        let all = self.documents.all();
        let stay = all.filter(|(key, _)| key.kind == DocumentKind::Service && !gone.contains(key));
        let stay: Vec<ServiceName> = stay.map(|(key, _)| key.name.as_str().into()).collect();
        // What cannot be used any more changes nothing of what is in force.
        for name in &stay {
            if !wanted.contains_key(name)
                && let Some(last) = self.last_good(name)
            {
                wanted.insert(name.clone(), last);
            }
        }
        groups::place(&in_groups, &mut wanted);
        self.put_in_force(wanted).await;
        self.follow();
        self.judge(&stay, &usable);
    }

    /// Follows the Secrets of the documents of now, of those before, and of what runs: it may be neither.
    async fn follow_secrets(&self) {
        let mut names = BTreeSet::new();
        for (key, held) in self.documents.all() {
            secret::named(&held.object.data, &mut names);
            if key.kind == DocumentKind::Service {
                for text in self.revision(&key.name.as_str().into()) {
                    secret::named(&serde_json::from_str(text).unwrap_or_default(), &mut names);
                }
            }
        }
        for service in self.means.engine.controller.services() {
            names.extend(secret::of_service(&service));
        }
        self.means.secrets.follow(&names).await;
    }

    /// The documents of a service that were last in force under any leader.
    fn revision(&self, service: &ServiceName) -> &[String] {
        let held = self.documents.get(&Key::of_service(service));
        let owner = held.and_then(|held| held.object.metadata.uid.as_deref());
        owner
            .and_then(|owner| self.revisions.of(service, owner))
            .unwrap_or_default()
    }

    /// What was last in force of a service: here, or under the leader before.
    fn last_good(&self, service: &ServiceName) -> Option<Service> {
        let running = self.means.engine.controller.services();
        if let Some(old) = running.iter().find(|old| old.name == *service) {
            return Some(old.as_ref().clone());
        }
        let last = document::compile(self.revision(service), registry::kinds())?;
        let crossed = self.means.secrets.crossed(&last, registry::kinds());
        crossed.is_empty().then_some(last)
    }

    /// Begins to run all that can be set up.
    async fn put_in_force(&mut self, mut wanted: BTreeMap<ServiceName, Service>) {
        loop {
            let services = wanted.values().cloned().collect();
            let error = match self.means.engine.reload(services).await {
                Ok(changes) => {
                    for change in changes {
                        tracing::info!("{change}");
                    }
                    break;
                }
                Err(error) => error,
            };
            let words = cause::in_full(&error);
            tracing::error!(error = %words, "a service cannot be set up");
            let Some(name) = error.service().filter(|name| wanted.contains_key(name)) else {
                break;
            };
            self.troubles.insert(name.clone(), words);
            match self.last_good(&name) {
                Some(old) if wanted.get(&name).map(|s| &s.config) != Some(&old.config) => {
                    wanted.insert(name, old);
                }
                Some(_) | None => drop(wanted.remove(&name)),
            }
        }
    }

    /// Finds out of which services the documents of now are in force, and tells of the others.
    fn judge(&mut self, stay: &[ServiceName], usable: &BTreeMap<ServiceName, ConfigHash>) {
        let running: BTreeMap<ServiceName, ConfigHash> = self
            .means
            .engine
            .controller
            .services()
            .iter()
            .map(|service| (service.name.clone(), service.config.clone()))
            .collect();
        self.in_force = stay
            .iter()
            .filter(|name| {
                usable
                    .get(name)
                    .is_some_and(|new| running.get(name) == Some(new))
            })
            .map(|name| (name.clone(), self.documents.of_service(name)))
            .collect();
        let metrics = self.means.engine.metrics.clone();
        metrics.documents_loaded();
        if self.in_force.len() < stay.len() {
            metrics.documents_refused();
        }
        let lost = |name: &&ServiceName| !running.contains_key(*name);
        let unprotected: BTreeSet<ServiceName> = stay.iter().filter(lost).cloned().collect();
        for name in unprotected.difference(&self.unprotected) {
            tracing::error!(service = %name, "it is not protected");
            self.publish(name, event::unprotected(&self.wrong(name)));
        }
        metrics.unprotected(unprotected.clone());
        self.unprotected = unprotected;
        self.told.retain(|name, _| running.contains_key(name));
        for name in running.into_keys() {
            let wrong = (!self.in_force.contains_key(&name)).then(|| self.wrong(&name));
            if self.told.get(&name) != Some(&wrong) {
                let controller = &self.means.engine.controller;
                controller.documents_of(&name, wrong.as_deref());
                self.told.insert(name, wrong);
            }
        }
    }

    /// What keeps the documents of now from being used.
    fn wrong(&self, service: &ServiceName) -> String {
        let remarks = self.remarks.get(&Key::of_service(service));
        let remarks = remarks.cloned().unwrap_or_default();
        let trouble = self.troubles.get(service).cloned();
        let why = match (remarks.errors.is_empty(), trouble) {
            (false, _) => remarks.errors.join("; "),
            (true, Some(trouble)) => trouble,
            (true, None) => unused(&remarks),
        };
        format!("{why} (kubectl describe protectedservice {service})")
    }

    /// Keeps the documents in force for the next leader. Whether all are kept.
    pub(super) async fn keep_revisions(&mut self) -> bool {
        let mut works = true;
        for (name, documents) in &self.in_force {
            let held = self.documents.get(&Key::of_service(name));
            let kind = cluster::resource(Watched::Document(DocumentKind::Service));
            let owner = held.and_then(|held| held.object.owner_ref(&kind));
            if let Some(owner) = owner {
                works &= self.revisions.keep(name, owner, documents).await;
            }
        }
        works
    }

    /// Services that somebody wants to go, and that nothing keeps.
    async fn gone(&self) -> BTreeSet<Key> {
        let mut gone = BTreeSet::new();
        for (key, held) in self.documents.all() {
            if key.kind == DocumentKind::Service && held.is_going() {
                let name = ServiceName::from(key.name.as_str());
                let is_free = match self.show(&name).await {
                    Shown::Core(core) => core.state().is_at_rest(),
                    // Nobody has taken it up yet, or nobody can: its chain says what is open.
                    Shown::Absent => self.is_at_rest(&name).await,
                    Shown::Busy => false,
                };
                if is_free {
                    gone.insert(key.clone());
                }
            }
        }
        gone
    }

    /// Whether the journal holds nothing open of a service. What cannot be read may be open.
    async fn is_at_rest(&self, service: &ServiceName) -> bool {
        match self.means.journal.read(service, Seq(1)).await {
            Ok(records) => is_at_rest(&records),
            Err(error) => {
                tracing::warn!(%service, error = %cause::in_full(&error), "the journal cannot be read: the service is kept");
                false
            }
        }
    }

    /// Follows services that are new, and forgets those that are gone.
    fn follow(&mut self) {
        let controller = &self.means.engine.controller;
        let running: BTreeSet<ServiceName> = controller
            .services()
            .iter()
            .map(|s| s.name.clone())
            .collect();
        self.followed.retain(|name| running.contains(name));
        for name in running {
            if !self.followed.contains(&name)
                && let Ok(records) = controller.follow(&name)
            {
                self.records.push(records.boxed());
                // Whatever was written until now was not told.
                for asked in self.requests.values_mut() {
                    asked.doubt(&name);
                }
                self.followed.insert(name);
            }
        }
        let all = self.documents.all();
        let services = all.filter(|(key, _)| key.kind == DocumentKind::Service);
        let names = services.map(|(key, _)| ServiceName::from(key.name.as_str()));
        self.stale.extend(names.collect::<Vec<_>>());
    }

    /// Keeps services from going midway, and lets those go that nothing keeps. Whether all could be written.
    pub(super) async fn keep_services(&mut self) -> bool {
        let mut works = true;
        let gone = self.gone().await;
        let mut written = Vec::new();
        for (key, held) in self.documents.all() {
            let runs = self
                .followed
                .contains(&ServiceName::from(key.name.as_str()));
            let is_kept = held.is_kept_by(FINALIZER);
            let others = held.object.finalizers().iter().filter(|f| *f != FINALIZER);
            let mut wanted: Vec<String> = others.cloned().collect();
            let is_due = match (key.kind, held.is_going()) {
                (DocumentKind::Service, false) => runs && !is_kept,
                (DocumentKind::Service, true) => is_kept && gone.contains(key),
                (DocumentKind::Runbook | DocumentKind::Policy | DocumentKind::Group, _) => false,
            };
            if !is_due {
                continue;
            }
            if !held.is_going() {
                wanted.push(FINALIZER.to_owned());
            }
            let kind = Watched::Document(key.kind);
            let cluster = &self.means.cluster;
            match cluster.write_finalizers(kind, &held.object, &wanted).await {
                Written::Done(object) => written.push((key.clone(), *object)),
                Written::Same | Written::Overtaken => {}
                Written::Later => works = false,
            }
        }
        for (key, object) in written {
            self.documents.put(key, object);
        }
        works
    }
}

fn is_at_rest(records: &[Record]) -> bool {
    let mut state = State::default();
    for record in records {
        state.apply(record);
    }
    state.is_at_rest()
}
