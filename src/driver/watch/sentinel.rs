//! Sentinels: things that are surely up, asked when a look says Down, to tell "my own network is gone" from "it is
//! down".

use std::sync::{Arc, Mutex, PoisonError};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared},
    stream::FuturesUnordered,
};

use crate::{
    model::{observation::Sight, span::Span, time::Time},
    port::{
        probe::{LookContext, SharedProbe},
        runtime::SharedRuntime,
    },
};

/// What the sentinels said is used again for at most so long.
const LONGEST_KEPT: Span = Span::from_secs(1);

/// One thing that is surely up.
pub(super) struct Sentinel {
    /// For people: what it is.
    pub(super) name: String,
    /// How it is looked at.
    pub(super) probe: SharedProbe,
}

/// The sentinels of one vantage point.
pub(super) struct Sentinels {
    list: Arc<[Sentinel]>,
    runtime: SharedRuntime,
    asked: Mutex<Option<Asked>>,
}

struct Asked {
    at: Time,
    answer: Shared<BoxFuture<'static, Option<String>>>,
}

impl Sentinels {
    /// What time it is.
    pub(super) fn now(&self) -> Time {
        self.runtime.now()
    }

    pub(super) fn new(list: Vec<Sentinel>, runtime: SharedRuntime) -> Self {
        Self {
            list: list.into(),
            runtime,
            asked: Mutex::new(None),
        }
    }

    pub(super) fn list(&self) -> &[Sentinel] {
        &self.list
    }

    /// How the own network is gone, in a few words, when every sentinel fails too; `None` where one of them is
    /// well or there are none.
    ///
    /// Looks that end at about the same time share one asking: it may have begun up to the look's own time-out ago
    /// (a second at most), so what it says of a look that timed out is never older than that look's beginning.
    pub(super) async fn gone(&self, context: &LookContext, every: Span) -> Option<String> {
        if self.list.is_empty() {
            return None;
        }
        let kept = LONGEST_KEPT.min(every).min(context.timeout);
        let answer = {
            let now = self.runtime.now();
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            match &*asked {
                Some(a) if now.since(a.at) <= kept => a.answer.clone(),
                Some(_) | None => {
                    let answer = ask(self.list.clone(), context.clone()).boxed().shared();
                    *asked = Some(Asked {
                        at: now,
                        answer: answer.clone(),
                    });
                    answer
                }
            }
        };
        answer.await
    }
}

async fn ask(list: Arc<[Sentinel]>, context: LookContext) -> Option<String> {
    let context = &context;
    let mut looks: FuturesUnordered<_> = list
        .iter()
        .map(async |s| (s, s.probe.look(context).await))
        .collect();
    let mut failing = Vec::new();
    while let Some((sentinel, look)) = looks.next().await {
        match look.sight {
            Sight::Up => return None,
            Sight::Down | Sight::Unknown => {
                failing.push(format!("{} ({})", sentinel.name, look.detail));
            }
        }
    }
    failing.sort();
    let (what, verb) = if failing.len() == 1 {
        ("sentinel", "fails")
    } else {
        ("sentinels", "fail")
    };
    Some(format!("{what} {} also {verb}", failing.join(", ")))
}
