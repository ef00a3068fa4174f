//! What the log says of what is amiss: a table of all warnings and errors, each with an id that stays, and with what to do.
//!
//! A warning or an error is told by [`message!`] alone (clippy forbids the macros of the crate `log` for them). Its id stands before the text, `D301`;
//! under journald it is a field, too. The page `messages` of the manual is this table.

use log::Level;

/// A warning or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// `D` and three digits, of which the first is the group. It never changes its meaning, and is not used again.
    pub id: &'static str,
    /// Warning or error.
    pub level: Level,
    /// How its text begins, with `…` in place of values; or what it is about, where all of the text is a value.
    pub says: &'static str,
    /// What it means, and what to do.
    pub advice: &'static str,
}

/// The key of a log record under which it has the id of its message.
pub const KEY: &str = "id";

#[doc(hidden)]
#[macro_export]
macro_rules! __message {
    ($name:ident[$($key:ident = $value:expr),+ $(,)?], $($text:tt)+) => {
        ::log::log!(
            $crate::messages::$name.level,
            id = $crate::messages::$name.id, $($key:% = $value),+;
            $($text)+
        )
    };
    ($name:ident, $($text:tt)+) => {
        ::log::log!($crate::messages::$name.level, id = $crate::messages::$name.id; $($text)+)
    };
}

/// Tells a message of the table: its name there, and then a text as for `format!`. Fields for journald may stand behind the name:
/// `message!(OVERLOADED[queue = 101], "...")`.
pub use __message as message;

/// The groups: the first digit of an id, and what the messages are about.
pub const GROUPS: [(char, &str); 7] = [
    ('1', "the node and its processes"),
    ('2', "packets, queues, policies"),
    ('3', "rules and the guard"),
    ('4', "this host"),
    ('5', "reload, upgrade, clients, trace files"),
    ('6', "verbs that read"),
    ('7', "labs"),
];

macro_rules! table {
    ($($name:ident $level:ident $id:literal $says:literal $advice:literal;)*) => {
        $(
            #[doc = concat!($id, ": ", $says)]
            pub const $name: Message = Message { id: $id, level: Level::$level, says: $says, advice: $advice };
        )*

        /// All of them, by their ids, each with its name here.
        pub const ALL: &[(&str, Message)] = &[$((stringify!($name), $name)),*];
    };
}

table! {
    // The node and its processes.
    WORKER_ENDED Error "D101" "the worker has ended: …; packets wait, and …"
        "The process that serves packets has ended. Packets wait in the kernel, another worker takes over, and none is lost. Once: somebody killed it, or memory was short (`journalctl -k`). Again and again: write `dunnat report`, and report a bug.";
    WORKER_NOT_STARTED Error "D102" "cannot start another worker: …; trying again"
        "There is no memory, or there are too many processes; packets wait meanwhile. Free memory; look at `TasksMax=` and `LimitNPROC=` of the unit.";
    WORKER_DOES_NOT_BEGIN Error "D103" "another worker does not begin: …"
        "The new worker could not take what it needs; the message says what. It is tried again. If it goes on, start the node again.";
    WORKER_REFUSES Error "D104" "the worker cannot serve generation …: …"
        "The worker could not begin with the new cluster file, and the node keeps the file before. Mend what the message says, and reload again.";
    POISON Error "D105" "a packet of … bytes in queue … has ended two workers; it is dropped"
        "A bug: this packet ends the process that reads it. It is dropped, so that the node goes on. Its bytes are in `dunnat status --json`: report them.";
    POISON_STAYS Error "D106" "cannot drop a packet that ends workers: …"
        "The kernel refused the verdict. The packet is tried again with the next worker.";
    WORKER_HANGS Error "D107" "the worker has not answered a packet for … seconds, and … wait: it is ended"
        "The worker was stopped (SIGSTOP, a debugger), or the host is too busy, or it is a bug. Another one takes over.";
    WORKER_ENDS_BADLY Warn "D108" "the worker has not ended well: …"
        "At the end of the node its worker did not finish in order. Packets that it had are lost; rules and guard are not affected.";
    WORKER_KILLED Warn "D109" "the worker does not end; it is killed"
        "As D108: it did not end within its time.";
    QUEUES_OF_BEFORE Warn "D110" "the worker may still have the queues of the file before: …"
        "After a reload the queues of the file before may stay open. They get no packets. They are closed when the worker ends.";
    KEEPER_UNHEARD Error "D111" "cannot hear the keeper any more: …"
        "The connection between keeper and worker failed. The worker ends, and the keeper starts another one.";
    NO_NAMES Error "D112" "cannot tell the names of interfaces any more: …"
        "Decisions go on; traces show numbers in place of names of interfaces. Start the node again at a quiet time.";
    NO_THREAD_BESIDE Warn "D113" "cannot start a thread beside the workers: …"
        "There is no memory, or there are too many threads. Packets are served; what the thread does (watching rules, links, losses) is not done. Free memory, and start the node again.";
    NOT_ENDED_WELL Error "D114" "what could not be put away at the end of a node"
        "It says what is left. `dunnat down` removes rules and guard.";
    NO_SIGNALS Error "D115" "cannot wait for signals any more: …"
        "The node cannot be ended by SIGTERM any more. End it by SIGKILL, and start it again: under the unit no connection ends by that.";
    NOT_PINNED Warn "D116" "cannot pin worker … to its own processor: …"
        "The worker runs on any processor. The unit, or a container, does not allow that processor (`CPUAffinity=`, `AllowedCPUs=`).";
    CALL_REFUSED Warn "D117" "a worker thread tried the system call …"
        "A library may be newer than this dunnat, or somebody has taken over a worker. Look whether it comes once or goes on (`dunnat status`); report it. See [rights].";
    NOTHING_SHOWN Error "D118" "packets cannot be shown (…): stopping"
        "The terminal of `step` is gone. The node ends, and packets that were held get their verdicts.";
    LOG_FILTER_ODD Warn "D119" "RUST_LOG: '…' is not understood; info is used"
        "The word is no level, and no part of dunnat; as it stands nothing would be told. Levels are `error`, `warn`, `info`, `debug`, `trace` and `off`; of one part: `dunnat::queue=debug`.";
    PANICS_UNTOLD Error "D198" "workers have panicked … times; further panics are counted, and not told here"
        "As D199, many times. `dunnat status` has the number.";
    PANIC Error "D199" "… panicked. This is a bug; please report it"
        "A bug. The packet is dropped, or the thread is replaced, and the node goes on. Report the lines before it.";
    // Packets, queues, policies.
    OVERLOADED Warn "D201" "queue …, …, gets more packets than workers decide, which are … a second"
        "More packets come than this processor can decide; some are lost. More workers (`--workers`), rules of your own before dunnat that drop a flood, or `--decide flow`. See [node].";
    KERNEL_CARRIES Warn "D202" "the kernel translates packets that no worker has decided"
        "With `--stand-in kernel`: workers were away, or too slow. Connections went on. If it goes on, look for D101 and D201.";
    LOST Warn "D203" "… packets lost before dunnat saw them"
        "The message says where: the queue was full (workers are too slow), or the socket was (many large packets wait). See [node], \"More packets than it can decide\".";
    POLICY_FORGETS Warn "D204" "the policy … had … to remember that found no room"
        "What the policy remembers has a limit. Flows that found no room are new to it. Look at the policy.";
    WAITING_PACKETS_DROPPED Warn "D205" "packets were still waiting in the queues; the kernel drops them now"
        "The node ended while packets were waiting and no worker took them. TCP sends them again.";
    POLICY_STARTED_AGAIN Warn "D206" "policy …: …; it is started again"
        "The policy is a program of yours: it ended, or was too slow. Its packets got the verdict that [policies] names. Look at what it wrote before.";
    POLICY_NOT_STARTED Warn "D207" "policy …: cannot run it again: …"
        "The program of the policy is gone, or may not be started. Packets get the verdict that [policies] names until it is back.";
    PORTS_SHARED Warn "D208" "programs of this host may get the ports … (net.ipv4.ip_local_port_range)"
        "Reserve the ports, as the message says, and write it to /etc/sysctl.d, so that it is so after the next boot.";
    TOO_MANY_FLOWS Warn "D209" "the kernel carries more than … flows: of others traces do not tell how much"
        "Packets are translated as always; only the counts of some flows are missing in traces.";
    POLICY_OTHER_HELLO Warn "D210" "policy …: its hello is not the one that it began with"
        "The program was replaced by another version while the node runs. Start the node again.";
    POLICY_NO_HELLO Warn "D211" "policy …: it ends, or says nothing, instead of its hello"
        "The program is no policy, or fails at its start. Try it by hand, see [policies].";
    POLICY_NONSENSE Warn "D212" "policy …: what it wrote is no answer"
        "The program wrote what is no answer. The message has the beginning. See [policies].";
    POLICY_TALKS Warn "D213" "…: … more lines on its standard error, too many in a second, are left out"
        "The program writes too much to its standard error. Nothing else is lost.";
    // Rules and the guard.
    RULES_CHANGED Warn "D301" "our rules were changed by …; they are restored"
        "The message names the program. The rules are back at once. If that program flushes all rules at every reload (`flush ruleset`), let it flush its own tables only.";
    RULES_NOT_RESTORED Error "D302" "our rules were changed by …, and could not be restored: …; trying again"
        "Packets may pass untranslated, and the guard drops what must not go out. The message says why nft refused: mend it. The node tries on.";
    RULES_TAKEN_OVER Warn "D303" "rules of … are left from a run that was killed; taking them over"
        "A run before was killed. Nothing to do.";
    GUARD_DROPPED Warn "D304" "the guard dropped …: … (counter …)"
        "Packets of guests would have gone out with inside addresses. Once at a start or an end: usual. If it goes on, ask `dunnat doctor` and `dunnat status`. See [guard].";
    TABLES_GO Warn "D305" "this kernel (before Linux 6.9) removes the tables of a process when it ends, and so drops packets that wait in queues: …"
        "At the end of a node packets that wait are lost; TCP sends them again. A kernel from 6.9 on does not do that.";
    RULES_NOT_BACK Error "D306" "cannot restore the rules as they were: …"
        "A reload failed half way, and the rules before could not be written again. `systemctl restart` of the node, and report it.";
    CHAINS_STAY Warn "D307" "…. Until then these chains stay, empty: …"
        "Empty chains cost nothing. They go with the next reload, or when the node ends.";
    // This host.
    FACT Warn "D401" "a fact of `dunnat doctor` that is not so"
        "The node starts, and packets may be lost. The message says what to do; so does `dunnat doctor`. See [facts].";
    INTERFACE_GONE Warn "D402" "…, …, is gone: …"
        "Somebody removed an interface that the node needs. It is used again as soon as it is back under this name.";
    INTERFACE_RENAMED Warn "D403" "…, …, was renamed to …: …"
        "Rules name interfaces by their names. Give it its name back, or change the cluster file and reload.";
    INTERFACE_DOWN Warn "D404" "…, …, is down: …"
        "Set it up: `ip link set NAME up`. Look at the cable, or at the other end.";
    OTHER_WAY_OUT Warn "D405" "there is a route to … by …, but only packets that go out through … are translated"
        "Remove the route, or name the network in `inside`, if guests may be seen there.";
    REHEARSAL_STOPPED Warn "D406" "rehearsal: …; more: dunnat rehearse"
        "A rule of this host stops such flows. `dunnat rehearse` names the rule. See [rehearsal].";
    WAITED_IN_VAIN Warn "D407" "waited … s, and this is not so: …"
        "What makes the bridge or the address did not run, or failed. `run` goes on and judges as without `--wait`. Look at the unit of your network.";
    NOT_REHEARSED Warn "D408" "rehearsal: …"
        "Nothing was tried, and nothing is known. The message says what was missing; the unit does not give the rights for it, see rehearse.conf among the examples.";
    PASSING Warn "D409" "cannot … now: …; trying again"
        "There is no memory, or there are no descriptors, for a moment. It is tried again, and nothing is lost. If it goes on, free memory, or raise `LimitNOFILE=`.";
    // Reload, upgrade, clients, trace files.
    NOT_RELOADED Error "D501" "not reloaded, going on as before: …"
        "The file or this host is not right, and the node uses the file before. Mend what the message says, and reload again.";
    RELOAD_WARNS Warn "D502" "what the new cluster file does, and may not be meant"
        "The file is in use. Look whether that is what you want.";
    RULES_NOT_TRIED Warn "D503" "the new rules were not tried before: cannot make a network namespace for that: …"
        "Memory is short, or this kernel has no network namespaces. The file is used all the same: the kernel checks rules when they are written, all or none.";
    NOT_UPGRADED Error "D504" "not upgraded, going on as before: …"
        "The node goes on with the program before. The message has the last words of the new one. `systemctl restart` changes the program, too, and connections wait meanwhile.";
    WENT_ON_AFTER_KILL Warn "D505" "the program before was killed; its queues, its rules and its memory were kept, and packets waited"
        "Somebody, or the kernel for want of memory, killed all of the node. No packet was lost by that. Look at `journalctl -k`.";
    WENT_BACK Error "D506" "this program cannot go on: …; the one before does"
        "An upgrade failed after it was tried. The program before serves again. Report it.";
    NOT_BACK Error "D507" "the program before cannot be started either: …"
        "Nobody serves. Start the node again.";
    KEPT_IN_VAIN Warn "D508" "what the service manager has kept is of no use here: …. This is a usual start"
        "After a boot, or with another cluster file or program: a usual start. Connections waited.";
    NOTHING_KEPT Warn "D509" "the service manager does not keep what the node has: …"
        "If the node is killed now, packets that wait are lost. Look at `FileDescriptorStoreMax=` of the unit.";
    KEPT_TOO_LONG Warn "D510" "the service manager may keep what the node had: …"
        "Queues may stay open without a reader. `systemctl stop` of the unit closes them.";
    GROUP_NOT_SERVED Warn "D511" "the control socket cannot be given to the group dunnat"
        "Only root and the node's own user may look at it. A node of another user has to be a member of the group.";
    NO_THREAD_FOR_CLIENT Warn "D512" "control socket: cannot start a thread: …"
        "A client was sent away, for want of memory or threads. Packets are not affected.";
    CLIENT_NOT_HANDED Warn "D513" "cannot hand a trace client to the worker: …"
        "A trace client was sent away. Attach again.";
    TRACE_FAILED Warn "D521" "trace: writing failed after … (…); … were not written"
        "The disk is full, or the file cannot be written. Packets are not affected. Make room; start the node again to go on with the trace.";
    TRACE_CUT Warn "D522" "the trace ended with half an event; it is cut off"
        "The node before was killed while it wrote. One event is gone.";
    TRACE_NOT_CUT Warn "D523" "the trace ends with half an event, which cannot be cut off: …"
        "The last line of the trace is half an event. Readers skip it and say so.";
    TRACE_PAUSES Warn "D524" "the trace cannot be written: …; trying again, and meanwhile … events may wait and all others are lost"
        "The disk is full, or the file cannot be written. It goes on when there is room. Packets are not affected.";
    TRACE_GOES_ON Warn "D525" "writing the trace again after … events were lost"
        "There is room again. The number says what the trace does not have.";
    TRACE_NOT_REOPENED Warn "D526" "the trace goes on in the file that was moved away: …: …"
        "Who moves the trace away has to leave a directory that the node's user can write to. See [traces].";
    // Verbs that read.
    NO_EVENTS Warn "D601" "…: the trace has no events"
        "The node has traced nothing, or it is another file.";
    LAST_LINE_CUT Warn "D602" "…:…: the last line is incomplete; skipped"
        "The node was killed while it wrote, or still writes. Nothing to do.";
    EVENT_SKIPPED Warn "D603" "skipped event … of …: …"
        "This line of the trace is damaged, or of a later version. The rest is read.";
    FLOW_EVENTS_MISSED Warn "D604" "some events were missed: they came faster than this program read them"
        "Write to a file, or select fewer flows.";
    METRICS_OPEN Warn "D605" "… is not the loopback interface: whoever can reach it can read what the nodes do"
        "Metrics have addresses and names of guests. Listen at 127.0.0.1, or let rules say who may ask.";
    NO_SOCKETS Warn "D606" "/run/dunnat cannot be read"
        "Who asks needs the right to look: be a member of the group dunnat. See [rights].";
    REASON_UNKNOWN Warn "D607" "reason …: dunnat itself has none of that name, only a policy of your own may have it"
        "A typing error, most likely. The reasons of dunnat are in [reasons].";
    QUEUE_NOT_ASKED Warn "D608" "cannot ask the kernel whether it has nft queue (…)"
        "Print rules as root, or on the kernel that they are for.";
    CT_MARK_NOT_ASKED Warn "D609" "cannot ask the kernel whether verdicts set ct marks (…)"
        "Print rules as root, or on the kernel that they are for.";
    RULES_OF_NOBODY Warn "D610" "…: … left out: there is no decision to tell the node"
        "Save the trace with decisions and rules together (`dunnat trace --kernel`).";
    FILES_DIFFER Warn "D611" "the nodes used different cluster files: …"
        "Copy one file to all nodes, and reload them. Until then each decides by its own.";
    FILE_IS_OTHER Warn "D612" "… is not the file that the node uses now: it has changed, or the node was given another"
        "Names that are shown may be of another file. Reload the node, or name the file.";
    PACKETS_SKIPPED Warn "D613" "…: skipped …: …"
        "These packets are not of a kind that dunnat reads. See [captures].";
    CAPTURE_CUT Warn "D614" "…: the file ends inside a packet"
        "The program that wrote it was ended too early. What is whole was read.";
    NOTHING_DECIDED Warn "D615" "…: no decision was made: …"
        "No packet of this capture concerns the node. Look at `--node`, and at the interface of the capture.";
    OTHER_WORKER Warn "D616" "a new worker of … has taken over; decisions of the one before may be missing here"
        "As D101, seen by a reader. What was decided in between may be missing in this trace.";
    EVENTS_LOST Warn "D617" "…, … lost: events came faster than this program read them"
        "Write to a file with `--write`, or select less with a filter. Packets are not affected.";
    NODE_HUNG_UP Warn "D618" "… closed the connection unexpectedly: the node was killed, or the trace was read too slowly"
        "Attach again. If the node runs still, this program read too slowly.";
    NODE_HUNG_UP_RULES_GO_ON Warn "D619" "… closed the connection: from here on only rules are shown"
        "The node has ended, or was started again. Attach again to see decisions.";
    RATE_LIMITED Warn "D620" "… matched, and the rules of … are shown: at most … per second (--rate)"
        "Select less, or raise `--rate`. The kernel makes a message for each rule of each packet that is shown.";
    RULES_MISSED Warn "D621" "rules are missing: the kernel had more to tell than this program read (…)"
        "Select less, or lower `--rate`.";
    DECISIONS_LOST Warn "D622" "… lost: they came faster than this program read them"
        "As D617.";
    KERNEL_TRACE_STAYS Warn "D623" "the rules that show packets to the kernel's trace could not be removed"
        "They are in a table that goes with the program. If one is left: `nft list tables`, and delete it by hand.";
    RULES_WITHOUT_TEXT Warn "D624" "rules are shown without their texts: …"
        "`nft` is missing, too old for the rules of others, or too slow. Rules are shown by their numbers.";
    PAGE_OPEN Warn "D625" "… is not the loopback interface, and there is no TLS: whoever is on the way can read the token, and what the nodes do"
        "Listen on 127.0.0.1 and come by an ssh tunnel, or put a proxy with TLS before it.";
    PAGE_SHOWS_FIRST Warn "D626" "only the first … are shown; choose with FILTER, for example: host 192.168.122.1"
        "A page of more is slow. Select what you want to show by a filter, or by smaller traces.";
    // Labs.
    NODE_SAW_NOTHING Warn "D701" "…: no events"
        "In a lab: no packet came to this node. That may be right.";
    NODE_HAS_NO_TRACE Warn "D702" "…: no trace at …"
        "Start the node of the lab with a trace.";
    LAB_FAULT Error "D703" "what went wrong in a lab when it was stopped"
        "The message says what. The lab is stopped all the same.";
    PROGRAM_MISSING Warn "D704" "… (Debian package …) is not installed; needed for: …"
        "Install the package, or do without what the message names.";
    NOT_SNIFFED Warn "D705" "no check for inside addresses on the public LAN: dumpcap is not installed (Debian package tshark)"
        "Install tshark, if that is to be checked.";
    LAB_STAYS Warn "D706" "some processes of the lab did not end within 3 seconds of SIG…"
        "`dunnat lab down` again; the processes are in the namespaces of the lab.";
}

impl Message {
    /// The row of the manual's page.
    pub fn row(&self) -> String {
        let level = match self.level {
            Level::Error => "error",
            _ => "warning",
        };
        format!("| `{}` | {level} | {} | {} |", self.id, self.says, self.advice)
    }
}

/// The tables of the manual's page: a section for each group.
pub fn page() -> String {
    let section = |(digit, about): &(char, &str)| {
        let of_group = ALL.iter().filter(|(_, message)| message.id[1..].starts_with(*digit));
        let rows: String = of_group.map(|(_, message)| message.row() + "\n").collect();
        let mut about = about.to_string();
        about[..1].make_ascii_uppercase();
        format!(
            "## {about}\n\n| id | level | message | what it means, and what to do |\n|---|---|---|---|\n{rows}\n"
        )
    };
    GROUPS.iter().map(section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_and_no_two_are_alike() {
        for pair in ALL.windows(2) {
            assert!(pair[0].1.id < pair[1].1.id, "{pair:?}");
        }
        for (name, message) in ALL {
            let digits = message.id.strip_prefix('D').unwrap();
            assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
            assert!(GROUPS.iter().any(|(digit, _)| digits.starts_with(*digit)), "{name}");
            assert!(message.advice.ends_with('.') && !message.says.contains('|'), "{name}");
        }
        let rows = page().lines().filter(|line| line.starts_with("| `D")).count();
        assert_eq!(rows, ALL.len());
    }
}
