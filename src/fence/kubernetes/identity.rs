//! Which cluster it is: a kubeconfig says where a server is, not whose Pods it runs.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use crate::port::kubernetes::ApiError;

/// The UID of a cluster: that of its namespace kube-system, which no cluster has of another.
///
/// # Errors
/// Where the server does not tell.
pub async fn uid(client: &Client, within: Duration) -> Result<String, ApiError> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = ApiError::within(within, api.get("kube-system")).await?;
    found.metadata.uid.ok_or(ApiError::Shape("metadata.uid"))
}
