//! The text of `nft list ruleset`, as far as facts are about it.

use std::collections::BTreeSet;

use crate::ruleset::is_our_name;

/// Base chains with their rules, flowtables, and the comments of tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub(super) chains: Vec<Chain>,
    pub(super) flowtables: Vec<Flowtable>,
    /// Each with its table, as in `ip dunnat`.
    pub(super) comments: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) family: String,
    pub(super) table: String,
    pub(super) name: String,
    /// Of a base chain.
    pub(super) hook: Option<String>,
    pub(super) drops_by_policy: bool,
    /// Without counters and comments.
    pub(super) rules: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flowtable {
    pub(super) name: String,
    pub(super) table: String,
    pub(super) devices: Vec<String>,
}

/// What a line with one tab before it has begun.
enum Block {
    Chain,
    Flowtable,
    Other,
}

impl Listing {
    /// Reads what nft prints: tables, in them blocks behind one tab, in those lines behind two. What goes on
    /// behind more belongs to the line before.
    pub fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        let (mut family, mut table) = ("", "");
        let mut block = Block::Other;
        for line in text.lines() {
            let indent = line.len() - line.trim_start_matches('\t').len();
            // Of a table with an owner nft tells the program, too.
            let words = line.split(" # progname ").next().unwrap_or_default().trim();
            let named = |kind: &str| words.strip_prefix(kind).and_then(|rest| rest.strip_suffix(" {"));
            match (indent, &block) {
                // Between the blocks of a table.
                (0, _) if words.is_empty() => {}
                (0, _) => {
                    (family, table) = named("table ").and_then(|it| it.split_once(' ')).unwrap_or_default();
                }
                (1, _) => {
                    block = Block::Other;
                    if let Some(name) = named("chain ") {
                        block = Block::Chain;
                        listing.chains.push(Chain {
                            family: family.to_owned(),
                            table: table.to_owned(),
                            name: name.to_owned(),
                            ..Chain::default()
                        });
                    } else if let Some(name) = named("flowtable ") {
                        block = Block::Flowtable;
                        let (name, table) = (name.to_owned(), format!("{family} {table}"));
                        listing.flowtables.push(Flowtable { name, table, devices: Vec::new() });
                    } else if let Some(comment) = words.strip_prefix("comment ") {
                        listing
                            .comments
                            .push((format!("{family} {table}"), comment.trim_matches('"').to_owned()));
                    }
                }
                (2.., Block::Chain) => {
                    if let Some(chain) = listing.chains.last_mut() {
                        chain.read(words, indent);
                    }
                }
                (2.., Block::Flowtable) => {
                    if let (Some(flowtable), Some(devices)) =
                        (listing.flowtables.last_mut(), words.strip_prefix("devices = {"))
                    {
                        let names = devices.trim_end_matches([' ', '}']).split(',');
                        flowtable.devices =
                            names.map(|name| name.trim().trim_matches('"').to_owned()).collect();
                    }
                }
                _ => {}
            }
        }
        listing
    }
}

impl Listing {
    /// How many queues the rules of a node name: in nft's `queue` statement, or as chains.
    pub fn own_queues(&self) -> usize {
        let mut numbers = BTreeSet::new();
        for chain in self.chains.iter().filter(|chain| chain.is_ours()) {
            let number = chain.name.strip_prefix("queue-");
            let number = number.map(|number| number.strip_suffix("-bypass").unwrap_or(number));
            numbers.extend(number.and_then(|number| number.parse::<u16>().ok()));
            for rule in &chain.rules {
                let mut words = rule.split_whitespace().skip_while(|word| *word != "queue").skip(1);
                // By a flow's hash to one of several: `symhash mod 2 offset 100`.
                let after = |wanted: &str| {
                    let mut words = words.clone().skip_while(|word| *word != wanted);
                    words.nth(1)?.parse::<u16>().ok()
                };
                if let (Some(count), Some(first)) = (after("mod"), after("offset")) {
                    numbers.extend((0..count).filter_map(|place| first.checked_add(place)));
                    continue;
                }
                let range = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
                let (first, last) =
                    range.map_or(("", ""), |range| range.split_once('-').unwrap_or((range, range)));
                if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
                    numbers.extend(first..=last);
                }
            }
        }
        numbers.len()
    }
}

impl Chain {
    fn read(&mut self, words: &str, indent: usize) {
        if indent == 2
            && let Some(base) = words.strip_prefix("type ")
            && base.contains(" hook ")
        {
            self.hook = base.split_whitespace().skip_while(|word| *word != "hook").nth(1).map(str::to_owned);
            self.drops_by_policy = base.contains("policy drop");
        } else if indent > 2
            && let Some(last) = self.rules.last_mut()
        {
            *last = without_counter(&format!("{last} {words}"));
        } else {
            self.rules.push(without_counter(words));
        }
    }

    /// Whether dunnat made it.
    pub(super) fn is_ours(&self) -> bool {
        is_our_name(&self.table)
    }

    /// As a person names it.
    pub(super) fn place(&self) -> String {
        format!("{} {} {}", self.family, self.table, self.name)
    }
}

/// A rule less what changes with every packet, and what nobody acts on.
fn without_counter(rule: &str) -> String {
    let mut words = rule.split_whitespace().peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "counter" => {
                if words.peek() == Some(&"packets") {
                    // packets N bytes N
                    for _ in 0..4 {
                        words.next();
                    }
                }
            }
            "comment" => break,
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_of_a_node_are_counted_however_rules_name_them() {
        let of = |rules: &str| {
            let text = format!(
                "table ip dunnat {{\n\tchain ask-dnat {{\n{rules}\t}}\n\tchain queue-100 {{\n\t}}\n}}\n"
            );
            Listing::parse(&text).own_queues()
        };
        assert_eq!(of("\t\ttcp dport 80 goto queue-100\n"), 1);
        assert_eq!(of("\t\ttcp dport 80 queue flags fanout to 101-103\n"), 4);
        assert_eq!(of("\t\tudp dport 80 queue to 100\n\t\tqueue num 7\n"), 2);
        assert_eq!(of("\t\tudp dport 80 queue flags bypass to symhash mod 3 offset 101\n"), 4);
        assert_eq!(of("\t\tudp dport 80 queue to symhash mod 3 offset 65535\n"), 2);
        assert_eq!(of("\t}\n\tchain queue-7-bypass {\n\t\tqueue num 7\n"), 2);
        assert_eq!(Listing::parse("table ip fw {\n\tchain c {\n\t\tqueue to 1\n\t}\n}\n").own_queues(), 0);
    }

    #[test]
    fn a_listing_is_read() {
        // As nft 1.0.6 prints it.
        let text = "table ip dunnat {\n\tcomment \"dunnat node1 queues 100-111\"\n\tchain save {\n\t\ttype filter hook \
            postrouting priority filter; policy accept;\n\t\tct mark set meta mark\n\t}\n}\n\
            table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t\t\
            counter packets 3 bytes 9 jump DOCKER-USER\n\t\tiifname \"br0\" counter accept comment \"mine\"\n\t}\n\n\
            \tchain DOCKER-USER {\n\t\ttcp dport { 1,\n\t\t\t     2 } counter drop\n\t}\n}\n\
            table inet fast {\n\tset s {\n\t\ttype mark\n\t\telements = { 0x1 }\n\t}\n\tflowtable ft {\n\t\thook ingress \
            priority filter\n\t\tdevices = { eth0, \"eth1.100\" }\n\t}\n}\n";
        let listing = Listing::parse(text);
        assert_eq!(listing.comments, [("ip dunnat".to_owned(), "dunnat node1 queues 100-111".to_owned())]);
        let [ours, forward, user] = &listing.chains[..] else { panic!("{listing:?}") };
        assert!(ours.is_ours() && !forward.is_ours());
        assert_eq!((forward.hook.as_deref(), forward.drops_by_policy), (Some("forward"), true));
        assert_eq!(forward.rules, ["jump DOCKER-USER", "iifname \"br0\" accept"]);
        assert_eq!(user.rules, ["tcp dport { 1, 2 } drop"]);
        assert_eq!(user.place(), "ip filter DOCKER-USER");
        assert_eq!(listing.flowtables[0].devices, ["eth0", "eth1.100"]);
    }
}
