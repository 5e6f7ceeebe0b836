//! Writes `src/proto` from `proto/` of the repository: messages, stubs, and the published retry policy as constants.
//!
//! Run by `scripts/generate_stubs.py` with the folder to write to and a file with what protoc has read, which is a
//! FileDescriptorSet: a compiler of protos in Rust would take longer to build than all the rest.

use std::{env, error::Error, fs, path::Path, path::PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::Value;

const GENERATED: &str = "// Generated from proto/ by `make proto`; do not edit.\n";

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [out, descriptors] = given.as_slice() else {
        return Err("expected two arguments: the folder to write to, and the file of descriptors".into());
    };
    messages(descriptors, out)?;
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../proto/lstm_explain/v1/service_config.json");
    fs::write(out.join("retry_policy.rs"), retry_policy(&serde_json::from_slice(&fs::read(config)?)?)?)?;
    Ok(())
}

fn messages(descriptors: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .btree_map(".") // so that the same message is always the same bytes
        .bytes(".") // so that a copy of a request, kept for a retry, costs nothing
        .out_dir(out)
        .compile_fds(FileDescriptorSet::decode(&*fs::read(descriptors)?)?)?;
    let file = out.join("lstm_explain.v1.rs");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, format!("{GENERATED}{text}"))?;
    Ok(())
}

/// The parts of the service config that gRPC implementations act on, as constants.
fn retry_policy(config: &Value) -> Result<String, Box<dyn Error>> {
    let method = &config["methodConfig"][0];
    let policy = &method["retryPolicy"];
    let number = |value: &Value| value.as_f64().ok_or(format!("{value} is no number"));
    let seconds = |value: &Value| -> Result<f64, Box<dyn Error>> {
        Ok(value.as_str().and_then(|text| text.strip_suffix('s')).ok_or(format!("{value} is no duration"))?.parse()?)
    };
    let codes = policy["retryableStatusCodes"].as_array().ok_or("no retryableStatusCodes")?;
    let codes: Vec<String> =
        codes.iter().filter_map(Value::as_str).map(|code| format!("Code::{}", camel_case(code))).collect();
    let names = method["name"].as_array().ok_or("no names of methods")?;
    let names: Vec<String> = names
        .iter()
        .filter_map(|name| Some((name["service"].as_str()?, name["method"].as_str()?)))
        .filter(|(service, _)| service.starts_with("lstm_explain."))
        .map(|(_, name)| format!("{name:?}"))
        .collect();
    Ok(format!(
        "{GENERATED}use tonic::Code;\n
pub const METHODS: [&str; {}] = [{}];
pub const MAX_ATTEMPTS: u32 = {};
pub const INITIAL_BACKOFF: f64 = {:?};
pub const MAX_BACKOFF: f64 = {:?};
pub const BACKOFF_MULTIPLIER: f64 = {:?};
pub const RETRYABLE: [Code; {}] = [{}];
pub const MAX_TOKENS: f64 = {:?};
pub const TOKEN_RATIO: f64 = {:?};
",
        names.len(),
        names.join(", "),
        policy["maxAttempts"].as_u64().ok_or("no maxAttempts")?,
        seconds(&policy["initialBackoff"])?,
        seconds(&policy["maxBackoff"])?,
        number(&policy["backoffMultiplier"])?,
        codes.len(),
        codes.join(", "),
        number(&config["retryThrottling"]["maxTokens"])?,
        number(&config["retryThrottling"]["tokenRatio"])?,
    ))
}

/// RESOURCE_EXHAUSTED becomes ResourceExhausted.
fn camel_case(code: &str) -> String {
    let capitalised = |word: &str| word[..1].to_owned() + &word[1..].to_lowercase();
    code.split('_').map(capitalised).collect()
}
