//! What tcpdump sees on a machine of a lab.

use super::cluster::Lab;
use super::*;

/// A capture that goes on until [`Capture::end`].
pub(crate) struct Capture {
    tcpdump: Child,
    file: PathBuf,
}

impl Capture {
    /// Captures at eth0 of a machine; it has begun when this returns. The file is one of the lab's.
    pub(crate) fn begin(lab: &Lab, machine: &str, options: &[&str], file: &str, filter: &str) -> Self {
        let file = lab.state(file);
        // Of an earlier capture.
        let _ = std::fs::remove_file(&file);
        let tcpdump = lab
            .on(machine, &["tcpdump", "-Uni", "eth0"])
            .args(options)
            .args(["-w", file.to_str().unwrap(), filter])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the capture to begin", || (std::fs::metadata(&file).ok()?.len() >= 24).then_some(()));
        Self { tcpdump, file }
    }

    pub(crate) fn file(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// The packets so far, from their IP header on.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        let file = std::fs::read(&self.file).unwrap();
        let mut rest = file.get(24..).unwrap_or_default();
        let mut packets = Vec::new();
        while let Some(header) = rest.first_chunk::<16>() {
            let len = u32::from_ne_bytes(header[8..12].try_into().unwrap()) as usize;
            let Some(frame) = rest.get(16..16 + len) else { break };
            packets.push(frame[14..].to_vec());
            rest = &rest[16 + len..];
        }
        packets
    }

    pub(crate) fn wait_for_packets(&self, count: usize) -> Vec<Vec<u8>> {
        wait_for("all packets", || Some(self.packets()).filter(|packets| packets.len() >= count))
    }

    /// Ends it; its file stays.
    pub(crate) fn end(mut self) {
        must("kill", &[&self.tcpdump.id().to_string()]);
        self.tcpdump.wait().unwrap();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}
