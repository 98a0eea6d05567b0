//! Why the API of a cluster did not do what it was asked for.

use std::time::Duration;

use kube::core::Status;
use tokio::time::timeout;

use crate::port::{cause, secret::SecretError};

/// Why the API of a cluster did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The kubeconfig is a secret that cannot be read.
    #[error("the kubeconfig cannot be read")]
    Secret(#[source] SecretError),
    /// The kubeconfig, or the account of the Pod, is of no use.
    #[error("the kubeconfig cannot be used: {0}")]
    Settings(String),
    /// The server answered, and said no.
    #[error("the API server refuses it")]
    Refused(#[source] Box<Status>),
    /// There was no answer, or none that can be understood.
    #[error("the API server was not reached")]
    Broken(#[source] kube::Error),
    /// It has no objects of that kind.
    #[error("the cluster does not know the kind {0}")]
    NoKind(String),
    /// There was no answer in time.
    #[error("the API server did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// An object is not as its kind has it.
    #[error("the API server's answer has no {0}")]
    Shape(&'static str),
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            Self::Refused(status)
        } else {
            Self::Broken(error)
        }
    }
}

impl ApiError {
    /// Asks the server, for so long.
    ///
    /// # Errors
    /// Where it refuses, or does not answer.
    pub async fn within<T>(
        limit: Duration,
        asked: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Self> {
        match timeout(limit, asked).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Self::Timeout(limit)),
        }
    }

    /// In one line, without secrets.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Refused(status) => status.message.clone(),
            Self::Secret(_)
            | Self::Settings(_)
            | Self::Broken(_)
            | Self::NoKind(_)
            | Self::Timeout(_)
            | Self::Shape(_) => cause::without_repeats(self),
        }
    }

    /// Whether it is sure that nothing came of it.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        match self {
            Self::Secret(_) | Self::Settings(_) | Self::NoKind(_) => true,
            Self::Refused(status) => (400..500).contains(&status.code) && status.code != 408,
            Self::Broken(_) | Self::Timeout(_) | Self::Shape(_) => false,
        }
    }

    /// The status that the server answered with.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(status) => Some(status.code),
            Self::Secret(_)
            | Self::Settings(_)
            | Self::Broken(_)
            | Self::NoKind(_)
            | Self::Timeout(_)
            | Self::Shape(_) => None,
        }
    }

    /// Whether somebody changed the object meanwhile.
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        self.code() == Some(409) && self.rivals().is_empty()
    }

    /// The field managers that own what was to be applied.
    #[must_use]
    pub fn rivals(&self) -> Vec<String> {
        let Self::Refused(status) = self else {
            return Vec::new();
        };
        let causes = status.details.iter().flat_map(|d| &d.causes);
        let mut rivals: Vec<String> = causes
            .filter(|cause| cause.reason == "FieldManagerConflict")
            .filter_map(|cause| Some(cause.message.split('"').nth(1)?.to_owned()))
            .collect();
        rivals.sort();
        rivals.dedup();
        rivals
    }
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn refused(code: u16, causes: &[&str]) -> ApiError {
        let causes = causes.iter().map(|manager| StatusCause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with \"{manager}\" using apps/v1"),
            field: ".spec.replicas".to_owned(),
        });
        let details = StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: causes.collect(),
            retry_after_seconds: 0,
        };
        let status = Status::failure("said", "Conflict").with_code(code);
        ApiError::Refused(Box::new(status.with_details(details)))
    }

    #[test]
    fn a_conflict_of_owners_is_not_one_of_versions() {
        let owned = refused(409, &["kubectl", "argocd-controller", "kubectl"]);
        assert_eq!(owned.rivals(), ["argocd-controller", "kubectl"]);
        assert!(!owned.is_overtaken());
        assert!(refused(409, &[]).is_overtaken());
        assert!(!refused(403, &[]).is_overtaken());
    }

    #[test]
    fn only_an_answer_that_refuses_is_certain() {
        assert!(refused(403, &[]).is_certain() && refused(422, &[]).is_certain());
        assert!(!refused(500, &[]).is_certain() && !refused(408, &[]).is_certain());
        assert!(!ApiError::Timeout(Duration::from_secs(1)).is_certain());
    }
}
