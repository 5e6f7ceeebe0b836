// Generated from proto/lstm_explain/v1/method.proto and the server's registry by `make proto`; do not edit.

//! Methods out of the cases' JSON. No case has a parameter that has parameters of its own.

use lstm_explain_client::{
    ContextualDecomposition, Counterfactual, Gradient, GradientShap, GradientTimesInput, IntegratedGradients, Lrp,
    Method, Occlusion, Players, ProductRule, Quantity, ShapleySampling, SmoothGrad,
};
use serde_json::Value;

use crate::check::Failure;
use crate::request::{known, tensors, word};

pub fn method(name: &str, parameters: &Value) -> Result<Method, Failure> {
    Ok(match name {
        "lrp" => {
            known(parameters, &["product_rule", "epsilon", "bias_factor", "stabiliser", "cell_stabiliser", "layer_stabiliser", "ceiling"])?;
            Lrp {
                product_rule: word(&parameters["product_rule"], "PRODUCT_RULE", ProductRule::from_str_name)?,
                epsilon: parameters["epsilon"].as_f64(),
                bias_factor: parameters["bias_factor"].as_f64(),
                stabiliser: parameters["stabiliser"].as_f64(),
                cell_stabiliser: parameters["cell_stabiliser"].as_f64(),
                layer_stabiliser: parameters["layer_stabiliser"].as_f64(),
                ceiling: parameters["ceiling"].as_f64(),
                ..Default::default()
            }
            .into()
        }
        "gradient" => {
            known(parameters, &[])?;
            Gradient {}.into()
        }
        "gradient_times_input" => {
            known(parameters, &[])?;
            GradientTimesInput {}.into()
        }
        "integrated_gradients" => {
            known(parameters, &["steps", "baseline", "max_steps"])?;
            IntegratedGradients {
                steps: parameters["steps"].as_i64().map(|n| n as i32),
                baseline: tensors(&parameters["baseline"])?,
                max_steps: parameters["max_steps"].as_i64().map(|n| n as i32),
                ..Default::default()
            }
            .into()
        }
        "smooth_grad" => {
            known(parameters, &["samples", "noise", "seed"])?;
            SmoothGrad {
                samples: parameters["samples"].as_i64().map(|n| n as i32),
                noise: parameters["noise"].as_f64(),
                seed: parameters["seed"].as_i64(),
            }
            .into()
        }
        "occlusion" => {
            known(parameters, &["window", "baseline", "of", "over"])?;
            Occlusion {
                window: parameters["window"].as_i64().map(|n| n as i32),
                baseline: tensors(&parameters["baseline"])?,
                of: word(&parameters["of"], "QUANTITY", Quantity::from_str_name)?,
                over: word(&parameters["over"], "PLAYERS", Players::from_str_name)?,
                ..Default::default()
            }
            .into()
        }
        "shapley_sampling" => {
            known(parameters, &["permutations", "seed", "baseline", "over", "standard_error", "max_permutations", "exact_players"])?;
            ShapleySampling {
                permutations: parameters["permutations"].as_i64().map(|n| n as i32),
                seed: parameters["seed"].as_i64(),
                baseline: tensors(&parameters["baseline"])?,
                over: word(&parameters["over"], "PLAYERS", Players::from_str_name)?,
                standard_error: parameters["standard_error"].as_f64(),
                max_permutations: parameters["max_permutations"].as_i64().map(|n| n as i32),
                exact_players: parameters["exact_players"].as_i64().map(|n| n as i32),
                ..Default::default()
            }
            .into()
        }
        "contextual_decomposition" => {
            known(parameters, &[])?;
            ContextualDecomposition {
                ..Default::default()
            }
            .into()
        }
        "gradient_shap" => {
            known(parameters, &["samples", "seed", "baseline"])?;
            GradientShap {
                samples: parameters["samples"].as_i64().map(|n| n as i32),
                seed: parameters["seed"].as_i64(),
                baseline: tensors(&parameters["baseline"])?,
                ..Default::default()
            }
            .into()
        }
        "counterfactual" => {
            known(parameters, &["most", "max_runs", "threshold", "baseline", "over"])?;
            Counterfactual {
                most: parameters["most"].as_i64().map(|n| n as i32),
                max_runs: parameters["max_runs"].as_i64().map(|n| n as i32),
                threshold: parameters["threshold"].as_f64(),
                baseline: tensors(&parameters["baseline"])?,
                over: word(&parameters["over"], "PLAYERS", Players::from_str_name)?,
                ..Default::default()
            }
            .into()
        }
        _ => return Err(Failure(format!("unknown method {name:?}"))),
    })
}
