//! Reasons to doubt an answer about a picture: typed, and said in words.

use std::fmt;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing stands out from the ground.
    Blank,
    /// More figures of like size than the one that was taken.
    Several { figures: usize },
    /// The figure runs out of the picture.
    CutOff,
    /// The figure is wider than what the data set shows, as one on its side is.
    Sideways,
    /// The file ends early: rows at the lower edge are missing.
    Truncated { rows: u32, of: u32 },
    /// Of other ways to prepare the picture, this many give another answer, or nearly do.
    Unstable { differ: usize, of: usize },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Blank => f.write_str("nothing stands out in it"),
            Doubt::Several { figures } => {
                write!(f, "{figures} separate figures stand in it, and one of them was taken")
            }
            Doubt::CutOff => f.write_str("the figure runs out of the picture"),
            Doubt::Sideways => f.write_str("the figure is wider than it is high, as if it lay on its side"),
            Doubt::Truncated { rows, of } => {
                write!(f, "its file ends early: the lowest {rows} of {of} rows are missing")
            }
            Doubt::Unstable { differ: 0, of } => {
                write!(f, "the answer is less certain in {of} other ways to prepare the picture")
            }
            Doubt::Unstable { differ, of } => {
                write!(f, "{differ} of {of} other ways to prepare the picture give another answer")
            }
        }
    }
}

/// All of them in one sentence.
pub fn sentence(doubts: &[Doubt]) -> String {
    doubts.iter().map(Doubt::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_read_as_a_sentence() {
        let doubts = [
            Doubt::Several { figures: 4 },
            Doubt::CutOff,
            Doubt::Sideways,
            Doubt::Truncated { rows: 3, of: 224 },
            Doubt::Unstable { differ: 5, of: 17 },
        ];
        assert_eq!(
            sentence(&doubts),
            "4 separate figures stand in it, and one of them was taken; the figure runs out of the picture; the figure is \
             wider than it is high, as if it lay on its side; its file ends early: the lowest 3 of 224 rows are missing; 5 of \
             17 other ways to prepare the picture give another answer"
        );
        assert_eq!(sentence(&[Doubt::Blank]), "nothing stands out in it");
    }
}
