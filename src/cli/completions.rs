//! `completions`: what a shell offers when somebody presses Tab. clap writes it; where a node that runs is wanted, a few lines of the
//! shell list those.

use clap::{Args, Command, CommandFactory as _, ValueEnum};
use clap_complete::generate;

use super::{Cli, Failure, VERSION, print};

/// Print the completions of a shell: verbs, options, files, and names of nodes that run here
///
/// The package installs them. Otherwise write them into a file that the shell looks for: of bash
/// /usr/share/bash-completion/completions/dunnat, of fish /usr/share/fish/vendor_completions.d/dunnat.fish, and of zsh
/// the file _dunnat in a directory of fpath.
#[derive(Args)]
pub(super) struct Completions {
    /// For this shell
    shell: Shell,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(super) fn run(&self) -> Result<(), Failure> {
        print(&self.shell.completions())
    }
}

/// Sockets in this directory are nodes that run. What else is in their names than in names of nodes is not offered.
const BASH: &str = r#"
_dunnat_nodes() {
    local socket name
    for socket in /run/dunnat/*.sock; do
        name=${socket##*/} name=${name%.sock}
        if [[ -S $socket && $name =~ ^[A-Za-z0-9._-]+$ && $name == "$1"* ]]; then COMPREPLY+=("$name"); fi
    done
}

_dunnat_or_node() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    # --node=NAME is three words.
    if [[ $word == = ]]; then word=''; elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi
    case $before in
    -n | --node)
        COMPREPLY=()
        _dunnat_nodes "$word"
        return
        ;;
    esac
    _dunnat "$@"
    if [[ ${COMP_WORDS[1]} == top && $word != -* ]]; then _dunnat_nodes "$word"; fi
}

"#;

const ZSH: &str = r#"
_dunnat_nodes() {
    local -a nodes
    nodes=(/run/dunnat/*.sock(N=:t:r))
    nodes=(${(M)nodes:#[A-Za-z0-9._-]##})
    compadd -a nodes
}

"#;

const FISH: &str = r#"function __dunnat_nodes
    for socket in /run/dunnat/*.sock
        set -l name (string replace -r '.*/(.*)\.sock$' '$1' -- $socket)
        test -S $socket; and string match -r '^[A-Za-z0-9._-]+$' -- $name
    end
end

"#;

impl Shell {
    pub(super) const ALL: [Self; 3] = [Self::Bash, Self::Zsh, Self::Fish];

    /// The file that the shell looks for.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Bash => "dunnat.bash",
            Self::Zsh => "_dunnat",
            Self::Fish => "dunnat.fish",
        }
    }

    pub(super) fn completions(self) -> String {
        let (shell, with_nodes): (_, fn(&str) -> String) = match self {
            Self::Bash => (clap_complete::Shell::Bash, bash),
            Self::Zsh => (clap_complete::Shell::Zsh, zsh),
            Self::Fish => (clap_complete::Shell::Fish, fish),
        };
        let mut text = Vec::new();
        generate(shell, &mut offered(), "dunnat", &mut text);
        with_nodes(&String::from_utf8_lossy(&text))
    }
}

/// The verbs without those that are hidden: bash would offer them.
fn offered() -> Command {
    let all = Cli::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    Command::new("dunnat").version(VERSION).args(all.get_arguments().cloned()).subcommands(verbs)
}

/// Who is asked first knows nodes.
fn bash(text: &str) -> String {
    let asked = text.replace("complete -F _dunnat ", "complete -F _dunnat_or_node ");
    asked.replacen("\nif [[ ", &format!("{BASH}if [[ "), 1)
}

/// What follows `--node`, or is a NODE of `top`, has `_default` behind its last colon.
fn zsh(text: &str) -> String {
    let is_node = |line: &str| {
        // Before an option may stand which others it excludes.
        let option = line.trim_start_matches('\'').trim_start_matches('*');
        let option = option
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
            .map_or(option, |(_, option)| option);
        option.starts_with("-n+[") || option.starts_with("--node=[") || line.starts_with("'*::nodes ")
    };
    let mut out = String::new();
    for line in text.lines() {
        out += &match line.rsplit_once(":_default'") {
            Some((before, after)) if is_node(line) => format!("{before}:_dunnat_nodes'{after}"),
            _ => line.to_owned(),
        };
        out.push('\n');
        if line.starts_with("autoload ") {
            out += ZSH;
        }
    }
    out
}

fn fish(text: &str) -> String {
    let mut out = FISH.to_owned();
    for line in text.lines() {
        out += line;
        if line.contains(" -l node ") {
            out += " -f -a \"(__dunnat_nodes)\"";
        }
        out.push('\n');
    }
    out + "complete -c dunnat -n \"__fish_dunnat_using_subcommand top\" -a \"(__dunnat_nodes)\"\n"
}
