// SPDX-License-Identifier: Apache-2.0

//! Requests of this client out of the cases' JSON.

use std::time::Duration;

use lstm_explain_client::{Array, Data, Every, Explain, Groups, Measure, MeasureKind, Target, TargetSet, proto};
use serde_json::Value;

use crate::check::Failure;
use crate::method::method;

pub fn explain(request: &Value) -> Result<Explain, Failure> {
    let mut explain = Explain::new(text(&request["model"])).version(text(&request["version"]));
    for (name, tensor) in request["inputs"].as_object().into_iter().flatten() {
        explain = explain.input(name, array(tensor)?);
    }
    if let Some(name) = request["method"]["name"].as_str() {
        explain = explain.method(method(name, &request["method"]["parameters"])?);
    }
    if request["target"].is_object() {
        explain = explain.target(target(&request["target"])?);
    }
    if let Some(targets) = request["targets"].as_array() {
        explain = explain.targets(targets.iter().map(target_set).collect::<Result<Vec<_>, _>>()?);
    }
    for name in request["capture"].as_array().into_iter().flatten() {
        explain = explain.capture(text(name));
    }
    if request["receipt"].as_bool() == Some(true) {
        explain = explain.receipt();
    }
    if let Some(condition) = request["condition"].as_str() {
        explain = explain.condition(condition);
    }
    for (value, units) in request["through"].as_object().into_iter().flatten() {
        explain = explain.through(value, units.as_array().into_iter().flatten().filter_map(Value::as_i64));
    }
    if request["groups"].is_object() {
        explain = explain.groups(groups(&request["groups"]));
    }
    if let Some(milliseconds) = request["deadline_ms"].as_u64() {
        explain = explain.timeout(Duration::from_millis(milliseconds));
    }
    Ok(explain)
}

fn groups(said: &Value) -> Groups {
    let cuts = &said["change_points"];
    let mut groups = match said["window"].as_i64() {
        Some(steps) => Groups::window(steps as i32),
        None if said["words"] == true => Groups::words(),
        None if cuts.is_object() => {
            Groups::change_points(cuts["segments"].as_i64().map(|most| most as i32), cuts["penalty"].as_f64())
        }
        None => Groups::all_steps(),
    };
    for group in said["features"].as_array().into_iter().flatten() {
        let features = group["features"].as_array().into_iter().flatten().map(text);
        groups = groups.features(text(&group["name"]), text(&group["input"]), features);
    }
    groups
}

pub fn array(tensor: &Value) -> Result<Array, Failure> {
    let shape: Option<Vec<usize>> = list(&tensor["shape"], |extent| extent.as_u64().map(|extent| extent as usize));
    let data = &tensor["data"];
    let dtype = text(&tensor["dtype"]);
    let data = match dtype {
        "float32" => list(data, Value::as_f64).map(|v| Data::F32(v.into_iter().map(|x| x as f32).collect())),
        "float64" => list(data, Value::as_f64).map(Data::F64),
        "float16" => list(data, |x| x.as_f64().map(half)).map(Data::F16),
        "int32" => list(data, |x| x.as_i64().and_then(|x| x.try_into().ok())).map(Data::I32),
        "int64" => list(data, Value::as_i64).map(Data::I64),
        "bool" => list(data, Value::as_bool).map(Data::Bool),
        "string" => list(data, |x| x.as_str().map(String::from)).map(Data::Text),
        _ => None,
    };
    let (Some(shape), Some(data)) = (shape, data) else { return Err(Failure(format!("no tensor: {tensor}"))) };
    Ok(Array::from_data(shape, data)?)
}

/// The bits of the half nearest to a number in the range of normal halves.
fn half(number: f64) -> u16 {
    if number == 0.0 {
        return 0;
    }
    let sign = if number < 0.0 { 0x8000 } else { 0 };
    let exponent = number.abs().log2().floor() as i32;
    let fraction = (number.abs() / 2f64.powi(exponent - 10)).round_ties_even() as i32; // 1024 to 2048
    sign | (((exponent + 15) << 10) + fraction - 1024) as u16
}

fn list<T>(values: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    values.as_array()?.iter().map(read).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn target_set(json: &Value) -> Result<TargetSet, Failure> {
    if json["target"].is_object() {
        return Ok(target(&json["target"])?.into());
    }
    if !json["every"].is_object() {
        return Ok(TargetSet::default());
    }
    let said = &json["every"];
    let mut every = said["axis"].as_i64().map_or(Every::classes(), |axis| Every::along(axis as i32));
    if let Some(entries) = list(&said["entries"], Value::as_i64) {
        every = every.entries(entries);
    }
    if said["target"].is_object() {
        every = every.of(target(&said["target"])?);
    }
    Ok(every.into())
}

pub fn target(json: &Value) -> Result<Target, Failure> {
    let indices = |key: &str| list(&json[key], Value::as_i64);
    let mut target = match (indices("indices"), json["weights"].is_object()) {
        (_, true) => Target::weights(array(&json["weights"])?),
        (Some(indices), _) => Target::indices(indices),
        _ => Target::default(),
    };
    if let Some(name) = json["output"].as_str() {
        target = target.output(name);
    }
    if let Some(indices) = indices("contrast_indices") {
        target = target.contrasts(indices);
    }
    if let Some(axis) = json["batch_axis"].as_i64() {
        target = target.batch_axis(axis as i32);
    }
    if json["no_batch_axis"] == true {
        target = target.batch_axis(None);
    }
    if let Some(before) = json["pre_activation"].as_bool() {
        target = target.pre_activation(before);
    }
    if json["measure"].is_object() {
        target = target.measure(measure(&json["measure"])?);
    }
    Ok(target)
}

fn measure(json: &Value) -> Result<Measure, Failure> {
    let name = format!("MEASURE_KIND_{}", text(&json["kind"]).to_uppercase());
    let mut measure = Measure::new(MeasureKind::from_str_name(&name).ok_or(format!("no measure {name}"))?);
    if let Some(input) = json["input"].as_str() {
        measure = measure.input(input);
    }
    if json["tensor"].is_object() {
        measure = measure.tensor(array(&json["tensor"])?);
    }
    if let Some(label) = json["blank"].as_i64() {
        measure = measure.blank(label as i32);
    }
    Ok(measure.ahead(json["ahead"].as_i64().unwrap_or_default() as i32))
}

/// Fails for a parameter that is none of these.
pub fn known(parameters: &Value, names: &[&str]) -> Result<(), Failure> {
    match parameters.as_object().into_iter().flatten().find(|(name, _)| !names.contains(&name.as_str())) {
        Some((name, _)) => Err(Failure(format!("unknown parameter {name:?}"))),
        None => Ok(()),
    }
}

pub fn tensors(arrays: &Value) -> Result<Vec<proto::Tensor>, Failure> {
    arrays.as_object().into_iter().flatten().map(|(name, tensor)| Ok(array(tensor)?.to_tensor(name))).collect()
}

/// The number of an enum's word; 0 where there is none.
pub fn word<E: Into<i32>>(value: &Value, prefix: &str, find: impl Fn(&str) -> Option<E>) -> Result<i32, Failure> {
    let Some(word) = value.as_str() else { return Ok(0) };
    Ok(find(&format!("{prefix}_{}", word.to_uppercase())).ok_or(format!("unknown choice {word:?}"))?.into())
}
