//! The rate of the primary's own metrics: a Prometheus counter, read twice.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::{
    model::span::Span,
    port::{cause, endpoint, kind::Problem},
};

/// Bytes of metrics that are read at most.
const MOST: usize = 16 << 20;
/// How long one reading may take.
const READ: Duration = Duration::from_secs(10);

/// Where a rate is taken from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateFrom {
    /// The primary's metrics in Prometheus' text format.
    pub url: String,
    /// The counter; series of it are added up.
    pub metric: String,
    /// Only series with these labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Between the two readings; default 10s.
    #[serde(default = "over")]
    pub over: Span,
}

fn over() -> Span {
    Span::from_secs(10)
}

impl RateFrom {
    /// What is wrong with it.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match url::Url::parse(&self.url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {}
            Ok(_) => problems.push(Problem::new("rateFrom.url", "expected http or https")),
            Err(e) => problems.push(Problem::new("rateFrom.url", format!("is no URL: {e}"))),
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if self.metric.is_empty() || !self.metric.chars().all(legal) {
            problems.push(Problem::new("rateFrom.metric", "expected a metric's name"));
        }
        if !(1_000..=600_000).contains(&self.over.as_millis()) {
            problems.push(Problem::new("rateFrom.over", "expected 1s to 10m"));
        }
        problems
    }

    /// The host that it asks.
    pub fn host(&self) -> Option<String> {
        endpoint::host(&self.url)
    }

    /// Requests a second, just now.
    ///
    /// # Errors
    /// Where that cannot be told, in one sentence.
    pub async fn read(&self, client: &reqwest::Client) -> Result<f64, String> {
        let first = self.look(client).await?;
        sleep(self.over.to_std()).await;
        let second = self.look(client).await?;
        let rate = rate(&first, &second);
        rate.ok_or_else(|| {
            format!(
                "{} fell: the primary was started anew meanwhile",
                self.metric
            )
        })
    }

    async fn look(&self, client: &reqwest::Client) -> Result<Reading, String> {
        let asked = Instant::now();
        let failed =
            |e: &dyn std::error::Error| format!("{}: {}", self.url, cause::without_repeats(e));
        let mut answer = client
            .get(&self.url)
            .timeout(READ)
            .send()
            .await
            .map_err(|e| failed(&e.without_url()))?;
        if !answer.status().is_success() {
            return Err(format!("{}: the answer is {}", self.url, answer.status()));
        }
        // Somewhere between question and answer the primary looked at its counter.
        let at = asked + asked.elapsed() / 2;
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| failed(&e.without_url()))? {
            text.extend_from_slice(&chunk);
            if text.len() > MOST {
                return Err(format!(
                    "{}: more than {} MiB of metrics",
                    self.url,
                    MOST >> 20
                ));
            }
        }
        let sum = sum(&String::from_utf8_lossy(&text), &self.metric, &self.labels);
        sum.map(|value| Reading { at, value })
            .ok_or_else(|| format!("{} tells no {} with these labels", self.url, self.metric))
    }
}

/// A counter at a moment.
struct Reading {
    at: Instant,
    value: f64,
}

/// How much it rose a second; none where it fell.
fn rate(first: &Reading, second: &Reading) -> Option<f64> {
    let passed = second.at.saturating_duration_since(first.at);
    let rose = second.value - first.value;
    (rose >= 0.0).then(|| rose / passed.as_secs_f64())
}

/// The sum of a metric's series; none where there is none.
fn sum(text: &str, metric: &str, wanted: &BTreeMap<String, String>) -> Option<f64> {
    let values: Vec<f64> = text
        .lines()
        .filter_map(|line| series(line.trim(), metric))
        .filter(|(labels, _)| {
            wanted
                .iter()
                .all(|(name, value)| labels.get(name) == Some(value))
        })
        .map(|(_, value)| value)
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// `name{label="value",…} 12 1700000000000`.
fn series(line: &str, metric: &str) -> Option<(BTreeMap<String, String>, f64)> {
    let rest = line.strip_prefix(metric)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None if rest.starts_with([' ', '\t']) => (BTreeMap::new(), rest),
        None => return None,
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((labels, value))
}

/// What stands within braces, and what follows them.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        loop {
            match chars.next()? {
                (at, '"') => {
                    rest = &after[at + 1..];
                    break;
                }
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        }
        labels.insert(name.trim().to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_by_when_the_counter_was_read() {
        let start = Instant::now();
        let reading = |seconds, value| Reading {
            at: start + Duration::from_secs(seconds),
            value,
        };
        assert_eq!(rate(&reading(0, 10.0), &reading(4, 50.0)), Some(10.0));
        assert_eq!(rate(&reading(0, 10.0), &reading(1, 10.0)), Some(0.0));
        assert_eq!(rate(&reading(0, 10.0), &reading(1, 9.0)), None);
    }

    #[test]
    fn series_of_a_counter_are_added_up() {
        let text = "# TYPE requests_total counter\n\
                    requests_total{code=\"200\",path=\"a\\\"}b\"} 10\n\
                    requests_total{path=\"x\", code=\"200\"} 2.5 1700000000000\n\
                    requests_total{code=\"500\"} 1e1\n\
                    requests_total_created 99\n\
                    plain_total 7\n";
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        assert_eq!(sum(text, "requests_total", &labels(&[])), Some(22.5));
        assert_eq!(
            sum(text, "requests_total", &labels(&[("code", "200")])),
            Some(12.5)
        );
        assert_eq!(
            sum(text, "requests_total", &labels(&[("path", "a\"}b")])),
            Some(10.0)
        );
        assert_eq!(
            sum(text, "requests_total", &labels(&[("code", "404")])),
            None
        );
        assert_eq!(sum(text, "plain_total", &labels(&[])), Some(7.0));
        assert_eq!(sum(text, "none_total", &labels(&[])), None);
    }
}
