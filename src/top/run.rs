//! Inputs, a model and a terminal, brought together until somebody wants to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use jiff::Timestamp;
use ratatui::crossterm::event;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;

use super::input::{Input, Wish};
use super::model::Model;
use super::player::Player;
use super::screen::Colours;
use super::terminal::{self, Terminal};
use super::watch::Watch;
use crate::cluster::Cluster;
use crate::net::Tuple;
use crate::remote::Target;

/// How many inputs of nodes may wait here.
const WAITING: usize = 8192;
/// How many of them are taken before keys are heard and the screen is drawn.
const AT_ONCE: usize = 4096;
/// The screen is drawn this often at most, if nobody presses a key.
const FRAME: Duration = Duration::from_millis(100);

/// Where all comes from.
#[derive(Debug)]
pub enum From {
    /// These nodes; all that run here, if none is named.
    Nodes(Vec<Target>),
    /// Saved traces.
    Saved(Player),
}

/// Somebody at the terminal, or the system, wants something.
enum Asked {
    Input(Input),
    Stop,
    Suspend,
    Resume,
}

/// Shows a full screen until somebody ends it. Decisions are explained by these cluster files, and by those of nodes that run.
///
/// # Errors
/// The terminal cannot be used, or signals not be heard.
pub fn run(from: From, clusters: Vec<Cluster>, colours: Colours) -> io::Result<()> {
    let (asks, asked) = bounded(256);
    let stopping = Arc::new(AtomicBool::new(false));
    hear_signals(&asks, &stopping)?;
    let mut model = Model::new(matches!(from, From::Saved(_)));
    for cluster in clusters {
        model.take(Input::Cluster(Arc::new(cluster)));
    }
    let (inputs, received) = bounded(WAITING);
    let mut feed = Feed::start(from, inputs)?;
    let mut terminal = Terminal::take(colours)?;
    read_keys(asks)?;
    let outcome = turn(&mut model, &mut terminal, &mut feed, &asked, &received);
    match outcome {
        // Somebody has closed the terminal.
        Err(_) if stopping.load(Ordering::Relaxed) => Ok(()),
        outcome => outcome,
    }
}

/// Where inputs come from, beside the channel.
enum Feed {
    Nodes {
        watch: Watch,
        finds: bool,
        looked: Instant,
        followed: Option<Tuple>,
    },
    /// The channel is kept: one that nobody can write to would not wait.
    Saved {
        player: Box<Player>,
        at: Instant,
        _inputs: Sender<Input>,
    },
}

impl Feed {
    fn start(from: From, inputs: Sender<Input>) -> io::Result<Self> {
        match from {
            From::Nodes(targets) => {
                let mut watch = Watch::new(inputs);
                let finds = targets.is_empty();
                for target in targets {
                    watch.add(target)?;
                }
                if finds {
                    watch.look();
                }
                Ok(Self::Nodes { watch, finds, looked: Instant::now(), followed: None })
            }
            From::Saved(player) => {
                Ok(Self::Saved { player: Box::new(player), at: Instant::now(), _inputs: inputs })
            }
        }
    }

    /// Asks for all decisions about the flow that is looked at.
    fn follow(&mut self, model: &mut Model) {
        if let Self::Nodes { watch, followed, .. } = self {
            let wanted = model.wanted_flow();
            if *followed != wanted {
                // First: what was asked for before is not of this flow.
                model.follow(wanted);
                watch.follow(wanted);
                *followed = wanted;
            }
        }
    }

    /// What time brings.
    fn pass(&mut self, model: &mut Model) {
        match self {
            Self::Nodes { watch, finds, looked, .. } => {
                if *finds && looked.elapsed() >= Watch::LOOK {
                    watch.look();
                    *looked = Instant::now();
                }
                for lost in watch.lost() {
                    model.take(lost);
                }
                model.take(Input::Now(Timestamp::now()));
            }
            Self::Saved { player, at, .. } => {
                let now = Instant::now();
                let passed = now - std::mem::replace(at, now);
                for input in player.advance(passed) {
                    model.take(input);
                }
            }
        }
    }
}

fn turn(
    model: &mut Model,
    terminal: &mut Terminal,
    feed: &mut Feed,
    asked: &Receiver<Asked>,
    received: &Receiver<Input>,
) -> io::Result<()> {
    feed.pass(model);
    loop {
        let size = terminal.size()?;
        model.take(Input::Size(size.0, size.1));
        terminal.draw(model)?;
        let drawn = Instant::now();
        // Until the next frame, or a key.
        while drawn.elapsed() < FRAME {
            select! {
                recv(asked) -> first => {
                    let Ok(first) = first else { return Ok(()) };
                    // More may have come with it, as when somebody holds a key.
                    for one in std::iter::once(first).chain(asked.try_iter()) {
                        if !obey(one, model, terminal, feed)? {
                            return Ok(());
                        }
                    }
                    break;
                }
                recv(received) -> input => {
                    for input in input.into_iter().chain(received.try_iter().take(AT_ONCE)) {
                        model.take(input);
                    }
                }
                default(FRAME.saturating_sub(drawn.elapsed())) => {}
            }
        }
        feed.pass(model);
        feed.follow(model);
    }
}

/// Does what was asked for; whether to go on.
fn obey(asked: Asked, model: &mut Model, terminal: &mut Terminal, feed: &mut Feed) -> io::Result<bool> {
    let wish = match asked {
        Asked::Input(input) => model.take(input),
        Asked::Stop => Some(Wish::Quit),
        Asked::Suspend => Some(Wish::Suspend),
        Asked::Resume => {
            terminal.resume()?;
            None
        }
    };
    match wish {
        None => {}
        Some(Wish::Quit) => return Ok(false),
        Some(Wish::Suspend) => terminal.suspend()?,
        Some(Wish::Redraw) => terminal.clear()?,
        Some(Wish::Play(play)) => {
            if let Feed::Saved { player, .. } = feed {
                // What cannot be opened anew goes on as it was.
                for input in player.play(play).unwrap_or_default() {
                    model.take(input);
                }
            }
        }
    }
    Ok(true)
}

/// The first signal ends this in good order, the second at once: the terminal may be stuck.
fn hear_signals(asks: &Sender<Asked>, stopping: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(stopping))?;
        signal_hook::flag::register(signal, Arc::clone(stopping))?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])?;
    let asks = asks.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in &mut signals {
            let asked = match signal {
                SIGTSTP => Asked::Suspend,
                SIGCONT => Asked::Resume,
                _ => Asked::Stop,
            };
            if asks.send(asked).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Reads what comes from the terminal, until it is gone.
fn read_keys(asks: Sender<Asked>) -> io::Result<()> {
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        loop {
            let asked = match event::read() {
                Ok(event) => match terminal::input(event) {
                    Some(input) => Asked::Input(input),
                    None => continue,
                },
                // Somebody has stopped this program, and goes on with it.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Asked::Stop,
            };
            let is_last = matches!(asked, Asked::Stop);
            if asks.send(asked).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(())
}
