//! Counts that do not depend on how busy the machine is: instructions, allocations and writes, under callgrind, against a stored budget.
//!
//! `cargo bench --profile counts --bench counts` compares with `tests/bench/counts/budget.toml` and fails when anything grew by more than 5 %;
//! `-- --update` stores what was counted. Instructions are those of the program: what the kernel does for it is the load bench's.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so and stops")]

#[path = "../load/app.rs"]
#[expect(dead_code, reason = "the load bench needs more of it")]
mod app;
mod broker;
mod callgrind;
mod driver;
#[path = "../load/frames.rs"]
#[expect(dead_code, reason = "the load bench needs more of it")]
mod frames;
#[path = "../load/lane.rs"]
mod lane;
#[path = "../load/swarm.rs"]
#[expect(dead_code, reason = "the load bench needs more of it")]
mod swarm;

use std::{collections::BTreeMap, fs, process::exit};

/// For the modules that are shared with the load bench.
const MARK: &str = "@@";
const BUDGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/counts/budget.toml");
/// What the toolchain's and the allocator's own changes may add.
const TOLERANCE: f64 = 1.05;

/// What is counted, of each piece of work.
type Counts = BTreeMap<String, BTreeMap<String, f64>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &*arguments
        && flag == "--driver"
    {
        return driver::run(name);
    }
    let mut counted = Counts::new();
    for work in driver::WORK {
        counted.insert(work.to_owned(), driver::count(work));
    }
    counted.extend(broker::count());
    if arguments.iter().any(|argument| argument == "--update") {
        let text = toml::to_string(&counted).expect("numbers are TOML");
        fs::write(BUDGET, format!("# Written by `cargo bench --profile counts --bench counts -- --update`.\n\n{text}")).expect("written");
    }
    let comparable = env!("CARGO_BIN_EXE_holdline").contains("/counts/");
    if !comparable {
        println!("This is another profile than the budget's (--profile counts): nothing is compared.");
    }
    let budget: Counts = toml::from_str(&fs::read_to_string(BUDGET).expect("the budget is there")).expect("the budget is TOML");
    let over = compare(&counted, &budget);
    exit(i32::from(over > 0 && comparable));
}

/// Prints everything; gives how much of it is over the budget.
fn compare(counted: &Counts, budget: &Counts) -> usize {
    let mut over = 0;
    for (work, counts) in counted {
        for (what, count) in counts {
            let limit = budget.get(work).and_then(|counts| counts.get(what)).copied().unwrap_or(0.0);
            // Half a call is no regression of a call: it is a buffer that grew.
            let missed = *count > limit * TOLERANCE + 0.01;
            over += usize::from(missed);
            println!("{work:<18} {what:<26} {count:>10.2}   budget {limit:>10.2}{}", if missed { "   TOO MUCH" } else { "" });
        }
    }
    over
}
