//! The watch: runs a service's probes on their grids and yields observations.
//!
//! One task for all looks of a service: a heap of due times and the looks under way. It knows time and tasks only
//! through the runtime port, so a simulator can stand in.

mod grid;
mod lookouts;
mod sentinel;

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::{
    FutureExt, Stream, StreamExt,
    channel::{mpsc, oneshot},
    future::{AbortHandle, Abortable, BoxFuture, Fuse},
    stream::FuturesUnordered,
};

use self::grid::{Due, Grid, key};
pub use self::lookouts::{LookoutError, Lookouts, ProbeMaker, maker};
use crate::{
    model::{
        id::{ProbeId, VantageName},
        observation::{Look, Observation, Sight},
        service::Service,
        span::Span,
        time::Time,
    },
    port::{probe::SharedProbe, runtime::SharedRuntime},
};

/// Looks under way at once; what is due beyond that waits. One that waits for an answer holds a socket and up to
/// 25 KB, so this bounds the watch at some 50 MB when everything is silent.
const MOST_UNDER_WAY: usize = 2048;

/// Observations that may wait for the driver; what comes beyond that is dropped and counted.
const MOST_WAITING: usize = 16 * 1024;

/// A look that has not ended so long after its time-out (twice it where sentinels are asked) is given up.
const GRACE: Span = Span::from_secs(1);

/// What the watch has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Looks begun.
    pub begun: u64,
    /// Looks left out because the one before was still under way.
    pub overlapped: u64,
    /// Looks left out because the watch came too late, by a whole interval or more.
    pub missed: u64,
    /// Observations dropped because nobody took them.
    pub dropped: u64,
    /// The largest delay of a look after its due time since the last asking.
    pub max_late: Span,
}

#[derive(Debug, Default)]
struct Counters {
    begun: AtomicU64,
    overlapped: AtomicU64,
    missed: AtomicU64,
    dropped: AtomicU64,
    max_late_ms: AtomicU64,
}

/// Observations of a service, as they are made. Ends when it is dropped.
pub struct Watch {
    observations: mpsc::Receiver<Observation>,
    counters: Arc<Counters>,
    _stop: oneshot::Sender<()>,
}

impl Watch {
    /// Begins to look: everything once at once, so that there is a verdict early, then each look on a grid of its
    /// own, whose phase comes from `seed` and the names of probe and vantage point.
    pub fn new(
        service: &Service,
        lookouts: &Arc<Lookouts>,
        runtime: &SharedRuntime,
        seed: u64,
    ) -> Self {
        let posts = posts(service, lookouts);
        let keys = posts
            .iter()
            .map(|p| (key(seed, [p.probe.as_str(), p.vantage().as_str()]), p.every));
        let grid = Grid::new(keys, runtime.now());
        let (out, observations) = mpsc::channel(MOST_WAITING);
        let (stop, stopped) = oneshot::channel();
        let counters = Arc::new(Counters::default());
        let beat = Beat {
            grid,
            posts,
            under_way: FuturesUnordered::new(),
            out,
            runtime: runtime.clone(),
            counters: counters.clone(),
        };
        runtime.spawn("watch", beat.run(stopped).boxed());
        Self {
            observations,
            counters,
            _stop: stop,
        }
    }

    /// What it has done so far; begins anew with the largest delay.
    #[must_use]
    pub fn counts(&self) -> WatchCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WatchCounts {
            begun: read(&self.counters.begun),
            overlapped: read(&self.counters.overlapped),
            missed: read(&self.counters.missed),
            dropped: read(&self.counters.dropped),
            max_late: Span::from_millis(self.counters.max_late_ms.swap(0, Ordering::Relaxed)),
        }
    }
}

impl Stream for Watch {
    type Item = Observation;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Observation>> {
        self.observations.poll_next_unpin(cx)
    }
}

/// One probe at one vantage point.
struct Post {
    probe: ProbeId,
    made: SharedProbe,
    point: Arc<lookouts::Lookout>,
    every: Span,
    timeout: Span,
    turn: u64,
    flight: Option<Flight>,
}

/// A look under way.
struct Flight {
    turn: u64,
    begun: Time,
    overdue: Time,
    abort: AbortHandle,
}

impl Post {
    fn vantage(&self) -> &VantageName {
        &self.point.name
    }

    fn observation(&self, at: Time, look: Look) -> Observation {
        Observation {
            at,
            vantage: self.vantage().clone(),
            probe: self.probe.clone(),
            sight: look.sight,
            detail: look.detail,
            latency: look.latency,
            facts: look.facts,
        }
    }
}

fn posts(service: &Service, lookouts: &Lookouts) -> Vec<Post> {
    let mut posts = Vec::new();
    for probe in service.components.iter().flat_map(|c| &c.probes) {
        let Some(made) = lookouts.probe(&probe.id) else {
            continue;
        };
        for point in lookouts.points_of(&probe.from) {
            posts.push(Post {
                probe: probe.id.clone(),
                made: made.clone(),
                point: point.clone(),
                every: probe.every,
                timeout: probe.timeout,
                turn: 0,
                flight: None,
            });
        }
    }
    posts
}

/// A look that has ended: which post's, which turn, and what it saw, unless it was given up.
type Ended = (usize, u64, Option<Look>);

struct Beat {
    grid: Grid,
    posts: Vec<Post>,
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    out: mpsc::Sender<Observation>,
    runtime: SharedRuntime,
    counters: Arc<Counters>,
}

impl Beat {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut sleeping: Option<Time> = None;
        let mut sleep = Fuse::terminated();
        loop {
            self.begin_due();
            let wake = self.wake();
            if wake != sleeping {
                sleeping = wake;
                sleep =
                    wake.map_or_else(Fuse::terminated, |at| self.runtime.sleep_until(at).fuse());
            }
            futures::select_biased! {
                _ = stopped => return,
                ended = self.under_way.select_next_some() => self.end(ended),
                () = sleep => sleeping = None,
            }
            if self.out.is_closed() {
                return;
            }
        }
    }

    /// When something is to be begun; `None` while there is no room, or nothing at all to do.
    fn wake(&self) -> Option<Time> {
        if self.under_way.len() >= MOST_UNDER_WAY {
            return None;
        }
        self.grid.next()
    }

    fn begin_due(&mut self) {
        let now = self.runtime.now();
        while self.under_way.len() < MOST_UNDER_WAY
            && let Some(due) = self.grid.pop(now)
        {
            self.count_lateness(due, now);
            self.begin(due.index, now);
        }
    }

    fn count_lateness(&self, due: Due, now: Time) {
        let counters = &self.counters;
        counters.missed.fetch_add(due.missed, Ordering::Relaxed);
        let late = now.since(due.at).as_millis();
        counters.max_late_ms.fetch_max(late, Ordering::Relaxed);
    }

    fn begin(&mut self, index: usize, now: Time) {
        let post = &mut self.posts[index];
        if let Some(flight) = &post.flight {
            if now < flight.overdue {
                self.counters.overlapped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            flight.abort.abort();
            let look = Look::new(Sight::Unknown, "the probe did not keep to its time-out");
            let observation = post.observation(now, look);
            self.report(observation);
        }
        self.counters.begun.fetch_add(1, Ordering::Relaxed);
        let post = &mut self.posts[index];
        post.turn += 1;
        let turn = post.turn;
        let (abort, registration) = AbortHandle::new_pair();
        post.flight = Some(Flight {
            begun: now,
            turn,
            overdue: now.after(post.timeout.saturating_mul(2)).after(GRACE),
            abort,
        });
        let (probe, point) = (post.made.clone(), post.point.clone());
        let (timeout, every) = (post.timeout, post.every);
        let look = async move { point.look(&probe, timeout, every).await };
        let look = Abortable::new(AssertUnwindSafe(look).catch_unwind(), registration);
        self.under_way.push(
            async move {
                let look = look.await.ok().map(|look| {
                    look.unwrap_or_else(|_| {
                        Look::new(
                            Sight::Unknown,
                            "the probe failed: this is a fault of failover",
                        )
                    })
                });
                (index, turn, look)
            }
            .boxed(),
        );
    }

    fn end(&mut self, (index, turn, look): Ended) {
        let now = self.runtime.now();
        let post = &mut self.posts[index];
        let flight = post.flight.take_if(|f| f.turn == turn);
        let Some(mut look) = look else {
            return;
        };
        if flight.as_ref().is_some_and(|f| now >= f.overdue) {
            // This process stood still: what it reads now may have been so long ago, and its time-outs mean nothing.
            look = Look::new(Sight::Unknown, "the look ended long after its time-out");
        }
        // The answer is as old as its look, however long it lay here.
        let begun = flight.map(|flight| flight.begun);
        let answered = begun.zip(look.latency).map(|(at, took)| at.after(took));
        let at = answered.map_or(now, |at| at.min(now));
        let observation = post.observation(at, look);
        self.report(observation);
    }

    fn report(&mut self, observation: Observation) {
        if self.out.try_send(observation).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
