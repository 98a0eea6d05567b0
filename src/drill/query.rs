//! `drill/query`: what the promoted clone is asked, and what it must answer.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{bubble::Bubble, clone::Cloned, folder::Folder, server::Door};
use crate::{
    model::{
        plan::StepPhase,
        span::Span,
        step::{Presence, Proof, StepResult},
        time::Time,
    },
    port::{
        action::{Action, SharedAction, StepContext},
        cause,
        kind::{Kind, Make, MakeError, Problem, Wiring, With, read},
        postgres::{PostgresError, Session},
        secret::SharedSecrets,
    },
};

/// `drill/query`.
pub const KIND: Kind = Kind::new::<QueryWith>(
    "drill/query",
    "asks a drill's promoted clone, and measures by its newest row how much would have been lost",
    "queries:\n\
     \x20 - {name: orders, sql: SELECT count(*) FROM orders, atLeast: 1000}\n\
     \x20 - {name: newestOrder, sql: SELECT max(created_at) FROM orders, newest: true, within: 1m}\n",
    Make::Action(make),
)
.in_phase(StepPhase::Verify);

/// Settings of `drill/query`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryWith {
    /// What the clone is asked, in this order.
    pub queries: Vec<Question>,
    /// The database. Default: the one that the clone's connection names.
    #[serde(default)]
    pub database: Option<String>,
    /// The role that asks. Default: the cluster's owner.
    #[serde(default)]
    pub role: Option<String>,
}

/// What the clone is asked.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// As it stands in the evidence: letters, digits and `_`.
    pub name: String,
    /// One statement; the first column of its first row is the answer.
    pub sql: String,
    /// The answer is a number, at least this one.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// The answer is exactly this text.
    #[serde(default)]
    pub equals: Option<String>,
    /// The answer is a moment, the newest one in the data: its age when the copy ended is the measured RPO.
    #[serde(default)]
    pub newest: bool,
    /// With `newest`: the greatest age.
    #[serde(default)]
    pub within: Option<Span>,
}

impl With for QueryWith {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.queries.is_empty() {
            problems.push(Problem::new("queries", "expected at least one query"));
        }
        let mut names = BTreeSet::new();
        for (n, question) in self.queries.iter().enumerate() {
            let mut wrong = |field: &str, text: &str| {
                problems.push(Problem::new(format!("queries[{n}].{field}"), text));
            };
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if question.name.is_empty() || !question.name.chars().all(legal) {
                wrong("name", "expected letters, digits and _");
            } else if !names.insert(&question.name) {
                wrong("name", "this name is taken");
            }
            if question.sql.trim().is_empty() {
                wrong("sql", "expected a statement");
            }
            if question.within.is_some() && !question.newest {
                wrong("within", "is the greatest age of what `newest: true` marks");
            }
            if question.newest && (question.at_least.is_some() || question.equals.is_some()) {
                wrong("newest", "a moment is judged by `within` alone");
            }
        }
        if self.queries.iter().filter(|q| q.newest).count() > 1 {
            problems.push(Problem::new(
                "queries",
                "only one of them can be the newest moment",
            ));
        }
        problems
    }
}

fn make(with: &Value, wiring: &Wiring) -> Result<SharedAction, MakeError> {
    Ok(Arc::new(Asking {
        with: read(with)?,
        secrets: Arc::clone(&wiring.secrets),
    }))
}

struct Asking {
    with: QueryWith,
    secrets: SharedSecrets,
}

#[async_trait]
impl Action for Asking {
    async fn perform(&self, step: &StepContext) -> StepResult {
        self.ask(step).await.unwrap_or_else(|result| result)
    }

    async fn observe(&self, _step: &StepContext) -> Presence {
        Presence::absent("asking leaves nothing behind: it is asked again")
    }
}

impl Asking {
    async fn ask(&self, step: &StepContext) -> Result<StepResult, StepResult> {
        let folder = Folder::of_step(step);
        let cloned = Cloned::needed(&folder)?;
        Bubble::of(&folder).map_err(|e| StepResult::failed(cause::in_full(&e)))?;
        let (role, database) = (self.with.role.as_deref(), self.with.database.as_deref());
        let door = Door::of(&folder, &cloned, role, database, &self.secrets)
            .map_err(StepResult::failed)?;
        let session = door
            .open(step.limit())
            .await
            .map_err(|e| unanswered("the clone", &e))?;
        let mut proof = Proof::default();
        let (mut told, mut wrong) = (Vec::new(), Vec::new());
        for question in &self.with.queries {
            let name = &question.name;
            let said = answer(&session, question).await?;
            proof = proof.with(name, said.clone());
            let verdict = if question.newest {
                let age = age(&session, name, &said, cloned.at).await?;
                proof = proof.with("rpoSeconds", format!("{:.3}", age.as_secs_f64()));
                told.push(format!("{name} is {said}, {age} old when the copy ended"));
                judge_age(question, age)
            } else {
                told.push(format!("{name} is {said}"));
                judge(question, &said)
            };
            wrong.extend(verdict);
        }
        if wrong.is_empty() {
            proof.summary = told.join("; ");
            Ok(StepResult::Done(proof))
        } else {
            Err(StepResult::failed(wrong.join("; ")))
        }
    }
}

/// What speaks against an answer.
fn judge(question: &Question, said: &str) -> Option<String> {
    let name = &question.name;
    if let Some(least) = question.at_least
        && !said.trim().parse::<f64>().is_ok_and(|n| n >= least)
    {
        return Some(format!("{name} is {said}, and should be at least {least}"));
    }
    let equals = question.equals.as_ref()?;
    (equals != said).then(|| format!("{name} is {said}, and should be {equals}"))
}

fn judge_age(question: &Question, age: Span) -> Option<String> {
    let most = question.within?;
    (age > most).then(|| {
        format!(
            "{} was {age} old when the copy ended, and should be at most {most}",
            question.name
        )
    })
}

/// The first column of the first row.
async fn answer(session: &Session, question: &Question) -> Result<String, StepResult> {
    let name = &question.name;
    let rows = session
        .rows(&question.sql)
        .await
        .map_err(|e| unanswered(name, &e))?;
    let row = rows
        .first()
        .ok_or_else(|| StepResult::failed(format!("{name} has no row")))?;
    if row.is_empty() {
        return Err(StepResult::failed(format!("{name} has no column")));
    }
    Ok(row.get(0).unwrap_or("null").to_owned())
}

/// How old a moment was at another one; PostgreSQL reads it, whatever its form.
async fn age(session: &Session, name: &str, said: &str, at: Time) -> Result<Span, StepResult> {
    let text = said.replace('\'', "''");
    let asked =
        format!("SELECT round(extract(epoch FROM '{text}'::timestamptz) * 1000)::bigint AS ms");
    let no_moment = || StepResult::failed(format!("{name} is {said}, which is no moment"));
    let row = session.row(&asked).await.map_err(|e| match e.answer() {
        Some(_) => no_moment(),
        None => unanswered(name, &e),
    })?;
    let ms = row
        .get("ms")
        .and_then(|ms| ms.parse().ok())
        .ok_or_else(no_moment)?;
    Ok(at.since(Time::from_millis(ms)))
}

fn unanswered(what: &str, error: &PostgresError) -> StepResult {
    let text = format!("{what} cannot be asked: {}", error.told());
    if error.is_timeout() {
        StepResult::indeterminate(text)
    } else {
        StepResult::failed(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_mistake_is_named_at_its_field() {
        let with = json!({"queries": [
            {"name": "a b", "sql": "SELECT 1"},
            {"name": "a", "sql": " ", "within": "1m"},
            {"name": "a", "sql": "SELECT 1", "newest": true, "equals": "x"},
            {"name": "c", "sql": "SELECT 1", "newest": true},
        ]});
        let paths: Vec<_> = (KIND.check)(&with).into_iter().map(|p| p.path).collect();
        let expected = [
            "queries[0].name",
            "queries[1].sql",
            "queries[1].within",
            "queries[2].name",
            "queries[2].newest",
            "queries",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn an_answer_that_is_no_number_is_not_enough() {
        let question: Question =
            serde_json::from_value(json!({"name": "n", "sql": "x", "atLeast": 3})).unwrap();
        assert_eq!(judge(&question, "3"), None);
        for wrong in ["2.9", "null", "many"] {
            assert!(judge(&question, wrong).is_some(), "{wrong}");
        }
    }
}
