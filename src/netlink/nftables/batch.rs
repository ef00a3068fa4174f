//! Several changes that are made together, as the kernel reads them.

use std::sync::atomic::{AtomicU32, Ordering};

use super::numbers::{
    ACCEPT, BATCH_BEGIN, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, COUNTER, DEL_CHAIN,
    DEL_ELEMENTS, DEL_RULE, DEL_TABLE, ELEMENT, ELEMENT_FLAGS, ELEMENT_KEY, ELEMENTS, ELEMENTS_SET,
    ELEMENTS_SET_ID, ELEMENTS_TABLE, HOOK_NUMBER, HOOK_PRIORITY, INTERVAL_END, NEW_CHAIN, NEW_ELEMENTS,
    NEW_OBJECT, NEW_RULE, NEW_SET, NEW_TABLE, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST,
    OBJECT_DATA, OBJECT_NAME, OBJECT_TABLE, OBJECT_TYPE, RULE_CHAIN, RULE_EXPRESSIONS, RULE_HANDLE,
    RULE_TABLE, SET_ANONYMOUS, SET_CONSTANT, SET_FLAGS, SET_ID, SET_INTERVALS, SET_KEY_LEN, SET_KEY_TYPE,
    SET_NAME, SET_TABLE, SUBSYSTEM, TABLE_FLAGS, TABLE_NAME, TABLE_USERDATA, TYPE_OF_PORTS, VALUE,
};
use super::texts::{comment_data, put_text};
use crate::netlink::attribute::{NESTED, put_padded};
use crate::netlink::expression::{Expressions, SET_OF_A_RULE};
use crate::netlink::message;

/// Sequence numbers that no other request has: what is still said about an earlier one is known for that.
pub(super) fn sequence() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    const ROOM: u32 = 1 << 16;
    NEXT.fetch_add(ROOM, Ordering::Relaxed)
}

/// Which set elements are of.
pub(super) fn set_attributes(table: &str, set: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(&mut out, ELEMENTS_TABLE, table);
    put_text(&mut out, ELEMENTS_SET, set);
    out
}

/// Where a base chain is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// `filter` and the like.
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

/// Several changes that are made together.
pub(crate) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// The sequence numbers of the first message and of the next.
    pub(super) first: u32,
    pub(super) next: u32,
    /// Where in the bytes the last change begins.
    pub(super) last: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let first = sequence();
        let mut batch = Self { bytes: Vec::new(), first, next: first, last: 0 };
        batch.marker(BATCH_BEGIN);
        batch
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.last == 0
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn marker(&mut self, kind: u16) {
        // The resource id is the subsystem that the batch is for.
        message::put(&mut self.bytes, kind, NLM_F_REQUEST, self.next, (0, SUBSYSTEM), &[]);
        self.next += 1;
    }

    /// Asks for an answer to the last change; its sequence number. To ask for one to each would fill the socket, and what finds no
    /// room is lost. What is refused is answered anyway.
    pub(super) fn acknowledged(&mut self) -> u32 {
        if let Some(flags) = self.bytes.get_mut(self.last + 6..self.last + 8) {
            let asked = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
            flags.copy_from_slice(&asked.to_ne_bytes());
        }
        self.next - 1
    }

    fn add(&mut self, kind: u16, flags: u16, family: u8, attributes: &[u8]) {
        self.last = self.bytes.len();
        let flags = NLM_F_REQUEST | flags;
        message::put(&mut self.bytes, SUBSYSTEM << 8 | kind, flags, self.next, (family, 0), attributes);
        self.next += 1;
    }

    /// A table, unless there is one of that name with these flags.
    pub(crate) fn table(&mut self, family: u8, name: &str, flags: u32, comment: &str) {
        let mut out = Vec::new();
        put_text(&mut out, TABLE_NAME, name);
        put_padded(&mut out, TABLE_FLAGS, &flags.to_be_bytes());
        put_padded(&mut out, TABLE_USERDATA, &comment_data(comment));
        self.add(NEW_TABLE, NLM_F_CREATE, family, &out);
    }

    /// The table goes, with all that is in it.
    pub(crate) fn delete_table(&mut self, family: u8, name: &str) {
        let mut out = Vec::new();
        put_text(&mut out, TABLE_NAME, name);
        self.add(DEL_TABLE, 0, family, &out);
    }

    /// A chain, unless there is one of that name.
    pub(crate) fn chain(&mut self, family: u8, table: &str, name: &str, hook: Option<Hook>) {
        let mut out = Vec::new();
        put_text(&mut out, CHAIN_TABLE, table);
        put_text(&mut out, CHAIN_NAME, name);
        if let Some(Hook { kind, number, priority }) = hook {
            let mut place = Vec::new();
            put_padded(&mut place, HOOK_NUMBER, &number.to_be_bytes());
            put_padded(&mut place, HOOK_PRIORITY, &priority.to_be_bytes());
            put_padded(&mut out, CHAIN_HOOK | NESTED, &place);
            put_text(&mut out, CHAIN_TYPE, kind);
            put_padded(&mut out, CHAIN_POLICY, &ACCEPT.to_be_bytes());
        }
        self.add(NEW_CHAIN, NLM_F_CREATE, family, &out);
    }

    /// The chain goes. It has to be empty, and no rule may lead to it.
    pub(crate) fn delete_chain(&mut self, family: u8, table: &str, name: &str) {
        let mut out = Vec::new();
        put_text(&mut out, CHAIN_TABLE, table);
        put_text(&mut out, CHAIN_NAME, name);
        self.add(DEL_CHAIN, 0, family, &out);
    }

    /// All rules of a chain go; the chain stays.
    pub(crate) fn flush_chain(&mut self, family: u8, table: &str, chain: &str) {
        let mut out = Vec::new();
        put_text(&mut out, RULE_TABLE, table);
        put_text(&mut out, RULE_CHAIN, chain);
        self.add(DEL_RULE, 0, family, &out);
    }

    /// One rule of a chain goes. It has to be there.
    pub(crate) fn delete_rule(&mut self, family: u8, table: &str, chain: &str, handle: u64) {
        let mut out = Vec::new();
        put_text(&mut out, RULE_TABLE, table);
        put_text(&mut out, RULE_CHAIN, chain);
        put_padded(&mut out, RULE_HANDLE, &handle.to_be_bytes());
        self.add(DEL_RULE, 0, family, &out);
    }

    /// A rule at the end of a chain, made of expressions, and the sets that it looks into.
    pub(crate) fn rule(&mut self, family: u8, table: &str, chain: &str, expressions: &Expressions) {
        let mut rule = expressions.bytes().to_vec();
        for set in expressions.sets() {
            let number = self.port_set(family, table, &set.ranges);
            set.set_number(&mut rule, number);
        }
        let mut out = Vec::new();
        put_text(&mut out, RULE_TABLE, table);
        put_text(&mut out, RULE_CHAIN, chain);
        put_padded(&mut out, RULE_EXPRESSIONS | NESTED, &rule);
        self.add(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, family, &out);
    }

    /// A set of ranges of ports for the rule that comes next, and by which number it knows the set.
    fn port_set(&mut self, family: u8, table: &str, ranges: &[(u16, u16)]) -> u32 {
        // No other change of this batch has it.
        let number = self.next - self.first;
        let mut out = Vec::new();
        put_text(&mut out, SET_TABLE, table);
        put_text(&mut out, SET_NAME, SET_OF_A_RULE);
        for (kind, value) in [
            (SET_FLAGS, SET_ANONYMOUS | SET_CONSTANT | SET_INTERVALS),
            (SET_KEY_TYPE, TYPE_OF_PORTS),
            (SET_KEY_LEN, 2),
            (SET_ID, number),
        ] {
            put_padded(&mut out, kind, &value.to_be_bytes());
        }
        self.add(NEW_SET, NLM_F_CREATE, family, &out);
        let mut of_set = set_attributes(table, SET_OF_A_RULE);
        put_padded(&mut of_set, ELEMENTS_SET_ID, &number.to_be_bytes());
        // A range is where it begins, and where it has ended.
        let bounds = ranges.iter().flat_map(|(first, last)| {
            [Some((*first, 0)), last.checked_add(1).map(|end| (end, INTERVAL_END))]
        });
        let bounds: Vec<([u8; 2], u32)> =
            bounds.flatten().map(|(port, flags)| (port.to_be_bytes(), flags)).collect();
        self.elements(family, &of_set, bounds.iter().map(|(port, flags)| (&port[..], *flags)));
        number
    }

    /// What is in a set becomes these, and nothing else. The set has to be there.
    pub(crate) fn fill_set(&mut self, family: u8, table: &str, set: &str, keys: &[&[u8]]) {
        let of_set = set_attributes(table, set);
        // Without elements it is about all of them (net/netfilter/nf_tables_api.c, `nf_tables_delsetelem()`).
        self.add(DEL_ELEMENTS, 0, family, &of_set);
        self.elements(family, &of_set, keys.iter().map(|key| (*key, 0)));
    }

    /// Elements of a set: keys with their flags.
    fn elements<'a>(&mut self, family: u8, of_set: &[u8], mut all: impl Iterator<Item = (&'a [u8], u32)>) {
        // A list is an attribute, whose length has 16 bits.
        const AT_ONCE: usize = 1000;
        loop {
            let mut list = Vec::new();
            for (key, flags) in all.by_ref().take(AT_ONCE) {
                let (mut data, mut element) = (Vec::new(), Vec::new());
                put_padded(&mut data, VALUE, key);
                put_padded(&mut element, ELEMENT_KEY | NESTED, &data);
                if flags != 0 {
                    put_padded(&mut element, ELEMENT_FLAGS, &flags.to_be_bytes());
                }
                put_padded(&mut list, ELEMENT | NESTED, &element);
            }
            if list.is_empty() {
                return;
            }
            let mut out = of_set.to_vec();
            put_padded(&mut out, ELEMENTS | NESTED, &list);
            self.add(NEW_ELEMENTS, NLM_F_CREATE, family, &out);
        }
    }

    /// A counter with a name, unless there is one.
    pub(crate) fn counter(&mut self, family: u8, table: &str, name: &str) {
        let mut out = Vec::new();
        put_text(&mut out, OBJECT_TABLE, table);
        put_text(&mut out, OBJECT_NAME, name);
        put_padded(&mut out, OBJECT_TYPE, &COUNTER.to_be_bytes());
        put_padded(&mut out, OBJECT_DATA | NESTED, &[]);
        self.add(NEW_OBJECT, NLM_F_CREATE, family, &out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::family::family;
    use super::super::numbers::OWNED;
    use super::*;
    use crate::netlink::message::Message;

    #[test]
    fn a_batch_is_a_beginning_and_its_changes() {
        let mut batch = Batch::new();
        assert!(batch.is_empty());
        batch.table(family("ip"), "t", OWNED, "c");
        batch.delete_chain(family("ip"), "t", "c");
        assert!(!batch.is_empty());
        let kinds: Vec<u16> = message::all(&batch.bytes)
            .map(|message| match message {
                Message::Netfilter { kind, .. } => kind,
                _ => 0,
            })
            .collect();
        assert_eq!(kinds, [BATCH_BEGIN, 0x0a00, 0x0a05]);
    }
}
