//! Live development: the messages, both ends and the channels between them.
//! Knows invocations, not HTTP nor the database. The state machines read no clock and do no IO.

mod attached;
mod attempt;
mod broker;
mod channel;
mod claims;
mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod cover;
mod flow;
mod frame;
mod host;
mod hosting;
mod key;
mod message;
mod pack;
mod queue;
mod seal;
mod session;
#[cfg(test)]
mod together;
#[cfg(test)]
mod trial;
mod websocket;

pub use attached::{Attached, Event, Pieces, Reply, Runner, Terms, Wish, Work};
pub use attempt::{Answer, Elsewhere, Fault, Go, Line, Lines, Offer, Why};
pub use broker::{Broker, Port, QUEUE_MAX, QUEUES_MAX};
pub use channel::{Channel, Closed, Inbox, JoinError, Joined, Joining, Local, Outbox};
pub use claims::{Admitted, ChannelSettings, Claims, Credentials, ENDS_MAX, Open, Policy, Turn};
pub use cover::{Cover, DEFLATE};
pub use flow::{CHUNK, MESSAGE_MAX, WINDOW};
pub use frame::{Bad, Flags, Frame, HEADER, Head, Kind, PAYLOAD_MAX, Part, UNNUMBERED, VERSION};
pub use host::{Host, Key, OFFER_WAIT, Told, lost};
pub use hosting::{Accepted, Hosting, Log, Running, Sender};
pub use key::{ChannelKey, KeyError, SealKey};
pub use message::{
    Alive, CAPABILITIES_MAX, CLAIMS_MAX, CLAIMS_OF_FUNCTION_MAX, Claim, Claimed, Control, Fatal,
    Gone, Goodbye, Heartbeat, Hello, Holder, Mode, NAME_MAX, Presence, Present, Refusal, Refused,
    Release, Role, SEAL_MAX, SERVE_MAX, Serve, TEXT_MAX, Taken, Unreadable, Welcome,
};
pub use pack::{Unpackable, pack, unpack};
pub use seal::{Direction, SEAL_OVERHEAD, SEALABLE_MAX, Sealer, Unsealed};
pub use session::{Asked, Session};
pub use websocket::{LIVE_PATH, SUBPROTOCOL, WebSocketChannel, accept_key, serve};
