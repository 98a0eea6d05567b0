//! `dns/external-dns`: records that external-dns keeps, by an object of the kind `DNSEndpoint` in a cluster.
//!
//! The object says what shall be, and nothing of what is: external-dns reads it once in an interval and then tells its own
//! provider. So what stands there is a promise, and `dns/repoint` is done when the zone's servers give it. A swap is one
//! server-side apply under the version that was read, so the compare and the swap are one act at the API server; that
//! external-dns writes the status meanwhile is no conflict.

mod endpoints;
mod readiness;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use hickory_proto::rr::Name;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use self::endpoints::{Endpoints, Wanted};
use super::rrset;
use crate::{
    model::{check::CheckItem, secret::SecretRef, service::RecordKind, span::Span},
    port::{
        dns::{DnsProvider, ReadError, RecordSet, SharedDns, Swap},
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
        kubernetes::{ApiError, Cluster, MANAGER, Owner, SOON, left, name_problem},
        runtime::SharedRuntime,
    },
};

/// `dns/external-dns`.
pub const KIND: Kind = Kind::new::<ExternalDnsWith>(
    "dns/external-dns",
    "repoints through a DNSEndpoint object in a cluster, which external-dns follows",
    "namespace: shop\nname: shop\n",
    Make::Dns(make),
);

/// Group and version of the kind.
const VERSION: (&str, &str) = ("externaldns.k8s.io", "v1alpha1");

/// The kind, as its objects have it.
const DNS_ENDPOINT: &str = "DNSEndpoint";

/// The field that is set.
const FIELD: &str = "spec.endpoints";

/// Settings of `dns/external-dns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalDnsWith {
    /// A kubeconfig, whole. Default: the service account of the Pod that this runs in. The account needs get and patch
    /// on the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<SecretRef>,
    /// The namespace of the `DNSEndpoint`.
    pub namespace: String,
    /// Its name. It has to be there, with an endpoint for each record.
    pub name: String,
    /// Which endpoint, where several have one name and type. Default: the one without a setIdentifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_identifier: Option<String>,
    /// How often external-dns looks (its `--interval`). Default: 1m. It counts in every forecast.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// Takes the endpoints from another field manager, such as kubectl or Helm. Default: false; nothing is changed then.
    #[serde(default)]
    pub force: bool,
    /// How long one change may take. Default: 10s.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

fn default_interval() -> Span {
    Span::from_secs(60)
}

fn default_timeout() -> Span {
    Span::from_secs(10)
}

impl kind::With for ExternalDnsWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = [("namespace", &self.namespace), ("name", &self.name)]
            .into_iter()
            .filter_map(|(path, name)| name_problem(path, name))
            .collect();
        if self.set_identifier.as_ref().is_some_and(String::is_empty) {
            let problem = Problem::new("setIdentifier", "expected a word, such as eu");
            problems.push(problem.hint("leave it out where the endpoint has none"));
        }
        for (path, span, shortest, longest) in [
            (
                "interval",
                self.interval,
                Span::from_secs(1),
                Span::from_secs(3600),
            ),
            (
                "timeout",
                self.timeout,
                Span::from_millis(100),
                Span::from_secs(60),
            ),
        ] {
            if span < shortest || span > longest {
                problems.push(Problem::new(
                    path,
                    format!("{span} cannot be: expected {shortest} to {longest}"),
                ));
            }
        }
        problems
    }

    fn propagation(&self) -> Span {
        self.interval
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedDns, MakeError> {
    let with: ExternalDnsWith = kind::read(with)?;
    let Some(dns) = &wiring.service.dns else {
        return Err(MakeError("the service names no DNS zone".into()));
    };
    Ok(Arc::new(ExternalDns {
        zone: rrset::name(&dns.zone).map_err(|e| MakeError(e.to_string()))?,
        cluster: Cluster::new(with.kubeconfig.clone(), wiring),
        runtime: Arc::clone(&wiring.runtime),
        with,
    }))
}

struct ExternalDns {
    cluster: Cluster,
    runtime: SharedRuntime,
    zone: Name,
    with: ExternalDnsWith,
}

/// The object as it stands.
struct Seen {
    api: Api<DynamicObject>,
    object: DynamicObject,
    endpoints: Endpoints,
}

impl Seen {
    fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or(0)
    }

    /// Which generation external-dns has read.
    fn observed(&self) -> i64 {
        let status = &self.object.data["status"];
        status["observedGeneration"].as_i64().unwrap_or(0)
    }
}

/// Why the object could not be read.
enum LookError {
    Api(ApiError),
    Shape(String),
}

#[async_trait]
impl DnsProvider for ExternalDns {
    async fn read(&self, name: &str, kind: RecordKind) -> Result<RecordSet, ReadError> {
        let fail = |reason: String| ReadError { reason };
        let wanted = self.wanted(name, kind).map_err(fail)?;
        let seen = self.look(self.with.timeout.to_std()).await;
        let seen = seen.map_err(|e| fail(self.told(&e)))?;
        let found = seen.endpoints.set(&wanted);
        found.map_err(|why| fail(format!("{}: {why}", self.title())))
    }

    async fn swap(
        &self,
        name: &str,
        kind: RecordKind,
        expect: &RecordSet,
        want: &RecordSet,
    ) -> Swap {
        let refused = |reason: String| Swap::Refused { reason };
        let wanted = match self.wanted(name, kind) {
            Ok(wanted) => wanted,
            Err(e) => return refused(e),
        };
        let deadline = Instant::now() + self.with.timeout.to_std();
        loop {
            let seen = match self.look(left(deadline)).await {
                Ok(seen) => seen,
                // Nothing was sent that could change anything.
                Err(e) => return refused(self.told(&e)),
            };
            let found = match seen.endpoints.set(&wanted) {
                Ok(found) => found,
                Err(why) => return refused(format!("{}: {why}", self.title())),
            };
            if found == *want {
                return Swap::Done;
            }
            if found.values != expect.values {
                return Swap::Conflict { found };
            }
            if let Some(other) = seen.endpoints.other_type(&wanted) {
                return refused(format!(
                    "{} has a record of the type {other} at {}, and a CNAME cannot stand beside another one",
                    self.title(),
                    wanted.owner
                ));
            }
            let params = self.applying();
            match self
                .send(&seen, &wanted, want, &params, left(deadline))
                .await
            {
                Ok(()) => return Swap::Done,
                // Its status counts in its version: what matters is looked at again.
                Err(LookError::Api(e)) if e.is_overtaken() && left(deadline) > SOON => {
                    sleep(SOON).await;
                }
                Err(e) => return self.settled(&wanted, want, &e).await,
            }
        }
    }

    fn propagation(&self) -> Span {
        self.with.interval
    }

    async fn outstanding(&self) -> Option<String> {
        let seen = match self.look(self.with.timeout.to_std()).await {
            Ok(seen) => seen,
            Err(e) => return Some(self.told(&e)),
        };
        (seen.observed() < seen.generation()).then(|| {
            format!(
                "external-dns has not read generation {} of {} yet",
                seen.generation(),
                self.title()
            )
        })
    }

    async fn fronted(&self, name: &str, kind: RecordKind) -> Option<String> {
        let wanted = self.wanted(name, kind).ok()?;
        let seen = self.look(self.with.timeout.to_std()).await.ok()?;
        seen.endpoints.fronted(&wanted).map(str::to_owned)
    }

    async fn check(&self, name: &str, kind: RecordKind) -> Vec<CheckItem> {
        readiness::check(self, name, kind).await
    }
}

impl ExternalDns {
    /// For people.
    fn title(&self) -> String {
        format!("{DNS_ENDPOINT} {}/{}", self.with.namespace, self.with.name)
    }

    fn wanted(&self, name: &str, kind: RecordKind) -> Result<Wanted<'_>, String> {
        Ok(Wanted {
            owner: rrset::name_in(name, &self.zone).map_err(|e| e.to_string())?,
            kind,
            identifier: self.with.set_identifier.as_deref(),
        })
    }

    async fn look(&self, within: Duration) -> Result<Seen, LookError> {
        let client = self.cluster.client().await.map_err(LookError::Api)?;
        let (group, version) = VERSION;
        let gvk = GroupVersionKind::gvk(group, version, DNS_ENDPOINT);
        let resource = ApiResource::from_gvk_with_plural(&gvk, "dnsendpoints");
        let api: Api<DynamicObject> = Api::namespaced_with(client, &self.with.namespace, &resource);
        let object = ApiError::within(within, api.get(&self.with.name)).await;
        let object = object.map_err(|e| LookError::Api(known(e)))?;
        let endpoints = Endpoints::of(&object.data).map_err(LookError::Shape)?;
        Ok(Seen {
            api,
            object,
            endpoints,
        })
    }

    fn applying(&self) -> PatchParams {
        let params = PatchParams::apply(MANAGER);
        if self.with.force {
            params.force()
        } else {
            params
        }
    }

    /// Applies this set under the version that was seen.
    async fn send(
        &self,
        seen: &Seen,
        wanted: &Wanted<'_>,
        want: &RecordSet,
        params: &PatchParams,
        within: Duration,
    ) -> Result<(), LookError> {
        let list = seen.endpoints.with(wanted, want);
        let list = list.map_err(LookError::Shape)?;
        let (group, version) = VERSION;
        let body = json!({
            "apiVersion": format!("{group}/{version}"),
            "kind": DNS_ENDPOINT,
            "metadata": {
                "name": self.with.name,
                "resourceVersion": seen.object.metadata.resource_version,
            },
            "spec": {"endpoints": list},
        });
        let patch = Patch::Apply(body);
        let asked = seen.api.patch(&self.with.name, params, &patch);
        let made = ApiError::within(within, asked).await;
        made.map_err(LookError::Api)?;
        Ok(())
    }

    /// What became of an apply that was not answered with yes.
    async fn settled(&self, wanted: &Wanted<'_>, want: &RecordSet, error: &LookError) -> Swap {
        let reason = self.told(error);
        let is_certain = match error {
            LookError::Api(e) => e.is_certain(),
            LookError::Shape(_) => true,
        };
        if is_certain {
            return Swap::Refused { reason };
        }
        let seen = self.look(self.with.timeout.to_std()).await;
        match seen.map(|seen| seen.endpoints.set(wanted)) {
            Ok(Ok(found)) if found == *want => Swap::Done,
            Ok(Ok(found)) => Swap::Unknown {
                reason: format!(
                    "{reason}; it holds {} now, and the change may yet be made",
                    rrset::described(&found)
                ),
            },
            Ok(Err(why)) => Swap::Unknown {
                reason: format!("{reason}; and now: {why}"),
            },
            Err(e) => Swap::Unknown {
                reason: format!("{reason}; reading back failed as well: {}", self.told(&e)),
            },
        }
    }

    /// For people, without secrets.
    fn told(&self, error: &LookError) -> String {
        match error {
            LookError::Shape(why) => format!("{}: {why}", self.title()),
            LookError::Api(e) => match e.rivals().first() {
                Some(rival) => {
                    let owner = Owner::new(rival, None);
                    format!(
                        "{FIELD} of {} belongs to {}; {}",
                        self.title(),
                        owner.told(),
                        fix(&owner)
                    )
                }
                None => format!("{} in {}: {}", self.title(), self.cluster, e.told()),
            },
        }
    }
}

/// What to do about an owner of the endpoints.
fn fix(owner: &Owner) -> String {
    owner.fix_in(FIELD, "the settings of dns/external-dns")
}

/// A path that the server does not have is no object that is missing.
fn known(error: ApiError) -> ApiError {
    if let ApiError::Refused(status) = &error
        && status.code == 404
        && status.details.as_ref().is_none_or(|d| d.name.is_empty())
    {
        let (group, version) = VERSION;
        return ApiError::NoKind(format!("{DNS_ENDPOINT} of {group}/{version}"));
    }
    error
}
