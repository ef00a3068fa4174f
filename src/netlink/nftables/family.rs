//! Families, by the numbers that the kernel has for them and the names that rules have.

/// The families of nf_tables that we use (`NFPROTO_*`, include/uapi/linux/netfilter.h).
const FAMILIES: [(u8, &str); 6] =
    [(1, "inet"), (2, "ip"), (3, "arp"), (5, "netdev"), (7, "bridge"), (10, "ip6")];

/// The number of a family by its name in rules.
pub(crate) fn family(name: &str) -> u8 {
    FAMILIES.iter().find(|(_, known)| *known == name).map_or(0, |(number, _)| *number)
}

/// The name in rules of a family.
pub(crate) fn family_name(number: u8) -> &'static str {
    FAMILIES.iter().find(|(known, _)| *known == number).map_or("?", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_names() {
        for (number, name) in FAMILIES {
            assert_eq!((family(name), family_name(number)), (number, name));
        }
        assert_eq!(family_name(99), "?");
    }
}
