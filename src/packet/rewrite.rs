//! The wish to change an address: which one, what it becomes, and in which headers.

use std::net::IpAddr;

/// One end of a packet.
///
/// ```
/// use dunnat::packet::Side;
///
/// assert_eq!(Side::Source.other(), Side::Destination);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

impl Side {
    /// The other end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// Which IP headers of a packet an address is changed in. The packet that an ICMP error quotes went the other way, so
/// there it is the other side that changes.
///
/// ```
/// use dunnat::packet::{Layers, Rewrite, Side};
///
/// // An ICMP error of a guest goes out: its source becomes that address, and so does the destination of what it quotes.
/// let rewrite = Rewrite { layers: Layers::Both, ..Rewrite::outer(Side::Source, [192, 168, 122, 11].into()) };
/// assert_eq!((rewrite.outer_side(), rewrite.inner_side()), (Some(Side::Source), Some(Side::Destination)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layers {
    /// Its own IP header.
    Outer,
    /// The IP header that it quotes, as an ICMP error.
    Inner,
    /// Both of them.
    Both,
}

/// The wish to change an address, and perhaps its port.
///
/// ```
/// use dunnat::packet::{Layers, Rewrite, Side};
///
/// let rewrite = Rewrite::outer(Side::Destination, [10, 5, 5, 201].into()).with_port(Some(8080));
/// assert_eq!((rewrite.port, rewrite.layers), (Some(8080), Layers::Outer));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rewrite {
    /// Which address.
    pub side: Side,
    /// What it becomes.
    pub to: IpAddr,
    /// What the port of that side becomes, if that changes, too: the quoted one, where the packet is an ICMP error.
    /// Where there is no port, as in a later fragment, none is written.
    pub port: Option<u16>,
    /// Where it stands.
    pub layers: Layers,
}

impl Rewrite {
    /// Of the packet's own header.
    pub fn outer(side: Side, to: IpAddr) -> Self {
        Self { side, to, port: None, layers: Layers::Outer }
    }

    /// The same with a port.
    #[must_use]
    pub fn with_port(self, port: Option<u16>) -> Self {
        Self { port, ..self }
    }

    /// The side that changes in the packet's own header.
    pub fn outer_side(self) -> Option<Side> {
        (self.layers != Layers::Inner).then_some(self.side)
    }

    /// The side that changes in the quoted header.
    pub fn inner_side(self) -> Option<Side> {
        (self.layers != Layers::Outer).then_some(self.side.other())
    }
}
