// SPDX-License-Identifier: Apache-2.0

//! Groups of entries of the inputs, and their relevance.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::explanation::arrays;
use crate::{array::Array, proto};

/// Divides the inputs into groups of entries that belong together.
///
/// ```
/// use lstm_explain_client::{Explain, Groups};
/// let request = Explain::new("forecast").groups(Groups::window(24).features("weather", "x", ["temperature", "rain"]));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups(pub(crate) proto::Groups);

impl Groups {
    /// All steps together, to be divided by [`Groups::features`].
    pub fn all_steps() -> Self {
        Self::default()
    }

    /// This many consecutive steps.
    pub fn window(steps: i32) -> Self {
        Self::of(proto::groups::Steps::Window(steps))
    }

    /// The tokens of each word, in inputs sent as text.
    pub fn words() -> Self {
        Self::of(proto::groups::Steps::Words(true))
    }

    /// Segments of inputs of floating-point numbers, between which the mean of a feature changes.
    ///
    /// segments: their number at most; the default is 10. penalty: what a cut must lower the sum of squared deviations
    /// by, in units of the variance of the noise; the default is (features + 1) times the logarithm of the number of
    /// steps.
    pub fn change_points(segments: impl Into<Option<i32>>, penalty: impl Into<Option<f64>>) -> Self {
        let cuts = proto::ChangePoints { segments: segments.into(), penalty: penalty.into() };
        Self::of(proto::groups::Steps::ChangePoints(cuts))
    }

    /// A group of features of an input: names, or positions on its last axis. The name of the input may be empty if the
    /// model has only one input with features. Features in no group form a group by themselves.
    pub fn features<T: Into<String>>(
        mut self,
        name: impl Into<String>,
        input: impl Into<String>,
        features: impl IntoIterator<Item = T>,
    ) -> Self {
        let features = features.into_iter().map(Into::into).collect();
        self.0.features.push(proto::FeatureGroup { name: name.into(), input: input.into(), features });
        self
    }

    /// The feature groups of the model.
    pub fn model_features(mut self) -> Self {
        self.0.model_features = true;
        self
    }

    fn of(steps: proto::groups::Steps) -> Self {
        Self(proto::Groups { steps: Some(steps), ..Default::default() })
    }
}

/// The groups of each input, by its name. A sample that has fewer groups than another has empty names and zeros behind
/// them.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GroupRelevance {
    /// The sums over the entries of each group, in shape `[batch, groups]`.
    pub relevance: BTreeMap<String, Array>,
    /// The names, such as `steps 0-23, weather`, in shape `[batch, groups]`.
    pub names: BTreeMap<String, Array>,
    /// The first step of each group and the step after its last one, in shape `[batch, groups, 2]`.
    pub steps: BTreeMap<String, Array>,
    /// The standard error of the relevance, for methods that draw samples.
    pub standard_error: BTreeMap<String, Array>,
}

impl TryFrom<proto::GroupAnswer> for GroupRelevance {
    type Error = Error;

    fn try_from(answer: proto::GroupAnswer) -> Result<Self, Error> {
        Ok(Self {
            relevance: arrays(&answer.relevance)?,
            names: arrays(&answer.names)?,
            steps: arrays(&answer.steps)?,
            standard_error: arrays(&answer.standard_error)?,
        })
    }
}
