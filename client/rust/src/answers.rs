// SPDX-License-Identifier: Apache-2.0

//! The answers of a stream.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::explanation::{Explanation, missing};
use crate::target_set::explanations;
use crate::{error::Error, proto, proto::explain_stream_response::Result as Item};

/// The answer to one request of a stream.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The id of the request.
    pub id: String,
    /// The explanation or an error. An error does not affect other requests of the stream.
    pub result: Result<Explanation, Error>,
    /// For a request with several targets, the explanations for all but the first, whose explanation is `result`.
    pub others: Vec<Explanation>,
}

impl Answer {
    /// The explanations for all targets of the request, in their order, or the error.
    pub fn into_all(self) -> Result<Vec<Explanation>, Error> {
        Ok([vec![self.result?], self.others].concat())
    }
}

type Opening = Pin<Box<dyn Future<Output = Result<Streaming<proto::ExplainStreamResponse>, Status>> + Send>>;

/// Answers in the order in which they become ready. An `Err` means that the stream itself broke.
/// Dropping the stream cancels all unanswered requests.
#[must_use = "nothing is sent before the first answer is asked for"]
pub struct Answers {
    state: State,
    reports: Arc<AtomicBool>, // whether the requests ask for their progress
    report: Option<Report>,
}

type Report = Box<dyn FnMut(&str, u64, u64) + Send>;

enum State {
    Opening(Opening),
    Open(Box<Streaming<proto::ExplainStreamResponse>>),
    Ended,
}

impl Answers {
    pub(crate) fn new(opening: Opening, reports: Arc<AtomicBool>) -> Self {
        Self { state: State::Opening(opening), reports, report: None }
    }

    /// Calls `report` before the answers of long requests, at most ten times a second each, with the id of the request,
    /// how often the model has run, and how often it is expected to run in all. Only methods that run the model many
    /// times report, and only while the answers are polled. To be set before the first answer is asked for.
    pub fn on_progress(mut self, report: impl FnMut(&str, u64, u64) + Send + 'static) -> Self {
        self.reports.store(true, Ordering::Relaxed);
        self.report = Some(Box::new(report));
        self
    }

    /// Returns the next answer, or `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<Answer, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Answers {
    type Item = Result<Answer, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let failure = loop {
            match &mut self.state {
                State::Opening(opening) => match ready!(opening.as_mut().poll(context)) {
                    Ok(stream) => self.state = State::Open(Box::new(stream)),
                    Err(status) => break Some(status),
                },
                State::Open(stream) => match ready!(Pin::new(stream).poll_next(context)) {
                    Some(Ok(proto::ExplainStreamResponse { id, result: Some(Item::Progress(said)) })) => {
                        if let Some(report) = &mut self.report {
                            report(&id, said.done.max(0).unsigned_abs(), said.total.max(0).unsigned_abs());
                        }
                    }
                    Some(Ok(response)) => return Poll::Ready(Some(Ok(answer(response)))),
                    Some(Err(status)) => break Some(status),
                    None => break None,
                },
                State::Ended => return Poll::Ready(None),
            }
        };
        self.state = State::Ended;
        Poll::Ready(failure.map(|status| Err(status.into())))
    }
}

fn answer(response: proto::ExplainStreamResponse) -> Answer {
    let mut others = Vec::new();
    let result = match response.result {
        Some(Item::Response(response)) if response.targets.is_empty() => response.try_into(),
        Some(Item::Response(response)) => explanations(&response).map(|mut all| {
            others = all.split_off(1);
            all.swap_remove(0)
        }),
        Some(Item::Error(error)) => Err(Error::of_item(error)),
        Some(Item::Progress(_)) | None => Err(missing("result")),
    };
    Answer { id: response.id, result, others }
}
