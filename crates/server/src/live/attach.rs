//! `/v1/live`: a laptop, or a bridge, joins the channel over a WebSocket.

use http::Request;
use hyper::body::Incoming;

/// Where the channel is.
const PATH: &str = "/v1/live";

/// Whether a request is for the channel.
pub(crate) fn is_channel(request: &Request<Incoming>) -> bool {
    request.uri().path() == PATH
}
