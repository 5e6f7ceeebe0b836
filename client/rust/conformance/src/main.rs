// SPDX-License-Identifier: Apache-2.0

//! The runner of tests/conformance (its README says what comes in and what goes out) over this client.

mod check;
mod golden;
mod method;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, path::Path, path::PathBuf, process::exit};

use lstm_explain_client::{Client, Error, Explain, Explanation, Import, Lrp, ModelRoute, OperationState, Status, Tls};
use serde_json::{Value, json};

use check::{Failure, Hashes};

type Anything = Box<dyn std::error::Error>;

const SENTENCE: &str = "neither funny nor suspenseful nor particularly well-drawn";

#[tokio::main]
async fn main() {
    match run().await {
        Ok(true) => {}
        Ok(false) => exit(1),
        Err(error) => {
            eprintln!("{error}");
            exit(2);
        }
    }
}

async fn run() -> Result<bool, Anything> {
    let mut arguments = env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let options = options(arguments)?;
    match command.as_str() {
        "conformance" => conformance(&options).await,
        "latency" => latency(&options).await,
        other => Err(format!("the command is {other:?}, want conformance or latency").into()),
    }
}

/// `--name value` pairs, by name.
fn options(mut arguments: impl Iterator<Item = String>) -> Result<BTreeMap<String, String>, Anything> {
    let mut options = BTreeMap::new();
    while let Some(name) = arguments.next() {
        let name = name.strip_prefix("--").ok_or(format!("{name:?} is no option"))?.to_owned();
        let value = arguments.next().ok_or(format!("--{name} has no value"))?;
        options.insert(name, value);
    }
    Ok(options)
}

fn option<'a>(options: &'a BTreeMap<String, String>, name: &str) -> Result<&'a str, Anything> {
    Ok(options.get(name).ok_or(format!("--{name} is missing"))?)
}

/// A client by the options, with another token if there is one.
fn connect(options: &BTreeMap<String, String>, token: Option<&str>) -> Result<Client, Anything> {
    let mut builder = Client::builder(option(options, "address")?);
    if let Some(ca) = options.get("ca") {
        let mut tls = Tls::with_ca(fs::read(ca)?);
        if let Some(certificate) = options.get("cert") {
            tls = tls.identity(fs::read(certificate)?, fs::read(option(options, "key")?)?);
        }
        builder = builder.tls(tls);
    }
    if let Some(token) = token.or(options.get("token").map(String::as_str)).filter(|token| !token.is_empty()) {
        builder = builder.token(token);
    }
    Ok(builder.build()?)
}

async fn conformance(options: &BTreeMap<String, String>) -> Result<bool, Anything> {
    let kind = if options.contains_key("ca") { "tls" } else { "plain" };
    let models = PathBuf::from(option(options, "models")?);
    let mut all_good = true;
    for path in json_files(Path::new(option(options, "cases")?))? {
        let case: Value = serde_json::from_slice(&fs::read(path)?)?;
        if case["over"].as_array().is_some_and(|over| !over.iter().any(|name| name == kind)) {
            continue;
        }
        let client = connect(options, case["token"].as_str())?;
        all_good &= report(case["name"].as_str().unwrap_or_default(), one(&client, &case, &models).await);
    }
    let golden = Path::new(option(options, "golden")?);
    for (name, result) in golden::check(golden)? {
        all_good &= report(&format!("golden/{name}"), result.map(|()| Hashes::new()));
    }
    Ok(all_good)
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>, Anything> {
    let paths: Result<Vec<_>, _> = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths: Vec<_> = paths?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    Ok(paths)
}

fn report(name: &str, result: Result<Hashes, Failure>) -> bool {
    let ok = result.is_ok();
    let (hashes, detail) = match result {
        Ok(hashes) => (hashes, String::new()),
        Err(failure) => (Hashes::new(), failure.0),
    };
    println!("{}", json!({"case": name, "ok": ok, "detail": detail, "relevance": hashes}));
    ok
}

async fn one(client: &Client, case: &Value, models: &Path) -> Result<Hashes, Failure> {
    match case["call"].as_str().unwrap_or_default() {
        "explain" => check::outcome(case, &explain(client, &case["request"]).await?),
        "explain_many" => explain_many(client, case).await,
        "explain_stream" => stream(client, case).await,
        "models" => check::models(&case["expect"]["models"], &client.models().await?),
        "model" => match client.model_version(text(&case["model"]), text(&case["version"])).await {
            Ok(detail) => check::expected(case).and_then(|expect| check::detail(&expect["detail"], &detail)),
            Err(error) => check::error(&case["expect_error"], &error),
        },
        "import_model" => import(client, case, models).await,
        "route_model" => route_model(client, case).await,
        "operation" => operation(client, case).await,
        other => Err(Failure(format!("unknown call {other:?}"))),
    }
}

/// The outcome of the call; the outer error is a request that this client cannot express.
async fn explain(client: &Client, request: &Value) -> Result<Result<Explanation, Error>, Failure> {
    let call = client.explain(request::explain(request)?);
    let Some(after) = request["cancel_after_ms"].as_u64() else { return Ok(call.await) };
    // In Rust, dropping a call cancels it, so there is no one to report to.
    let cancelled = tokio::time::timeout(Duration::from_millis(after), call).await;
    Ok(cancelled.unwrap_or_else(|_| Err(Status::cancelled("dropped by the caller").into())))
}

async fn explain_many(client: &Client, case: &Value) -> Result<Hashes, Failure> {
    let hashes = check::outcomes(case, client.explain_many(request::explain(&case["request"])?).await)?;
    for (number, single) in case["expect"]["singles"].as_array().into_iter().flatten().enumerate() {
        let request = request::explain(&case["request"])?.targets([]).target(request::target(single)?);
        let alone = check::outcome(&json!({"expect": {}}), &client.explain(request).await)?;
        if let Some((name, _)) = alone.iter().find(|(name, hash)| hashes.get(&format!("{number}/{name}")) != Some(hash))
        {
            return Err(Failure(format!("target {number} alone has another relevance of {name}")));
        }
    }
    Ok(hashes)
}

async fn stream(client: &Client, case: &Value) -> Result<Hashes, Failure> {
    let items = case["requests"].as_array().ok_or("no requests")?;
    let requests: Result<Vec<Explain>, Failure> =
        items.iter().map(|item| Ok(request::explain(&item["request"])?.id(text(&item["id"])))).collect();
    let mut answers = client.explain_stream(tokio_stream::iter(requests?), Some(Duration::from_secs(60)));
    let reports = Arc::new(Mutex::new(Vec::new()));
    if case["progress"].is_array() {
        let reports = reports.clone();
        answers = answers.on_progress(move |id, done, total| {
            reports.lock().expect("not poisoned").push((id.to_owned(), done, total));
        });
    }
    let mut awaited = case["answers"].as_object().ok_or("no answers")?.clone();
    let mut hashes = Hashes::new();
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        let want = awaited.remove(&answer.id).ok_or(format!("an answer {:?} too many", answer.id))?;
        let id = answer.id.clone();
        let several = want["expect"]["results"].is_array();
        let found =
            if several { check::outcomes(&want, answer.into_all()) } else { check::outcome(&want, &answer.result) };
        let found = found.map_err(|f| Failure(format!("{id}: {}", f.0)))?;
        hashes.extend(found.into_iter().map(|(name, hash)| (format!("{id}/{name}"), hash)));
    }
    if let Some(missing) = awaited.keys().next() {
        return Err(Failure(format!("no answer to {missing:?}")));
    }
    let reports = reports.lock().expect("not poisoned");
    if let Some(wrong) = reports.iter().find(|(_, done, total)| done > total) {
        return Err(Failure(format!("progress {wrong:?}")));
    }
    let reported: BTreeSet<_> = reports.iter().map(|(id, ..)| id.as_str()).collect();
    let expected = case["progress"].as_array().map(|ids| ids.iter().map(text).collect()).unwrap_or_default();
    if reported != expected {
        return Err(Failure(format!("progress of {reported:?}, expected {expected:?}")));
    }
    Ok(hashes)
}

async fn import(client: &Client, case: &Value, models: &Path) -> Result<Hashes, Failure> {
    let want = &case["import"];
    let bytes = fs::read(models.join(text(&want["model"]))).map_err(|error| error.to_string())?;
    let mut model = Import::new(text(&want["name"]), bytes).version(text(&want["version"]));
    if let Some(config) = want["config"].as_str() {
        model = model.config(config);
    }
    let detail = match client.import_model(model).await {
        Ok(detail) => detail,
        Err(error) => return check::error(&case["expect_error"], &error),
    };
    check::detail(&check::expected(case)?["detail"], &detail)?;
    let hashes = check::outcome(case, &explain(client, &case["request"]).await?)?;
    client.delete_model(text(&want["name"]), "").await?;
    match explain(client, &case["request"]).await? {
        Ok(_) => Err(Failure("the model answers after it was deleted".into())),
        Err(error) => check::error(&json!({"code": "NOT_FOUND"}), &error).map(|_| hashes),
    }
}

async fn route_model(client: &Client, case: &Value) -> Result<Hashes, Failure> {
    let model = text(&case["model"]);
    let chosen = match client.route_model(model, route(&case["route"])).await {
        Ok(chosen) => chosen,
        Err(error) => return check::error(&case["expect_error"], &error),
    };
    let back = client.roll_back_model(model).await?;
    let expect = check::expected(case)?;
    for (found, want) in [(chosen, &expect["route"]), (back, &expect["rolled_back"])] {
        if found != route(want) {
            return Err(Failure(format!("the route is {found:?}, expected {want}")));
        }
    }
    Ok(Hashes::new())
}

async fn operation(client: &Client, case: &Value) -> Result<Hashes, Failure> {
    let started = match client.start(request::explain(&case["request"])?).await {
        Ok(started) => started,
        Err(error) => return check::error(&case["expect_error"], &error),
    };
    let name = started.name;
    let ended = client.wait_for_operation(&name).await?;
    if ended.state != OperationState::Succeeded {
        return Err(Failure(format!("the operation is {:?}", ended.state)));
    }
    let hashes = check::outcome(case, &ended.explanation())?;
    if !client.operations().await?.iter().any(|one| one.name == name) {
        return Err(Failure("the operation is not listed".into()));
    }
    let direct = check::outcome(case, &client.explain(request::explain(&case["request"])?).await)?;
    if direct != hashes {
        return Err(Failure("the call has another relevance".into()));
    }
    client.cancel_operation(&name).await?;
    client.delete_operation(&name).await?;
    match client.operation(&name).await {
        Ok(_) => Err(Failure("the operation is there after it was deleted".into())),
        Err(error) => check::error(&json!({"code": "NOT_FOUND"}), &error).map(|_| hashes),
    }
}

fn route(said: &Value) -> ModelRoute {
    ModelRoute {
        default_version: text(&said["default_version"]).into(),
        canary_version: text(&said["canary_version"]).into(),
        canary_share: said["canary_share"].as_f64().unwrap_or_default(),
        previous_version: text(&said["previous_version"]).into(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

async fn latency(options: &BTreeMap<String, String>) -> Result<bool, Anything> {
    let client = connect(options, None)?;
    let calls: usize = option(options, "calls")?.parse()?;
    let request = Explain::new(option(options, "model")?).input("tokens", SENTENCE).method(Lrp::default());
    for _ in 0..20 {
        client.explain(request.clone()).await?;
    }
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let start = Instant::now();
        client.explain(request.clone()).await?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let percentile = |share: f64| (times[((calls - 1) as f64 * share).round() as usize] * 1e3).round() / 1e3;
    println!("{}", json!({"client": "rust", "calls": calls, "p50_ms": percentile(0.5), "p99_ms": percentile(0.99)}));
    Ok(true)
}
