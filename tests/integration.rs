//! What works when everybody does as they should: commands, deployments, requests, handlers, logs, access.

mod access;
mod api;
mod commands;
mod dev;
mod docs;
mod examples;
mod files;
mod gateway;
mod handlers;
mod inspect;
mod isolate;
mod limits;
mod logging;
mod manage;
mod metrics;
mod node;
mod relay;
mod replay;
mod sdks;
mod sockets;
mod spares;
mod streams;
mod tools;
mod versions;
mod wrapper;
