// SPDX-License-Identifier: Apache-2.0

//! Operations: explanations and batch jobs that the server keeps until they expire, whether or not anybody waits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::explanation::{Explanation, missing};
use crate::proto::{self, operation::Result as Outcome};
use crate::target_set::explanations;

pub use crate::proto::{BatchSummary, OperationKind, OperationState};

/// An operation as the server last described it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Operation {
    /// Identifies the operation in all calls.
    pub name: String,
    /// An explanation or a batch job.
    pub kind: OperationKind,
    /// How it is.
    pub state: OperationState,
    /// The name of the model.
    pub model: String,
    /// The version of the model, which was chosen at the start.
    pub version: String,
    /// What is done and what there is in all: runs of the model, or rows of a batch job. `None` where nothing is known.
    pub progress: Option<(i64, i64)>,
    /// How often it has begun; more than once where a server or one of its processes ended meanwhile.
    pub attempts: i32,
    /// When it was started.
    pub created: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
    /// When the server will remove it; `None` until it has ended.
    pub expires: Option<SystemTime>,
    /// What it came to; `None` until it has ended, and in lists.
    pub result: Option<Result<OperationResult, Error>>,
}

/// The result of an operation.
#[derive(Clone, Debug)]
pub enum OperationResult {
    /// That of an explanation with one target.
    One(Box<Explanation>),
    /// Those of an explanation with several targets, in their order.
    Many(Vec<Explanation>),
    /// What a batch job has done.
    Batch(BatchSummary),
}

impl Operation {
    /// Whether it has ended, with or without a result.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The explanation, for an operation with one target that has ended; otherwise why there is none.
    pub fn explanation(self) -> Result<Explanation, Error> {
        match self.result {
            Some(Ok(OperationResult::One(explanation))) => Ok(*explanation),
            Some(Err(error)) => Err(error),
            _ => Err(missing("response")),
        }
    }

    pub(crate) fn of(message: Option<proto::Operation>) -> Result<Self, Error> {
        let message = message.ok_or_else(|| missing("operation"))?;
        let (kind, state) = (message.kind(), message.state());
        let result = message.result.map(|outcome| match outcome {
            Outcome::Error(error) => Err(Error::of_item(error)),
            Outcome::Batch(batch) => Ok(OperationResult::Batch(batch)),
            Outcome::Response(response) if response.targets.is_empty() => {
                response.try_into().map(|explanation| OperationResult::One(Box::new(explanation)))
            }
            Outcome::Response(response) => explanations(&response).map(OperationResult::Many),
        });
        Ok(Self {
            name: message.name,
            kind,
            state,
            model: message.model,
            version: message.version,
            progress: message.progress.map(|progress| (progress.done, progress.total)),
            attempts: message.attempts,
            created: moment(message.created_ms).unwrap_or(UNIX_EPOCH),
            ended: moment(message.ended_ms),
            expires: moment(message.expires_ms),
            result,
        })
    }
}

fn moment(milliseconds: i64) -> Option<SystemTime> {
    let since = u64::try_from(milliseconds).ok().filter(|&since| since > 0)?;
    Some(UNIX_EPOCH + Duration::from_millis(since))
}
