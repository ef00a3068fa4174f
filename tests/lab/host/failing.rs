//! System calls that fail, too few descriptors, a full disk, queues and clients that are stuck: the node goes on, or ends and says why.

use super::*;

/// Fails this system call in each thread as often as `how` says.
fn failing(call: &str, error: &str, how: &str) -> [String; 7] {
    let inject = format!("inject={call}:error={error}:{how}");
    // With -D the tracer is not our child, and the node is.
    ["strace", "-D", "-f", "-qqq", "-o/dev/null", "-e", &inject].map(str::to_owned)
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_fails_for_a_moment_does_not_end_a_node_and_what_fails_for_good_does() {
    let host = Host::new();
    let before = host.ruleset();
    let client = host.neighbour();
    for (backend, receive, send) in [("netlink", "recvmmsg", "writev"), ("nfq", "recvfrom", "")] {
        for (call, error) in [(receive, "ENOMEM"), (receive, "EMFILE"), (send, "EAGAIN"), (send, "ENOBUFS")] {
            if call.is_empty() {
                continue;
            }
            // System calls are counted in each thread. The one that takes the queues may not fail.
            let wrap = failing(call, error, if backend == "nfq" { "when=100+3" } else { "when=1+2" });
            let wrap: Vec<&str> = wrap.iter().map(String::as_str).collect();
            let node = host.serve_in(&wrap, &["--backend", backend, "--workers", "1", "--full"]);
            client.send(200);
            host.wait_until_decided(200);
            let log = node.end("TERM");
            assert!(log.contains("now: ") && log.contains("trying again"), "{backend} {call} {error}\n{log}");
            let told = log.rsplit_once("temporary errors: ").unwrap_or_else(|| panic!("{log}")).1;
            assert!(told.trim().parse::<u32>().unwrap() > 0, "{log}");
            assert!(log.contains(" packets: save unmarked 200; "), "{log}");
            assert_eq!(host.only_guard(), before);
        }
    }
    for (call, error, told) in [
        ("recvmmsg", "EBADF", "a worker failed: Bad file descriptor (os error 9); the rules were removed"),
        (
            "accept4",
            "EPERM",
            "the control socket failed: Operation not permitted (os error 1); the rules were removed",
        ),
    ] {
        let wrap = failing(call, error, "when=1+");
        let wrap: Vec<&str> = wrap.iter().map(String::as_str).collect();
        // A worker receives when there is something.
        let sending = || {
            client.send(1);
            std::thread::sleep(Duration::from_millis(100));
        };
        let output = beside(sending, || host.command(&wrap, &["--full"]).output().unwrap());
        let message = text(&output.stderr);
        assert!(output.status.code() == Some(1) && message.contains(told), "{message}");
        assert_eq!(host.only_guard(), before);
    }
}

/// What takes all its time in trying again still ends, and takes its rules along.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_signal_ends_a_node_that_can_neither_receive_nor_accept() {
    let host = Host::new();
    let before = host.ruleset();
    let client = host.neighbour();
    for call in ["recvmmsg", "accept4"] {
        let wrap = failing(call, "ENOMEM", "when=1+");
        let wrap: Vec<&str> = wrap.iter().map(String::as_str).collect();
        let node = host.serve_in(&wrap, &["--workers", "1", "--full"]);
        // A worker receives when there is something.
        client.send(1);
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(1500));
        let log = node.end("TERM");
        assert!(began.elapsed() < Duration::from_secs(10), "{log}");
        let lines = log.lines().filter(|line| line.contains("Cannot allocate memory")).count();
        assert!((1..=4).contains(&lines), "at most one line a second:\n{log}");
        assert!(log.contains("such errors since the last line"), "{log}");
        assert_eq!(host.only_guard(), before);
    }
}

/// Whatever number of descriptors it may have, it serves, or says that there are too few.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn with_few_descriptors_it_serves_or_says_so() {
    let host = Host::new();
    let before = host.ruleset();
    let mut served = 0;
    for limit in 4..52 {
        let limit = format!("--nofile={limit}");
        let mut child =
            host.command(&["prlimit", &limit], &["--workers", "2"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        while !log.contains("serving node1") && stderr.read_line(&mut log).unwrap() > 0 {}
        if log.contains("serving node1") {
            served += 1;
            // Who asks may use up what is left.
            let clients: Vec<_> =
                (0..20).filter_map(|_| std::os::unix::net::UnixStream::connect(host.socket()).ok()).collect();
            let log = Node { child: Some(child), stderr, log }.end("TERM");
            assert!(log.contains("node1 has stopped"), "{log}");
            drop(clients);
        } else if log.contains("error while loading shared libraries") {
            // Too few to begin at all, which is not ours to say.
            assert!(!child.wait().unwrap().success());
        } else {
            assert!(log.contains("too few file descriptors: the limit is "), "{limit}: {log}");
            assert_eq!(child.wait().unwrap().code(), Some(1), "{log}");
            assert_eq!(served, 0, "fewer were enough");
        }
        assert_eq!(host.only_guard(), before, "{limit}");
    }
    assert!((1..15).contains(&served), "{served}");
}

/// A real disk of 128 KiB: it fills up, gets room again, fills up again and stays so.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_trace_on_a_full_disk_goes_on_when_there_is_room_and_says_what_it_lacks() {
    let host = Host::new();
    let client = host.neighbour();
    let disk = tempfile::tempdir().unwrap();
    let at = disk.path().to_str().unwrap();
    // `ip netns exec` has made a mount namespace, and the mount is in that alone.
    let mount = format!(
        "mount -t tmpfs -o size=128k,mode=700 none {at} && head -c 100000 /dev/zero >{at}/ballast && exec \"$@\""
    );
    for (ending, twice) in [("jsonl", true), ("pcapng", true), ("jsonl", false)] {
        let trace = format!("{at}/trace.{ending}");
        let mut node =
            host.serve_in(&["sh", "-c", &mount, "sh"], &["--full", "--workers", "1", "--trace", &trace]);
        let inside = PathBuf::from(format!("/proc/{}/root", node.child.as_ref().unwrap().id()));
        let file = inside.join(trace.strip_prefix('/').unwrap());
        let ballast = inside.join(at.strip_prefix('/').unwrap()).join("ballast");
        // More than fits and less than may wait, so that nothing is lost before the end.
        client.send(200);
        node.reads("the trace cannot be written: No space left on device (os error 28); trying again");
        std::fs::remove_file(ballast).unwrap();
        node.reads("writing the trace again after 0 events were lost");
        if twice {
            client.send(500);
            node.reads("the trace cannot be written");
        }
        let log = node.log_so_far();
        assert_eq!(log.matches("the trace cannot be written").count(), 1 + usize::from(twice), "{log}");
        // What is on the disk has to be looked at while its node keeps it.
        let kept = disk.path().with_extension("kept");
        node.signal("TERM");
        let held = File::open(&file).unwrap();
        let (status, log) = node.ended();
        std::fs::copy(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held)), &kept).unwrap();
        let number = |before: &str| {
            let after = log.split_once(before).unwrap_or_else(|| panic!("no {before:?} in\n{log}")).1;
            after.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<usize>().unwrap()
        };
        let sent = if twice { 700 } else { 200 };
        assert!(log.contains(&format!(" packets: save unmarked {sent}")), "{log}");
        // A host that is busy sends a few of its own: ICMP errors, which are decided about at spoof.
        let decided = number("node1 has stopped; ");
        assert!((sent..sent + 10).contains(&decided), "{log}");
        let (written, lacks) = if twice {
            assert_eq!(status.code(), Some(1), "{log}");
            (number("writing failed after "), number("the trace lacks "))
        } else {
            assert_eq!(status.code(), Some(0), "{log}");
            (number("trace: "), 0)
        };
        assert_eq!(written + lacks, decided, "{log}");
        if ending == "jsonl" {
            let lines = std::fs::read_to_string(&kept).unwrap();
            assert!(lines.ends_with('\n'));
            let whole = lines.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
            assert_eq!((whole.count(), lines.lines().count()), (written, written));
        } else {
            let packets = must("tshark", &["-n", "-r", kept.to_str().unwrap()]);
            assert_eq!(packets.lines().count(), 2 * written, "before and after");
        }
        std::fs::remove_file(&kept).unwrap();
    }
}

/// Stopped, it lets its queues and their sockets fill up.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_the_kernel_drops_at_a_queue_is_said_at_once_and_counted_exactly() {
    let host = Host::new();
    let client = host.neighbour();
    // The nfq crate's socket has the buffer that any socket has; ours has room for more packets than a queue.
    for (backend, count, kind) in [("netlink", 20_000, "queue full"), ("nfq", 2_000, "socket full")] {
        let mut node = host.serve(&["--full", "--workers", "1", "--backend", backend]);
        node.signal_worker("STOP");
        client.send(count);
        let lost = |host: &Host| {
            let queues = host.queues();
            let lost = queues.iter().find(|queue| queue[5] + queue[6] > 0).expect("it has not filled up");
            (lost[0], lost[5], lost[6])
        };
        let (queue, full, unreceived) = lost(&host);
        assert_eq!((full > 0, unreceived > 0), (backend == "netlink", backend == "nfq"));
        let began = Instant::now();
        node.signal_worker("CONT");
        // Where the client takes longer than a second, it is said in pieces.
        let (all, mut told) = (full + unreceived, 0);
        while told < all {
            node.reads("packets lost before dunnat saw them");
            let said = node.log_so_far().lines().last().unwrap();
            let (before, after) = said.split_once(" packets lost before dunnat saw them; ").unwrap();
            let piece: u64 = before.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(after.starts_with(&format!("{kind} (")), "{said}");
            assert!(after.ends_with(&format!(": {piece} at queue {queue}, save")), "{said}");
            told += piece;
        }
        assert_eq!(told, all);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        wait_for("all packets to get their verdicts", || {
            host.queues().iter().all(|queue| queue[2] == 0).then_some(())
        });
        // The number of the next one tells also dunnat that those are missing.
        client.send(1);
        host.wait_until_decided(u64::from(count) - full + 1);
        assert_eq!(lost(&host), (queue, full, unreceived));
        let log = node.end("TERM");
        let decided = u64::from(count) + 1 - all;
        assert!(log.contains(&format!(" packets: save unmarked {decided}; ")), "{log}");
        let told =
            format!("{all} packets lost before dunnat saw them: queue full {full}, socket full {unreceived}");
        assert!(log.trim_end().ends_with(&told), "{log}");
    }
}

/// Of a process, in KiB (`VmRSS`).
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// As many as there may be, each with all that may wait for it: they cost little, give it back, and delay nothing.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn clients_that_are_stuck_cost_little_give_it_back_and_do_not_delay_the_end() {
    use std::os::unix::net::UnixStream;
    let host = Host::new();
    let client = host.neighbour();
    // One that has gone holds its place for a moment.
    let one = || {
        let mut stream = UnixStream::connect(host.socket()).unwrap();
        let _ = stream.write_all(b"{\"trace\":{}}\n");
        let mut hello = String::new();
        BufReader::with_capacity(1, &stream).read_line(&mut hello).unwrap();
        hello.starts_with("{\"hello\":").then_some(stream)
    };
    let attach = || -> Vec<UnixStream> { (0..64).map(|_| wait_for("a place", one)).collect() };
    let ended = |node: Node| {
        let began = Instant::now();
        node.end("TERM");
        began.elapsed()
    };
    // In parts, and the queues have room for each: sixty copies of each packet take their time.
    let send = || {
        for _ in 0..5 {
            client.send(4000);
            wait_for("all packets to get their verdicts", || {
                host.queues().iter().all(|queue| queue[2] == 0).then_some(())
            });
        }
    };
    let alone = ended(host.serve(&["--full", "--workers", "2"]));

    let node = host.serve(&["--full", "--workers", "2"]);
    let process = node.worker();
    let before = resident(process);
    for _ in 0..2 {
        let stuck = attach();
        send();
        let during = resident(process);
        println!("resident: {before} KiB before, {during} with 64 that are stuck");
        assert!(during < 64 << 10, "{before} KiB before, {during} KiB with 64 that are stuck");
        assert!(during > before + 8192, "nothing waits: {before} KiB before, {during} KiB now");
        drop(stuck);
        // Nobody sends anything now: it is not a packet that makes room.
        wait_for("the memory to be given back", || (resident(process) < before + (8 << 10)).then_some(()));
    }
    let mut stuck = attach();
    send();
    // Some that say nothing in place of some that are stuck.
    stuck.truncate(48);
    let silent: Vec<UnixStream> = (0..16).map(|_| UnixStream::connect(host.socket()).unwrap()).collect();
    let with_clients = ended(node);
    drop((stuck, silent));
    println!("the end: {alone:?} alone, {with_clients:?} with 64 that are stuck or silent");
    assert!(with_clients < alone + Duration::from_millis(500), "{alone:?} alone, {with_clients:?} with 64");
}
