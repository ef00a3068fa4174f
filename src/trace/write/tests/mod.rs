mod events;
mod failing;
mod files;

use std::path::Path;

use jiff::tz::TimeZone;

use super::*;
use crate::trace::{Event, Text};

fn plain() -> Text {
    Text::new(TimeZone::UTC, false, false)
}

fn rendered(format: Format, events: &[Event]) -> Vec<u8> {
    let mut rendering = Rendering::new(format, &plain().dated()).unwrap();
    let mut out = Vec::new();
    rendering.begin(&mut out);
    for event in events {
        rendering.event(event, &mut out).unwrap();
    }
    out
}

/// What the real tshark makes of a file.
fn tshark(file: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(arguments)
        .env("HOME", "/nonexistent")
        .output()
        .expect("tshark, which scripts/setup installs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("appears to be damaged"), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn to(path: &Path, format: Format, size: Option<u64>) -> Destination {
    let size = size.map(|size| size.try_into().unwrap());
    Destination { path: Some(path.to_owned()), format, text: plain().dated(), size, keep: 2 }
}
