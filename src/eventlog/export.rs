//! Points of scalars as rows of a table, for programs: lines of JSON, or CSV.

use std::io::{self, Write};

use crate::terminal;

/// One value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub step: i64,
    /// Seconds since 1970.
    pub wall_time: f64,
    pub value: f64,
}

/// Form of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An object a line: `run`, `tag`, `step`, `wall_time`, `value`. A number that is not finite is one of the strings
    /// `NaN`, `Infinity`, `-Infinity`, as in TensorBoard's own answers. Control characters and bidirectional marks in
    /// names are escaped.
    Jsonl,
    /// RFC 4180 with a heading, but with a single line feed behind a row. A number that is not finite is `NaN`, `inf` or
    /// `-inf`.
    Csv,
    /// As [`Format::Csv`], with escapes in the place of characters that could steer a terminal.
    CsvForTerminal,
}

/// Rows on their way to a writer.
#[derive(Debug)]
pub struct Table<W> {
    output: W,
    format: Format,
    /// Rows that wait to be written.
    buffer: Vec<u8>,
    rows: u64,
    series: u64,
}

/// Bytes that are written at once.
const PIECE: usize = 64 << 10;

impl<W: Write> Table<W> {
    pub fn new(output: W, format: Format) -> Table<W> {
        let heading = match format {
            Format::Jsonl => "",
            Format::Csv | Format::CsvForTerminal => "run,tag,step,wall_time,value\n",
        };
        Table { output, format, buffer: heading.as_bytes().to_vec(), rows: 0, series: 0 }
    }

    /// One row for each point of a tag.
    pub fn put(&mut self, run: &str, tag: &str, points: &[Point]) -> io::Result<()> {
        let (beginning, separators, end) = match self.format {
            Format::Jsonl => {
                let beginning = format!(r#"{{"run":{},"tag":{},"step":"#, json(run)?, json(tag)?);
                (beginning, [r#","wall_time":"#, r#","value":"#], "}\n")
            }
            Format::Csv => (format!("{},{},", csv(run), csv(tag)), [",", ","], "\n"),
            Format::CsvForTerminal => {
                let [run, tag] = [run, tag].map(terminal::printable);
                (format!("{},{},", csv(&run), csv(&tag)), [",", ","], "\n")
            }
        };
        for point in points {
            self.buffer.extend_from_slice(beginning.as_bytes());
            serde_json::to_writer(&mut self.buffer, &point.step)?;
            for (separator, number) in separators.into_iter().zip([point.wall_time, point.value]) {
                self.buffer.extend_from_slice(separator.as_bytes());
                self.number(number)?;
            }
            self.buffer.extend_from_slice(end.as_bytes());
            if self.buffer.len() >= PIECE {
                self.flush_buffer()?;
            }
        }
        self.rows += points.len() as u64;
        self.series += u64::from(!points.is_empty());
        Ok(())
    }

    /// With as few digits as give the same number again.
    fn number(&mut self, number: f64) -> io::Result<()> {
        if number.is_finite() {
            return Ok(serde_json::to_writer(&mut self.buffer, &number)?);
        }
        let is_json = self.format == Format::Jsonl;
        let text = match number {
            infinite if infinite > 0.0 => {
                if is_json {
                    r#""Infinity""#
                } else {
                    "inf"
                }
            }
            infinite if infinite < 0.0 => {
                if is_json {
                    r#""-Infinity""#
                } else {
                    "-inf"
                }
            }
            _ => {
                if is_json {
                    r#""NaN""#
                } else {
                    "NaN"
                }
            }
        };
        self.buffer.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        let written = self.output.write_all(&self.buffer);
        self.buffer.clear();
        written
    }

    /// Writes what waits; the writer, and the numbers of rows and of series.
    pub fn finish(mut self) -> io::Result<(W, u64, u64)> {
        self.flush_buffer()?;
        self.output.flush()?;
        Ok((self.output, self.rows, self.series))
    }
}

fn json(text: &str) -> io::Result<String> {
    Ok(terminal::safe_json(&serde_json::to_string(text)?))
}

/// A field, in quotes where RFC 4180 wants them, or where a spreadsheet would cut off its spaces.
fn csv(text: &str) -> String {
    let is_plain = !text.contains(['"', ',', '\n', '\r']) && text.trim() == text;
    if is_plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(format: Format, run: &str, tag: &str, points: &[Point]) -> String {
        let mut table = Table::new(Vec::new(), format);
        table.put(run, tag, points).unwrap();
        let (bytes, rows, series) = table.finish().unwrap();
        assert_eq!((rows, series), (points.len() as u64, u64::from(!points.is_empty())));
        String::from_utf8(bytes).unwrap()
    }

    fn points() -> Vec<Point> {
        let values = [f64::from(0.1f32), f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-30];
        (0..).zip(values).map(|(step, value)| Point { step, wall_time: 1_700_000_000.25, value }).collect()
    }

    #[test]
    fn rows_of_json() {
        assert_eq!(
            rows(Format::Jsonl, "fit/train", "a \"b\"\n\u{202e}c", &points()[..2]),
            concat!(
                r#"{"run":"fit/train","tag":"a \"b\"\n\u202ec","step":0,"wall_time":1700000000.25,"value":0.10000000149011612}"#,
                "\n",
                r#"{"run":"fit/train","tag":"a \"b\"\n\u202ec","step":1,"wall_time":1700000000.25,"value":"NaN"}"#,
                "\n"
            )
        );
        let all = rows(Format::Jsonl, ".", "t", &points());
        let values: Vec<serde_json::Value> =
            all.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["value"].clone()).collect();
        assert_eq!(
            serde_json::json!(values),
            serde_json::json!([0.10000000149011612, "NaN", "Infinity", "-Infinity", 1e-30])
        );
        assert_eq!(rows(Format::Jsonl, ".", "t", &[]), "");
    }

    #[test]
    fn rows_of_csv() {
        assert_eq!(
            rows(Format::Csv, ".", "loss", &points()),
            "run,tag,step,wall_time,value\n\
             .,loss,0,1700000000.25,0.10000000149011612\n\
             .,loss,1,1700000000.25,NaN\n\
             .,loss,2,1700000000.25,inf\n\
             .,loss,3,1700000000.25,-inf\n\
             .,loss,4,1700000000.25,1e-30\n"
        );
        let row = |format, tag| rows(format, "a", tag, &points()[1..2]).split_once('\n').unwrap().1.to_owned();
        assert_eq!(row(Format::Csv, "x,\"y\"\nz"), "a,\"x,\"\"y\"\"\nz\",1,1700000000.25,NaN\n");
        assert_eq!(row(Format::Csv, " x"), "a,\" x\",1,1700000000.25,NaN\n");
        assert_eq!(row(Format::Csv, "\u{202e}x"), "a,\u{202e}x,1,1700000000.25,NaN\n");
        assert_eq!(row(Format::CsvForTerminal, "\u{202e}x\n"), "a,\\u{202e}x\\n,1,1700000000.25,NaN\n");
    }

    #[test]
    fn a_reader_that_goes_away_is_an_error_of_its_own() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let many = vec![points()[0]; 10_000];
        let error = Table::new(Gone, Format::Csv).put(".", "t", &many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
