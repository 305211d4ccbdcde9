//! Live development: the messages, both ends and the channels between them.
//! Knows invocations, not HTTP nor the database. The state machines read no clock and do no IO.

mod flow;
mod frame;
mod host;
mod session;
#[cfg(test)]
mod trial;
mod work;

pub use flow::{CHUNK, MESSAGE_MAX, WINDOW};
pub use frame::{Bad, Flags, Frame, HEADER, Head, Kind, PAYLOAD_MAX, Part, UNNUMBERED, VERSION};
pub use host::{Host, Key, OFFER_WAIT, Told, lost};
pub use session::{Asked, Session};
pub use work::{Answer, Fault, Go, Line, Lines, Offer, Why};
