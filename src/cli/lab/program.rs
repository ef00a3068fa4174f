//! This program, as it is run for a lab, and as it becomes another.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use dunnat::control::own_program;

use crate::cli::Failure;

pub(super) fn program() -> PathBuf {
    own_program().unwrap_or_else(|_| "/proc/self/exe".into())
}

/// Becomes that program. Comes back only with what kept it from that.
pub(super) fn become_it(command: &mut Command) -> Failure {
    let error = command.exec();
    Failure::Refused(format!("{}: {error}", command.get_program().to_string_lossy()))
}
