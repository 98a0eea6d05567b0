//! The vantage points of a service that this host looks from, with the probes and sentinels that they look through.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::future::join_all;

use super::sentinel::{Sentinel, Sentinels};
use crate::{
    driver::registry,
    model::{
        check::{CheckItem, CheckStatus},
        id::{NetworkName, ProbeId, SiteName, VantageName},
        observation::{DatabaseRole, Evidence, Look, Sight},
        plan::Uses,
        service::{Looker, Probe, Service, Via},
        span::Span,
    },
    port::{
        kind::{Kinds, Make, MakeError, Wiring},
        lookout::{self, Sighting},
        probe::{LookContext, SharedProbe},
        runtime::SharedRuntime,
    },
};

/// Why a service's vantage points could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{at} cannot be made")]
pub struct LookoutError {
    /// Which probe or sentinel.
    pub at: String,
    /// The cause.
    #[source]
    pub source: MakeError,
}

/// Makes a probe from what a document says.
pub type ProbeMaker = Arc<dyn Fn(&Uses) -> Result<SharedProbe, MakeError> + Send + Sync>;

/// Makes probes of these kinds.
pub fn maker(kinds: Kinds, wiring: &Wiring) -> ProbeMaker {
    let wiring = wiring.clone();
    Arc::new(
        move |uses| match kinds.get(uses.uses.as_str()).map(|k| k.make) {
            Some(Make::Probe(make)) => make(&uses.with, &wiring),
            Some(
                Make::Action(_)
                | Make::Dns(_)
                | Make::Channel(_)
                | Make::Target(_)
                | Make::Chat(_)
                | Make::Backup(_),
            )
            | None => Err(MakeError(format!("{} is no kind of probe", uses.uses))),
        },
    )
}

/// The vantage points of a service that this host looks from; those of observers elsewhere are not among them.
pub struct Lookouts {
    points: Vec<Arc<Lookout>>,
    probes: BTreeMap<ProbeId, SharedProbe>,
    maker: ProbeMaker,
}

impl Lookouts {
    /// Makes all probes and sentinels that are looked through from here.
    ///
    /// # Errors
    /// Where one of them cannot be made; `spec` has checked the documents, so this is something of this host.
    pub fn new(
        service: &Service,
        runtime: &SharedRuntime,
        maker: ProbeMaker,
    ) -> Result<Self, LookoutError> {
        let probe_of =
            |uses: &Uses, at: String| maker(uses).map_err(|source| LookoutError { at, source });
        let mut probes = BTreeMap::new();
        let here = |probe: &&Probe| service.own_points().any(|v| probe.is_from(&v.name));
        let all = service.components.iter().flat_map(|c| &c.probes);
        for probe in all.filter(here) {
            let adapter = probe_of(&probe.action, format!("probe {}", probe.id))?;
            probes.insert(probe.id.clone(), adapter);
        }
        let mut points = Vec::new();
        for point in &service.vantage_points {
            let Looker::Controller(via) = &point.looker else {
                continue;
            };
            let mut sentinels = Vec::new();
            for (i, uses) in point.sentinels.iter().enumerate() {
                let at = format!("sentinel {} of vantage point {}", i + 1, point.name);
                sentinels.push(Sentinel {
                    name: title(uses),
                    probe: probe_of(uses, at)?,
                });
            }
            points.push(Arc::new(Lookout {
                name: point.name.clone(),
                network: point.network.clone(),
                via: via.clone(),
                sentinels: Sentinels::new(sentinels, runtime.clone()),
            }));
        }
        Ok(Self {
            points,
            probes,
            maker,
        })
    }

    /// The probe of that id.
    #[must_use]
    pub fn probe(&self, id: &ProbeId) -> Option<&SharedProbe> {
        self.probes.get(id)
    }

    /// Looks from all vantage points at once, each by its own way and with its own sentinels; in the order of the
    /// service's document. Takes at most twice the time-out.
    pub async fn look_through(&self, probe: &SharedProbe, timeout: Span) -> Vec<Sighting> {
        join_all(
            self.points
                .iter()
                .map(async |point| point.sighting(point.look(probe, timeout, timeout).await)),
        )
        .await
    }

    /// Readiness: every probe and every sentinel from every vantage point, once. `active` is the site that serves: what is
    /// a standby only after a failover is not asked for its stream before.
    pub async fn check(&self, service: &Service, active: Option<&SiteName>) -> Vec<CheckItem> {
        let mut looks = Vec::new();
        for probe in service.components.iter().flat_map(|c| &c.probes) {
            let Some(made) = self.probes.get(&probe.id) else {
                continue;
            };
            for point in self.points_of(&probe.from) {
                looks.push(async move {
                    let context = point.context(probe.timeout);
                    let mut items = made.check(&context).await;
                    let is_bad = items.iter().any(|i| i.status != CheckStatus::Ok);
                    let serves = active.is_some() && probe.site.as_ref() == active;
                    let is_stream = probe.evidence == Evidence::Stream;
                    if is_bad && serves && is_stream && leads(&made.look(&context).await) {
                        for item in &mut items {
                            let detail = "a primary, as it should be while its site serves";
                            *item = CheckItem::ok(&item.name, detail);
                        }
                    }
                    for item in &mut items {
                        item.name = format!("vantage/{}/{}", point.name, item.name);
                        if probe.cold && item.status != CheckStatus::Ok {
                            *item = CheckItem::ok(
                                &item.name,
                                format!("cold, as it should be before a failover: {}", item.detail),
                            );
                        }
                    }
                    items
                });
            }
        }
        let mut items = join_all(looks).await.concat();
        let sentinels = self.points.iter().map(|point| point.check_sentinels());
        items.extend(join_all(sentinels).await.concat());
        items
    }

    /// The vantage points of these names, all where there are none.
    pub(super) fn points_of<'a>(
        &'a self,
        names: &'a [VantageName],
    ) -> impl Iterator<Item = &'a Arc<Lookout>> {
        self.points
            .iter()
            .filter(move |p| names.is_empty() || names.contains(&p.name))
    }
}

#[async_trait]
impl lookout::Lookouts for Lookouts {
    async fn look(&self, probe: &Uses, timeout: Span) -> Vec<Sighting> {
        match (self.maker)(probe) {
            Ok(probe) => self.look_through(&probe, timeout).await,
            Err(e) => {
                let look = Look::new(Sight::Unknown, format!("the probe cannot be made: {e}"));
                let points = self.points.iter();
                points.map(|p| p.sighting(look.clone())).collect()
            }
        }
    }
}

/// Whether it was found to be a primary.
fn leads(look: &Look) -> bool {
    let database = look.facts.database.as_ref();
    database.is_some_and(|d| d.role == DatabaseRole::Primary)
}

/// One vantage point.
pub(super) struct Lookout {
    pub(super) name: VantageName,
    network: NetworkName,
    via: Via,
    sentinels: Sentinels,
}

impl Lookout {
    fn sighting(&self, look: Look) -> Sighting {
        Sighting {
            vantage: self.name.clone(),
            network: self.network.clone(),
            look,
        }
    }

    fn context(&self, timeout: Span) -> LookContext {
        LookContext {
            via: self.via.clone(),
            timeout,
        }
    }

    /// Looks once. Where all sentinels fail as well, what was Down becomes Unknown.
    pub(super) async fn look(&self, probe: &SharedProbe, timeout: Span, every: Span) -> Look {
        let context = self.context(timeout);
        let mut look = probe.look(&context).await;
        if look.sight != Sight::Down {
            return look;
        }
        let ended = self.sentinels.now();
        if let Some(gone) = self.sentinels.gone(&context, every).await {
            look.sight = Sight::Unknown;
            look.detail = format!("own network is gone: {gone}; the look: {}", look.detail);
        }
        // The observation is dated when the sentinels have answered: what was heard is older by then.
        if let Some((_, age)) = look.facts.database.as_mut().and_then(|d| d.heard.as_mut()) {
            *age = age.saturating_add(self.sentinels.now().since(ended));
        }
        look
    }

    async fn check_sentinels(&self) -> Vec<CheckItem> {
        /// Enough for a name, a connection and a handshake across the world.
        const TIMEOUT: Span = Span::from_secs(5);
        let context = self.context(TIMEOUT);
        join_all(self.sentinels.list().iter().map(async |sentinel| {
            let name = format!("vantage/{}/sentinel {}", self.name, sentinel.name);
            let look = sentinel.probe.look(&context).await;
            match look.sight {
                Sight::Up => CheckItem::ok(name, look.detail),
                Sight::Down | Sight::Unknown => CheckItem::bad(
                    name,
                    CheckStatus::Warn,
                    look.detail,
                    "name something that is surely up from here; a sentinel that always fails turns Down into unknown",
                ),
            }
        }))
        .await
    }
}

/// What a sentinel is, for people: its kind and hosts.
fn title(uses: &Uses) -> String {
    let hosts = registry::kinds()
        .get(uses.uses.as_str())
        .map(|k| (k.hosts)(&uses.with).join(", "))
        .unwrap_or_default();
    format!("{} {hosts}", uses.uses).trim_end().to_owned()
}
