//! The names of interfaces, for threads that may not ask the kernel: they ask a thread that may, and wait for its word.
//!
//! Who asks and who answers have a pair of sockets between them, so that they may as well be two processes. A question is an
//! interface's index, 4 bytes; the answer, 24 bytes, is a kind, the length of the name, an error number, and the name.
//! Numbers are in host byte order. Each index is asked for once; an interface that is made anew has a new index.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::netlink::sys;

/// How long an answer is waited for, while packets wait. Who answers makes three system calls for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest name of an interface, with the NUL that the kernel puts behind it (`IFNAMSIZ`).
const LONGEST: usize = libc::IFNAMSIZ;

/// An answer in bytes.
const ANSWER: usize = 8 + LONGEST;

/// The side that asks. All threads of a process share it; they know an index once they have asked for it.
#[derive(Clone, Debug)]
pub(super) struct Names(Arc<Mutex<UnixStream>>);

impl Names {
    /// Starts a thread of this process that answers, until the last who may ask is gone.
    pub(super) fn start() -> io::Result<Self> {
        let (asks, answers) = UnixStream::pair()?;
        thread::Builder::new().name("names".to_owned()).spawn(move || {
            if let Err(error) = answer(&answers, sys::interface_name) {
                log::error!("cannot tell the names of interfaces any more: {error}");
            }
        })?;
        Self::over(asks)
    }

    /// Asks by a socket, at whose other end somebody [answers](answer).
    pub(super) fn over(socket: UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(Arc::new(Mutex::new(socket))))
    }

    /// The name of the interface with that index, if there is one.
    pub(super) fn get(&self, index: u32) -> io::Result<Option<String>> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = [0; ANSWER];
        let exchanged =
            (&*socket).write_all(&index.to_ne_bytes()).and_then(|()| (&*socket).read_exact(&mut answer));
        if let Err(error) = exchanged {
            // An answer that comes late would be taken for the next one's.
            let _ = socket.shutdown(std::net::Shutdown::Both);
            return Err(error);
        }
        read(&answer)
    }
}

/// Answers until nobody asks any more.
pub(super) fn answer(
    mut socket: &UnixStream,
    look_up: impl Fn(u32) -> io::Result<Option<String>>,
) -> io::Result<()> {
    let mut index = [0; 4];
    loop {
        match socket.read_exact(&mut index) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            outcome => outcome?,
        }
        match socket.write_all(&written(&look_up(u32::from_ne_bytes(index)))) {
            // Who asked did not wait for it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome?,
        }
    }
}

fn written(found: &io::Result<Option<String>>) -> [u8; ANSWER] {
    let mut answer = [0; ANSWER];
    match found {
        Ok(Some(name)) if name.len() < LONGEST => {
            answer[0] = 1;
            answer[1] = name.len() as u8;
            answer[8..8 + name.len()].copy_from_slice(name.as_bytes());
        }
        // No interface has a longer one.
        Ok(_) => {}
        Err(error) => {
            answer[0] = 2;
            answer[4..8].copy_from_slice(&error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes());
        }
    }
    answer
}

fn read(answer: &[u8; ANSWER]) -> io::Result<Option<String>> {
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
    fn no_answer_is_an_error_and_nobody_waits_for_it_again() {
        let (asks, answers) = UnixStream::pair().unwrap();
        let names = Names::over(asks).unwrap();
        names.0.lock().unwrap().set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(names.get(1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let began = std::time::Instant::now();
        assert_eq!(names.get(1).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(began.elapsed() < PATIENCE);
        assert!(answer(&answers, |_| Ok(None)).is_ok(), "who answers ends as well");
    }
}
