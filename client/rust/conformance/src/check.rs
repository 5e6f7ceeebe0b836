// SPDX-License-Identifier: Apache-2.0

//! Answers beside what a case expects.

use std::collections::{BTreeMap, BTreeSet};

use lstm_explain_client::{Array, Data, Error, Explanation, Method, ModelDetail, ModelSummary, proto};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::request;

/// Why a case failed.
pub struct Failure(pub String);

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self(why)
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        Self(why.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("{:?}: {error}", error.kind()))
    }
}

/// Input name to the SHA-256 of its relevance.
pub type Hashes = BTreeMap<String, String>;

/// What an answer has to hold, unless an error is want.
pub fn expected(case: &Value) -> Result<&Value, Failure> {
    match (case.get("expect_error"), case.get("expect")) {
        (None, Some(expect)) => Ok(expect),
        (error, _) => Err(format!("received an answer, expected {}", error.unwrap_or(&Value::Null)).into()),
    }
}

pub fn outcome(case: &Value, result: &Result<Explanation, Error>) -> Result<Hashes, Failure> {
    match result {
        Err(error) => self::error(&case["expect_error"], error),
        Ok(received) => explanation(expected(case)?, received),
    }
}

/// Checks an explanation per target; the number of the target precedes the names of the hashes.
pub fn outcomes(case: &Value, result: Result<Vec<Explanation>, Error>) -> Result<Hashes, Failure> {
    let received = match result {
        Err(error) => return self::error(&case["expect_error"], &error),
        Ok(received) => received,
    };
    let want = expected(case)?["results"].as_array().ok_or("no results")?;
    if received.len() != want.len() {
        return Err(format!("{} results received, expected {}", received.len(), want.len()).into());
    }
    let mut hashes = Hashes::new();
    for (number, (want, received)) in want.iter().zip(&received).enumerate() {
        let found = explanation(want, received).map_err(|f| Failure(format!("target {number}: {}", f.0)))?;
        hashes.extend(found.into_iter().map(|(name, hash)| (format!("{number}/{name}"), hash)));
    }
    Ok(hashes)
}

pub fn error(want: &Value, received: &Error) -> Result<Hashes, Failure> {
    let code = received.status().map(|status| format!("{:?}", status.code())).unwrap_or_default();
    let same_code = want["code"].as_str().is_some_and(|name| camel_case(name) == code);
    let same_field = want["field"].as_str().is_none_or(|field| field == received.field());
    let has_word = want["word"].as_str().is_none_or(|word| received.message().contains(word));
    if same_code && same_field && has_word {
        return Ok(Hashes::new());
    }
    Err(format!("{code}, field {:?}, {:?} received, expected {want}", received.field(), received.message()).into())
}

/// NOT_FOUND as Rust has it: NotFound.
fn camel_case(code: &str) -> String {
    code.split('_').map(|word| word[..1].to_owned() + &word[1..].to_lowercase()).collect()
}

fn explanation(want: &Value, received: &Explanation) -> Result<Hashes, Failure> {
    equal(want, "model", received.model.as_str())?;
    equal(want, "version", received.version.as_str())?;
    equal(want, "explained_quantity", received.explained_quantity.as_str())?;
    if let Some(beginnings) = want.get("warnings").and_then(Value::as_array) {
        let begins = |(warning, want): (&String, &Value)| want.as_str().is_some_and(|part| warning.starts_with(part));
        if received.warnings.len() != beginnings.len() || !received.warnings.iter().zip(beginnings).all(begins) {
            return Err(format!("the warnings {:?} received, expected {beginnings:?}", received.warnings).into());
        }
    }
    arrays(want, "relevance", &received.relevance)?;
    if let Some(want) = want.get("groups") {
        arrays(want, "relevance", &received.groups.relevance)?;
        arrays(want, "names", &received.groups.names)?;
        arrays(want, "steps", &received.groups.steps)?;
        arrays(want, "standard_error", &received.groups.standard_error)?;
    }
    arrays(want, "outputs", &received.outputs)?;
    arrays(want, "captured", &received.captured)?;
    arrays(want, "tokens", &received.tokens)?;
    arrays(want, "standard_error", &received.standard_error)?;
    if let Some(reasons) = want.get("not_explained").and_then(Value::as_array) {
        if !reasons.iter().map(Value::as_str).eq(received.not_explained.iter().map(|reason| Some(reason.as_str()))) {
            return Err(format!("not_explained: {:?} received, expected {reasons:?}", received.not_explained).into());
        }
    }
    if let Some(part) = want.get("receipt").and_then(Value::as_str) {
        if received.receipt.is_empty() != part.is_empty() || !received.receipt.contains(part) {
            return Err(format!("the receipt {:?} received, expected {part:?}", received.receipt).into());
        }
    }
    if let Some(tensor) = want.get("explained") {
        array("explained", tensor, &received.explained)?;
    }
    if let Some(ledger) = want.get("ledger") {
        let parts = [
            ("inputs", &received.ledger.inputs),
            ("initial_states", &received.ledger.initial_states),
            ("absorbed", &received.ledger.absorbed),
            ("residual", &received.ledger.residual),
        ];
        for (name, part) in parts {
            if let Some(tensor) = ledger.get(name) {
                array(&format!("ledger.{name}"), tensor, part)?;
            }
        }
        if let Some(balance) = ledger["balance"].as_f64() {
            balanced(balance, &received.explained, &parts.map(|(_, part)| part))?;
        }
    }
    Ok(received.relevance.iter().map(|(name, array)| (name.clone(), sha256(array))).collect())
}

fn balanced(tolerance: f64, explained: &Array, parts: &[&Array]) -> Result<(), Failure> {
    let mut left = explained.to_f64().ok_or("explained is text")?;
    for part in parts {
        for (rest, share) in left.iter_mut().zip(part.to_f64().ok_or("the ledger is text")?) {
            *rest -= share;
        }
    }
    match left.iter().find(|rest| rest.abs() > tolerance || rest.is_nan()) {
        Some(rest) => Err(format!("the ledger misses {rest}, allowed is {tolerance}").into()),
        None => Ok(()),
    }
}

fn equal(want: &Value, key: &str, received: impl Into<Value>) -> Result<(), Failure> {
    let received: Value = received.into();
    match want.get(key) {
        Some(value) if *value != received => Err(format!("{key} is {received}, expected {value}").into()),
        _ => Ok(()),
    }
}

fn arrays(want: &Value, key: &str, received: &BTreeMap<String, Array>) -> Result<(), Failure> {
    let Some(tensors) = want.get(key).and_then(Value::as_object) else { return Ok(()) };
    if !tensors.keys().collect::<BTreeSet<_>>().into_iter().eq(received.keys()) {
        return Err(format!("{key} has {:?}, expected {:?}", received.keys(), tensors.keys()).into());
    }
    tensors.iter().try_for_each(|(name, tensor)| array(&format!("{key} of {name}"), tensor, &received[name]))
}

fn array(what: &str, tensor: &Value, received: &Array) -> Result<(), Failure> {
    let want = tensor["dtype"].as_str().unwrap_or_default();
    let same_type = match dtype(received.data()) {
        "float32" | "float64" if want == "float" => true,
        name => name == want,
    };
    if !same_type || tensor["shape"] != json!(received.shape()) {
        return Err(format!("{what} is {received:?}, expected {tensor}").into());
    }
    let (Some(tolerance), Some(numbers)) = (tensor["tolerance"].as_f64(), received.to_f64()) else {
        let same = request::array(tensor)? == *received;
        return if same { Ok(()) } else { Err(format!("{what} is {received:?}, expected {tensor}").into()) };
    };
    let exact = tensor["data"].as_array().into_iter().flatten().map(|number| number.as_f64().unwrap_or(f64::NAN));
    for (at, (want, received)) in exact.zip(numbers).enumerate() {
        let apart = (want - received).abs();
        if apart > tolerance || apart.is_nan() {
            return Err(format!("{what}[{at}] is {received}, expected {want} within {tolerance}").into());
        }
    }
    Ok(())
}

fn dtype(data: &Data) -> &'static str {
    match data {
        Data::F32(_) => "float32",
        Data::F64(_) => "float64",
        Data::F16(_) => "float16",
        Data::I32(_) => "int32",
        Data::I64(_) => "int64",
        Data::Bool(_) => "bool",
        Data::Text(_) => "string",
    }
}

/// Returns the hash of the elements as the client returns them, little-endian.
fn sha256(array: &Array) -> String {
    let bytes: Vec<u8> = match array.data() {
        Data::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Data::F64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        other => unreachable!("relevance is of a float type, {other:?} received"),
    };
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn models(want: &Value, received: &[ModelSummary]) -> Result<Hashes, Failure> {
    let listed: Vec<Value> =
        received.iter().map(|m| json!({"name": m.name, "version": m.version, "state": state(m)})).collect();
    match want.as_array().into_iter().flatten().find(|model| !listed.contains(model)) {
        Some(missing) => Err(format!("{missing} is not among {listed:?}").into()),
        None => Ok(Hashes::new()),
    }
}

fn state(summary: &ModelSummary) -> String {
    summary.state().as_str_name().trim_start_matches("MODEL_STATE_").to_lowercase()
}

pub fn detail(want: &Value, received: &ModelDetail) -> Result<Hashes, Failure> {
    let summary = received.summary.clone().unwrap_or_default();
    equal(want, "name", summary.name.clone())?;
    equal(want, "version", summary.version.clone())?;
    equal(want, "state", state(&summary))?;
    equal(want, "description", summary.description.clone())?;
    equal(want, "lrp_supported", received.lrp_supported)?;
    equal(want, "inputs", specs(&received.inputs))?;
    equal(want, "outputs", specs(&received.outputs))?;
    equal(want, "class_names", names(&received.class_names))?;
    equal(want, "text_inputs", received.text_inputs.clone())?;
    equal(want, "batch_axes", json!(received.batch_axes))?;
    equal(want, "time_axes", json!(received.time_axes))?;
    equal(want, "guessed_axes", received.guessed_axes.clone())?;
    equal(want, "background_samples", json!(received.background_samples))?;
    equal(want, "examples", names(&received.examples))?;
    equal(want, "feature_groups", feature_groups(&received.feature_groups))?;
    if let Some(method) = want.get("default_method") {
        let received = received.default_method.as_ref().and_then(|method| method.method.as_ref());
        default_method(method, received.ok_or("there is no default method")?)?;
    }
    Ok(Hashes::new())
}

fn names(by_name: &BTreeMap<String, proto::Names>) -> Value {
    json!(by_name.iter().map(|(name, names)| (name, &names.values)).collect::<BTreeMap<_, _>>())
}

fn feature_groups(groups: &[proto::FeatureGroup]) -> Value {
    let one = |group: &proto::FeatureGroup| json!({"name": group.name, "input": group.input, "features": group.features});
    groups.iter().map(one).collect()
}

fn specs(specs: &[proto::TensorSpec]) -> Value {
    let shape = |spec: &proto::TensorSpec| -> Vec<Value> {
        let extents = spec.shape.iter().map(|axis| match &axis.dimension {
            Some(proto::dimension::Dimension::Size(size)) => json!(size),
            Some(proto::dimension::Dimension::Symbol(name)) => json!(name),
            None => Value::Null,
        });
        extents.collect()
    };
    let dtype = |spec: &proto::TensorSpec| spec.dtype().as_str_name().trim_start_matches("DATA_TYPE_").to_lowercase();
    let named = specs.iter().map(|spec| (spec.name.clone(), json!({"dtype": dtype(spec), "shape": shape(spec)})));
    Value::Object(named.collect())
}

/// The same method, and the same value where a parameter is named.
fn default_method(want: &Value, received: &Method) -> Result<(), Failure> {
    let Method::Lrp(lrp) = received else {
        return Err(format!("the default method is {received:?}, expected {want}").into());
    };
    let rule = lrp.product_rule().as_str_name().trim_start_matches("PRODUCT_RULE_").to_lowercase();
    let received = json!({"product_rule": rule, "epsilon": lrp.epsilon, "bias_factor": lrp.bias_factor});
    equal(want, "name", "lrp")?;
    let mut named = want["parameters"].as_object().into_iter().flatten();
    named.try_for_each(|(key, _)| equal(&want["parameters"], key, received[key].clone()))
}
