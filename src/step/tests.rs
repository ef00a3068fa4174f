use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::tz::TimeZone;

use super::*;
use crate::engine::{Conditions, Meta, Tables, decide_before};
use crate::net::{CtMark, Envelope, Mac, Mark, Stage};
use crate::packet::View;
use crate::queue::Packet;
use crate::ruleset::RewriteBy;
use crate::trace::{Text, samples};

const CLIENT: [u8; 4] = [192, 168, 122, 1];
const PUBLIC2: [u8; 4] = [192, 168, 122, 12];
const GUEST: [u8; 4] = [10, 5, 5, 201];

/// What a worker of node2, or node1 for all but dnat, would hold.
struct Waiting {
    stage: Stage,
    bytes: Vec<u8>,
    envelope: Envelope,
    meta: Meta,
    by: RewriteBy,
}

fn tcp(src: [u8; 4], from: u16, dst: [u8; 4], to: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut ip = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, src, dst).unwrap();
    ip.identification = 4660;
    ip.dont_fragment = true;
    let ip = etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default());
    let tcp = etherparse::PacketBuilder::ip(ip).tcp(from, to, 1000, 64240).syn();
    tcp.options_raw(&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1]).unwrap().write(&mut bytes, payload).unwrap();
    bytes
}

/// The same as a network card that finishes checksums would get it.
fn unfinished(mut bytes: Vec<u8>) -> Vec<u8> {
    let view = View::parse(&bytes, bytes.len()).unwrap();
    let at = view.checksum_at().unwrap();
    let len = ((view.len - view.transport_at()) as u16).to_be_bytes();
    let pseudo = !crate::packet::full(&[&bytes[12..20], &[0, 6], &len]);
    bytes[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    bytes
}

fn request() -> Waiting {
    Waiting {
        stage: Stage::Dnat,
        bytes: tcp(CLIENT, 40000, PUBLIC2, 80, b""),
        envelope: Envelope { queue: 100, id: 7, ..Envelope::default() },
        meta: Meta::default(),
        by: RewriteBy::Userspace,
    }
}

fn reply() -> Waiting {
    let marked = Meta { mark: Mark(2), ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
    Waiting { stage: Stage::Spoof, bytes: tcp(GUEST, 80, CLIENT, 40000, b""), meta: marked, ..request() }
}

impl Waiting {
    fn node(&self) -> NodeId {
        NodeId(u32::from(self.stage == Stage::Dnat))
    }

    /// Has it held by a worker.
    fn held<T>(&self, ending: &Receiver<Infallible>, observe: impl FnOnce(&Held<'_>) -> T) -> T {
        let envelope = Envelope { mark: self.meta.mark, src_mac: self.meta.src_mac, ..self.envelope };
        let packet = Packet { envelope: &envelope, bytes: &self.bytes };
        let view = View::parse(packet.bytes, packet.original_len());
        let read = view.as_ref().map_err(|malformed| *malformed);
        let tables = Tables::new(&samples::cluster(), self.node());
        let mut conditions = Conditions::new();
        let mut decision = decide_before(&tables, self.stage, read, &self.meta, &mut conditions);
        let patch = match self.by {
            RewriteBy::Userspace => decision.work_out(packet.bytes, read, envelope.checksum, &mut conditions),
            RewriteBy::Kernel => None,
        };
        let (stage, meta, conditions) = (self.stage, self.meta, &*conditions);
        observe(&Held { packet: &packet, stage, view, meta, decision, conditions, patch, ending })
    }

    fn screen(&self, colour: bool) -> String {
        let (_going_on, ending) = bounded(0);
        let cluster = samples::cluster();
        let mut namer = Namer::new(Arc::clone(&cluster), self.node(), false);
        let mut shown = self.held(&ending, |held| Shown::new(held, &mut namer, &cluster, self.node()));
        shown.event.time = jiff::Timestamp::UNIX_EPOCH;
        Screen::new(cluster, self.node(), Text::new(TimeZone::UTC, colour, false), colour).show(&shown)
    }
}

#[test]
fn a_request_is_shown_with_its_bytes_before_and_after() {
    insta::assert_snapshot!(request().screen(false));
}

#[test]
fn an_unfinished_checksum_is_told_of_as_what_it_is() {
    let envelope = Envelope { checksum: Checksum::Partial, ..request().envelope };
    let fresh = Waiting { bytes: unfinished(request().bytes), envelope, ..request() };
    let screen = fresh.screen(false);
    insta::assert_snapshot!(screen.split_once("    byte").unwrap().1);
    // A packet that is finished by the sum of its differences, or anew, is the same packet.
    let same =
        |screen: &str| screen.lines().find(|line| line.starts_with("      36 ")).unwrap()[34..43].to_owned();
    assert_eq!(same(&screen).replace('*', " "), same(&request().screen(false)).replace('*', " "));
    let bridged = Waiting { stage: Stage::Tag, ..fresh };
    let screen = bridged.screen(false);
    assert!(screen.contains(" unfinished\n") && !screen.contains("whole"), "{screen}");
    assert!(screen.contains("completes it when it sends the packet (CHECKSUM_PARTIAL)"), "{screen}");
}

#[test]
fn what_is_several_segments_or_not_all_there_is_told_so() {
    let long = tcp(GUEST, 80, CLIENT, 40000, &[b'x'; 3000]);
    let envelope = Envelope { checksum: Checksum::Partial, gso: true, ..request().envelope };
    let gso = Waiting { bytes: unfinished(long.clone()), envelope, ..reply() };
    let screen = gso.screen(false);
    insta::assert_snapshot!(screen.split_once("\n    tcp\n").unwrap().1);
    let envelope = Envelope { cut_from: Some(long.len() as u32), ..request().envelope };
    let frame = Meta { from_pipe: true, src_mac: Some(Mac([0x0e, 0, 0, 0, 1, 0])), ..Meta::default() };
    let cut = Waiting { stage: Stage::Tag, bytes: long[..128].to_vec(), meta: frame, envelope, ..request() };
    let screen = cut.screen(false);
    assert!(screen.contains("The packet has 3052 bytes; the queue gave only the first 128"), "{screen}");
    assert!(screen.contains("No byte changes"), "{screen}");
}

#[test]
fn what_dunnat_does_not_change_is_not_shown_as_changed() {
    let by_kernel = Waiting { by: RewriteBy::Kernel, ..request() };
    let screen = by_kernel.screen(false);
    assert!(screen.contains("the kernel then rewrites the address by it"), "{screen}");
    assert!(!screen.contains("* where a byte changes") && !screen.contains("checksum, byte"), "{screen}");
    let mut broken = reply();
    broken.bytes[3] = 255;
    let screen = broken.screen(false);
    assert!(screen.contains("The packet is dropped: none of these bytes goes on."), "{screen}");
    assert!(screen.contains("it cannot be read (ip-length)"), "{screen}");
    insta::assert_snapshot!(screen.split_once("    byte").unwrap().1);
}

#[test]
fn colours_change_nothing_but_colours() {
    for waiting in [request(), reply()] {
        let colours = waiting.screen(true);
        let mut plain = String::new();
        for (place, part) in colours.split("\x1b[").enumerate() {
            plain.push_str(if place == 0 { part } else { part.split_once('m').unwrap().1 });
        }
        assert_ne!(colours, plain);
        assert_eq!(plain, waiting.screen(false));
        assert!(colours.contains("\x1b[33m*"), "changed bytes stand out: {colours:?}");
    }
}

/// What is written, for who looks at it later.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn wait_for(&self, what: &str) {
        for _ in 0..2000 {
            if self.text().contains(what) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{what} never came:\n{}", self.text());
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written here fails so.
struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn node2(
    keys: impl BufRead + Send + 'static,
    typed: bool,
    out: impl Write + Send + 'static,
    selection: Selection,
) -> (Observer, Sender<Infallible>, Receiver<Infallible>) {
    let text = Text::new(TimeZone::UTC, false, false);
    let console = Console::new(Box::new(keys), typed, Box::new(out), text, false);
    let (observer, _) = observer(samples::cluster(), NodeId(1), selection, console).unwrap();
    let (going_on, ending) = bounded(0);
    (observer, going_on, ending)
}

#[test]
fn keys_that_are_read_in_turn_say_what_becomes_of_packets() {
    let paper = Paper::default();
    let keys = Cursor::new("\n?\nx y\nd\nc\n");
    let (mut observer, _going_on, ending) = node2(keys, false, paper.clone(), Selection::default());
    let mut said = || request().held(&ending, |held| (observer.observe)(held));
    assert_eq!(
        [said(), said(), said(), said()],
        [Response::AsDecided, Response::Drop, Response::AsDecided, Response::AsDecided]
    );
    let text = paper.text();
    let talk: Vec<&str> = text.lines().filter(|line| line.starts_with("held: ")).collect();
    let prompt = "held: Enter lets it go, d drops it, c continues, q stops, ? helps > ";
    assert_eq!(
        talk.join("\n").replace(prompt, "> "),
        "> sent on\n> \n> unknown key \"x y\"\n> dropped by hand\n> sent on; nothing is held any more"
    );
    assert!(text.contains("\n  q      release this packet and all others, and stop the node\n"), "{text}");
    assert_eq!(text.matches("dnat on node2").count(), 4, "what is not held any more is shown");
    assert!(observer.stop.try_recv().is_err());
}

/// A terminal may write other letters than UTF-8.
#[test]
fn a_key_that_is_no_text_releases_nothing() {
    let paper = Paper::default();
    let keys = Cursor::new(b"\xe4\nd\n");
    let (mut observer, _going_on, ending) = node2(keys, false, paper.clone(), Selection::default());
    assert_eq!(request().held(&ending, |held| (observer.observe)(held)), Response::Drop);
    let text = paper.text();
    assert!(text.contains("unknown key \"\u{fffd}\"\n") && !text.contains("end of input"), "{text}");
}

#[test]
fn when_the_keys_end_packets_go_on() {
    let paper = Paper::default();
    let (mut observer, _going_on, ending) = node2(io::empty(), false, paper.clone(), Selection::default());
    for _ in 0..3 {
        assert_eq!(request().held(&ending, |held| (observer.observe)(held)), Response::AsDecided);
    }
    assert_eq!(paper.text().matches("end of input").count(), 1);
    assert!(observer.stop.try_recv().is_err(), "the node goes on");
}

#[test]
fn what_was_typed_before_a_packet_is_shown_is_not_about_it() {
    /// Gives the first line, says that it has been taken, and the second when the packet is shown.
    struct Fingers(Sender<()>, Paper, u8, &'static [u8]);
    impl Read for Fingers {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.2 += 1;
            self.3 = match self.2 {
                1 => b"\n",
                2 => {
                    self.0.send(()).unwrap();
                    self.1.wait_for("held: ");
                    b"d\n"
                }
                _ => loop {
                    thread::park();
                },
            };
            buffer[..self.3.len()].copy_from_slice(self.3);
            Ok(self.3.len())
        }
    }
    let (taken, was_taken) = bounded(1);
    let paper = Paper::default();
    let fingers = BufReader::new(Fingers(taken, paper.clone(), 0, b""));
    let (mut observer, _going_on, ending) = node2(fingers, true, paper, Selection::default());
    was_taken.recv().unwrap();
    assert_eq!(request().held(&ending, |held| (observer.observe)(held)), Response::Drop);
}

#[test]
fn the_nodes_end_is_not_kept_waiting_by_a_key() {
    // The pipe stays open, and nothing comes.
    let (keys, _typist) = io::pipe().unwrap();
    let paper = Paper::default();
    let (mut observer, going_on, ending) =
        node2(BufReader::new(keys), true, paper.clone(), Selection::default());
    let worker = thread::spawn(move || {
        let mut said = || request().held(&ending, |held| (observer.observe)(held));
        [said(), said()]
    });
    paper.wait_for("held: ");
    thread::sleep(Duration::from_millis(20));
    assert!(!worker.is_finished(), "it is held");
    drop(going_on);
    assert_eq!(worker.join().unwrap(), [Response::AsDecided; 2]);
    assert_eq!(paper.text().matches("dnat on node2").count(), 1, "nothing is shown any more");
}

#[test]
fn q_and_a_screen_that_is_gone_stop_the_node() {
    let (observer, _going_on, _ending) =
        node2(Cursor::new("q\n"), true, Paper::default(), Selection::default());
    observer.stop.recv_timeout(Duration::from_secs(10)).expect("also while nothing is held");
    let broken = Broken(io::ErrorKind::BrokenPipe);
    let (mut observer, _going_on, ending) = node2(Cursor::new("\nq\n"), false, broken, Selection::default());
    for _ in 0..2 {
        assert_eq!(request().held(&ending, |held| (observer.observe)(held)), Response::AsDecided);
    }
    observer.stop.recv_timeout(Duration::from_secs(10)).unwrap();
}

/// A reader that has gone has seen enough; a full disk is told.
#[test]
fn what_kept_packets_from_being_shown_comes_out() {
    for (kind, is_told) in [(io::ErrorKind::StorageFull, true), (io::ErrorKind::BrokenPipe, false)] {
        let text = Text::new(TimeZone::UTC, false, false);
        let console = Console::new(Box::new(io::empty()), false, Box::new(Broken(kind)), text, false);
        let (mut observer, failed) =
            observer(samples::cluster(), NodeId(1), Selection::default(), console).unwrap();
        let (_going_on, ending) = bounded(0);
        assert_eq!(request().held(&ending, |held| (observer.observe)(held)), Response::AsDecided);
        observer.stop.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(failed.try_recv().ok().map(|error| error.kind()), is_told.then_some(kind));
    }
}

#[test]
fn what_is_not_selected_passes_unseen() {
    let paper = Paper::default();
    let selection =
        Selection { filter: Some("port 81".parse().unwrap()), left: Some(1), ..Selection::default() };
    let (mut observer, _going_on, ending) = node2(Cursor::new("d\nd\n"), false, paper.clone(), selection);
    let other = Waiting { bytes: tcp(CLIENT, 40000, PUBLIC2, 81, b""), ..request() };
    let mut said = |waiting: &Waiting| waiting.held(&ending, |held| (observer.observe)(held));
    let all = [said(&request()), said(&other), said(&other), said(&request())];
    assert_eq!(all, [Response::AsDecided, Response::Drop, Response::AsDecided, Response::AsDecided]);
    assert_eq!(paper.text().matches("dnat on node2").count(), 1);
}
