//! The examples, as cargo built them: next to the directory of this test.

use std::{path::PathBuf, process::Command};

/// An example, ready to be started.
pub(crate) fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let path: PathBuf = profile.join("examples").join(name);
    if !path.is_file() {
        // Only one test target was asked for: cargo builds the examples when all of them are.
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", name, "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
        build.args(profile.ends_with("release").then_some("--release"));
        build.arg("--target-dir").arg(profile.parent().expect("a target directory"));
        assert!(build.status().expect("cargo runs").success());
    }
    Command::new(path)
}
