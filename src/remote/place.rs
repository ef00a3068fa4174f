//! Where a node is, and how to run a program there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

/// Where a node is; written `ssh:HOST`, `netns:NAME`, `unix:PATH` or `cmd:WORDS`. Behind `=` may stand the node's name, or the path of its
/// socket, as it is there: `ssh:root@host=node1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    way: Way,
    node: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Ssh(String),
    Netns(String),
    Unix(PathBuf),
    Cmd(Vec<String>),
}

/// Why a text is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// It begins with none of the words.
    #[error(
        "a place is ssh:HOST, netns:NAME, unix:PATH or cmd:COMMAND; behind it =NODE or =SOCKET, if several nodes run there"
    )]
    Way,
    /// A word that another program might take for an option, or a path.
    #[error("{0} is no name of a host or of a network namespace")]
    Name(String),
    /// Nothing stands there.
    #[error("{0} what? A place is ssh:HOST, netns:NAME, unix:PATH or cmd:COMMAND")]
    Empty(&'static str),
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let (way, rest) = text.split_once(':').ok_or(PlaceError::Way)?;
        let named = |rest: &str| match rest.rsplit_once('=') {
            Some((place, node)) if !node.is_empty() => (place.to_owned(), Some(node.to_owned())),
            _ => (rest.to_owned(), None),
        };
        let name = |what: &'static str, name: String| {
            let is_fit = |c: char| c.is_ascii_alphanumeric() || "._-@:%[]".contains(c);
            match name.chars().next() {
                None => Err(PlaceError::Empty(what)),
                Some('-' | '.') => Err(PlaceError::Name(name)),
                Some(_) if !name.chars().all(is_fit) => Err(PlaceError::Name(name)),
                Some(_) => Ok(name),
            }
        };
        match way {
            "ssh" => {
                let (host, node) = named(rest);
                Ok(Self { way: Way::Ssh(name("ssh:", host)?), node })
            }
            "netns" => {
                let (space, node) = named(rest);
                Ok(Self { way: Way::Netns(name("netns:", space)?), node })
            }
            "unix" if rest.is_empty() => Err(PlaceError::Empty("unix:")),
            "unix" => Ok(Self { way: Way::Unix(rest.into()), node: None }),
            "cmd" => {
                let mut words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
                // In a word before the last one, or in an option, `=` is the command's own.
                let last = words.pop().unwrap_or_default();
                let (last, node) = if last.starts_with('-') { (last, None) } else { named(&last) };
                if !last.is_empty() {
                    words.push(last);
                }
                if words.is_empty() {
                    Err(PlaceError::Empty("cmd:"))
                } else {
                    Ok(Self { way: Way::Cmd(words), node })
                }
            }
            _ => Err(PlaceError::Way),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            Way::Ssh(host) => write!(f, "ssh:{host}")?,
            Way::Netns(name) => write!(f, "netns:{name}")?,
            Way::Unix(path) => write!(f, "unix:{}", path.display())?,
            Way::Cmd(words) => write!(f, "cmd:{}", words.join(" "))?,
        }
        match &self.node {
            Some(node) => write!(f, "={node}"),
            None => Ok(()),
        }
    }
}

impl Place {
    /// The node that listens at a socket of this host.
    pub fn of_socket(path: &Path) -> Self {
        Self { way: Way::Unix(path.to_owned()), node: None }
    }

    /// The socket, if it is one of this host.
    pub fn socket(&self) -> Option<&Path> {
        match &self.way {
            Way::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// The command that runs a verb of dunnat there, with these words behind it. `own` is this program, for places on this host. Its
    /// input is empty, and its output is to be read.
    pub fn command(&self, own: &Path, verb: &str, words: &[String]) -> Command {
        let mut all = vec![verb.to_owned()];
        let socket = match &self.way {
            Way::Unix(path) => Some(path.to_string_lossy().into_owned()),
            _ => self.node.clone(),
        };
        if let Some(node) = socket {
            // One word: it may begin with anything.
            all.push(format!("{}={node}", if node.contains('/') { "--socket" } else { "--node" }));
        }
        all.extend_from_slice(words);
        let mut command = match &self.way {
            Way::Ssh(host) => {
                let mut ssh = Command::new("ssh");
                for option in SSH {
                    ssh.args(["-o", option]);
                }
                // The shell there makes words of one text.
                let quoted: Vec<String> = all.iter().map(|word| quoted(word)).collect();
                ssh.args(["-T", "--", host]).arg(format!("dunnat {}", quoted.join(" ")));
                ssh
            }
            Way::Netns(name) => {
                let mut ip = Command::new("ip");
                ip.args(["netns", "exec", name]).arg(own).args(&all);
                ip
            }
            Way::Unix(_) => {
                let mut dunnat = Command::new(own);
                dunnat.args(&all);
                dunnat
            }
            Way::Cmd(words) => {
                let mut command = Command::new(words.first().map_or("", String::as_str));
                command.args(words.iter().skip(1)).args(&all);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// No question is asked, a host that is gone is found out, and whoever is there gets nothing of this host.
const SSH: [&str; 7] = [
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
];

/// As one word of a POSIX shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn words(place: &str) -> Vec<String> {
        let place: Place = place.parse().unwrap();
        let command = place.command(Path::new("/bin/dunnat"), "trace", &["--".into(), "not (tcp)".into()]);
        let text = |word: &OsStr| word.to_string_lossy().into_owned();
        std::iter::once(text(command.get_program())).chain(command.get_args().map(text)).collect()
    }

    #[test]
    fn each_way_has_its_command() {
        assert_eq!(
            words("netns:n1=/run/x.sock"),
            ["ip", "netns", "exec", "n1", "/bin/dunnat", "trace", "--socket=/run/x.sock", "--", "not (tcp)"]
        );
        assert_eq!(
            words("unix:/run/a=b.sock"),
            ["/bin/dunnat", "trace", "--socket=/run/a=b.sock", "--", "not (tcp)"]
        );
        assert_eq!(
            words("cmd:docker exec n1 dunnat=node1"),
            ["docker", "exec", "n1", "dunnat", "trace", "--node=node1", "--", "not (tcp)"]
        );
        assert_eq!(
            words("cmd:ssh -o BatchMode=yes host A=b dunnat"),
            ["ssh", "-o", "BatchMode=yes", "host", "A=b", "dunnat", "trace", "--", "not (tcp)"]
        );
        assert_eq!(
            words("cmd:./on --host=a dunnat=/run/x.sock"),
            ["./on", "--host=a", "dunnat", "trace", "--socket=/run/x.sock", "--", "not (tcp)"]
        );
        assert_eq!(words("cmd:./on --host=a"), ["./on", "--host=a", "trace", "--", "not (tcp)"]);
        assert_eq!(words("cmd:./on =node1"), ["./on", "trace", "--node=node1", "--", "not (tcp)"]);
        let ssh = words("ssh:root@node1");
        assert_eq!(ssh[ssh.len() - 3..], ["--", "root@node1", "dunnat 'trace' '--' 'not (tcp)'"]);
    }

    #[test]
    fn nothing_typed_is_an_option_or_a_word_for_a_shell() {
        for wrong in [
            "ssh:-oProxyCommand=x",
            "ssh:a b",
            "ssh:a;b",
            "ssh:$(a)",
            "netns:../x",
            "netns:a/b",
            "netns:-h",
            "ssh:",
            "cmd: ",
            "cmd:=node1",
            "unix:",
            "node1",
            "tcp:a",
        ] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    /// A shell reads each word as it was.
    #[test]
    fn a_shell_gets_every_word_back() {
        for word in ["", "a b", "it's", "$(id)", "`id`", "a\nb", r"\", "''", "ä\"", "*"] {
            let script = format!("printf %s {}", quoted(word));
            let said = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout), word);
        }
    }

    #[test]
    fn a_place_is_written_as_it_is_read() {
        for text in [
            "ssh:root@host=node1",
            "netns:n1",
            "unix:/run/x.sock",
            "cmd:a b c=/run/y.sock",
            "cmd:a b=c d",
            "cmd:a -b=c",
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
    }
}
