//! The code for profiles that serve SPICE: the connect ticket, the CONNECT head around it, and the tunnel of bytes
//! behind it.
//!
//! Names, ports and ages come in as values; nothing here knows a product, a file or the clock.

pub mod head;
pub mod ticket;
pub mod tunnel;

pub use head::{ConnectHead, HeadError, HeadLimits, HopHeaders};
pub use ticket::{Target, TicketError, TicketRules};
pub use tunnel::{ByteCounter, Moved, TunnelBuffers};
