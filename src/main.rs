//! Parses, dispatches, and turns an error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    trainer::cli::main(std::env::args_os())
}
