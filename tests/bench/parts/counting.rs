//! What is read of callgrind's files, and when a count is too much.

use super::{
    budget::{Counts, Line, compare},
    callgrind::Profile,
};

/// As callgrind writes it, shortened: a function that allocates, writes, reads the clock, and calls itself.
const SAMPLE: &str = "# callgrind format
version: 1
positions: line
events: Ir sysCount sysTime

fn=work
0 700
cfn=__rustc::__rust_alloc
calls=3 0 
0 60
cfn=__rustc::__rust_realloc'2
calls=2 0 
0 40
cfn=__rustc::__rust_dealloc
calls=9 0 
0 90
cfn=send
calls=4 0 
0 80 4 20

fn=send
0 80 4 20

fn=clock_gettime@@GLIBC_2.17
0 30 5 1

fn=__rustc::__rust_alloc
0 60

fn=__rustc::__rust_realloc
0 40

fn=__rustc::__rust_dealloc
0 90

totals: 1000 9 21
";

#[test]
fn a_profile_has_what_each_function_took_once() {
    let profile = Profile::parse(SAMPLE).unwrap();
    // Five clock readings are system calls under callgrind only.
    assert_eq!(profile, Profile { instructions: 1_000.0, system_calls: 4.0, allocations: 5.0 });
    assert_eq!(Profile::parse("events: Ir sysCount sysTime\n\ntotals: 0\n"), Some(Profile::default()));
}

#[test]
fn half_a_profile_is_none() {
    assert_eq!(Profile::parse(SAMPLE.split_once("totals").unwrap().0), None, "cut off");
    assert_eq!(Profile::parse(&SAMPLE.replace("fn=send\n0 80 4 20", "")), None, "its parts are not its sum");
    assert_eq!(Profile::parse(""), None);
    assert_eq!(Profile::parse("events: Ir\n\ntotals: 0\n"), None, "system calls were not counted");
}

fn counts(instructions: f64, allocations: f64) -> Counts {
    let of = |name: &str, count: f64| (name.to_owned(), count);
    Counts::from([("push".to_owned(), [of("allocations", allocations), of("instructions", instructions)].into())])
}

/// Whether instructions and allocations are over their budgets.
fn over(counted: &Counts, budget: &Counts) -> [bool; 2] {
    let lines = compare(counted, budget);
    let [allocations, instructions] = &lines[..] else { panic!("{lines:?}") };
    [instructions.failed(), allocations.failed()]
}

#[test]
fn five_percent_more_fails_and_nothing_less() {
    let budget = counts(1_000.0, 0.0);
    assert_eq!(over(&counts(1_000.0, 0.0), &budget), [false, false]);
    assert_eq!(over(&counts(1_049.0, 0.01), &budget), [false, false]);
    assert_eq!(over(&counts(1_051.0, 0.0), &budget), [true, false]);
    assert_eq!(over(&counts(1_000.0, 1.0), &budget), [false, true], "one allocation more");
    assert_eq!(over(&counts(10.0, 0.0), &budget), [false, false], "less is welcome");
    let lines = compare(&counts(10.0, 0.0), &budget);
    assert!(lines.iter().any(|line| line.to_string().ends_with("less: store it with --update")), "and said");
}

#[test]
fn what_is_in_one_of_them_only_fails() {
    let counted = counts(1.0, 1.0);
    assert!(compare(&counted, &Counts::new()).iter().all(Line::failed), "no budget");
    let missing = compare(&Counts::new(), &counted);
    assert_eq!((missing.len(), missing.iter().all(Line::failed)), (2, true), "not counted any more");
}
