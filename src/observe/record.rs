//! Values recorded by one observer at one moment.

use std::sync::Arc;

use crate::eventlog::{Embeddings, Value, What};
use crate::types::{Run, Step};

/// Values and where they belong, in the order in which they are to be told.
#[derive(Debug, Default)]
pub struct Record {
    found: Vec<(Run, Step, What)>,
}

impl Record {
    /// Values of one moment share one event.
    pub fn push(&mut self, run: Run, step: Step, values: Vec<Value>) {
        if !values.is_empty() {
            self.add(run, step, What::Values(values));
        }
    }

    /// A snapshot for the Projector, named by the step.
    pub fn push_embeddings(&mut self, step: Step, embeddings: Arc<Embeddings>) {
        self.add(Run::Train, step, What::Embeddings(embeddings));
    }

    /// One entry of any kind.
    pub(super) fn add(&mut self, run: Run, step: Step, what: What) {
        self.found.push((run, step, what));
    }
}

impl IntoIterator for Record {
    type Item = (Run, Step, What);
    type IntoIter = std::vec::IntoIter<(Run, Step, What)>;

    fn into_iter(self) -> Self::IntoIter {
        self.found.into_iter()
    }
}
