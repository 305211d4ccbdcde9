//! What goes wrong: bad input, faults of handlers, deaths. Each costs what it must, names its true cause, and no more.

mod channel;
mod deaths;
mod faults;
mod frames;
mod input;
mod live;
mod queue;
mod relay;
mod replay;
mod shutdown;
mod sockets;
mod start;
mod states;
mod timeouts;
