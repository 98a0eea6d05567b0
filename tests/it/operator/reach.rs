//! Where the leader is reached: its own address stands in the slices of Services that select nothing.

use nix::sys::signal::Signal;

use crate::stand::{kubernetes::Cluster, operator::Operators};

const SLICE: &str = r#"{
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "guards", "labels": {"kubernetes.io/service-name": "guards"}},
    "addressType": "IPv4",
    "endpoints": [],
    "ports": [{"name": "guards", "port": 7400, "protocol": "UDP"}]
}"#;

fn leads_to(cluster: &Cluster) -> String {
    let path = "-o=jsonpath={.endpoints[*].addresses[*]}";
    cluster.kubectl(&["get", "endpointslice", "guards", path])
}

fn until(operators: &Operators, address: &str) {
    let cluster = &operators.cluster;
    cluster.until("it leads there", || leads_to(cluster) == address);
}

fn start(operators: &mut Operators, name: &'static str, address: &str) {
    operators.start_with(
        name,
        &[
            "--allow-commands",
            "--endpoint-slice=guards",
            "--address",
            address,
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slice_leads_to_whoever_leads_and_after_a_clean_end_nowhere() {
    let mut operators = Operators::new().await;
    operators.cluster.apply(SLICE);
    let (one, two) = ("192.0.2.1", "192.0.2.2");
    start(&mut operators, "one", one);
    until(&operators, one);
    start(&mut operators, "two", two);
    operators.until_service("it is healthy", |status| status["verdict"] == "healthy");
    assert_eq!(
        leads_to(&operators.cluster),
        one,
        "a candidate is not reached"
    );

    operators.signal("one", Signal::SIGKILL);
    until(&operators, two);
    operators.ended("one");

    // Whoever is frozen does not lead there once it wakes up.
    start(&mut operators, "one", one);
    operators.signal("two", Signal::SIGSTOP);
    until(&operators, one);
    operators.signal("two", Signal::SIGCONT);
    assert!(!operators.ended("two").success());
    assert_eq!(leads_to(&operators.cluster), one);

    operators.signal("one", Signal::SIGTERM);
    assert!(operators.ended("one").success());
    assert_eq!(leads_to(&operators.cluster), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_is_missing_is_told_and_keeps_nobody_from_leading() {
    let mut operators = Operators::new().await;
    start(&mut operators, "one", "192.0.2.1");
    operators.until_service("it is healthy", |status| status["verdict"] == "healthy");
    let cluster = &operators.cluster;
    cluster.until("it is told", || {
        operators.log("one").contains("nobody finds it there")
    });
    cluster.apply(SLICE);
    cluster.until("it leads there", || leads_to(cluster) == "192.0.2.1");
}
