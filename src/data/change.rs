//! Preparation of a person's picture as an image of a data set: typed changes, in order, with their texts.

use std::fmt;

use super::look::Ground;

/// One thing that was done to a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The camera was held otherwise, and said so in EXIF.
    Turned,
    /// 16 bits a channel became 8.
    EightBit,
    /// Fewer bits than the file has room for became all: `bits` are used.
    Stretched { bits: u32 },
    /// The alpha channel says that nothing is to be seen, so it was left aside.
    Opaque,
    /// Transparent parts show this ground.
    Flattened(Ground),
    /// Colours became brightness.
    Grey,
    /// Light and dark were exchanged; the ground that the picture has, and the one that the data set has.
    Inverted { from: Ground, to: Ground },
    /// Nothing stands out from the ground, so there is nothing to cut out.
    Blank,
    /// Ruled lines, or the sides of a box.
    LinesRemoved { lines: usize },
    /// Only what stands out from its ground was kept: `width` x `height` pixels with the upper left corner at `x`, `y`.
    Cut { x: u32, y: u32, width: u32, height: u32 },
    /// Width and height, before and after.
    Resized { from: (u32, u32), to: (u32, u32) },
    /// Thin strokes became as wide as the data set's.
    Thickened,
    /// The lightest pixel became the lightest there is.
    Brightened,
    /// Ground was added around it; the width and height that it has now.
    Padded { to: (u32, u32) },
    /// Ground was added around it so that the centre of its mass is in the middle; the width and height that it has now.
    Balanced { to: (u32, u32) },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Turned => f.write_str("turned upright as its EXIF orientation says"),
            Change::EightBit => f.write_str("reduced from 16 to 8 bits a channel"),
            Change::Stretched { bits } => write!(f, "stretched from {bits} bits a channel"),
            Change::Opaque => f.write_str("taken as opaque, as all of it is transparent"),
            Change::Flattened(Ground::Light) => f.write_str("transparency laid over white"),
            Change::Flattened(Ground::Dark) => f.write_str("transparency laid over black"),
            Change::Grey => f.write_str("colours turned to grey"),
            Change::Inverted { from: Ground::Light, .. } => f.write_str("inverted from dark on light to light on dark"),
            Change::Inverted { from: Ground::Dark, .. } => f.write_str("inverted from light on dark to dark on light"),
            Change::Blank => f.write_str("nothing stands out in it, so all of it is taken"),
            Change::LinesRemoved { lines: 1 } => f.write_str("freed of a line"),
            Change::LinesRemoved { lines } => write!(f, "freed of {lines} lines"),
            Change::Cut { x, y, width, height } => {
                write!(f, "cut to the {width}x{height} pixels at {x},{y} that stand out")
            }
            Change::Resized { from, to } => {
                write!(f, "resized from {}x{} to {}x{}", from.0, from.1, to.0, to.1)
            }
            Change::Thickened => f.write_str("its strokes drawn wider"),
            Change::Brightened => f.write_str("brightened to full contrast"),
            Change::Padded { to } => write!(f, "padded to {}x{}", to.0, to.1),
            Change::Balanced { to } => write!(f, "centred by its mass in {}x{}", to.0, to.1),
        }
    }
}

/// All of them in one sentence.
pub fn sentence(changes: &[Change]) -> String {
    changes.iter().map(Change::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_as_a_sentence() {
        let changes = [
            Change::Grey,
            Change::Inverted { from: Ground::Light, to: Ground::Dark },
            Change::Cut { x: 10, y: 20, width: 300, height: 400 },
            Change::Resized { from: (300, 400), to: (15, 20) },
            Change::Balanced { to: (28, 28) },
        ];
        assert_eq!(
            sentence(&changes),
            "colours turned to grey, inverted from dark on light to light on dark, cut to the 300x400 pixels at 10,20 that \
             stand out, resized from 300x400 to 15x20, centred by its mass in 28x28"
        );
    }
}
