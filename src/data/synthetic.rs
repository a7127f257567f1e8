//! Drawn shapes with known labels: a data set that needs no files and no network, and that a small network learns.
//!
//! Image `i` of a split depends on the seed, the split and `i` alone. The arithmetic keeps to what IEEE 754 fixes to
//! the last bit (no sine, no logarithm), so every machine draws the same bytes.

use super::dataset::{Dataset, Split};
use super::name::DatasetName;
use crate::rng::{Purpose, Stream};
use crate::types::Seed;
pub const TRAIN_IMAGES: usize = 6_000;
pub const VALIDATION_IMAGES: usize = 1_000;

/// Height and width.
const SIDE: usize = 28;

/// Both splits; any multiple of ten images from the front holds each class equally often.
pub fn dataset(seed: Seed) -> Dataset {
    Dataset {
        name: DatasetName::Synthetic.to_string(),
        classes: DatasetName::Synthetic.classes().iter().map(|&class| class.to_owned()).collect(),
        train: split(seed, 0, TRAIN_IMAGES),
        validation: split(seed, 1, VALIDATION_IMAGES),
    }
}

fn split(seed: Seed, number: u64, len: usize) -> Split {
    let labels = labels(seed, number, len);
    let mut pixels = Vec::with_capacity(len * SIDE * SIDE);
    for (i, label) in labels.iter().enumerate() {
        draw(*label, &mut Stream::new(seed, Purpose::Synthetic, number, i as u64), &mut pixels);
    }
    Split::drawn(DatasetName::Synthetic.shape(), pixels, labels)
}

fn labels(seed: Seed, number: u64, len: usize) -> Vec<u16> {
    let classes = DatasetName::Synthetic.classes().len();
    let block = |i: usize| Stream::new(seed, Purpose::SyntheticClasses, number, i as u64).permutation(classes);
    (0..len.div_ceil(classes)).flat_map(block).map(|label| label as u16).take(len).collect()
}

/// Placement and ink of a shape. Lengths are in pixels.
struct Look {
    centre: (f32, f32),
    /// Half the extent, before rotation.
    radius: f32,
    /// Half the thickness of strokes.
    stroke: f32,
    /// Cosine and sine of the rotation.
    turn: (f32, f32),
    paper: f32,
    ink: f32,
    /// The most that noise adds or takes.
    noise: f32,
}

impl Look {
    fn new(chance: &mut Stream) -> Look {
        let radius = chance.uniform(6.0, 10.0);
        // A turned square reaches 1.23 of its half side; half a pixel is left for the soft edge.
        let margin = SIDE as f32 / 2.0 - 1.23 * radius - 0.5;
        let middle = SIDE as f32 / 2.0;
        let centre = (middle + chance.uniform(-margin, margin), middle + chance.uniform(-margin, margin));
        // Up to 15 degrees, by the tangent of half the angle: a sine would differ between machines.
        let half = chance.uniform(-0.131, 0.131);
        let turn = ((1.0 - half * half) / (1.0 + half * half), 2.0 * half / (1.0 + half * half));
        Look {
            centre,
            radius,
            stroke: radius * chance.uniform(0.13, 0.24),
            turn,
            paper: chance.uniform(0.0, 70.0),
            ink: chance.uniform(130.0, 255.0),
            noise: chance.uniform(10.0, 50.0),
        }
    }
}

/// Adds one image to `pixels`: the share of each pixel that the shape covers, inked, with noise.
fn draw(label: u16, chance: &mut Stream, pixels: &mut Vec<u8>) {
    let look = Look::new(chance);
    let (cos, sin) = look.turn;
    let mut noise = [0; 8];
    for i in 0..SIDE * SIDE {
        if i % noise.len() == 0 {
            noise = chance.next_u64().to_le_bytes();
        }
        let (x, y) = ((i % SIDE) as f32 + 0.5 - look.centre.0, (i / SIDE) as f32 + 0.5 - look.centre.1);
        let distance = distance(label, (cos * x + sin * y, cos * y - sin * x), &look);
        let covered = (0.5 - distance).clamp(0.0, 1.0);
        let grain = f32::from(noise[i % noise.len()]) / 127.5 - 1.0;
        let value = look.paper + (look.ink - look.paper) * covered + look.noise * grain;
        pixels.push(value.round_ties_even() as u8);
    }
}

/// The signed distance, in pixels and negative inside, from a point to the edge of the shape around the origin.
fn distance(label: u16, (x, y): (f32, f32), look: &Look) -> f32 {
    let (r, t) = (look.radius, look.stroke);
    let rectangle =
        |x: f32, y: f32, half_width: f32, half_height: f32| (x.abs() - half_width).max(y.abs() - half_height);
    let cross = |x: f32, y: f32| rectangle(x, y, r, t).min(rectangle(x, y, t, r));
    let bars = |x: f32, y: f32| {
        let bar = |k: f32| rectangle(x, y - k * (r - t), r, t);
        bar(-1.0).min(bar(0.0)).min(bar(1.0))
    };
    match label {
        0 => (x * x + y * y).sqrt() - r,
        1 => ((x * x + y * y).sqrt() - (r - t)).abs() - t,
        2 => rectangle(x, y, r, r) + 0.1 * r,
        3 => (x.abs().max(y.abs()) - (r - t)).abs() - t,
        // Equilateral, one side below; its inner radius is half of the outer one.
        4 => y.max(0.866_025_4 * x.abs() - 0.5 * y) - 0.5 * r,
        5 => cross(x, y),
        6 => cross(0.707_106_77 * (x + y), 0.707_106_77 * (x - y)),
        7 => bars(x, y),
        8 => bars(y, x),
        // The dark fields of three by three.
        _ => {
            let half = r / 3.0;
            let field = |column: f32, row: f32| rectangle(x - column * 2.0 * half, y - row * 2.0 * half, half, half);
            let corners = field(-1.0, -1.0).min(field(1.0, -1.0)).min(field(-1.0, 1.0)).min(field(1.0, 1.0));
            field(0.0, 0.0).min(corners)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_bytes_for_ever() {
        let dataset = dataset(Seed(0));
        // Pinned from the first version: trained results are compared across versions and machines.
        let drawn = [&dataset.train, &dataset.validation].map(|split| sha256(split.pixels()));
        assert_eq!(
            drawn,
            [
                "3ae188fae69fc955b4821a6841a3acea862f275a58282a26f8dad822a6ef50e0",
                "4b40db395597d06aa933766b619cd33d43421aa91492b39feb1075403ee46581"
            ]
        );
        let bytes = |labels: &[u16]| labels.iter().map(|&label| label as u8).collect::<Vec<u8>>();
        let labels = [&dataset.train, &dataset.validation].map(|split| sha256(&bytes(split.labels())));
        assert_eq!(
            labels,
            [
                "72a70f6e6d68bbf5bb5fdfa18de051f488fab5519261f0251b53a8d8b7cab379",
                "eb3010a804d9e157e5243abd6fb085015caba15e3c5eed29f30d598ccb2f263a"
            ]
        );
    }

    #[test]
    fn classes_are_balanced_from_the_front_and_mixed() {
        let train = split(Seed(1), 0, 200);
        for part in [50, 200] {
            let mut counts = [0; 10];
            train.labels()[..part].iter().for_each(|label| counts[usize::from(*label)] += 1);
            assert_eq!(counts, [part / 10; 10]);
        }
        assert_ne!(train.labels()[..10], train.labels()[10..20]);
    }

    #[test]
    fn an_image_does_not_depend_on_how_many_are_drawn() {
        let (few, many) = (split(Seed(2), 0, 15), split(Seed(2), 0, 40));
        assert_eq!(many.limited(15), few);
    }

    #[test]
    fn splits_and_seeds_differ() {
        let first = |seed, number| split(Seed(seed), number, 10).pixels().to_vec();
        assert_ne!(first(0, 0), first(0, 1));
        assert_ne!(first(0, 0), first(1, 0));
    }

    #[test]
    fn shapes_lie_inside_the_image() {
        // Without noise the border is paper, whatever the shape, size, place and turn.
        for i in 0..2_000 {
            let look = Look::new(&mut Stream::new(Seed(3), Purpose::Test, 0, i));
            let (cos, sin) = look.turn;
            assert!((cos * cos + sin * sin - 1.0).abs() < 1e-6 && sin.abs() < 0.26);
            for label in 0..10 {
                for k in 0..28 {
                    for (x, y) in [(k, 0), (k, 27), (0, k), (27, k)] {
                        let (x, y) = (x as f32 + 0.5 - look.centre.0, y as f32 + 0.5 - look.centre.1);
                        let edge = distance(label, (cos * x + sin * y, cos * y - sin * x), &look);
                        assert!(edge > -0.01, "class {label} reaches {x} {y} with radius {}", look.radius);
                    }
                }
            }
        }
    }

    #[test]
    fn the_mean_image_of_a_class_is_not_enough_to_tell_it() {
        let (train, validation) = (split(Seed(4), 0, 2_000), split(Seed(4), 1, 500));
        let mut means = vec![[0f32; 784]; 10];
        for i in 0..train.len() {
            let mean = &mut means[usize::from(train.label(i))];
            mean.iter_mut().zip(train.image(i)).for_each(|(mean, pixel)| *mean += f32::from(*pixel) / 200.0);
        }
        let nearest = |image: &[u8]| {
            let far = |mean: &[f32; 784]| {
                mean.iter().zip(image).map(|(mean, pixel)| (mean - f32::from(*pixel)).powi(2)).sum::<f32>()
            };
            (0..10).min_by(|a, b| far(&means[*a]).total_cmp(&far(&means[*b]))).unwrap()
        };
        let right = (0..validation.len())
            .filter(|i| nearest(validation.image(*i)) == usize::from(validation.label(*i)))
            .count();
        // Chance is 50 of 500: there is something to learn, and something left to learn.
        assert!((100..400).contains(&right), "{right}");
    }
}
