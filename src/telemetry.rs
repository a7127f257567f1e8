//! Output during training: tracing events and a progress bar, both on stderr.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;
use crate::terminal::printable_lines;
use crate::train::{EpochReport, Metrics, Progress, Skip};

/// The console: lines of text or JSON, and on a terminal a bar below them.
#[derive(Clone)]
pub struct Console {
    bar: ProgressBar,
    /// Whether there is a terminal to draw the bar on.
    draw: bool,
}

impl Console {
    /// Sets up tracing for the whole process; a second call keeps the first set-up.
    pub fn start(quiet: bool, format: LogFormat) -> Console {
        let draw = !quiet && format == LogFormat::Text && io::stderr().is_terminal();
        // Hidden until there is something to show.
        let console = Console { bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()), draw };
        let level = if quiet { Level::WARN } else { Level::INFO };
        let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(console.clone());
        let _ = match format {
            LogFormat::Text => tracing::subscriber::set_global_default(builder.event_format(Plain).finish()),
            LogFormat::Json => tracing::subscriber::set_global_default(builder.json().with_target(false).finish()),
        };
        console
    }

    /// Progress of a run of `epochs` epochs.
    pub fn progress(&self, epochs: u64) -> TrainingProgress {
        TrainingProgress { bar: self.bar.clone(), draw: self.draw, epochs }
    }
}

/// Lines go above the bar. A closed stderr is no reason to stop training.
impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bar.suspend(|| {
            let _ = io::stderr().write_all(bytes);
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = Console;

    fn make_writer(&'a self) -> Console {
        self.clone()
    }
}

/// Message alone; what is not information says what it is, and fields of warnings and errors follow. Nothing in them steers
/// the terminal.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let parts = Parts { message: printable_lines(&parts.message), fields: printable_lines(&parts.fields) };
        match *event.metadata().level() {
            Level::ERROR => writeln!(writer, "error: {}{}", parts.message, parts.fields),
            Level::WARN => writeln!(writer, "warning: {}{}", parts.message, parts.fields),
            _ => writeln!(writer, "{}", parts.message),
        }
    }
}

#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            _ => write!(self.fields, ": {value:?}"),
        };
    }
}

/// A bar for the epoch that is running, a line for each that is done.
pub struct TrainingProgress {
    bar: ProgressBar,
    draw: bool,
    epochs: u64,
}

impl Progress for TrainingProgress {
    fn epoch_starts(&mut self, epoch: u64, samples: usize) {
        self.bar.reset();
        self.bar.set_length(samples as u64);
        // Shorter than 80 columns, with room for the `^C` that a terminal echoes: a bar that wraps cannot be redrawn.
        let template = "{prefix} {bar:12} {percent:>3} %  {per_sec}  {eta} left  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            let style = style.with_key("per_sec", |state: &indicatif::ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{:.0} images/s", state.per_sec());
            });
            self.bar.set_style(style.progress_chars("━╸ "));
        }
        self.bar.set_prefix(format!("epoch {}/{}", epoch + 1, self.epochs));
        if std::mem::take(&mut self.draw) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
    }

    fn samples_done(&mut self, samples: usize, metrics: Option<Metrics>) {
        if let Some(Metrics { loss, accuracy }) = metrics {
            self.bar.set_message(format!("loss {loss:.3}  {:.1} % right", accuracy * 100.0));
        }
        self.bar.inc(samples as u64);
    }

    fn step_skipped(&mut self, step: u64, why: Skip) {
        // What is left out after a rollback was told with it.
        if why == Skip::NotFinite {
            tracing::warn!("step {step} is skipped and changes nothing: {why}");
        }
    }

    fn epoch_ends(&mut self, report: &EpochReport) {
        self.bar.set_message("");
        let (train, validation) = (report.train, report.validation);
        tracing::info!(
            epoch = report.epoch + 1,
            epochs = self.epochs,
            loss = train.loss,
            accuracy = train.accuracy,
            val_loss = validation.loss,
            val_accuracy = validation.accuracy,
            seconds = report.seconds,
            images_per_second = report.images_per_second,
            "epoch {}/{}  loss {:.4}  accuracy {:.2} %  val_loss {:.4}  val_accuracy {:.2} %  {:.1} s  {:.0} images/s",
            report.epoch + 1,
            self.epochs,
            train.loss,
            train.accuracy * 100.0,
            validation.loss,
            validation.accuracy * 100.0,
            report.seconds,
            report.images_per_second,
        );
        if report.epoch + 1 == self.epochs {
            self.bar.finish_and_clear();
        }
    }
}

impl Drop for TrainingProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `1 epoch`, `5 epochs`.
pub fn epochs(count: u64) -> String {
    if count == 1 { "1 epoch".to_owned() } else { format!("{count} epochs") }
}

/// `1 min 52 s`, `12.3 s`.
pub fn duration_text(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_to_read() {
        let texts = [0.0, 12.34, 59.96, 112.0, 3725.0].map(duration_text);
        assert_eq!(texts, ["0.0 s", "12.3 s", "60.0 s", "1 min 52 s", "1 h 02 min"]);
    }
}
