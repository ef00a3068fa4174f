//! A host whose node has a cluster file of its own, which may change while the node serves.

use std::fs;

use super::*;

/// The host, and a directory for it, in which the file is: at first the example.
pub(super) struct OwnFile {
    pub(super) host: Host,
    directory: tempfile::TempDir,
}

impl OwnFile {
    pub(super) fn new() -> Self {
        let new = Self { host: Host::new(), directory: tempfile::tempdir().unwrap() };
        new.write("cluster.toml", &example());
        new
    }

    /// Of a file in that directory.
    pub(super) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    pub(super) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A copy of a program, made by another process: what this one starts meanwhile, in another thread, would have the file open for
    /// writing for a moment, and a file that is written cannot be started.
    pub(super) fn copy(&self, program: &str, name: &str) -> String {
        let path = self.path(name);
        must("install", &["--mode=755", program, &path]);
        path
    }

    /// A script that stands for a program.
    pub(super) fn script(&self, name: &str, text: &str) -> String {
        let written = self.write(&format!("{name}.sh"), &format!("#!/bin/sh\n{text}\n"));
        self.copy(&written, name)
    }

    /// By this variable a node has that script in the place of nft. `$NFT` is the real one.
    pub(super) fn path_with_nft(&self, script: &str) -> String {
        fs::create_dir(self.path("bin")).unwrap();
        self.script(
            "bin/nft",
            &format!("NFT='/usr/bin/env PATH=/usr/sbin:/sbin:/usr/bin:/bin nft'\n{script}"),
        );
        format!("PATH={}:{}", self.path("bin"), std::env::var("PATH").unwrap())
    }

    pub(super) fn serve(&self, more: &[&str]) -> Node {
        self.serve_program(dunnat(), more)
    }

    /// By another file of the program.
    pub(super) fn serve_program(&self, program: &str, more: &[&str]) -> Node {
        self.host.serve_program(program, &self.path("cluster.toml"), more)
    }

    /// A verb to that node: its exit status, and what it has said.
    pub(super) fn says(&self, verb: &str, words: &[&str]) -> (i32, String, String) {
        let mut command = self.host.command_in(&[dunnat(), verb, "--socket", &self.host.socket()]);
        let output = command.args(words).output().unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    pub(super) fn reload(&self, words: &[&str]) -> (i32, String, String) {
        self.says("reload", words)
    }

    /// Reloads it with a file that has that text.
    pub(super) fn must_reload(&self, text: &str) {
        let file = self.write("next.toml", text);
        self.host.must(&[dunnat(), "reload", "--socket", &self.host.socket(), &file]);
    }

    pub(super) fn status(&self) -> serde_json::Value {
        self.host.status()
    }

    /// Somebody who sees all decisions from now on, as JSON.
    pub(super) fn traced(&self, into: Stdio) -> Child {
        let reader = Command::new(dunnat())
            .args(["trace", "--socket", &self.host.socket(), "--format", "json"])
            .stdout(into)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the reader", || (self.status()["traces"] == 1).then_some(()));
        reader
    }
}

/// The datagrams of [`Host::send`] that it has decided about. The node itself may send something, which is asked about at spoof.
pub(super) fn saved(status: &serde_json::Value) -> u64 {
    let all = status["decisions"].as_array().unwrap().iter().filter(|it| it["stage"] == "save");
    all.map(|it| it["packets"].as_u64().unwrap()).sum()
}

pub(super) fn example() -> String {
    fs::read_to_string(EXAMPLE).unwrap()
}
