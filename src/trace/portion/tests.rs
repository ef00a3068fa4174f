use super::*;
use crate::net::Proto;
use crate::trace::samples;

const EVERY: u64 = u64::MAX;

fn view(port: u16, is_reply: bool) -> View {
    let client = (IpAddr::from([192, 168, 122, 1]), port);
    let guest = (IpAddr::from([10, 5, 5, 201]), 80);
    let (from, to) = if is_reply { (guest, client) } else { (client, guest) };
    let tuple = Tuple { proto: Proto::TCP, src: from.0, dst: to.0, ports: Some((from.1, to.1)) };
    let mut view = samples::record().view.unwrap();
    view.tuple = tuple;
    view
}

fn of(stage: Stage, view: &View) -> u32 {
    key_of(stage, &Ok::<_, ()>(*view))
}

fn all_views(flows: u16) -> Vec<View> {
    let first = view(0, false);
    let mut views = vec![first; usize::from(flows)];
    for (view, port) in views.iter_mut().zip(0..) {
        view.tuple.ports = Some((port, 80));
    }
    views
}

fn most(most: u32) -> (Chooser, Renewal) {
    let pace = Pace::new(Portion { at_most: NonZeroU32::new(most), ..Portion::default() });
    (Chooser::new(Arc::clone(&pace)), Renewal::new(pace))
}

/// What comes in so many ticks, each with these flows and so many packets of each.
fn play(at: (&mut Chooser, &mut Renewal), ticks: u32, flows: u16, packets: u32) -> Vec<Vec<u16>> {
    let (chooser, renewal) = at;
    let views: Vec<View> = all_views(flows);
    let mut now = renewal.at;
    (0..ticks)
        .map(|_| {
            now += TICK;
            renewal.renew(now);
            let all = (0..packets).flat_map(|_| 0..flows);
            let taken = all
                .filter(|port| chooser.wants(EVERY, of(Stage::Dnat, &views[usize::from(*port)])))
                .collect();
            chooser.settle(u64::from(flows) * u64::from(packets));
            taken
        })
        .collect()
}

#[test]
fn a_flow_is_chosen_at_all_stages_and_in_both_directions_or_nowhere() {
    let (mut chooser, renewal) = most(1_000_000);
    renewal.pace.share.store(u32::MAX / 8, Ordering::Relaxed);
    let mut chosen = 0;
    let (mut request, mut reply) = (view(0, false), view(0, true));
    for port in 0..8000 {
        (request.tuple.ports, reply.tuple.ports) = (Some((port, 80)), Some((80, port)));
        let at = [
            (Stage::Dnat, &request),
            (Stage::Tag, &request),
            (Stage::Save, &request),
            (Stage::Spoof, &reply),
        ];
        let wants: Vec<bool> = at
            .map(|(stage, view)| {
                *chooser.places = [0; PLACES];
                chooser.wants(EVERY, of(stage, view))
            })
            .to_vec();
        assert!(wants.iter().all(|one| *one == wants[0]), "{port}: {wants:?}");
        chosen += u32::from(wants[0]);
    }
    assert!((800..1200).contains(&chosen), "{chosen} of 8000, one in 8 is asked for");
}

/// An error belongs to the flow of the packet that it quotes, and that goes the other way.
#[test]
fn an_error_belongs_to_the_flow_that_it_is_about() {
    let events = samples::views();
    let errors: Vec<_> = events.iter().filter(|(_, view)| view.error.is_some()).collect();
    assert!(!errors.is_empty());
    for (stage, view) in errors {
        let about = view.error.unwrap().about;
        let client = if *stage == Stage::Spoof { about.src } else { about.dst };
        let port = about.ports.map_or(0, |(from, to)| if *stage == Stage::Spoof { from } else { to });
        assert_eq!(of(*stage, view), key(&client, port));
    }
}

#[test]
fn where_little_comes_all_of_it_is_taken() {
    let (mut chooser, mut renewal) = most(1000);
    let taken = play((&mut chooser, &mut renewal), 50, 20, 3);
    assert!(taken.iter().all(|tick| tick.len() == 60));
    assert_eq!(renewal.left_out(), 0);
}

/// One bulk transfer takes nothing from the others.
#[test]
fn of_a_flow_with_many_packets_the_first_of_each_tick_are_taken() {
    let (mut chooser, mut renewal) = most(1000);
    let taken = play((&mut chooser, &mut renewal), 50, 1, 10_000);
    assert!(taken.iter().all(|tick| tick.len() == OF_A_FLOW as usize), "{taken:?}");
    assert_eq!(renewal.left_out(), 50 * (10_000 - u64::from(OF_A_FLOW)));
    assert_eq!(renewal.left_out(), 0);
}

/// The number of ticks begins anew after weeks, and what was counted before is over like any other tick.
#[test]
fn after_weeks_a_flow_is_taken_as_before() {
    let (mut chooser, mut renewal) = most(1000);
    renewal.pace.full.store(OF_A_FLOW.wrapping_sub(3 * A_TICK), Ordering::Relaxed);
    let taken = play((&mut chooser, &mut renewal), 10, 1, 10_000);
    assert!(taken.iter().all(|tick| tick.len() == OF_A_FLOW as usize), "{taken:?}");
    assert!(renewal.pace.full.load(Ordering::Relaxed) < 10 * A_TICK);
    let taken = play((&mut chooser, &mut renewal), 10, 200, 2);
    assert!(taken[3..].iter().all(|tick| !tick.is_empty()), "{taken:?}");
}

#[test]
fn where_much_comes_fewer_flows_are_looked_at_and_each_whole_until_it_is_calm() {
    let (mut chooser, mut renewal) = most(1000);
    let taken = play((&mut chooser, &mut renewal), 100, 10_000, 3);
    let all: usize = taken.iter().map(Vec::len).sum();
    assert!(all <= 11_000, "{all} in ten seconds");
    for tick in &taken[60..] {
        let mut times = std::collections::BTreeMap::<u16, u32>::new();
        tick.iter().for_each(|port| *times.entry(*port).or_default() += 1);
        let whole = times.values().filter(|times| **times == 3).count();
        assert!(whole * 10 >= times.len() * 8, "{whole} of {} flows are whole", times.len());
    }
    assert!(taken[60..].iter().map(Vec::len).sum::<usize>() > 400, "not much less than may come");
    let later = play((&mut chooser, &mut renewal), 400, 20, 3);
    assert_eq!(later.last().unwrap().len(), 60, "all flows are looked at again");
}

#[test]
fn of_one_flow_all_is_taken_and_nothing_of_others() {
    let flow = view(7, false).tuple;
    let mut chooser = Chooser::new(Pace::new(Portion { of_flow: Some(flow), ..Portion::default() }));
    let [request, reply, other] =
        [(Stage::Dnat, view(7, false)), (Stage::Spoof, view(7, true)), (Stage::Dnat, view(8, false))]
            .map(|(stage, view)| of(stage, &view));
    for _ in 0..100 {
        assert!(chooser.wants(EVERY, request) && chooser.wants(EVERY, reply));
        assert!(!chooser.wants(EVERY, other));
    }
    assert!(!chooser.wants(EVERY, key_of(Stage::Dnat, &Err::<View, ()>(()))));
}

/// A worker asks the gate first, and gets the same answers.
#[test]
fn a_gate_hides_nothing_that_is_wanted() {
    let views = all_views(2000);
    let key = |port: usize| of(Stage::Dnat, &views[port]);
    let pace = |most| Pace::new(Portion { at_most: NonZeroU32::new(most), ..Portion::default() });
    let paces = [pace(1000), pace(200)];
    let [mut gated, mut free] = [0, 1].map(|_| paces.clone().map(Chooser::new));
    let mut renewals = paces.clone().map(Renewal::new);
    let (mut gate, mut now, mut shut) = (Gate::default(), Instant::now(), 0);
    for _ in 0..60 {
        now += TICK;
        renewals.iter_mut().for_each(|renewal| renewal.renew(now));
        gate.renew(gated.iter());
        // Both ask with as much left, of which the second has none of its own.
        let left = paces.each_ref().map(|pace| pace.left.load(Ordering::Relaxed));
        let mut answers = Vec::new();
        for port in (0..2000).chain(0..2000) {
            let is_shut = gate.is_shut_for(key(port));
            shut += u32::from(is_shut);
            let wants = gated.each_mut().map(|chooser| !is_shut && chooser.wants(EVERY, key(port)));
            if !is_shut && wants == [false; 2] {
                gate.shut(key(port), gated.iter());
            }
            answers.push(wants);
        }
        paces.iter().zip(left).for_each(|(pace, left)| pace.left.store(left, Ordering::Relaxed));
        for (port, wants) in (0..2000).chain(0..2000).zip(answers) {
            let free = free.each_mut().map(|chooser| chooser.wants(EVERY, key(port)));
            assert_eq!(free, wants, "port {port}");
        }
    }
    assert!(shut > 60 * 2000, "{shut} of {} did not have to be asked about", 60 * 4000);
}
