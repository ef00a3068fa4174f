//! The list of flows: in which order, and which of them is chosen.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::flows::Row;

/// A column of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Finding,
    Client,
    Original,
    Way,
    Guest,
    Age,
    Packets,
}

impl Column {
    pub(super) const ALL: [Self; 7] =
        [Self::Finding, Self::Client, Self::Original, Self::Way, Self::Guest, Self::Age, Self::Packets];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::Client => "client",
            Self::Original => "original dst",
            Self::Way => "way",
            Self::Guest => "guest",
            Self::Age => "age",
            Self::Packets => "packets",
        }
    }

    /// What a row has in it.
    pub(super) fn of(self, row: &Row, now: Timestamp) -> String {
        match self {
            Self::Finding if row.waits => "waits".to_owned(),
            Self::Finding if row.went_on => "went on".to_owned(),
            Self::Finding => match (row.finding, &row.tracked) {
                (Some(finding), _) => finding.name().to_owned(),
                (None, Some(flow)) => flow.finding.map_or("tracked", crate::flows::Finding::name).to_owned(),
                (None, None) => String::new(),
            },
            Self::Client => row.client.clone(),
            Self::Original => row.original.clone(),
            Self::Way => row.way.clone(),
            Self::Guest => row.guest.clone(),
            Self::Age => age(now, row.first),
            Self::Packets if row.is_sample => format!("{}+", row.packets),
            Self::Packets => row.packets.to_string(),
        }
    }

    /// The column beside it.
    fn beside(self, forward: bool) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0);
        let count = Self::ALL.len();
        Self::ALL[(at + if forward { 1 } else { count - 1 }) % count]
    }

    fn compare(self, one: &Row, other: &Row) -> Ordering {
        match self {
            // What is wrong comes first.
            Self::Finding => {
                let is_odd = |row: &Row| {
                    row.finding.is_some_and(|finding| !finding.is_right()) && !row.waits && !row.went_on
                };
                let wrong = |row: &Row| (row.is_fault, is_odd(row));
                wrong(other).cmp(&wrong(one))
            }
            Self::Client => ends(one.flow.src, one.flow.ports).cmp(&ends(other.flow.src, other.flow.ports)),
            Self::Original => one.original.cmp(&other.original),
            Self::Way => one.way.cmp(&other.way),
            Self::Guest => (one.flow.dst, &one.guest).cmp(&(other.flow.dst, &other.guest)),
            Self::Age => other.first.cmp(&one.first),
            Self::Packets => other.packets.cmp(&one.packets),
        }
    }
}

fn ends(address: std::net::IpAddr, ports: Option<(u16, u16)>) -> (std::net::IpAddr, Option<u16>) {
    (address, ports.map(|(client, _)| client))
}

/// How old something is: in seconds, minutes, hours or days.
pub(super) fn age(now: Timestamp, first: Timestamp) -> String {
    match now.duration_since(first).as_secs().max(0) {
        seconds @ 0..100 => format!("{seconds}s"),
        seconds @ 100..6_000 => format!("{}m", seconds / 60),
        seconds @ 6_000..360_000 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// The list.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) sort: Column,
    pub(super) reversed: bool,
    /// The rows in their order.
    pub(super) rows: Vec<Row>,
    /// The number of the chosen one.
    chosen: Option<usize>,
    /// The order stays as it is.
    pub(super) is_held: bool,
}

impl Default for List {
    fn default() -> Self {
        Self { sort: Column::Finding, reversed: false, rows: Vec::new(), chosen: None, is_held: false }
    }
}

impl List {
    /// Other rows. While it is held, those that were there stay where they are, and others come below.
    pub(super) fn fill<'a>(&mut self, rows: impl Iterator<Item = &'a Row>) {
        let place = self.place();
        let mut rows: Vec<Row> = rows.cloned().collect();
        if self.is_held {
            let order: rustc_hash::FxHashMap<usize, usize> =
                self.rows.iter().zip(0..).map(|(row, place)| (row.number, place)).collect();
            rows.sort_unstable_by_key(|row| {
                (order.get(&row.number).copied().unwrap_or(usize::MAX), row.number)
            });
        } else {
            let (sort, reversed) = (self.sort, self.reversed);
            rows.sort_unstable_by(|one, other| {
                let order = sort.compare(one, other);
                (if reversed { order.reverse() } else { order }).then(other.number.cmp(&one.number))
            });
        }
        self.rows = rows;
        // Who is gone is replaced by whoever has come to its place.
        if self.chosen.is_some_and(|chosen| !self.rows.iter().any(|row| row.number == chosen)) {
            self.choose(place.unwrap_or(0));
        }
    }

    /// The place of the chosen row.
    pub(super) fn place(&self) -> Option<usize> {
        let chosen = self.chosen?;
        self.rows.iter().position(|row| row.number == chosen)
    }

    /// The chosen row; the first, if none was chosen.
    pub(super) fn chosen(&self) -> Option<&Row> {
        self.rows.get(self.place().unwrap_or(0))
    }

    /// Chooses the row at that place, or the last.
    pub(super) fn choose(&mut self, place: usize) {
        self.chosen = self.rows.get(place.min(self.rows.len().saturating_sub(1))).map(|row| row.number);
    }

    /// Chooses another, so many rows below or above.
    pub(super) fn step(&mut self, rows: isize) {
        self.choose(self.place().unwrap_or(0).saturating_add_signed(rows));
    }

    /// Sorts by the column beside.
    pub(super) fn sort_beside(&mut self, forward: bool) {
        self.sort_by(self.sort.beside(forward));
    }

    /// Sorts by a column; once more, the other way round.
    pub(super) fn sort_by(&mut self, column: Column) {
        self.reversed = self.sort == column && !self.reversed;
        self.sort = column;
        self.refill();
    }

    /// Sorts the other way round.
    pub(super) fn reverse(&mut self) {
        self.reversed = !self.reversed;
        self.refill();
    }

    fn refill(&mut self) {
        self.is_held = false;
        let rows = std::mem::take(&mut self.rows);
        let chosen = self.chosen.take();
        self.fill(rows.iter());
        self.chosen = chosen;
    }

    /// The first row that is shown where there is room for so many.
    pub(super) fn top(&self, room: usize) -> usize {
        let at = self.place().unwrap_or(0);
        // The chosen one stands in the middle, as far as the list is longer than the room.
        at.saturating_sub(room / 2).min(self.rows.len().saturating_sub(room))
    }
}
