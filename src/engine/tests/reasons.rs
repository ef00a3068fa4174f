use super::*;

#[test]
fn every_reason_is_a_row_with_a_name_of_its_own() {
    let mut names = std::collections::BTreeSet::new();
    for (place, reason) in Reason::ALL.into_iter().enumerate() {
        let row = reason.row().unwrap();
        assert_eq!((reason.index(), reason.name(), reason.about()), (place, row.name, row.about));
        assert_eq!(reason.to_string().parse(), Ok(reason));
        assert!(names.insert(row.name) && !row.stages.is_empty() && !row.about.ends_with('.'), "{reason}");
    }
    assert_eq!("servic".parse::<Reason>(), Err(ReasonError));
    assert_eq!(
        [Reason::CLUSTER, Reason::COMMON, Reason::OBSERVE, Reason::MAGLEV, Reason::NAPT].concat(),
        Reason::ALL
    );
}

#[test]
fn names_of_other_policies_are_learned_and_told_apart_as_far_as_there_is_room() {
    let [one, two] = ["napt-mapped", "napt-full"].map(|name| Reason::read(name).unwrap());
    assert_ne!(one, two);
    assert_eq!((one.name(), Reason::read("napt-mapped")), ("napt-mapped", Ok(one)));
    assert_eq!((one.row(), Reason::read("saved")), (None, Ok(Reason::Saved)));
    assert!("napt-mapped".parse::<Reason>().is_err(), "what is typed has to be known");
    let json = serde_json::to_string(&one).unwrap();
    assert_eq!(serde_json::from_str::<Reason>(&json).unwrap(), one);
    let error = serde_json::from_str::<Reason>("1").unwrap_err().to_string();
    assert!(error.contains("expected a reason"), "{error}");
    assert_eq!(format!("{one:?} {one:>12}"), "Reason(napt-mapped)  napt-mapped");
    let long = "r".repeat(41);
    for name in ["", "Saved", "9lives", "-a", "a b", "a\u{1b}[2J", "a_b", "\u{e4}", &long] {
        assert!(Reason::read(name).is_err(), "{name:?}");
    }
    assert_eq!(Reason::read(&long[1..]).unwrap().name(), &long[1..]);
}

#[test]
fn what_is_typed_may_be_of_another_policy_and_is_not_mistyped() {
    for mistyped in ["servic", "services", "sevrice", "servixe", "sservice", "", "Saved", "a b"] {
        assert_eq!(Reason::typed(mistyped), Err(ReasonError), "{mistyped}");
    }
    for other in ["typed-by-others", "marked", "serves"] {
        let reason = Reason::typed(other).unwrap();
        assert_eq!((reason.name(), reason.is_declared()), (other, false));
    }
    // Who has it, has it.
    let declared = Reason::declare("savedx", "it is another").unwrap();
    assert_eq!((Reason::typed("savedx"), declared.is_declared()), (Ok(declared), true));
    // It is the one of that name, and reading it from a trace does not make it known.
    assert_eq!(Reason::typed("of-somebody").unwrap().name(), "of-somebody");
    assert_eq!(Reason::read("savedy").unwrap().name(), "savedy");
    assert_eq!(Reason::typed("savedy"), Err(ReasonError));
}

/// Hostile: more than anybody has.
#[test]
fn as_many_names_are_learned_as_there_is_room_for() {
    let names = reason::Names::new();
    let places: Vec<_> = (0..1000).map(|number| names.place(&format!("hostile-{number}"))).collect();
    assert_eq!(places[..256], (0..256).map(Some).collect::<Vec<_>>());
    assert!(places[256..].iter().all(Option::is_none));
    assert_eq!((names.place("hostile-7"), names.place("hostile-777")), (Some(7), None));
    assert_eq!(Reason::PLACES, Reason::ALL.len() + 256, "each has a place");
}

#[test]
fn who_declares_a_reason_says_what_it_is_about() {
    let long = "r".repeat(41);
    for name in ["", "Saved", "a b", "a\u{1b}[2J", &long] {
        assert!(matches!(Reason::declare(name, "x"), Err(DeclareError::NoWord(_))), "{name:?}");
    }
    for taken in ["saved", "called-node", "unknown-reason"] {
        assert_eq!(Reason::declare(taken, "x"), Err(DeclareError::Taken(taken.to_owned())));
    }
    let read = Reason::read("declared-later").unwrap();
    assert_eq!(read.about(), "a reason of a policy that this program does not know");
    let declared = Reason::declare("declared-later", "the packet is late").unwrap();
    assert_eq!((declared, read.about()), (read, "the packet is late"));
    assert_eq!(Reason::declare("declared-later", "no").unwrap().about(), "the packet is late");
}
