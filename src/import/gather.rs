//! What the lines of several rulesets say together.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Taken;
use super::rule::{Rule, Target};
use super::words::End;
use crate::net::{ByFamily, MacPrefix, Mark, OfFamily, Ports, Proto};

/// How many nodes, services and names are kept, and how many words a name may stand for.
const MOST: usize = 1024;

/// How many words a statement may have where names have become what they stand for.
const LONGEST: usize = 16 * MOST;

/// All that was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    pub(super) networks: ByFamily<IpNet>,
    pub(super) gateways: ByFamily<IpAddr>,
    pub(super) bridge: Option<String>,
    pub(super) public: Option<String>,
    pub(super) pipes: Option<Vec<String>>,
    pub(super) nodes: BTreeMap<u32, Node>,
    pub(super) services: Vec<Service>,
    /// Of the ruleset that is read: the tag that it gives, and the address that it has for guests.
    own: Own,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) mac: Option<MacPrefix>,
    pub(super) publics: ByFamily<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) proto: Option<Proto>,
    pub(super) ports: Option<Ports>,
    pub(super) guest: IpAddr,
    pub(super) guest_port: Option<u16>,
}

#[derive(Clone, Debug, Default)]
struct Own {
    tag: Option<Mark>,
    snat: Option<(usize, IpAddr)>,
}

/// Where in a ruleset a line stands.
#[derive(Default)]
pub(super) struct At {
    /// Words that opened a brace, outermost first.
    open: Vec<Opened>,
    defined: BTreeMap<String, Vec<String>>,
}

struct Opened {
    is_chain: bool,
    hook: Option<String>,
}

/// What somebody may open, one in the other.
const DEEPEST: usize = 64;

impl At {
    /// What a line is taken for; none if it says nothing.
    pub(super) fn line(
        &mut self,
        words: &[String],
        (number, end): (usize, End),
        gathered: &mut Gathered,
    ) -> Option<Taken> {
        let not_needed = |why: &str| Some(Taken::NotNeeded(why.to_owned()));
        match end {
            End::Closes => {
                self.open.pop();
                return None;
            }
            End::Opens => {
                if self.open.len() >= DEEPEST {
                    return Some(Taken::NotUnderstood("too many braces".to_owned()));
                }
                let is_chain = words.iter().any(|word| word == "chain");
                self.open.push(Opened { is_chain, hook: None });
                let known =
                    ["table", "chain"].iter().any(|known| words.iter().take(2).any(|word| word == known));
                return (!known).then(|| {
                    Taken::NotUnderstood(format!(
                        "a {} is not known here",
                        words.first().map_or("brace", |it| it)
                    ))
                });
            }
            End::Line => {}
        }
        let words: Vec<String> =
            words.iter().flat_map(|word| self.expanded(word)).take(LONGEST + 1).cloned().collect();
        if words.len() > LONGEST {
            return Some(Taken::NotUnderstood(format!("it has more than {LONGEST} words")));
        }
        let strings: Vec<&str> = words.iter().map(String::as_str).collect();
        match strings.as_slice() {
            ["define", name, "=", value @ ..] => {
                if self.defined.len() == MOST && !self.defined.contains_key(*name) {
                    return Some(Taken::NotUnderstood(format!("there are more than {MOST} names")));
                }
                if value.len() > MOST {
                    return Some(Taken::NotUnderstood(format!("it stands for more than {MOST} words")));
                }
                self.defined
                    .insert((*name).to_owned(), value.iter().map(|word| (*word).to_owned()).collect());
                return not_needed("a name for what follows");
            }
            ["flush", "ruleset"] => return not_needed("dunnat changes its own tables and no others"),
            ["flush" | "add" | "delete" | "destroy", ..] if self.open.is_empty() => {
                return not_needed("dunnat makes its own tables");
            }
            ["table", ..] if self.open.is_empty() => return not_needed("dunnat makes its own tables"),
            ["type", ..] if self.open.last().is_some_and(|it| it.is_chain) => {
                return Some(self.chain(&strings, gathered));
            }
            ["policy", "accept"] => return not_needed("what no rule of dunnat is about goes on"),
            ["comment", ..] => return None,
            _ => {}
        }
        let Some(Opened { is_chain: true, hook }) = self.open.last() else {
            return Some(Taken::NotUnderstood(format!(
                "'{}' is not known here",
                strings.first().unwrap_or(&"")
            )));
        };
        Some(match Rule::read(&words) {
            Ok(rule) => gathered.take(number, &rule, hook.as_deref()),
            Err(why) => Taken::NotUnderstood(why),
        })
    }

    /// A variable becomes what it stands for. What it stands for has none: `define` has seen to that.
    fn expanded<'a>(&'a self, word: &'a String) -> &'a [String] {
        let known = word.strip_prefix('$').and_then(|name| self.defined.get(name));
        known.map_or(std::slice::from_ref(word), Vec::as_slice)
    }

    /// `type TYPE hook HOOK [devices = { ... }] priority N`.
    fn chain(&mut self, words: &[&str], gathered: &mut Gathered) -> Taken {
        let behind = |name: &str| words.iter().position(|word| *word == name).map(|at| &words[at + 1..]);
        let hook = behind("hook").and_then(<[&str]>::first);
        if let (Some(hook), Some(opened)) = (hook, self.open.last_mut()) {
            opened.hook = Some((*hook).to_owned());
        }
        let devices = behind("devices").or_else(|| behind("device"));
        let Some(devices) = devices else {
            return Taken::NotNeeded("dunnat has its own hooks and priorities".to_owned());
        };
        let names = devices.iter().take_while(|word| !["priority", "}"].contains(word));
        let names: Vec<String> =
            names.filter(|word| !["=", "{", ","].contains(word)).map(|word| (*word).to_owned()).collect();
        let said = format!("pipes: {}", names.join(" "));
        match &gathered.pipes {
            Some(pipes) if *pipes != names => {
                Taken::NotUnderstood(format!("{said}; before they were {}", pipes.join(" ")))
            }
            _ => {
                gathered.pipes = Some(names);
                Taken::For(said)
            }
        }
    }
}

impl Gathered {
    /// A ruleset begins.
    pub(super) fn begin(&mut self) {
        self.own = Own::default();
    }

    /// A ruleset has ended: what it has for guests that begin flows has to be the address of the node whose tag it gives.
    pub(super) fn end(&mut self, say: &mut dyn FnMut(usize, Taken)) {
        let Own { tag: Some(tag), snat: Some((number, address)) } = self.own else { return };
        let node = self.nodes.entry(tag.0).or_default();
        match node.publics.get(address.family()) {
            None => {
                node.publics.insert(address.family(), address);
                say(
                    number,
                    Taken::For(format!(
                        "node of tag {tag}: public {address}, as this ruleset gives that tag"
                    )),
                );
            }
            Some(public) if *public == address => {}
            Some(public) => say(
                number,
                Taken::NotUnderstood(format!(
                    "guests get {address}, but tag {tag}, which this ruleset gives, is of {public}"
                )),
            ),
        }
    }

    /// What a rule is taken for, by what it asks and does.
    fn take(&mut self, number: usize, rule: &Rule, hook: Option<&str>) -> Taken {
        let at = |wanted: &[&str]| hook.is_none_or(|hook| wanted.contains(&hook));
        let taken = match rule {
            Rule { sets_to: Some(to), .. } if at(&["prerouting", "ingress"]) => self.service(rule, *to),
            Rule { sets_from: Some(to), ct_mark, from: Some(from), .. } if at(&["postrouting", "egress"]) => {
                self.spoof(rule, *to, *ct_mark, *from)
            }
            Rule { frame_from: Some(mac), sets_mark: Some(tag), .. } if at(&["ingress", "prerouting"]) => {
                self.node(*tag, *mac)
            }
            Rule { arp: Some(gateway), drops: true, .. }
                if at(&["egress", "postrouting", "output", "forward"]) =>
            {
                same(&mut self.gateways, *gateway, "gateway, kept off the pipes")
            }
            Rule { saves_mark: true, to: Some(network), output, .. } if at(&["postrouting"]) => {
                let network = same(&mut self.networks, *network, "guests' network");
                network.and_then(|said| Ok(join(said, self.is_bridge(output.as_deref())?)))
            }
            Rule { snat: Some(to), from: Some(network), output, .. } if at(&["postrouting"]) => {
                self.snat(number, *to, *network, output.as_deref())
            }
            _ => Err("dunnat has nothing that does this".to_owned()),
        };
        taken.map_or_else(Taken::NotUnderstood, Taken::For)
    }

    /// Requests.
    fn service(&mut self, rule: &Rule, Target(guest): Target) -> Result<String, String> {
        let guest = guest.ok_or("the guest is another on each node")?;
        if rule.to.is_some_and(|to| to.prefix_len() != to.max_prefix_len()) {
            return Err(format!(
                "requests to the network {} lead to a guest; dunnat has addresses",
                rule.to.map_or(String::new(), |to| to.to_string())
            ));
        }
        if let Some(mark) = rule.mark.or(rule.ct_mark) {
            return Err(format!("requests with the mark {mark}: services of dunnat have no marks"));
        }
        let guest_port = rule.sets_port;
        let ports: Vec<Option<Ports>> =
            if rule.ports.is_empty() { vec![None] } else { rule.ports.iter().copied().map(Some).collect() };
        let mut told = Vec::new();
        for ports in ports {
            let service = Service { proto: rule.proto, ports, guest, guest_port };
            told.push(service.to_string());
            if !self.services.contains(&service) {
                if self.services.len() == MOST {
                    return Err(format!("there are more than {MOST} services"));
                }
                self.services.push(service);
            }
        }
        let mut said = format!("service: {}", told.join("; "));
        if rule.to.is_none() {
            said.push_str(" (at the public addresses alone)");
        }
        if let Some(input) = &rule.input {
            said = join(said, self.is_public(Some(input), "requests come in by")?);
        }
        if let Some(tag) = rule.sets_mark {
            self.own.tag = Some(tag);
            self.node_entry(tag)?;
            said = format!("{said}; tag of this node: {tag}");
        }
        Ok(said)
    }

    /// Replies.
    fn spoof(
        &mut self,
        rule: &Rule,
        Target(public): Target,
        tag: Option<Mark>,
        network: IpNet,
    ) -> Result<String, String> {
        let network = same(&mut self.networks, network, "guests' network")?;
        let said = join(network, self.is_public(rule.output.as_deref(), "replies leave by")?);
        let (Some(tag), Some(public)) = (tag, public) else {
            // The fallback of a node for its own flows: dunnat tags these, too.
            return Ok(format!("{said}; flows of the node itself have a tag with dunnat, too"));
        };
        let node = self.node_entry(tag)?;
        match node.publics.get(public.family()) {
            Some(other) if *other != public => {
                Err(format!("tag {tag} is of {public}; before it was of {other}"))
            }
            _ => {
                node.publics.insert(public.family(), public);
                Ok(format!("node of tag {tag}: public {public}; {said}"))
            }
        }
    }

    fn node(&mut self, tag: Mark, mac: MacPrefix) -> Result<String, String> {
        let node = self.node_entry(tag)?;
        match node.mac {
            Some(other) if other != mac => {
                Err(format!("tag {tag} is of frames from {mac}; before it was of {other}"))
            }
            _ => {
                node.mac = Some(mac);
                Ok(format!("node of tag {tag}: mac {mac}"))
            }
        }
    }

    fn snat(
        &mut self,
        number: usize,
        Target(to): Target,
        network: IpNet,
        output: Option<&str>,
    ) -> Result<String, String> {
        let network = same(&mut self.networks, network, "guests' network")?;
        let said = join(network, self.is_public(output, "flows that guests begin leave by")?);
        let Some(to) = to else { return Ok(format!("{said}; each node has its own public address there")) };
        self.own.snat = Some((number, to));
        Ok(format!("{said}; guests get {to}"))
    }

    fn node_entry(&mut self, tag: Mark) -> Result<&mut Node, String> {
        if tag.is_zero() {
            return Err("a tag is not zero".to_owned());
        }
        if self.nodes.len() == MOST && !self.nodes.contains_key(&tag.0) {
            return Err(format!("there are more than {MOST} nodes"));
        }
        Ok(self.nodes.entry(tag.0).or_default())
    }

    fn is_public(&mut self, name: Option<&str>, what: &str) -> Result<String, String> {
        let Some(name) = name else { return Ok(String::new()) };
        match &self.public {
            Some(other) if other != name => {
                Err(format!("{what} {name}; before the public interface was {other}"))
            }
            _ => {
                self.public = Some(name.to_owned());
                Ok(format!("{what} {name}"))
            }
        }
    }

    fn is_bridge(&mut self, name: Option<&str>) -> Result<String, String> {
        let Some(name) = name else { return Ok(String::new()) };
        match &self.bridge {
            Some(other) if other != name => Err(format!("the bridge is {name}; before it was {other}")),
            _ => {
                self.bridge = Some(name.to_owned());
                Ok(format!("bridge {name}; tags are saved"))
            }
        }
    }
}

fn join(said: String, more: String) -> String {
    if more.is_empty() { said } else { format!("{said}; {more}") }
}

/// One value for each family, always the same.
fn same<T: OfFamily + Copy + PartialEq + Display>(
    all: &mut ByFamily<T>,
    value: T,
    what: &str,
) -> Result<String, String> {
    match all.get(value.family()) {
        Some(other) if *other != value => Err(format!("{what} {value}; before it was {other}")),
        _ => {
            all.insert(value.family(), value);
            Ok(format!("{what} {value}"))
        }
    }
}

impl Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proto, ports, guest, guest_port } = self;
        match (proto, ports) {
            (Some(proto), Some(ports)) => write!(f, "{proto} port {ports} to guest {guest}")?,
            (Some(proto), None) => write!(f, "all of {proto} to guest {guest}")?,
            (None, _) => write!(f, "all of the address to guest {guest}")?,
        }
        guest_port.map_or(Ok(()), |port| write!(f, " port {port}"))
    }
}
