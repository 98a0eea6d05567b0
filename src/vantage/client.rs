//! The observer's side of the wire: every request signed, every answer proved to be the controller's.

use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use super::{
    key::{Key, KeyError},
    message::{
        Begun, CHALLENGE, Challenge, Hello, REPORT, Receipt, Refusal, Refused, Report, SESSION,
        SESSION_HEADER, SIGNATURE_HEADER, SessionId, VANTAGE_HEADER,
    },
    signature::{Answer, Request},
};
use crate::{
    model::{id::VantageName, secret::SecretRef},
    port::secret::SharedSecrets,
};

/// Largest answer that is read, bytes: an assignment of thousands of probes.
const ANSWER: usize = 8 * 1024 * 1024;

/// Speaks to a controller for one vantage point.
#[derive(Clone)]
pub struct Client {
    /// Carries requests.
    pub http: reqwest::Client,
    /// The controller.
    pub controller: Url,
    /// Who speaks.
    pub vantage: VantageName,
    /// The key, read again for each request.
    pub key: SecretRef,
    /// Where it is read from.
    pub secrets: SharedSecrets,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no key to sign with.
    #[error("requests cannot be signed")]
    Key(#[source] KeyError),
    /// No answer came.
    #[error("the controller cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It is too busy, or something else answers there.
    #[error("the controller answered with HTTP status {0}")]
    Status(u16),
    /// Whoever answers does not have the key.
    #[error(
        "the answer is not signed with this key: something else answers at the controller's address"
    )]
    Forged,
    /// It is not what was expected.
    #[error("the controller's answer is not understood")]
    Shape(#[source] serde_json::Error),
    /// The controller said no.
    #[error("the controller refused: {0}")]
    Refused(Refusal),
}

impl Client {
    /// Begins a session; the one before is over.
    ///
    /// # Errors
    /// Where the controller cannot be reached, or refuses.
    pub async fn begin(&self, hello: &Hello) -> Result<Begun, ClientError> {
        let answer = self.http.get(self.url(CHALLENGE)).send().await;
        let answer = answer.map_err(ClientError::Unreachable)?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(ClientError::Status(status));
        }
        let bytes = whole(answer).await?;
        let given: Challenge = serde_json::from_slice(&bytes).map_err(ClientError::Shape)?;
        self.post(SESSION, &given.challenge, hello).await
    }

    /// Reports looks.
    ///
    /// # Errors
    /// Where the controller cannot be reached, or refuses.
    pub async fn report(
        &self,
        session: &SessionId,
        report: &Report,
    ) -> Result<Receipt, ClientError> {
        self.post(REPORT, &session.0, report).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        session: &str,
        message: &impl Serialize,
    ) -> Result<T, ClientError> {
        let key = Key::read(self.secrets.as_ref(), &self.key).map_err(ClientError::Key)?;
        let body = serde_json::to_vec(message).map_err(ClientError::Shape)?;
        let request = Request {
            method: "POST",
            path,
            vantage: self.vantage.as_str(),
            session,
            body: &body,
        };
        let signature = request.sign(&key);
        let sent = self
            .http
            .post(self.url(path))
            .header(VANTAGE_HEADER, self.vantage.as_str())
            .header(SESSION_HEADER, session)
            .header(SIGNATURE_HEADER, &signature)
            .body(body);
        let answer = sent.send().await.map_err(ClientError::Unreachable)?;
        let status = answer.status().as_u16();
        if status == Refusal::Signature.status() {
            return Err(ClientError::Refused(Refusal::Signature));
        }
        let given = answer.headers().get(SIGNATURE_HEADER).cloned();
        let Some(given) = given.as_ref().and_then(|g| g.to_str().ok()) else {
            return Err(ClientError::Status(status));
        };
        let bytes = whole(answer).await?;
        let proved = Answer {
            request: &signature,
            status,
            body: &bytes,
        };
        if !proved.is_signed(&key, given) {
            return Err(ClientError::Forged);
        }
        if status == 200 {
            return serde_json::from_slice(&bytes).map_err(ClientError::Shape);
        }
        let no: Refused = serde_json::from_slice(&bytes).map_err(ClientError::Shape)?;
        Err(ClientError::Refused(no.refused))
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.controller.clone();
        url.set_path(path);
        url
    }
}

async fn whole(mut answer: reqwest::Response) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(ClientError::Unreachable)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER {
            return Err(ClientError::Forged);
        }
    }
    Ok(bytes)
}
