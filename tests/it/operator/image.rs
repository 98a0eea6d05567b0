//! The image: no engine builds it here, so what its second step does is done to a folder, and the program run in it.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use crate::stand::{
    controller::PROGRAM,
    kubernetes::{refused, succeeded},
};

/// The command of the step that puts what the program is linked with into the image.
fn step() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile");
    let text = fs::read_to_string(path).unwrap();
    let joined = text.replace("\\\n", " ");
    let mut steps = joined.lines().filter_map(|l| l.strip_prefix("RUN "));
    let step = steps.find(|step| step.starts_with("ldd "));
    step.expect("a step that copies libraries").to_owned()
}

#[test]
fn the_image_holds_all_that_the_program_needs_and_no_shell() {
    let folder = TempDir::new().unwrap();
    let image = folder.path().to_str().unwrap();
    let program = folder.path().join("usr/local/bin/failover");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy(PROGRAM, &program).unwrap();
    let mut copied = Command::new("sh");
    let step = step().replace("/image", image);
    succeeded(&copied.args(["-ec", &step]).output().unwrap());

    let inside = |user: &str, command: &[&str]| {
        let mut run = Command::new("/usr/sbin/chroot");
        run.args([&format!("--userspec={user}"), image])
            .args(command);
        run.env_clear().output().unwrap()
    };
    let own = "65532:65532";
    let failover = "/usr/local/bin/failover";
    let said = succeeded(&inside(own, &[failover, "--version"]));
    assert!(said.starts_with("failover "), "{said}");
    let trusted = folder.path().join("etc/ssl/certs/ca-certificates.crt");
    let trusted = fs::read_to_string(trusted).unwrap();
    assert!(trusted.contains("-----BEGIN CERTIFICATE-----"));
    refused(&inside("0:0", &["/bin/sh", "-c", "true"]));
    let kept = folder.path().join("etc/nsswitch.conf");
    assert_eq!(fs::read_to_string(kept).unwrap(), "hosts: files dns\n");
}
