//! One knob: name, help, default, domain, and its fate when a run is resumed.

use super::domain::Domain;
use super::{Config, KNOBS};

/// Heading of the knobs that determine the layers of the network.
pub(super) const NETWORK: &str = "Network";

/// A setting.
pub struct Knob {
    /// `learning-rate`: the flag without dashes, the key in a file, and `TRAINER_LEARNING_RATE`.
    pub key: &'static str,
    /// Placeholder of the value in the help text; empty for a switch.
    pub value_name: &'static str,
    /// As typed; empty if there is none.
    pub default: &'static str,
    /// One line, and optionally a paragraph.
    pub help: &'static str,
    /// Heading in the help text.
    pub heading: &'static str,
    /// Changes allowed when a run is resumed.
    pub later: Later,
    /// Accepted texts.
    pub domain: Domain,
    /// Column in TensorBoard's table of runs.
    pub column: Column,
    /// Parses a text of the domain into the configuration; an error is the text of the accepted values.
    pub(super) set: fn(&mut Config, &str, &Domain) -> Result<(), String>,
}

/// Column of a knob in TensorBoard's HParams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// In any case, in ascending order: TensorBoard shows the first five, and these fill up where fewer differ.
    Shown(u8),
    /// A column if runs differ in it.
    IfDifferent,
    /// Never: paths, and the format of the console.
    Never,
}

/// Changes of a knob's value that are allowed when a run is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// None: another value is another run.
    Fixed,
    /// A larger value.
    Grows,
    /// Any: it decides place, speed and safety, not the result.
    Free,
}

impl Knob {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("TRAINER_{}", self.key.to_uppercase().replace('-', "_"))
    }

    pub fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }

    /// True if the value is a path, which may have any bytes.
    pub fn is_path(&self) -> bool {
        self.domain.is_path()
    }

    /// True if it determines the layers of the network.
    pub fn is_of_network(&self) -> bool {
        self.heading == NETWORK
    }

    /// Parses a text into the configuration; an error is the text of the accepted values.
    pub(super) fn parse(&self, config: &mut Config, text: &str) -> Result<(), String> {
        (self.set)(config, text, &self.domain)
    }

    pub fn find(key: &str) -> Option<&'static Knob> {
        KNOBS.iter().find(|knob| knob.key == key)
    }
}
