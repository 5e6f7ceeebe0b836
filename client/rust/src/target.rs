// SPDX-License-Identifier: Apache-2.0

//! What is explained.

use crate::{array::Array, measure::Measure, proto};

/// Selects what to explain: one scalar per sample, taken from one output of the model. Parts that
/// are omitted take the defaults of the model; the default index is the largest entry on the last
/// axis.
///
/// ```
/// use lstm_explain_client::Target;
/// let one = Target::index(4).contrast(0);
/// let one_a_sample = Target::indices([4, 0, 1]).output("logits");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target(pub(crate) proto::Target);

impl Target {
    /// One position for the whole batch, on the only axis of the output besides the batch axis.
    pub fn index(index: i64) -> Self {
        Self::indices([index])
    }

    /// A position in the output of one sample, with one number per axis, or the concatenated
    /// positions of all samples.
    pub fn indices(indices: impl Into<Vec<i64>>) -> Self {
        Self(proto::Target { indices: indices.into(), ..Default::default() })
    }

    /// Explains sum(weights * output); `weights` has the shape of the output of one sample.
    pub fn weights(weights: impl Into<Array>) -> Self {
        Self(proto::Target { weights: Some(weights.into().to_tensor("")), ..Default::default() })
    }

    /// The output to look at.
    pub fn output(mut self, name: impl Into<String>) -> Self {
        self.0.output = name.into();
        self
    }

    /// Explains the difference to the output at this position.
    pub fn contrast(self, index: i64) -> Self {
        self.contrasts([index])
    }

    /// The same, in the forms of [`Target::indices`].
    pub fn contrasts(mut self, indices: impl Into<Vec<i64>>) -> Self {
        self.0.contrast_indices = indices.into();
        self
    }

    /// The batch axis of the output; `None` for a model without one.
    pub fn batch_axis(mut self, axis: impl Into<Option<i32>>) -> Self {
        self.0.batch_axis = axis.into();
        self.0.no_batch_axis = self.0.batch_axis.is_none();
        self
    }

    /// Explains a number of the whole output instead of an entry.
    pub fn measure(mut self, measure: Measure) -> Self {
        self.0.measure = Some(measure.0);
        self
    }

    /// Whether to explain the value before the final activation (such as Softmax, Sigmoid or Exp) of the output.
    pub fn pre_activation(mut self, before: bool) -> Self {
        self.0.pre_activation = Some(before);
        self
    }
}

impl From<i64> for Target {
    fn from(index: i64) -> Self {
        Self::index(index)
    }
}
