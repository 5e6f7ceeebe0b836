// SPDX-License-Identifier: Apache-2.0

//! Client of the explanation server, which returns predictions together with their explanations.
//!
//! ```no_run
//! # #[tokio::main]
//! # async fn main() -> Result<(), lstm_explain_client::Error> {
//! use lstm_explain_client::{Client, Explain};
//!
//! let client = Client::new("127.0.0.1:50051")?;
//! let result = client.explain(Explain::new("sentiment").input("tokens", "not a bad film").target(4)).await?;
//!
//! println!("{:?}", result.relevance["tokens"].values::<f32>());
//! # Ok(())
//! # }
//! ```
//!
//! Methods and descriptions of models are the protocol's own messages, re-exported here; all messages are in [`proto`].
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod answers;
mod array;
mod client;
mod connection;
mod error;
mod explain;
mod explanation;
mod groups;
mod import;
mod measure;
mod method;
mod operation;
mod operation_calls;
mod retry;
mod target;
mod target_set;

pub use answers::{Answer, Answers};
pub use array::{Array, Data, Element};
pub use client::Client;
pub use connection::{Builder, Tls};
pub use error::{Error, ErrorKind};
pub use explain::Explain;
pub use explanation::{Explanation, Ledger};
pub use groups::{GroupRelevance, Groups};
pub use import::Import;
pub use measure::Measure;
pub use method::*;
pub use operation::{BatchSummary, Operation, OperationKind, OperationResult, OperationState};
pub use proto::{MeasureKind, ModelDetail, ModelRoute, ModelState, ModelSummary};
pub use target::Target;
pub use target_set::{Every, TargetSet};
pub use tonic::{Code, Status};

/// The messages of the wire, generated from `proto/` of the repository.
#[allow(missing_docs, clippy::all)]
#[rustfmt::skip]
pub mod proto {
    include!("proto/lstm_explain.v1.rs");
}

/// When a call may be sent again, as published with the protocol.
#[rustfmt::skip]
mod retry_policy {
    include!("proto/retry_policy.rs");
}
