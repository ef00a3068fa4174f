//! This program, as it is run for a lab, and as it becomes another.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use dunnat::control::own_program;
use dunnat::lab;

use crate::cli::Failure;

/// The command that reaches this lab.
pub(super) fn invocation(lab: &lab::Lab) -> String {
    match lab.place.name() {
        "lab" => "dunnat lab".to_owned(),
        name => format!("dunnat lab --lab {name}"),
    }
}

pub(super) fn program() -> PathBuf {
    own_program().unwrap_or_else(|_| "/proc/self/exe".into())
}

/// Becomes that program. Comes back only with what kept it from that.
pub(super) fn become_it(command: &mut Command) -> Failure {
    let error = command.exec();
    Failure::Refused(format!("{}: {error}", command.get_program().to_string_lossy()))
}
