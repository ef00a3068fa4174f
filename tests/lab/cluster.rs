//! A lab that a test drives: the one place that knows how the program is run for it.

use super::*;

/// A lab that is gone with this value.
pub(crate) struct Lab {
    name: String,
}

impl Lab {
    /// Where labs have their files.
    pub(crate) const FILES: &str = "/run/dunnat-lab/";

    /// One that is not built yet.
    pub(crate) fn planned() -> Self {
        Self { name: unique("t") }
    }

    pub(crate) fn up(options: &[&str]) -> Self {
        let lab = Self::planned();
        lab.must(&[&["up"], options].concat());
        lab
    }

    /// `dunnat lab`, for this lab.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Command::new(dunnat()), arguments)
    }

    /// The same in a process group of its own, which a signal can be sent to.
    pub(crate) fn command_in_a_group(&self, arguments: &[&str]) -> Command {
        let mut setsid = Command::new("setsid");
        setsid.arg(dunnat());
        self.command_of(setsid, arguments)
    }

    fn command_of(&self, mut program: Command, arguments: &[&str]) -> Command {
        program.arg("lab").args(arguments).env("DUNNAT_LAB", &self.name).stdin(Stdio::null());
        program
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// With options for `dunnat run`.
    pub(crate) fn run_with(&self, options: &str, arguments: &[&str]) -> Output {
        let of_run = if options.is_empty() { "" } else { "--" };
        let options = of_run.split_whitespace().chain(options.split_whitespace());
        self.command(arguments).args(options).output().unwrap()
    }

    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "dunnat lab {arguments:?}\n{out}{err}");
        out
    }

    pub(crate) fn accept(&self, by: &str) {
        Self::is_proven(&self.must(&["accept", "--by", by]));
    }

    /// By dunnat, run with these options.
    pub(crate) fn accept_with(&self, options: &str) {
        let output = self.run_with(options, &["accept"]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "dunnat run {options}\n{out}{err}");
        Self::is_proven(&out);
    }

    fn is_proven(proven: &str) {
        assert!(proven.contains(" 0 failed") && !proven.contains("\n0 passed"), "{proven}");
    }

    /// What it says when it refuses.
    pub(crate) fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "dunnat lab {arguments:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// A program on a machine of it.
    pub(crate) fn on(&self, machine: &str, command: &[&str]) -> Command {
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", &self.namespace(machine)]).args(command);
        ip
    }

    pub(crate) fn namespace(&self, machine: &str) -> String {
        format!("dunnat-{}-{machine}", self.name)
    }

    /// Whether there is any machine of it.
    pub(crate) fn has_namespaces(&self) -> bool {
        must("ip", &["netns"]).contains(&self.namespace(""))
    }

    pub(crate) fn state(&self, file: &str) -> PathBuf {
        Path::new(Self::FILES).join(&self.name).join(file)
    }

    pub(crate) fn socket(&self, node: &str) -> String {
        format!("{}{}/{node}.sock", Self::FILES, self.name)
    }

    /// What a node says of itself, as JSON.
    pub(crate) fn status(&self, node: &str) -> serde_json::Value {
        serde_json::from_str(&status_of(&self.socket(node), &["--json"])).unwrap()
    }

    /// Keeps the files of a lab in which a test has failed: captures, traces, what nodes have said.
    fn keep(&self) {
        let test = std::thread::current().name().unwrap_or("unnamed").replace("::", "-");
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("failed").join(test);
        let _ = std::fs::remove_dir_all(&kept);
        let made = std::fs::create_dir_all(kept.parent().unwrap());
        let copied = made.and_then(|()| Command::new("cp").arg("-r").arg(self.state("")).arg(&kept).output());
        match copied {
            Ok(output) if output.status.success() => {
                eprintln!("what was in the lab is in {}", kept.display());
            }
            other => eprintln!("what was in the lab is not kept: {other:?}"),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
        let down = self.run(&["down"]);
        assert!(!self.state("").exists());
        // What the sniffer on the public LAN has seen since start is judged by stop, or here.
        assert!(std::thread::panicking() || down.status.success(), "{}", text(&down.stderr));
    }
}

pub(crate) fn curl(lab: &Lab) {
    let page = lab.must(&["shell", "ws", "--", "curl", "-s", "--max-time", "5", "http://192.168.122.12/"]);
    assert!(page.contains("guest1 saw"), "{page}");
}

/// The conversations that the traces of all nodes are joined to.
pub(crate) fn joined(lab: &Lab) -> Vec<serde_json::Value> {
    let lines = lab.must(&["path", "--format", "json"]);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
