//! The examples, as cargo built them: next to the directory of this test.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// An example, ready to be started.
pub(crate) fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let path: PathBuf = profile.join("examples").join(name);
    let built = path.metadata().and_then(|file| file.modified()).ok();
    let changed = ["src", "migrations", "clients/rust", "Cargo.lock"].iter().filter_map(|place| newest(&Path::new(ROOT).join(place))).max();
    if built.is_none() || built < changed {
        // Only one test target was asked for: cargo builds the examples when all of them are.
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", name, "--manifest-path", &format!("{ROOT}/Cargo.toml")]);
        build.args(profile.ends_with("release").then_some("--release"));
        build.arg("--target-dir").arg(profile.parent().expect("a target directory"));
        assert!(build.status().expect("cargo runs").success());
    }
    Command::new(path)
}

/// When something in there was changed last.
fn newest(path: &Path) -> Option<SystemTime> {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().filter_map(|entry| newest(&entry.path())).max(),
        Err(_no_directory) => path.metadata().and_then(|file| file.modified()).ok(),
    }
}
