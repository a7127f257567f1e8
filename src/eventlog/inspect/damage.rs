//! Damage in an event file.

use serde::Serialize;

use crate::eventlog::reader::EventError;
use crate::eventlog::record::RecordError;

/// A fault in an event file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The first byte of the record.
    pub offset: u64,
    pub kind: DamageKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageKind {
    LengthChecksum,
    PayloadChecksum,
    TooLong,
    NotAnEvent,
    /// A picture within a record whose own checksum is right.
    Picture,
    Unreadable,
    /// Zeros up to the end of the file.
    Zeros,
    /// A compressed file.
    Compressed,
    /// A reference to a file that Git LFS keeps elsewhere.
    LfsPointer,
    /// A text under the name of an event file.
    Text,
}

impl DamageKind {
    /// True if the file never was an event file.
    pub(super) fn is_another_form(self) -> bool {
        matches!(self, DamageKind::Compressed | DamageKind::LfsPointer | DamageKind::Text)
    }
}

impl Damage {
    pub(super) fn of(error: &EventError) -> Damage {
        let kind = match error {
            EventError::Record(RecordError::LengthChecksum { .. }) => DamageKind::LengthChecksum,
            EventError::Record(RecordError::PayloadChecksum { .. }) => DamageKind::PayloadChecksum,
            EventError::Record(RecordError::TooLong { .. }) => DamageKind::TooLong,
            EventError::Record(RecordError::Io { .. } | RecordError::Truncated { .. }) => DamageKind::Unreadable,
            EventError::Decode { .. } | EventError::Long { .. } => DamageKind::NotAnEvent,
        };
        Damage { offset: error.offset(), kind, message: error.to_string() }
    }
}
