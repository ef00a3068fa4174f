use super::super::lasting::{Lasting, MADE};
use super::*;

fn lasting(change: impl FnOnce(&mut Host)) -> Lasting {
    let mut host = host();
    change(&mut host);
    let cluster = cluster();
    Lasting::of(&host, Some(&role(&cluster)))
}

fn value(it: &Lasting, path: &str) -> Option<u64> {
    it.settings.iter().find(|(known, _)| known == path).map(|(_, value)| *value)
}

#[test]
fn what_is_right_now_is_written_as_it_is() {
    let it = lasting(|_| {});
    assert_eq!(
        it.sysctl_file(),
        format!(
            "{MADE}\nnet/ipv4/ip_forward = 1\n-net/bridge/bridge-nf-call-iptables = 1\n\
             net/ipv4/conf/xenbr0/rp_filter = 0\nnet/ipv4/conf/guestbr0/rp_filter = 0\n\
             net/ipv4/conf/xenbr0/arp_filter = 1\n"
        )
    );
    assert_eq!(
        it.modules_file(),
        format!("{MADE}\nbr_netfilter\nnfnetlink_queue\nnft_queue\nnf_conntrack\nnf_conntrack_netlink\n")
    );
    assert_eq!(it.open, Vec::<String>::new());
}

/// After a boot with this file, doctor has nothing to say of these settings.
#[test]
fn what_is_wrong_now_is_right_with_the_file() {
    let wrong = |host: &mut Host| {
        set(host, "net/ipv4/ip_forward", 0);
        set(host, "net/bridge/bridge-nf-call-iptables", 0);
        set(host, "net/ipv4/conf/all/rp_filter", 1);
        set(host, "net/ipv4/conf/guestbr0/rp_filter", 1);
    };
    assert!(amiss(wrong).len() >= 3);
    let it = lasting(wrong);
    let after = amiss(|host| {
        wrong(host);
        it.settings.iter().for_each(|(path, value)| set(host, path, *value));
    });
    assert_eq!(after, []);
    assert_eq!(value(&it, "net/ipv4/conf/xenbr0/rp_filter"), Some(2), "the higher of two counts");
}

#[test]
fn what_cannot_be_known_is_said_and_not_guessed() {
    let it = lasting(|host| {
        host.features = None;
        host.interfaces.as_mut().unwrap().retain(|it| it.name != "xenbr0");
    });
    assert_eq!(it.open.len(), 2, "{:?}", it.open);
    assert!(!it.modules.contains(&"nft_queue") && value(&it, "net/ipv4/conf/xenbr0/rp_filter").is_none());
    let it = lasting(|host| {
        if let Some(features) = &mut host.features {
            features.nft_queue = Support::No("no such file".to_owned());
        }
    });
    assert!(it.modules.contains(&"xt_NFQUEUE"));
}

#[test]
fn a_later_file_that_says_otherwise_is_found_however_it_is_written() {
    let it = lasting(|_| {});
    let file = "# net.ipv4.ip_forward = 0\n;net.ipv4.ip_forward=0\n net.ipv4.ip_forward=0 \nnet/ipv4/ip_forward = 1\n\
                -net.ipv4.conf.xenbr0.rp_filter = 1\nnet.ipv4.conf.eth1/100.rp_filter = 1\nkernel.x = 0\nnonsense\n";
    assert_eq!(it.contradictions(file), [" net.ipv4.ip_forward=0 ", "-net.ipv4.conf.xenbr0.rp_filter = 1"]);
}
