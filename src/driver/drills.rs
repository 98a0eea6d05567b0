//! What drills of an earlier process left on this host.

use std::{collections::BTreeSet, path::PathBuf, time::SystemTime};

use crate::{
    decide::core::Core,
    drill,
    model::{
        id::{RunId, ServiceName},
        plan::Action,
        service::Service,
    },
    port::cause,
};

/// The kind whose steps have a folder that outlives the process.
const CLONE: &str = "drill/clone";

/// What earlier drills of a service may have left, where its documents clone.
pub struct Sweep {
    service: ServiceName,
    folders: BTreeSet<Option<PathBuf>>,
    /// The drill that goes on.
    except: Option<RunId>,
}

impl Sweep {
    /// Of the service of this core; none where its documents clone nowhere.
    pub fn of(core: &Core) -> Option<Self> {
        let folders = folders(core.service());
        let open = core.state().drills.open.as_ref();
        (!folders.is_empty()).then(|| Self {
            service: core.service().name.clone(),
            folders,
            except: open.map(|drill| drill.id.clone()),
        })
    }

    /// Ends and removes it, but for the drill that goes on and those of this process, which began then. It may take long,
    /// beside everything else; what cannot be removed is logged.
    pub async fn run(self, began: SystemTime) {
        let Self {
            service,
            folders,
            except,
        } = self;
        for folder in folders {
            let (of, except) = (service.clone(), except.clone());
            let swept = tokio::task::spawn_blocking(move || {
                drill::sweep(folder.as_deref(), &of, except.as_ref(), began)
            });
            match swept.await {
                Ok(Ok(runs)) => {
                    for run in runs {
                        tracing::warn!(%service, %run, "what an earlier drill had left was removed");
                    }
                }
                Ok(Err(error)) => {
                    tracing::error!(%service, error = %cause::in_full(&error), "what an earlier drill left is still there");
                }
                Err(error) => {
                    tracing::error!(%service, %error, "whether an earlier drill left anything is not known");
                }
            }
        }
    }
}

/// Where the drills of a service clone; none stands for the host's folder for temporary files.
fn folders(service: &Service) -> BTreeSet<Option<PathBuf>> {
    let steps = service
        .drills
        .iter()
        .filter_map(|d| d.runbook.as_ref())
        .flat_map(|r| &r.steps);
    let mut out = BTreeSet::new();
    for step in steps {
        let Action::Adapter(uses) = &step.action else {
            continue;
        };
        if uses.uses.as_str() != CLONE {
            continue;
        }
        // Settings by site stand above those of the step.
        let named = |with: &serde_json::Value| with.get("folder")?.as_str().map(PathBuf::from);
        let own = named(&uses.with);
        if step.sites.is_empty() {
            out.insert(own.clone());
        }
        let by_site = step.sites.values();
        out.extend(by_site.map(|with| named(with).or_else(|| own.clone())));
    }
    out
}
