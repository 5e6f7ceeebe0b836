// SPDX-License-Identifier: Apache-2.0

//! The explanation of one batch.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};
use crate::{array::Array, groups::GroupRelevance, proto};

/// The explanation of one batch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// Model and version that answered.
    pub model: String,
    /// Version of the model that answered.
    pub version: String,
    /// Maps the name of each input to its relevance, in the shape of the input. For token ids and
    /// text, it has one number per token.
    pub relevance: BTreeMap<String, Array>,
    /// The prediction, by output name.
    pub outputs: BTreeMap<String, Array>,
    /// The explained values, in shape `[batch]`.
    pub explained: Array,
    /// Relevance of the inner values that the request captures.
    pub captured: BTreeMap<String, Array>,
    /// Accounts for all of `explained`.
    pub ledger: Ledger,
    /// The tokens of inputs sent as text, in the shape of their relevance. Padding is the empty
    /// string.
    pub tokens: BTreeMap<String, Array>,
    /// For methods that draw samples, the standard error of the relevance, in its shape.
    pub standard_error: BTreeMap<String, Array>,
    /// The method that the server used, with all parameters.
    pub method: Option<proto::method::Method>,
    /// The target that the server used, with one position per sample.
    pub target: Option<proto::Target>,
    /// Reasons not to rely on the answer, one sentence each. If empty, the answer can be acted on.
    pub warnings: Vec<String>,
    /// How `explained` relates to the output of the target: `output` (the output itself), `logit`
    /// (the value before its Softmax or Sigmoid), `score` (before LogSoftmax, Exp or Softplus) or
    /// `probability` (the output converted to a probability). Empty if the server is older than
    /// this field.
    pub explained_quantity: String,
    /// A signed record of the answer, if the request asked for one, which `lstm-explain verify` checks; otherwise
    /// empty.
    pub receipt: String,
    /// For a request with a condition, one text per sample: why it is not explained, or empty. The relevance and
    /// ledger of such a sample are NaN.
    pub not_explained: Vec<String>,
    /// The groups that the request asked for, with their relevance.
    pub groups: GroupRelevance,
}

/// For every sample: explained = inputs + initial_states + absorbed + residual. Every array has shape `[batch]`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ledger {
    /// Relevance of all inputs of the request.
    pub inputs: Array,
    /// Relevance of initial states that are constants of the model.
    pub initial_states: Array,
    /// For LRP, the relevance that biases, constants and stabilisers absorb. For a method with a
    /// baseline, the value of the baseline.
    pub absorbed: Array,
    /// The rest. For LRP, rounding; for other methods, the amount by which the relevance misses the
    /// explained value.
    pub residual: Array,
    /// `absorbed`, split by node.
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
            receipt: response.receipt,
            not_explained: response.not_explained,
            groups: response.groups.unwrap_or_default().try_into()?,
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

pub(crate) fn arrays(tensors: &[proto::Tensor]) -> Result<BTreeMap<String, Array>, Error> {
    tensors.iter().map(|tensor| Ok((tensor.name.clone(), Array::from_tensor(tensor)?))).collect()
}

pub(crate) fn missing(field: &str) -> Error {
    Error::new(ErrorKind::MalformedResponse, format!("the answer has no {field}"))
}
