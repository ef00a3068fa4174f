//! Who may ask a node for what. There are two rights: to look, and to change.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

use super::protocol::Request;
use crate::netlink::sys;

/// The group whose members may look, where nobody says another and there is one of that name.
pub const LOOKERS: &str = "dunnat";

/// What a client may do, or what a request takes. Who may change may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To see what the node does and sees, packets included.
    Look,
    /// To have it do something else.
    Change,
}

impl Request {
    /// The right that it takes to ask this.
    pub fn needs(&self) -> Right {
        match self {
            Self::Trace(trace) if trace.packets => Right::Change,
            Self::Trace(_) | Self::Status(_) => Right::Look,
            Self::Reload(_) | Self::Upgrade(_) => Right::Change,
        }
    }
}

/// Which group may look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookers {
    group: Option<u32>,
    /// Nobody has asked for it by its name.
    is_usual: bool,
}

/// There is no such group.
#[derive(Debug, thiserror::Error)]
#[error("there is no group {0}: make it with groupadd, or give another name or a number")]
pub struct NoGroup(String);

impl Lookers {
    /// Nobody but root and the node's own user.
    pub fn none() -> Self {
        Self::default()
    }

    /// The group of that name or number.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn named(name: &str) -> Result<Self, NoGroup> {
        let group = name.parse().ok().or_else(|| sys::group_named(name).ok()?);
        // The largest number means none (chown(2)).
        let group = group.filter(|group| *group != u32::MAX);
        Ok(Self { group: Some(group.ok_or_else(|| NoGroup(name.to_owned()))?), is_usual: false })
    }

    /// The group [`LOOKERS`], if there is one.
    pub fn usual() -> Self {
        Self::named(LOOKERS).map(|lookers| Self { is_usual: true, ..lookers }).unwrap_or_default()
    }

    /// The number of the group, and whether it may as well not look.
    pub(super) fn group(self) -> Option<(u32, bool)> {
        self.group.map(|group| (group, self.is_usual))
    }

    /// What whoever has connected may do, if anything.
    ///
    /// Its groups are those that it had when it connected, by the kernel's word (`SO_PEERGROUPS`): by the same the kernel has let it
    /// connect to a socket of mode 0660. The database of groups could say something else, and it can take long: it may be
    /// on another host.
    ///
    /// # Errors
    /// The kernel does not tell who it is.
    pub(super) fn right_of(self, peer: &UnixStream) -> io::Result<Option<Right>> {
        let user = sys::peer_user(peer.as_raw_fd())?;
        if user == 0 || user == sys::user() {
            return Ok(Some(Right::Change));
        }
        let Some(group) = self.group else { return Ok(None) };
        Ok(sys::peer_groups(peer.as_raw_fd())?.contains(&group).then_some(Right::Look))
    }

    /// Who may, in words.
    pub(super) fn who_may(self, right: Right) -> String {
        let own = match sys::user() {
            0 => "root".to_owned(),
            own => format!("root and user {own}"),
        };
        match (right, self.group) {
            (Right::Look, Some(group)) => format!("{own}, and members of group {group},"),
            _ => own,
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Look => "look",
            Self::Change => "change something",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Nothing, Trace};

    #[test]
    fn who_may_change_may_look_and_not_the_other_way_round() {
        assert!(Right::Change >= Right::Look && Right::Look < Right::Change);
        for request in [Request::Trace(Trace::default()), Request::Status(Nothing::default())] {
            assert_eq!(request.needs(), Right::Look);
        }
        let zoom = Trace { packets: true, ..Trace::default() };
        assert_eq!(Request::Trace(zoom).needs(), Right::Change, "other packets go another way then");
    }

    #[test]
    fn a_group_has_a_name_or_a_number() {
        let group = |name| Lookers::named(name).unwrap().group();
        assert_eq!((group("root"), group("4711")), (Some((0, false)), Some((4711, false))));
        for wrong in ["no-such-group-here", "-1", "", "4294967295", "4294967296"] {
            let said = Lookers::named(wrong).unwrap_err().to_string();
            assert!(said.starts_with(&format!("there is no group {wrong}: ")), "{said}");
        }
    }

    #[test]
    fn our_own_user_may_change() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(Lookers::none().right_of(&one).unwrap(), Some(Right::Change));
    }
}
