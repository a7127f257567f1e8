//! `trainer`, `trainer train`: the main job.

use std::ffi::OsStr;
use std::path::Path;

use clap::ArgMatches;

use super::{Failure, flags, path, signals};
use crate::config::{Cadence, LogFormat, Resolved, WarmStart};
use crate::exit::{Classify, Exit};
use crate::run::{self, Ended, Finished, FinishedRun, RunError, Start};
use crate::run_dir;
use crate::telemetry::{Console, duration_text, epochs};
use crate::train::FitError;
use crate::types::SystemClock;

pub(super) fn train(matches: &ArgMatches) -> Result<(), Failure> {
    let requests = signals::watch().map_err(|error| {
        Failure::new(
            Exit::Io,
            format!("cannot watch for signals: {error}; raise the limits of this user, or run again"),
        )
    })?;
    let resolved = flags::resolve(matches)?;
    let console = Console::start(resolved.config.quiet, resolved.config.log_format);
    for warning in &resolved.warnings {
        tracing::warn!("{warning}");
    }
    let mut progress = console.progress(resolved.config.epochs);
    let start = match path(matches, "fork-from") {
        Some(from) => Start::Fork(from.into()),
        None if matches.get_flag("fresh") => Start::Fresh,
        None => Start::Resume,
    };
    if matches!(start, Start::Fork(_)) && resolved.config.warm_start != WarmStart::None {
        let message = "--fork-from and --warm-start exclude each other: a run begins with the weights of one other run";
        return Err(Failure::new(Exit::Usage, message));
    }
    let place = run::place(&resolved, &SystemClock)?;
    let ended = run::run(place.path(), &resolved, &start, &mut progress, &requests);
    drop(progress);
    match ended {
        Ok(Ended::Finished(finished)) => {
            report(&finished, resolved.config.log_format);
            Ok(())
        }
        Ok(Ended::AlreadyFinished(already)) => {
            report_already(&already);
            Ok(())
        }
        Err(RunError::Fit(stopped @ FitError::Stopped { .. })) => {
            report_stopped(&stopped, place.path(), &resolved);
            Err(Failure::said(stopped.exit()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The last words of a run that was asked to stop: no error, and with them the way on.
fn report_stopped(stopped: &FitError, logdir: &Path, resolved: &Resolved) {
    let config = &resolved.config;
    let tensorboard = tensorboard(logdir, 0);
    if config.checkpoint_every == Cadence::Off {
        tracing::warn!("{stopped}, without a checkpoint, as they are off: the same command begins again");
        return;
    }
    let name = config.run_name.as_ref().filter(|template| template.tells_time()).and(logdir.file_name());
    let way_on = match name {
        None => "the same command goes on from there".to_owned(),
        Some(name) => {
            format!("the same command with --run-name {} goes on from there", quoted(name))
        }
    };
    let logdir = logdir.display();
    let words = match config.log_format {
        LogFormat::Json => "stopped".to_owned(),
        LogFormat::Text => {
            format!("{stopped}, with a checkpoint: {way_on}. What was logged so far:\n\n    {tensorboard}\n")
        }
    };
    tracing::info!(logdir = %logdir, tensorboard = %tensorboard, way_on, "{words}");
}

/// The run is there already, and left as it is.
fn report_already(finished: &FinishedRun) {
    let logdir = finished.logdir.display();
    let accuracy = finished.validation_accuracy;
    let came_to = accuracy.map_or_else(String::new, |a| format!(" with a validation accuracy of {:.2} %", a * 100.0));
    let after = finished.epochs.map_or_else(String::new, |count| format!(" after {}", epochs(count)));
    tracing::info!(
        accuracy,
        epochs = finished.epochs,
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

const TENSORBOARD: &str = "tensorboard";
/// TensorBoard keeps this many pictures of a tag unless told otherwise.
const TENSORBOARD_IMAGES: u64 = 10;

/// The command that shows this run beside its siblings.
fn tensorboard(logdir: &Path, image_steps: u64) -> String {
    let shown = run_dir::parent(logdir).unwrap_or(logdir);
    let is_flag = shown.as_os_str().as_encoded_bytes().starts_with(b"-");
    let shown = if is_flag { Path::new(".").join(shown) } else { shown.to_owned() };
    let mut command = format!("{} --logdir {}", viewer(), quoted(&shown));
    if image_steps > TENSORBOARD_IMAGES {
        command.push_str(&format!(" --samples_per_plugin images={image_steps}"));
    }
    command
}

/// What starts TensorBoard here: the one on the PATH, or else that of the checkout that the program was built in.
fn viewer() -> String {
    let program = std::env::current_exe().ok();
    viewer_of(std::env::var_os("PATH").as_deref(), program.as_deref(), std::env::current_dir().ok().as_deref())
}

fn viewer_of(path: Option<&OsStr>, program: Option<&Path>, here: Option<&Path>) -> String {
    let is_on_path = path.is_some_and(|path| std::env::split_paths(path).any(|dir| dir.join(TENSORBOARD).is_file()));
    let above = program.into_iter().flat_map(Path::ancestors).skip(1);
    let built = above.map(|dir| dir.join(".deps/venv/bin").join(TENSORBOARD)).find(|viewer| viewer.is_file());
    match built {
        Some(viewer) if !is_on_path => {
            let near = here.and_then(|here| viewer.strip_prefix(here).ok()).unwrap_or(&viewer);
            quoted(near)
        }
        _ => TENSORBOARD.to_owned(),
    }
}

/// A word as a shell would take it.
fn quoted(word: impl AsRef<OsStr>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    match word.as_ref().to_str() {
        Some(word) if !word.is_empty() && word.chars().all(plain) => word.to_owned(),
        Some(word) if !word.contains(char::is_control) => format!("'{}'", word.replace('\'', "'\\''")),
        // Bytes that are no text, or would steer the terminal.
        _ => format!("$'{}'", word.as_ref().as_encoded_bytes().escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn the_command_shows_the_run_beside_its_siblings() {
        let shown = |logdir: &str, image_steps| {
            let command = tensorboard(Path::new(logdir), image_steps);
            command.split_once(" --logdir ").unwrap().1.to_owned()
        };
        assert_eq!(shown("logs/fit", 5), "logs");
        assert_eq!(shown("fit", 0), ".");
        assert_eq!(shown("/fit", 0), "/fit");
        assert_eq!(shown("logs/fit/", 0), "logs");
        assert_eq!(shown(".", 0), ".");
        assert_eq!(shown("runs/..", 0), "runs/..");
        assert_eq!(shown("-runs/fit", 0), "./-runs");
        assert_eq!(shown("my logs/fit", 12), "'my logs' --samples_per_plugin images=12");
        assert_eq!(shown("it's/fit", 0), r"'it'\''s'");
        assert_eq!(shown("a\nb/fit", 0), r"$'a\nb'");
        assert_eq!(quoted(std::ffi::OsString::from_vec(b"a\xff'b".to_vec())), r"$'a\xff\'b'");
    }

    #[test]
    fn the_command_is_one_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let file = |path: &str| {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            std::fs::write(at(path), "").unwrap();
        };
        let path = std::env::join_paths([at("none"), at("bin")]).unwrap();
        let program = at("my code/target/release/trainer");
        let viewer = |here: &str| viewer_of(Some(&path), Some(&program), Some(&at(here)));
        assert_eq!(viewer("my code"), "tensorboard", "the usual name, for want of a better one");
        file("my code/.deps/venv/bin/tensorboard");
        assert_eq!(viewer("my code"), ".deps/venv/bin/tensorboard");
        assert_eq!(viewer("elsewhere"), format!("'{}'", at("my code/.deps/venv/bin/tensorboard").display()));
        file("bin/tensorboard");
        assert_eq!(viewer("my code"), "tensorboard");
        assert_eq!(viewer_of(None, None, None), "tensorboard");
    }
}
