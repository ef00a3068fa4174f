//! This program, as it becomes another.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::cli::Failure;

/// Becomes that program. Comes back only with what kept it from that.
pub(super) fn become_it(command: &mut Command) -> Failure {
    let error = command.exec();
    Failure::Refused(format!("{}: {error}", command.get_program().to_string_lossy()))
}
