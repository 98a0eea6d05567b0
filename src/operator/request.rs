//! What becomes of a `FailoverRun`: found in the service's journal by words that the command put there, so that a new
//! leader knows what an earlier one began.

use kube::{ResourceExt, api::DynamicObject};
use serde_json::Value;

use super::resource::{AskedRun, FailoverRunSpec, FailoverRunStatus, Progress};
use crate::{
    decide::{
        core::Core,
        event::Command,
        state::{Run, Step},
    },
    model::{
        drill::DrillOutcome,
        id::{AskId, DrillName, PlanHash, RunId, Seq, ServiceName, SiteName, UserName},
        plan::RunKind,
        record::{AskOutcome, Record, RecordBody, RunOutcome},
        time::Time,
    },
};

/// How the words begin by which a request is found in the journal.
const MARK: &str = "[FailoverRun";

/// A `FailoverRun` as it was last seen.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its name.
    pub name: String,
    /// What the server calls it: no later one has the same.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// What is asked for; what is wrong with it where that cannot be read.
    pub asked: Result<FailoverRunSpec, String>,
    /// Its status as it was last seen.
    pub status: Value,
}

impl Request {
    /// Reads a resource.
    #[must_use]
    pub fn of(object: &DynamicObject) -> Self {
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        Self {
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            asked: serde_json::from_value(spec)
                .map_err(|e| e.to_string())
                .and_then(unmarked),
            status: object.data.get("status").cloned().unwrap_or_default(),
        }
    }

    /// Whether nothing more will come of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let progress = self.status.get("progress").cloned().unwrap_or_default();
        serde_json::from_value(progress).is_ok_and(Progress::is_over)
    }

    /// The words by which it is found in the journal.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("{MARK} {}/{}]", self.name, self.uid)
    }

    /// The command that it is.
    #[must_use]
    pub fn command(&self, asked: &FailoverRunSpec) -> Command {
        let by = UserName::from(asked.requester.as_str()).person();
        let reason = format!("{} {}", asked.reason, self.mark());
        match kind(asked.kind) {
            None => Command::Drill {
                policy: asked.drill.as_deref().map(DrillName::from),
                by,
                reason,
            },
            Some(kind) => Command::Open {
                kind,
                to: asked.to.as_deref().map(SiteName::from),
                plan: asked.plan.as_deref().map(PlanHash::from),
                by,
                reason,
            },
        }
    }
}

/// Whoever quotes another request's mark would be taken for it.
fn unmarked(asked: FailoverRunSpec) -> Result<FailoverRunSpec, String> {
    if asked.reason.contains(MARK) {
        Err(format!("spec.reason must not hold {MARK}"))
    } else {
        Ok(asked)
    }
}

const fn kind(asked: AskedRun) -> Option<RunKind> {
    match asked {
        AskedRun::Failover => Some(RunKind::Failover),
        AskedRun::Redirect => Some(RunKind::Redirect),
        AskedRun::Switchover => Some(RunKind::Switchover),
        AskedRun::Failback => Some(RunKind::Failback),
        AskedRun::Drill => None,
    }
}

/// A request and what became of it.
pub struct Asked {
    /// The request.
    pub request: Request,
    /// The resource.
    pub object: DynamicObject,
    /// What the journal says of it.
    pub trace: Trace,
    /// Whether the journal was looked through.
    is_read: bool,
    /// Whether the command was given.
    pub is_given: bool,
    /// Why it was refused.
    pub refused: Option<String>,
}

impl Asked {
    /// A request that was just seen.
    #[must_use]
    pub fn new(object: DynamicObject) -> Self {
        let request = Request::of(&object);
        Self {
            trace: Trace::new(request.mark()),
            request,
            object,
            is_read: false,
            is_given: false,
            refused: None,
        }
    }

    /// Takes in the resource as it is now.
    pub fn see(&mut self, object: DynamicObject) {
        self.request = Request::of(&object);
        self.object = object;
    }

    /// Whether the journal was looked through.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        self.is_read
    }

    /// The chain may have grown unseen: it has to be read again.
    pub fn doubt(&mut self, chain: &ServiceName) {
        if self.is_of(chain) {
            self.is_read = false;
        }
    }

    fn is_of(&self, chain: &ServiceName) -> bool {
        let asked = self.request.asked.as_ref();
        asked.is_ok_and(|spec| spec.service == chain.as_str())
    }

    /// Takes in the whole chain.
    pub fn read(&mut self, records: &[Record]) {
        for record in records {
            self.trace.follow(record);
        }
        self.is_read = true;
    }

    /// Takes in a record as it is written. Before the chain was read nothing is taken in: it would hide what came before,
    /// and the chain holds it.
    pub fn follow(&mut self, record: &Record) {
        if self.is_read && self.is_of(&record.chain) {
            self.trace.follow(record);
        }
    }
}

/// What the journal says of a request so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    mark: String,
    last: Seq,
    ask: Option<AskId>,
    granted: bool,
    run: Option<(RunId, Time)>,
    is_drill: bool,
    verdict: Option<(DrillOutcome, Vec<String>)>,
    end: Option<(Progress, String, Time)>,
}

impl Trace {
    /// Of a request that nothing is known of yet.
    #[must_use]
    pub fn new(mark: String) -> Self {
        Self {
            mark,
            ..Self::default()
        }
    }

    /// Whether the journal knows of it at all.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.ask.is_some() || self.run.is_some()
    }

    /// Takes in a record, each once.
    pub fn follow(&mut self, record: &Record) {
        if record.seq > self.last {
            self.last = record.seq;
            self.apply(record);
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a projection of seven kinds of record"
    )]
    fn apply(&mut self, record: &Record) {
        let at = record.at;
        let new = || RunId::of(&record.chain, record.seq);
        match &record.body {
            RecordBody::AskOpened { ask, .. } if self.is_in(&ask.reasons) => {
                self.ask = Some(AskId::of(&record.chain, record.seq));
            }
            RecordBody::AskClosed { ask, outcome } if self.ask.as_ref() == Some(ask) => {
                self.answered(outcome, at);
            }
            RecordBody::RunOpened { reason, drill, .. }
                if self.run.is_none()
                    && drill.is_none()
                    && (self.granted || reason.contains(&self.mark)) =>
            {
                self.run = Some((new(), at));
            }
            RecordBody::DrillOpened { reason, .. } if reason.contains(&self.mark) => {
                self.run = Some((new(), at));
                self.is_drill = true;
            }
            RecordBody::RunClosed {
                run,
                outcome,
                reason,
                ..
            } if self.is(run) => {
                self.end = Some((ended(*outcome), reason.clone(), at));
            }
            RecordBody::DrillJudged {
                drill,
                outcome,
                reasons,
            } if self.is(drill) => self.verdict = Some((*outcome, reasons.clone())),
            RecordBody::DrillClosed { drill, .. } if self.is(drill) => self.drill_ended(at),
            _ => {}
        }
    }

    fn is_in(&self, reasons: &[String]) -> bool {
        reasons.iter().any(|reason| reason.contains(&self.mark))
    }

    fn is(&self, run: &RunId) -> bool {
        self.run.as_ref().is_some_and(|(own, _)| own == run)
    }

    fn answered(&mut self, outcome: &AskOutcome, at: Time) {
        let refused = match outcome {
            AskOutcome::Approved | AskOutcome::Expired { proceed: true } => {
                self.granted = true;
                return;
            }
            AskOutcome::Denied { by, reason } => format!(
                "{by} said no{}",
                reason
                    .as_deref()
                    .map_or_else(String::new, |r| format!(": {r}"))
            ),
            AskOutcome::Expired { proceed: false } => "nobody answered in time".to_owned(),
            AskOutcome::Void { reason } => reason.clone(),
        };
        self.end = Some((Progress::Refused, refused, at));
    }

    fn drill_ended(&mut self, at: Time) {
        let (progress, message) = match self.verdict.take() {
            Some((DrillOutcome::Passed, _)) => (Progress::Done, "it passed".to_owned()),
            Some((outcome, reasons)) => (
                Progress::Stuck,
                format!("{outcome}: {}", reasons.join("; ")),
            ),
            None => (Progress::Stuck, "it ended without a verdict".to_owned()),
        };
        self.end = Some((progress, message, at));
    }

    /// Where the request stands; of a service that is gone the journal still knows.
    #[must_use]
    pub fn status(&self, generation: i64, core: Option<&Core>) -> FailoverRunStatus {
        let runs = core.map(Core::state).map_or([None, None], |state| {
            if self.is_drill {
                [state.drills.run(), None]
            } else {
                [state.run.as_ref(), state.last_run.as_ref()]
            }
        });
        let run = runs.into_iter().flatten().find(|run| self.is(&run.id));
        let (progress, message) = match (&self.end, &self.run, &self.ask) {
            (Some((progress, message, _)), _, _) => (*progress, message.clone()),
            (None, Some(_), _) => (
                Progress::Running,
                run.map_or_else(|| "under way".to_owned(), under_way),
            ),
            (None, None, Some(ask)) => (
                Progress::Asking,
                format!("people have to approve it: failover approve {ask}"),
            ),
            (None, None, None) => (Progress::Waiting, "not taken yet".to_owned()),
        };
        FailoverRunStatus {
            observed_generation: generation,
            progress,
            message,
            ask: self.ask.as_ref().map(ToString::to_string),
            run: self.run.as_ref().map(|(id, _)| id.to_string()),
            steps: run.map(|run| {
                let done = run.steps().filter(|(_, s)| s.is_some_and(Step::is_settled));
                format!("{}/{}", done.count(), run.plan.steps.len())
            }),
            opened: self.run.as_ref().map(|(_, at)| at.to_string()),
            ended: self.end.as_ref().map(|(_, _, at)| at.to_string()),
            conditions: Vec::new(),
        }
    }
}

fn under_way(run: &Run) -> String {
    let open = run
        .steps()
        .find(|(_, step)| step.is_some_and(|step| !step.is_settled()));
    open.map_or_else(
        || format!("from {} to {}", run.plan.from, run.plan.to),
        |(step, _)| format!("from {} to {}: {}", run.plan.from, run.plan.to, step.name),
    )
}

const fn ended(outcome: RunOutcome) -> Progress {
    match outcome {
        RunOutcome::Done => Progress::Done,
        RunOutcome::Unwound => Progress::Unwound,
        RunOutcome::Stuck => Progress::Stuck,
        RunOutcome::Aborted => Progress::Aborted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{
        approval::{Ask, AskSubject},
        id::{Epoch, Term},
        loss::LossForecast,
        record::FORMAT,
    };

    fn asked() -> Asked {
        let object = json!({
            "apiVersion": "failover.rs/v1alpha1",
            "kind": "FailoverRun",
            "metadata": {"name": "move-1", "uid": "u1"},
            "spec": {"service": "shop", "kind": "failover", "reason": "a test", "requester": "ann"},
        });
        Asked::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_request_that_quotes_another_ones_mark_is_refused() {
        let mut object = asked().object;
        object.data["spec"]["reason"] = "as before [FailoverRun move-0/u0]".into();
        let error = Request::of(&object).asked.unwrap_err();
        assert_eq!(error, "spec.reason must not hold [FailoverRun");
    }

    fn record(seq: u64, body: RecordBody) -> Record {
        Record {
            chain: "shop".into(),
            seq: Seq(seq),
            epoch: Epoch(1),
            at: Time::from_millis(1),
            prev: String::new(),
            format: FORMAT,
            body,
        }
    }

    fn ask_of(reason: &str) -> RecordBody {
        RecordBody::AskOpened {
            ask: Box::new(Ask {
                subject: AskSubject::Open {
                    kind: RunKind::Failover,
                },
                plan: PlanHash::from("p"),
                reasons: vec![reason.to_owned()],
                loss: LossForecast::Unknown {
                    reason: "nobody looked".to_owned(),
                },
                forecast: String::new(),
                required: 1,
                requester: None,
            }),
            plan: None,
            expires: Time::from_millis(2),
        }
    }

    #[test]
    fn what_is_written_before_the_chain_was_read_hides_nothing_of_it() {
        let mut asked = asked();
        let taken = RecordBody::LeaderTaken {
            term: Term(2),
            leader: "two".to_owned(),
        };
        let chain = [
            record(1, ask_of("a test [FailoverRun move-1/u1]")),
            record(2, taken),
        ];
        asked.follow(&chain[1]);
        assert!(!asked.is_read());
        asked.read(&chain);
        assert!(asked.trace.is_begun(), "it is not asked for a second time");
    }
}
