//! What was counted beside what may be.

use std::{collections::BTreeMap, fmt};

/// What is counted, of each piece of work.
pub(crate) type Counts = BTreeMap<String, BTreeMap<String, f64>>;

/// A regression is more than this.
const TOLERANCE: f64 = 1.05;
/// Of a thousand calls so few are no regression of a call: they are a buffer that grew, or a timer that fired.
const BREATH: f64 = 0.02;

#[derive(Debug, PartialEq)]
pub(crate) struct Line {
    work: String,
    what: String,
    /// `None`: it is in the budget, and was not counted.
    count: Option<f64>,
    /// `None`: it is not in the budget.
    budget: Option<f64>,
}

impl Line {
    /// More than the budget, or not comparable with it.
    pub(crate) fn failed(&self) -> bool {
        match (self.count, self.budget) {
            (Some(count), Some(budget)) => count > budget * TOLERANCE + BREATH,
            _ => true,
        }
    }

    /// So much less that the budget does not guard it any more.
    fn improved(&self) -> bool {
        matches!((self.count, self.budget), (Some(count), Some(budget)) if count * TOLERANCE + BREATH < budget)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |value| format!("{value:.3}"));
        let change =
            self.count.zip(self.budget).map_or_else(String::new, |(count, budget)| format!("{:+.1} %", 100.0 * (count / budget - 1.0)));
        let remark = match (self.failed(), self.improved()) {
            (true, _) => "TOO MUCH",
            (_, true) => "less: store it with --update",
            _ => "",
        };
        let (work, what, count, budget) = (&self.work, &self.what, number(self.count), number(self.budget));
        let line = format!("{work:<10} {what:<26} {count:>12}   budget {budget:>12}   {change:>8}   {remark}");
        to.write_str(line.trim_end())
    }
}

/// Everything that is in either.
pub(crate) fn compare(counted: &Counts, budget: &Counts) -> Vec<Line> {
    let pairs = |counts: &Counts| -> BTreeMap<(String, String), f64> {
        let of = |(work, counts): (&String, &BTreeMap<String, f64>)| {
            counts.iter().map(|(what, count)| ((work.clone(), what.clone()), *count)).collect::<Vec<_>>()
        };
        counts.iter().flat_map(of).collect()
    };
    let (counted, budget) = (pairs(counted), pairs(budget));
    let mut names: Vec<_> = counted.keys().chain(budget.keys()).collect();
    names.sort();
    names.dedup();
    let line = |name: &(String, String)| Line {
        work: name.0.clone(),
        what: name.1.clone(),
        count: counted.get(name).copied(),
        budget: budget.get(name).copied(),
    };
    names.into_iter().map(line).collect()
}
