use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use clap::{Args, Subcommand};
use dunnat::cluster::TagBy;
use dunnat::lab::accept::{Asked, Expected, Outcome, Part, Report, accept};
use dunnat::lab::faults::{self, Fault};
use dunnat::lab::running::{self, By, Start, Stopped, Tracing};
use dunnat::lab::tools::Missing;
use dunnat::lab::{
    self, Anchor, Choice, Error, Families, Interrupt, NameSet, Pace, Pipes, Place, tools, topology, words,
};
use dunnat::text::{BAD, GOOD, Paint, UNSURE, counted};

use super::{Failure, coloured, print};

/// A cluster to try things on: real packets and servers in network namespaces, nothing that reaches the outside
///
/// It has a public LAN with a workstation, one to nine nodes, and two guests. Without root it is in a user namespace of its own.
/// `up` builds it, `start` starts dunnat on every node, `accept` proves that all works, `down` removes everything.
#[derive(Args)]
pub(super) struct Lab {
    /// The lab's name, to have several at once: letters, digits and '_'
    #[arg(long = "lab", value_name = "NAME", default_value = "lab", env = "DUNNAT_LAB", global = true)]
    name: String,
    /// How many times slower than usual this machine may be, as an emulated one is: wait longer, and send less
    #[arg(long, value_name = "TIMES", default_value = "1", env = "DUNNAT_LAB_SLOW", global = true)]
    slow: Pace,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build it: public LAN, workstation, nodes, guests, and their servers
    Up(Up),
    /// Run dunnat on every node, or load the pure-kernel ruleset instead
    Start(Starting),
    /// Stop it, and check that the rules of every node are as before
    ///
    /// Fails also if an inside address was seen on the public LAN since `start`.
    Stop,
    /// Start, prove from captures and conntrack that all works, and stop
    ///
    /// What runs already is proven as it is, and goes on. Exit status: 0 if all claims are shown, else 1.
    Accept(Accept),
    /// Remove everything; harmless when there is nothing
    Down,
    /// What is there, and what runs
    Status,
    /// A shell, or one command, on a machine of the lab
    Shell(Shell),
    /// Join what all nodes have traced, as `dunnat path` does, with its options
    ///
    /// The traces are those of `start --trace-json`.
    Path(Passed),
    /// See what a node decides, as `dunnat trace` does, with its options
    Trace(OfNode),
    /// Be a node that holds each packet until you press Enter, as `dunnat step` is, with its options
    Step(OfNode),
    /// Say whether a node would work on its machine, as `dunnat doctor` does, with its options
    Doctor(OfNode),
    /// Tell what would happen to a packet in this cluster, as `dunnat explain` does, with its options
    Explain(Passed),
    /// Say which fault `start --fault` has made, and show it
    Reveal,
}

#[derive(Args)]
struct Up {
    /// How many nodes, from 1 to 9
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Which names and addresses, plain or other: `other` builds the same cluster with all of them changed
    #[arg(long, value_name = "WHICH", default_value = "plain")]
    names: NameSet,
    /// What the cluster speaks: 4, 6 or both
    #[arg(long, value_name = "WHICH", default_value = "both")]
    family: Families,
    /// How nodes know each other, the cluster file's tag_by: mac, pipe or dscp
    #[arg(long, value_name = "WHAT", default_value = "mac", value_parser = tag_by)]
    tag_by: TagBy,
    /// Pipes are 802.1Q devices, or there is no lab [default: where the kernel has them]
    #[arg(long, conflicts_with = "no_vlan")]
    vlan: bool,
    /// Pipes are plain veth pairs
    #[arg(long)]
    no_vlan: bool,
}

fn tag_by(text: &str) -> Result<TagBy, String> {
    words::value(text, &TagBy::ALL)
}

#[derive(Args)]
struct WorkArgs {
    /// Who translates: dunnat; kernel, the pure ruleset; or shadow, that ruleset while dunnat looks on
    #[arg(long, value_name = "WHO", default_value = "dunnat")]
    by: By,
    /// Write what each node decides as text
    #[arg(long, group = "tracing")]
    trace: bool,
    /// The same as JSON, for `path`
    #[arg(long, group = "tracing")]
    trace_json: bool,
    /// The same as packets, for Wireshark
    #[arg(long, group = "tracing")]
    trace_pcapng: bool,
    /// The program that the nodes run, to try another build [default: this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// More options for `dunnat run`, as in `-- --full --workers 1`
    #[arg(last = true, value_name = "OPTIONS OF RUN")]
    options: Vec<String>,
}

#[derive(Args)]
struct Starting {
    #[command(flatten)]
    how: WorkArgs,
    /// Make one thing wrong, on the node that the first guest lives on, or on that guest: a name that `--fault help` lists, or
    /// `random`, which does not say what it is
    #[arg(long, value_name = "FAULT")]
    fault: Option<String>,
}

#[derive(Args)]
struct Accept {
    #[command(flatten)]
    how: WorkArgs,
    /// Fail if it is done in another way: nft-queue, xt-queue, no-queue, ct-mark-by-verdict, ct-mark-by-rule; may be
    /// repeated
    #[arg(long, value_name = "WAY")]
    expect: Vec<Expected>,
    /// Only this part: calls, outbound, transfers, many, udp, errors; may be repeated
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Print JSON: an object with all claims, their evidence and faults
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Shell {
    /// The machine, as `status` shows them
    machine: String,
    /// The command [default: a shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Args)]
struct Passed {
    /// Options and arguments of that verb
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

#[derive(Args)]
struct OfNode {
    /// The node
    node: String,
    /// Options and arguments of that verb
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Lab {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (home, needs_anchor) = lab::home()?;
        let place = Place::new(&self.name, &home)?;
        if needs_anchor {
            return self.without_root(&place);
        }
        // Those that become another program leave signals to that.
        let interrupt = match &self.verb {
            Verb::Up(_) | Verb::Down | Verb::Start(_) | Verb::Stop | Verb::Accept(_) => Interrupt::watch()
                .map_err(|error| Failure::Refused(format!("signals cannot be caught: {error}")))?,
            _ => Interrupt::default(),
        };
        let outcome = self.inside(place, &interrupt);
        match (outcome, interrupt.check()) {
            // What then failed did so because of that.
            (Err(_), Err(interrupted)) => Err(interrupted.into()),
            (outcome, _) => outcome,
        }
    }

    /// What the verb does, as root.
    fn inside(&self, place: Place, interrupt: &Interrupt) -> Result<(), Failure> {
        match &self.verb {
            Verb::Up(up) => self.up(place, up),
            Verb::Down => down(&place, self.slow),
            Verb::Status if !place.file("lab").exists() => {
                print(&format!("there is no lab '{}'\n", place.name()))
            }
            verb => {
                let lab = lab::Lab::open(place, self.slow)?;
                match verb {
                    Verb::Up(_) | Verb::Down => Ok(()),
                    Verb::Start(starting) => start(&lab, starting),
                    Verb::Stop => stop(&lab),
                    Verb::Accept(accept) => accept.run(&lab, interrupt),
                    Verb::Status => status(&lab),
                    Verb::Shell(shell) => shell.run(&lab),
                    Verb::Path(passed) => path(&lab, passed),
                    Verb::Trace(of) => of.trace(&lab),
                    Verb::Step(of) => of.on_its_machine(&lab, "step"),
                    Verb::Doctor(of) => of.on_its_machine(&lab, "doctor"),
                    Verb::Explain(passed) => {
                        let mut explain = Command::new(program());
                        explain.args(["explain", "--config"]).arg(lab.file("cluster.toml"));
                        Err(become_it(explain.args(&passed.options)))
                    }
                    Verb::Reveal => print(&faults::reveal(&lab, &invocation(&lab))?),
                }
            }
        }
    }

    /// Everything is done inside of the lab's own namespaces; here they are made, entered, and given up.
    fn without_root(&self, place: &Place) -> Result<(), Failure> {
        let anchor = match (Anchor::of(place), &self.verb) {
            (Some(anchor), Verb::Down) => {
                // What serves is stopped in good order before all ends with its namespaces.
                let program = program();
                let mut inside = anchor.command(place, &program);
                let stopped = inside.args(std::env::args_os().skip(1)).status();
                anchor.end(place, self.slow)?;
                place.remove_dir()?;
                return match stopped {
                    Ok(status) if status.success() => Ok(()),
                    _ => {
                        Err(Failure::Refused("the lab is gone, but not in good order: see above".to_owned()))
                    }
                };
            }
            (Some(anchor), _) => anchor,
            (None, Verb::Up(_)) => {
                // One that was killed, or that the machine's last start left behind.
                place.remove_dir()?;
                let anchor = Anchor::start(place)?;
                let status = anchor.command(place, &program()).args(std::env::args_os().skip(1)).status();
                return match status {
                    Ok(status) if status.success() => Ok(()),
                    other => {
                        anchor.end(place, self.slow)?;
                        // What went wrong has been said.
                        std::process::exit(other.ok().and_then(|status| status.code()).unwrap_or(1));
                    }
                };
            }
            (None, Verb::Down | Verb::Status) => {
                place.remove_dir()?;
                return print(&format!("there is no lab '{}'\n", place.name()));
            }
            (None, _) => {
                return Err(Error::Refused(format!(
                    "there is no lab '{}' of yours: build it with 'dunnat lab up'",
                    place.name()
                ))
                .into());
            }
        };
        Err(become_it(anchor.command(place, &program()).args(std::env::args_os().skip(1))))
    }

    fn up(&self, place: Place, up: &Up) -> Result<(), Failure> {
        let pipes = match (up.tag_by, up.vlan, up.no_vlan) {
            (TagBy::Pipe, true, _) => {
                let text = "--tag-by pipe has veth pairs for pipes, one to each other node: no --vlan";
                return Err(Failure::Usage(text.to_owned()));
            }
            (TagBy::Pipe, ..) | (_, _, true) => Pipes::Veth,
            (_, insists, _) => match topology::trouble_with_vlan(&place)? {
                None => Pipes::Vlan,
                Some(_) if !insists => Pipes::Veth,
                Some(trouble) => {
                    return Err(Error::Refused(format!(
                        "--vlan: this kernel has no 802.1Q devices ({trouble}). Its module is 8021q (CONFIG_VLAN_8021Q); with \
                         --no-vlan the pipes are plain veth pairs"
                    ))
                    .into());
                }
            },
        };
        let missing = tools::missing_tools()?;
        let choice = Choice {
            nodes: usize::from(up.nodes),
            names: up.names,
            families: up.family,
            tag_by: up.tag_by,
            pipes,
        };
        let lab = lab::Lab::up(place, choice, self.slow)?;
        let (layout, here) = (&lab.layout, invocation(&lab));
        let called = layout.nodes.last().and_then(|node| node.public.iter().next());
        let url = called.map_or_else(String::new, |address| url(*address, layout.guests[0].service_port));
        let mut text = format!("the lab '{}' is up\n\n{}\n", lab.place.name(), lab.picture());
        text += &format!("cluster file: {}\n", lab.file("cluster.toml").display());
        text +=
            &format!("next:         {here} start    then    {here} shell {} -- curl {url}\n", layout.client);
        text += &format!("or prove it:  {here} accept\n");
        for Missing { program, package, what } in missing {
            log::warn!("{program} is not installed (Debian's package {package}), so without it: {what}");
        }
        print(&text)
    }
}

/// `http://ADDRESS:PORT/`, without the port that is meant anyway.
fn url(address: std::net::IpAddr, port: u16) -> String {
    let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    if port == 80 { format!("http://{host}/") } else { format!("http://{host}:{port}/") }
}

/// How this lab is called from a command line.
fn invocation(lab: &lab::Lab) -> String {
    match lab.place.name() {
        "lab" => "dunnat lab".to_owned(),
        name => format!("dunnat lab --lab {name}"),
    }
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into())
}

/// Becomes that program. Comes back only with what kept it from that.
fn become_it(command: &mut Command) -> Failure {
    let error = command.exec();
    Failure::Refused(format!("{}: {error}", command.get_program().to_string_lossy()))
}

impl WorkArgs {
    fn start(&self, fault: Option<Fault>) -> Start {
        let tracing = match (self.trace, self.trace_json, self.trace_pcapng) {
            (true, ..) => Some(Tracing::Text),
            (_, true, _) => Some(Tracing::Json),
            (.., true) => Some(Tracing::Packets),
            _ => None,
        };
        Start {
            by: self.by,
            tracing,
            fault,
            options: self.options.clone(),
            program: self.program.clone().unwrap_or_else(program),
        }
    }
}

impl Accept {
    fn run(&self, lab: &lab::Lab, interrupt: &Interrupt) -> Result<(), Failure> {
        let shown = io::stderr().is_terminal();
        let progress = |what: &str| {
            if shown {
                // Who cannot write here has nobody who waits.
                let _ = super::say::say(format_args!("... {what}"));
            }
        };
        let asked = Asked { expected: self.expect.clone(), only: self.only.clone() };
        let report = accept(lab, &self.how.start(None), &asked, interrupt, &progress)?;
        let text = if self.json {
            serde_json::to_string_pretty(&report)
                .map(|text| text + "\n")
                .map_err(|error| Failure::Refused(format!("the report cannot be written as JSON: {error}")))?
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

fn start(lab: &lab::Lab, starting: &Starting) -> Result<(), Failure> {
    let hidden = starting.fault.as_deref() == Some("random");
    let fault = match starting.fault.as_deref() {
        None => None,
        Some("help") => return print(&faults::list()),
        Some("random") => Some(faults::random(lab)?),
        Some(name) => Some(name.parse().map_err(|fault| {
            Failure::Usage(format!("--fault {name}: {fault}; --fault help tells what each of them is"))
        })?),
    };
    if fault.is_some() && starting.how.by != By::Dunnat {
        return Err(Failure::Usage("--fault is for --by dunnat".to_owned()));
    }
    let mut how = starting.how.start(fault);
    if hidden || fault == Some(Fault::Save) {
        // That fault is in rules that save ct marks. Where it may be any, all of them have those rules, or it would show.
        how.options.extend(["--force-fallback", "ctmark"].map(str::to_owned));
    }
    running::start(lab, &how)?;
    let nodes: Vec<&str> = lab.layout.nodes.iter().map(|node| &*node.name).collect();
    let mut text = format!("{} translates on: {}\n", how.by.name(), nodes.join(" "));
    if let Some(tracing) = how.tracing.filter(|_| how.by != By::Kernel) {
        text += &format!("traces: {}/NODE.{}\n", lab.place.dir().display(), tracing.extension());
    }
    match fault {
        Some(_) if hidden => {
            text += &format!(
                "something is wrong on {}, or on {} that lives there: find out what, then: {} reveal\n",
                lab.layout.home().name,
                lab.layout.guests[0].name,
                invocation(lab)
            );
        }
        Some(fault) => {
            text += &format!("with a fault on {}: {}\n", fault.machine(&lab.layout), fault.about());
        }
        None => {}
    }
    print(&text)
}

fn stop(lab: &lab::Lab) -> Result<(), Failure> {
    let Some(Stopped { by, faults, .. }) = running::stop(lab)? else {
        return print(&format!("nothing runs in the lab '{}'\n", lab.place.name()));
    };
    if !faults.is_empty() {
        for fault in &faults {
            log::error!("{fault}");
        }
        return Err(Error::Refused("stopped, but not in good order: see above".to_owned()).into());
    }
    let nodes: Vec<&str> = lab.layout.nodes.iter().map(|node| &*node.name).collect();
    print(&format!("{} stopped on: {}. The rules of every node are as before\n", by.name(), nodes.join(" ")))
}

fn down(place: &Place, pace: Pace) -> Result<(), Failure> {
    if !place.is_taken()? {
        return print(&format!("there is no lab '{}'\n", place.name()));
    }
    // A node may have things outside of its namespace to put away (its socket): let it end in good order.
    let stopped = match lab::Lab::open(place.clone(), pace) {
        Ok(lab) => running::stop(&lab),
        Err(_) => Ok(None),
    };
    topology::tear_down(place, pace)?;
    print(&format!("the lab '{}' is gone\n", place.name()))?;
    let faults = match stopped {
        Ok(stopped) => stopped.map(|stopped| stopped.faults).unwrap_or_default(),
        Err(error) => vec![error.to_string()],
    };
    for fault in &faults {
        log::error!("{fault}");
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::Refused("but not in good order: see above".to_owned()).into())
}

fn status(lab: &lab::Lab) -> Result<(), Failure> {
    let mut text = format!("the lab '{}' is up\n\n{}\n", lab.place.name(), lab.picture());
    text += &format!("cluster file: {}\n", lab.file("cluster.toml").display());
    match running::running(lab) {
        None => text += "nothing translates yet\n",
        Some(By::Kernel) => text += "the pure-kernel ruleset is loaded on every node\n",
        Some(by) => {
            for node in &lab.layout.nodes {
                let log = lab.file(&format!("{}.log", node.name));
                let log = log.display();
                text += &match running::process(lab, node) {
                    Some(pid) => format!("{}: {} runs, process {pid}, log {log}\n", node.name, by.name()),
                    None => format!("{}: {} is gone, log {log}\n", node.name, by.name()),
                };
            }
        }
    }
    print(&text)
}

impl Shell {
    fn run(&self, lab: &lab::Lab) -> Result<(), Failure> {
        let machines: Vec<&str> = [lab.layout.lan].into_iter().chain(lab.layout.machines()).collect();
        if !machines.contains(&&*self.machine) {
            return Err(Failure::Usage(format!(
                "no machine '{}' in the lab '{}'. There are: {}",
                self.machine,
                lab.place.name(),
                machines.join(" ")
            )));
        }
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &lab.place.namespace(&self.machine)]);
        if let Some((program, rest)) = self.command.split_first() {
            return Err(become_it(inside.arg(program).args(rest)));
        }
        // Its own prompt, behind whatever is usual here.
        let prompt = format!("[{}] {} \\w \\$ ", lab.place.name(), self.machine);
        let file = lab.file("bashrc");
        let text = "[[ ! -r ~/.bashrc ]] || source ~/.bashrc\nPS1=$DUNNAT_LAB_PROMPT\n";
        fs::write(&file, text).map_err(|source| Error::File { path: file.clone(), source })?;
        Err(become_it(
            inside.arg("bash").arg("--rcfile").arg(file).arg("-i").env("DUNNAT_LAB_PROMPT", prompt),
        ))
    }
}

/// The JSON traces that `start` has had written; a node without events is told.
fn path(lab: &lab::Lab, passed: &Passed) -> Result<(), Failure> {
    let mut command = Command::new(program());
    command.arg("path");
    let mut count = 0;
    for node in &lab.layout.nodes {
        let file = lab.file(&format!("{}.jsonl", node.name));
        match fs::metadata(&file) {
            Ok(about) if about.len() > 0 => {
                command.arg(&file);
                count += 1;
            }
            Ok(_) => log::warn!("{}: no events", node.name),
            Err(_) => log::warn!("{}: no trace at {}", node.name, file.display()),
        }
    }
    if count == 0 {
        return Err(Failure::Refused(format!(
            "no node has a trace with events in it: '{0} start --trace-json' or '{0} accept --trace-json' makes them",
            invocation(lab)
        )));
    }
    Err(become_it(command.args(&passed.options)))
}

impl OfNode {
    fn node<'a>(&self, lab: &'a lab::Lab) -> Result<&'a lab::Node, Failure> {
        lab.layout.nodes.iter().find(|node| node.name == self.node).ok_or_else(|| {
            let names: Vec<&str> = lab.layout.nodes.iter().map(|node| &*node.name).collect();
            Failure::Usage(format!(
                "no node '{}' in the lab '{}'. There are: {}",
                self.node,
                lab.place.name(),
                names.join(" ")
            ))
        })
    }

    fn trace(&self, lab: &lab::Lab) -> Result<(), Failure> {
        let node = self.node(lab)?;
        if running::process(lab, node).is_none() {
            return Err(Failure::Refused(format!(
                "dunnat does not run on {}: '{} start' first",
                node.name,
                invocation(lab)
            )));
        }
        let mut trace = Command::new(program());
        trace.arg("trace").arg("--socket").arg(lab.file(&format!("{}.sock", node.name)));
        Err(become_it(trace.args(&self.options)))
    }

    /// A verb that is for the node's own machine, with the cluster file that the node has there.
    fn on_its_machine(&self, lab: &lab::Lab, verb: &str) -> Result<(), Failure> {
        let node = self.node(lab)?;
        let file = faults::cluster_file_of(lab, node, faults::present(lab))?;
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &lab.place.namespace(&node.name)]).arg(program());
        inside.arg(verb).arg("--config").arg(file).args(["--node", &node.name]);
        if verb == "step" {
            if let Some(pid) = running::process(lab, node) {
                return Err(Failure::Refused(format!(
                    "dunnat runs on {} already, as process {pid}: '{} stop' first",
                    node.name,
                    invocation(lab)
                )));
            }
            inside.arg("--socket").arg(lab.file(&format!("{}.sock", node.name)));
        }
        Err(become_it(inside.args(&self.options)))
    }
}
