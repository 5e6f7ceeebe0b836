// SPDX-License-Identifier: Apache-2.0

//! The calls.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::{Stream, StreamExt};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::answers::Answers;
use crate::connection::{Authorization, Builder};
use crate::error::Error;
use crate::explain::Explain;
use crate::explanation::{Explanation, missing};
use crate::import::Import;
use crate::proto::explanation_service_client::ExplanationServiceClient;
use crate::proto::model_service_client::ModelServiceClient;
use crate::proto::operation_service_client::OperationServiceClient;
use crate::proto::{self, ModelDetail, ModelRoute, ModelSummary};
use crate::retry::Retry;
use crate::target_set::explanations;

type Authorized = InterceptedService<Channel, Authorization>;

/// Calls an explanation server. Clones share one connection; a call is cancelled by dropping its
/// future.
#[derive(Clone)]
pub struct Client {
    explanations: ExplanationServiceClient<Authorized>,
    models: ModelServiceClient<Authorized>,
    pub(crate) operations: OperationServiceClient<Authorized>,
    timeout: Option<Duration>,
    retry: Retry,
}

impl Client {
    /// A plain-text connection to "host:port" with every option at its default.
    pub fn new(address: impl Into<String>) -> Result<Self, Error> {
        Self::builder(address).build()
    }

    /// A connection to "host:port" with options.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder::new(address.into())
    }

    pub(crate) fn over(
        channel: Channel,
        authorization: Authorization,
        timeout: Option<Duration>,
        max_message_bytes: usize,
        retry: Retry,
    ) -> Self {
        let channel = InterceptedService::new(channel, authorization);
        Self {
            explanations: ExplanationServiceClient::new(channel.clone())
                .max_decoding_message_size(max_message_bytes)
                .max_encoding_message_size(max_message_bytes),
            models: ModelServiceClient::new(channel.clone())
                .max_decoding_message_size(max_message_bytes)
                .max_encoding_message_size(max_message_bytes),
            operations: OperationServiceClient::new(channel)
                .max_decoding_message_size(max_message_bytes)
                .max_encoding_message_size(max_message_bytes),
            timeout,
            retry,
        }
    }

    /// Predicts one batch and explains the prediction.
    pub async fn explain(&self, request: Explain) -> Result<Explanation, Error> {
        if !request.message.targets.is_empty() {
            let message = "explain takes one target; use explain_many".into();
            let (code, field) = (Code::InvalidArgument.into(), "targets".into());
            return Err(Error::of_item(proto::ItemError { code, message, field }));
        }
        self.response(request).await?.try_into()
    }

    /// Predicts one batch and explains it for several targets in one request: an explanation per target, in their
    /// order.
    pub async fn explain_many(&self, request: Explain) -> Result<Vec<Explanation>, Error> {
        if request.message.targets.is_empty() {
            return Ok(Vec::new());
        }
        explanations(&self.response(request).await?)
    }

    async fn response(&self, request: Explain) -> Result<proto::ExplainResponse, Error> {
        let call = |message| {
            let mut stub = self.explanations.clone();
            async move { stub.explain(message).await }
        };
        self.unary("Explain", request.message, request.timeout, call).await
    }

    /// Sends many requests over one stream. Each answer carries the id of its request. `timeout`
    /// applies to the whole stream. [`Answers::on_progress`] reports how far long requests are.
    pub fn explain_stream<S>(&self, requests: S, timeout: Option<Duration>) -> Answers
    where
        S: Stream<Item = Explain> + Send + 'static,
    {
        let mut count = 0u64;
        let reports = Arc::new(AtomicBool::new(false));
        let asked = reports.clone();
        let messages = requests.map(move |request| {
            let id = request.id.unwrap_or_else(|| count.to_string());
            count += 1;
            proto::ExplainStreamRequest { id, request: Some(request.message), progress: asked.load(Ordering::Relaxed) }
        });
        let mut call = Request::new(messages);
        if let Some(timeout) = timeout {
            call.set_timeout(timeout);
        }
        let mut stub = self.explanations.clone();
        Answers::new(Box::pin(async move { Ok(stub.explain_stream(call).await?.into_inner()) }), reports)
    }

    /// Lists all models and versions, including those that failed to load.
    pub async fn models(&self) -> Result<Vec<ModelSummary>, Error> {
        let call = |message| {
            let mut stub = self.models.clone();
            async move { stub.list_models(message).await }
        };
        Ok(self.unary("ListModels", proto::ListModelsRequest {}, None, call).await?.models)
    }

    /// Describes the newest version of a model that is ready: its inputs, outputs and defaults, and
    /// what can be explained.
    pub async fn model(&self, name: impl Into<String>) -> Result<ModelDetail, Error> {
        self.model_version(name, "").await
    }

    /// Describes one version of a model.
    pub async fn model_version(
        &self,
        name: impl Into<String>,
        version: impl Into<String>,
    ) -> Result<ModelDetail, Error> {
        let request = proto::GetModelRequest { name: name.into(), version: version.into() };
        let call = |message| {
            let mut stub = self.models.clone();
            async move { stub.get_model(message).await }
        };
        self.unary("GetModel", request, None, call).await?.model.ok_or_else(|| missing("model"))
    }

    /// Adds a model. The server must allow imports.
    pub async fn import_model(&self, import: Import) -> Result<ModelDetail, Error> {
        let parts = tokio_stream::iter(import.messages());
        let response = self.models.clone().import_model(parts).await?.into_inner();
        response.model.ok_or_else(|| missing("model"))
    }

    /// Removes a version of a model, or all versions if `version` is empty. The server must allow
    /// it.
    pub async fn delete_model(&self, name: impl Into<String>, version: impl Into<String>) -> Result<(), Error> {
        let request = proto::DeleteModelRequest { name: name.into(), version: version.into() };
        let call = |message| {
            let mut stub = self.models.clone();
            async move { stub.delete_model(message).await }
        };
        self.unary("DeleteModel", request, None, call).await?;
        Ok(())
    }

    /// Chooses which version of a model answers requests that name none, and a canary that gets a share of them. The
    /// server must allow it. `previous_version` of the route does not count.
    pub async fn route_model(&self, name: impl Into<String>, route: ModelRoute) -> Result<ModelRoute, Error> {
        let ModelRoute { default_version, canary_version, canary_share, .. } = route;
        let request = proto::RouteModelRequest { name: name.into(), default_version, canary_version, canary_share };
        let call = |message| {
            let mut stub = self.models.clone();
            async move { stub.route_model(message).await }
        };
        self.unary("RouteModel", request, None, call).await?.route.ok_or_else(|| missing("route"))
    }

    /// Ends the canary of a model or, if it has none, makes its previous default version the default again. The server
    /// must allow it.
    pub async fn roll_back_model(&self, name: impl Into<String>) -> Result<ModelRoute, Error> {
        let call = |message| {
            let mut stub = self.models.clone();
            async move { stub.roll_back_model(message).await }
        };
        let request = proto::RollBackModelRequest { name: name.into() };
        self.unary("RollBackModel", request, None, call).await?.route.ok_or_else(|| missing("route"))
    }

    /// One call until its deadline, sent again where the policy says so.
    pub(crate) async fn unary<Q: Clone, A, F>(
        &self,
        method: &str,
        message: Q,
        timeout: Option<Duration>,
        call: impl Fn(Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = timeout.or(self.timeout).and_then(|timeout| Instant::now().checked_add(timeout));
        let retrying = async {
            for attempt in 1.. {
                let mut request = Request::new(message.clone());
                if let Some(deadline) = deadline {
                    request.set_timeout(deadline - Instant::now());
                }
                let failure = match call(request).await {
                    Ok(response) => {
                        self.retry.succeeded();
                        return Ok(response.into_inner());
                    }
                    Err(status) => status,
                };
                match self.retry.after(method, attempt, &failure) {
                    Some(wait) if deadline.is_none_or(|deadline| Instant::now() + wait < deadline) => sleep(wait).await,
                    _ => return Err(failure),
                }
            }
            unreachable!("attempts are counted")
        };
        match deadline {
            None => Ok(retrying.await?),
            Some(deadline) => match timeout_at(deadline, retrying).await {
                Ok(result) => Ok(result?),
                Err(_) => Err(Status::deadline_exceeded("the answer did not come in time").into()),
            },
        }
    }
}
