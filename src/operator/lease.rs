//! Which of several replicas leads: a Lease, changed by compare-and-swap.
//!
//! The Lease only keeps replicas out of each other's way. That a deposed leader cannot write is the journal's doing
//! (`journal/kubernetes`), so no clock has to be right: a replica takes the Lease when it has seen it unchanged for its whole
//! duration by its own clock. A leader that cannot reach the server stays one: nobody else can become it without the
//! server, and nothing is done that cannot be recorded. Only one that grants leases to guards stops then, since grants are
//! not recorded.

use std::pin::pin;

use futures::{FutureExt, select_biased};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use crate::{
    driver::tenure::{Moment, Tenure},
    model::{id::Term, span::Span, time::Time},
    port::{cause, runtime::SharedRuntime},
};

/// How often the Lease is renewed, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A Lease that was not renewed for so long may be taken.
    pub lease: Span,
    /// A renewal has to succeed within this, or the leader says that it may be deposed.
    pub renew: Span,
    /// Time between two attempts.
    pub retry: Span,
}

/// Why times do not fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// The leader would be deposed before it could know.
    #[error("the lease ({lease}) must be longer than the renewal may take ({renew})")]
    Renew {
        /// The lease.
        lease: Span,
        /// The renewal.
        renew: Span,
    },
    /// One lost request would depose it.
    #[error("the renewal ({renew}) must allow for two attempts, one every {retry}")]
    Retry {
        /// The renewal.
        renew: Span,
        /// The attempts.
        retry: Span,
    },
    /// Leases count in seconds, and the server would be asked without a pause.
    #[error("the lease ({0}) must be at least 1s, and the time between attempts not zero")]
    Short(Span),
}

impl Times {
    /// Times that fit each other.
    ///
    /// # Errors
    /// Where they do not.
    pub fn new(lease: Span, renew: Span, retry: Span) -> Result<Self, TimesError> {
        if lease < Span::from_secs(1) || retry == Span::ZERO {
            return Err(TimesError::Short(lease));
        }
        if renew >= lease {
            return Err(TimesError::Renew { lease, renew });
        }
        if retry.saturating_mul(2) > renew {
            return Err(TimesError::Retry { renew, retry });
        }
        Ok(Self {
            lease,
            renew,
            retry,
        })
    }
}

/// A candidate of an election.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    times: Times,
    runtime: SharedRuntime,
}

/// An election that was won.
#[derive(Clone, Debug)]
pub struct Won {
    /// The term.
    pub term: Term,
    /// When it was asked for.
    pub asked: Moment,
    lease: Lease,
}

/// Why somebody leads no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another replica leads.
    #[error("{0} leads now")]
    Taken(String),
    /// It could not be renewed, and this replica must not go on without.
    #[error("the lease was not renewed for {0}")]
    Silent(Span),
    /// The Lease was removed.
    #[error("the lease is gone")]
    Gone,
}

/// What came of a renewal.
enum Renewal {
    /// It is renewed.
    Done,
    /// Still its own, but nothing was renewed: it is tried again.
    Again,
    /// It is another's.
    Lost(Lost),
}

/// What a candidate does about the Lease that it sees.
#[derive(Clone, Debug, PartialEq)]
enum Claim {
    /// Takes it.
    Take(Term),
    /// Looks again.
    Wait,
}

/// The Lease as it was first seen, and when that was.
#[derive(Clone, Debug, Default)]
struct Sight(Option<(Option<String>, Time)>);

impl Sight {
    /// How long it has been seen unchanged.
    fn unchanged(&mut self, version: Option<&String>, now: Time) -> Span {
        match &self.0 {
            Some((seen, since)) if seen.as_ref() == version => now.since(*since),
            Some(_) | None => {
                self.0 = Some((version.cloned(), now));
                Span::ZERO
            }
        }
    }
}

fn claim(lease: &Lease, identity: &str, unchanged: Span) -> Claim {
    let empty = LeaseSpec::default();
    let spec = lease.spec.as_ref().unwrap_or(&empty);
    let term = u64::try_from(spec.lease_transitions.unwrap_or_default()).unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let lasts = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
    // An identity is one process's: whoever finds its own name there did not get the answer.
    if holder.is_empty() || holder == identity || unchanged >= Span::from_secs(lasts) {
        Claim::Take(Term(term + u64::from(holder != identity)))
    } else {
        Claim::Wait
    }
}

impl Election {
    /// A candidate. `identity` names this process and no other one.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        times: Times,
        runtime: SharedRuntime,
    ) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            times,
            runtime,
        }
    }

    /// Ends once this replica leads.
    pub async fn win(&self) -> Won {
        let mut sight = Sight::default();
        let mut last = None;
        loop {
            match self.attempt(&mut sight).await {
                Ok(Ok(won)) => return won,
                Ok(Err(holder)) => {
                    if last.replace(holder.clone()).as_ref() != Some(&holder) {
                        tracing::info!(%holder, "another replica leads; this one waits");
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %cause::in_full(&error), "the lease cannot be used; trying again");
                    // While the server was silent the leader may have been unable to renew.
                    sight = Sight::default();
                }
            }
            self.pause().await;
        }
    }

    async fn attempt(&self, sight: &mut Sight) -> Result<Result<Won, String>, kube::Error> {
        let Some(seen) = self.in_time(self.leases.get_opt(&self.name)).await? else {
            let lease = self.lease(ObjectMeta::default(), Term(1));
            let params = PostParams::default();
            let created = self.leases.create(&params, &lease);
            let asked = Moment::now(&self.runtime);
            return match self.in_time(created).await {
                Ok(lease) => Ok(Ok(Won {
                    term: Term(1),
                    asked,
                    lease,
                })),
                Err(error) if is_conflict(&error) => Ok(Err("another replica".to_owned())),
                Err(error) => Err(error),
            };
        };
        let version = seen.metadata.resource_version.as_ref();
        let unchanged = sight.unchanged(version, self.runtime.now());
        let Claim::Take(term) = claim(&seen, &self.identity, unchanged) else {
            let holder = seen.spec.and_then(|spec| spec.holder_identity);
            return Ok(Err(holder.unwrap_or_default()));
        };
        let lease = self.lease(seen.metadata, term);
        let asked = Moment::now(&self.runtime);
        match self.replace(&lease).await {
            Ok(lease) => Ok(Ok(Won { term, asked, lease })),
            Err(error) if is_conflict(&error) => Ok(Err("another replica".to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Renews while something is under way that has to be done before this replica leads.
    ///
    /// # Errors
    /// Where another one leads before it is done.
    pub async fn during<T>(&self, won: &mut Won, work: impl Future<Output = T>) -> Result<T, Lost> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = self.pause() => {}
            }
            self.try_renew(won).await?;
        }
    }

    /// Makes the term a later one than `last`: a Lease that somebody removed begins to count anew.
    ///
    /// # Errors
    /// Where another replica leads.
    pub async fn surpass(&self, won: &mut Won, last: Term) -> Result<(), Lost> {
        if won.term > last {
            return Ok(());
        }
        won.term = Term(last.0 + 1);
        while !self.try_renew(won).await? {
            self.pause().await;
        }
        Ok(())
    }

    /// Renews once; whether that was done. Where it was not, it may be tried again.
    async fn try_renew(&self, won: &mut Won) -> Result<bool, Lost> {
        let asked = Moment::now(&self.runtime);
        match self.renew(won).await {
            Ok(Renewal::Done) => {
                won.asked = asked;
                return Ok(true);
            }
            Ok(Renewal::Again) => {}
            Ok(Renewal::Lost(lost)) => return Err(lost),
            Err(error) => {
                tracing::warn!(error = %cause::in_full(&error), "the lease cannot be renewed; trying again");
            }
        }
        Ok(false)
    }

    /// Renews until another replica leads. A server that does not answer deposes nobody, unless this one `yields`.
    pub async fn keep(&self, won: &mut Won, tenure: &Tenure, yields: bool) -> Lost {
        let lost = self.renew_on(won, tenure, yields).await;
        tenure.end();
        lost
    }

    async fn renew_on(&self, won: &mut Won, tenure: &Tenure, yields: bool) -> Lost {
        let mut told = false;
        loop {
            self.pause().await;
            let asked = Moment::now(&self.runtime);
            match self.renew(won).await {
                Ok(Renewal::Done) => {
                    if std::mem::take(&mut told) {
                        tracing::info!("the lease is renewed again; this replica still leads");
                    }
                    won.asked = asked;
                    tenure.renew(asked);
                }
                Ok(Renewal::Again) => {}
                Ok(Renewal::Lost(lost)) => return lost,
                Err(error) => {
                    let silent = won.asked.age(&self.runtime);
                    if silent >= self.times.renew && yields {
                        return Lost::Silent(silent);
                    }
                    if silent >= self.times.renew && !std::mem::replace(&mut told, true) {
                        tracing::error!(error = %cause::in_full(&error), %silent, "the lease cannot be renewed: another replica may lead soon, and then this one stops");
                    }
                }
            }
        }
    }

    async fn renew(&self, won: &mut Won) -> Result<Renewal, kube::Error> {
        let lease = self.lease(won.lease.metadata.clone(), won.term);
        match self.replace(&lease).await {
            Ok(lease) => {
                won.lease = lease;
                Ok(Renewal::Done)
            }
            Err(error) if is_conflict(&error) || is_gone(&error) => {
                // Somebody else changed it: that may be a person's label, or an answer that was lost.
                let Some(seen) = self.in_time(self.leases.get_opt(&self.name)).await? else {
                    return Ok(Renewal::Lost(Lost::Gone));
                };
                let spec = seen.spec.clone().unwrap_or_default();
                let holder = spec.holder_identity.unwrap_or_default();
                if holder != self.identity {
                    return Ok(Renewal::Lost(Lost::Taken(holder)));
                }
                won.lease = seen;
                Ok(Renewal::Again)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the Lease up, so that another replica need not wait for its end.
    pub async fn release(&self, won: Won) {
        let mut lease = self.lease(won.lease.metadata, won.term);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        if let Err(error) = self.replace(&lease).await {
            tracing::warn!(error = %cause::in_full(&error), "the lease could not be given up; it ends by itself");
        }
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, kube::Error> {
        let params = PostParams::default();
        let replaced = self.leases.replace(&self.name, &params, lease);
        self.in_time(replaced).await
    }

    fn lease(&self, metadata: ObjectMeta, term: Term) -> Lease {
        let now = Timestamp::from_millisecond(self.runtime.wall().as_millis()).unwrap_or_default();
        let seconds = self.times.lease.as_millis().div_ceil(1000);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                managed_fields: None,
                ..metadata
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
                lease_transitions: Some(i32::try_from(term.0).unwrap_or(i32::MAX)),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn pause(&self) {
        let now = self.runtime.now();
        self.runtime.sleep_until(now.after(self.times.retry)).await;
    }

    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, kube::Error> {
        let limit = self.runtime.now().after(self.times.renew);
        let mut limit = self.runtime.sleep_until(limit).fuse();
        select_biased! {
            answer = Box::pin(asked).fuse() => answer,
            () = limit => Err(kube::Error::Service("the API server did not answer in time".into())),
        }
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Span = Span::from_secs;

    fn held(by: &str, transitions: i32) -> Lease {
        Lease {
            metadata: ObjectMeta::default(),
            spec: Some(LeaseSpec {
                holder_identity: Some(by.to_owned()),
                lease_duration_seconds: Some(15),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn times_have_to_fit_each_other() {
        assert!(Times::new(S(15), S(10), S(2)).is_ok());
        let renew = Times::new(S(10), S(10), S(2)).unwrap_err().to_string();
        assert_eq!(
            renew,
            "the lease (10s) must be longer than the renewal may take (10s)"
        );
        assert!(matches!(
            Times::new(S(15), S(3), S(2)),
            Err(TimesError::Retry { .. })
        ));
        assert!(matches!(
            Times::new(Span::from_millis(500), S(0), S(0)),
            Err(TimesError::Short(_))
        ));
    }

    #[test]
    fn a_lease_is_taken_when_it_was_seen_unchanged_for_its_whole_duration() {
        let lease = held("other", 4);
        assert_eq!(claim(&lease, "me", S(0)), Claim::Wait);
        assert_eq!(claim(&lease, "me", Span::from_millis(14_999)), Claim::Wait);
        assert_eq!(claim(&lease, "me", S(15)), Claim::Take(Term(5)));
    }

    #[test]
    fn one_that_was_given_up_is_taken_at_once_and_is_a_new_term() {
        assert_eq!(claim(&held("", 4), "me", S(0)), Claim::Take(Term(5)));
    }

    #[test]
    fn whoever_holds_it_without_knowing_keeps_its_term() {
        assert_eq!(claim(&held("me", 4), "me", S(0)), Claim::Take(Term(4)));
    }

    #[test]
    fn each_renewal_begins_the_wait_anew() {
        let mut sight = Sight::default();
        let at = |s: i64| Time::from_millis(s * 1000);
        let (one, two) = ("1".to_owned(), "2".to_owned());
        assert_eq!(sight.unchanged(Some(&one), at(0)), Span::ZERO);
        assert_eq!(sight.unchanged(Some(&one), at(9)), S(9));
        assert_eq!(sight.unchanged(Some(&two), at(12)), Span::ZERO);
        assert_eq!(sight.unchanged(Some(&two), at(20)), S(8));
    }
}
