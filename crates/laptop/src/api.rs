//! The laptop's client of a server's `/v1`: typed calls over TCP, TLS or a Unix socket.
//! Knows the wire and nothing of folders, builds or terminals.

mod address;
mod answers;
mod error;
mod lines;
mod socket;
mod web;

pub use address::{Address, AddressError};
pub use answers::{
    Activated, Aliases, Changed, Created, CreatedAccessKey, CreatedToken, Deleted, Env,
    FunctionInfo, FunctionList, FunctionSummary, InAlias, Invocations, Invoked, Sampled,
    ServerInfo, SettingValue, Token, TokenList, Uploaded, VersionRow, WorkerCounts,
};
pub use error::{ApiError, ErrorBody};
pub use lines::{LogLines, LogQuery, When};
pub use web::{WebAnswer, WebRequest};

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::{
    Digest, FunctionId, InvocationId, Kind, Name, Record, Recording, SettingsPatch, VersionNumber,
};
use reqwest::{Method, RequestBuilder, Response};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use socket::SocketPath;

/// A server's API. Clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    address: Address,
    token: Option<String>,
    /// Keeps the connections' path valid.
    _socket: Option<SocketPath>,
}

/// What a new version is made of, besides the bundle that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewVersion {
    /// Digest of the bundle.
    pub bundle: Digest,
    /// The module inside the bundle.
    pub entry: String,
    /// The shape of the handler.
    pub kind: Kind,
    /// The settings as they were written.
    pub settings: SettingsPatch,
}

#[derive(Serialize)]
struct NewToken<'a> {
    role: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    expires_ms: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    aws: bool,
}

#[derive(Serialize)]
struct Target {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

/// Overrides to set and to unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EnvChange {
    /// Names with their values.
    pub set: BTreeMap<String, String>,
    /// Names.
    pub unset: BTreeSet<String>,
}

/// A version as it is typed, and its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeightedVersion {
    /// `v7`, `7` or the first digits of a digest.
    pub version: String,
    /// Of a hundred invocations, those that it gets; a version alone needs none.
    pub weight: Option<u32>,
}

/// A recording that is to be run again.
#[derive(Debug, Serialize)]
pub struct Replay<'a> {
    /// The recording.
    pub recording: &'a Recording,
    /// The version to run it on: `v7`, `7` or the first digits of a digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'a str>,
    /// The alias to follow instead of `current`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<&'a Name>,
}

#[derive(Serialize)]
struct Weighted<'a> {
    versions: &'a [WeightedVersion],
}

impl Client {
    /// A client of the server at `address`, with a bearer token if there is one. Connects at the first call.
    pub fn new(address: Address, token: Option<String>) -> Result<Client, ApiError> {
        let socket = match &address {
            Address::Url(_) => None,
            Address::Socket(path) => {
                Some(SocketPath::of(path).map_err(|error| ApiError::NoSocket {
                    path: path.clone(),
                    error,
                })?)
            }
        };
        let http =
            address::connector(&address, socket.as_ref()).map_err(|error| ApiError::Setup {
                server: address.to_string(),
                error,
            })?;
        Ok(Client {
            http,
            address,
            token,
            _socket: socket,
        })
    }

    /// Where this client's server is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What the server says of itself.
    pub async fn server(&self) -> Result<ServerInfo, ApiError> {
        self.get("/v1/server").await
    }

    /// The functions of one project, or of all.
    pub async fn functions(
        &self,
        project: Option<&Name>,
    ) -> Result<Vec<FunctionSummary>, ApiError> {
        let project = project.map_or("-", Name::as_str);
        let list: FunctionList = self
            .get(&format!("/v1/projects/{project}/functions"))
            .await?;
        Ok(list.functions)
    }

    /// One function with its settings and limits.
    pub async fn function(&self, function: &FunctionId) -> Result<FunctionInfo, ApiError> {
        self.get(&path(function, "")).await
    }

    /// The versions of a function, newest first.
    pub async fn versions(&self, function: &FunctionId) -> Result<Vec<VersionRow>, ApiError> {
        self.get(&path(function, "/versions")).await
    }

    /// Whether the server has this bundle already.
    pub async fn has_bundle(&self, digest: &Digest) -> Result<bool, ApiError> {
        let request = self.request(Method::HEAD, &format!("/v1/bundles/{digest}"));
        let response = self.answer(request).await?;
        // An answer to HEAD has no words; whoever may not upload is told so by the upload.
        Ok(response.status().as_u16() == 200)
    }

    /// Uploads a bundle as tar.zst. The server hashes it again.
    pub async fn put_bundle(&self, digest: &Digest, packed: Bytes) -> Result<Uploaded, ApiError> {
        let request = self
            .request(Method::PUT, &format!("/v1/bundles/{digest}"))
            .header("content-type", "application/zstd")
            .body(packed);
        self.read(request).await
    }

    /// Makes a version of an uploaded bundle; the same one again answers with the version that exists.
    pub async fn create_version(
        &self,
        function: &FunctionId,
        version: &NewVersion,
    ) -> Result<Created, ApiError> {
        let request = self.request(Method::POST, &path(function, "/versions"));
        self.read(request.json(version)).await
    }

    /// Points `current` at a version.
    pub async fn activate(
        &self,
        function: &FunctionId,
        version: VersionNumber,
    ) -> Result<Activated, ApiError> {
        let request = self.request(Method::PUT, &path(function, "/aliases/current"));
        let target = Target {
            version: Some(version.to_string()),
        };
        self.read(request.json(&target)).await
    }

    /// Points `current` at `version`, or at what was current before. `version` is `v7`, `7` or a digest prefix.
    pub async fn rollback(
        &self,
        function: &FunctionId,
        version: Option<String>,
    ) -> Result<Activated, ApiError> {
        let request = self.request(Method::POST, &path(function, "/rollback"));
        self.read(request.json(&Target { version })).await
    }

    /// Lets calls in, or keeps them out.
    pub async fn set_enabled(
        &self,
        function: &FunctionId,
        enabled: bool,
    ) -> Result<Changed, ApiError> {
        let request = self.request(Method::PATCH, &path(function, ""));
        self.read(request.json(&Enabled { enabled })).await
    }

    /// Deletes a function with all that is its own; answers when nothing of it runs any more.
    pub async fn delete(&self, function: &FunctionId) -> Result<Deleted, ApiError> {
        self.read(self.request(Method::DELETE, &path(function, "")))
            .await
    }

    /// The server's overrides of a function's environment.
    pub async fn env(&self, function: &FunctionId) -> Result<Env, ApiError> {
        self.get(&path(function, "/env")).await
    }

    /// Sets and unsets overrides, all or nothing.
    pub async fn change_env(
        &self,
        function: &FunctionId,
        change: &EnvChange,
    ) -> Result<Env, ApiError> {
        let request = self.request(Method::PATCH, &path(function, "/env"));
        self.read(request.json(change)).await
    }

    /// Where each alias points.
    pub async fn aliases(&self, function: &FunctionId) -> Result<Aliases, ApiError> {
        self.get(&path(function, "/aliases")).await
    }

    /// Points an alias at a version, or at two by weight.
    pub async fn point_alias(
        &self,
        function: &FunctionId,
        alias: &Name,
        versions: &[WeightedVersion],
    ) -> Result<Activated, ApiError> {
        let rest = format!("/aliases/{alias}");
        let request = self.request(Method::PUT, &path(function, &rest));
        self.read(request.json(&Weighted { versions })).await
    }

    /// Deletes an alias.
    pub async fn delete_alias(&self, function: &FunctionId, alias: &Name) -> Result<(), ApiError> {
        let rest = format!("/aliases/{alias}");
        self.done(self.request(Method::DELETE, &path(function, &rest)))
            .await
    }

    /// Invokes with an event, which must be JSON, and waits for the outcome. Without an alias, `current` is followed.
    pub async fn invoke(
        &self,
        function: &FunctionId,
        alias: Option<&Name>,
        event: Bytes,
    ) -> Result<Invoked, ApiError> {
        let rest = alias.map_or("/invoke".into(), |alias| format!("/invoke?alias={alias}"));
        let request = self
            .request(Method::POST, &path(function, &rest))
            .header("content-type", "application/json")
            .body(event);
        self.read(request).await
    }

    /// Sends a web request to a function through the gateway.
    pub async fn web(&self, request: WebRequest) -> Result<WebAnswer, ApiError> {
        let WebRequest {
            method,
            path,
            headers,
            body,
        } = request;
        let mut out = self.request(method, &path);
        for (name, value) in headers {
            out = out.header(name, value);
        }
        let response = self.answer(out.body(body)).await?;
        Ok(WebAnswer::new(response, self.address.to_string()))
    }

    /// Log lines of a function, oldest first; with `follow` the stream goes on until the server ends it.
    pub async fn logs(
        &self,
        function: &FunctionId,
        query: &LogQuery,
    ) -> Result<LogLines, ApiError> {
        let rest = format!("/logs?{}", query.text());
        let request = self.request(Method::GET, &path(function, &rest));
        let response = self.answer(request).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        Ok(LogLines::new(response, self.address.to_string()))
    }

    /// The last `limit` records, newest first.
    pub async fn invocations(
        &self,
        function: &FunctionId,
        failed_only: bool,
        limit: u32,
    ) -> Result<Invocations, ApiError> {
        let failed = if failed_only { "&failed=1" } else { "" };
        self.get(&path(
            function,
            &format!("/invocations?limit={limit}{failed}"),
        ))
        .await
    }

    /// The record of one invocation.
    pub async fn invocation(&self, id: InvocationId) -> Result<Record, ApiError> {
        self.get(&format!("/v1/invocations/{id}")).await
    }

    /// What an invocation was asked, as the server wrote it.
    pub async fn recording(
        &self,
        function: &FunctionId,
        id: InvocationId,
    ) -> Result<Value, ApiError> {
        let rest = format!("/invocations/{id}/recording");
        self.get(&path(function, &rest)).await
    }

    /// Asks a function what a recording says, and waits for the outcome.
    pub async fn replay(
        &self,
        function: &FunctionId,
        replay: &Replay<'_>,
    ) -> Result<Invoked, ApiError> {
        let request = self.request(Method::POST, &path(function, "/replay"));
        self.read(request.json(replay)).await
    }

    /// Makes a token that stands for `user`, if for anybody. It is shown once, here.
    pub async fn create_token(
        &self,
        role: &str,
        user: Option<&str>,
        expires_ms: Option<u64>,
    ) -> Result<CreatedToken, ApiError> {
        let request = self.request(Method::POST, "/v1/tokens");
        let new = NewToken {
            role,
            user,
            expires_ms,
            aws: false,
        };
        self.read(request.json(&new)).await
    }

    /// Makes an access key for AWS's clients. Its secret is shown once, here.
    pub async fn create_access_key(
        &self,
        role: &str,
        user: Option<&str>,
        expires_ms: Option<u64>,
    ) -> Result<CreatedAccessKey, ApiError> {
        let request = self.request(Method::POST, "/v1/tokens");
        let new = NewToken {
            role,
            user,
            expires_ms,
            aws: true,
        };
        self.read(request.json(&new)).await
    }

    /// Every token, without its secret.
    pub async fn tokens(&self) -> Result<Vec<Token>, ApiError> {
        let list: TokenList = self.get("/v1/tokens").await?;
        Ok(list.tokens)
    }

    /// Ends a token.
    pub async fn revoke_token(&self, id: &str) -> Result<(), ApiError> {
        self.done(self.request(Method::DELETE, &format!("/v1/tokens/{id}")))
            .await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, self.address.join(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.read(self.request(Method::GET, path)).await
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        request
            .send()
            .await
            .map_err(|error| ApiError::of_request(self.address.to_string(), error))
    }

    /// Sends what is answered by a status alone.
    async fn done(&self, request: RequestBuilder) -> Result<(), ApiError> {
        let response = self.answer(request).await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(self.refusal(response).await)
    }

    /// Sends, and reads a success as `T`.
    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ApiError> {
        let response = self.answer(request).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let server = self.address.to_string();
        let body = response
            .bytes()
            .await
            .map_err(|error| ApiError::of_request(server.clone(), error))?;
        serde_json::from_slice(&body).map_err(|error| ApiError::Unreadable {
            server,
            what: error.to_string(),
        })
    }

    /// What a status that is no success says.
    async fn refusal(&self, response: Response) -> ApiError {
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap_or_default();
        ApiError::of_answer(self.address.to_string(), status, &body)
    }
}

/// `/v1/projects/P/functions/F` and what follows it. Names need no escaping.
fn path(function: &FunctionId, rest: &str) -> String {
    let FunctionId { project, name } = function;
    format!("/v1/projects/{project}/functions/{name}{rest}")
}
