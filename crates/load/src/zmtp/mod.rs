//! ZMTP 3.x over TCP, NULL mechanism (RFC 23 and 37): a ROUTER that many DEALERs connect to, and a DEALER.
//!
//! Invariants: no frame, message, queue or number of peers is larger than its bound; a peer that does not read loses
//! messages (as a ROUTER does at its high-water mark) and holds nobody up; a peer that comes back replaces its old
//! connection, whose late end does not take the new one away.

mod codec;
mod dealer;
mod router;

pub use codec::{MAX_MESSAGE_BYTES, Malformed};
pub use dealer::{Dealer, DealerConfig};
pub use router::{Inbound, Router, RouterConfig, RouterHandle, SendError};
