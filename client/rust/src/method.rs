// Generated from proto/lstm_explain/v1/method.proto and the server's registry by `make proto`; do not edit.

//! The methods, which are the protocol's own messages, and what makes a method or a rule of each.

use crate::proto;

pub use crate::proto::{
    Background, Composite, ContextualDecomposition, Counterfactual, Gradient, GradientShap, GradientTimesInput,
    IntegratedGradients, Lrp, Occlusion, Players, ProductRule, Quantity, ShapleySampling, SmoothGrad, Span,
    method::Method, rule,
};

impl From<rule::Epsilon> for proto::Rule {
    fn from(rule: rule::Epsilon) -> Self {
        Self { rule: Some(rule::Rule::Epsilon(rule)) }
    }
}

impl From<rule::Gamma> for proto::Rule {
    fn from(rule: rule::Gamma) -> Self {
        Self { rule: Some(rule::Rule::Gamma(rule)) }
    }
}

impl From<rule::ZPlus> for proto::Rule {
    fn from(rule: rule::ZPlus) -> Self {
        Self { rule: Some(rule::Rule::ZPlus(rule)) }
    }
}

impl From<rule::AlphaBeta> for proto::Rule {
    fn from(rule: rule::AlphaBeta) -> Self {
        Self { rule: Some(rule::Rule::AlphaBeta(rule)) }
    }
}

impl From<rule::Flat> for proto::Rule {
    fn from(rule: rule::Flat) -> Self {
        Self { rule: Some(rule::Rule::Flat(rule)) }
    }
}

impl From<rule::ZBox> for proto::Rule {
    fn from(rule: rule::ZBox) -> Self {
        Self { rule: Some(rule::Rule::ZBox(rule)) }
    }
}

impl From<rule::WSquare> for proto::Rule {
    fn from(rule: rule::WSquare) -> Self {
        Self { rule: Some(rule::Rule::WSquare(rule)) }
    }
}

impl From<Lrp> for Method {
    fn from(method: Lrp) -> Self {
        Method::Lrp(method)
    }
}

impl From<Gradient> for Method {
    fn from(method: Gradient) -> Self {
        Method::Gradient(method)
    }
}

impl From<GradientTimesInput> for Method {
    fn from(method: GradientTimesInput) -> Self {
        Method::GradientTimesInput(method)
    }
}

impl From<IntegratedGradients> for Method {
    fn from(method: IntegratedGradients) -> Self {
        Method::IntegratedGradients(method)
    }
}

impl From<SmoothGrad> for Method {
    fn from(method: SmoothGrad) -> Self {
        Method::SmoothGrad(method)
    }
}

impl From<Occlusion> for Method {
    fn from(method: Occlusion) -> Self {
        Method::Occlusion(method)
    }
}

impl From<ShapleySampling> for Method {
    fn from(method: ShapleySampling) -> Self {
        Method::ShapleySampling(method)
    }
}

impl From<ContextualDecomposition> for Method {
    fn from(method: ContextualDecomposition) -> Self {
        Method::ContextualDecomposition(method)
    }
}

impl From<GradientShap> for Method {
    fn from(method: GradientShap) -> Self {
        Method::GradientShap(method)
    }
}

impl From<Counterfactual> for Method {
    fn from(method: Counterfactual) -> Self {
        Method::Counterfactual(method)
    }
}
