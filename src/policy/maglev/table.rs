//! The lookup table of Maglev: which guest gets which flows.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use crate::net::octets;

/// How many entries a table has: a prime, so that every step leads through all of them (Maglev, §3.4). It is the smaller one of the paper.
pub const ENTRIES: usize = 65_537;

/// How many guests may share them: each of them gets more than a hundred, and so the shares differ by less than 1 % (Maglev, §3.4).
pub const MOST_GUESTS: usize = ENTRIES / 100 - 1;

/// Which guest gets which flows: each entry is a guest, and a flow has the entry of its hash.
///
/// Each guest has an order of all entries, which follows from its address alone: it begins somewhere, and goes on by a step of its
/// own. In turns each guest takes the first entry of its order that is free. So the shares differ by one entry at the most; and
/// when a guest goes, its entries are taken by others, and nearly all the others stay.
///
/// ```
/// use dunnat::policy::maglev::Table;
///
/// let guests = ["10.5.5.201", "10.5.5.202"].map(|guest| guest.parse().unwrap());
/// let [table, same] = [Table::new(&guests), Table::new(&[guests[1], guests[0]])].map(Option::unwrap);
/// assert_eq!(table.guest(7), same.guest(7), "in whatever order they are given");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    guests: Vec<IpAddr>,
    /// Places in `guests`.
    entries: Vec<u16>,
}

impl Table {
    /// The table of these guests, in whatever order they are given. None without guests, with too many, or if one is there twice.
    ///
    /// ```
    /// use dunnat::policy::maglev::{ENTRIES, Table};
    ///
    /// let guests = ["10.5.5.201", "10.5.5.202", "10.5.5.203"].map(|guest| guest.parse().unwrap());
    /// let table = Table::new(&guests).unwrap();
    /// let share = table.entries().filter(|guest| *guest == guests[0]).count();
    /// assert!(share.abs_diff(ENTRIES / 3) <= 1);
    /// ```
    pub fn new(guests: &[IpAddr]) -> Option<Self> {
        let mut guests = guests.to_vec();
        guests.sort_unstable();
        let is_twice = guests.iter().zip(guests.iter().skip(1)).any(|(one, next)| one == next);
        if is_twice || !(1..=MOST_GUESTS).contains(&guests.len()) {
            return None;
        }
        let mut orders: Vec<Order> = guests.iter().map(|guest| Order::of(*guest)).collect();
        let mut entries: Vec<Option<u16>> = vec![None; ENTRIES];
        let mut free = ENTRIES;
        'turns: loop {
            for (place, order) in (0..).zip(&mut orders) {
                // There is a free one as long as `free` is not zero, and an order comes by all of them.
                while let Some(entry) = entries.get_mut(order.next()) {
                    if entry.is_none() {
                        *entry = Some(place);
                        break;
                    }
                }
                free -= 1;
                if free == 0 {
                    break 'turns;
                }
            }
        }
        Some(Self { guests, entries: entries.into_iter().flatten().collect() })
    }

    /// The guest of a flow with this hash.
    #[inline]
    pub fn guest(&self, hash: u64) -> Option<IpAddr> {
        let place = self.entries.get((hash % ENTRIES as u64) as usize)?;
        self.guests.get(usize::from(*place)).copied()
    }

    /// The guests, in the order of their addresses.
    pub fn guests(&self) -> &[IpAddr] {
        &self.guests
    }

    /// The guest of each entry.
    pub fn entries(&self) -> impl Iterator<Item = IpAddr> {
        self.entries.iter().filter_map(|place| self.guests.get(usize::from(*place)).copied())
    }
}

/// The order of a guest: all entries, each once.
struct Order {
    next: usize,
    step: usize,
}

impl Order {
    /// The paper has two hashes of the name for it. These are of one SHA-256, which is the same on every node and for ever.
    fn of(guest: IpAddr) -> Self {
        let digest = Sha256::digest(octets(guest));
        let (begin, rest) = digest.split_at(8);
        let number =
            |bytes: &[u8]| bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        Self {
            next: (number(begin) % ENTRIES as u64) as usize,
            step: (number(rest) % (ENTRIES as u64 - 1)) as usize + 1,
        }
    }

    fn next(&mut self) -> usize {
        let next = self.next;
        self.next = (next + self.step) % ENTRIES;
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guests(count: usize) -> Vec<IpAddr> {
        (1..=count).map(|number| IpAddr::from([10, 5, (number >> 8) as u8, number as u8])).collect()
    }

    /// How many entries are others' now, beside those that the guest had who is gone: of a hundred thousand.
    fn disturbed(count: usize, gone: usize) -> usize {
        let (all, mut left) = (guests(count), guests(count));
        left.remove(gone);
        let (before, after) = (Table::new(&all).unwrap(), Table::new(&left).unwrap());
        let moved = before.entries().zip(after.entries()).filter(|(was, is)| was != is && *was != all[gone]);
        moved.count() * 100_000 / ENTRIES
    }

    /// The same by the remainder of a hash, which is what the kernel's rules have (`jhash ... mod N`): of all flows of those who stay, in
    /// percent.
    #[test]
    fn a_remainder_would_disturb_most_of_the_others() {
        for (count, expected) in [(3, 50), (10, 89), (100, 99)] {
            for gone in [0, count / 2, count - 1] {
                let left: Vec<usize> = (0..count).filter(|guest| *guest != gone).collect();
                let hashes = (0..count * (count - 1)).filter(|hash| hash % count != gone);
                let (moved, all) = hashes.fold((0, 0), |(moved, all), hash| {
                    let is_another = left[hash % left.len()] != hash % count;
                    (moved + usize::from(is_another), all + 1)
                });
                assert_eq!((moved * 100 + all / 2) / all, expected, "{count} guests without the {gone}th");
            }
        }
    }

    #[test]
    fn shares_are_even() {
        for count in [1, 2, 3, 7, 100, MOST_GUESTS] {
            let table = Table::new(&guests(count)).unwrap();
            let mut shares = vec![0_usize; count];
            for guest in table.entries() {
                shares[guests(count).iter().position(|one| *one == guest).unwrap()] += 1;
            }
            assert_eq!(shares.iter().sum::<usize>(), ENTRIES);
            let (least, most) = (*shares.iter().min().unwrap(), *shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count} guests: {least} to {most}");
            // The paper: at most 1 %.
            assert!((most - least) * 100 <= most, "{count} guests");
        }
        assert!(Table::new(&guests(MOST_GUESTS + 1)).is_none() && Table::new(&[]).is_none());
        assert!(Table::new(&[guests(1), guests(1)].concat()).is_none());
    }

    /// The entries of a guest that goes have to move. Of the others the paper (§5.3) says that few do; it is fewer with fewer guests.
    #[test]
    fn a_guest_that_goes_disturbs_few_of_the_others() {
        assert_eq!(disturbed(2, 0), 0);
        for (count, most) in [(3, 200), (5, 300), (10, 700), (100, 1500)] {
            for gone in [0, count / 2, count - 1] {
                let disturbed = disturbed(count, gone);
                assert!(disturbed <= most, "{count} guests without the {gone}th: {disturbed} of 100000");
            }
        }
    }

    /// Other nodes may run another version.
    #[test]
    fn the_table_is_the_same_for_ever() {
        let table = Table::new(&guests(3)).unwrap();
        let first: Vec<String> = table.entries().take(8).map(|guest| guest.to_string()).collect();
        insta::assert_snapshot!(first.join(" "));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn the_order_of_guests_does_not_matter(order in Just(guests(9)).prop_shuffle(), hash: u64) {
            let (one, other) = (Table::new(&order).unwrap(), Table::new(&guests(9)).unwrap());
            prop_assert_eq!(one.guest(hash), other.guest(hash));
            prop_assert!(one == other && one.guest(hash).is_some());
        }
    }
}
