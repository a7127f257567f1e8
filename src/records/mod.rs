//! Machine-readable records of a run: the journal, the result, and metrics for a monitoring system.
//!
//! `docs/records.md` describes the formats, `docs/schemas/` holds their schemas.

mod journal;
mod line;
mod overview;
mod reading;
mod result;
mod textfile;

pub use journal::{Journal, JournalError};
pub use line::{EpochMetrics, Line, Objective, Status, settings};
pub use overview::{EpochOverview, JournalEnd, ResultOverview};
pub use reading::{Fault, Reading, ReadingError, latest};
pub use result::{BestEpoch, ResultError, RunResult};
pub use textfile::{Checkpoints, RunMetrics, Textfile, TextfileError};

#[cfg(test)]
mod tests;
