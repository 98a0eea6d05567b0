//! Where the leader is reached: it writes its own address into the `EndpointSlice`s of Services that select no Pods, so that
//! what guards, observers and customers send comes to the replica that leads, and to no other one.

use std::{net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time;

use crate::{
    driver::tenure::Tenure,
    model::span::Span,
    port::{cause, runtime::SharedRuntime},
};

/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The slices are looked at again after this: a leader that was deposed in the middle of a write, or a person, may have
/// changed them.
const LOOK: Span = Span::from_secs(20);
/// Tried again after this where a slice could not be written.
const AGAIN: Span = Span::from_secs(2);

/// Where a replica is reached once it leads.
#[derive(Clone, Debug)]
pub struct Door {
    /// This replica's address.
    pub address: IpAddr,
    /// The slices.
    pub slices: Vec<String>,
}

/// The leader's address in its slices.
pub struct Reach {
    api: Api<EndpointSlice>,
    door: Door,
    tenure: Arc<Tenure>,
    runtime: SharedRuntime,
}

impl Reach {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        door: Door,
        tenure: Arc<Tenure>,
        runtime: SharedRuntime,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            door,
            tenure,
            runtime,
        }
    }

    /// Has the slices lead here, for as long as this replica leads. Never ends by itself.
    pub async fn keep(&self) {
        let own = json!([{
            "addresses": [self.door.address],
            "conditions": {"ready": true, "serving": true, "terminating": false},
        }]);
        loop {
            let mut works = true;
            // Whoever was frozen waits for its next renewal.
            if self.tenure.lasts() {
                works = self.write(&own, |_| true).await;
            }
            let pause = if works { LOOK } else { AGAIN };
            let next = self.runtime.now().after(pause);
            self.runtime.sleep_until(next).await;
        }
    }

    /// Has them lead nowhere, where they lead here.
    pub async fn leave(&self) {
        let own = self.door.address.to_string();
        self.write(&json!([]), |slice| {
            let mut endpoints = slice.endpoints.iter();
            endpoints.any(|endpoint| endpoint.addresses.contains(&own))
        })
        .await;
    }

    /// Writes the endpoints of the slices that are meant and have others. Whether all could be written.
    async fn write(&self, endpoints: &Value, is_meant: impl Fn(&EndpointSlice) -> bool) -> bool {
        let mut works = true;
        for name in &self.door.slices {
            let written = self.write_one(name, endpoints, &is_meant);
            let error = match time::timeout(ANSWER, written).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => cause::in_full(&error),
                Err(_) => "the API server does not answer".to_owned(),
            };
            works = false;
            tracing::warn!(
                slice = %name, %error,
                "the EndpointSlice of the leader cannot be written, so that nobody finds it there; trying again"
            );
        }
        works
    }

    async fn write_one(
        &self,
        name: &str,
        endpoints: &Value,
        is_meant: impl Fn(&EndpointSlice) -> bool,
    ) -> Result<(), kube::Error> {
        let slice = self.api.get(name).await?;
        let there = json!(slice.endpoints);
        if !is_meant(&slice) || leads(&there) == leads(endpoints) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": slice.metadata.resource_version},
            "endpoints": endpoints,
        }));
        self.api
            .patch(name, &PatchParams::default(), &patch)
            .await?;
        tracing::info!(slice = %name, address = %self.door.address, "the EndpointSlice of the leader is written");
        Ok(())
    }
}

/// Addresses that traffic is sent to.
fn leads(endpoints: &Value) -> Vec<&Value> {
    let endpoints = endpoints.as_array().into_iter().flatten();
    let ready = endpoints.filter(|one| one["conditions"]["ready"] != json!(false));
    ready
        .flat_map(|one| one["addresses"].as_array().into_iter().flatten())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_traffic_goes_to_count() {
        let one = json!([{"addresses": ["192.0.2.1"]}]);
        let same =
            json!([{"addresses": ["192.0.2.1"], "conditions": {"ready": true}, "zone": "a"}]);
        assert_eq!(leads(&one), leads(&same));
        let closed = json!([{"addresses": ["192.0.2.1"], "conditions": {"ready": false}}]);
        assert_eq!(leads(&closed), leads(&json!([])));
        assert_ne!(leads(&one), leads(&closed));
    }
}
