//! The API does what its OpenAPI document says, as a property tester finds that out that knows the document alone.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Stand, desk, token};

/// The property tester.
fn tester() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .with_file_name("schemathesis")
        .join("bin/st");
    let is_there = program.exists();
    assert!(
        is_there,
        "there is no {}: run tests/api/build first",
        program.display()
    );
    program
}

/// Tries every operation with this person's token; what it found.
fn tried(stand: &Stand, url: &str, person: &str) -> (bool, String) {
    let ran = Command::new(tester())
        .current_dir(stand.path(""))
        .args(["run", &format!("{url}/api/v1/openapi.json")])
        .args([
            "--header",
            &format!("Authorization: Bearer {}", token(person)),
        ])
        // A stream has no end.
        .args(["--exclude-path", "/api/v1/events"])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "30",
        ])
        .args([
            "--seed",
            "1",
            "--generation-deterministic",
            "--generation-database",
            "none",
        ])
        .args(["--checks", "all", "--request-timeout", "60"])
        .args(["--no-color", "--continue-on-failure", "--warnings", "off"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    (ran.status.success(), said.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_property_tester_finds_no_answer_that_is_not_in_the_document() {
    let (stand, url) = desk().await;
    let (is_well, said) = tried(&stand, &url, "ann");
    assert!(is_well, "{said}\n{}", stand.log());
    assert_eq!(stand.leaks(), [""; 0]);
}
