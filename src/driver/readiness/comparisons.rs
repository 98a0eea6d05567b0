//! Comparisons that the documents name: something is read at each of some sites, and held against each other.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    model::{
        check::{CheckItem, CheckStatus},
        id::SiteName,
        readiness::{
            CommandReading, Comparison, HttpReading, Otherwise, Reading, Rule, SqlReading,
        },
        service::Service,
    },
    port::{
        cause,
        command::{Command, Ending},
        endpoint,
        kind::Wiring,
        postgres::{Conninfo, Login},
    },
};

/// Most that a program may print.
const MOST: u64 = 64 * 1024;
/// More of a reading is not shown.
const SHOWN: usize = 80;

/// An item for each comparison.
pub async fn check(service: &Service, wiring: &Wiring) -> Vec<CheckItem> {
    let all = service.readiness.compare.iter();
    join_all(all.map(|comparison| one(comparison, wiring))).await
}

async fn one(comparison: &Comparison, wiring: &Wiring) -> CheckItem {
    let limit = comparison.timeout.to_std();
    let readings = comparison.sites.iter().map(|(site, reading)| async move {
        let read = match timeout(limit, read(reading, wiring, limit)).await {
            Ok(read) => read,
            Err(_) => Err(format!("no answer within {}", comparison.timeout)),
        };
        (site, read.map(|text| text.trim().to_owned()))
    });
    let readings: BTreeMap<_, _> = join_all(readings).await.into_iter().collect();
    judge(comparison, &readings)
}

type Readings<'a> = BTreeMap<&'a SiteName, Result<String, String>>;

/// What the readings come to.
fn judge(comparison: &Comparison, readings: &Readings<'_>) -> CheckItem {
    let name = format!("compare/{}", comparison.name);
    let fix = format!(
        "bring the sites into line, or change readiness.compare ({})",
        comparison.name
    );
    let shown: Vec<_> = readings
        .iter()
        .map(|(site, read)| match read {
            Ok(text) => format!("{} at {site}", cut(text)),
            Err(reason) => format!("unknown at {site}: {reason}"),
        })
        .collect();
    let shown = shown.join("; ");
    let known: Vec<&str> = readings
        .values()
        .filter_map(|r| r.as_deref().ok())
        .collect();
    let broken = match holds(comparison.rule, &known) {
        Ok(holds) => (!holds).then(|| rule_words(comparison.rule)),
        Err(text) => {
            return CheckItem::bad(
                name,
                CheckStatus::Unknown,
                format!("{} is no number; {shown}", cut(&text)),
                "let what is read be a number, or compare with `equal`",
            );
        }
    };
    match broken {
        // What is known breaks the rule, whatever the rest may be.
        Some(rule) => CheckItem::bad(
            name,
            match comparison.otherwise {
                Otherwise::Fail => CheckStatus::Fail,
                Otherwise::Warn => CheckStatus::Warn,
            },
            format!("{shown}: {rule}"),
            fix,
        ),
        None if known.len() < readings.len() => CheckItem::bad(
            name,
            CheckStatus::Unknown,
            shown,
            "see that this host can read it at each site",
        ),
        None => CheckItem::ok(name, shown),
    }
}

fn rule_words(rule: Rule) -> String {
    match rule {
        Rule::Equal => "they differ".to_owned(),
        Rule::Within(most) => format!("they are more than {most} apart"),
        Rule::AtLeast(bound) => format!("it must be {bound} or more"),
        Rule::AtMost(bound) => format!("it must be {bound} or less"),
    }
}

/// Whether the rule holds of what is known; the text that should be a number, where one is none.
fn holds(rule: Rule, known: &[&str]) -> Result<bool, String> {
    let numbers = || {
        let parsed = known.iter().map(|text| {
            let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
            number.ok_or_else(|| (*text).to_owned())
        });
        parsed.collect::<Result<Vec<_>, _>>()
    };
    Ok(match rule {
        Rule::Equal => known.windows(2).all(|pair| pair[0] == pair[1]),
        Rule::Within(most) => {
            let numbers = numbers()?;
            let largest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let smallest = numbers.iter().copied().fold(f64::INFINITY, f64::min);
            numbers.is_empty() || largest - smallest <= most
        }
        Rule::AtLeast(bound) => numbers()?.iter().all(|n| *n >= bound),
        Rule::AtMost(bound) => numbers()?.iter().all(|n| *n <= bound),
    })
}

/// The beginning of a reading, in quotes.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{:?}…", &text[..at]),
        None => format!("{text:?}"),
    }
}

async fn read(reading: &Reading, wiring: &Wiring, limit: Duration) -> Result<String, String> {
    match reading {
        Reading::Command(command) => run(command, wiring, limit).await,
        Reading::Http(http) => get(http, wiring).await,
        Reading::Sql(sql) => ask(sql, wiring, limit).await,
    }
}

async fn run(reading: &CommandReading, wiring: &Wiring, limit: Duration) -> Result<String, String> {
    let command = Command {
        argv: reading.run.clone(),
        env: reading.env.clone(),
        secrets: wiring.secrets.clone(),
    };
    // A little less: what it says of itself is worth more than "no answer".
    let (run, printed) = command.collect(limit * 9 / 10, MOST).await;
    if !matches!(run.ending, Ending::Exited(0)) {
        return Err(run.told());
    }
    let text = String::from_utf8(printed).map_err(|_| "what it printed is no text".to_owned())?;
    let secrets = reading
        .env
        .values()
        .filter_map(|at| wiring.secrets.read(at).ok());
    for secret in secrets {
        if text.contains(secret.expose()) {
            return Err("it printed a secret, which is neither shown nor compared".to_owned());
        }
    }
    Ok(text)
}

async fn get(reading: &HttpReading, wiring: &Wiring) -> Result<String, String> {
    let mut request = wiring.http.get(&reading.url);
    for (name, at) in &reading.headers {
        let secret = wiring.secrets.read(at).map_err(|e| cause::in_full(&e))?;
        let mut value = http::HeaderValue::try_from(secret.expose())
            .map_err(|_| format!("the secret for {name} holds what a header cannot hold"))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let answer = request
        .send()
        .await
        .map_err(|e| cause::without_repeats(&e.without_url()))?;
    if !answer.status().is_success() {
        return Err(format!("{} answers {}", reading.url, answer.status()));
    }
    if let Some(name) = &reading.header {
        let value = answer.headers().get(name).and_then(|v| v.to_str().ok());
        return value
            .map(str::to_owned)
            .ok_or_else(|| format!("the answer of {} has no header {name}", reading.url));
    }
    let body = endpoint::body(answer).await;
    let Some(pointer) = &reading.pointer else {
        return String::from_utf8(body).map_err(|_| "the body is no text".to_owned());
    };
    let json: Value = serde_json::from_slice(&body)
        .map_err(|e| format!("the body of {} is no JSON: {e}", reading.url))?;
    match json.pointer(pointer) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value) => Ok(value.to_string()),
        None => Err(format!(
            "the answer of {} has nothing at {pointer}",
            reading.url
        )),
    }
}

async fn ask(reading: &SqlReading, wiring: &Wiring, limit: Duration) -> Result<String, String> {
    let conninfo: Conninfo = reading.connection.parse().map_err(|e| cause::in_full(&e))?;
    let login = Login {
        conninfo,
        password: reading.password.clone(),
        secrets: wiring.secrets.clone(),
    };
    let session = login.open(limit).await.map_err(|e| e.told())?;
    let sql = format!("BEGIN READ ONLY; {}\n; ROLLBACK", reading.query);
    let rows = session.rows(&sql).await.map_err(|e| e.told())?;
    let lines = rows.iter().map(|row| {
        let cells = (0..row.len()).map(|n| row.get(n).unwrap_or("null"));
        cells.collect::<Vec<_>>().join("|")
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::span::Span;

    fn comparison(rule: Rule, otherwise: Otherwise) -> Comparison {
        Comparison {
            name: "version".to_owned(),
            sites: BTreeMap::new(),
            rule,
            otherwise,
            timeout: Span::from_secs(1),
        }
    }

    fn status(rule: Rule, readings: &[Result<&str, &str>]) -> CheckStatus {
        let sites: Vec<SiteName> = (0..readings.len())
            .map(|n| SiteName::new(n.to_string()))
            .collect();
        let readings = sites
            .iter()
            .zip(
                readings
                    .iter()
                    .map(|r| r.map(str::to_owned).map_err(str::to_owned)),
            )
            .collect();
        judge(&comparison(rule, Otherwise::Fail), &readings).status
    }

    #[test]
    fn readings_are_held_against_the_rule() {
        use CheckStatus::{Fail, Ok as Fine, Unknown};
        assert_eq!(status(Rule::Equal, &[Ok("2.4"), Ok("2.4")]), Fine);
        assert_eq!(status(Rule::Equal, &[Ok("2.4"), Ok("2.3")]), Fail);
        assert_eq!(status(Rule::Within(2.0), &[Ok("10"), Ok("12")]), Fine);
        assert_eq!(status(Rule::Within(2.0), &[Ok("10"), Ok("12.1")]), Fail);
        assert_eq!(status(Rule::AtLeast(5.0), &[Ok("5"), Ok("6")]), Fine);
        assert_eq!(status(Rule::AtLeast(5.0), &[Ok("4.9"), Ok("6")]), Fail);
        assert_eq!(status(Rule::AtMost(80.0), &[Ok("81")]), Fail);
        assert_eq!(status(Rule::Within(2.0), &[Ok("ten"), Ok("12")]), Unknown);
    }

    #[test]
    fn what_cannot_be_read_is_unknown_unless_the_rest_breaks_the_rule() {
        use CheckStatus::{Fail, Unknown};
        assert_eq!(status(Rule::Equal, &[Ok("2.4"), Err("away")]), Unknown);
        assert_eq!(status(Rule::AtLeast(5.0), &[Ok("1"), Err("away")]), Fail);
        let three = [Ok("1"), Ok("2"), Err("away")];
        assert_eq!(status(Rule::Equal, &three), Fail);
    }

    #[test]
    fn a_difference_may_be_a_warning_only() {
        let (a, b): (SiteName, SiteName) = ("a".into(), "b".into());
        let readings = [(&a, Ok("1".to_owned())), (&b, Ok("2".to_owned()))].into();
        let item = judge(&comparison(Rule::Equal, Otherwise::Warn), &readings);
        assert_eq!(item.status, CheckStatus::Warn);
        assert_eq!(item.detail, "\"1\" at a; \"2\" at b: they differ");
    }
}
