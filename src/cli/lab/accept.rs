//! `lab accept`: the acceptance, and its report.

use std::io::{self, IsTerminal as _};

use clap::Args;
use dunnat::lab::accept::{Asked, Expected, Outcome, Part, Report, accept};
use dunnat::lab::{self, Interrupt};
use dunnat::text::{BAD, GOOD, Paint, UNSURE, counted};

use super::start::WorkArgs;
use crate::cli::say::say;
use crate::cli::{Failure, coloured, print};

#[derive(Args)]
pub(super) struct Accept {
    #[command(flatten)]
    how: WorkArgs,
    /// Fail unless dunnat works this way: nft-queue, xt-queue, no-queue, ct-mark-by-verdict, ct-mark-by-rule;
    /// may be repeated
    #[arg(long, value_name = "WAY")]
    expect: Vec<Expected>,
    /// Only this part: requests, outbound, transfers, many, udp, errors; may be repeated
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Print JSON: an object with all claims, their evidence and faults
    #[arg(long)]
    json: bool,
}

impl Accept {
    pub(super) fn run(&self, lab: &lab::Lab, interrupt: &Interrupt) -> Result<(), Failure> {
        let shown = io::stderr().is_terminal();
        let progress = |what: &str| {
            if shown {
                // Who cannot write here has nobody who waits.
                let _ = say(format_args!("... {what}"));
            }
        };
        let asked = Asked { expected: self.expect.clone(), only: self.only.clone() };
        let report = accept(lab, &self.how.start(None), &asked, interrupt, &progress)?;
        let text = if self.json {
            serde_json::to_string_pretty(&report)
                .map(|text| text + "\n")
                .map_err(|error| Failure::Refused(format!("cannot write the report as JSON: {error}")))?
        } else {
            in_words(&report)
        };
        print(&text)?;
        match report.counts() {
            (1.., 0, _) => Ok(()),
            _ => Err(Failure::Refused(format!("not accepted: {}", report.summary()))),
        }
    }
}

fn in_words(report: &Report) -> String {
    let paint = Paint::new(coloured(io::stdout().is_terminal()));
    let nodes = counted(report.nodes as u64, "node");
    let mut text = format!("acceptance of '{}': {nodes}, by {}\n\n", report.lab, report.by);
    for claim in &report.claims {
        let style = match claim.outcome {
            Outcome::Passed => GOOD,
            Outcome::Failed => BAD,
            Outcome::NotApplicable(_) => UNSURE,
        };
        let said = claim.to_string();
        let (word, rest) = said.split_at(said.len().min(4));
        text += &format!("{}{rest}\n", paint.styled(word, style));
    }
    text + &format!("\n{}\n", report.summary())
}
