use std::io::{self, BufRead as _, Read as _, Write as _};
use std::thread;
use std::time::Duration;

use clap::Args;
use dunnat::control::{Answer, Client, LONGEST_REQUEST, Request};
use dunnat::remote::{Observer, TURN};

use super::running::RunningArgs;
use super::{Failure, of_data, print};

/// How long a node may go on to answer whom nobody hears any more.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Pass a question to a node that runs here, and its answers back: `top --on` and `web --on` run this elsewhere
///
/// The question is a line of JSON on standard input, as the node's socket takes it; one that would change something is refused.
/// It ends with the answers, or when standard input does.
#[derive(Args)]
#[command(hide = true)]
pub(super) struct Relay {
    #[command(flatten)]
    of: RunningArgs,
    /// Ask nothing, and print news of the node each second, a line of JSON each
    #[arg(long)]
    watch: bool,
}

impl Relay {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let socket = self.of.socket()?;
        if self.watch {
            let mut observer = Observer::new(socket);
            let mut outcome = Ok(());
            let mut says = |news| {
                outcome = serde_json::to_string(&news)
                    .map_err(io::Error::from)
                    .and_then(|line| writeln!(io::stdout(), "{line}"))
                    .and_then(|()| io::stdout().flush());
                outcome.is_ok()
            };
            while observer.look(&mut says) {
                thread::sleep(TURN);
            }
            // Nobody hears it any more, if it cannot be said.
            return of_data(outcome);
        }
        let mut line = String::new();
        io::stdin()
            .lock()
            .take(LONGEST_REQUEST)
            .read_line(&mut line)
            .map_err(|source| Failure::Input { from: "standard input".to_owned(), source })?;
        let request = match serde_json::from_str(&line) {
            Ok(request @ (Request::Trace(_) | Request::Status(_))) => request,
            Ok(_) => return refuse("a relay only asks: this would change something"),
            // As a node says it.
            Err(error) => return refuse(&format!("unknown request: {error}")),
        };
        let client = Client::ask(&socket, &request)?;
        let stopper = client.stopper().map_err(|error| Failure::Refused(error.to_string()))?;
        // Nobody waits for this thread: the program ends with the answers.
        let _ = thread::Builder::new().name("asked".to_owned()).spawn(move || {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            stopper.stop();
            thread::sleep(LAST_WORDS);
            stopper.cut();
        });
        of_data(client.pass_on(&mut io::stdout().lock()).and_then(|()| io::stdout().flush()))
    }
}

fn refuse(why: &str) -> Result<(), Failure> {
    let answer = serde_json::to_string(&Answer::<()>::Error(why.to_owned())).unwrap_or_default();
    print(&(answer + "\n"))
}
