//! Pictures kept over a run, to be shown one after the other at its end.

use serde::{Deserialize, Serialize};

use crate::eventlog::{Animation, AnimationError};
use crate::picture::{DecodeError, Picture, PngError};

/// Frames kept at most: a film of some seven seconds. They are copied into each checkpoint, and count several times there.
const MOST: usize = 20;
const DELAY_MS: u16 = 350;
/// Duration of the last frame before the film restarts.
const REST_MS: u16 = 4 * DELAY_MS;

/// Frames in the order in which they came, evenly thinned out where there are too many; as PNG files, which take a
/// twentieth of the memory, also of what is kept when training is interrupted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Frames {
    kept: Vec<Vec<u8>>,
    /// Of how many frames one is kept.
    every: usize,
    /// Frames that came, but for the last, which is always kept.
    seen: usize,
    last: Option<Vec<u8>>,
}

/// Error in making a film.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    #[error(transparent)]
    Animation(#[from] AnimationError),
    #[error(transparent)]
    Frame(#[from] DecodeError),
}

impl Frames {
    /// # Errors
    /// If the picture has no PNG form; the film then continues without it.
    pub fn push(&mut self, frame: &Picture) -> Result<(), PngError> {
        let every = self.every.max(1);
        if let Some(earlier) = self.last.replace(frame.png()?) {
            if self.seen.is_multiple_of(every) {
                self.kept.push(earlier);
            }
            self.seen += 1;
        }
        if self.kept.len() >= MOST {
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every = 2 * every;
        }
        Ok(())
    }

    /// The film, which rests on the last frame; none of a single frame, which does not move.
    ///
    /// # Errors
    /// If the frames are not all of one size.
    pub fn film(&self) -> Result<Option<Animation>, FilmError> {
        let frames = self.all()?;
        if frames.len() < 2 {
            return Ok(None);
        }
        Ok(Some(Animation::new(frames, DELAY_MS)?.resting(REST_MS)))
    }

    /// All that were kept, the first and the last one among them.
    fn all(&self) -> Result<Vec<Picture>, DecodeError> {
        self.kept.iter().chain(&self.last).map(|png| Picture::from_png(png)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(count: u8) -> Vec<u8> {
        let mut frames = Frames::default();
        for value in 0..count {
            frames.push(&Picture::filled(1, 1, [value; 3])).unwrap();
        }
        frames.all().unwrap().iter().map(|frame| frame.pixels()[0][0]).collect()
    }

    #[test]
    fn a_film_rests_on_its_last_frame() {
        let mut frames = Frames::default();
        frames.push(&Picture::filled(2, 1, [0; 3])).unwrap();
        assert_eq!(frames.film().unwrap(), None);
        frames.push(&Picture::filled(2, 1, [9; 3])).unwrap();
        let film = frames.film().unwrap().unwrap();
        let shown: Vec<u8> = film.frames().iter().map(|frame| frame.pixels()[0][0]).collect();
        assert_eq!((shown, film.rest_ms() / film.delay_ms()), (vec![0, 9], 4));
        frames.push(&Picture::filled(3, 1, [9; 3])).unwrap();
        assert!(frames.film().is_err());
    }

    #[test]
    fn frames_are_thinned_evenly_and_the_first_and_last_stay() {
        assert!(after(0).is_empty());
        assert_eq!(after(1), [0]);
        assert_eq!(after(5), [0, 1, 2, 3, 4]);
        for count in 1..=255 {
            let frames = after(count);
            assert!(frames.len() <= MOST, "{count}: {}", frames.len());
            assert_eq!((frames[0], frames[frames.len() - 1]), (0, count - 1));
            assert!(count < 40 || frames.len() >= MOST / 2, "{count}: {}", frames.len());
            let gaps: Vec<u8> = frames.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let (_, even) = gaps.split_last().unwrap_or((&0, &[]));
            assert!(even.iter().all(|&gap| gap == gaps[0]), "{count}: {gaps:?}");
        }
    }
}
