//! `dunnat top` in a real terminal (tmux), of nodes that run, one of them with a fault.

use super::cluster::Lab;
use super::many::{of_lab, places};
use super::stand_in::{kill, serve};
use super::*;

/// A terminal with a shell in it, gone with this value.
struct Tmux(String);

impl Tmux {
    fn start() -> Self {
        let tmux = Self(unique("dunnat-top"));
        tmux.ask(&[
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "env",
            "PS1=ready> ",
            "bash",
            "--norc",
            "-i",
        ]);
        tmux.wait_for("a prompt", |screen| screen.contains("ready>"));
        tmux
    }

    fn ask(&self, words: &[&str]) -> String {
        must("tmux", &[&["-L", &*self.0, "-f", "/dev/null"], words].concat())
    }

    fn screen(&self) -> String {
        self.ask(&["capture-pane", "-p"])
    }

    fn keys(&self, keys: &[&str]) {
        self.ask(&[&["send-keys"], keys].concat());
    }

    fn line(&self, line: &str) {
        self.keys(&["-l", line]);
        self.keys(&["Enter"]);
    }

    fn wait_for(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let screen = self.screen();
            if is_there(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.0, "kill-server"]).output();
    }
}

/// The process of `dunnat top` for a lab.
fn process_of(socket: &str) -> Option<u32> {
    let is_it = |process: &u32| {
        let words = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&&b"top"[..]) && words.contains(&socket.as_bytes())
    };
    let all = std::fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find(is_it)
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn keys_lead_from_the_start_to_the_name_of_the_faulty_node() {
    let lab = Lab::up(&["--nodes", "3"]);
    lab.must(&["start", "--fault", "swap"]);
    let sockets = ["node1", "node2", "node3"].map(|node| lab.socket(node));
    let program = dunnat();
    let top = format!("{program} top {}; echo status $?", sockets.join(" "));
    let tmux = Tmux::start();
    // Each time behind another word, so that what is still on the screen is not taken for it.
    let modes = |tmux: &Tmux, word: &str| {
        // A sum of them, because they are longer than a line.
        tmux.line(&format!("echo {word}$(stty -g | cksum)"));
        let of = |screen: &str| {
            let mut told = screen.lines().filter_map(|line| line.strip_prefix(word));
            told.find(|sum| sum.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned)
        };
        of(&tmux.wait_for("the modes of the terminal", |screen| of(screen).is_some())).unwrap()
    };
    let before = modes(&tmux, "first");

    let began = Instant::now();
    tmux.line(&top);
    tmux.wait_for("all nodes", |screen| screen.matches(" well ").count() == 3);
    let nodes = began.elapsed();
    let asked = Instant::now();
    lab.run(&["shell", "ws", "--", "curl", "-s", "--max-time", "1", "http://192.168.122.12/"]);
    tmux.keys(&["2"]);
    let list = tmux.wait_for("the fault in the list", |screen| screen.contains("wrong-address"));
    assert!(list.lines().nth(2).unwrap().contains("node2>node1"), "{list}");
    let listed = asked.elapsed();
    tmux.keys(&["Enter"]);
    let flow = tmux.wait_for("the ladder", |screen| screen.contains("WRONG public address"));
    // The first guest's home node has a cluster file with the MAC addresses of the others swapped.
    assert!(flow.contains("For node1,") && flow.contains("node1 tag #"), "{flow}");
    let named = asked.elapsed();
    tmux.keys(&["e"]);
    let why = tmux.wait_for("an explanation", |screen| screen.contains("yes  ") && screen.contains("=> "));
    assert!(["node1: ", "node2: ", "node3: "].iter().any(|node| why.contains(node)), "{why}");
    println!(
        "all nodes on the screen {nodes:.1?} after the start; the fault in the list {listed:.1?} after the request, its node named {named:.1?}"
    );
    assert!(named < Duration::from_secs(15), "{named:?}");

    tmux.ask(&["resize-window", "-x", "30", "-y", "6"]);
    tmux.wait_for("a small screen", |screen| screen.lines().count() <= 6 && screen.contains("1 nodes"));
    tmux.ask(&["resize-window", "-x", "80", "-y", "24"]);
    tmux.keys(&["1"]);
    tmux.wait_for("the nodes again", |screen| screen.contains("decisions") || screen.contains("packets/s"));

    // The shell has the terminal in between, and top goes on.
    tmux.keys(&["C-z"]);
    tmux.wait_for("the shell", |screen| screen.contains("Stopped") && !screen.contains("packets/s"));
    tmux.line("fg");
    tmux.wait_for("top again", |screen| screen.contains("packets/s") && screen.contains(" live"));
    tmux.keys(&["q"]);
    tmux.wait_for("its end", |screen| screen.trim_end().ends_with("ready>") && !screen.contains("packets/s"));
    tmux.line("echo left with $?");
    tmux.wait_for("its exit status", |screen| screen.contains("left with 0"));
    assert_eq!(modes(&tmux, "second"), before);

    // A signal gives the terminal back, too; and a terminal that is closed ends it.
    tmux.line(&top);
    tmux.wait_for("top once more", |screen| screen.contains("packets/s"));
    must("kill", &["-TERM", &process_of(&sockets[0]).unwrap().to_string()]);
    tmux.wait_for("its end", |screen| screen.contains("status ") && !screen.contains("packets/s"));
    assert_eq!(modes(&tmux, "third"), before);
    tmux.line(&top);
    tmux.wait_for("top once more", |screen| screen.contains("packets/s"));
    drop(tmux);
    wait_for("top to end with its terminal", || process_of(&sockets[0]).is_none().then_some(()));
    lab.must(&["stop"]);
}

/// Each by another way: what is asked of a node here is asked of them, too, and conntrack where they are.
#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn nodes_elsewhere_are_looked_at_go_and_come_back() {
    let lab = Lab::up(&["--nodes", "3"]);
    lab.must(&["start"]);
    let curl = |address: &str| {
        lab.run(&["shell", "ws", "--", "curl", "-s", "--max-time", "1", &format!("http://{address}/")]);
    };
    curl("192.168.122.11");
    let tmux = Tmux::start();
    tmux.ask(&["resize-window", "-x", "140", "-y", "30"]);
    let program = dunnat();
    tmux.line(&format!("{program} top --on '{}'; echo status $?", places(&lab)));
    tmux.wait_for("all nodes", |screen| screen.matches(" well ").count() == 3);
    assert_eq!(of_lab(&lab, "relay"), 4, "two commands for each of two places elsewhere");
    tmux.keys(&["2"]);
    // It began before, and conntrack of another network namespace tells.
    tmux.wait_for("the flow that is tracked", |screen| {
        screen.lines().any(|line| line.contains("192.168.122.11:80") && line.contains("tracked"))
    });
    curl("192.168.122.12");
    tmux.wait_for("the next one", |screen| {
        screen.lines().any(|line| line.contains("192.168.122.12:80") && line.contains("node2>node1"))
    });
    tmux.keys(&["/"]);
    tmux.keys(&["-l", "entry node2"]);
    tmux.keys(&["Enter"]);
    tmux.wait_for("it alone", |screen| !screen.contains("192.168.122.11:80"));
    tmux.keys(&["Enter"]);
    tmux.wait_for("its ladder", |screen| screen.contains("10.5.5.201") && screen.contains("spoof"));
    tmux.keys(&["e"]);
    tmux.wait_for("an explanation, by the file that was read there", |screen| {
        screen.contains("yes  ") && screen.contains("=> ")
    });

    kill(&lab, &["node2"]);
    tmux.keys(&["1"]);
    tmux.wait_for("that a node is away", |screen| screen.matches(" well ").count() == 2);
    let mut node2 = serve(&lab, "node2", &[]);
    tmux.wait_for("that it is there again", |screen| screen.matches(" well ").count() == 3);
    tmux.keys(&["q"]);
    tmux.wait_for("its end", |screen| screen.contains("status 0"));
    wait_for("no command that goes on", || (of_lab(&lab, "relay") == 0).then_some(()));
    lab.must(&["stop"]);
    node2.wait().unwrap();
}
