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

/// Tries every operation on the shop with this person's token; whether it is content, and what it says.
fn tried(stand: &Stand, url: &str, person: &str) -> (bool, String) {
    stand.file(
        "schemathesis.toml",
        "[parameters]\n\"path.service\" = \"shop\"\n",
    );
    let token = format!("Authorization: Bearer {}", token(person));
    let ran = Command::new(tester())
        .current_dir(stand.path(""))
        .args(["--config-file", "schemathesis.toml"])
        .args(["run", &format!("{url}/api/v1/openapi.json")])
        .args(["--header", &token, "--checks", "all"])
        // A stream has no end.
        .args(["--exclude-path", "/api/v1/events"])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "20", "--generation-deterministic"])
        .args(["--request-timeout", "60", "--continue-on-failure"])
        .args(["--no-color", "--warnings", "off"])
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (
        ran.status.success() && said.contains("No issues found"),
        said,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_property_tester_finds_no_answer_that_is_not_in_the_document() {
    let (stand, url) = desk().await;
    let (is_content, said) = tried(&stand, &url, "ann");
    assert!(is_content, "{said}\n{}", stand.log());
    // It has spoken with the controller, and not with itself.
    assert_ne!(stand.timeline(), "");
    assert_eq!(stand.leaks(), [""; 0]);
}
