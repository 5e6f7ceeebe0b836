// SPDX-License-Identifier: Apache-2.0

//! Numbers of a whole output.

use crate::{array::Array, proto, proto::MeasureKind};

/// A number of the output of each sample that is explained instead of an entry: an error, a norm, or the probability of
/// the entry at the indices of the target; or the score of a path, whose labels the indices of the target are.
///
/// ```
/// use lstm_explain_client::{Measure, MeasureKind, Target};
/// let error = Target::default().measure(Measure::new(MeasureKind::MeanSquaredError).input("x").ahead(1));
/// let chance = Target::index(3).measure(Measure::new(MeasureKind::Probability));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Measure(pub(crate) proto::Measure);

impl Measure {
    /// A measure without a reference, such as a norm.
    pub fn new(kind: MeasureKind) -> Self {
        Self(proto::Measure { kind: kind.into(), ..Default::default() })
    }

    /// Compares the output with this input.
    pub fn input(mut self, name: impl Into<String>) -> Self {
        self.0.reference = Some(proto::measure::Reference::Input(name.into()));
        self
    }

    /// Compares the output with this array, of its shape or of that of one sample. For a path: what the best one gains
    /// from one label to the next.
    pub fn tensor(mut self, array: impl Into<Array>) -> Self {
        self.0.reference = Some(proto::measure::Reference::Tensor(array.into().to_tensor("")));
        self
    }

    /// How many time steps the output is ahead of the input.
    pub fn ahead(mut self, steps: i32) -> Self {
        self.0.ahead = steps;
        self
    }

    /// For a path: the label that CTC drops. The indices of the target are then labels without blanks.
    pub fn blank(mut self, label: i32) -> Self {
        self.0.blank = Some(label);
        self
    }
}
