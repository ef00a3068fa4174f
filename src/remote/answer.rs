//! A command that ends: what it has printed.

use std::io::{BufReader, Read as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::place::Place;
use super::reader::last_line;

/// How much a place may print, in bytes.
const MOST: u64 = 64 << 20;

/// What a place has said, or why nothing.
pub type Answered = Result<Vec<u8>, String>;

/// Runs a verb at each place at the same time, and waits so long at most.
pub fn ask(places: &[Place], own: &Path, verb: &str, words: &[String], patience: Duration) -> Vec<Answered> {
    thread::scope(|scope| {
        let asked: Vec<_> =
            places.iter().map(|place| scope.spawn(move || one(place, own, verb, words, patience))).collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("its reader has failed".to_owned())))
            .collect()
    })
}

fn one(place: &Place, own: &Path, verb: &str, words: &[String], patience: Duration) -> Answered {
    let mut command = place.command(own, verb, words);
    let cannot = |error| format!("{} cannot be started: {error}", command_name(place));
    let mut child = command.spawn().map_err(cannot)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let until = Instant::now() + patience;
    let printed = beside(move || {
        let mut all = Vec::new();
        let read = out.map_or(Ok(0), |out| out.take(MOST + 1).read_to_end(&mut all));
        (all, read.is_ok())
    });
    let complaint = beside(move || err.map_or(String::new(), |err| last_line(BufReader::new(err))));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let Some(status) = status else { return Err(format!("it did not answer for {patience:?}")) };
    // What it has started may go on, and have its output.
    let (all, is_read) = printed.recv_deadline(until).unwrap_or_default();
    let complaint = complaint.recv_deadline(until).unwrap_or_default();
    if all.len() as u64 > MOST {
        return Err(format!("it printed more than {} MiB", MOST >> 20));
    }
    // An exit status may be an answer, too: that something is amiss.
    match (all.is_empty() && !status.success(), is_read, complaint.is_empty()) {
        (true, _, false) => Err(complaint),
        (true, _, true) => Err(format!("its command ended: {status}")),
        (false, false, _) => Err("what it says cannot be read".to_owned()),
        (false, true, _) => Ok(all),
    }
}

/// What a thread of its own finds out; whoever does not want it any more need not wait.
fn beside<T: Send + 'static>(find: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (tell, told) = bounded(1);
    // Without a thread nobody tells, which is as if nothing was said.
    let _ = thread::Builder::new().name("place".to_owned()).spawn(move || tell.send(find()));
    told
}

fn command_name(place: &Place) -> String {
    place.to_string().split(':').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_is_heard_and_who_does_not_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| -> Place {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("cmd:sh {}", path.display()).parse().unwrap()
        };
        let places = [
            script("well", "echo $1"),
            script("amiss", "echo {}; exit 1"),
            script("wrong", "echo bad >&2; exit 1"),
            script("stuck", "exec sleep 60"),
            "cmd:/nowhere/dunnat".parse().unwrap(),
        ];
        let said = ask(&places, Path::new("/bin/true"), "status", &[], Duration::from_secs(3));
        assert_eq!(said[0], Ok(b"status\n".to_vec()));
        assert_eq!(said[1], Ok(b"{}\n".to_vec()));
        assert_eq!(said[2], Err("bad".to_owned()));
        assert_eq!(said[3], Err("it did not answer for 3s".to_owned()));
        assert!(said[4].as_ref().unwrap_err().starts_with("cmd cannot be started"), "{:?}", said[4]);
    }
}
