// SPDX-License-Identifier: Apache-2.0

//! The calls about operations.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use crate::client::Client;
use crate::error::Error;
use crate::explain::Explain;
use crate::operation::Operation;
use crate::proto;

const LONGEST_WAIT: Duration = Duration::from_secs(20); // of one call; a proxy may end a longer one
const MARGIN: Duration = Duration::from_secs(10); // for the answer to such a call

impl Client {
    /// Starts an explanation that the server keeps as an operation, whether or not anybody waits for it; it may cost
    /// more than a call. The server must keep operations.
    pub async fn start(&self, request: Explain) -> Result<Operation, Error> {
        self.start_once(request, new_id()).await
    }

    /// Does the same with an id of the caller's: a call with the id of an earlier one returns the operation that it
    /// started, and is not charged again.
    pub async fn start_once(&self, request: Explain, request_id: impl Into<String>) -> Result<Operation, Error> {
        let call = |message| {
            let mut stub = self.operations.clone();
            async move { stub.start_explain(message).await }
        };
        let message = proto::StartExplainRequest { request: Some(request.message), request_id: request_id.into() };
        Operation::of(self.unary("StartExplain", message, request.timeout, call).await?.operation)
    }

    /// Describes an operation that was started before, here or elsewhere with the same token.
    pub async fn operation(&self, name: impl Into<String>) -> Result<Operation, Error> {
        let call = |message| {
            let mut stub = self.operations.clone();
            async move { stub.get_operation(message).await }
        };
        let message = proto::GetOperationRequest { name: name.into() };
        Operation::of(self.unary("GetOperation", message, None, call).await?.operation)
    }

    /// Lists the operations of this caller, the newest first, without their results.
    pub async fn operations(&self) -> Result<Vec<Operation>, Error> {
        let call = |message| {
            let mut stub = self.operations.clone();
            async move { stub.list_operations(message).await }
        };
        let response = self.unary("ListOperations", proto::ListOperationsRequest {}, None, call).await?;
        response.operations.into_iter().map(|message| Operation::of(Some(message))).collect()
    }

    /// Waits for the end of an operation, for as long as it takes; drop the future to wait no longer.
    pub async fn wait_for_operation(&self, name: impl Into<String>) -> Result<Operation, Error> {
        let call = |message| {
            let mut stub = self.operations.clone();
            async move { stub.wait_operation(message).await }
        };
        let timeout_ms = LONGEST_WAIT.as_millis() as i32;
        let message = proto::WaitOperationRequest { name: name.into(), timeout_ms };
        loop {
            let within = Some(LONGEST_WAIT + MARGIN);
            let operation = Operation::of(self.unary("WaitOperation", message.clone(), within, call).await?.operation)?;
            if operation.has_ended() {
                return Ok(operation);
            }
        }
    }

    /// Asks the server to end an operation; this does nothing if it has ended.
    pub async fn cancel_operation(&self, name: impl Into<String>) -> Result<(), Error> {
        let call = |message| {
            let mut stub = self.operations.clone();
            async move { stub.cancel_operation(message).await }
        };
        self.unary("CancelOperation", proto::CancelOperationRequest { name: name.into() }, None, call).await?;
        Ok(())
    }

    /// Removes an operation that has ended, with its result.
    pub async fn delete_operation(&self, name: impl Into<String>) -> Result<(), Error> {
        let call = |message| {
            let mut stub = self.operations.clone();
            async move { stub.delete_operation(message).await }
        };
        self.unary("DeleteOperation", proto::DeleteOperationRequest { name: name.into() }, None, call).await?;
        Ok(())
    }
}

/// Returns a new id, from 128 random bits of the standard library and the time.
fn new_id() -> String {
    let random = || RandomState::new().hash_one(SystemTime::now());
    format!("{:016x}{:016x}", random(), random())
}
