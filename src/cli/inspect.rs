//! `trainer inspect`: what event files hold, and whether it is whole; their scalars as rows for other programs.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::pictures::{text, wrong};
use super::{Failure, note, option, print};
use crate::durable::Draft;
use crate::eventlog::inspect::InspectError;
use crate::eventlog::{Format, Report, Table};
use crate::exit::Exit;
use crate::terminal::{printable, printable_path, safe_json};

pub(super) fn command() -> Command {
    let path = Arg::new("path")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .required(true)
        .help("An event file, or a directory to search for them");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON instead of tables");
    let export = option("export", "FORMAT", "Print the points of scalars instead, one a row: `jsonl` or `csv`");
    let output = option(
        "output",
        "FILE",
        "Write the rows to FILE, a regular one, whole or not at all [default: standard output]",
    );
    Command::new("inspect")
        .about("List runs, tags, kinds, steps and sizes in event files, whoever wrote them, and verify every checksum")
        .long_about(
            "List runs, tags, kinds, steps and sizes in event files, whoever wrote them, and verify every checksum. SHOWN \
             is how many points TensorBoard shows when it keeps all of them: it takes back those that a later point of \
             the same or an earlier step, or a later session, replaces.\n\nWith --export each of these points of each \
             scalar is one row: `run`, `tag`, `step`, `wall_time` (seconds since 1970) and `value`, by run and tag, in \
             the order of steps. Other data is counted on stderr. TensorBoard reads a file up to the first record that \
             is no event, though its checksums are right; later points of that file have no rows.\n\nExits with 65 when \
             a file is damaged and with 77 when one may not be read, after printing everything that could be read.",
        )
        .args([path, json.conflicts_with("export"), export])
        .arg(output.value_parser(value_parser!(PathBuf)).requires("export"))
}

pub(super) fn inspect(matches: &ArgMatches) -> Result<(), Failure> {
    let path = matches.get_one::<PathBuf>("path").cloned().unwrap_or_default();
    let report = match text(matches, "export") {
        Some(format) => {
            let output = matches.get_one::<PathBuf>("output");
            let format = match format {
                "jsonl" => Format::Jsonl,
                "csv" if output.is_none() && io::stdout().is_terminal() => Format::CsvForTerminal,
                "csv" => Format::Csv,
                other => return Err(wrong("export", other, "`jsonl` or `csv`")),
            };
            match output {
                Some(output) => export_to_file(&path, format, output)?,
                None => match export(&path, Table::new(io::stdout().lock(), format)) {
                    Ok((report, _)) => report,
                    // A reader that has seen enough.
                    Err(InspectError::Write { source }) if source.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    Err(error) => return Err(error.into()),
                },
            }
        }
        None => {
            let report = Report::of(&path)?;
            if matches.get_flag("json") {
                let json = serde_json::to_string_pretty(&report).map_err(|error| {
                    Failure::new(Exit::Software, format!("cannot print the report as JSON: {error}"))
                })?;
                print(&safe_json(&json))?;
            } else {
                print(&report.to_string())?;
            }
            report
        }
    };
    let path = printable_path(&path);
    match report.fault() {
        Some(exit @ Exit::Data) => {
            Err(Failure::new(exit, format!("{path}: damaged event files, or files that are none, see above")))
        }
        Some(exit) => Err(Failure::new(exit, format!("{path}: not all of it could be read, see above"))),
        None => Ok(()),
    }
}

fn export_to_file(path: &Path, format: Format, output: &Path) -> Result<Report, Failure> {
    let draft = Draft::create(output)?;
    let (report, draft) = export(path, Table::new(draft, format)).map_err(|error| match error {
        InspectError::Write { source } => {
            Failure::new(Exit::of_output(&source), format!("cannot write {}: {source}", printable_path(output)))
        }
        error => error.into(),
    })?;
    draft.publish()?;
    Ok(report)
}

/// Writes the rows, and says on stderr what they lack.
fn export<W: io::Write>(path: &Path, mut table: Table<W>) -> Result<(Report, W), InspectError> {
    let report = Report::export(path, &mut table)?;
    let (output, rows, series) = table.finish().map_err(|source| InspectError::Write { source })?;
    for run in &report.runs {
        for file in &run.files {
            for fault in file.faults() {
                note(&format!("{}/{}: {fault}", printable(&run.name), printable(&file.name)));
            }
        }
    }
    report.left_out.iter().for_each(|left_out| note(&left_out.to_string()));
    note(&summary(&report, rows, series));
    Ok((report, output))
}

/// `752 points of 8 scalars; 231 taken back by later points or sessions; without rows: 4 histograms, 2 images`.
fn summary(report: &Report, rows: u64, series: u64) -> String {
    let (mut back, mut others) = (0, BTreeMap::new());
    for tag in report.runs.iter().flat_map(|run| &run.tags) {
        if tag.plugin == "scalars" {
            back += tag.count - tag.shown;
        } else {
            let plugin = if tag.plugin.is_empty() { "of no plugin" } else { tag.plugin.as_str() };
            *others.entry(printable(plugin)).or_insert(0) += 1;
        }
    }
    let counted = |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let mut text = format!("{} of {}", counted(rows, "point"), counted(series, "scalar"));
    if back > 0 {
        text.push_str(&format!("; {back} not shown by TensorBoard, such as those that a later session took back"));
    }
    if !others.is_empty() {
        let others: Vec<String> = others.iter().map(|(plugin, count)| format!("{count} {plugin}")).collect();
        text.push_str(&format!("; tags of other kinds, without rows: {}", others.join(", ")));
    }
    text
}
