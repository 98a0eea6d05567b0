//! `dns/cloudflare`: records in a zone that Cloudflare serves.
//!
//! Cloudflare has no compare-and-swap. It is emulated by reading right before the change, and all changes of a swap
//! go in one batch, which is one transaction there: nobody sees half of it in the zone's database, though each
//! record spreads to the edge by itself. What somebody else changes between reading and writing (one round trip) is
//! seen only by reading back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use hickory_proto::rr::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rrset;
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        secret::SecretRef,
        service::RecordKind,
        span::Span,
        time::Time,
    },
    port::{
        cause,
        dns::{DnsProvider, ReadError, RecordSet, SharedDns, Swap},
        endpoint,
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
    },
};

pub mod api;
pub mod batch;
pub mod limit;

use api::{Api, ApiError, ApiRecord};

/// `dns/cloudflare`.
pub const KIND: Kind = Kind::new::<CloudflareWith>(
    "dns/cloudflare",
    "repoints in a zone that Cloudflare serves",
    "token: { env: CLOUDFLARE_TOKEN }\n",
    Make::Dns(make),
);

/// Cloudflare's API.
const API: &str = "https://api.cloudflare.com/client/v4";

/// Shortest TTL in seconds on plans below Enterprise.
const SHORTEST: u32 = 60;

/// Shortest TTL in seconds on Enterprise.
const SHORTEST_ENTERPRISE: u32 = 30;

/// Longest TTL in seconds.
const LONGEST: u32 = 86_400;

/// A TTL that is not taken.
const BAD_TTL: i64 = 9021;

/// Records of another type stand in the way: A or AAAA before a CNAME, and the other way round.
const COLLIDES: [i64; 2] = [81053, 81054];

/// The very same record exists already.
const IDENTICAL: [i64; 2] = [81057, 81058];

/// The record does not exist any more.
const GONE: i64 = 81044;

/// A token that ends sooner than this is told of.
const TOKEN_WARNING: Span = Span::from_secs(14 * 86_400);

/// Settings of `dns/cloudflare`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloudflareWith {
    /// An API token that may read the zone and edit its DNS (`Zone.Zone:Read`, `Zone.DNS:Edit`), for this zone only.
    pub token: SecretRef,
    /// The zone's id. Default: looked up by the name in the service's dns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// Whether the zone is on the Enterprise plan, where TTLs go down to 30 s instead of 60 s.
    #[serde(default)]
    pub enterprise: bool,
    /// Base URL of the API, for a proxy. Default: Cloudflare's.
    #[serde(default = "default_api")]
    pub api_url: String,
    /// How long one call may take. Default: 10s.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

fn default_api() -> String {
    API.to_owned()
}

fn default_timeout() -> Span {
    Span::from_secs(10)
}

impl kind::With for CloudflareWith {
    fn problems(&self) -> Vec<Problem> {
        let url = endpoint::problem("apiUrl", &self.api_url);
        let mut problems: Vec<Problem> = url.into_iter().collect();
        let hex = |id: &String| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if self.zone_id.as_ref().is_some_and(|id| !hex(id)) {
            problems.push(
                Problem::new("zoneId", "a zone's id has 32 hexadecimal digits")
                    .hint("it stands on the zone's overview page; without zoneId it is looked up"),
            );
        }
        if self.timeout < Span::from_millis(100) || self.timeout > Span::from_secs(60) {
            problems.push(Problem::new(
                "timeout",
                format!(
                    "{} is no sensible time to wait: expected 100ms to 1m",
                    self.timeout
                ),
            ));
        }
        problems
    }

    fn hosts(&self) -> Vec<String> {
        url::Url::parse(&self.api_url)
            .ok()
            .and_then(|u| u.host_str().map(str::to_owned))
            .into_iter()
            .collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedDns, MakeError> {
    let with: CloudflareWith = kind::read(with)?;
    let Some(dns) = &wiring.service.dns else {
        return Err(MakeError("the service names no DNS zone".into()));
    };
    Ok(Arc::new(Cloudflare {
        zone: rrset::name(&dns.zone).map_err(|e| MakeError(e.to_string()))?,
        id: Mutex::new(with.zone_id),
        shortest: if with.enterprise {
            SHORTEST_ENTERPRISE
        } else {
            SHORTEST
        },
        proxied: Mutex::default(),
        api: Api {
            http: wiring.http.clone(),
            base: with.api_url.trim_end_matches('/').to_owned(),
            token: with.token,
            secrets: wiring.secrets.clone(),
            runtime: wiring.runtime.clone(),
            timeout: with.timeout.to_std(),
        },
    }))
}

struct Cloudflare {
    api: Api,
    zone: Name,
    /// Looked up once: a zone keeps its id.
    id: Mutex<Option<String>>,
    shortest: u32,
    /// Which records were behind the proxy when they were last read.
    proxied: Mutex<BTreeMap<(Name, RecordKind), bool>>,
}

/// The records of one name and type, with what they make.
struct Found {
    records: Vec<ApiRecord>,
    set: RecordSet,
}

impl Found {
    fn proxied(&self) -> bool {
        self.records.iter().any(|r| r.proxied)
    }

    /// Whether this is what is wanted; behind the proxy the TTL is not ours.
    fn is(&self, want: &RecordSet) -> bool {
        self.set.values == want.values && (self.proxied() || self.set.ttl == want.ttl)
    }
}

#[async_trait]
impl DnsProvider for Cloudflare {
    async fn read(&self, name: &str, kind: RecordKind) -> Result<RecordSet, ReadError> {
        let fail = |reason: String| ReadError { reason };
        let owner = rrset::name_in(name, &self.zone).map_err(|e| fail(e.to_string()))?;
        let found = self.look(&owner, kind).await.map_err(fail)?;
        Ok(found.set)
    }

    async fn swap(
        &self,
        name: &str,
        kind: RecordKind,
        expect: &RecordSet,
        want: &RecordSet,
    ) -> Swap {
        let refused = |reason: String| Swap::Refused { reason };
        let owner = match rrset::name_in(name, &self.zone) {
            Ok(owner) => owner,
            Err(e) => return refused(e.to_string()),
        };
        let found = match self.look(&owner, kind).await {
            Ok(found) => found,
            // Nothing was sent that could change anything.
            Err(e) => return refused(e),
        };
        if found.is(want) {
            return Swap::Done;
        }
        if found.set.values != expect.values {
            return Swap::Conflict { found: found.set };
        }
        if !want.values.is_empty() && !(self.shortest..=LONGEST).contains(&want.ttl) {
            return refused(format!(
                "Cloudflare takes TTLs from {} to {LONGEST} s, not {} s",
                self.shortest, want.ttl
            ));
        }
        let Some(batch) = batch::batch(&text(&owner), kind, &found.records, want) else {
            return Swap::Done;
        };
        let id = match self.zone_id().await {
            Ok(id) => id,
            Err(e) => return refused(e),
        };
        let result = self.api.batch(&id, &batch).await;
        self.settle(&owner, kind, want, result).await
    }

    fn shortest_ttl(&self) -> u32 {
        self.shortest
    }

    async fn fronted(&self, name: &str, kind: RecordKind) -> Option<String> {
        let owner = rrset::name_in(name, &self.zone).ok()?;
        if kind == RecordKind::CNAME && owner == self.zone {
            return Some(
                "Cloudflare flattens a CNAME at the zone's apex: resolvers see addresses in its place"
                    .to_owned(),
            );
        }
        let known = self
            .proxied
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&(owner.clone(), kind))
            .copied();
        let proxied = match known {
            Some(proxied) => proxied,
            None => self.look(&owner, kind).await.ok()?.proxied(),
        };
        proxied.then(|| {
            "it is behind Cloudflare's proxy: resolvers see Cloudflare's addresses, and the origin changes without any TTL"
                .to_owned()
        })
    }

    async fn check(&self, name: &str, kind: RecordKind) -> Vec<CheckItem> {
        let mut items = vec![self.check_zone().await];
        items.extend(self.check_token().await);
        items.extend(self.check_limit());
        if let Ok(owner) = rrset::name_in(name, &self.zone)
            && let Err(e) = self.look(&owner, kind).await
        {
            items.push(CheckItem::bad(
                "dns/provider",
                CheckStatus::Fail,
                e,
                "let the token read the zone's DNS",
            ));
        }
        items
    }
}

/// A name as Cloudflare writes it.
fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

impl Cloudflare {
    async fn zone_id(&self) -> Result<String, String> {
        let known = self
            .id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(id) = known {
            return Ok(id);
        }
        match self.api.zone_named(&text(&self.zone)).await {
            Ok(Some(zone)) => {
                *self.id.lock().unwrap_or_else(PoisonError::into_inner) = Some(zone.id.clone());
                Ok(zone.id)
            }
            Ok(None) => Err(format!(
                "the token sees no zone {} at Cloudflare: give it Zone.Zone:Read and Zone.DNS:Edit for it",
                self.zone
            )),
            Err(e) => Err(cause::without_repeats(&e)),
        }
    }

    async fn look(&self, owner: &Name, kind: RecordKind) -> Result<Found, String> {
        let id = self.zone_id().await?;
        let records = self
            .api
            .records(&id, &text(owner), &kind.to_string())
            .await
            .map_err(|e| cause::without_repeats(&e))?;
        let set = batch::set(kind, &records).map_err(|e| e.to_string())?;
        let found = Found { records, set };
        self.proxied
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((owner.clone(), kind), found.proxied());
        Ok(found)
    }

    /// What a batch came to, by its answer and by reading back.
    async fn settle(
        &self,
        owner: &Name,
        kind: RecordKind,
        want: &RecordSet,
        result: Result<(), ApiError>,
    ) -> Swap {
        let found = match &result {
            // A blocked credential cannot read either, and nothing was changed.
            Err(e) if e.nothing_changed() && !matches!(e, ApiError::Refused { .. }) => {
                return Swap::Refused {
                    reason: cause::without_repeats(e),
                };
            }
            Ok(()) | Err(_) => self.look(owner, kind).await,
        };
        match (result, found) {
            (_, Ok(found)) if found.is(want) => Swap::Done,
            // The API's own word, in a transaction, is enough where reading back fails.
            (Ok(()), Err(_)) => Swap::Done,
            (Ok(()), Ok(found)) => Swap::Unknown {
                reason: format!(
                    "Cloudflare made the change, but holds {}: somebody changed it at the same time",
                    rrset::described(&found.set)
                ),
            },
            (Err(e), Ok(found)) if e.has(&[GONE]) || e.has(&IDENTICAL) => {
                Swap::Conflict { found: found.set }
            }
            (Err(e), _) if e.nothing_changed() => Swap::Refused {
                reason: self.refusal(owner, want, &e),
            },
            (Err(e), Ok(found)) => Swap::Unknown {
                reason: format!(
                    "{}; it holds {} now, and the change may yet be made",
                    cause::without_repeats(&e),
                    rrset::described(&found.set)
                ),
            },
            (Err(e), Err(read)) => Swap::Unknown {
                reason: format!(
                    "{}; reading back failed as well: {read}",
                    cause::without_repeats(&e)
                ),
            },
        }
    }

    fn refusal(&self, owner: &Name, want: &RecordSet, error: &ApiError) -> String {
        if error.has(&COLLIDES) {
            format!(
                "records of another type stand at {owner}, and a CNAME cannot stand beside them: {error}"
            )
        } else if error.has(&[BAD_TTL]) {
            format!(
                "Cloudflare does not take a TTL of {} s for {owner}: {error}",
                want.ttl
            )
        } else if error.denied() {
            format!(
                "the token may not edit DNS records of {}: give it Zone.DNS:Edit ({error})",
                self.zone
            )
        } else {
            cause::without_repeats(error)
        }
    }

    /// Whether the zone can be read, is served, and could be edited.
    async fn check_zone(&self) -> CheckItem {
        let item =
            |status, detail: String, fix: &str| CheckItem::bad("dns/provider", status, detail, fix);
        let id = match self.zone_id().await {
            Ok(id) => id,
            Err(e) => return item(CheckStatus::Fail, e, "correct the token or the zone"),
        };
        match self.api.zone(&id).await {
            Ok(zone) if zone.status != "active" && !zone.status.is_empty() => {
                return item(
                    CheckStatus::Fail,
                    format!("the zone {} is {} at Cloudflare", zone.name, zone.status),
                    "make the zone active: nobody asks Cloudflare for it now",
                );
            }
            Ok(zone) if rrset::name(&zone.name).as_ref() != Ok(&self.zone) => {
                return item(
                    CheckStatus::Fail,
                    format!("zoneId belongs to {}, not to {}", zone.name, self.zone),
                    "correct zoneId, or leave it out",
                );
            }
            Ok(_) => {}
            Err(e) => {
                return item(
                    status_of(&e),
                    cause::without_repeats(&e),
                    "let the token read the zone",
                );
            }
        }
        match self.api.edit_nothing(&id).await {
            Err(e) if e.denied() => item(
                CheckStatus::Fail,
                format!("the token may not edit DNS records of {}: {e}", self.zone),
                "give the token Zone.DNS:Edit for this zone",
            ),
            Err(ApiError::Refused { status, .. }) if status.is_client_error() => CheckItem::ok(
                "dns/provider",
                format!(
                    "the token may edit DNS records of {} (tried on a record that does not exist); Cloudflare has no compare-and-swap, so a swap reads right before and right after",
                    self.zone
                ),
            ),
            Err(e) => item(
                CheckStatus::Unknown,
                cause::without_repeats(&e),
                "try again",
            ),
            Ok(()) => item(
                CheckStatus::Unknown,
                "Cloudflare changed a record that cannot exist: something else answers for it"
                    .into(),
                "look at apiUrl",
            ),
        }
    }

    /// Whether so many services call with this token that checks have to wait.
    fn check_limit(&self) -> Option<CheckItem> {
        let used = self.api.used().ok()?;
        (used >= limit::UPKEEP).then(|| {
            CheckItem::bad(
                "dns/limit",
                CheckStatus::Warn,
                format!(
                    "the token made {} or more calls within {}, so that checks wait; steps wait from {} on: Cloudflare blocks a \
                     token for 5 minutes beyond {}",
                    limit::UPKEEP,
                    limit::WINDOW,
                    limit::CALLS,
                    limit::ALLOWED
                ),
                "share this service's zones among tokens of several Cloudflare users",
            )
        })
    }

    /// Whether the token ends soon. An account's token cannot be asked for that: then nothing is said.
    async fn check_token(&self) -> Option<CheckItem> {
        let token = self.api.verify().await.ok()?;
        if !token.status.is_empty() && token.status != "active" {
            return Some(CheckItem::bad(
                "dns/token",
                CheckStatus::Fail,
                format!("the token is {} at Cloudflare", token.status),
                "make a new token",
            ));
        }
        let end = Time::parse(token.expires_on.as_deref()?).ok()?;
        let left = end.since(self.api.runtime.now());
        (left < TOKEN_WARNING).then(|| {
            CheckItem::bad(
                "dns/token",
                CheckStatus::Warn,
                format!("the token ends on {}", end.date()),
                "roll the token before that",
            )
        })
    }
}

fn status_of(error: &ApiError) -> CheckStatus {
    if error.nothing_changed() && !matches!(error, ApiError::Blocked(_)) {
        CheckStatus::Fail
    } else {
        CheckStatus::Unknown
    }
}
