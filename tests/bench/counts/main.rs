//! Counts that do not depend on how busy the machine is: instructions, allocations and system calls, under callgrind, against a stored
//! budget.
//!
//! `cargo bench --profile counts --bench counts` compares with `tests/bench/counts/budget.toml` and fails when anything grew by more than 5 %;
//! `-- --update` stores what was counted. Instructions are those of the program: what the kernel does for it is the load bench's.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so and stops")]

#[path = "../load/app.rs"]
#[expect(dead_code, reason = "the load bench needs more of it")]
mod app;
mod broker;
mod budget;
mod callgrind;
mod driver;
#[path = "../load/frames.rs"]
#[expect(dead_code, reason = "the load bench needs more of it")]
mod frames;
#[path = "../hub.rs"]
mod hub;
#[path = "../load/lane.rs"]
mod lane;
#[path = "../load/sink.rs"]
mod sink;
#[path = "../load/swarm.rs"]
#[expect(dead_code, reason = "the load bench needs more of it")]
mod swarm;

use std::{
    fs, io,
    process::{Command, ExitCode, Stdio},
};

use crate::budget::{Counts, compare};

const BUDGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/counts/budget.toml");

fn count() -> io::Result<Counts> {
    let there = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    there.map_err(|error| io::Error::new(error.kind(), format!("valgrind is needed: {error}")))?;
    let mut counted = Counts::new();
    for work in driver::WORK {
        counted.insert(work.to_owned(), driver::count(work)?);
    }
    counted.extend(broker::count()?);
    Ok(counted)
}

fn run(update: bool) -> io::Result<bool> {
    // Another profile would be compared with numbers that it can never have.
    if !env!("CARGO_BIN_EXE_holdline").contains("/counts/") {
        return Err(io::Error::other("the budget is that of another profile: cargo bench --profile counts --bench counts"));
    }
    let counted = count()?;
    if update {
        let text = toml::to_string(&counted).map_err(io::Error::other)?;
        fs::write(BUDGET, format!("# Written by `cargo bench --profile counts --bench counts -- --update`.\n\n{text}"))?;
    }
    let budget: Counts = toml::from_str(&fs::read_to_string(BUDGET)?).map_err(io::Error::other)?;
    let lines = compare(&counted, &budget);
    lines.iter().for_each(|line| println!("{line}"));
    Ok(lines.iter().all(|line| !line.failed()))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &*arguments
        && flag == "--driver"
    {
        driver::run(name);
        return ExitCode::SUCCESS;
    }
    match run(arguments.iter().any(|argument| argument == "--update")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("counts: over the budget. If that is worth its price, or another compiler's doing: `-- --update`, and say why");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("counts: {error}");
            ExitCode::FAILURE
        }
    }
}
