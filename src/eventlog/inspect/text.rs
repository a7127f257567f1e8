//! The report as a text for people: a table for each run, a line for each file, a sum at the end.

use std::fmt;

use super::{Damage, EventFile, Form, LeftOut, Report, Run, Tag};
use crate::terminal::{Side, columns, printable, shortened};

/// Characters of a tag in a table; the whole name is in the JSON.
const TAG: usize = 64;
/// Characters of other names that a file gives.
const NAME: usize = 32;
/// Starts of one file that are told one by one.
const STARTS: usize = 8;

/// A table for each run.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            writeln!(f, "{run}")?;
        }
        for left_out in &self.left_out {
            writeln!(f, "{left_out}")?;
        }
        if !self.left_out.is_empty() {
            writeln!(f)?;
        }
        let files: Vec<_> = self.runs.iter().flat_map(|run| &run.files).collect();
        let records: u64 = files.iter().map(|file| file.records).sum();
        let damages: u64 = files.iter().map(|file| file.damage_count).sum();
        write!(
            f,
            "{}, {}, {}, {}",
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
            0 => {}
            1 => write!(f, "; 1 file ends within a record")?,
            cut => write!(f, "; {cut} files end within a record")?,
        }
        match self.left_out.len() {
            0 => writeln!(f),
            count => writeln!(f, "; {count} left out"),
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left out {}: {}", printable(&self.path), self.reason)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "run {}", printable(&self.name))?;
        let mut rows = vec![["tag", "kind", "points", "shown", "steps", "size"].map(str::to_owned)];
        for tag in &self.tags {
            let plugin = if tag.plugin.is_empty() { "-" } else { &shortened(&printable(&tag.plugin), NAME) };
            let kind = match tag.form {
                Form::Tensor | Form::GraphDef | Form::Files => plugin.to_owned(),
                form => format!("{plugin} ({})", form.name()),
            };
            let [points, shown] = [tag.count, tag.shown].map(|count| count.to_string());
            rows.push([tag.label(), kind, points, shown, tag.steps(), size(tag.bytes)]);
        }
        if self.tags.is_empty() {
            writeln!(f, "  no data")?;
        } else {
            for line in columns(&rows, &SIDES) {
                writeln!(f, "  {line}")?;
            }
        }
        for note in self.tags.iter().flat_map(Tag::notes) {
            writeln!(f, "  {note}")?;
        }
        self.files.iter().try_for_each(|file| file.fmt(f))
    }
}

const SIDES: [Side; 6] = [Side::Left, Side::Left, Side::Right, Side::Right, Side::Right, Side::Right];

impl Tag {
    /// The name in a table.
    fn label(&self) -> String {
        shortened(&printable(&self.name), TAG)
    }

    fn steps(&self) -> String {
        if self.min_step == self.max_step {
            self.min_step.to_string()
        } else {
            format!("{}..{}", self.min_step, self.max_step)
        }
    }

    /// Oddities of the points, a line each.
    fn notes(&self) -> Vec<String> {
        let (name, mut notes) = (self.label(), Vec::new());
        if self.out_of_order > 0 {
            let (times, points) = (counted(self.out_of_order, "time"), counted(self.count, "point"));
            notes.push(format!(
                "note: {name}: steps repeat or go back {times}; TensorBoard shows {} of {points}",
                self.shown
            ));
        }
        if self.nan > 0 || self.infinite > 0 {
            let (nan, infinite, values) = (self.nan, self.infinite, counted(self.count, "value"));
            notes.push(format!("note: {name}: of {values}, {nan} NaN and {infinite} infinite"));
        }
        notes
    }
}

impl fmt::Display for EventFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  file {}: {}, {}", printable(&self.name), size(self.bytes), counted(self.records, "record"))?;
        if let (Some(first), Some(last)) = (self.first_wall_time, self.last_wall_time) {
            write!(f, ", {} to {}", time(first), time(last))?;
        }
        if let Some(writer) = &self.writer {
            write!(f, ", by {}", shortened(&printable(writer), NAME))?;
        }
        for start in self.starts.iter().take(STARTS) {
            write!(f, ", start at step {start}")?;
        }
        if self.starts.len() > STARTS {
            write!(f, " and {} more", self.starts.len() - STARTS)?;
        }
        writeln!(f)?;
        self.faults().iter().try_for_each(|fault| writeln!(f, "    {fault}"))
    }
}

impl EventFile {
    /// Everything that is not as it should be, a line each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(offset) = self.truncated_at {
            faults.push(format!(
                "ends within the record at byte {offset}: still being written, or its writer was killed"
            ));
        }
        if let Some(offset) = self.nan_wall_time_at {
            faults.push(format!("wall time NaN in the record at byte {offset}: TensorBoard reads no further"));
        }
        if self.infinite_wall_times > 0 {
            let events = counted(self.infinite_wall_times, "event");
            faults.push(format!("{events} with an infinite wall time, not shown by TensorBoard"));
        }
        faults.extend(self.damages.iter().map(Damage::to_string));
        if self.damage_count > self.damages.len() as u64 {
            faults.push(format!("and {} more", self.damage_count - self.damages.len() as u64));
        }
        if self.unread_bytes > 0 && self.truncated_at.is_none() {
            faults.push(format!("{} of {} bytes unread", self.unread_bytes, self.bytes));
        }
        faults
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.is_another_form() { f.write_str(&self.message) } else { write!(f, "damaged: {}", self.message) }
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
