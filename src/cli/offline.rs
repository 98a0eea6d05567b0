//! A service without a controller: its core from documents and, where there is one, the state folder's journal. It
//! decides nothing and performs nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::StreamExt;

use super::{documents, journal, output::Output, place::Place};
use crate::{
    backup::restore::Recovered,
    decide::{core::Core, event::Event},
    desk::{
        message::{PlanView, PreviewItem},
        plan, preview,
    },
    driver::{
        backups::{
            self, Choice, Survey,
            moment::{self, Offer, Wish},
            prune::{self, Pruned},
            taking,
        },
        clock::HostRuntime,
        fitting::Fitting,
        readiness::{self, Scene},
        registry, vantage,
        watch::{self, Lookouts, Watch},
    },
    error::Error,
    model::{
        announcement::Phase,
        backup::Verification,
        check::CheckItem,
        id::{Epoch, Seq, ServiceName, SiteName},
        plan::RunKind,
        record::{FORMAT, Record},
        service::Service,
        span::Span,
        taking::Taken,
        time::Time,
    },
    port::{cause, runtime::SharedRuntime, secret::HostSecrets},
};

/// Longest time that probes are given to look once.
const LOOK: Span = Span::from_secs(15);

/// A service without a controller.
pub struct Offline {
    core: Core,
    runtime: SharedRuntime,
    state: PathBuf,
}

impl Offline {
    /// The service of that name, from documents.
    ///
    /// # Errors
    /// Where the documents have errors, or no such service.
    pub fn new(
        paths: &[PathBuf],
        service: &ServiceName,
        place: &Place,
        output: Output,
    ) -> Result<Self, Error> {
        let services = documents::load(paths, output)?;
        let known = services.iter().map(|s| s.name.to_string()).collect();
        match services.into_iter().find(|s| s.name == *service) {
            Some(found) => Self::of(found, place),
            None => Err(Error::NoService {
                name: service.to_string(),
                known,
            }),
        }
    }

    /// The services of documents; only the one of that name, where one is given.
    ///
    /// # Errors
    /// Where the documents have errors, or no such service.
    pub fn all(
        paths: &[PathBuf],
        service: Option<&ServiceName>,
        place: &Place,
        output: Output,
    ) -> Result<Vec<Self>, Error> {
        match service {
            Some(service) => Ok(vec![Self::new(paths, service, place, output)?]),
            None => documents::load(paths, output)?
                .into_iter()
                .map(|found| Self::of(found, place))
                .collect(),
        }
    }

    fn of(service: Service, place: &Place) -> Result<Self, Error> {
        let runtime: SharedRuntime = Arc::new(HostRuntime::new());
        let name = service.name.clone();
        let mut core = Core::new(Arc::new(service));
        if place.journal().exists() {
            for record in journal::open(place)?.records(&name, Seq(1))? {
                core.replay(&record);
            }
        }
        begin(&mut core, runtime.now());
        Ok(Self {
            core,
            runtime,
            state: place.state.clone(),
        })
    }

    /// The service's name.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.core.service().name
    }

    /// The plan of a run that could be begun now.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn plan(&self, kind: RunKind, to: Option<&SiteName>) -> Result<PlanView, Error> {
        plan::of(&self.core, kind, to, self.runtime.now()).map_err(|reason| Error::Plan {
            service: self.service().to_string(),
            reason,
        })
    }

    /// Everything a failover needs, tried from here.
    ///
    /// # Errors
    /// Where an adapter cannot be made.
    pub async fn check(mut self) -> Result<Vec<CheckItem>, Error> {
        let service = self.core.service().clone();
        let fitting = self.fitting()?;
        let maker = watch::maker(registry::kinds(), fitting.wiring());
        let lookouts = Lookouts::new(&service, &self.runtime, maker);
        let lookouts = Arc::new(lookouts.map_err(|e| start(&e))?);
        let fitting = fitting.with_lookouts(lookouts.clone());
        self.observe(&lookouts).await;
        let customers = fitting
            .channels(&service.announcements.channels)
            .map_err(|e| start(&e))?;
        let team = fitting
            .channels(&service.team.channels)
            .map_err(|e| start(&e))?;
        let (customers, team) = (customers.into_iter().collect(), team.into_iter().collect());
        let scene = Scene {
            core: &self.core,
            fitting: &fitting,
            lookouts: &lookouts,
            customers: &customers,
            team: &team,
            observers: vantage::unheard(&service),
            copy: None,
            ledger: None,
        };
        Ok(readiness::check(scene).await.items)
    }

    /// What backups there are, asked from here; none where the service has no policy.
    ///
    /// # Errors
    /// Where the service cannot be fitted out.
    pub async fn backups(&self) -> Result<Option<Survey>, Error> {
        Ok(backups::survey(&self.core, &self.fitting()?).await)
    }

    /// Restores a backup to try it, here.
    ///
    /// # Errors
    /// Where there is nothing that could be tried.
    pub async fn try_backup(&self, choice: &Choice) -> Result<Verification, Error> {
        let tried = backups::verify(&self.core, &self.fitting()?, choice).await;
        tried.map_err(|e| Error::Refused {
            reason: cause::in_full(&e),
            help: format!(
                "'failover backups {}' shows the sources and what they hold",
                self.service()
            ),
        })
    }

    /// Takes a backup, here.
    ///
    /// # Errors
    /// Where there is nothing to be taken.
    pub async fn take_backup(&self) -> Result<Taken, Error> {
        let taken = taking::take(&self.core, &self.fitting()?).await;
        taken.map_err(|e| Error::Refused {
            reason: cause::in_full(&e),
            help: "'failover help backups' has the settings of `take`".to_owned(),
        })
    }

    /// What the retention ladder does not keep any more, and what became of it where it is to be deleted.
    ///
    /// # Errors
    /// Where it cannot be said what may go.
    pub async fn prune(&self, delete: bool) -> Result<Vec<Pruned>, Error> {
        let planned = prune::plan(&self.core, &self.fitting()?).await;
        let planned = planned.map_err(|e| Error::Refused {
            reason: cause::in_full(&e),
            help: format!(
                "'failover backups {}' shows what there is, and what breaks the policy",
                self.service()
            ),
        })?;
        if delete {
            return Ok(prune::apply(planned).await);
        }
        let kept = planned.copies.into_iter().map(|(source, copy)| Pruned {
            source,
            copy,
            deleted: false,
            error: None,
        });
        Ok(kept.collect())
    }

    /// What can be brought back from the backups, and what would be for this wish.
    ///
    /// # Errors
    /// Where it cannot be.
    pub async fn offer(&self, wish: &Wish) -> Result<Offer, Error> {
        let offer = moment::offer(&self.core, &self.fitting()?, wish).await;
        offer.map_err(|e| Error::Refused {
            reason: cause::in_full(&e),
            help: format!("'failover backups restore {}' without --at and --copy shows what can be brought back", self.service()),
        })
    }

    /// Brings it back, here.
    ///
    /// # Errors
    /// Where it does not come to a database.
    pub async fn restore(
        &self,
        offer: &Offer,
        wish: &Wish,
        to: &Path,
        programs: Option<&Path>,
    ) -> Result<Recovered, Error> {
        let restored = moment::restore(offer, wish, to, programs).await;
        restored.map_err(|e| Error::BadBackup {
            reason: cause::in_full(&e),
        })
    }

    /// The messages of some phases.
    ///
    /// # Errors
    /// Where a channel cannot be made.
    pub async fn preview(&self, phases: &[Phase]) -> Result<Vec<PreviewItem>, Error> {
        let fitting = self.fitting()?;
        let channels = fitting
            .channels(&self.core.service().announcements.channels)
            .map_err(|e| start(&e))?;
        let channels = channels.into_iter().collect();
        let now = self.runtime.now();
        Ok(preview::of(&self.core, &channels, phases, None, now).await)
    }

    fn fitting(&self) -> Result<Fitting, Error> {
        Fitting::new(
            self.core.service(),
            registry::kinds(),
            self.runtime.clone(),
            Arc::new(HostSecrets),
            &self.state,
        )
        .map_err(|e| start(&e))
    }

    /// Lets every vantage point look once through every probe.
    async fn observe(&mut self, lookouts: &Arc<Lookouts>) {
        let service = self.core.service().clone();
        let mut watch = Watch::new(&service, lookouts, &self.runtime, 0);
        let wanted: usize = service
            .components
            .iter()
            .flat_map(|c| &c.probes)
            .map(|p| service.own_points().filter(|v| p.is_from(&v.name)).count())
            .sum();
        let deadline = tokio::time::Instant::now() + LOOK.to_std();
        while self.core.view().voices.len() < wanted {
            let Ok(Some(seen)) = tokio::time::timeout_at(deadline, watch.next()).await else {
                return;
            };
            // What the core would do about it is not done: nothing is journaled, and no effect is performed.
            drop(self.core.step(Event::Observed(seen), self.runtime.now()));
        }
    }
}

/// The records that a controller would begin with, applied but not journaled.
fn begin(core: &mut Core, now: Time) {
    for body in core.start(env!("CARGO_PKG_VERSION"), now) {
        let record = Record {
            format: FORMAT,
            chain: core.service().name.clone(),
            seq: core.state().seq.next(),
            epoch: core.state().epoch.max(Epoch(1)),
            at: now,
            prev: String::new(),
            body,
        };
        core.committed(&record);
    }
}

fn start(error: &dyn std::error::Error) -> Error {
    Error::Start {
        reason: cause::in_full(error),
    }
}
