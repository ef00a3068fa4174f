//! Memory for what is received, and memory that processes share.

#![expect(unsafe_code, reason = "memory that the kernel writes, and memory that another process has, too")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What one datagram may have: a packet of 64 KiB with all that is said of it. Not a multiple of a page, so that the
/// beginnings of the slots, which are all that is read of small packets, do not all fall into one set of the
/// processor's cache.
const SLOT_BYTES: usize = (64 << 10) + (8 << 10) + 64 * 5;

/// Memory that another process may have, too; zero at first.
///
/// Numbers in it are atomic, so that who reads them while another one writes gets one of its values.
pub(crate) struct Shared {
    base: std::ptr::NonNull<u8>,
    len: usize,
    /// The file of it; none if it is of this process alone.
    file: Option<OwnedFd>,
}

// SAFETY: the memory belongs to this value alone, and is bound to no thread.
unsafe impl Send for Shared {}
// SAFETY: what a shared reference gives are atomic numbers and copies; slots of a Batch are written by that Batch alone.
unsafe impl Sync for Shared {}

impl Shared {
    /// Where memory of this process alone is aligned.
    const ALIGN: usize = 64;

    /// Memory of this process alone.
    pub(crate) fn alone(len: usize) -> Self {
        let len = len.max(8);
        let layout = std::alloc::Layout::from_size_align(len, Self::ALIGN);
        let layout = layout.unwrap_or(std::alloc::Layout::new::<u64>());
        // SAFETY: the layout has a size above zero.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(base) = std::ptr::NonNull::new(base) else { std::alloc::handle_alloc_error(layout) };
        Self { base, len: layout.size(), file: None }
    }

    /// Memory that a process gets by its descriptor (memfd_create(2)). Nobody can make it smaller, so that no access fails.
    pub(crate) fn for_others(len: usize) -> io::Result<Self> {
        // SAFETY: the name ends with a NUL and outlives the call.
        let fd =
            unsafe { libc::memfd_create(c"dunnat".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else has it.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: takes numbers by value.
        let is_sized = unsafe { libc::ftruncate(fd, len as libc::off_t) } == 0;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        // SAFETY: as above.
        let is_sealed = is_sized && unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) } == 0;
        if !is_sealed {
            return Err(io::Error::last_os_error());
        }
        Self::of(file)
    }

    /// The memory of a descriptor that [`for_others`](Self::for_others) made, maybe in another process.
    pub(crate) fn of(file: OwnedFd) -> io::Result<Self> {
        let fd = file.as_raw_fd();
        // SAFETY: takes numbers by value; a descriptor that is no such file is an error.
        let seals = unsafe { libc::fcntl(fd, libc::F_GET_SEALS) };
        if seals < 0 {
            return Err(io::Error::last_os_error());
        }
        if seals & libc::F_SEAL_SHRINK == 0 {
            return Err(io::Error::other("memory that could be taken away"));
        }
        // SAFETY: all-zero is a valid stat.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the value is a stat, which lives here.
        if unsafe { libc::fstat(fd, &raw mut stat) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let len = stat.st_size as usize;
        // SAFETY: a new mapping, at a place that the kernel chooses; the file has that length, and keeps it.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        match std::ptr::NonNull::new(base.cast::<u8>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => {
                Ok(Self { base, len, file: Some(file) })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The descriptor by which another process gets it; none if it is of this process alone.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(OwnedFd::as_fd)
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The numbers in `count` words of 64 bits from the word `from` on; none beyond the end.
    #[inline]
    pub(crate) fn numbers(&self, from: usize, count: usize) -> &[AtomicU64] {
        let words = self.len / size_of::<u64>();
        let from = from.min(words);
        let count = count.min(words - from);
        // SAFETY: the words are within the memory, which lives as long as this value, is aligned to pages or to ALIGN, and any
        // bits are a valid number. Whoever else has it changes it as such numbers, or, where a Batch lies, not while it is read.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast::<AtomicU64>().add(from), count) }
    }

    /// The number in a word of 64 bits, if there is one.
    #[inline]
    pub(crate) fn number(&self, at: usize) -> Option<&AtomicU64> {
        // SAFETY: as for the numbers of a range; this one is within the memory.
        (at < self.len / size_of::<u64>())
            .then(|| unsafe { &*self.base.as_ptr().cast::<AtomicU64>().add(at) })
    }

    /// A copy of the bytes in that range, as far as they are there.
    pub(crate) fn copy(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        let end = range.end.min(self.len);
        let len = end.saturating_sub(range.start);
        let mut bytes = vec![0; len];
        if len > 0 {
            // SAFETY: the range is within the memory, and the bytes were just made, of that length.
            unsafe {
                std::ptr::copy_nonoverlapping(self.base.as_ptr().add(range.start), bytes.as_mut_ptr(), len);
            }
        }
        bytes
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        match self.file {
            // SAFETY: mapped with that length, and nobody has a reference into it any more.
            Some(_) => unsafe {
                libc::munmap(self.base.as_ptr().cast(), self.len);
            },
            None => {
                if let Ok(layout) = std::alloc::Layout::from_size_align(self.len, Self::ALIGN) {
                    // SAFETY: taken with that layout, and nobody has a reference into it any more.
                    unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) };
                }
            }
        }
    }
}

/// Slots of memory that one system call fills with many datagrams.
pub(crate) struct Batch {
    memory: Arc<Shared>,
    /// Where in the memory the slots begin.
    at: usize,
    headers: Vec<libc::mmsghdr>,
    /// Pointed to by `headers`.
    _iovecs: Vec<libc::iovec>,
}

// SAFETY: the pointers in `headers` and `_iovecs` lead to memory that this value owns, and that does not move
// when it does.
unsafe impl Send for Batch {}

impl Batch {
    /// How many bytes of memory that many datagrams need.
    pub(crate) const fn bytes_for(count: usize) -> usize {
        count * SLOT_BYTES
    }

    /// Room for that many datagrams, in memory of its own.
    pub(crate) fn new(count: usize) -> Self {
        Self::within(Arc::new(Shared::alone(Self::bytes_for(count))), 0, count)
    }

    /// Room for datagrams in that memory, where nobody else writes: as many as fit.
    pub(crate) fn within(memory: Arc<Shared>, at: usize, count: usize) -> Self {
        let at = at.next_multiple_of(8).min(memory.len());
        let count = count.min((memory.len() - at) / SLOT_BYTES);
        let mut iovecs: Vec<libc::iovec> = (0..count)
            .map(|slot| libc::iovec {
                // SAFETY: all slots are within the memory.
                iov_base: unsafe { memory.base.as_ptr().add(at + slot * SLOT_BYTES).cast() },
                iov_len: SLOT_BYTES,
            })
            .collect();
        let headers = iovecs
            .iter_mut()
            .map(|iovec| {
                // SAFETY: all-zero is a valid mmsghdr: null pointers with lengths of zero.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = iovec;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Self { memory, at, headers, _iovecs: iovecs }
    }

    /// Takes as many datagrams as are there and fit, `most` of them, and says how many; the error is `WouldBlock` if none is there.
    pub(crate) fn receive_now(&mut self, fd: RawFd, most: usize) -> io::Result<usize> {
        let slots = self.headers.len().min(most) as libc::c_uint;
        let headers = self.headers.as_mut_ptr();
        // SAFETY: each header leads to an iovec, and that to a slot of the memory, which nobody else writes; self is borrowed
        // mutably, so no reference into the slots lives. Names and control data are not asked for.
        let count = unsafe { libc::recvmmsg(fd, headers, slots, libc::MSG_DONTWAIT, std::ptr::null_mut()) };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> usize {
        self.headers.len()
    }

    /// A slot.
    #[inline]
    fn slot_mut(&mut self, slot: usize) -> &mut [u8] {
        assert!(slot < self.headers.len());
        // SAFETY: the slot is within the memory, and of this value alone, which is borrowed mutably.
        unsafe {
            let start = self.memory.base.as_ptr().add(self.at + slot * SLOT_BYTES);
            std::slice::from_raw_parts_mut(start, SLOT_BYTES)
        }
    }

    /// Puts a datagram into a slot, as if it had been received.
    pub(crate) fn fill(&mut self, slot: usize, datagram: &[u8]) {
        let fits = self.slot_mut(slot).get_mut(..datagram.len()).map(|bytes| bytes.copy_from_slice(datagram));
        let header = &mut self.headers[slot];
        header.msg_len = datagram.len() as libc::c_uint;
        header.msg_hdr.msg_flags = if fits.is_some() { 0 } else { libc::MSG_TRUNC };
    }

    /// The datagram in a slot, as of the last [`receive_now`](Self::receive_now); empty if it did not fit.
    #[inline]
    pub(crate) fn datagram(&mut self, slot: usize) -> &mut [u8] {
        let header = &self.headers[slot];
        let fits = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        let len = if fits { header.msg_len as usize } else { 0 };
        self.slot_mut(slot).get_mut(..len).unwrap_or_default()
    }

    /// Some bytes of the datagram in a slot.
    #[inline]
    pub(crate) fn bytes(&self, slot: usize, range: std::ops::Range<usize>) -> &[u8] {
        assert!(slot < self.headers.len());
        // SAFETY: the slot is within the memory, and of this value alone, which is borrowed.
        let bytes = unsafe {
            let start = self.memory.base.as_ptr().add(self.at + slot * SLOT_BYTES);
            std::slice::from_raw_parts(start, SLOT_BYTES)
        };
        bytes.get(range).unwrap_or_default()
    }

    /// The same to be changed.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, slot: usize, range: std::ops::Range<usize>) -> &mut [u8] {
        self.slot_mut(slot).get_mut(range).unwrap_or_default()
    }
}
