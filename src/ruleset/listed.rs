//! The rules of a host as `nft -a -s list ruleset` prints them: to be loaded elsewhere, and to find a rule again.

use crate::netlink::nftables::Then;

/// A table, and what nft needs to make it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) family: String,
    pub(crate) name: String,
    /// For `nft -f`. The handles in it are comments to nft.
    pub(crate) text: String,
    /// Only those of rules, in their order.
    pub(crate) chains: Vec<Chain>,
    /// nft has no words for something in it: an extension of x_tables.
    pub(crate) is_of_xtables: bool,
    /// What was left out so that it can be loaded.
    pub(crate) left_out: Vec<&'static str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    /// Of a base chain.
    pub(crate) hook: Option<String>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) handle: u64,
    pub(crate) text: String,
}

/// What is said of a rule that was not there when the rules were read.
pub(crate) const UNLISTED: &str = "a rule that nft does not list";

/// The policy of a chain by what becomes of a packet there, as nft writes it.
pub(crate) fn policy(then: &Then) -> String {
    format!("policy {}", if *then == Then::Drop { "drop" } else { "accept" })
}

/// Where a rule stands, as in `rule 7 of chain forward, table inet fw`; without a handle it is the policy of the chain.
pub(crate) fn place(table: &str, chain: &str, handle: Option<u64>) -> String {
    let rule = handle.map(|handle| format!("rule {handle} of ")).unwrap_or_default();
    format!("{rule}chain {chain}, table {table}")
}

impl Table {
    /// As `inet fw`.
    pub(crate) fn place(&self) -> String {
        format!("{} {}", self.family, self.name)
    }

    pub(crate) fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

/// Reads a listing: tables begin a line, chains stand behind one tab, rules behind two; what stands behind more goes on with
/// the rule before.
pub(crate) fn read(listing: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut in_chain = false;
    for line in listing.lines() {
        let indent = line.len() - line.trim_start_matches('\t').len();
        let (words, handle) = without_handle(line.trim());
        if indent == 0 && words.starts_with("table ") {
            let mut names = words.split_whitespace().skip(1);
            let mut next = || names.next().unwrap_or_default().to_owned();
            tables.push(Table { family: next(), name: next(), ..Table::default() });
            in_chain = false;
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some(what) = not_to_be_loaded(words, indent, in_chain) {
            table.left_out.push(what);
            continue;
        }
        table.text.push_str(line);
        table.text.push('\n');
        match (indent, in_chain) {
            (1, _) => {
                let name = words.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {"));
                in_chain = name.is_some();
                table.chains.extend(name.map(|name| Chain { name: name.to_owned(), ..Chain::default() }));
            }
            (2.., true) => {
                table.is_of_xtables |=
                    ["xt match ", "xt target ", "# xt_"].iter().any(|it| line.contains(it));
                table.chains.last_mut().into_iter().for_each(|chain| chain.go_on(words, handle));
            }
            _ => {}
        }
    }
    tables
}

impl Chain {
    /// A rule ends with its handle; what has none is the place of the chain, or the beginning of a rule of several lines.
    fn go_on(&mut self, words: &str, handle: Option<u64>) {
        match self.rules.last_mut() {
            Some(rule) if rule.handle == 0 => {
                rule.text.push(' ');
                rule.text.push_str(words);
            }
            _ if words.starts_with("type ") && words.contains(" hook ") && handle.is_none() => {
                self.hook = words.split(' ').skip_while(|word| *word != "hook").nth(1).map(str::to_owned);
                return;
            }
            _ if words.starts_with("comment ") && handle.is_none() => return,
            _ if words.is_empty() || words == "}" => return,
            _ => self.rules.push(Rule { handle: 0, text: words.to_owned() }),
        }
        if let (Some(rule), Some(handle)) = (self.rules.last_mut(), handle) {
            rule.handle = handle;
        }
    }
}

/// The words of a line, and the handle that nft says in a comment.
fn without_handle(line: &str) -> (&str, Option<u64>) {
    match line.rsplit_once(" # handle ") {
        Some((words, handle)) => match handle.parse() {
            Ok(handle) => (without_owner(words), Some(handle)),
            Err(_) => (line, None),
        },
        None => (without_owner(line), None),
    }
}

/// Of a table with an owner nft tells the program, too.
fn without_owner(words: &str) -> &str {
    words.split(" # progname ").next().unwrap_or_default().trim_end()
}

/// A line that would make the copy otherwise than the original: a table that its owner, nft, would take along when it ends,
/// and what wants hardware.
fn not_to_be_loaded(words: &str, indent: usize, in_chain: bool) -> Option<&'static str> {
    let mut flags = words.strip_prefix("flags ")?.split([',', ' ', ';']).filter(|word| !word.is_empty());
    match indent {
        1 if flags.all(|flag| ["owner", "persist"].contains(&flag)) => Some("its owner"),
        2 if !in_chain && words.trim_end_matches(';') == "flags offload" => Some("hardware offload"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 prints it, but for the flags of an owner, which are of 1.0.9.
    const LISTING: &str = "table ip filter { # handle 1\n\
        \tchain FORWARD { # handle 1\n\
        \t\ttype filter hook forward priority filter; policy drop;\n\
        \t\txt match string counter accept # handle 4\n\
        \t}\n\
        }\n\
        table inet fw { # progname \"daemon\" # handle 3\n\
        \tflags owner,persist\n\
        \n\
        \tset s { # handle 4\n\
        \t\ttype ipv4_addr\n\
        \t\tflags timeout\n\
        \t\telements = { 1.2.3.4 timeout 1h }\n\
        \t}\n\
        \n\
        \tflowtable ft { # handle 6\n\
        \t\thook ingress priority filter\n\
        \t\tdevices = { eth0 }\n\
        \t\tflags offload;\n\
        \t}\n\
        \n\
        \tchain forward { # handle 1\n\
        \t\tcomment \"of a chain\"\n\
        \t\ttype filter hook forward priority filter; policy accept;\n\
        \t\ttcp dport { 1,\n\
        \t\t\t     2 } counter drop comment \"# handle 9\" # handle 3\n\
        \t\tct state invalid drop # handle 12\n\
        \t}\n\
        }\n";

    #[test]
    fn rules_are_found_by_their_place() {
        let [filter, fw] = &read(LISTING)[..] else { panic!("not two") };
        assert_eq!((filter.place(), filter.is_of_xtables), ("ip filter".to_owned(), true));
        assert_eq!((fw.place(), fw.is_of_xtables), ("inet fw".to_owned(), false));
        assert_eq!(fw.left_out, ["its owner", "hardware offload"]);
        assert!(
            fw.text.contains("flags timeout") && !fw.text.contains("owner,") && !fw.text.contains("offload")
        );
        assert!(fw.text.starts_with("table inet fw {") && fw.text.ends_with("}\n"));
        let rules = &fw.chain("forward").unwrap().rules;
        let rule = |handle, text: &str| Rule { handle, text: text.to_owned() };
        let dropped = rule(3, "tcp dport { 1, 2 } counter drop comment \"# handle 9\"");
        assert_eq!(rules[..], [dropped, rule(12, "ct state invalid drop")]);
        assert_eq!(filter.chain("FORWARD").unwrap().rules[0].handle, 4);
        assert_eq!(filter.chain("forward"), None);
        assert_eq!(fw.chain("forward").unwrap().hook.as_deref(), Some("forward"));
    }

    #[test]
    fn words_about_a_chain_are_no_rules_of_it() {
        let mut chain = Chain::default();
        // It speaks of a hook, and has none.
        for words in ["comment \"at the hook of all\"", "", "}"] {
            chain.go_on(words, None);
        }
        assert_eq!(chain, Chain::default());
        chain.go_on("type filter hook input priority filter; policy accept;", None);
        assert_eq!((chain.hook.as_deref(), &chain.rules[..]), (Some("input"), &[][..]));
        // A rule may begin with such a word, and one that has begun goes on to its handle.
        for (words, handle) in [("comment", Some(2)), ("type", None), ("}", None), ("", Some(3))] {
            chain.go_on(words, handle);
        }
        let rules: Vec<(&str, u64)> =
            chain.rules.iter().map(|rule| (rule.text.as_str(), rule.handle)).collect();
        assert_eq!((chain.hook.as_deref(), rules), (Some("input"), vec![("comment", 2), ("type } ", 3)]));
    }

    #[test]
    fn what_only_its_owner_may_load_is_left_out() {
        for (line, indent, in_chain, what) in [
            ("flags owner", 1, false, Some("its owner")),
            ("flags owner, persist", 1, false, Some("its owner")),
            ("flags dormant", 1, false, None),
            ("flags owner,dormant", 1, false, None),
            ("flags offload", 2, false, Some("hardware offload")),
            ("flags offload;", 2, false, Some("hardware offload")),
            ("flags offload", 2, true, None),
            ("flags timeout", 2, false, None),
            ("flags owner", 2, false, None),
            ("owner", 1, false, None),
        ] {
            assert_eq!(not_to_be_loaded(line, indent, in_chain), what, "{line}");
        }
    }

    #[test]
    fn a_place_has_the_words_of_nft() {
        assert_eq!(place("inet fw", "forward", Some(7)), "rule 7 of chain forward, table inet fw");
        assert_eq!(place("inet fw", "forward", None), "chain forward, table inet fw");
        assert_eq!([Then::Accept, Then::Drop].map(|then| policy(&then)), ["policy accept", "policy drop"]);
    }

    proptest::proptest! {
        #[test]
        fn any_listing_comes_to_an_end(listing in "(\t{0,3}(table|chain|set|flags|type| hook |[a-z]|# handle 1|\\{|\\})*\n){0,20}") {
            let tables = read(&listing);
            proptest::prop_assert!(tables.len() <= listing.lines().count());
        }
    }
}
