// SPDX-License-Identifier: Apache-2.0

//! Encoded messages that the stubs decode and encode again.

use std::{fs, path::Path};

use lstm_explain_client::proto;
use prost::Message;
use serde_json::Value;

use crate::{Anything, check::Failure};

/// Returns the outcome of every message, by name.
#[allow(clippy::type_complexity)]
pub fn check(folder: &Path) -> Result<Vec<(String, Result<(), Failure>)>, Anything> {
    let index: Vec<Value> = serde_json::from_slice(&fs::read(folder.join("index.json"))?)?;
    let mut results = Vec::new();
    for entry in index {
        let name = entry["name"].as_str().ok_or("a golden message without a name")?;
        let message = entry["message"].as_str().ok_or("a golden message without a type")?;
        let bytes = fs::read(folder.join(format!("{name}.bin")))?;
        results.push((name.to_owned(), round_trip(message, &bytes)));
    }
    Ok(results)
}

fn round_trip(message: &str, bytes: &[u8]) -> Result<(), Failure> {
    macro_rules! again {
        ($($name:ident),*) => {
            match message.strip_prefix("lstm_explain.v1.") {
                $(Some(stringify!($name)) => proto::$name::decode(bytes).map(|message| message.encode_to_vec()),)*
                _ => return Err(Failure(format!("there is no stub of {message}"))),
            }
        };
    }
    let encoded = again!(
        ExplainRequest,
        ExplainResponse,
        ExplainStreamRequest,
        ExplainStreamResponse,
        ListModelsRequest,
        ListModelsResponse,
        GetModelRequest,
        GetModelResponse,
        ImportModelRequest,
        ImportModelResponse,
        DeleteModelRequest,
        DeleteModelResponse,
        RouteModelRequest,
        RouteModelResponse,
        RollBackModelRequest,
        RollBackModelResponse,
        StartExplainRequest,
        StartExplainResponse,
        StartBatchRequest,
        StartBatchResponse,
        GetOperationRequest,
        GetOperationResponse,
        ListOperationsRequest,
        ListOperationsResponse,
        WaitOperationRequest,
        WaitOperationResponse,
        CancelOperationRequest,
        CancelOperationResponse,
        DeleteOperationRequest,
        DeleteOperationResponse
    );
    match encoded {
        Err(error) => Err(Failure(error.to_string())),
        Ok(encoded) if encoded != bytes => Err(Failure("the bytes are others after decoding and encoding".into())),
        Ok(_) => Ok(()),
    }
}
