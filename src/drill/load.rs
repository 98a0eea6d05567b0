//! `drill/load`: a bounded load on what the bubble serves. It is sent from within the bubble's own network, or through
//! the clone's own socket: nothing else can be reached by it.

mod rate;
mod volley;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    bubble::{Bubble, BubbleError},
    clone::Cloned,
    exchange::{self, Expected},
    folder::{Folder, blocking},
    server::Door,
};
use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        plan::StepPhase,
        site::Site,
        span::Span,
        step::{Presence, Proof, StepResult},
    },
    port::{
        action::{Action, SharedAction, StepContext},
        cause, endpoint,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        postgres::Session,
        request::{BodyWith, StatusRange},
        secret::SharedSecrets,
    },
};
use rate::RateFrom;
use volley::{Tally, Volley};

/// One answer may take so long; later it is an error.
const PATIENCE: Duration = Duration::from_secs(10);
/// The highest rate that can be asked for.
const MOST: f64 = 5000.0;

/// `drill/load`.
pub const KIND: Kind = Kind::new::<LoadWith>(
    "drill/load",
    "loads what a drill's bubble serves, never anything else, and holds the response time against the objective",
    "url: http://127.0.0.1:8080/\n\
     rateFrom: {url: https://shop.example.com/metrics, metric: http_requests_total}\n\
     for: 1m\n\
     within: 250ms\n",
    Make::Action(make),
)
.in_phase(StepPhase::Verify);

/// Settings of `drill/load`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadWith {
    /// What is asked for, in the bubble: `http://127.0.0.1:PORT/path`. Either this or `sql`.
    #[serde(default)]
    pub url: Option<String>,
    /// A statement that is run on the clone instead.
    #[serde(default)]
    pub sql: Option<String>,
    /// Requests a second, up to 5000. Either this or `rateFrom`.
    #[serde(default)]
    pub rate: Option<f64>,
    /// The counter of the primary's own metrics whose rate is sent.
    #[serde(default)]
    pub rate_from: Option<RateFrom>,
    /// The rate is multiplied by this; default 1.
    #[serde(default = "factor")]
    pub factor: f64,
    /// The highest rate that is sent, up to 5000; default 500. Above it the step fails instead of proving too little.
    #[serde(default = "at_most")]
    pub at_most: f64,
    /// For how long; default 30s, at most 15m.
    #[serde(default = "lasts", rename = "for")]
    pub lasts: Span,
    /// The response time objective; default 250ms. It counts from the moment at which a request was due.
    #[serde(default = "within")]
    pub within: Span,
    /// The percentile that must be within it: 95 (default) or 99.
    #[serde(default)]
    pub percentile: Percentile,
    /// Of a hundred requests, so many may fail; default 0.
    #[serde(default)]
    pub max_errors: f64,
    /// Requests that are under way at a time, at most 1000; default 64. What is due beyond that fails.
    #[serde(default = "at_once")]
    pub at_once: usize,
    /// Statuses that are right; default `2xx`.
    #[serde(default = "exchange::success")]
    pub status: Vec<StatusRange>,
    /// What the body must and must not hold.
    #[serde(default)]
    pub body: BodyWith,
    /// With `sql`: the role. Default: the cluster's owner.
    #[serde(default)]
    pub role: Option<String>,
    /// With `sql`: the database. Default: the one that the clone's connection names.
    #[serde(default)]
    pub database: Option<String>,
}

/// Of a hundred answers, so many come within the objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Percentile(usize);

impl Default for Percentile {
    fn default() -> Self {
        Self(95)
    }
}

impl<'de> Deserialize<'de> for Percentile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match usize::deserialize(from)? {
            percent @ (95 | 99) => Ok(Self(percent)),
            other => Err(de::Error::custom(format!("expected 95 or 99, not {other}"))),
        }
    }
}

fn factor() -> f64 {
    1.0
}

fn at_most() -> f64 {
    500.0
}

fn lasts() -> Span {
    Span::from_secs(30)
}

fn within() -> Span {
    Span::from_millis(250)
}

fn at_once() -> usize {
    64
}

impl With for LoadWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |field: &str, text: &str| problems.push(Problem::new(field, text));
        match (&self.url, &self.sql) {
            (Some(_), Some(_)) => wrong("sql", "give either url or sql, not both"),
            (None, None) => wrong("url", "expected url or sql"),
            (None, Some(sql)) if sql.trim().is_empty() => wrong("sql", "expected a statement"),
            (Some(_), None) | (None, Some(_)) => {}
        }
        match (self.rate, &self.rate_from) {
            (Some(_), Some(_)) => wrong("rateFrom", "give either rate or rateFrom, not both"),
            (None, None) => wrong("rate", "expected rate or rateFrom"),
            (Some(rate), None) if !(rate > 0.0 && rate <= MOST) => {
                wrong("rate", "expected more than 0 and at most 5000 a second");
            }
            (Some(rate), None) if rate * self.factor > self.at_most => {
                wrong(
                    "atMost",
                    "is less than the rate itself: raise it, up to 5000",
                );
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
        if !(self.factor > 0.0 && self.factor <= 100.0) {
            wrong("factor", "expected more than 0 and at most 100");
        }
        if !(self.at_most > 0.0 && self.at_most <= MOST) {
            wrong("atMost", "expected more than 0 and at most 5000 a second");
        }
        if !(1_000..=900_000).contains(&self.lasts.as_millis()) {
            wrong("for", "expected 1s to 15m");
        }
        if self.within.as_millis() == 0 || self.within.to_std() > PATIENCE {
            wrong("within", "expected 1ms to 10s");
        }
        if !(0.0..100.0).contains(&self.max_errors) {
            wrong("maxErrors", "expected 0 to less than 100 (of a hundred)");
        }
        if !(1..=1000).contains(&self.at_once) {
            wrong("atOnce", "expected 1 to 1000");
        }
        if self.status.is_empty() {
            wrong("status", "expected at least one status");
        }
        let url = self.url.as_ref();
        problems.extend(url.and_then(|url| exchange::url_problem("url", url)));
        problems.extend(self.rate_from.iter().flat_map(RateFrom::problems));
        problems
    }

    fn hosts(&self) -> Vec<String> {
        let own = self.url.as_deref().and_then(endpoint::host);
        let theirs = self.rate_from.as_ref().and_then(RateFrom::host);
        own.into_iter().chain(theirs).collect()
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    Ok(Arc::new(Load {
        with: read(with)?,
        http: wiring.http.clone(),
        secrets: Arc::clone(&wiring.secrets),
    }))
}

struct Load {
    with: LoadWith,
    http: reqwest::Client,
    secrets: SharedSecrets,
}

#[async_trait]
impl Action for Load {
    async fn perform(&self, step: &StepContext) -> StepResult {
        self.load(step).await.unwrap_or_else(|result| result)
    }

    async fn observe(&self, _step: &StepContext) -> Presence {
        Presence::absent("a load leaves nothing behind: it is sent again")
    }

    async fn check(&self, _from: &Site, _to: &Site) -> Vec<CheckItem> {
        let is_root = nix::unistd::geteuid().is_root();
        let mut items = vec![if is_root || self.with.url.is_none() {
            CheckItem::ok("drill/load", "a load can be sent within a bubble")
        } else {
            CheckItem::bad(
                "drill/load",
                CheckStatus::Fail,
                "nobody but root can send a load within a bubble",
                "run the controller as root, or load the clone with `sql`",
            )
        }];
        if let Some(from) = &self.with.rate_from {
            let short = RateFrom {
                over: Span::from_secs(1),
                ..from.clone()
            };
            items.push(match short.read(&self.http).await {
                Ok(rate) => CheckItem::ok(
                    "drill/rate",
                    format!("{} rises by {rate:.1} a second", from.metric),
                ),
                Err(why) => CheckItem::bad(
                    "drill/rate",
                    CheckStatus::Fail,
                    why,
                    "correct rateFrom, or give rate",
                ),
            });
        }
        items
    }
}

impl Load {
    async fn load(&self, step: &StepContext) -> Result<StepResult, StepResult> {
        let reading = self
            .with
            .rate_from
            .as_ref()
            .map_or(Duration::ZERO, |from| from.over.to_std());
        let least = reading + self.with.lasts.to_std() + PATIENCE;
        if step.limit() < least {
            return Err(StepResult::failed(format!(
                "nothing was sent: the step's timeout of {} is too short: it takes {} and a little more",
                step.timeout,
                Span::from(least)
            )));
        }
        let folder = Folder::of_step(step);
        let cloned = Cloned::needed(&folder)?;
        let bubble = find(&folder).await.map_err(|e| unsent(&e))?;
        let volley = Volley {
            rate: self.rate().await?,
            lasts: self.with.lasts.to_std(),
            at_once: self.with.at_once,
        };
        let tally = match (&self.with.url, &self.with.sql) {
            (Some(url), _) => self.ask(bubble, url.clone(), volley).await?,
            (None, Some(sql)) => self.run(&folder, &cloned, sql, volley).await?,
            (None, None) => return Err(StepResult::failed("neither url nor sql is set")),
        };
        self.judge(volley.rate, &tally)
    }

    async fn rate(&self) -> Result<f64, StepResult> {
        let failed = |why: String| StepResult::failed(format!("nothing was sent: {why}"));
        let own = match (self.with.rate, &self.with.rate_from) {
            (Some(rate), _) => rate,
            (None, Some(from)) => from.read(&self.http).await.map_err(failed)?,
            (None, None) => return Err(failed("neither rate nor rateFrom is set".to_owned())),
        };
        let rate = own * self.with.factor;
        if rate > self.with.at_most {
            return Err(failed(format!(
                "{rate:.1} requests a second are more than `atMost` ({}): less would prove too little",
                self.with.at_most
            )));
        }
        if rate * self.with.lasts.as_secs_f64() < 1.0 {
            return Err(failed(format!(
                "{rate:.3} requests a second are none within {}: give `rate`, or a counter that rises",
                self.with.lasts
            )));
        }
        Ok(rate)
    }

    async fn ask(&self, bubble: Bubble, url: String, volley: Volley) -> Result<Tally, StepResult> {
        let expected = Expected {
            status: self.with.status.clone(),
            body: self.with.body.clone(),
        };
        let sent = bubble
            .inside(move || async move {
                let client = exchange::client(PATIENCE)?;
                Ok(volley
                    .send(|| exchange::ask(&client, &url, &expected))
                    .await)
            })
            .await;
        sent.map_err(|e| unsent(&e))?
            .map_err(|why: String| StepResult::failed(format!("nothing was sent: {why}")))
    }

    async fn run(
        &self,
        folder: &Folder,
        cloned: &Cloned,
        sql: &str,
        volley: Volley,
    ) -> Result<Tally, StepResult> {
        let (role, database) = (self.with.role.as_deref(), self.with.database.as_deref());
        let door =
            Door::of(folder, cloned, role, database, &self.secrets).map_err(StepResult::failed)?;
        let sessions = Sessions {
            door,
            lives: volley.lasts + PATIENCE * 2,
            idle: Mutex::new(Vec::new()),
        };
        Ok(volley.send(|| sessions.run(sql)).await)
    }

    fn judge(&self, rate: f64, tally: &Tally) -> Result<StepResult, StepResult> {
        let Percentile(percent) = self.with.percentile;
        let numbers = numbers(rate, tally);
        let mut wrong = Vec::new();
        if tally.failed_percent() > self.with.max_errors {
            let why = tally
                .first_error
                .clone()
                .unwrap_or_else(|| "too many were under way".to_owned());
            wrong.push(format!(
                "{} of {} requests failed, {} of them not sent ({why})",
                tally.errors, tally.requests, tally.held_back
            ));
        }
        match tally.percentile(percent) {
            Some(took) if took > self.with.within.to_std() => wrong.push(format!(
                "the {percent}th percentile is {}, and should be within {}",
                millis(took),
                self.with.within
            )),
            Some(_) => {}
            None => wrong.push("nothing was answered as it should be".to_owned()),
        }
        if !wrong.is_empty() {
            return Err(StepResult::failed(format!(
                "{}: {numbers}",
                wrong.join("; ")
            )));
        }
        let mut proof = Proof::new(format!(
            "{numbers}; the {percent}th percentile is within {}",
            self.with.within
        ))
        .with("rate", format!("{rate:.2}"))
        .with("requests", tally.requests.to_string())
        .with("errors", tally.errors.to_string());
        for percent in [50, 95, 99] {
            if let Some(took) = tally.percentile(percent) {
                proof = proof.with(
                    &format!("p{percent}Ms"),
                    format!("{:.1}", took.as_secs_f64() * 1000.0),
                );
            }
        }
        Ok(StepResult::Done(proof))
    }
}

fn numbers(rate: f64, tally: &Tally) -> String {
    let at = |percent| {
        tally
            .percentile(percent)
            .map_or_else(|| "none".to_owned(), millis)
    };
    format!(
        "{} requests at {rate:.1} a second, {} errors, p50 {}, p95 {}, p99 {}",
        tally.requests,
        tally.errors,
        at(50),
        at(95),
        at(99)
    )
}

fn millis(took: Duration) -> String {
    format!("{:.1}ms", took.as_secs_f64() * 1000.0)
}

fn unsent(error: &BubbleError) -> StepResult {
    StepResult::failed(format!("nothing was sent: {}", cause::in_full(error)))
}

async fn find(folder: &Folder) -> Result<Bubble, BubbleError> {
    let folder = folder.clone();
    let found = blocking(move || Ok(Bubble::of(&folder))).await;
    found.map_err(|e| BubbleError::Io("the bubble cannot be looked for".to_owned(), e))?
}

/// Sessions with the clone, each for one statement at a time.
struct Sessions {
    door: Door,
    lives: Duration,
    idle: Mutex<Vec<Session>>,
}

impl Sessions {
    async fn run(&self, sql: &str) -> Result<(), String> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let work = async {
            let session = match idle {
                Some(session) => session,
                None => self.door.open(self.lives).await.map_err(|e| e.told())?,
            };
            session.rows(sql).await.map_err(|e| e.told())?;
            Ok::<_, String>(session)
        };
        let late = |_| format!("no answer within {}", Span::from(PATIENCE));
        let session = timeout(PATIENCE, work).await.map_err(late)??;
        // One that failed is not used again.
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_mistake_is_named_at_its_field() {
        let paths = |with: &Value| -> Vec<String> {
            (KIND.check)(with).into_iter().map(|p| p.path).collect()
        };
        let with = json!({
            "url": "https://shop.example.com/", "sql": "SELECT 1", "rate": 0, "for": "1ms", "within": "1m",
            "maxErrors": 100, "atOnce": 0, "factor": 0, "status": [],
        });
        let expected = [
            "sql",
            "rate",
            "factor",
            "for",
            "within",
            "maxErrors",
            "atOnce",
            "status",
            "url",
        ];
        assert_eq!(paths(&with), expected);
        assert_eq!(paths(&json!({})), ["url", "rate"]);
        assert_eq!(paths(&json!({"sql": "SELECT 1", "rate": 600})), ["atMost"]);
        assert_eq!(
            paths(&json!({"sql": "SELECT 1", "rate": 5, "percentile": 90})),
            ["percentile"]
        );
        assert_eq!(
            paths(&json!({"sql": "SELECT 1", "rate": 5})),
            Vec::<String>::new()
        );
    }
}
