//! A lab that a test drives: the one place that knows how the program is called for it.

use super::*;

/// A lab that is gone with this value.
pub(crate) struct Lab(pub(crate) String);

impl Lab {
    pub(crate) fn up(options: &[&str]) -> Self {
        let lab = Self(unique("t"));
        lab.must(&[&["up"], options].concat());
        lab
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with("", arguments)
    }

    pub(crate) fn run_with(&self, options: &str, arguments: &[&str]) -> Output {
        let of_run = if options.is_empty() { "" } else { "--" };
        Command::new(DUNNAT)
            .arg("lab")
            .args(arguments)
            .env("DUNNAT_LAB", &self.0)
            .args(of_run.split_whitespace().chain(options.split_whitespace()))
            .stdin(Stdio::null())
            .output()
            .unwrap()
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

    pub(crate) fn namespace(&self, machine: &str) -> String {
        format!("dunnat-{}-{machine}", self.0)
    }

    pub(crate) fn state(&self, file: &str) -> PathBuf {
        Path::new("/run/dunnat-lab").join(&self.0).join(file)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = self.run(&["down"]);
        assert!(!self.state("").exists());
        // What the sniffer on the public LAN has seen since start is judged by stop, or here.
        assert!(std::thread::panicking() || down.status.success(), "{}", text(&down.stderr));
    }
}

/// A program on a machine of a lab.
pub(crate) fn on(lab: &Lab, machine: &str, command: &[&str]) -> Command {
    let mut ip = Command::new("ip");
    ip.args(["netns", "exec", &lab.namespace(machine)]).args(command);
    ip
}

pub(crate) fn curl(lab: &Lab) {
    let page = lab.must(&["shell", "ws", "--", "curl", "-s", "--max-time", "5", "http://192.168.122.12/"]);
    assert!(page.contains("guest1 saw"), "{page}");
}

/// The frames in a capture file as tcpdump writes it here, from their IP header on.
pub(crate) fn captured(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = file.get(24..).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some(header) = rest.first_chunk::<16>() {
        let len = u32::from_ne_bytes(header[8..12].try_into().unwrap()) as usize;
        let Some(frame) = rest.get(16..16 + len) else { break };
        frames.push(frame[14..].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

/// The conversations that the traces of all nodes are joined to.
pub(crate) fn joined(lab: &Lab) -> Vec<serde_json::Value> {
    let lines = lab.must(&["path", "--format", "json"]);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
