//! Where a fault can be seen, read from the machines at that moment.

use std::process::{Command, Stdio};

use super::fault::{Fault, present};
use super::{cluster_file, inject};
use crate::lab::machine::failed;
use crate::lab::{Error, Lab};

/// A command that shows it, where it is run, and which lines of it tell.
struct Evidence {
    /// The machine; none for a file of the lab.
    machine: Option<String>,
    words: Vec<String>,
}

impl Evidence {
    fn on(machine: &str, words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { machine: Some(machine.to_owned()), words }
    }

    /// As a person types it; `here` is the command that reaches this lab.
    fn typed(&self, here: &str) -> String {
        let words = self.words.join(" ");
        self.machine
            .as_ref()
            .map_or_else(|| words.clone(), |machine| format!("{here} shell {machine} -- {words}"))
    }

    /// What it prints. A command that fails tells something, too: the fault may have been mended.
    fn seen(&self, lab: &Lab) -> Result<String, Error> {
        let (program, rest) =
            self.words.split_first().map_or(("true", &[][..]), |(first, rest)| (first, rest));
        let mut command = match &self.machine {
            Some(machine) => lab.on(machine).command(program),
            None => Command::new(program),
        };
        let output = command.args(rest).stdin(Stdio::null()).output();
        let output = output.map_err(|error| failed(&command, &error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Ok(text.trim_end().to_owned())
    }
}

/// What shows a fault, the plainest first.
fn evidence(lab: &Lab, fault: Fault) -> Result<Vec<Evidence>, Error> {
    let machine = fault.machine(&lab.layout);
    if cluster_file::is_in_it(fault) {
        let files =
            [lab.right_cluster_file(), cluster_file::path(lab)].map(|path| path.display().to_string());
        let words = ["diff", "-U1", &files[0], &files[1]].map(str::to_owned).to_vec();
        return Ok(vec![Evidence { machine: None, words }]);
    }
    if let Some(table) = inject::foreign_table(fault) {
        return Ok(vec![Evidence::on(machine, &["nft", "list", "table", "inet", table])]);
    }
    Ok(match fault {
        Fault::Save | Fault::Spoof => {
            let chains = inject::emptied_chains(lab, fault)?;
            let list = ["nft", "list", "chain"];
            let words = chains.iter().map(|[ip, table, name]| [&list[..], &[ip, table, name]].concat());
            words.map(|words| Evidence::on(machine, &words)).collect()
        }
        Fault::ConntrackFull => vec![
            Evidence::on(
                machine,
                &["sysctl", "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"],
            ),
            Evidence::on(machine, &["conntrack", "-S"]),
        ],
        Fault::BrNetfilter => {
            vec![Evidence::on(machine, &[&["sysctl"], &inject::BRIDGE_SETTINGS[..]].concat())]
        }
        Fault::Mtu => {
            let interfaces = inject::narrow_interfaces(lab);
            interfaces.iter().map(|name| Evidence::on(machine, &["ip", "-o", "link", "show", name])).collect()
        }
        Fault::StaleMac => {
            let mut all = Vec::new();
            for family in lab.layout.families() {
                let gateway = lab.layout.at(family).gateway.to_string();
                all.push(Evidence::on(machine, &["ip", "neigh", "show", &gateway]));
            }
            let home = &lab.layout.home().name;
            all.push(Evidence::on(home, &["ip", "-br", "link", "show", lab.layout.bridge]));
            all
        }
        _ => Vec::new(),
    })
}

/// Which fault there is, and where it can be seen: each command that shows it, and what it prints now. `here` is the command that
/// reaches this lab.
///
/// # Errors
/// There is none, or a command cannot be run.
pub fn reveal(lab: &Lab, here: &str) -> Result<String, Error> {
    let fault = present(lab).ok_or_else(|| {
        Error::refused(format!("there is no fault: '{here} start --fault random' makes one"))
    })?;
    let mut text = format!("{}, on {}: {}\n", fault.name(), fault.machine(&lab.layout), fault.about());
    for shown in evidence(lab, fault)? {
        text += &format!("\n$ {}\n{}\n", shown.typed(here), shown.seen(lab)?);
    }
    if let Some(expected) = expected(lab, fault) {
        text += &format!("\n{expected}\n");
    }
    Ok(text)
}

/// What would be there without the fault, where what is seen does not tell it.
fn expected(lab: &Lab, fault: Fault) -> Option<String> {
    let home = &lab.layout.home().name;
    match fault {
        Fault::Save | Fault::Spoof => Some("without the fault these chains have rules".to_owned()),
        Fault::ConntrackFull => Some(
            "the table is full: each new flow is counted under drop, and the kernel's log says \"table \
             full\""
                .to_owned(),
        ),
        Fault::BrNetfilter => Some("without the fault both are 1".to_owned()),
        Fault::Mtu => Some(
            "without the fault each MTU is 1500, as at the other end of the pipe (a bridge takes the \
             smallest MTU of its ports)"
                .to_owned(),
        ),
        Fault::StaleMac => Some(format!("the right MAC address is that of the bridge on {home}")),
        _ => None,
    }
}
