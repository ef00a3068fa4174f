//! Tools and features that are missing, and what cannot be read.

use super::*;

#[test]
fn a_tool_that_is_missing_is_named_with_its_package() {
    let missing = tool::Failure::missing(Tool::Nft);
    let fact = one(|host| host.tools[0].1 = Err(missing.clone()));
    assert_eq!((fact.name, fact.fix.as_deref()), ("nft", Some("apt install nftables")));
    let fact = one(|host| {
        host.tools[0].1 = Err(missing);
        host.beside_the_path.insert("nft", "/usr/sbin/nft".to_owned());
    });
    assert_eq!(fact.found, "/usr/sbin/nft, which is not in PATH");
}

#[test]
fn one_way_to_queue_is_enough_and_none_is_broken() {
    let no = || Support::No("No such file or directory".to_owned());
    let fact = one(|host| host.features.as_mut().unwrap().nft_queue = no());
    assert_eq!((fact.name, fact.severity), ("nft-queue", Severity::GoodToKnow));
    let facts = amiss(|host| {
        let features = host.features.as_mut().unwrap();
        (features.nft_queue, features.xt_nfqueue) = (no(), no());
    });
    assert_eq!(facts.iter().map(|fact| fact.severity).collect::<Vec<_>>(), [Severity::Broken; 2]);
    let facts = amiss(|host| host.features = Some(Features::unknown("EPERM")));
    assert!(facts.iter().all(|fact| fact.state == State::Unknown("EPERM".to_owned())), "{facts:#?}");
    assert!(verdict(&facts).is_err(), "`run` has to know how to queue");
}

#[test]
fn what_cannot_be_read_is_not_a_no_and_no_reason_to_refuse() {
    let denied = || "Permission denied (os error 13)".to_owned();
    let facts = amiss(|host| {
        for setting in host.sysctls.values_mut() {
            *setting = Err(denied());
        }
        host.interfaces = Err(denied());
        host.rules = Err(denied());
        host.legacy_tables = Err(denied());
        host.policy_routing = Err(denied());
        host.routes = Err(denied());
        host.queues = Err(denied());
        host.offloads[0].1 = Err(denied());
        host.kernel = Some(Err(denied()));
    });
    assert!(facts.len() > 15, "{facts:#?}");
    for fact in &facts {
        assert!(matches!(&fact.state, State::Unknown(why) if why.contains("Permission denied")), "{fact:#?}");
        assert_ne!(fact.severity, Severity::Broken, "{fact:#?}");
        assert_eq!(fact.fix, None, "a command for what is not known to be wrong");
    }
    assert_eq!(verdict(&facts), Ok(()));
}
