// SPDX-License-Identifier: Apache-2.0

//! A request for one explanation.

use std::time::Duration;

use crate::{array::Array, groups::Groups, method::Method, proto, target::Target, target_set::TargetSet};

/// A request for one explanation.
///
/// ```
/// use lstm_explain_client::{Explain, Lrp, ProductRule, Target};
/// let request = Explain::new("sentiment")
///     .input("tokens", [[12i64, 7, 530]])
///     .method(Lrp { product_rule: ProductRule::Half.into(), epsilon: Some(0.01), ..Default::default() })
///     .target(Target::index(4).contrast(0))
///     .timeout(std::time::Duration::from_secs(5));
/// ```
#[derive(Clone, Debug)]
pub struct Explain {
    pub(crate) message: proto::ExplainRequest,
    pub(crate) id: Option<String>,
    pub(crate) timeout: Option<Duration>,
}

impl Explain {
    /// Requests an explanation by the newest version of this model that is ready.
    pub fn new(model: impl Into<String>) -> Self {
        let message = proto::ExplainRequest { model: model.into(), ..Default::default() };
        Self { message, id: None, timeout: None }
    }

    /// Selects the version of the model.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.message.version = version.into();
        self
    }

    /// An input of the model, including the batch axis. An input with a tokenizer also accepts
    /// text.
    pub fn input(mut self, name: impl Into<String>, array: impl Into<Array>) -> Self {
        self.message.inputs.push(array.into().to_tensor(name));
        self
    }

    /// How to compute relevance. Default: the default of the model (model.yaml), otherwise LRP.
    pub fn method(mut self, method: impl Into<Method>) -> Self {
        self.message.method = Some(proto::Method { method: Some(method.into()) });
        self
    }

    /// What to explain: a [`Target`] or an index. Default: the default of the model.
    pub fn target(mut self, target: impl Into<Target>) -> Self {
        self.message.target = Some(target.into().0);
        self
    }

    /// Several targets instead of one, for [`Client::explain_many`](crate::Client::explain_many) and in streams.
    pub fn targets(mut self, targets: impl IntoIterator<Item = TargetSet>) -> Self {
        self.message.targets = targets.into_iter().map(|set| set.0).collect();
        self
    }

    /// An inner value of the graph whose relevance the result also contains.
    pub fn capture(mut self, name: impl Into<String>) -> Self {
        self.message.capture.push(name.into());
        self
    }

    /// Asks for a receipt of the answer. The server needs a key to sign it.
    pub fn receipt(mut self) -> Self {
        self.message.receipt = true;
        self
    }

    /// Explains only samples whose prediction meets this condition, such as `probability > 0.8` or
    /// `class is positive and explained > 3`. Other samples are only predicted;
    /// [`not_explained`](crate::Explanation::not_explained) says why.
    pub fn condition(mut self, condition: impl Into<String>) -> Self {
        self.message.condition = condition.into();
        self
    }

    /// Groups of entries whose relevance the result also contains. They are the players of occlusion and Shapley
    /// sampling, and sums under other methods.
    pub fn groups(mut self, groups: Groups) -> Self {
        self.message.groups = Some(groups.0);
        self
    }

    /// Units of an inner value, named as in [`Explain::capture`], that relevance passes through. That of other units is
    /// absorbed.
    pub fn through(mut self, value: impl Into<String>, units: impl IntoIterator<Item = i64>) -> Self {
        self.message.through.push(proto::Through { value: value.into(), units: units.into_iter().collect() });
        self
    }

    /// How long to wait for the answer, including retries. In a stream, the timeout of the stream
    /// applies instead.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Identifies the answer in a stream. By default, the position of the request in the stream,
    /// from "0".
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}
