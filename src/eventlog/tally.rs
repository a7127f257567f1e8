//! Bytes of a log by kind.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::plugin;

/// Kind of bytes, named after the plugin that displays them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Scalars,
    Histograms,
    Images,
    Text,
    PrCurves,
    CustomScalars,
    Graphs,
    Projector,
    Hparams,
    /// Header of each event file.
    Headers,
}

/// Bytes of each kind, counted when they are written or put in line for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    bytes: [u64; Kind::ALL.len()],
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Scalars,
        Kind::Histograms,
        Kind::Images,
        Kind::Text,
        Kind::PrCurves,
        Kind::CustomScalars,
        Kind::Graphs,
        Kind::Projector,
        Kind::Hparams,
        Kind::Headers,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Scalars => plugin::SCALARS,
            Kind::Histograms => plugin::HISTOGRAMS,
            Kind::Images => plugin::IMAGES,
            Kind::Text => plugin::TEXT,
            Kind::PrCurves => plugin::PR_CURVES,
            Kind::CustomScalars => plugin::CUSTOM_SCALARS,
            Kind::Graphs => plugin::GRAPHS,
            Kind::Projector => plugin::PROJECTOR,
            Kind::Hparams => plugin::HPARAMS,
            Kind::Headers => "headers",
        }
    }
}

impl Tally {
    pub fn add(&mut self, kind: Kind, bytes: u64) {
        self.bytes[kind as usize] += bytes;
    }

    pub fn merge(&mut self, other: &Tally) {
        for kind in Kind::ALL {
            self.add(kind, other.of(kind));
        }
    }

    pub fn of(&self, kind: Kind) -> u64 {
        self.bytes[kind as usize]
    }

    pub fn total(&self) -> u64 {
        self.bytes.iter().sum()
    }

    /// The kinds that there is something of, the largest first.
    pub fn kinds(&self) -> Vec<(Kind, u64)> {
        let mut kinds: Vec<_> =
            Kind::ALL.map(|kind| (kind, self.of(kind))).into_iter().filter(|(_, n)| *n > 0).collect();
        kinds.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        kinds
    }
}

/// `14.2 MiB: images 9.8, projector 2.1, histograms 1.2, other 1.1`: the sum, then what takes most of it, in the same
/// unit.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let (unit, name) = if total < 1 << 20 { (1024.0, "KiB") } else { (1024.0 * 1024.0, "MiB") };
        write!(f, "{:.1} {name}", total as f64 / unit)?;
        let mut rest = total;
        let mut separator = ": ";
        for (kind, bytes) in self.kinds() {
            // Kinds with a negligible share are summed up.
            if bytes * 50 < total {
                break;
            }
            write!(f, "{separator}{} {:.1}", kind.name().replace('_', " "), bytes as f64 / unit)?;
            rest -= bytes;
            separator = ", ";
        }
        if rest as f64 / unit >= 0.05 { write!(f, "{separator}other {:.1}", rest as f64 / unit) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(kinds: &[(Kind, u64)]) -> Tally {
        let mut tally = Tally::default();
        for &(kind, bytes) in kinds {
            tally.add(kind, bytes);
        }
        tally
    }

    #[test]
    fn the_largest_is_told_first() {
        const MIB: u64 = 1 << 20;
        let log = [(Kind::Histograms, MIB), (Kind::Images, 9 * MIB), (Kind::Text, 2000), (Kind::Projector, 2 * MIB)];
        assert_eq!(tally(&log).to_string(), "12.0 MiB: images 9.0, projector 2.0, histograms 1.0");
        let log = [(Kind::PrCurves, 3000), (Kind::Scalars, 100_000), (Kind::Text, 1000), (Kind::Graphs, 1000)];
        assert_eq!(tally(&log).to_string(), "102.5 KiB: scalars 97.7, pr curves 2.9, other 2.0");
        assert_eq!(Tally::default().to_string(), "0.0 KiB");
    }

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        let mut sum = Tally::default();
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            sum.merge(&tally(&[(kind, 1 << index)]));
        }
        assert_eq!((sum.total(), sum.kinds().len()), (1023, 10));
        assert_eq!(sum.kinds()[0], (Kind::Headers, 512));
    }
}
