//! What comes back.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};
use crate::{array::Array, proto};

/// One batch, explained.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// Which model answered.
    pub model: String,
    /// And which version of it.
    pub version: String,
    /// Input name to relevance, of the input's shape; for token ids and text one number a token.
    pub relevance: BTreeMap<String, Array>,
    /// Output name to what the model predicted.
    pub outputs: BTreeMap<String, Array>,
    /// The scalars explained, shape `[batch]`.
    pub explained: Array,
    /// Relevance of the inner values asked for.
    pub captured: BTreeMap<String, Array>,
    /// Where all of `explained` went.
    pub ledger: Ledger,
    /// For inputs sent as text: the tokens, of the relevance's shape; padding is the empty string.
    pub tokens: BTreeMap<String, Array>,
    /// Where the method draws samples: the standard error of the relevance, of its shape.
    pub standard_error: BTreeMap<String, Array>,
    /// The method with every parameter as used.
    pub method: Option<proto::method::Method>,
    /// The target as used, with one position a sample.
    pub target: Option<proto::Target>,
    /// Why the answer should not be relied on, a sentence each; empty: it can be acted on.
    pub warnings: Vec<String>,
    /// What `explained` is of the target's output: `output`, the output itself; `logit` or `score`, the value before its
    /// Softmax or Sigmoid, or before its LogSoftmax; `probability`, the output made one. Empty: the server is older
    /// than this field.
    pub explained_quantity: String,
}

/// For every sample: explained = inputs + initial_states + absorbed + residual. Every array has shape `[batch]`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ledger {
    /// Relevance of all inputs of the request.
    pub inputs: Array,
    /// Relevance of initial states that are constants of the model.
    pub initial_states: Array,
    /// With LRP what biases, constants and stabilisers kept; with a method that has a baseline, what that scores.
    pub absorbed: Array,
    /// What is left: with LRP rounding, else by how much the relevance misses the explained value.
    pub residual: Array,
    /// `absorbed`, a node each.
    pub by_node: BTreeMap<String, Array>,
}

impl TryFrom<proto::ExplainResponse> for Explanation {
    type Error = Error;

    fn try_from(response: proto::ExplainResponse) -> Result<Self, Error> {
        Ok(Self {
            relevance: arrays(&response.relevance)?,
            outputs: arrays(&response.outputs)?,
            explained: array(&response.explained, "explained")?,
            captured: arrays(&response.captured)?,
            ledger: response.ledger.ok_or_else(|| missing("ledger"))?.try_into()?,
            tokens: arrays(&response.tokens)?,
            standard_error: arrays(&response.standard_error)?,
            method: response.method.and_then(|method| method.method),
            target: response.target,
            warnings: response.warnings,
            explained_quantity: response.explained_quantity,
            model: response.model,
            version: response.version,
        })
    }
}

impl TryFrom<proto::Ledger> for Ledger {
    type Error = Error;

    fn try_from(ledger: proto::Ledger) -> Result<Self, Error> {
        let by_node = ledger.by_node.into_iter().map(|share| Ok((share.node, array(&share.absorbed, "by_node")?)));
        Ok(Self {
            inputs: array(&ledger.inputs, "ledger.inputs")?,
            initial_states: array(&ledger.initial_states, "ledger.initial_states")?,
            absorbed: array(&ledger.absorbed, "ledger.absorbed")?,
            residual: array(&ledger.residual, "ledger.residual")?,
            by_node: by_node.collect::<Result<_, Error>>()?,
        })
    }
}

fn array(tensor: &Option<proto::Tensor>, field: &str) -> Result<Array, Error> {
    Array::from_tensor(tensor.as_ref().ok_or_else(|| missing(field))?)
}

fn arrays(tensors: &[proto::Tensor]) -> Result<BTreeMap<String, Array>, Error> {
    tensors.iter().map(|tensor| Ok((tensor.name.clone(), Array::from_tensor(tensor)?))).collect()
}

pub(crate) fn missing(field: &str) -> Error {
    Error::new(ErrorKind::MalformedResponse, format!("the answer has no {field}"))
}
