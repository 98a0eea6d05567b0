//! The auditor of the demo: somebody who believes nobody. Reads every acknowledged order back from where it should be,
//! and opens every URL that customers were sent.

use std::{collections::BTreeSet, time::Duration};

use reqwest::StatusCode;
use tokio_postgres::{Config, NoTls};

use super::{
    customer::Acknowledged,
    outside::{Received, Service},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Orders that were acknowledged and are not in the database.
///
/// # Errors
/// In a sentence, where the database cannot be read.
pub async fn missing_rows(
    database: &Config,
    acknowledged: &[Acknowledged],
) -> Result<Vec<i64>, String> {
    let client = connect(database).await?;
    let rows = client
        .query("SELECT id FROM orders", &[])
        .await
        .map_err(|e| format!("the orders cannot be read: {e}"))?;
    let kept: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    Ok(acknowledged
        .iter()
        .map(|order| order.receipt.id)
        .filter(|id| !kept.contains(id))
        .collect())
}

/// Whether a database takes writes, as it says itself.
///
/// # Errors
/// In a sentence, where it cannot be asked.
pub async fn takes_writes(database: &Config) -> Result<bool, String> {
    let client = connect(database).await?;
    let row = client
        .query_one("SELECT NOT pg_is_in_recovery()", &[])
        .await
        .map_err(|e| format!("the database does not tell whether it takes writes: {e}"))?;
    Ok(row.get(0))
}

/// Whether the shop at this URL takes orders.
///
/// # Errors
/// In a sentence, where it does not answer.
pub async fn is_open(shop: &str) -> Result<bool, String> {
    let answer = client()?
        .get(format!("{shop}promote"))
        .send()
        .await
        .map_err(|e| format!("the shop does not answer: {e}"))?;
    Ok(answer.status() == StatusCode::OK)
}

async fn connect(database: &Config) -> Result<tokio_postgres::Client, String> {
    let (client, connection) = database
        .connect(NoTls)
        .await
        .map_err(|e| format!("the database cannot be reached: {e}"))?;
    tokio::spawn(connection);
    Ok(client)
}

/// Receipts that were given and are not honoured by the shop at this URL.
///
/// # Errors
/// In a sentence, where the shop does not answer.
pub async fn refused_receipts(
    shop: &str,
    acknowledged: &[Acknowledged],
) -> Result<Vec<i64>, String> {
    let http = client()?;
    let mut refused = Vec::new();
    for order in acknowledged {
        let answer = http
            .post(format!("{shop}receipts"))
            .json(&order.receipt)
            .send()
            .await
            .map_err(|e| format!("the shop does not answer: {e}"))?;
        if answer.status() != StatusCode::OK {
            refused.push(order.receipt.id);
        }
    }
    Ok(refused)
}

/// What became of the URLs in one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Through which service it came.
    pub service: Service,
    /// Whether it names the fallback URL.
    pub names_fallback: bool,
    /// Whether that URL led to an open shop at the standby.
    pub works: bool,
}

/// Opens the fallback URL out of each message, as its reader would.
///
/// # Errors
/// Where the HTTP client cannot be made.
pub async fn follow(
    messages: &[Received],
    fallback: &str,
    site: &str,
) -> Result<Vec<Checked>, String> {
    let http = client()?;
    let mut all = Vec::with_capacity(messages.len());
    for message in messages {
        let found = urls(&message.text)
            .into_iter()
            .find(|u| leads_to(u, fallback));
        let works = match &found {
            Some(url) => opens(&http, url, site).await,
            None => false,
        };
        all.push(Checked {
            service: message.service,
            names_fallback: found.is_some(),
            works,
        });
    }
    Ok(all)
}

fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(|e| e.to_string())
}

async fn opens(http: &reqwest::Client, url: &str, site: &str) -> bool {
    let Ok(answer) = http.get(url).send().await else {
        return false;
    };
    if answer.status() != StatusCode::OK {
        return false;
    }
    let page = answer.text().await.unwrap_or_default();
    page.contains("The shop is open") && page.contains(site)
}

/// The same place, with or without a slash at its end.
fn leads_to(url: &str, fallback: &str) -> bool {
    url.trim_end_matches('/') == fallback.trim_end_matches('/')
}

/// The URLs in a text.
#[must_use]
pub fn urls(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("http") {
        rest = &rest[at..];
        let end = rest
            .find(|c: char| c.is_whitespace() || "<>\"()[]".contains(c))
            .unwrap_or(rest.len());
        let word = rest[..end].trim_end_matches(['.', ',', ';', ':', '!', '?']);
        if word.starts_with("http://") || word.starts_with("https://") {
            found.push(word.to_owned());
        }
        rest = &rest[end.max("http".len()).min(rest.len())..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_found_in_sentences() {
        assert_eq!(
            urls("Go to http://127.1.2.3:80/. See <https://status.test/x>, not httpd."),
            ["http://127.1.2.3:80/", "https://status.test/x"]
        );
        assert!(urls("http").is_empty());
    }
}
