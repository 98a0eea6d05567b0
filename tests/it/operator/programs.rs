//! Documents have no program run where the operator was not told to run any.

use nix::sys::signal::Signal;

use crate::stand::operator::Operators;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_document_needs_leave_also_where_it_was_in_force_before() {
    let mut operators = Operators::running().await;
    operators.cluster.until("the documents are kept", || {
        let kept = operators
            .cluster
            .kubectl(&["get", "servicerevisions", "-o=name"]);
        kept.contains("servicerevision.failover.rs/shop")
    });
    operators.signal("one", Signal::SIGTERM);
    assert!(operators.ended("one").success());

    operators.start_with("two", &[]);
    operators.until_service("it says what may not be", |status| {
        let conditions = status["conditions"].as_array().unwrap();
        let of = |kind: &str| conditions.iter().find(|c| c["type"] == kind).unwrap();
        let told = of("Valid")["message"].as_str().unwrap();
        of("Valid")["status"] == "False"
            && told.contains(".with.perform (command/fence): documents may have no program")
            && told.contains("--allow-commands")
            && of("Ready")["reason"] == "NotProtected"
    });
    assert_eq!(operators.stand.effects(), "");
}
