//! A packet for tests of this module.

use etherparse::PacketBuilder;

/// A SYN/ACK of the service web as it left, with a checksum.
pub(super) fn syn_ack() -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4([192, 168, 122, 12], [192, 168, 122, 1], 64)
        .tcp(80, 40000, 7, 1024)
        .syn()
        .ack(9)
        .write(&mut bytes, b"data")
        .unwrap();
    bytes
}
