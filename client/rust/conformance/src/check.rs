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

/// What an answer has to hold, unless an error is wanted.
pub fn expected(case: &Value) -> Result<&Value, Failure> {
    match (case.get("expect_error"), case.get("expect")) {
        (None, Some(expect)) => Ok(expect),
        (error, _) => Err(format!("an answer came, wanted {}", error.unwrap_or(&Value::Null)).into()),
    }
}

pub fn outcome(case: &Value, result: &Result<Explanation, Error>) -> Result<Hashes, Failure> {
    match result {
        Err(error) => self::error(&case["expect_error"], error),
        Ok(came) => explanation(expected(case)?, came),
    }
}

pub fn error(wanted: &Value, came: &Error) -> Result<Hashes, Failure> {
    let code = came.status().map(|status| format!("{:?}", status.code())).unwrap_or_default();
    let same_code = wanted["code"].as_str().is_some_and(|name| camel_case(name) == code);
    let same_field = wanted["field"].as_str().is_none_or(|field| field == came.field());
    let has_word = wanted["word"].as_str().is_none_or(|word| came.message().contains(word));
    if same_code && same_field && has_word {
        return Ok(Hashes::new());
    }
    Err(format!("{code}, field {:?}, {:?} came, wanted {wanted}", came.field(), came.message()).into())
}

/// NOT_FOUND as Rust has it: NotFound.
fn camel_case(code: &str) -> String {
    code.split('_').map(|word| word[..1].to_owned() + &word[1..].to_lowercase()).collect()
}

fn explanation(wanted: &Value, came: &Explanation) -> Result<Hashes, Failure> {
    equal(wanted, "model", came.model.as_str())?;
    equal(wanted, "version", came.version.as_str())?;
    equal(wanted, "explained_quantity", came.explained_quantity.as_str())?;
    if let Some(beginnings) = wanted.get("warnings").and_then(Value::as_array) {
        let begins = |(warning, wanted): (&String, &Value)| wanted.as_str().is_some_and(|part| warning.starts_with(part));
        if came.warnings.len() != beginnings.len() || !came.warnings.iter().zip(beginnings).all(begins) {
            return Err(format!("the warnings {:?} came, wanted {beginnings:?}", came.warnings).into());
        }
    }
    arrays(wanted, "relevance", &came.relevance)?;
    arrays(wanted, "outputs", &came.outputs)?;
    arrays(wanted, "captured", &came.captured)?;
    arrays(wanted, "tokens", &came.tokens)?;
    arrays(wanted, "standard_error", &came.standard_error)?;
    if let Some(tensor) = wanted.get("explained") {
        array("explained", tensor, &came.explained)?;
    }
    if let Some(ledger) = wanted.get("ledger") {
        let parts = [
            ("inputs", &came.ledger.inputs),
            ("initial_states", &came.ledger.initial_states),
            ("absorbed", &came.ledger.absorbed),
            ("residual", &came.ledger.residual),
        ];
        for (name, part) in parts {
            if let Some(tensor) = ledger.get(name) {
                array(&format!("ledger.{name}"), tensor, part)?;
            }
        }
        if let Some(balance) = ledger["balance"].as_f64() {
            balanced(balance, &came.explained, &parts.map(|(_, part)| part))?;
        }
    }
    Ok(came.relevance.iter().map(|(name, array)| (name.clone(), sha256(array))).collect())
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

fn equal(wanted: &Value, key: &str, came: impl Into<Value>) -> Result<(), Failure> {
    let came: Value = came.into();
    match wanted.get(key) {
        Some(value) if *value != came => Err(format!("{key} is {came}, wanted {value}").into()),
        _ => Ok(()),
    }
}

fn arrays(wanted: &Value, key: &str, came: &BTreeMap<String, Array>) -> Result<(), Failure> {
    let Some(tensors) = wanted.get(key).and_then(Value::as_object) else { return Ok(()) };
    if !tensors.keys().collect::<BTreeSet<_>>().into_iter().eq(came.keys()) {
        return Err(format!("{key} has {:?}, wanted {:?}", came.keys(), tensors.keys()).into());
    }
    tensors.iter().try_for_each(|(name, tensor)| array(&format!("{key} of {name}"), tensor, &came[name]))
}

fn array(what: &str, tensor: &Value, came: &Array) -> Result<(), Failure> {
    let wanted = tensor["dtype"].as_str().unwrap_or_default();
    let same_type = match dtype(came.data()) {
        "float32" | "float64" if wanted == "float" => true,
        name => name == wanted,
    };
    if !same_type || tensor["shape"] != json!(came.shape()) {
        return Err(format!("{what} is {came:?}, wanted {tensor}").into());
    }
    let (Some(tolerance), Some(numbers)) = (tensor["tolerance"].as_f64(), came.to_f64()) else {
        let same = request::array(tensor)? == *came;
        return if same { Ok(()) } else { Err(format!("{what} is {came:?}, wanted {tensor}").into()) };
    };
    let exact = tensor["data"].as_array().into_iter().flatten().map(|number| number.as_f64().unwrap_or(f64::NAN));
    for (at, (wanted, came)) in exact.zip(numbers).enumerate() {
        let apart = (wanted - came).abs();
        if apart > tolerance || apart.is_nan() {
            return Err(format!("{what}[{at}] is {came}, wanted {wanted} within {tolerance}").into());
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

/// Of the elements as the client hands them out, little-endian.
fn sha256(array: &Array) -> String {
    let bytes: Vec<u8> = match array.data() {
        Data::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Data::F64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        other => unreachable!("relevance is of a float type, {other:?} came"),
    };
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn models(wanted: &Value, came: &[ModelSummary]) -> Result<Hashes, Failure> {
    let listed: Vec<Value> =
        came.iter().map(|m| json!({"name": m.name, "version": m.version, "state": state(m)})).collect();
    match wanted.as_array().into_iter().flatten().find(|model| !listed.contains(model)) {
        Some(missing) => Err(format!("{missing} is not among {listed:?}").into()),
        None => Ok(Hashes::new()),
    }
}

fn state(summary: &ModelSummary) -> String {
    summary.state().as_str_name().trim_start_matches("MODEL_STATE_").to_lowercase()
}

pub fn detail(wanted: &Value, came: &ModelDetail) -> Result<Hashes, Failure> {
    let summary = came.summary.clone().unwrap_or_default();
    equal(wanted, "name", summary.name.clone())?;
    equal(wanted, "version", summary.version.clone())?;
    equal(wanted, "state", state(&summary))?;
    equal(wanted, "description", summary.description.clone())?;
    equal(wanted, "lrp_supported", came.lrp_supported)?;
    equal(wanted, "inputs", specs(&came.inputs))?;
    equal(wanted, "outputs", specs(&came.outputs))?;
    equal(
        wanted,
        "class_names",
        json!(came.class_names.iter().map(|(k, v)| (k, &v.values)).collect::<BTreeMap<_, _>>()),
    )?;
    equal(wanted, "text_inputs", came.text_inputs.clone())?;
    equal(wanted, "batch_axes", json!(came.batch_axes))?;
    equal(wanted, "time_axes", json!(came.time_axes))?;
    equal(wanted, "guessed_axes", came.guessed_axes.clone())?;
    if let Some(method) = wanted.get("default_method") {
        let came = came.default_method.as_ref().and_then(|method| method.method.as_ref());
        default_method(method, came.ok_or("there is no default method")?)?;
    }
    Ok(Hashes::new())
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
fn default_method(wanted: &Value, came: &Method) -> Result<(), Failure> {
    let Method::Lrp(lrp) = came else { return Err(format!("the default method is {came:?}, wanted {wanted}").into()) };
    let rule = lrp.product_rule().as_str_name().trim_start_matches("PRODUCT_RULE_").to_lowercase();
    let came = json!({"product_rule": rule, "epsilon": lrp.epsilon, "bias_factor": lrp.bias_factor});
    equal(wanted, "name", "lrp")?;
    let mut named = wanted["parameters"].as_object().into_iter().flatten();
    named.try_for_each(|(key, _)| equal(&wanted["parameters"], key, came[key].clone()))
}
