//! The dunnat program: what was typed → what to do → an exit code.

// They panic where nothing can be written.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
