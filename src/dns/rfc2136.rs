//! `dns/rfc2136`: any server that takes dynamic updates (BIND, Knot, `PowerDNS` …), signed with TSIG.
//!
//! A swap is one UPDATE message whose prerequisites name the values that must still stand there, so the compare and
//! the swap are one act at the server. What an answer is worth:
//!
//! - Success counts where it is signed, and after reading back that the set and its TTL stand there: prerequisites
//!   say nothing of the TTL, and a server silently ignores additions that collide with a CNAME (RFC 2136 §3.4.2.2).
//! - A refusal counts where it is signed. An unsigned one (BADKEY and BADSIG cannot be signed) counts after reading
//!   back that the wanted set does not stand there.
//! - Without a valid answer the set is read back: if the wanted one stands there, it is done. Otherwise the outcome
//!   is unknown, **even if the expected set still stands there**: the message may yet arrive. It stays dangerous for
//!   at most the fudge of its signature (5 min), and for no longer than the values that it expects stand there.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::Name,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    rrset,
    tsig::{Key, KeyRef, Signed, Verdict},
    update::Change,
    wire::{self, Answer, Endpoint, Travel, WireError},
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        service::RecordKind,
        span::Span,
    },
    port::{
        dns::{DnsProvider, ReadError, RecordSet, SharedDns, Swap},
        kind::{self, Kind, Make, MakeError, Problem, Wiring},
        runtime::SharedRuntime,
        secret::SharedSecrets,
    },
};

/// `dns/rfc2136`.
pub const KIND: Kind = Kind::new::<Rfc2136With>(
    "dns/rfc2136",
    "repoints through dynamic updates signed with TSIG (BIND, Knot, PowerDNS, …)",
    "server: 192.0.2.53\nkey:\n  name: failover-key.\n  algorithm: hmac-sha256\n  secret: { env: FAILOVER_DNS_KEY }\n",
    Make::Dns(make),
);

/// What a server answers when a prerequisite does not hold (RFC 2136 §2.4).
const STALE: [ResponseCode; 4] = [
    ResponseCode::YXRRSet,
    ResponseCode::NXRRSet,
    ResponseCode::YXDomain,
    ResponseCode::NXDomain,
];

/// The item of `failover check` that tells whether records can be changed.
const ITEM: &str = "dns/provider";

/// A clock difference that is still fine but should be looked at: a tenth of what is allowed.
const SKEW_WARNING: Span = Span::from_secs(30);

/// Settings of `dns/rfc2136`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rfc2136With {
    /// The zone's primary server, as `host[:port]`. An address also works while names cannot be looked up.
    pub server: String,
    /// The TSIG key that the server lets update these records.
    pub key: KeyRef,
    /// How messages travel. Default: tcp.
    #[serde(default)]
    pub transport: Transport,
    /// How long to wait for one answer. Default: 5s.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Transport {
    /// A connection: a lost packet is sent again, and a closed port is told from silence.
    #[default]
    Tcp,
    /// A datagram, sent once.
    Udp,
}

fn default_timeout() -> Span {
    Span::from_secs(5)
}

impl kind::With for Rfc2136With {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.key.problems("key");
        if let Err(e) = Endpoint::parse(&self.server) {
            problems.push(Problem::new("server", e));
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
        Endpoint::parse(&self.server)
            .map(|e| e.host)
            .into_iter()
            .collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedDns, MakeError> {
    let with: Rfc2136With = kind::read(with)?;
    let zone = match &wiring.service.dns {
        Some(dns) => rrset::name(&dns.zone).map_err(|e| MakeError(e.to_string()))?,
        None => return Err(MakeError("the service names no DNS zone".into())),
    };
    Ok(Arc::new(Rfc2136 {
        server: Endpoint::parse(&with.server).map_err(MakeError)?,
        zone,
        key: with.key,
        update: match with.transport {
            Transport::Tcp => Travel::Tcp,
            Transport::Udp => Travel::UdpOnce,
        },
        read: match with.transport {
            Transport::Tcp => Travel::Tcp,
            Transport::Udp => Travel::Udp,
        },
        timeout: with.timeout.to_std(),
        secrets: wiring.secrets.clone(),
        runtime: wiring.runtime.clone(),
    }))
}

struct Rfc2136 {
    server: Endpoint,
    zone: Name,
    key: KeyRef,
    update: Travel,
    read: Travel,
    timeout: Duration,
    secrets: SharedSecrets,
    runtime: SharedRuntime,
}

/// What an update came to, before anything is read back.
enum Reply {
    /// Signed success.
    Applied,
    /// A prerequisite did not hold; nothing was changed.
    Stale,
    /// Refused, by the server's own word where `signed`.
    Refused { reason: String, signed: bool },
    /// It may have been applied.
    Unclear { reason: String },
}

#[async_trait]
impl DnsProvider for Rfc2136 {
    async fn read(&self, name: &str, kind: RecordKind) -> Result<RecordSet, ReadError> {
        let owner = rrset::name_in(name, &self.zone).map_err(|e| ReadError {
            reason: e.to_string(),
        })?;
        self.look(&owner, kind)
            .await
            .map_err(|reason| ReadError { reason })
    }

    async fn swap(
        &self,
        name: &str,
        kind: RecordKind,
        expect: &RecordSet,
        want: &RecordSet,
    ) -> Swap {
        let owner = match rrset::name_in(name, &self.zone) {
            Ok(owner) => owner,
            Err(e) => return refused(e.to_string()),
        };
        let change = match Change::swap(&owner, kind, expect, want) {
            Ok(change) => change,
            Err(e) => return refused(e.to_string()),
        };
        let key = match self.key.read(self.secrets.as_ref()) {
            Ok(key) => key,
            Err(e) => return refused(e.to_string()),
        };
        let reply = self.send(&key, &change).await;
        // A server that does not accept the key for the update accepts it for no question either.
        let found = match &reply {
            Reply::Refused { signed: false, .. } => self.look_unsigned(&owner, kind).await,
            Reply::Applied | Reply::Stale | Reply::Refused { .. } | Reply::Unclear { .. } => {
                self.look(&owner, kind).await
            }
        };
        settle(&self.server, reply, found, expect, want)
    }

    async fn check(&self, name: &str, kind: RecordKind) -> Vec<CheckItem> {
        vec![self.check_update(name, kind).await]
    }
}

fn refused(reason: String) -> Swap {
    Swap::Refused { reason }
}

/// What a swap came to, from the update's reply and from what stands there now.
fn settle(
    server: &Endpoint,
    reply: Reply,
    found: Result<RecordSet, String>,
    expect: &RecordSet,
    want: &RecordSet,
) -> Swap {
    if found.as_ref() == Ok(want) {
        return Swap::Done;
    }
    match (reply, found) {
        (Reply::Applied, Ok(set)) if set.values == want.values => Swap::Unknown {
            reason: format!(
                "{server} holds the wanted values, but with a TTL of {} s instead of {} s",
                set.ttl, want.ttl
            ),
        },
        (Reply::Applied, Ok(set)) if set == *expect || set.values.is_empty() => refused(format!(
            "{server} accepted the update but did not make it: records of another type (a CNAME, or beside a CNAME) probably stand at this name; it holds {}",
            rrset::described(&set)
        )),
        (Reply::Applied, Ok(set)) => Swap::Unknown {
            reason: format!(
                "{server} accepted the update, but holds {}: somebody changed it right after",
                rrset::described(&set)
            ),
        },
        (Reply::Applied, Err(e)) => Swap::Unknown {
            reason: format!("{server} accepted the update, but it could not be read back: {e}"),
        },
        (Reply::Stale, Ok(found)) => Swap::Conflict { found },
        (Reply::Stale, Err(e)) => refused(format!(
            "the records at {server} are no longer what they were, and what they are now could not be read: {e}"
        )),
        (Reply::Refused { reason, .. }, Ok(_))
        | (
            Reply::Refused {
                reason,
                signed: true,
            },
            Err(_),
        ) => refused(reason),
        (
            Reply::Refused {
                reason,
                signed: false,
            },
            Err(e),
        ) => Swap::Unknown {
            reason: format!("{reason}; this answer is not signed, and reading back failed: {e}"),
        },
        (Reply::Unclear { reason }, Ok(set)) => Swap::Unknown {
            reason: format!(
                "{reason}; it holds {} now, and the update may yet arrive",
                rrset::described(&set)
            ),
        },
        (Reply::Unclear { reason }, Err(e)) => Swap::Unknown {
            reason: format!("{reason}; reading back failed as well: {e}"),
        },
    }
}

/// Where nothing was sent, nothing can have changed.
fn unanswered(error: &WireError) -> Reply {
    let reason = error.plain();
    if error.never_sent() {
        Reply::Refused {
            reason,
            signed: true,
        }
    } else {
        Reply::Unclear { reason }
    }
}

impl Rfc2136 {
    fn now(&self) -> u64 {
        u64::try_from(self.runtime.wall().as_secs()).unwrap_or(0)
    }

    /// Asks the server itself. The question is signed, so that a server which keeps several views of the zone answers
    /// from the one that updates go to; not every server signs the answer to a question.
    async fn look(&self, owner: &Name, kind: RecordKind) -> Result<RecordSet, String> {
        let key = self
            .key
            .read(self.secrets.as_ref())
            .map_err(|e| e.to_string())?;
        let question = wire::question(owner, rrset::record_type(kind), false);
        let signed = self.signed(&key, question)?;
        let answer = wire::exchange(&self.server, &signed.bytes, self.read, self.timeout)
            .await
            .map_err(|e| e.plain())?;
        let verdict = key.judge(&signed, &answer);
        if !matches!(verdict, Verdict::Genuine { .. } | Verdict::Unsigned) {
            return Err(self.mistrust(&key, &verdict));
        }
        wire::held(&answer.message, owner, kind).map_err(|doubt| format!("{} {doubt}", self.server))
    }

    async fn look_unsigned(&self, owner: &Name, kind: RecordKind) -> Result<RecordSet, String> {
        let question = wire::question(owner, rrset::record_type(kind), false)
            .to_vec()
            .map_err(|e| e.to_string())?;
        let answer = wire::exchange(&self.server, &question, self.read, self.timeout)
            .await
            .map_err(|e| e.plain())?;
        wire::held(&answer.message, owner, kind).map_err(|doubt| format!("{} {doubt}", self.server))
    }

    fn signed(&self, key: &Key, message: Message) -> Result<Signed, String> {
        key.sign(message, self.now())
            .ok_or_else(|| "the message for the DNS server cannot be written".to_owned())
    }

    async fn send(&self, key: &Key, change: &Change) -> Reply {
        let signed = match self.signed(key, change.message(&self.zone)) {
            Ok(signed) => signed,
            Err(reason) => {
                return Reply::Refused {
                    reason,
                    signed: true,
                };
            }
        };
        match wire::exchange(&self.server, &signed.bytes, self.update, self.timeout).await {
            Ok(answer) => self.reply(key, &signed, &answer),
            Err(e) => unanswered(&e),
        }
    }

    fn reply(&self, key: &Key, signed: &Signed, answer: &Answer) -> Reply {
        let verdict = key.judge(signed, answer);
        let genuine = match &verdict {
            Verdict::Genuine { .. } => true,
            Verdict::Unsigned => false,
            Verdict::Forged => {
                return Reply::Unclear {
                    reason: self.mistrust(key, &verdict),
                };
            }
            Verdict::BadTime { .. } | Verdict::BadKey | Verdict::BadSignature => {
                return Reply::Refused {
                    reason: self.mistrust(key, &verdict),
                    signed: matches!(verdict, Verdict::BadTime { .. }),
                };
            }
        };
        let code = answer.message.response_code;
        if genuine && code == ResponseCode::NoError {
            Reply::Applied
        } else if genuine && STALE.contains(&code) {
            Reply::Stale
        } else if let Some(reason) = self.refusal(key, code) {
            Reply::Refused {
                reason,
                signed: genuine,
            }
        } else {
            // SERVFAIL too: a secondary that forwards gives it when the primary did not answer in time.
            let unsigned = if genuine { "" } else { ", without a signature" };
            Reply::Unclear {
                reason: format!(
                    "{} answered the update with {}{unsigned}",
                    self.server,
                    code.to_str()
                ),
            }
        }
    }

    /// What a code means that says that nothing was changed.
    fn refusal(&self, key: &Key, code: ResponseCode) -> Option<String> {
        let (server, zone) = (&self.server, &self.zone);
        if code == ResponseCode::Refused {
            Some(format!(
                "{server} refuses the update (REFUSED): let key {} update these records, in allow-update or update-policy of zone {zone}",
                key.name()
            ))
        } else if code == ResponseCode::NotAuth {
            Some(format!(
                "{server} is not the primary server of zone {zone} (NOTAUTH)"
            ))
        } else if code == ResponseCode::NotZone {
            Some(format!(
                "{server} says that the name does not lie in zone {zone} (NOTZONE): the zone is cut elsewhere"
            ))
        } else if code == ResponseCode::FormErr || code == ResponseCode::NotImp {
            Some(format!(
                "{server} does not take dynamic updates as RFC 2136 has them ({})",
                code.to_str()
            ))
        } else {
            None
        }
    }

    /// What is wrong with a signature, and what to do.
    fn mistrust(&self, key: &Key, verdict: &Verdict) -> String {
        let (server, name) = (&self.server, key.name());
        match verdict {
            Verdict::BadKey => format!(
                "the server {server} does not know key {name} with this algorithm (BADKEY): compare name and algorithm with the server's configuration"
            ),
            Verdict::BadSignature => format!(
                "the server {server} has another secret for key {name} (BADSIG): compare the secrets"
            ),
            Verdict::BadTime { skew } => format!(
                "the server's clock and ours differ by {skew} (BADTIME, 5m are allowed): set the clock of this host or of {server}"
            ),
            Verdict::Forged => format!(
                "the answer of {server} is not signed with key {name}: somebody else answered, or the secrets differ"
            ),
            Verdict::Unsigned => format!("{server} answered without a signature"),
            Verdict::Genuine { skew } => {
                format!("{server} answered as it should, with its clock {skew} from ours")
            }
        }
    }

    /// Tries an update that cannot be made, and one that changes nothing. The first alone would not do: a server that
    /// keeps to the order of RFC 2136 §3 looks at prerequisites before it looks at rights.
    async fn check_update(&self, name: &str, kind: RecordKind) -> CheckItem {
        let owner = match rrset::name_in(name, &self.zone) {
            Ok(owner) => owner,
            Err(e) => return failed(e.to_string(), "name records of the service's zone only"),
        };
        let there = match self.look(&owner, kind).await {
            Ok(there) => there,
            Err(e) => return failed(e, "make the server readable for this host with this key"),
        };
        let key = match self.key.read(self.secrets.as_ref()) {
            Ok(key) => key,
            Err(e) => return failed(e.to_string(), "put the secret where the document says"),
        };
        let changes = Change::harmless(&self.zone, &owner, kind, &there)
            .and_then(|stopped| Ok((stopped, Change::idle(&owner, kind, &there)?)));
        let (stopped, idle) = match changes {
            Ok(changes) => changes,
            Err(e) => return failed(e.to_string(), "correct the record"),
        };
        match self.attempt(&key, &stopped).await {
            Ok(Tried::Stopped) => {}
            Ok(Tried::Made { .. }) => {
                return failed(
                    format!("{} ignores the conditions of updates", self.server),
                    "use a server that honours RFC 2136's prerequisites: without them two writers overwrite each other",
                );
            }
            Err(item) => return *item,
        }
        match self.attempt(&key, &idle).await {
            Ok(Tried::Made { skew }) if skew > SKEW_WARNING => CheckItem::bad(
                ITEM,
                CheckStatus::Warn,
                format!(
                    "{} takes updates of {owner} {kind}, but its clock and ours differ by {skew}",
                    self.server
                ),
                "set both clocks: beyond 5m every update is refused",
            ),
            Ok(Tried::Made { .. }) => CheckItem::ok(
                ITEM,
                format!(
                    "{} takes updates of {owner} {kind} signed with {} (tried with one that changes nothing)",
                    self.server,
                    key.name()
                ),
            ),
            Ok(Tried::Stopped) => CheckItem::bad(
                ITEM,
                CheckStatus::Unknown,
                format!("{owner} {kind} was changed while updates of it were tried"),
                "try again",
            ),
            Err(item) => *item,
        }
    }

    /// Sends an update for a check; the error is the check's item.
    async fn attempt(&self, key: &Key, change: &Change) -> Result<Tried, Box<CheckItem>> {
        let signed = self
            .signed(key, change.message(&self.zone))
            .map_err(|e| failed(e, "correct the record"))?;
        let answer = wire::exchange(&self.server, &signed.bytes, self.update, self.timeout)
            .await
            .map_err(|e| {
                let status = if e.never_sent() {
                    CheckStatus::Fail
                } else {
                    CheckStatus::Unknown
                };
                let fix = "make the server reachable from this host";
                CheckItem::bad(ITEM, status, e.plain(), fix)
            })?;
        let skew = match key.judge(&signed, &answer) {
            Verdict::Genuine { skew } | Verdict::BadTime { skew } => skew,
            Verdict::Unsigned | Verdict::BadKey | Verdict::BadSignature | Verdict::Forged => {
                Span::ZERO
            }
        };
        match self.reply(key, &signed, &answer) {
            Reply::Applied => Ok(Tried::Made { skew }),
            Reply::Stale => Ok(Tried::Stopped),
            Reply::Refused { reason, .. } => Err(Box::new(failed(
                reason,
                "correct the key here or the server's configuration; nothing was changed",
            ))),
            Reply::Unclear { reason } => Err(Box::new(CheckItem::bad(
                ITEM,
                CheckStatus::Unknown,
                reason,
                "look at the server's log",
            ))),
        }
    }
}

/// What became of an update that a check tried.
enum Tried {
    /// Its conditions did not hold.
    Stopped,
    /// The server took it, with its clock this far from ours.
    Made { skew: Span },
}

fn failed(detail: String, fix: &str) -> CheckItem {
    CheckItem::bad(ITEM, CheckStatus::Fail, detail, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str], ttl: u32) -> RecordSet {
        RecordSet {
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            ttl,
        }
    }

    fn settled(reply: Reply, found: Result<RecordSet, String>) -> &'static str {
        let server = Endpoint::parse("192.0.2.53").unwrap();
        let (old, new) = (set(&["192.0.2.1"], 300), set(&["198.51.100.1"], 60));
        match settle(&server, reply, found, &old, &new) {
            Swap::Done => "done",
            Swap::Conflict { .. } => "conflict",
            Swap::Refused { .. } => "refused",
            Swap::Unknown { .. } => "unknown",
        }
    }

    #[test]
    fn what_a_swap_came_to() {
        let unclear = || Reply::Unclear {
            reason: "no answer".into(),
        };
        let refused = |signed| Reply::Refused {
            reason: "no".into(),
            signed,
        };
        let old = || Ok(set(&["192.0.2.1"], 300));
        let new = || Ok(set(&["198.51.100.1"], 60));
        let other_ttl = || Ok(set(&["198.51.100.1"], 3600));
        let foreign = || Ok(set(&["203.0.113.1"], 300));
        let lost = || Err("no answer".to_owned());
        for (reply, found, expected) in [
            (Reply::Applied, new(), "done"),
            (Reply::Applied, other_ttl(), "unknown"),
            (Reply::Applied, old(), "refused"),
            (Reply::Applied, foreign(), "unknown"),
            (Reply::Applied, lost(), "unknown"),
            (Reply::Stale, foreign(), "conflict"),
            (Reply::Stale, new(), "done"),
            (Reply::Stale, lost(), "refused"),
            (refused(true), old(), "refused"),
            (refused(true), lost(), "refused"),
            (refused(false), old(), "refused"),
            (refused(false), new(), "done"),
            (refused(false), lost(), "unknown"),
            (unclear(), new(), "done"),
            (unclear(), old(), "unknown"),
            (unclear(), foreign(), "unknown"),
            (unclear(), lost(), "unknown"),
        ] {
            let told = format!("{found:?}");
            assert_eq!(settled(reply, found), expected, "{told}");
        }
    }
}
