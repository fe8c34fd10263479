//! One row of the table: what was measured, what it must be, and whether the machine was quiet enough to tell.

use serde::{Deserialize, Serialize};

use super::report::{Faults, Figure};

/// The floor of a run may differ by so much from the floor that the limits were set beside.
const FLOOR_SPREAD: f64 = 1.5;

/// One thing that must not be exceeded.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct Check {
    pub(crate) what: String,
    /// `None`: it never came to be.
    pub(crate) value: Option<f64>,
    pub(crate) limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    Missed,
    /// The floor shows that the machine is not the one, or not as quiet, as the limits were set on.
    Void,
    /// It could not be measured at all.
    Failed,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) must: String,
    /// Under this name it stands in the short table, if it does.
    pub(crate) brief: Option<String>,
    /// Of the next four.
    pub(crate) unit: String,
    pub(crate) floor: Option<f64>,
    pub(crate) value: Option<f64>,
    /// The strongest peer's, and the floor's, when the limits were set, on a machine of the same kind.
    pub(crate) peer: Option<f64>,
    pub(crate) floor_then: Option<f64>,
    pub(crate) checks: Vec<Check>,
    pub(crate) faults: Faults,
    /// The floor shows in another way than by its CPU time that the machine was busy.
    pub(crate) noisy: bool,
    /// Why it could not be measured.
    pub(crate) error: Option<String>,
}

impl Row {
    /// CPU time beside the floor of the same run. `then`: floor and strongest peer when the limits were set.
    pub(crate) fn of(work: &str, must: &str, [floor, figure]: &[Figure; 2], then: [f64; 2]) -> Self {
        Self {
            floor: Some(floor.cpu_us_per_unit),
            value: Some(figure.cpu_us_per_unit),
            floor_then: Some(then[0]),
            peer: Some(then[1]),
            unit: "µs".to_owned(),
            ..Self::plain(work, must, figure)
        }
    }

    pub(crate) fn plain(work: &str, must: &str, figure: &Figure) -> Self {
        let faults = figure.faults.unwrap_or_default();
        Self { work: work.to_owned(), must: must.to_owned(), faults, ..Self::default() }
    }

    pub(crate) fn failed(work: &str, error: String) -> Self {
        Self { work: work.to_owned(), error: Some(error), ..Self::default() }
    }

    pub(crate) fn brief(self, brief: &str) -> Self {
        Self { brief: Some(brief.to_owned()), ..self }
    }

    pub(crate) fn check(mut self, what: &str, value: f64, limit: f64) -> Self {
        let value = Some(value).filter(|value| value.is_finite());
        self.checks.push(Check { what: what.to_owned(), value, limit });
        self
    }

    /// CPU time of a unit against a number.
    pub(crate) fn at_most(self, limit: f64) -> Self {
        let value = self.value.unwrap_or(f64::NAN);
        self.check("µs", value, limit)
    }

    /// CPU time of a unit against the floor.
    pub(crate) fn times(self, limit: f64) -> Self {
        let ratio = self.to_floor().unwrap_or(f64::NAN);
        self.check("× floor", ratio, limit)
    }

    pub(crate) fn to_floor(&self) -> Option<f64> {
        self.value.zip(self.floor).map(|(value, floor)| value / floor)
    }

    /// The strongest peer's, to the floor on its machine.
    pub(crate) fn peer_to_floor(&self) -> Option<f64> {
        self.peer.zip(self.floor_then).map(|(peer, floor)| peer / floor)
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let off = |(now, then): (f64, f64)| !(now <= FLOOR_SPREAD * then && then <= FLOOR_SPREAD * now);
        let kept = self.checks.iter().all(|check| check.value.is_some_and(|value| value <= check.limit));
        if self.error.is_some() {
            Verdict::Failed
        } else if self.faults != Faults::default() {
            // No noise excuses that.
            Verdict::Missed
        } else if self.noisy || self.floor.zip(self.floor_then).is_some_and(off) {
            Verdict::Void
        } else if kept {
            Verdict::Ok
        } else {
            Verdict::Missed
        }
    }
}
