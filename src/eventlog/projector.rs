//! Points in a space of many dimensions, for TensorBoard's Projector: files, not events.

use std::fmt::Write as _;
use std::sync::OnceLock;

use super::snapshots::{SnapshotError, put};
use crate::exit::{Classify, Exit};
use crate::files::Dir;
use crate::picture::{Picture, PngError};

const TENSORS: &str = "tensors.tsv";
const METADATA: &str = "metadata.tsv";
const SPRITE: &str = "sprite.png";
/// The files' place in a configuration, by paths from their own directory.
pub(super) const BLOCK: &str = "embedding.pbtxt";
/// Files of one set of points, the one that leads to the others first.
pub(super) const FILES: [&str; 4] = [BLOCK, TENSORS, METADATA, SPRITE];
/// Points that a browser loads.
pub const MAX_POINTS: usize = 100_000;
/// Pixels of a sheet's side that a browser takes.
pub const MAX_SHEET: u32 = 8192;

/// `N` named vectors of `D` numbers, with labels and a little picture for each if there are any.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    name: String,
    dimensions: usize,
    vectors: Vec<f32>,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    sprite: Option<Sprite>,
    made: Made,
}

/// Contents of a snapshot's files: vectors, labels, and pictures if there are any.
#[derive(Clone, Debug)]
struct Contents {
    tensors: String,
    metadata: String,
    sheet: Option<Vec<u8>>,
}

/// Contents that were made before they are written. They say nothing that the points do not.
#[derive(Clone, Debug, Default)]
struct Made(OnceLock<Contents>);

impl PartialEq for Made {
    fn eq(&self, _: &Made) -> bool {
        true
    }
}

/// One picture that holds those of all points, in rows from the top; all cells are of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Sprite {
    sheet: Picture,
    /// Width and height of a cell.
    cell: [u32; 2],
}

/// Fault in data for the Projector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddingsError {
    #[error("embeddings: got the name `{name}`, want letters, digits and `_./-`, since it becomes part of a URL")]
    Name { name: String },
    #[error(
        "embeddings `{name}`: got {values} values for vectors of {dimensions} dimensions, want 1 to {MAX_POINTS} whole vectors of at least 2"
    )]
    Vectors { name: String, values: usize, dimensions: usize },
    #[error("embeddings `{name}`: vector {index} has a value that is not finite; want numbers that can be projected")]
    NotFinite { name: String, index: usize },
    #[error("embeddings `{name}`: got {got} labels of points, want {want}, one for each vector")]
    Labels { name: String, got: usize, want: usize },
    #[error("embeddings `{name}`: label {index} has {got} cells, want {want}, at least 1, as the heading has")]
    Cells { name: String, index: usize, got: usize, want: usize },
    #[error(
        "embeddings `{name}`: a sheet of {width} x {height} pixels with cells of {cell:?} has no place for {points} pictures in whole rows and columns within {MAX_SHEET} x {MAX_SHEET}"
    )]
    Sheet { name: String, width: u32, height: u32, cell: [u32; 2], points: usize },
}

impl Classify for EmbeddingsError {
    fn exit(&self) -> Exit {
        Exit::Software
    }
}

impl Embeddings {
    /// `vectors` one after the other, `dimensions` values each, all finite.
    pub fn new(name: impl Into<String>, dimensions: usize, vectors: Vec<f32>) -> Result<Embeddings, EmbeddingsError> {
        let name = name.into();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c)) {
            return Err(EmbeddingsError::Name { name });
        }
        let values = vectors.len();
        if dimensions < 2 || !values.is_multiple_of(dimensions) || !(1..=MAX_POINTS).contains(&(values / dimensions)) {
            return Err(EmbeddingsError::Vectors { name, values, dimensions });
        }
        if let Some(index) = vectors.iter().position(|value| !value.is_finite()) {
            return Err(EmbeddingsError::NotFinite { name, index: index / dimensions });
        }
        Ok(Embeddings {
            name,
            dimensions,
            vectors,
            header: Vec::new(),
            rows: Vec::new(),
            sprite: None,
            made: Made::default(),
        })
    }

    /// Names the columns of labels, and gives each point its row. Tabs and line ends in them become spaces.
    ///
    /// A column of up to 50 different texts can colour the points.
    pub fn labelled(
        mut self,
        header: impl IntoIterator<Item = impl Into<String>>,
        rows: Vec<Vec<String>>,
    ) -> Result<Embeddings, EmbeddingsError> {
        self.header = header.into_iter().map(Into::into).collect();
        let (name, want) = (|| self.name.clone(), self.header.len());
        if rows.len() != self.points() {
            return Err(EmbeddingsError::Labels { name: name(), got: rows.len(), want: self.points() });
        }
        if let Some(index) = rows.iter().position(|row| row.len() != want || row.is_empty()) {
            return Err(EmbeddingsError::Cells { name: name(), index, got: rows[index].len(), want });
        }
        self.rows = rows;
        Ok(self)
    }

    /// Gives each point a picture.
    pub fn pictured(mut self, sprite: Sprite) -> Result<Embeddings, EmbeddingsError> {
        let (width, height, cell) = (sprite.sheet.width(), sprite.sheet.height(), sprite.cell);
        let whole = cell.iter().all(|&side| side > 0)
            && width.is_multiple_of(cell[0])
            && height.is_multiple_of(cell[1])
            && width.max(height) <= MAX_SHEET;
        let places = if whole { width as usize / cell[0] as usize * (height as usize / cell[1] as usize) } else { 0 };
        if places < self.points() {
            let (name, points) = (self.name.clone(), self.points());
            return Err(EmbeddingsError::Sheet { name, width, height, cell, points });
        }
        self.sprite = Some(sprite);
        Ok(self)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub fn points(&self) -> usize {
        self.vectors.len() / self.dimensions
    }

    pub fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        self.vectors.chunks_exact(self.dimensions)
    }

    /// A row of labels for each point, or none at all.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    pub fn sprite(&self) -> Option<&Sprite> {
        self.sprite.as_ref()
    }

    /// Bytes held, roughly.
    pub fn size(&self) -> usize {
        let labels: usize = self.rows.iter().flatten().map(|cell| size_of::<String>() + cell.len()).sum();
        let sheet = self.sprite.as_ref().map_or(0, |sprite| size_of_val(sprite.sheet.pixels()));
        size_of::<Embeddings>() + size_of_val(self.vectors.as_slice()) + labels + sheet
    }

    fn tensors_tsv(&self) -> String {
        let mut text = String::with_capacity(self.vectors.len() * 9);
        for vector in self.vectors() {
            for (index, &value) in vector.iter().enumerate() {
                if index > 0 {
                    text.push('\t');
                }
                put_short(&mut text, value);
            }
            text.push('\n');
        }
        text
    }

    /// TensorBoard takes the first line for a heading if it has a tab.
    fn metadata_tsv(&self) -> String {
        let mut text = String::new();
        let header = Some(&self.header).filter(|header| header.len() > 1);
        for row in header.into_iter().chain(&self.rows) {
            for (index, cell) in row.iter().enumerate() {
                if index > 0 {
                    text.push('\t');
                }
                let clean =
                    cell.chars().map(|c| if c.is_control() || "\u{2028}\u{2029}".contains(c) { ' ' } else { c });
                text.extend(clean);
                // An empty line would be no label at all.
                if cell.is_empty() && row.len() == 1 {
                    text.push('-');
                }
            }
            text.push('\n');
        }
        text
    }

    fn pbtxt(&self) -> String {
        let mut text = String::from("embeddings {\n");
        let _ = writeln!(text, "  tensor_name: \"{}\"\n  tensor_path: \"{TENSORS}\"", self.name);
        let _ = writeln!(text, "  tensor_shape: {}\n  tensor_shape: {}", self.points(), self.dimensions);
        if !self.rows.is_empty() {
            let _ = writeln!(text, "  metadata_path: \"{METADATA}\"");
        }
        if let Some(Sprite { cell: [width, height], .. }) = self.sprite {
            let _ = writeln!(text, "  sprite {{\n    image_path: \"{SPRITE}\"");
            let _ = writeln!(text, "    single_image_dim: {width}\n    single_image_dim: {height}\n  }}");
        }
        text.push_str("}\n");
        text
    }

    /// Makes what [`write`](Embeddings::write) is going to write, on the threads of the rayon pool that this is called in.
    /// Contents that cannot be made are left to the write, which returns the error.
    pub(super) fn make(&self) {
        let texts = || (self.tensors_tsv(), self.metadata_tsv());
        let ((tensors, metadata), sheet) = rayon::join(texts, || self.sheet_png());
        if let Ok(sheet) = sheet {
            let _ = self.made.0.set(Contents { tensors, metadata, sheet });
        }
    }

    fn sheet_png(&self) -> Result<Option<Vec<u8>>, PngError> {
        self.sprite.as_ref().map(|sprite| sprite.sheet.png()).transpose()
    }

    /// Writes the files into `dir`, each whole before the one that leads to it, and says how many bytes they have.
    pub(super) fn write(&self, dir: &Dir) -> Result<u64, SnapshotError> {
        let mut bytes = 0;
        let mut put = |name: &str, content: &[u8]| {
            bytes += content.len() as u64;
            put(dir, name, content).map_err(|source| SnapshotError::Write { path: dir.path().join(name), source })
        };
        let own;
        let Contents { tensors, metadata, sheet } = match self.made.0.get() {
            Some(made) => made,
            None => {
                let sheet =
                    self.sheet_png().map_err(|source| SnapshotError::Png { path: dir.path().join(SPRITE), source })?;
                own = Contents { tensors: self.tensors_tsv(), metadata: self.metadata_tsv(), sheet };
                &own
            }
        };
        put(TENSORS, tensors.as_bytes())?;
        if !self.rows.is_empty() {
            put(METADATA, metadata.as_bytes())?;
        }
        if let Some(png) = sheet {
            put(SPRITE, png)?;
        }
        put(BLOCK, self.pbtxt().as_bytes())?;
        Ok(bytes)
    }
}

impl Sprite {
    /// A sheet with cells of `cell` pixels, width first.
    pub fn new(sheet: Picture, cell: [u32; 2]) -> Sprite {
        Sprite { sheet, cell }
    }

    /// A square sheet of `cells`, each as large as the first.
    pub fn of(cells: &[Picture]) -> Sprite {
        let cell = cells.first().map_or([1, 1], |first| [first.width(), first.height()]);
        let side = u32::try_from(cells.len()).unwrap_or(u32::MAX).isqrt();
        let side = if side as usize * (side as usize) < cells.len() { side + 1 } else { side };
        let [width, height] = cell.map(|pixels| pixels.saturating_mul(side));
        // One that is too large is refused later; it need not fill the memory before.
        if width.max(height) > MAX_SHEET {
            return Sprite { sheet: Picture::filled(1, 1, [255; 3]), cell };
        }
        let mut sheet = Picture::filled(width, height, [255; 3]);
        for (index, picture) in (0..).zip(cells) {
            let [left, top] = [index % side * cell[0], index / side * cell[1]];
            let width = cell[0].min(picture.width());
            for (y, pixels) in (0..cell[1]).zip(picture.pixels().chunks_exact(picture.width() as usize)) {
                sheet.row_mut(top + y, left..left + width).copy_from_slice(&pixels[..width as usize]);
            }
        }
        Sprite { sheet, cell }
    }

    pub fn sheet(&self) -> &Picture {
        &self.sheet
    }

    /// Width and height of a cell.
    pub fn cell(&self) -> [u32; 2] {
        self.cell
    }
}

/// A finite number with five significant digits, in the shorter of the two notations: a projection shows no more.
fn put_short(text: &mut String, value: f32) {
    // Half of what a ReLU answers.
    if value == 0.0 {
        text.push('0');
        return;
    }
    let (mut whole, exponent) = five_digits(value.abs());
    let mut digits = [b'0'; 5];
    for digit in digits.iter_mut().rev() {
        *digit += (whole % 10) as u8;
        whole /= 10;
    }
    // The first is no 0.
    let count = digits.iter().rposition(|&digit| digit != b'0').map_or(1, |last| last + 1);
    let digits = digits[..count].iter().copied().map(char::from);
    // Digits before the point, where it stands in its place; below 1 zeros follow it.
    let before = exponent + 1;
    let (whole, zeros) = (usize::try_from(before).unwrap_or(0), usize::try_from(-before).unwrap_or(0));
    let plain = match whole {
        0 => 2 + zeros + count,
        _ if whole < count => count + 1,
        _ => whole,
    };
    let sign_and_digits = usize::from(exponent < 0) + if exponent.abs() < 10 { 1 } else { 2 };
    let scientific = count + usize::from(count > 1) + 1 + sign_and_digits;

    text.push_str(if value < 0.0 { "-" } else { "" });
    let is_scientific = plain > scientific;
    let point = if is_scientific { 1 } else { whole };
    if point == 0 {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', zeros));
    }
    for (index, digit) in digits.enumerate() {
        if index == point && point > 0 {
            text.push('.');
        }
        text.push(digit);
    }
    if is_scientific {
        // A string takes whatever is written.
        let _ = write!(text, "e{exponent}");
    } else {
        text.extend(std::iter::repeat_n('0', whole.saturating_sub(count)));
    }
}

/// A finite number above 0 as five digits, 10,000 to 99,999, and the power of ten of the first. The digits of `{:.4e}`, which
/// is right for any number of them and takes its time: a snapshot has a hundred thousand numbers.
fn five_digits(value: f32) -> (u32, i32) {
    /// Adding it rounds to whole numbers, a half to an even one.
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    let value = f64::from(value);
    // The power of two tells that of ten, or the one below it.
    let power_of_two = (value.to_bits() >> 52) as i32 - 1023;
    let mut exponent = (f64::from(power_of_two) * std::f64::consts::LOG10_2).floor() as i32;
    loop {
        // Up to the 22nd a power of ten is exact, and beyond it nearly: what is rounded lies far below the fifth digit.
        let power = 10.0_f64.powi((exponent - 4).abs());
        let scaled = if exponent > 4 { value / power } else { value * power };
        let whole = (scaled + WHOLE) - WHOLE;
        if whole < 100_000.0 {
            return (whole as u32, exponent);
        }
        exponent += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn numbers_are_short_and_right_to_five_digits() {
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-0.5, "-0.5"),
            (0.001, "1e-3"),
            (0.001_234_5, "0.0012345"),
            (0.000_123_456, "1.2346e-4"),
            (10.0, "10"),
            (1000.0, "1e3"),
            (123_456.0, "123460"),
            (99_999.9, "1e5"),
            (12.345_67, "12.346"),
            (f32::MIN_POSITIVE, "1.1755e-38"),
            (f32::MAX, "3.4028e38"),
        ] {
            let mut text = String::new();
            put_short(&mut text, value);
            assert_eq!(text, want, "{value}");
        }
    }

    #[test]
    fn five_digits_are_those_of_the_standard_library() {
        let random = |i: u32| f32::from_bits(i.wrapping_mul(2_654_435_761) & 0x7fff_ffff);
        let near_powers = (-45..39).flat_map(|power| {
            let ten: f32 = format!("1e{power}").parse().unwrap();
            [ten.next_down(), ten, ten.next_up(), 2.5 * ten, 5.0 * ten]
        });
        let halves = (0..3000).map(|i| 12_300.5 + i as f32);
        let values = (0..200_000).map(random).chain(near_powers).chain(halves);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            let (digits, exponent) = five_digits(value);
            let got = format!("{}.{:04}e{exponent}", digits / 10_000, digits % 10_000);
            assert_eq!(got, format!("{value:.4e}"));
        }
    }

    #[test]
    fn a_snapshot_is_the_same_whether_it_was_made_before_or_not() {
        let sheet = Sprite::of(&[Picture::filled(2, 3, [9; 3]), Picture::filled(2, 3, [90, 0, 7])]);
        let labels = vec![vec!["7".to_owned()], vec!["a\tb".to_owned()]];
        let points = two().labelled(["label"], labels).unwrap().pictured(sheet).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let written = |points: &Embeddings, name: &str| {
            points.write(&Dir::make(&dir.path().join(name)).unwrap()).unwrap();
            FILES.map(|file| fs::read(dir.path().join(name).join(file)).unwrap())
        };
        let made = points.clone();
        rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap().install(|| made.make());
        assert!(made.made.0.get().is_some() && made == points);
        assert_eq!(written(&points, "alone"), written(&made, "made"));
    }

    fn two() -> Embeddings {
        Embeddings::new("dense", 3, vec![1.0, -0.123_456, 0.0, 1e-7, 12_345_678.0, 0.5]).unwrap()
    }

    fn rows(cells: &[&[&str]]) -> Vec<Vec<String>> {
        cells.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(two().tensors_tsv(), "1\t-0.12346\t0\n1e-7\t12346000\t0.5\n");
    }

    #[test]
    fn cells_are_as_large_as_the_first_and_others_are_cut_or_leave_room() {
        let cells =
            [(2, 2, 1), (3, 1, 2), (1, 3, 3)].map(|(width, height, grey)| Picture::filled(width, height, [grey; 3]));
        let sprite = Sprite::of(&cells);
        let rows: Vec<Vec<u8>> =
            sprite.sheet().pixels().chunks(4).map(|row| row.iter().map(|pixel| pixel[0]).collect()).collect();
        assert_eq!(rows, [[1, 1, 2, 2], [1, 1, 255, 255], [3, 255, 255, 255], [3, 255, 255, 255]]);
    }

    #[test]
    fn labels_are_one_line_each() {
        let labelled = two().labelled(["class", "note"], rows(&[&["cat", "a\tb"], &["", "c\r\nd"]])).unwrap();
        assert_eq!(labelled.metadata_tsv(), "class\tnote\ncat\ta b\n\tc  d\n");
        let single = two().labelled(["class"], rows(&[&["cat"], &[""]])).unwrap();
        assert_eq!(single.metadata_tsv(), "cat\n-\n");
    }

    #[test]
    fn the_files_have_their_place_in_a_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let sprite = Sprite::of(&[Picture::filled(3, 2, [9; 3]), Picture::filled(3, 2, [7; 3])]);
        assert_eq!((sprite.sheet().width(), sprite.sheet().height(), sprite.cell()), (6, 4, [3, 2]));
        assert_eq!([sprite.sheet().get(2, 1), sprite.sheet().get(3, 0)], [Some([9; 3]), Some([7; 3])]);
        let whole = two().labelled(["class"], rows(&[&["a"], &["b"]])).unwrap().pictured(sprite).unwrap();
        let bytes = whole.write(&Dir::open(dir.path()).unwrap()).unwrap();
        let sizes: u64 = FILES.iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().len()).sum();
        assert_eq!((bytes, fs::read_dir(dir.path()).unwrap().count()), (sizes, FILES.len()));
        expect_test::expect![[r#"
            embeddings {
              tensor_name: "dense"
              tensor_path: "tensors.tsv"
              tensor_shape: 2
              tensor_shape: 3
              metadata_path: "metadata.tsv"
              sprite {
                image_path: "sprite.png"
                single_image_dim: 3
                single_image_dim: 2
              }
            }
        "#]]
        .assert_eq(&fs::read_to_string(dir.path().join(BLOCK)).unwrap());
    }

    #[test]
    fn what_the_browser_would_refuse_is_refused() {
        let error = |result: Result<Embeddings, EmbeddingsError>| result.unwrap_err().to_string();
        assert_eq!(
            error(Embeddings::new("a b", 2, vec![0.0; 2])),
            "embeddings: got the name `a b`, want letters, digits and `_./-`, since it becomes part of a URL"
        );
        for (dimensions, values) in [(1, 4), (2, 3), (2, 0), (0, 4), (2, 2 * MAX_POINTS + 2)] {
            assert_eq!(
                error(Embeddings::new("e", dimensions, vec![0.0; values])),
                format!(
                    "embeddings `e`: got {values} values for vectors of {dimensions} dimensions, want 1 to 100000 whole \
                     vectors of at least 2"
                )
            );
        }
        assert!(error(Embeddings::new("e", 2, vec![0.0, 0.0, f32::NAN, 0.0])).contains("vector 1 has a value"));
        assert_eq!(
            error(two().labelled(["class"], rows(&[&["a"]]))),
            "embeddings `dense`: got 1 labels of points, want 2, one for each vector"
        );
        assert!(error(two().labelled(["class"], rows(&[&["a"], &["b", "c"]]))).contains("label 1 has 2 cells, want 1"));
        let sheet = |width, height, cell| Sprite::new(Picture::filled(width, height, [0; 3]), cell);
        for wrong in [sheet(4, 4, [4, 4]), sheet(5, 4, [2, 2]), sheet(4, 4, [0, 4]), sheet(8193, 1, [1, 1])] {
            assert!(error(two().pictured(wrong)).contains("has no place for 2 pictures"));
        }
        let large = Sprite::of(&[Picture::filled(5000, 1, [0; 3]), Picture::filled(5000, 1, [0; 3])]);
        assert!(two().pictured(large).is_err());
    }
}
