//! An observer elsewhere: looks as a controller does, at what the controller assigns, and reports what it sees.
//!
//! It knows time only through the runtime port. While the controller is away it goes on looking and keeps the newest
//! looks; it decides nothing.

mod blind;
mod link;

use std::{future::Future, path::PathBuf, pin::pin, sync::Arc};

use futures::{
    FutureExt, StreamExt,
    channel::mpsc,
    future::{BoxFuture, Fuse},
    select_biased,
    stream::{BoxStream, SelectAll},
};
use serde::Serialize;

use self::{
    blind::careful,
    link::{Link, Open},
};
use super::watch::{self, Lookouts, Watch};
use crate::{
    model::{
        id::{ServiceName, VantageName},
        observation::{Evidence, Observation},
        service::{Component, ComponentKind, Looker, Probe, Service, VantagePoint, Via},
        silence::{Silence, Silent},
        span::Span,
        time::Time,
    },
    port::{
        cause,
        kind::{Kinds, Wiring},
        runtime::SharedRuntime,
        secret::SharedSecrets,
    },
    vantage::{
        backlog::Backlog,
        client::{Client, ClientError},
        message::{
            Assignment, Begun, Hello, LookNumber, ObserverId, Receipt, Refusal, Report,
            RequestNumber, Revision, SessionId,
        },
    },
};

/// Looks are gathered for so long, so that those that end together go together.
const GATHER: Span = Span::from_millis(250);
/// With nothing to say it reports all the same after this, so that the controller knows that it lives.
const IDLE: Span = Span::from_secs(5);
/// Both clocks of this host drift apart by less between two turns; more means that one of them stood still or was set.
const DRIFT: u64 = 5_000;

/// What an observer works with.
#[derive(Clone)]
pub struct Means {
    /// Speaks to the controller.
    pub client: Client,
    /// The kinds that assignments may name.
    pub kinds: Kinds,
    /// Time and tasks.
    pub runtime: SharedRuntime,
    /// Where the secrets of probes come from: this host.
    pub secrets: SharedSecrets,
    /// The client for probes that speak to services' APIs.
    pub http: reqwest::Client,
    /// Whether `probe/command` is run.
    pub commands: bool,
    /// How long the controller may be silent before that is told.
    pub silence: Span,
}

/// What happens, for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "event"
)]
pub enum Told {
    /// The controller said what to look at.
    Assigned {
        /// Of how many services.
        services: usize,
        /// Through how many probes.
        probes: usize,
        /// How far this host's clock is ahead of the controller's, in milliseconds.
        ahead_ms: i64,
    },
    /// The controller cannot be reached, or refuses.
    Away {
        /// In a few words.
        reason: String,
        /// The code of the page that explains it, where there is one.
        code: Option<&'static str>,
    },
    /// It has been away for longer than it may.
    Silent {
        /// How long.
        lasted: Span,
    },
    /// That is over.
    Heard {
        /// How long it lasted.
        lasted: Span,
    },
    /// It answers again.
    Back {
        /// Looks that were kept for it.
        kept: usize,
        /// Looks that were dropped because there were too many.
        dropped: u64,
    },
}

/// An observer elsewhere.
pub struct Observer {
    means: Means,
    id: ObserverId,
    link: Link,
    watching: Watching,
    backlog: Backlog,
    /// How far the clock on the wall was ahead of the steady one at the last turn, in milliseconds.
    ahead: i64,
    told: mpsc::UnboundedSender<Told>,
    /// What was told last, so that it is not told again and again.
    away: Option<(String, Time)>,
    silence: Silence,
}

/// What is looked at now.
#[derive(Default)]
struct Watching {
    revision: Option<Revision>,
    looks: SelectAll<BoxStream<'static, (ServiceName, Observation)>>,
}

/// An answer of the controller, or none.
enum Reply {
    Began(Result<Begun, ClientError>),
    Reported {
        number: RequestNumber,
        up_to: Option<LookNumber>,
        result: Result<Receipt, ClientError>,
    },
}

impl Observer {
    /// One that has not begun, and where it tells what happens.
    #[must_use]
    pub fn new(means: Means) -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (told, tells) = mpsc::unbounded();
        let observer = Self {
            id: ObserverId(format!("{:032x}", rand::random::<u128>())),
            link: Link::new(means.runtime.now()),
            watching: Watching::default(),
            backlog: Backlog::default(),
            ahead: ahead(&means.runtime),
            silence: Silence::new(means.silence, means.runtime.now()),
            means,
            told,
            away: None,
        };
        (observer, tells)
    }

    /// Looks and reports until `stop` ends.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop.fuse());
        let mut request: Fuse<BoxFuture<'static, Reply>> = Fuse::terminated();
        loop {
            self.mind_the_clocks();
            let now = self.means.runtime.now();
            if let Some(silent) = self.silence.look(now) {
                self.silence_is(silent);
            }
            let mut due = now.after(IDLE);
            if let Some(at) = self.next(&request) {
                if at <= now {
                    request = self.request(now).fuse();
                } else {
                    due = at;
                }
            }
            let mut sleep = self.means.runtime.sleep_until(due).fuse();
            select_biased! {
                () = stop => return,
                reply = request => self.heard(reply),
                (service, seen) = self.watching.looks.select_next_some() => self.backlog.push(service, seen),
                () = sleep => {}
            }
        }
    }

    /// When the next request is due; none while one is under way.
    fn next(&self, request: &Fuse<BoxFuture<'static, Reply>>) -> Option<Time> {
        if !futures::future::FusedFuture::is_terminated(request) {
            return None;
        }
        let oldest = self.backlog.oldest();
        Some(match &self.link {
            Link::Closed(pause) => pause.until,
            Link::Open(open) => {
                let gathered = oldest.map(|at| at.after(GATHER));
                let due = gathered.unwrap_or_else(|| open.answered_at.after(IDLE));
                open.pause.as_ref().map_or(due, |p| p.until.max(due))
            }
        })
    }

    fn request(&mut self, now: Time) -> BoxFuture<'static, Reply> {
        let client = self.means.client.clone();
        let wall = self.means.runtime.wall();
        let Link::Open(open) = &mut self.link else {
            let hello = Hello {
                observer: self.id.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                wall,
                commands: self.means.commands,
            };
            return async move { Reply::Began(client.begin(&hello).await) }.boxed();
        };
        open.number = RequestNumber(open.number.0 + 1);
        let looks = self.backlog.batch(now);
        let report = Report {
            number: open.number,
            answered: open.answered,
            since: now.since(open.answered_at),
            revision: open.revision.clone(),
            wall,
            looks,
        };
        let session: SessionId = open.session.clone();
        let up_to = report.looks.last().map(|l| l.number);
        let number = report.number;
        async move {
            let result = client.report(&session, &report).await;
            Reply::Reported {
                number,
                up_to,
                result,
            }
        }
        .boxed()
    }

    fn heard(&mut self, reply: Reply) {
        let now = self.means.runtime.now();
        match reply {
            Reply::Began(Ok(begun)) => {
                self.back();
                self.follow(&begun);
                self.link = Link::Open(Open::new(begun, now));
            }
            Reply::Reported {
                number,
                up_to,
                result: Ok(receipt),
            } => {
                self.back();
                if let Some(up_to) = up_to {
                    self.backlog.reported(up_to);
                }
                self.link.answered(number, now);
                if receipt.changed {
                    self.link = Link::new(now);
                }
            }
            Reply::Began(Err(error)) => {
                self.away(&error, now);
                self.link.refused(now);
            }
            Reply::Reported {
                result: Err(error), ..
            } => {
                let over = matches!(
                    error,
                    ClientError::Refused(Refusal::Session | Refusal::Number)
                );
                if over {
                    // A controller that was started again knows no session: this is how one begins anew.
                    tracing::info!(error = %cause::in_full(&error), "a new session begins");
                    self.link = Link::new(now);
                } else {
                    let refused = matches!(error, ClientError::Refused(_));
                    // One that failed may just have met the end of its connection.
                    if refused || self.link.is_failing() {
                        self.away(&error, now);
                    }
                    self.link.failed(now, refused);
                }
            }
        }
    }

    /// Takes up an assignment, unless it is the one that is followed already. What was seen under another one does
    /// not count for this one.
    fn follow(&mut self, begun: &Begun) {
        if self.watching.revision.as_ref() == Some(&begun.revision) {
            return;
        }
        self.backlog.clear();
        let vantage = self.means.client.vantage.clone();
        let mut looks = SelectAll::new();
        for assignment in &begun.services {
            looks.push(self.watch(&vantage, assignment));
        }
        self.watching = Watching {
            revision: Some(begun.revision.clone()),
            looks,
        };
        let told = Told::Assigned {
            services: begun.services.len(),
            probes: begun.services.iter().map(|s| s.probes.len()).sum(),
            ahead_ms: begun.ahead_ms,
        };
        self.tell(told);
    }

    fn watch(
        &self,
        vantage: &VantageName,
        assignment: &Assignment,
    ) -> BoxStream<'static, (ServiceName, Observation)> {
        let service = Arc::new(service(vantage, assignment));
        let name = service.name.clone();
        let wiring = Wiring {
            secrets: self.means.secrets.clone(),
            runtime: self.means.runtime.clone(),
            http: self.means.http.clone(),
            service: service.clone(),
            state: PathBuf::new(),
            dns: None,
            lookouts: None,
            guards: None,
        };
        let maker = careful(watch::maker(self.means.kinds, &wiring), self.means.commands);
        match Lookouts::new(&service, &self.means.runtime, maker) {
            Ok(lookouts) => {
                let watch = Watch::new(&service, &Arc::new(lookouts), &self.means.runtime, 0);
                watch.map(move |seen| (name.clone(), seen)).boxed()
            }
            Err(error) => {
                // A careful maker makes everything.
                tracing::error!(service = %name, error = %cause::in_full(&error), "nothing can be looked at");
                futures::stream::empty().boxed()
            }
        }
    }

    /// Looks whose age cannot be told any more are dropped: this host slept, or its clock was set.
    fn mind_the_clocks(&mut self) {
        let ahead = ahead(&self.means.runtime);
        if ahead.abs_diff(self.ahead) > DRIFT {
            let dropped = self.backlog.clear();
            tracing::warn!(
                dropped,
                "this host slept or its clock was set: looks whose age is not known are dropped"
            );
        }
        self.ahead = ahead;
    }

    fn away(&mut self, error: &ClientError, now: Time) {
        /// The same trouble is told again after this.
        const AGAIN: Span = Span::from_secs(300);
        let reason = cause::without_repeats(error);
        let same = |(told, at): &(String, Time)| *told == reason && now.since(*at) < AGAIN;
        if self.away.as_ref().is_some_and(same) {
            return;
        }
        self.away = Some((reason.clone(), now));
        let code = match error {
            ClientError::Key(_) => Some("FO-084"),
            ClientError::Refused(_) | ClientError::Forged => Some("FO-085"),
            ClientError::Unreachable(_) | ClientError::Status(_) | ClientError::Shape(_) => None,
        };
        self.tell(Told::Away { reason, code });
    }

    fn silence_is(&self, silent: Silent) {
        self.tell(match silent {
            Silent::Since(lasted) => Told::Silent { lasted },
            Silent::Over(lasted) => Told::Heard { lasted },
        });
    }

    fn back(&mut self) {
        if let Some(silent) = self.silence.hear(self.means.runtime.now()) {
            self.silence_is(silent);
        }
        let dropped = self.backlog.take_dropped();
        if self.away.take().is_some() || dropped > 0 {
            let kept = self.backlog.len();
            self.tell(Told::Back { kept, dropped });
        }
    }

    fn tell(&self, told: Told) {
        match &told {
            Told::Assigned {
                services,
                probes,
                ahead_ms,
            } => tracing::info!(services, probes, ahead_ms, "assigned"),
            Told::Away { reason, code } => {
                tracing::warn!(%reason, code = code.unwrap_or_default(), "the controller is away: looks are kept for it");
            }
            Told::Silent { lasted } => {
                tracing::error!(silent = %lasted, "the controller is silent: nobody fails over while it is away");
            }
            Told::Heard { lasted } => {
                tracing::warn!(silent = %lasted, "the controller is heard again");
            }
            Told::Back { kept, dropped } => {
                tracing::info!(kept, dropped, "the controller answers again");
            }
        }
        drop(self.told.unbounded_send(told));
    }
}

fn ahead(runtime: &SharedRuntime) -> i64 {
    let (wall, now) = (runtime.wall(), runtime.now());
    wall.as_millis().saturating_sub(now.as_millis())
}

/// An assignment as the watch takes it; what nobody looks at here is left empty.
fn service(vantage: &VantageName, assignment: &Assignment) -> Service {
    let probes = assignment.probes.iter().map(|p| Probe {
        id: p.id.clone(),
        action: p.action.clone(),
        site: None,
        cold: false,
        evidence: Evidence::Outside,
        every: p.every,
        timeout: p.timeout,
        from: Vec::new(),
    });
    Service {
        vantage_points: vec![VantagePoint {
            name: vantage.clone(),
            network: vantage.as_str().into(),
            looker: Looker::Controller(Via::Direct),
            sentinels: assignment.sentinels.clone(),
        }],
        components: vec![Component {
            name: "assigned".into(),
            title: String::new(),
            kind: ComponentKind::Application,
            probes: probes.collect(),
        }],
        ..Service::bare(assignment.service.clone())
    }
}
