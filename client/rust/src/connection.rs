// SPDX-License-Identifier: Apache-2.0

//! How a connection is made: security, limits, retries.

use std::net::IpAddr;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::retry::Retry;
use crate::retry_policy::MAX_ATTEMPTS;

/// Settings of an encrypted connection. Certificates and keys are PEM.
#[derive(Clone, Debug)]
pub struct Tls(ClientTlsConfig);

impl Tls {
    /// Trusts the authorities that the system trusts.
    pub fn new() -> Self {
        Self(ClientTlsConfig::new().with_native_roots())
    }

    /// Trusts these authorities and no other.
    pub fn with_ca(pem: impl AsRef<[u8]>) -> Self {
        Self(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
    }

    /// The certificate and key of the client, for mutual TLS.
    pub fn identity(self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self(self.0.identity(Identity::from_pem(certificate, key)))
    }

    /// The name expected in the server's certificate, if it is not the host of the address.
    pub fn server_name(self, name: impl Into<String>) -> Self {
        Self(self.0.domain_name(name))
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

/// Options of a [`Client`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    address: String,
    tls: Option<Tls>,
    token: Option<String>,
    plaintext_token: bool,
    timeout: Option<Duration>,
    max_message_bytes: usize,
    attempts: u32,
}

impl Builder {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            tls: None,
            token: None,
            plaintext_token: false,
            timeout: Some(Duration::from_secs(60)),
            max_message_bytes: 64 << 20,
            attempts: MAX_ATTEMPTS,
        }
    }

    /// Encrypts the connection.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sent as a bearer token with every call.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Allows a token over an unencrypted connection that leaves this machine, where others can read it.
    pub fn plaintext_token(mut self, allow: bool) -> Self {
        self.plaintext_token = allow;
        self
    }

    /// The time limit of calls without a limit of their own. Default: one minute; `None` means no
    /// limit. Streams and imports have no default limit.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Size limit for one message in either direction; default 64 MiB.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// How often to try a read-only call in total, 1 to 5. Default: 5.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The client. Nothing is sent before its first call. To be called inside a Tokio runtime.
    pub fn build(self) -> Result<Client, Error> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidRequest, message);
        if self.token.is_some() && self.tls.is_none() && !self.plaintext_token && !is_loopback(&self.address) {
            let message = "a token over an unencrypted connection can be read by others: set tls, or plaintext_token";
            return Err(invalid(message.into()));
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))
            .map_err(|error| invalid(format!("the address is {:?}; expected host:port: {error}", self.address)))?
            .user_agent(concat!("lstm-explain-client-rust/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| invalid(error.to_string()))?;
        if let Some(Tls(tls)) = self.tls {
            endpoint = endpoint.tls_config(tls).map_err(|error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                invalid(format!("TLS cannot be set up: {error}{}", cause.unwrap_or_default()))
            })?;
        }
        let header = self.token.map(|token| format!("Bearer {token}").parse());
        let header = header.transpose().map_err(|_| invalid("the token has characters that a header cannot".into()))?;
        Ok(Client::over(
            endpoint.connect_lazy(),
            Authorization(header),
            self.timeout,
            self.max_message_bytes,
            Retry::new(self.attempts),
        ))
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or("", |(host, _)| host.trim_start_matches('[').trim_end_matches(']'));
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The header that says who calls.
#[derive(Clone)]
pub(crate) struct Authorization(Option<MetadataValue<Ascii>>);

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}
