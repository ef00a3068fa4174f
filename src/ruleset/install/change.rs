//! Changes of what is there while others change it, too.

use super::error::{InstallError, cannot};
use super::there::There;
use crate::netlink::nftables::{Batch, Nftables};

/// Makes a change of what is there. What somebody else takes away meanwhile is no error: then there is less to do.
pub(super) fn change_what_is_there(
    nft: &Nftables,
    what: &'static str,
    of: impl Fn(&There) -> Batch,
) -> Result<(), InstallError> {
    change(nft, what, |nft| Ok(of(&There::read(nft)?)))
}

/// The same, of what is read as it is made.
pub(super) fn change(
    nft: &Nftables,
    what: &'static str,
    read: impl Fn(&Nftables) -> Result<Batch, InstallError>,
) -> Result<(), InstallError> {
    const ATTEMPTS: u32 = 10;
    let mut attempt = 1;
    loop {
        match nft.commit(read(nft)?) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && attempt < ATTEMPTS => attempt += 1,
            other => return other.map_err(cannot(what)),
        }
    }
}
