//! The few calls of Cloudflare's API v4 that are needed, on the shared HTTP client.
//!
//! Only the fields in use are read, so that nothing else in a zone can spoil an answer, and error codes are kept with
//! their messages. All services of this process share the calls that a credential may make (`limit`). One that has run
//! into Cloudflare's limit all the same is not used again, by any of them, until the block ends: each further call would
//! be refused and could lengthen it.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Method, StatusCode, header::RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::limit::Window;
use crate::{
    model::{
        secret::{Secret, SecretRef},
        span::Span,
        time::Time,
    },
    port::{
        runtime::SharedRuntime,
        secret::{SecretError, SharedSecrets},
        upkeep::is_upkeep,
    },
};

/// How long a credential is blocked where the answer does not say (Cloudflare's rule: 5 minutes).
const BLOCK: Span = Span::from_secs(300);

/// Records on one page.
const PAGE: usize = 100;

/// Pages of one list that are read at most.
const PAGES: usize = 100;

/// The largest answer that is read, in bytes.
const LARGEST: usize = 8 << 20;

/// A record, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ApiRecord {
    /// Its id.
    pub id: String,
    /// Its name, without final dot.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its value.
    #[serde(default)]
    pub content: String,
    /// Its TTL; 1: automatic.
    #[serde(default)]
    pub ttl: u32,
    /// Whether Cloudflare's proxy stands in front.
    #[serde(default)]
    pub proxied: bool,
}

/// A zone, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ApiZone {
    /// Its id.
    pub id: String,
    /// Its name, without final dot.
    pub name: String,
    /// `active`, or why it is not served.
    #[serde(default)]
    pub status: String,
}

/// A token, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ApiToken {
    /// `active`, `disabled` or `expired`.
    #[serde(default)]
    pub status: String,
    /// When it ends, RFC 3339.
    #[serde(default)]
    pub expires_on: Option<String>,
}

/// One reason of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Reason {
    /// Cloudflare's code.
    #[serde(default)]
    pub code: i64,
    /// In Cloudflare's words.
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    success: bool,
    #[serde(default)]
    errors: Option<Vec<Reason>>,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    result_info: Option<Pages>,
}

#[derive(Deserialize)]
struct Pages {
    #[serde(default)]
    total_pages: Option<usize>,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The token cannot be read.
    #[error("cannot read Cloudflare's token: {0}")]
    Secret(#[from] SecretError),
    /// The token holds characters that no token has.
    #[error("Cloudflare's token holds characters that no token has: look for line breaks in it")]
    Token,
    /// The credential is blocked; nothing was sent.
    #[error("Cloudflare blocks this token until {} (too many requests); it is not called before", .0.clock())]
    Blocked(Time),
    /// No connection: nothing was sent.
    #[error("cannot connect to {0}")]
    Connect(String, #[source] reqwest::Error),
    /// Sent, but no whole answer came.
    #[error("{0} did not answer in time, or not wholly")]
    Lost(String, #[source] reqwest::Error),
    /// An answer that is none of the API's.
    #[error("{host} answered with status {status}, not as Cloudflare's API does")]
    Garbled {
        /// Who answered.
        host: String,
        /// HTTP status.
        status: StatusCode,
    },
    /// Refused with reasons.
    #[error("Cloudflare refuses: {}", told(.reasons, *.status))]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Cloudflare's reasons.
        reasons: Vec<Reason>,
    },
}

impl ApiError {
    /// Whether surely nothing was changed. A time-out never says so.
    #[must_use]
    pub fn nothing_changed(&self) -> bool {
        match self {
            Self::Secret(_) | Self::Token | Self::Blocked(_) | Self::Connect(..) => true,
            Self::Refused { status, .. } => status.is_client_error(),
            Self::Lost(..) | Self::Garbled { .. } => false,
        }
    }

    /// Whether one of these codes is among the reasons.
    #[must_use]
    pub fn has(&self, codes: &[i64]) -> bool {
        match self {
            Self::Refused { reasons, .. } => reasons.iter().any(|r| codes.contains(&r.code)),
            Self::Secret(_)
            | Self::Token
            | Self::Blocked(_)
            | Self::Connect(..)
            | Self::Lost(..)
            | Self::Garbled { .. } => false,
        }
    }

    /// Whether the token is not let do this.
    #[must_use]
    pub fn denied(&self) -> bool {
        matches!(self, Self::Refused { status, .. }
            if *status == StatusCode::UNAUTHORIZED || *status == StatusCode::FORBIDDEN)
    }
}

fn told(reasons: &[Reason], status: StatusCode) -> String {
    if reasons.is_empty() {
        return format!("status {status}");
    }
    let each: Vec<String> = reasons
        .iter()
        .map(|r| format!("{} (error {})", r.message, r.code))
        .collect();
    each.join("; ")
}

/// When the block of each credential ends, for the whole process. Keyed by a digest: no token stands here.
static BLOCKS: LazyLock<Mutex<BTreeMap<[u8; 32], Time>>> = LazyLock::new(Mutex::default);

/// The calls that each credential made lately, for the whole process, keyed in the same way.
static WINDOWS: LazyLock<Mutex<BTreeMap<[u8; 32], Window>>> = LazyLock::new(Mutex::default);

/// The API, for one credential.
pub struct Api {
    /// The shared client.
    pub http: reqwest::Client,
    /// Base URL, without final slash.
    pub base: String,
    /// The token.
    pub token: SecretRef,
    /// Where the token is read from, at each call.
    pub secrets: SharedSecrets,
    /// The clock.
    pub runtime: SharedRuntime,
    /// Longest time of one call.
    pub timeout: Duration,
}

impl Api {
    /// The zone of that name; none where the token sees none.
    ///
    /// # Errors
    /// Where the API cannot be asked.
    pub async fn zone_named(&self, name: &str) -> Result<Option<ApiZone>, ApiError> {
        let query = [("name", name.to_owned())];
        let (result, _) = self.call(Method::GET, "/zones", &query, None).await?;
        let zones: Vec<ApiZone> = self.parsed(result)?;
        Ok(zones
            .into_iter()
            .find(|z| z.name.eq_ignore_ascii_case(name)))
    }

    /// The zone of that id.
    ///
    /// # Errors
    /// Where the API cannot be asked or does not show it.
    pub async fn zone(&self, id: &str) -> Result<ApiZone, ApiError> {
        let (result, _) = self
            .call(Method::GET, &format!("/zones/{id}"), &[], None)
            .await?;
        self.parsed(result)
    }

    /// The records of one name and type, of all pages.
    ///
    /// # Errors
    /// Where the API cannot be asked.
    pub async fn records(
        &self,
        zone: &str,
        name: &str,
        kind: &str,
    ) -> Result<Vec<ApiRecord>, ApiError> {
        let path = format!("/zones/{zone}/dns_records");
        let mut records = Vec::new();
        for page in 1..=PAGES {
            let query = [
                ("name", name.to_owned()),
                ("type", kind.to_owned()),
                ("page", page.to_string()),
                ("per_page", PAGE.to_string()),
            ];
            let (result, pages) = self.call(Method::GET, &path, &query, None).await?;
            let rows: Vec<Value> = self.parsed(result)?;
            let last = match pages.and_then(|p| p.total_pages) {
                Some(total) => page >= total,
                None => rows.len() < PAGE,
            };
            for row in rows {
                // Whatever else the zone holds may have fields of any shape.
                let same = |field: &str, wanted: &str| {
                    row.get(field)
                        .and_then(Value::as_str)
                        .is_some_and(|v| v.eq_ignore_ascii_case(wanted))
                };
                if same("name", name) && same("type", kind) {
                    records.push(self.parsed(row)?);
                }
            }
            if last {
                break;
            }
        }
        Ok(records)
    }

    /// Makes several changes in one transaction, or none of them.
    ///
    /// # Errors
    /// Where it is refused, or its outcome is not known.
    pub async fn batch(&self, zone: &str, body: &Value) -> Result<(), ApiError> {
        let path = format!("/zones/{zone}/dns_records/batch");
        self.call(Method::POST, &path, &[], Some(body)).await?;
        Ok(())
    }

    /// What the API says of the token.
    ///
    /// # Errors
    /// Where the token is none of a user's (an account's token is not known there either).
    pub async fn verify(&self) -> Result<ApiToken, ApiError> {
        let (result, _) = self
            .call(Method::GET, "/user/tokens/verify", &[], None)
            .await?;
        self.parsed(result)
    }

    /// Changes a record that cannot exist: whoever may not edit is refused before it is looked for.
    ///
    /// # Errors
    /// Always, one way or the other.
    pub async fn edit_nothing(&self, zone: &str) -> Result<(), ApiError> {
        let path = format!("/zones/{zone}/dns_records/{}", "0".repeat(32));
        let body = serde_json::json!({});
        self.call(Method::PATCH, &path, &[], Some(&body)).await?;
        Ok(())
    }

    fn parsed<T: serde::de::DeserializeOwned>(&self, value: Value) -> Result<T, ApiError> {
        serde_json::from_value(value).map_err(|_| ApiError::Garbled {
            host: self.base.clone(),
            status: StatusCode::OK,
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<(Value, Option<Pages>), ApiError> {
        let token = self.secrets.read(&self.token)?;
        if !token.expose().bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ApiError::Token);
        }
        let credential = self.credential(&token);
        self.unblocked(&credential)?;
        self.turn(credential).await?;
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .query(query)
            .timeout(self.timeout)
            .bearer_auth(token.expose());
        if let Some(body) = body {
            request = request.json(body);
        }
        let host = || self.base.clone();
        let mut response = request.send().await.map_err(|e| {
            let e = e.without_url();
            if e.is_connect() {
                ApiError::Connect(host(), e)
            } else {
                ApiError::Lost(host(), e)
            }
        })?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(self.block(credential, &response));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|e| ApiError::Lost(host(), e.without_url()))?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LARGEST {
                return Err(ApiError::Garbled {
                    host: host(),
                    status,
                });
            }
        }
        match serde_json::from_slice::<Envelope>(&bytes) {
            Ok(answer) if status.is_success() && answer.success => {
                Ok((answer.result, answer.result_info))
            }
            Ok(answer) if !answer.success => Err(ApiError::Refused {
                status,
                reasons: answer.errors.unwrap_or_default(),
            }),
            Ok(_) | Err(_) => Err(ApiError::Garbled {
                host: host(),
                status,
            }),
        }
    }

    /// Calls of this token that were made lately.
    ///
    /// # Errors
    /// Where the token cannot be read.
    pub fn used(&self) -> Result<usize, SecretError> {
        let credential = self.credential(&self.secrets.read(&self.token)?);
        let mut windows = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(credential).or_default();
        Ok(window.used(self.runtime.now()))
    }

    /// Waits until the credential may make another call. A wait goes on beyond the call's own time: the call is only made
    /// after it, and a step has its own time-out.
    async fn turn(&self, credential: [u8; 32]) -> Result<(), ApiError> {
        let mut told = false;
        loop {
            let asked = {
                let mut windows = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
                let window = windows.entry(credential).or_default();
                window.admit(is_upkeep(), self.runtime.now())
            };
            let Err(until) = asked else {
                return Ok(());
            };
            if !told {
                let upkeep = is_upkeep();
                tracing::warn!(%until, upkeep, "a call to Cloudflare waits: its token is near the limit of Cloudflare");
                told = true;
            }
            self.runtime.sleep_until(until).await;
            // Somebody else may have run into it meanwhile.
            self.unblocked(&credential)?;
        }
    }

    fn credential(&self, token: &Secret) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.base.as_bytes());
        digest.update([0]);
        digest.update(token.expose().as_bytes());
        digest.finalize().into()
    }

    fn unblocked(&self, credential: &[u8; 32]) -> Result<(), ApiError> {
        let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.runtime.now();
        match blocks.get(credential) {
            Some(until) if *until > now => Err(ApiError::Blocked(*until)),
            Some(_) => {
                blocks.remove(credential);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn block(&self, credential: [u8; 32], response: &reqwest::Response) -> ApiError {
        let wait = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.trim().parse().ok())
            .map_or(BLOCK, Span::from_secs);
        let until = self.runtime.now().after(wait);
        let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        let end = blocks.entry(credential).or_insert(until);
        *end = (*end).max(until);
        tracing::warn!(until = %end, "Cloudflare blocks a token: it is not used until then");
        ApiError::Blocked(*end)
    }
}
