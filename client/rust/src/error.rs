// SPDX-License-Identifier: Apache-2.0

//! The errors of this client.

use std::{fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A call that failed, or a request that could not be built.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    field: String,
    retry_after: Option<Duration>,
    status: Option<Status>,
}

/// The kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is invalid; [`Error::field`] names the field. A retry cannot help.
    InvalidRequest,
    /// A message is larger than the client or the server allows.
    TooLarge,
    /// The model or the version does not exist.
    ModelNotFound,
    /// The imported version already exists.
    AlreadyExists,
    /// The method does not support the model, or the model failed to load; see [`Error::node`].
    NotExplainable,
    /// The server is overloaded; see [`Error::retry_after`].
    Overloaded,
    /// The token or certificate is missing or not accepted.
    Unauthenticated,
    /// The caller lacks the permission for this call.
    PermissionDenied,
    /// The answer did not arrive in time.
    DeadlineExceeded,
    /// The server cancelled the call.
    Cancelled,
    /// The server could not be reached, even with retries.
    Unavailable,
    /// The server does not know the call, or the call is turned off.
    Unimplemented,
    /// An internal error of the server.
    ServerFault,
    /// The answer cannot be read, because client and server are incompatible.
    MalformedResponse,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), field: String::new(), retry_after: None, status: None }))
    }

    /// The error of one request of a stream: a google.rpc.Code, a message, and the field that was wrong.
    pub(crate) fn of_item(item: crate::proto::ItemError) -> Self {
        let mut error = Self::from(Status::new(item.code.into(), item.message));
        error.0.field = item.field;
        error
    }

    /// The kinds of errors.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message of the server or of this client.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Path of the invalid field of the request, for example `inputs[0].shape`, or empty.
    pub fn field(&self) -> &str {
        &self.0.field
    }

    /// How long to wait before the next try, as the server requests.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The gRPC status that the call ended with, with the details that came along; `None` for this client's own errors.
    pub fn status(&self) -> Option<&Status> {
        self.0.status.as_ref()
    }

    /// Name of the unsupported node, if that is the reason for the failure.
    pub fn node(&self) -> Option<String> {
        self.info("node")
    }

    /// Operator of the unsupported node, if that is the reason for the failure.
    pub fn op(&self) -> Option<String> {
        self.info("op")
    }

    fn info(&self, key: &str) -> Option<String> {
        self.status()?.get_details_error_info()?.metadata.remove(key)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let status = if expired(&status) { Status::deadline_exceeded(status.message()) } else { status };
        let bad_request = status.get_details_bad_request();
        let field = bad_request.and_then(|bad| bad.field_violations.into_iter().next());
        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let message = match status.message() {
            "" => status.code().to_string(),
            message => message.to_owned(),
        };
        Self(Box::new(Inner {
            kind: kind(&status),
            message,
            field: field.map(|violation| violation.field).unwrap_or_default(),
            retry_after: delay.or_else(|| pushback(&status)?.ok()),
            status: Some(status),
        }))
    }
}

fn kind(status: &Status) -> ErrorKind {
    match status.code() {
        Code::InvalidArgument => ErrorKind::InvalidRequest,
        // The texts of tonic and gRPC for messages above the limit; only the text distinguishes
        // these from an overload.
        Code::OutOfRange | Code::ResourceExhausted
            if ["message length too large", "larger than max"].iter().any(|words| status.message().contains(words)) =>
        {
            ErrorKind::TooLarge
        }
        Code::OutOfRange => ErrorKind::InvalidRequest,
        Code::NotFound => ErrorKind::ModelNotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition => ErrorKind::NotExplainable,
        Code::ResourceExhausted => ErrorKind::Overloaded,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::Ok | Code::Unknown | Code::Internal | Code::Aborted | Code::DataLoss => ErrorKind::ServerFault,
    }
}

/// A deadline that tonic itself saw pass; it calls that cancelled.
fn expired(status: &Status) -> bool {
    status.code() == Code::Cancelled && status.message() == tonic::TimeoutExpired(()).to_string()
}

/// When the server wants the call again (gRFC A6): never, if what it says is no number of milliseconds.
pub(crate) fn pushback(status: &Status) -> Option<Result<Duration, ()>> {
    let value = status.metadata().get("grpc-retry-pushback-ms")?;
    Some(value.to_str().ok().and_then(|text| text.parse().ok()).map(Duration::from_millis).ok_or(()))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        if !self.message().contains(self.field()) {
            write!(f, " ({})", self.field())?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.status.as_ref().map(|status| status as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetail, FieldViolation, RetryInfo};

    #[test]
    fn details_become_fields() {
        let violation = FieldViolation::new("inputs[0].shape", "too long");
        let status = Status::with_error_details_vec(
            Code::InvalidArgument,
            "bad input",
            [ErrorDetail::BadRequest(tonic_types::BadRequest::new([violation]))],
        );
        let error = Error::from(status);
        assert_eq!((error.kind(), error.field()), (ErrorKind::InvalidRequest, "inputs[0].shape"));
        assert_eq!(error.to_string(), "bad input (inputs[0].shape)");

        let second = Duration::from_secs(1);
        let details = [ErrorDetail::RetryInfo(RetryInfo::new(Some(second)))];
        let error = Error::from(Status::with_error_details_vec(Code::ResourceExhausted, "full", details));
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Overloaded, Some(second)));
    }

    #[test]
    fn a_limit_is_not_an_overload() {
        let status = Status::resource_exhausted("Received message larger than max (5 vs. 4)");
        assert_eq!(Error::from(status).kind(), ErrorKind::TooLarge);
    }
}
