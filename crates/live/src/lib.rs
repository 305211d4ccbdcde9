//! Live development: the messages, both ends and the channels between them.
//! Knows invocations, not HTTP nor the database. The state machines read no clock and do no IO.

mod frame;

pub use frame::{Bad, Flags, Frame, HEADER, Head, Kind, PAYLOAD_MAX, Part, UNNUMBERED, VERSION};
