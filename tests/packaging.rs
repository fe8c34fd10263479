//! `config/deploy`: the steps of the Dockerfile are carried out without Docker, on what `.dockerignore` leaves of the repository, with the
//! binary under test; the unit is read by systemd. The compose file is read in `tests/clients/packaging.test.mjs`.
//!
//! Left out is what needs a network (`apt-get`), and the release build: cargo checks, in the place of the build, that everything is there.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::postgres::free_port;
use crate::support::{Ended, holdline, run_to_end};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// An instruction of a Dockerfile, and what follows it.
type Step = (String, String);

/// The stages of the Dockerfile.
fn stages() -> Vec<Vec<Step>> {
    let text = read("config/deploy/Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let mut stages: Vec<Vec<Step>> = Vec::new();
    for line in joined.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        if word == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().expect("FROM comes first").push((word.to_owned(), rest.trim().to_owned()));
    }
    stages
}

/// What the instructions of one kind say.
fn of<'a>(stage: &'a [Step], word: &str) -> Vec<&'a str> {
    stage.iter().filter(|(found, _)| found == word).map(|(_, rest)| rest.as_str()).collect()
}

fn one<'a>(stage: &'a [Step], word: &str) -> &'a str {
    let found = of(stage, word);
    assert_eq!(found.len(), 1, "{word}: {found:?}");
    found[0]
}

/// `["a", "b"]`
fn exec(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: not in the form of a list: {error}"))
}

/// A value of a TOML file, or of a unit.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('=')).unwrap_or_else(|| panic!("{key}"));
    line.trim().trim_matches('"')
}

fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap_or_else(|_| panic!("{text}"))
}

/// Runs a program that must succeed.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A copy of what the build may see.
fn context(place: &Path) {
    let text = read(".dockerignore");
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    assert_eq!(lines.next(), Some("*"), "nothing but what is named");
    for line in lines {
        let path = line.strip_prefix('!').unwrap_or_else(|| panic!("{line}: only exceptions are understood here"));
        // A directory that is still to come.
        if Path::new(ROOT).join(path).exists() {
            copy(Path::new(ROOT), path, &place.join(path));
        }
    }
}

fn copy(from: &Path, path: &str, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    run(Command::new("cp").arg("-r").arg("--").arg(from.join(path)).arg(to));
}

#[test]
fn the_images_fit_the_crate_and_each_other() {
    let stages = stages();
    let [build, runtime] = &stages[..] else { panic!("two stages: {stages:?}") };
    let version =
        read("Cargo.toml").lines().find_map(|line| Some(line.strip_prefix("rust-version = ")?.trim_matches('"').to_owned())).unwrap();
    let release = one(build, "FROM").strip_prefix(&format!("rust:{version}-slim-")).and_then(|rest| rest.strip_suffix(" AS build"));
    // A binary does not run on an older libc than it was linked with.
    assert_eq!(one(runtime, "FROM"), format!("debian:{}-slim", release.expect("the compiler of Cargo.toml")));
    let user: u32 = one(runtime, "USER").parse().expect("a number, which orchestrators can compare");
    assert!(user > 999 && of(runtime, "RUN").iter().any(|run| run.contains(&format!("--uid {user}"))));
    assert_eq!(one(runtime, "STOPSIGNAL"), "SIGTERM");
    let config = read("config/deploy/holdline.toml");
    assert_eq!((one(runtime, "EXPOSE"), one(runtime, "VOLUME")), (value(&config, "port"), value(&config, "data_dir")));
    assert!(one(runtime, "HEALTHCHECK").ends_with(r#"CMD ["holdline", "up"]"#));
    assert!(!format!("{runtime:?}").contains("curl"), "it needs no other program to be watched");
}

/// In the place of cargo: takes what the Dockerfile asks for, and checks instead of building.
const CARGO: &str = r#"#!/bin/sh
[ "$*" = "build --release --locked --bin holdline" ] || { echo "unexpected: cargo $*" >&2; exit 1; }
[ "$CARGO_PROFILE_RELEASE_DEBUG" = false ] || exit 1
exec "$REAL_CARGO" check --quiet --offline --locked --bin holdline
"#;

#[test]
#[ignore = "checks the whole crate twice: tests/run runs it by itself"]
fn what_is_copied_is_enough_to_build() {
    let place = tempfile::tempdir().unwrap();
    let (context_at, build_at, bin) = (place.path().join("context"), place.path().join("build"), place.path().join("bin"));
    context(&context_at);
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(bin.join("cargo"), CARGO).unwrap();
    std::fs::set_permissions(bin.join("cargo"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut variables = vec![("PATH".to_owned(), path), ("REAL_CARGO".to_owned(), env!("CARGO").to_owned())];
    variables.push(("CARGO_TARGET_DIR".to_owned(), format!("{ROOT}/target")));
    let mut built = 0;
    for (word, rest) in stages().swap_remove(0) {
        match word.as_str() {
            "FROM" => {}
            "WORKDIR" => std::fs::create_dir_all(&build_at).unwrap(),
            "ENV" => variables.extend(rest.split(' ').map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned()))),
            "RUN" if rest.starts_with("apt-get ") => {}
            "RUN" => {
                run(Command::new("sh").args(["-ec", &rest]).current_dir(&build_at).envs(variables.iter().cloned()));
                built += usize::from(rest.contains("cargo build"));
            }
            "COPY" => {
                let mut paths: Vec<&str> = rest.split(' ').collect();
                let to = paths.pop().unwrap();
                for from in paths {
                    copy(&context_at, from, &if to == "./" { build_at.join(from) } else { build_at.join(to) });
                }
            }
            other => panic!("{other} {rest}: not known here"),
        }
    }
    assert_eq!(built, 2, "the dependencies, and the program");
    assert!(build_at.join("src/lib.rs").metadata().unwrap().len() > 100, "it was the real one");
}

/// The image as it would be, made of this machine's own files under a layer, and started in it; see `start_of`.
struct Image {
    place: tempfile::TempDir,
    script: String,
}

impl Image {
    /// Instructions become commands; what the image says of its processes becomes variables of the script.
    fn of(runtime: &[Step]) -> Image {
        let place = tempfile::tempdir().unwrap();
        context(&place.path().join("context"));
        let binary = PathBuf::from(holdline(place.path()).get_program());
        std::fs::copy(binary, place.path().join("holdline")).unwrap();
        let mut script = String::new();
        for (word, rest) in runtime {
            match word.as_str() {
                "RUN" if rest.starts_with("apt-get ") => {}
                "RUN" => script.push_str(&format!("chroot \"$root\" sh -ec '{rest}'\n")),
                "COPY" => {
                    let (from, to) = rest.rsplit_once(' ').unwrap();
                    let from = from.strip_prefix("--from=build /build/target/release/").map_or(format!("context/{from}"), str::to_owned);
                    script.push_str(&format!("mkdir -p \"$(dirname \"$root{to}\")\" && cp \"$place/{from}\" \"$root{to}\"\n"));
                }
                "ENV" => script.push_str(&format!("export {rest}\n")),
                "WORKDIR" => script.push_str(&format!("mkdir -p \"$root{rest}\"; workdir={rest}\n")),
                "USER" => script.push_str(&format!("user={rest}\n")),
                "VOLUME" => script.push_str(&format!("volume={rest}\n")),
                "FROM" | "EXPOSE" | "STOPSIGNAL" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD" => {}
                other => panic!("{other} {rest}: not known here"),
            }
        }
        Image { place, script }
    }

    /// Runs the container: `inside` is a script in it, as its user, on a file system that is read-only but for the volume.
    fn run(&self, environment: &BTreeMap<&str, String>, inside: &str) -> Ended {
        let place = self.place.path().display();
        let exports: String = environment.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        let script = format!(
            "set -e\nplace={place}; layers=$place/layers; root=$place/root\nmkdir -p $layers $root; mount -t tmpfs layers $layers\n\
             mkdir $layers/upper $layers/work $layers/data\n\
             mount -t overlay overlay -o lowerdir=/,upperdir=$layers/upper,workdir=$layers/work $root\n\
             mount --rbind /proc $root/proc; mount --rbind /dev $root/dev\n{}\
             # A new volume begins as what is in its place.\n\
             cp -a \"$root$volume/.\" $layers/data; chown --reference=\"$root$volume\" $layers/data; chmod --reference=\"$root$volume\" $layers/data\n\
             mount --bind $layers/data \"$root$volume\"\n\
             {{ echo \"cd $workdir\"; cat $place/inside; }} > $root/inside; mount -o remount,ro $root\n{exports}\
             exec chroot $root setpriv --reuid=$user --regid=$user --clear-groups --no-new-privs --bounding-set=-all sh /inside\n",
            self.script
        );
        std::fs::write(self.place.path().join("inside"), inside).unwrap();
        let is_root = run(Command::new("id").arg("-u")).trim() == "0";
        let mut command = Command::new(if is_root { "unshare" } else { "sudo" });
        command.args(if is_root { &["-m"][..] } else { &["-n", "unshare", "-m"] }).args(["timeout", "120", "sh", "-c", &script]);
        let output = command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// Example.env as somebody fills it in.
fn filled() -> BTreeMap<&'static str, String> {
    let text: &'static str = Box::leak(read("config/deploy/example.env").into_boxed_str());
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name, if value.is_empty() { format!("{:x>40}", name.to_lowercase()) } else { value.to_owned() })).collect()
}

#[test]
fn the_container_starts_is_healthy_and_stops_as_its_image_says() {
    let stages = stages();
    let runtime = &stages[1];
    let image = Image::of(runtime);
    let start = [exec(one(runtime, "ENTRYPOINT")), exec(one(runtime, "CMD"))].concat().join(" ");
    let (_, health) = one(runtime, "HEALTHCHECK").split_once("CMD ").unwrap();
    let (health, signal) = (exec(health).join(" "), one(runtime, "STOPSIGNAL").trim_start_matches("SIG"));
    let inside = format!(
        "id -u; {health} && exit 9; {start} & broker=$!; trap 'kill -9 $broker' EXIT; n=0
         until {health}; do n=$((n+1)); [ $n -lt 600 ] || exit 8; kill -0 $broker || exit 7; sleep 0.1; done
         echo x > /elsewhere && exit 6
         stat -c '%a %U' {}; holdline doctor --json; kill -{signal} $broker; wait $broker; echo ended with $?; trap '' EXIT",
        one(runtime, "VOLUME")
    );
    let mut environment = filled();
    environment.insert("HOLDLINE_SERVER__PORT", free_port().to_string());
    environment.insert("HOLDLINE_LOG__LEVEL", "warn".to_owned());
    let ended = image.run(&environment, &inside);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.first(), Some(&one(runtime, "USER")), "{}", ended.said());
    assert!(lines.iter().any(|line| line.ends_with("answers /up")) && lines.contains(&"700 holdline"), "{}", ended.said());
    assert_eq!(lines.last(), Some(&"ended with 0"), "{}", ended.said());
    let report: Value = serde_json::from_str(lines.iter().find(|line| line.starts_with('{')).expect("a report")).unwrap();
    assert_eq!(report["failed"], 0, "{report}");
    let said = report["checks"].to_string();
    assert!(said.contains("locked by holdline") && said.contains("/var/lib/holdline") && said.contains("Holdline"), "{said}");
}

#[test]
fn what_is_not_filled_in_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let config = Path::new(ROOT).join("config/deploy/holdline.toml").display().to_string();
    let check = |environment: &BTreeMap<&str, String>| {
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        run_to_end(directory.path(), &["config", "check", "--config", &config], &environment)
    };
    let ended = check(&filled());
    assert!(ended.code == 0 && ended.stderr.is_empty(), "{}", ended.said());
    for name in ["HOLDLINE_APP__ID", "HOLDLINE_APP__KEY", "HOLDLINE_APP__SECRET"] {
        let mut environment = filled();
        environment.insert(name, String::new());
        let ended = check(&environment);
        assert!(ended.code == 2 && ended.stderr.contains(name), "{name}: {}", ended.said());
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes_and_finds_safe() {
    let unit = read("config/deploy/holdline.service");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("holdline.service");
    let binary = holdline(place.path()).get_program().to_string_lossy().into_owned();
    std::fs::write(&file, unit.replace("/usr/local/bin/holdline", &binary)).unwrap();
    let said = run(Command::new("systemd-analyze").arg("verify").arg(&file).stderr(Stdio::inherit()));
    assert_eq!(said, "");
    // Out of 100; what is left are sockets, which it is for.
    run(Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager", "--threshold=20"]).arg(&file));
    std::fs::write(&file, "[Service]\nExecStart=/bin/true\n").unwrap();
    let bare = Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager", "--threshold=20"]).arg(&file).output();
    assert!(!bare.unwrap().status.success(), "the threshold is one");

    let config = read("config/deploy/holdline.toml");
    assert!(seconds(value(&unit, "TimeoutStopSec")) > seconds(value(&config, "grace")) + 5, "a stop is not cut off");
    assert_eq!(value(&config, "data_dir"), format!("/var/lib/{}", value(&unit, "StateDirectory")));
    assert_eq!(value(&unit, "RestartPreventExitStatus"), "2");
    let start = value(&unit, "ExecStart");
    let (program, arguments) = start.split_once(' ').unwrap();
    assert_eq!(program, "/usr/local/bin/holdline");
    // The same words, with our files, on a broken configuration: what systemd shall not repeat.
    let broken = place.path().join("holdline.toml");
    std::fs::write(&broken, "[server]\nprot = 1\n").unwrap();
    let arguments = arguments.replace("/etc/holdline/holdline.toml", &broken.display().to_string());
    let ended = run_to_end(place.path(), &arguments.split(' ').collect::<Vec<_>>(), &[]);
    assert!(ended.code == 2 && ended.stderr.contains("prot"), "{}", ended.said());
    // What its comments say to do names files that are there.
    for line in unit.lines().filter_map(|line| line.strip_prefix("#   install ")) {
        let source = line.split_whitespace().find(|word| word.starts_with("config/"));
        assert!(source.is_none_or(|source| Path::new(ROOT).join(source).is_file()), "{line}");
    }
}
