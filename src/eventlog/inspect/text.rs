//! The report as a text for people: a table for each run, a line for each file, a sum at the end.

use std::fmt;

use super::{EventFile, Form, Report, Run};
use crate::terminal::{Side, columns, printable};

/// A table for each run.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, run) in self.runs.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            run.fmt(f)?;
        }
        let files: Vec<_> = self.runs.iter().flat_map(|run| &run.files).collect();
        let records: u64 = files.iter().map(|file| file.records).sum();
        let damages: u64 = files.iter().map(|file| file.damage_count).sum();
        write!(
            f,
            "\n{}, {}, {}, {}",
            counted(self.runs.len() as u64, "run"),
            counted(files.len() as u64, "file"),
            counted(records, "record"),
            size(files.iter().map(|file| file.bytes).sum())
        )?;
        match damages {
            0 => write!(f, "; all checksums are right")?,
            _ => write!(f, "; {}", counted(damages, "damage"))?,
        }
        match files.iter().filter(|file| file.truncated_at.is_some()).count() as u64 {
            0 => writeln!(f),
            1 => writeln!(f, "; 1 file ends within a record"),
            cut => writeln!(f, "; {cut} files end within a record"),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "run {}", printable(&self.name))?;
        let mut rows = vec![["tag", "kind", "points", "steps", "size"].map(str::to_owned)];
        for tag in &self.tags {
            let plugin = if tag.plugin.is_empty() { "-".to_owned() } else { printable(&tag.plugin) };
            let kind = match tag.form {
                Form::Tensor | Form::GraphDef | Form::Files => plugin,
                form => format!("{plugin} ({})", form.name()),
            };
            rows.push([printable(&tag.name), kind, tag.count.to_string(), tag.steps(), size(tag.bytes)]);
        }
        if self.tags.is_empty() {
            writeln!(f, "  no data")?;
        } else {
            for line in columns(&rows, &[Side::Left, Side::Left, Side::Right, Side::Right, Side::Right]) {
                writeln!(f, "  {line}")?;
            }
        }
        for file in &self.files {
            file.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for EventFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  file {}: {}, {}", printable(&self.name), size(self.bytes), counted(self.records, "record"))?;
        if let (Some(first), Some(last)) = (self.first_wall_time, self.last_wall_time) {
            write!(f, ", {} to {}", time(first), time(last))?;
        }
        if let Some(writer) = &self.writer {
            write!(f, ", by {}", printable(writer))?;
        }
        for start in &self.starts {
            write!(f, ", start at step {start}")?;
        }
        writeln!(f)?;
        if let Some(offset) = self.truncated_at {
            writeln!(f, "    ends within the record at byte {offset}: still being written, or its writer was killed")?;
        }
        for damage in &self.damages {
            writeln!(f, "    damaged: {}", damage.message)?;
        }
        if self.damage_count > self.damages.len() as u64 {
            writeln!(f, "    and {} more", self.damage_count - self.damages.len() as u64)?;
        }
        Ok(())
    }
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::Tensor => "tensor",
            Form::SimpleValue => "simple_value",
            Form::Image => "image",
            Form::Histo => "histo",
            Form::Audio => "audio",
            Form::None => "no value",
            Form::GraphDef => "graph_def",
            Form::MetaGraphDef => "meta_graph_def",
            Form::RunMetadata => "run_metadata",
            Form::Files => "files",
        }
    }
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn size(bytes: u64) -> String {
    let (mut value, mut units) = (bytes as f64, ["KiB", "MiB", "GiB"].into_iter());
    let mut unit = "B";
    while value >= 1024.0 {
        let Some(next) = units.next() else { break };
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// Seconds since 1970 as UTC; as they are if they are no time of this era.
pub(super) fn time(secs: f64) -> String {
    const DAY: i64 = 86_400;
    if !(0.0..253_402_300_800.0).contains(&secs) {
        return format!("{secs} s");
    }
    let (days, second) = ((secs as i64) / DAY, (secs as i64) % DAY);
    // The calendar in eras of 400 years that begin on 1 March (H. Hinnant, "chrono-compatible date algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}
