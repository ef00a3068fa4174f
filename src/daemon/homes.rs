//! Which guests live on other nodes: what the bridge knows, by neighbours and forwarding database.
//!
//! A guest counts as living elsewhere when the address of Ethernet that it has was last seen at a pipe. When the bridge has forgotten it, or
//! it does not reply for some time, the last proof stays. A frame of it at any other port takes it out at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::thread::bring_home;
use crate::cluster::{Cluster, NodeId};
use crate::net::{IfName, Mac};
use crate::netlink::neighbours::{Changes, Neighbour, Questions, hosts, ports};
use crate::netlink::sys;

/// How often the kernel is asked to find guests that nobody has seen yet.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// What is known of the guests that services lead to.
struct Homes {
    /// Those whose home the cluster file does not say.
    guests: BTreeMap<IpAddr, Guest>,
    /// Whose an address of Ethernet is.
    by_mac: HashMap<Mac, BTreeSet<IpAddr>>,
    /// Those that live on other nodes, those of the cluster file among them.
    elsewhere: BTreeSet<IpAddr>,
    pipes: Vec<IfName>,
}

#[derive(Debug, Default)]
struct Guest {
    mac: Option<Mac>,
    /// The port that it was last seen at, and whether that is a pipe.
    at: Option<(String, bool)>,
}

impl Homes {
    fn new(cluster: &Cluster, node: NodeId) -> Self {
        let guests = |has_home: bool| {
            let services =
                cluster.services().iter().filter(move |service| service.home.is_some() == has_home);
            services.flat_map(|service| service.guest.iter().copied())
        };
        // A guest may have a home in the file by another of its services.
        let at_home: BTreeSet<IpAddr> = guests(true).collect();
        let open = guests(false).filter(|guest| !at_home.contains(guest));
        Self {
            guests: open.map(|guest| (guest, Guest::default())).collect(),
            by_mac: HashMap::new(),
            elsewhere: cluster.living_elsewhere(node),
            pipes: cluster.pipes(node).to_vec(),
        }
    }

    /// A host has that address of Ethernet. Says whether that is news, so that its port has to be looked up.
    fn host(&mut self, address: IpAddr, mac: Mac) -> bool {
        match self.guests.get_mut(&address) {
            Some(guest) if guest.mac != Some(mac) => {
                let before = guest.mac.replace(mac);
                if let Some(others) = before.and_then(|before| self.by_mac.get_mut(&before)) {
                    others.remove(&address);
                }
                self.by_mac.entry(mac).or_default().insert(address)
            }
            _ => false,
        }
    }

    /// Whether a guest has that address of Ethernet.
    fn knows(&self, mac: Mac) -> bool {
        self.by_mac.get(&mac).is_some_and(|guests| !guests.is_empty())
    }

    /// A port of the bridge leads to that address of Ethernet.
    fn port(&mut self, mac: Mac, port: &str) {
        let is_pipe = self.pipes.iter().any(|pipe| pipe.as_str() == port);
        for address in self.by_mac.get(&mac).into_iter().flatten() {
            let Some(guest) = self.guests.get_mut(address) else { continue };
            if is_pipe {
                self.elsewhere.insert(*address);
            } else {
                self.elsewhere.remove(address);
            }
            let was = guest.at.replace((port.to_owned(), is_pipe));
            if was.as_ref().map(|(_, was)| *was) == Some(is_pipe) {
                continue;
            }
            match (is_pipe, was) {
                (true, None) => log::info!(
                    "guest {address} lives on another node: its frames come by the pipe {port}. Foreign flows to it are not tracked here"
                ),
                (true, Some(_)) => log::info!(
                    "guest {address} has moved to another node, behind the pipe {port}: foreign flows to it are not tracked here any more"
                ),
                (false, None) => log::debug!("guest {address} lives here, at {port}"),
                (false, Some(_)) => {
                    log::info!("guest {address} lives here now, at {port}: its flows are tracked");
                }
            }
        }
    }

    /// The guests of which nobody knows where they are.
    fn unknown(&self) -> impl Iterator<Item = IpAddr> {
        self.guests.iter().filter(|(_, guest)| guest.at.is_none()).map(|(address, _)| *address)
    }
}

/// A thread that keeps it up to date.
pub(super) struct HomesWatch {
    /// The guests that live on other nodes, at the beginning and whenever they become others.
    pub(super) changed: Receiver<BTreeSet<IpAddr>>,
    begin: Option<Sender<()>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HomesWatch {
    pub(super) fn start(cluster: &Cluster, node: NodeId) -> io::Result<Self> {
        let (tell, changed) = unbounded();
        let bridge = cluster.guests().bridge.clone();
        let mut listener =
            Listener { homes: Homes::new(cluster, node), bridge, told: None, tell, asked: None };
        // Before all is read, so that nothing is missed between.
        let changes = Changes::watch(Duration::from_secs(1))?;
        listener.read_all();
        listener.tell();
        let ending = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ending);
        let (begin, begun) = bounded(1);
        let listen = move || {
            if begun.recv().is_err() {
                return;
            }
            listener.ask();
            while !end.load(Ordering::Relaxed) {
                match changes.next() {
                    Ok(events) => listener.hear(&events),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        if error.raw_os_error() != Some(libc::ENOBUFS) {
                            log::debug!("cannot read messages of the kernel: {error}");
                            thread::sleep(Duration::from_millis(100));
                        }
                        listener.read_all();
                    }
                }
                listener.ask();
                listener.tell();
            }
        };
        let thread = Some(thread::Builder::new().name("homes".to_owned()).spawn(listen)?);
        Ok(Self { changed, begin: Some(begin), ending, thread })
    }

    /// Asks and listens from now on. Not before there are rules: the kernel may ask from the gateway address, and until they hold that
    /// back at the pipes, guests of other nodes would take this node for their gateway.
    pub(super) fn begin(&self) {
        if let Some(begin) = &self.begin {
            let _ = begin.try_send(());
        }
    }
}

impl Drop for HomesWatch {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.begin = None;
        if self.thread.take().is_some_and(|thread| bring_home(thread).is_err()) {
            crate::messages::message!(PANIC, "a watching thread panicked. This is a bug; please report it");
        }
    }
}

/// What comes from the kernel, and who is told.
struct Listener {
    homes: Homes,
    bridge: IfName,
    told: Option<BTreeSet<IpAddr>>,
    tell: Sender<BTreeSet<IpAddr>>,
    /// When the kernel was asked to find guests.
    asked: Option<Instant>,
}

impl Listener {
    /// The bridge may be made anew, and has another number then.
    fn bridge(&self) -> Option<u32> {
        sys::interface_index(self.bridge.as_str()).ok()
    }

    fn hear(&mut self, events: &[Neighbour]) {
        if events.is_empty() {
            return;
        }
        let Some(its) = self.bridge() else { return };
        let mut news = false;
        for event in events {
            match *event {
                Neighbour::Host { interface, address, mac } if interface == its => {
                    news |= self.homes.host(address, mac);
                }
                Neighbour::Port { bridge, port, mac } if bridge == its && self.homes.knows(mac) => {
                    self.at_port(mac, port);
                }
                _ => {}
            }
        }
        if news {
            self.read_ports(its);
        }
    }

    fn at_port(&mut self, mac: Mac, port: u32) {
        match sys::interface_name(port) {
            Ok(Some(name)) => self.homes.port(mac, &name),
            // It is gone already.
            Ok(None) => {}
            Err(error) => log::debug!("cannot read the name of interface {port}: {error}"),
        }
    }

    fn read_all(&mut self) {
        let Some(its) = self.bridge() else { return };
        match hosts() {
            Ok(all) => {
                for event in all {
                    if let Neighbour::Host { interface, address, mac } = event
                        && interface == its
                    {
                        self.homes.host(address, mac);
                    }
                }
            }
            Err(error) => log::debug!("cannot list neighbours: {error}"),
        }
        self.read_ports(its);
    }

    fn read_ports(&mut self, its: u32) {
        match ports() {
            Ok(all) => {
                for event in all {
                    if let Neighbour::Port { bridge, port, mac } = event
                        && bridge == its
                        && self.homes.knows(mac)
                    {
                        self.at_port(mac, port);
                    }
                }
            }
            Err(error) => log::debug!("cannot list the ports of the bridge: {error}"),
        }
    }

    /// Has the kernel find those that nobody has seen.
    fn ask(&mut self) {
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return;
        }
        self.asked = Some(Instant::now());
        let Some(its) = self.bridge() else { return };
        let mut unknown = self.homes.unknown().peekable();
        if unknown.peek().is_none() {
            return;
        }
        let questions = match Questions::open() {
            Ok(questions) => questions,
            Err(error) => return log::debug!("cannot have the kernel find guests: {error}"),
        };
        for guest in unknown {
            if let Err(error) = questions.who_has(its, guest) {
                log::debug!("cannot have the kernel find {guest}: {error}");
            }
        }
    }

    fn tell(&mut self) {
        if self.told.as_ref() != Some(&self.homes.elsewhere) {
            self.told = Some(self.homes.elsewhere.clone());
            let _ = self.tell.send(self.homes.elsewhere.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const MAC: Mac = Mac([10, 0, 0, 0, 5, 1]);
    const OTHER: Mac = Mac([10, 0, 0, 0, 5, 2]);

    fn homes(home: &str) -> Homes {
        let text = include_str!("../../rules/example.toml").replacen(
            "guest = \"10.5.5.201\"",
            &format!("guest = \"10.5.5.201\"\n{home}"),
            1,
        );
        Homes::new(&Cluster::parse(&text, Path::new("c")).unwrap(), NodeId(0))
    }

    fn guest() -> IpAddr {
        "10.5.5.201".parse().unwrap()
    }

    #[test]
    fn a_guest_is_elsewhere_by_proof_alone() {
        let mut homes = homes("");
        assert_eq!(homes.unknown().collect::<Vec<_>>(), [guest()]);
        // A frame at a pipe, but whose?
        homes.port(MAC, "eth1.100");
        assert!(homes.elsewhere.is_empty());
        assert!(homes.host(guest(), MAC));
        assert!(homes.elsewhere.is_empty());
        homes.port(MAC, "eth1.100");
        assert_eq!(homes.elsewhere, BTreeSet::from([guest()]));
        assert_eq!(homes.unknown().count(), 0);
        // The same again is no news.
        assert!(!homes.host(guest(), MAC));
        // It comes here.
        homes.port(MAC, "tap0");
        assert!(homes.elsewhere.is_empty());
        homes.port(MAC, "eth2.100");
        // Another guest's port tells nothing of this one.
        homes.port(OTHER, "tap1");
        assert_eq!(homes.elsewhere, BTreeSet::from([guest()]));
        // The last proof stays until there is another.
        assert!(homes.host(guest(), OTHER));
        assert_eq!(homes.elsewhere, BTreeSet::from([guest()]));
        homes.port(OTHER, "tap1");
        assert!(homes.elsewhere.is_empty());
    }

    /// A cluster file may have tens of thousands of guests, and the node serves no packet before they are read.
    #[test]
    fn many_guests_are_known_soon() {
        let mut text = include_str!("../../rules/example.toml").replace("10.5.5.0/24", "10.0.0.0/8");
        let many = 10_000u32;
        for number in 0..many {
            let (high, low) = (number >> 8, number & 0xff);
            text += &format!(
                "[[service]]\nname = \"s{number}\"\nproto = \"udp\"\nport = {}\nguest = \"10.7.{high}.{low}\"\n",
                number + 1
            );
        }
        let cluster = Cluster::parse(&text, Path::new("c")).unwrap();
        let began = Instant::now();
        let mut homes = Homes::new(&cluster, NodeId(0));
        for number in 0..many {
            let mac = Mac([2, 0, 0, 0, (number >> 8) as u8, number as u8]);
            assert!(homes.host([10, 7, (number >> 8) as u8, number as u8].into(), mac));
            assert!(homes.knows(mac));
            homes.port(mac, "eth1.100");
        }
        assert_eq!((homes.elsewhere.len(), homes.unknown().count()), (many as usize, 1));
        // Each with each would take minutes.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[test]
    fn who_is_no_guest_of_a_service_is_of_no_interest() {
        let mut homes = homes("");
        assert!(!homes.host("10.5.5.202".parse().unwrap(), MAC));
        assert!(!homes.knows(MAC));
    }

    #[test]
    fn what_the_cluster_file_says_holds() {
        for (home, elsewhere) in [("home = \"node1\"", false), ("home = \"node2\"", true)] {
            let mut homes = homes(home);
            assert_eq!(homes.unknown().count(), 0);
            assert!(!homes.host(guest(), MAC));
            homes.port(MAC, if elsewhere { "tap0" } else { "eth1.100" });
            assert_eq!(homes.elsewhere.contains(&guest()), elsewhere);
        }
    }
}
