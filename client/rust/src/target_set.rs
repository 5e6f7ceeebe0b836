// SPDX-License-Identifier: Apache-2.0

//! Several targets of one request.

use crate::error::{Error, ErrorKind};
use crate::{explanation::Explanation, proto, target::Target};

/// One target, a target for every entry of an output along an axis ([`Every`]), or the default target of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetSet(pub(crate) proto::TargetSet);

impl<T: Into<Target>> From<T> for TargetSet {
    fn from(target: T) -> Self {
        Self(proto::TargetSet { targets: Some(proto::target_set::Targets::Target(target.into().0)) })
    }
}

impl From<Every> for TargetSet {
    fn from(every: Every) -> Self {
        Self(proto::TargetSet { targets: Some(proto::target_set::Targets::Every(every.0)) })
    }
}

/// A target for every entry of an output along one of its axes.
///
/// ```
/// use lstm_explain_client::{Every, Explain, Target};
/// let request = Explain::new("forecast").targets([
///     Every::classes().into(),
///     Every::steps().entries([0, 6, 23]).into(),
///     Every::classes().of(Target::index(5).output("scores")).into(), // every class at step 5
///     Target::index(4).contrast(0).into(),
/// ]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Every(proto::Every);

impl Every {
    /// Every entry on this axis of one sample's output (the output without its batch axis), counted from the end if it
    /// is negative.
    pub fn along(axis: i32) -> Self {
        Self(proto::Every { axis: Some(axis), ..Default::default() })
    }

    /// Every entry on the last axis of the output.
    pub fn classes() -> Self {
        Self::along(-1)
    }

    /// Every entry on the first axis of one sample's output, such as the steps of a forecast.
    pub fn steps() -> Self {
        Self::along(0)
    }

    /// Only these entries.
    pub fn entries(mut self, entries: impl Into<Vec<i64>>) -> Self {
        self.0.entries = entries.into();
        self
    }

    /// What the targets have in common: the output, its batch axis and, as indices, one position on the other axes.
    /// Without indices, every target is the largest entry on the last of the other axes.
    pub fn of(mut self, target: impl Into<Target>) -> Self {
        self.0.target = Some(target.into().0);
        self
    }
}

/// An explanation per target, in their order.
pub(crate) fn explanations(response: &proto::ExplainResponse) -> Result<Vec<Explanation>, Error> {
    if response.targets.is_empty() {
        let why = "the answer is for one target: the server is older than requests with several targets";
        return Err(Error::new(ErrorKind::MalformedResponse, why));
    }
    (0..response.targets.len()).map(|number| answer_for(response, number)?.try_into()).collect()
}

/// The answer for one of several targets, as a request for it alone would get it.
fn answer_for(response: &proto::ExplainResponse, number: usize) -> Result<proto::ExplainResponse, Error> {
    let (own, targets) = (response.targets[number].clone(), response.targets.len());
    let part = |tensor: &proto::Tensor| {
        let data = &tensor.data;
        if tensor.shape.first() != Some(&(targets as i64)) || data.len() % targets != 0 {
            let why =
                format!("tensor {:?} has shape {:?}, expected {targets} targets in front", tensor.name, tensor.shape);
            return Err(Error::new(ErrorKind::MalformedResponse, why));
        }
        let size = data.len() / targets;
        Ok(proto::Tensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape[1..].to_vec(),
            data: data.slice(number * size..(number + 1) * size),
        })
    };
    let parts = |tensors: &[proto::Tensor]| tensors.iter().map(part).collect::<Result<Vec<_>, _>>();
    let some = |tensor: &Option<proto::Tensor>| tensor.as_ref().map(part).transpose();
    let ledger = |ledger: &proto::Ledger| {
        let share = |share: &proto::NodeShare| {
            Ok(proto::NodeShare { node: share.node.clone(), absorbed: some(&share.absorbed)? })
        };
        Ok::<_, Error>(proto::Ledger {
            inputs: some(&ledger.inputs)?,
            initial_states: some(&ledger.initial_states)?,
            absorbed: some(&ledger.absorbed)?,
            residual: some(&ledger.residual)?,
            by_node: ledger.by_node.iter().map(share).collect::<Result<_, Error>>()?,
        })
    };
    let groups = |groups: &proto::GroupAnswer| {
        Ok::<_, Error>(proto::GroupAnswer {
            relevance: parts(&groups.relevance)?,
            standard_error: parts(&groups.standard_error)?,
            ..groups.clone()
        })
    };
    Ok(proto::ExplainResponse {
        model: response.model.clone(),
        version: response.version.clone(),
        outputs: response.outputs.clone(),
        explained: some(&response.explained)?,
        relevance: parts(&response.relevance)?,
        captured: parts(&response.captured)?,
        ledger: response.ledger.as_ref().map(ledger).transpose()?,
        method: response.method.clone(),
        target: own.target,
        tokens: response.tokens.clone(),
        standard_error: parts(&response.standard_error)?,
        warnings: own.warnings,
        explained_quantity: own.explained_quantity,
        steps_used: own.steps_used,
        targets: Vec::new(),
        receipt: response.receipt.clone(),
        not_explained: own.not_explained,
        groups: response.groups.as_ref().map(groups).transpose()?,
        captured_axes: response.captured_axes.clone(),
    })
}
