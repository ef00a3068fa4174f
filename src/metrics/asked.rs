//! Who asks for what.

use crate::http::{Answer, Request, Status};

const INDEX: &str = "dunnat metrics: see /metrics\n";
/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4";

/// The answer to who asks; `text` makes the metrics.
pub fn answer(request: &Request, text: impl FnOnce() -> String) -> Answer {
    // Prometheus may be told to send parameters; they mean nothing here.
    match &*request.path {
        "/metrics" => Answer::new(Status::Ok, TEXT, text()),
        "/" => Answer::new(Status::Ok, "text/plain", INDEX),
        _ => Answer::refusal(Status::NotFound),
    }
}
