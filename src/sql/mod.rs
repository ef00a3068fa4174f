//! SQL for engines that many people have: a table of events, and a view that finds what [`conversations`](crate::conversations)
//! finds of each connection.
//!
//! One machine joins the traces of a few nodes. For a thousand nodes there are engines, and this is the question for them. The view
//! is one text for all engines ([`Dialect`]); only the table, and the few words that differ, are each engine's own. Names of
//! findings and reasons, and limits, are filled in from what the program itself goes by.

use std::fmt::Write as _;

use crate::conversations::{Finding, LONGEST_HEADERS, OFTEN};
use crate::engine::Reason;

/// What the SQL is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// DuckDB; tried with 2.0.
    DuckDb,
    /// ClickHouse; tried with 26.9.
    ClickHouse,
}

/// A tuple of JSON in ClickHouse.
const TUPLE: &str = "Tuple(proto Nullable(String), src Nullable(String), dst Nullable(String), sport Nullable(Int32), dport Nullable(Int32))";

const VIEW: &str = concat!(
    include_str!("connections.sql"),
    include_str!("guests.sql"),
    include_str!("packets.sql"),
    include_str!("findings.sql")
);

impl Dialect {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::DuckDb, Self::ClickHouse];

    /// Table and view, ready to run.
    pub fn sql(self) -> String {
        let question = match self {
            Self::DuckDb => format!("{}{VIEW};\n", include_str!("view.duckdb.sql")),
            Self::ClickHouse => format!("{}{}", include_str!("view.clickhouse.sql"), step_by_step(VIEW)),
        };
        let mut text = self.table().to_owned() + &question;
        for (word, is) in self.words().into_iter().chain(names()) {
            text = text.replace(&format!("{{{word}}}"), &is);
        }
        text = with_argument(&text, "flow", |of| tuple(of, ["src", "sport", "dst", "dport"]));
        text = with_argument(&text, "back", |of| tuple(of, ["dst", "dport", "src", "sport"]));
        let turned = |of: &str| {
            let turned = ["proto", "dst", "src", "dport", "sport"].map(|it| format!("{of}.{it}")).join(", ");
            format!("CAST(({turned}), '{TUPLE}')")
        };
        text = with_argument(&text, "turned", turned);
        text = with_argument(&text, "left", left_join);
        with_argument(&text, "ours", ours)
    }

    fn table(self) -> &'static str {
        match self {
            Self::DuckDb => include_str!("duckdb.sql"),
            Self::ClickHouse => include_str!("clickhouse.sql"),
        }
    }

    /// What engines have different words for.
    fn words(self) -> Vec<(String, String)> {
        let words: [(&str, &str); 5] = match self {
            Self::DuckDb => [
                ("has", "list_contains"),
                ("nullable", ""),
                ("flags", "array_to_string(tcp_flags, ',')"),
                ("list_nodes", "list_sort(list(DISTINCT node))"),
                ("list_node", "[node]"),
            ],
            Self::ClickHouse => [
                ("has", "has"),
                ("nullable", "toNullable"),
                ("flags", "arrayStringConcat(tcp_flags, ',')"),
                ("list_nodes", "arraySort(groupUniqArray(node))"),
                ("list_node", "[node]"),
            ],
        };
        let number = |name: &str| format!("coalesce({name}, -1)");
        let text = |name: &str| format!("coalesce({name}, '')");
        let joined = |parts: Vec<String>| format!("concat({})", parts.join(", ' ', "));
        let flags = words[2].1.to_owned();
        // As `Seen::is_same_packet`, `Sent::is_same_packet` and `Seen::is_like` have them.
        let packet =
            joined(vec![number("ip_id"), number("tcp_seq"), number("tcp_ack"), flags, number("len")]);
        let sent = joined(vec![number("tcp_seq"), number("len"), "CASE WHEN syn THEN 1 ELSE 0 END".into()]);
        let kind = [
            "node", "run", "config", "stage", "in_if", "out_if", "phys_in", "mac", "marks", "ct_state",
            "service", "entry", "reason", "src", "dst",
        ];
        let mut kind: Vec<String> = kind.map(str::to_owned).into();
        kind.extend(["new_dst", "left_src"].map(text));
        kind.extend(
            ["accepted", "syn", "ack", "rst", "fin", "tcp_seq IS NULL"]
                .map(|it| format!("CASE WHEN {it} THEN 1 ELSE 0 END")),
        );
        kind.extend(["icmp_type", "icmp_code", "sport", "dport", "left_port", "new_dport"].map(number));
        let mut all: Vec<(String, String)> =
            vec![("KIND".into(), joined(kind)), ("PACKET".into(), packet), ("SENT".into(), sent)];
        all.push((
            "original".into(),
            text_of(
                "proto",
                [
                    "client",
                    "client_port",
                    "original_dst",
                    "CASE WHEN original_port >= 0 THEN original_port END",
                ],
            ),
        ));
        all.extend(words.map(|(word, is)| (word.to_owned(), is.to_owned())));
        all
    }
}

/// The view as statements: what it names is a table or a view of its own. ClickHouse would work out a view anew wherever it is
/// named, and what that names again.
fn step_by_step(view: &str) -> String {
    let mut text = String::new();
    let mut is_last = false;
    for line in view.trim_end().lines() {
        let named = line
            .split_once(" AS ")
            .filter(|(name, _)| !is_last && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        let ends = match line {
            ")" => {
                is_last = true;
                Some("")
            }
            "WITH" => continue,
            "CREATE OR REPLACE VIEW conversations AS" => continue,
            _ => line.strip_suffix("),").filter(|rest| rest.is_empty() || named.is_some()),
        };
        let is = |line: &str| match named {
            Some((name, _)) => match line.split_once(" AS MATERIALIZED (") {
                Some((_, rest)) => format!("{} AS\n{rest}", create(name)),
                None => format!(
                    "CREATE OR REPLACE VIEW {name} AS\n{}",
                    line.split_once('(').map_or("", |it| it.1)
                ),
            },
            None => line.to_owned(),
        };
        let _ = match ends {
            Some(rest) if is_last => writeln!(text, "{};\n\n{} AS", is(rest), create("conversations")),
            Some(rest) => writeln!(text, "{};", is(rest)),
            None => writeln!(text, "{}", is(line)),
        };
    }
    text + ";\n"
}

fn create(name: &str) -> String {
    format!("CREATE OR REPLACE TABLE {name} ENGINE = MergeTree ORDER BY tuple()")
}

/// Names and limits that the program goes by.
fn names() -> Vec<(String, String)> {
    let quoted = |name: &str| format!("'{name}'");
    let mut all: Vec<(String, String)> = vec![
        ("OFTEN".to_owned(), OFTEN.to_string()),
        ("LONGEST_HEADERS".to_owned(), LONGEST_HEADERS.to_string()),
    ];
    let right: Vec<String> =
        Finding::ALL.iter().filter(|one| one.is_right()).map(|one| quoted(one.name())).collect();
    all.push(("TUPLE".to_owned(), TUPLE.to_owned()));
    all.push(("RIGHT".to_owned(), right.join(", ")));
    let mut former = String::new();
    for (old, new) in Reason::FORMER {
        let _ = write!(former, "WHEN {} THEN {} ", quoted(old), quoted(new));
    }
    all.push(("FORMER_REASONS".to_owned(), former.trim_end().to_owned()));
    all.extend(Finding::ALL.map(|one| (one.name().to_owned(), quoted(one.name()))));
    all.extend(Reason::ALL.map(|one| (format!("@{}", one.name()), quoted(one.name()))));
    all
}

/// Fills in `{name ARGUMENT}`.
fn with_argument(text: &str, name: &str, fill: impl Fn(&str) -> String) -> String {
    let begin = format!("{{{name} ");
    let mut parts = text.split(&begin);
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (argument, rest) = part.split_once('}').unwrap_or((part, ""));
        filled += &fill(argument);
        filled += rest;
    }
    filled
}

/// `LEFT TABLE | COLUMNS | FROM`: what is known of a connection beside. The keys have other names there, or ClickHouse would put the name
/// of a table before those of `*`.
fn left_join(of: &str) -> String {
    let mut parts = of.split('|').map(str::trim);
    let (names, columns, from) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let (left, name) = names.split_once(' ').unwrap_or((names, names));
    let keys = ["flow", "connection", "part"];
    let named = keys.map(|key| format!("{key} AS {name}_{key}")).join(", ");
    let same = keys.map(|key| format!("{left}.{key} = {name}.{name}_{key}")).join(" AND ");
    format!("LEFT JOIN (SELECT {named}, {columns} FROM {from}) AS {name}\n        ON {same}")
}

/// A mark in ClickHouse, which has no number for a text of hexadecimal digits: the cluster's bits.
fn ours(mark: &str) -> String {
    let number = |text: &str| format!("reinterpretAsUInt32(reverse(unhex(substring({text}, 3))))");
    format!("toInt64(bitAnd({}, {}))", number(mark), number("e.mask"))
}

/// A tuple of JSON as it is written for people.
fn tuple(of: &str, ends: [&str; 4]) -> String {
    text_of(&format!("{of}.proto"), ends.map(|end| format!("{of}.{end}")).each_ref().map(String::as_str))
}

/// As in `tcp 192.168.122.1:40000 > 10.5.5.201:80`, see [`Tuple`](crate::net::Tuple).
fn text_of(proto: &str, [src, sport, dst, dport]: [&str; 4]) -> String {
    let end = |address: &str, port: &str| {
        format!(
            "CASE WHEN {port} IS NULL THEN {address} WHEN {address} LIKE '%:%' THEN '[' || {address} || ']:' || {port} \
             ELSE {address} || ':' || {port} END"
        )
    };
    format!("({proto} || ' ' || {} || ' > ' || {})", end(src, sport), end(dst, dport))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word that is misspelt stays as it is, in braces.
    #[test]
    fn every_word_is_filled_in() {
        for dialect in Dialect::ALL {
            let sql = dialect.sql();
            let is_word = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '@');
            let left: Vec<&str> = sql
                .split('{')
                .skip(1)
                .filter(|text| is_word(text))
                .map(|text| text.split('}').next().unwrap())
                .collect();
            assert!(left.is_empty(), "{dialect:?}: {left:?}");
        }
    }

    #[test]
    fn every_finding_is_given() {
        for dialect in Dialect::ALL {
            let sql = dialect.sql();
            let judged = &sql[sql.find("judged AS").unwrap()..];
            for finding in Finding::ALL {
                assert!(judged.contains(&format!("'{finding}'")), "{dialect:?}: {finding}");
            }
        }
    }

    /// The question is one: what is a step in one engine is a step in the other.
    #[test]
    fn engines_are_asked_the_same() {
        let (duckdb, clickhouse) = (Dialect::DuckDb.sql(), Dialect::ClickHouse.sql());
        let steps: Vec<&str> =
            VIEW.lines().filter_map(|line| line.split_once(" AS ")).map(|(name, _)| name).collect();
        let steps: Vec<&str> = steps
            .into_iter()
            .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            .collect();
        assert!(steps.len() > 40, "{steps:?}");
        for step in steps {
            assert!(duckdb.contains(&format!("\n{step} AS ")), "{step}");
            let created = ["TABLE", "VIEW"].map(|what| format!("CREATE OR REPLACE {what} {step} "));
            assert_eq!(created.iter().map(|it| clickhouse.matches(it).count()).sum::<usize>(), 1, "{step}");
        }
        assert_eq!(clickhouse.matches("CREATE OR REPLACE TABLE conversations ").count(), 1);
    }

    /// A column that nothing fills in would be empty, and nobody would say so.
    #[test]
    fn tables_have_the_same_columns_and_each_is_filled_in() {
        let columns = |dialect: Dialect| -> Vec<String> {
            let (_, table) = dialect.table().split_once(" events (\n").unwrap();
            let (names, _) = table.split_once("\n)").unwrap();
            let lines = names.lines().filter(|line| !line.trim_start().starts_with("--"));
            let parts: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
            let named = parts.into_iter().filter_map(|part| part.split_once(' ')).map(|(name, _)| name);
            named.filter(|name| !name.starts_with('\'')).map(str::to_owned).collect()
        };
        let all = columns(Dialect::DuckDb);
        assert!(all.len() > 70, "{all:?}");
        assert_eq!(all, columns(Dialect::ClickHouse));
        for dialect in Dialect::ALL {
            for name in all.iter().filter(|name| *name != "raw") {
                assert!(dialect.table().contains(&format!(" AS {name},")), "{dialect:?}: {name}");
            }
        }
    }

    #[test]
    fn a_flow_is_written_as_a_tuple_is() {
        let sql = tuple("f", ["src", "sport", "dst", "dport"]);
        assert_eq!(
            sql,
            "(f.proto || ' ' || CASE WHEN f.sport IS NULL THEN f.src WHEN f.src LIKE '%:%' THEN '[' || f.src || ']:' || f.sport ELSE \
             f.src || ':' || f.sport END || ' > ' || CASE WHEN f.dport IS NULL THEN f.dst WHEN f.dst LIKE '%:%' THEN '[' || f.dst || \
             ']:' || f.dport ELSE f.dst || ':' || f.dport END)"
        );
    }
}
