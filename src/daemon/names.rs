//! The names of interfaces, for threads that may not ask the kernel: they ask a thread that may, and wait for its word.
//!
//! Who asks and who answers have a pair of sockets between them, so that they may as well be two processes. A question has 8 bytes:
//! its number, and an interface's index. An answer has 28: the number of its question, a kind, the length of the name, an error
//! number, and the name. Numbers are in host byte order. Each index is asked for once; an interface that is made anew has a
//! new index.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::netlink::{passing, sys};

/// How long an answer is waited for, while packets wait. Who answers makes three system calls for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long one system call waits for it.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Between tries of what fails for a reason that passes.
const PAUSE: Duration = Duration::from_millis(1);

/// The longest name of an interface, with the NUL that the kernel puts behind it (`IFNAMSIZ`).
const LONGEST: usize = libc::IFNAMSIZ;

/// An answer in bytes.
const ANSWER: usize = 12 + LONGEST;

/// The side that asks. All threads of a process share it; they know an index once they have asked for it.
#[derive(Clone, Debug)]
pub(super) struct Names(Arc<Mutex<Asking>>);

#[derive(Debug)]
struct Asking {
    socket: UnixStream,
    /// The number of the last question.
    number: u32,
    /// What has come of the next answer. One that came too late is passed over when it is whole.
    answer: [u8; ANSWER],
    len: usize,
}

impl Names {
    /// Starts a thread of this process that answers, until the last who may ask is gone.
    pub(super) fn start() -> io::Result<Self> {
        let (asks, answers) = UnixStream::pair()?;
        thread::Builder::new().name("names".to_owned()).spawn(move || {
            if let Err(error) = answer(&answers, sys::interface_name) {
                crate::messages::message!(NO_NAMES, "cannot tell the names of interfaces any more: {error}");
            }
        })?;
        Self::over(asks)
    }

    /// Asks by a socket, at whose other end somebody [answers](answer).
    pub(super) fn over(socket: UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(AT_ONCE))?;
        socket.set_write_timeout(Some(AT_ONCE))?;
        Ok(Self(Arc::new(Mutex::new(Asking { socket, number: 0, answer: [0; ANSWER], len: 0 }))))
    }

    /// The name of the interface with that index, if there is one.
    pub(super) fn get(&self, index: u32) -> io::Result<Option<String>> {
        let until = Instant::now() + PATIENCE;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ask(index, until)
    }
}

impl Asking {
    fn ask(&mut self, index: u32, until: Instant) -> io::Result<Option<String>> {
        self.number = self.number.wrapping_add(1);
        let mut question = [0; 8];
        question[..4].copy_from_slice(&self.number.to_ne_bytes());
        question[4..].copy_from_slice(&index.to_ne_bytes());
        patiently(Some(until), || (&self.socket).write_all(&question))?;
        loop {
            while self.len < ANSWER {
                let Self { socket, answer, len, .. } = self;
                match patiently(Some(until), || (&*socket).read(&mut answer[*len..]))? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    more => self.len += more,
                }
            }
            self.len = 0;
            let [n0, n1, n2, n3, answer @ ..] = &self.answer;
            if u32::from_ne_bytes([*n0, *n1, *n2, *n3]) == self.number {
                return read(answer);
            }
        }
    }
}

/// Makes a call again while it fails for a reason that passes, until then or for ever.
fn patiently<T>(until: Option<Instant>, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if passing::is_passing(&error) && until.is_none_or(|until| Instant::now() < until) => {
                thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Answers until nobody asks any more.
pub(super) fn answer(
    mut socket: &UnixStream,
    look_up: impl Fn(u32) -> io::Result<Option<String>>,
) -> io::Result<()> {
    let (mut question, mut len) = ([0; 8], 0);
    loop {
        while len < question.len() {
            match patiently(None, || socket.read(&mut question[len..]))? {
                0 => return Ok(()),
                more => len += more,
            }
        }
        len = 0;
        let [n0, n1, n2, n3, i0, i1, i2, i3] = question;
        let found = look_up(u32::from_ne_bytes([i0, i1, i2, i3]));
        match patiently(None, || socket.write_all(&written([n0, n1, n2, n3], &found))) {
            // Who asked is gone.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome?,
        }
    }
}

fn written(number: [u8; 4], found: &io::Result<Option<String>>) -> [u8; ANSWER] {
    let mut answer = [0; ANSWER];
    answer[..4].copy_from_slice(&number);
    match found {
        Ok(Some(name)) if name.len() < LONGEST => {
            answer[4] = 1;
            answer[5] = name.len() as u8;
            answer[12..12 + name.len()].copy_from_slice(name.as_bytes());
        }
        // No interface has a longer one.
        Ok(_) => {}
        Err(error) => {
            answer[4] = 2;
            answer[8..12].copy_from_slice(&error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes());
        }
    }
    answer
}

/// What comes after the number.
fn read(answer: &[u8; ANSWER - 4]) -> io::Result<Option<String>> {
    let [kind, len, _, _, e0, e1, e2, e3, name @ ..] = answer;
    match kind {
        0 => Ok(None),
        1 => {
            let name = name.get(..usize::from(*len)).unwrap_or(name);
            Ok(Some(String::from_utf8_lossy(name).into_owned()))
        }
        _ => Err(io::Error::from_raw_os_error(i32::from_ne_bytes([*e0, *e1, *e2, *e3]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_ask_the_kernel_is_told_by_one_who_may() {
        let names = Names::start().unwrap();
        assert_eq!(names.get(1).unwrap().as_deref(), Some("lo"));
        assert_eq!(names.get(u32::MAX).unwrap(), None);
        let (asks, answers) = UnixStream::pair().unwrap();
        let teller = thread::spawn(move || {
            answer(&answers, |index| match index {
                3 => Ok(Some("fifteen-letters".to_owned())),
                4 => Err(io::Error::from_raw_os_error(libc::EMFILE)),
                _ => Ok(Some("an-interface-of-sixteen-letters".to_owned())),
            })
        });
        let names = Names::over(asks).unwrap();
        assert_eq!(names.get(3).unwrap().as_deref(), Some("fifteen-letters"));
        assert_eq!(names.get(4).unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(names.get(5).unwrap(), None, "there is none with such a name");
        drop(names);
        teller.join().unwrap().unwrap();
    }

    #[test]
    fn an_answer_that_comes_late_is_not_the_next_ones() {
        let (asks, answers) = UnixStream::pair().unwrap();
        let names = Names::over(asks).unwrap();
        let mut asking = names.0.lock().unwrap();
        let error = asking.ask(7, Instant::now() + Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let teller = thread::spawn(move || answer(&answers, |index| Ok(Some(format!("eth{index}")))));
        let until = Instant::now() + Duration::from_secs(10);
        assert_eq!(asking.ask(8, until).unwrap().as_deref(), Some("eth8"));
        drop(asking);
        drop(names);
        teller.join().unwrap().unwrap();
    }

    #[test]
    fn nobody_waits_for_one_who_is_gone() {
        let (asks, answers) = UnixStream::pair().unwrap();
        let names = Names::over(asks).unwrap();
        drop(answers);
        let began = Instant::now();
        assert_eq!(names.get(1).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(began.elapsed() < PATIENCE);
    }

    #[test]
    fn what_passes_is_tried_again_until_then() {
        let mut left = vec![libc::EINTR, libc::ENOMEM, libc::EAGAIN];
        let mut call = || left.pop().map_or(Ok(7), |error| Err(io::Error::from_raw_os_error(error)));
        assert_eq!(patiently(None, &mut call).unwrap(), 7);
        let fails = || Err::<(), _>(io::Error::from_raw_os_error(libc::ENOMEM));
        assert!(patiently(Some(Instant::now()), fails).is_err());
        let fails = || Err::<(), _>(io::Error::from_raw_os_error(libc::EBADF));
        assert!(patiently(None, fails).is_err());
    }
}
