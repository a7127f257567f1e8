//! `trainer`, `trainer train`: the main job.

use std::path::Path;

use clap::ArgMatches;

use super::{Failure, flags, signals};
use crate::config::{Cadence, LogFormat, WarmStart};
use crate::exit::Exit;
use crate::run::{self, Already, Ended, Finished, RunError, Start};
use crate::run_dir;
use crate::telemetry::{Console, duration_text, epochs};
use crate::train::FitError;
use crate::types::SystemClock;

pub(super) fn train(matches: &ArgMatches) -> Result<(), Failure> {
    let resolved = flags::resolve(matches)?;
    let console = Console::start(resolved.config.quiet, resolved.config.log_format);
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    let stop =
        signals::watch().map_err(|error| Failure::new(Exit::Software, format!("cannot watch for signals: {error}")))?;
    let mut progress = console.progress(resolved.config.epochs);
    let start = match matches.get_one::<String>("fork-from") {
        Some(from) => Start::Fork(from.into()),
        None if matches.get_flag("fresh") => Start::Fresh,
        None => Start::Resume,
    };
    if matches!(start, Start::Fork(_)) && resolved.config.warm_start != WarmStart::None {
        let message = "--fork-from and --warm-start exclude each other: a run begins with the weights of one other run";
        return Err(Failure::new(Exit::Usage, message));
    }
    let logdir = run::place(&resolved, &SystemClock)?;
    let ended = run::run(&logdir, &resolved, &start, &mut progress, &stop);
    drop(progress);
    match ended {
        Ok(Ended::Finished(finished)) => {
            report(&finished, resolved.config.log_format);
            Ok(())
        }
        Ok(Ended::Already(already)) => {
            report_already(&already);
            Ok(())
        }
        Err(error @ RunError::Fit(FitError::Stopped { .. })) => {
            let command = tensorboard(&logdir, 0);
            let named = resolved.config.run_name.as_ref().and(logdir.file_name()).map(|name| name.to_string_lossy());
            let kept = match (resolved.config.checkpoint_every, named) {
                (Cadence::Off, _) => {
                    "no checkpoint was written, as they are off: the same command begins again".to_owned()
                }
                (_, None) => "a checkpoint was written: the same command goes on from here".to_owned(),
                // The name may have the time in it.
                (_, Some(name)) => format!(
                    "a checkpoint was written: the same command with --run-name {} goes on from here",
                    quoted(&name)
                ),
            };
            let message = format!("{error}; {kept}. What was logged so far: {command}");
            Err(Failure::new(crate::exit::Classify::exit(&error), message))
        }
        Err(error) => Err(error.into()),
    }
}

/// The run is there already, and left as it is.
fn report_already(already: &Already) {
    let logdir = already.logdir.display();
    let accuracy = already.validation_accuracy;
    let came_to = accuracy.map_or_else(String::new, |a| format!(" with a validation accuracy of {:.2} %", a * 100.0));
    let after = already.epochs.map_or_else(String::new, |count| format!(" after {}", epochs(count)));
    tracing::info!(
        accuracy,
        epochs = already.epochs,
        logdir = %logdir,
        "the run in {logdir} is finished{after}{came_to}, and left as it is; more --epochs go on, --fresh starts over"
    );
}

/// The last words of a run that went well.
fn report(finished: &Finished, format: LogFormat) {
    let last = &finished.outcome.last;
    let logdir = finished.logdir.display();
    let tensorboard = tensorboard(&finished.logdir, finished.image_steps);
    let weights = finished.logdir.join("model.safetensors");
    let better = finished.best.as_ref().filter(|best| best.epoch <= last.epoch);
    if finished.lost_entries > 0 {
        tracing::warn!("{} entries of the event log could not be written; the curves have gaps", finished.lost_entries);
    }
    let words = match format {
        LogFormat::Json => "finished".to_owned(),
        LogFormat::Text => format!(
            "\nValidation accuracy {:.2} % after {}, in {}. Logs are in {logdir}, the weights in {}{}. The event log \
             takes {}. To watch what was learned:\n\n    {tensorboard}\n",
            last.validation.accuracy * 100.0,
            epochs(last.epoch + 1),
            duration_text(finished.seconds),
            weights.display(),
            better.map_or_else(String::new, |best| format!(
                ", those of the best epoch ({}, {:.2} %) beside them in {}",
                best.epoch,
                best.validation_accuracy * 100.0,
                best.weights
            )),
            finished.log_bytes,
        ),
    };
    tracing::info!(
        accuracy = last.validation.accuracy,
        loss = last.validation.loss,
        best_accuracy = finished.outcome.best_validation_accuracy,
        iterations = finished.outcome.iterations,
        seconds = finished.seconds,
        logdir = %logdir,
        weights = %weights.display(),
        tensorboard = %tensorboard,
        lost_entries = finished.lost_entries,
        log_bytes = finished.log_bytes.total(),
        log_bytes_by_kind = %finished.log_bytes,
        "{words}"
    );
}

/// TensorBoard keeps this many pictures of a tag unless told otherwise.
const TENSORBOARD_IMAGES: u64 = 10;

/// The command that shows this run beside its siblings.
fn tensorboard(logdir: &Path, image_steps: u64) -> String {
    let text = run_dir::parent(logdir).unwrap_or(logdir).to_string_lossy();
    let text = if text.starts_with('-') { format!("./{text}") } else { text.into_owned() };
    let mut command = format!("tensorboard --logdir {}", quoted(&text));
    if image_steps > TENSORBOARD_IMAGES {
        command.push_str(&format!(" --samples_per_plugin images={image_steps}"));
    }
    command
}

/// A word as a shell would take it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_shows_the_run_beside_its_siblings() {
        assert_eq!(tensorboard(Path::new("logs/fit"), 5), "tensorboard --logdir logs");
        assert_eq!(tensorboard(Path::new("fit"), 0), "tensorboard --logdir .");
        assert_eq!(tensorboard(Path::new("/fit"), 0), "tensorboard --logdir /fit");
        assert_eq!(tensorboard(Path::new("logs/fit/"), 0), "tensorboard --logdir logs");
        assert_eq!(tensorboard(Path::new("."), 0), "tensorboard --logdir .");
        assert_eq!(tensorboard(Path::new("runs/.."), 0), "tensorboard --logdir runs/..");
        assert_eq!(tensorboard(Path::new("-runs/fit"), 0), "tensorboard --logdir ./-runs");
        assert_eq!(
            tensorboard(Path::new("my logs/fit"), 12),
            "tensorboard --logdir 'my logs' --samples_per_plugin images=12"
        );
    }
}
