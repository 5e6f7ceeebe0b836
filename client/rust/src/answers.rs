//! The answers of a stream.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::explanation::{Explanation, missing};
use crate::{error::Error, proto, proto::explain_stream_response::Result as Item};

/// The answer to one request of a stream.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The id of the request.
    pub id: String,
    /// The explanation or an error. An error does not affect other requests of the stream.
    pub result: Result<Explanation, Error>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Streaming<proto::ExplainStreamResponse>, Status>> + Send>>;

/// Answers in the order in which they become ready. An `Err` means that the stream itself broke.
/// Dropping the stream cancels all unanswered requests.
#[must_use = "nothing is sent before the first answer is asked for"]
pub struct Answers(State);

enum State {
    Opening(Opening),
    Open(Box<Streaming<proto::ExplainStreamResponse>>),
    Ended,
}

impl Answers {
    pub(crate) fn new(opening: Opening) -> Self {
        Self(State::Opening(opening))
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
            match &mut self.0 {
                State::Opening(opening) => match ready!(opening.as_mut().poll(context)) {
                    Ok(stream) => self.0 = State::Open(Box::new(stream)),
                    Err(status) => break Some(status),
                },
                State::Open(stream) => match ready!(Pin::new(stream).poll_next(context)) {
                    Some(Ok(response)) => return Poll::Ready(Some(Ok(answer(response)))),
                    Some(Err(status)) => break Some(status),
                    None => break None,
                },
                State::Ended => return Poll::Ready(None),
            }
        };
        self.0 = State::Ended;
        Poll::Ready(failure.map(|status| Err(status.into())))
    }
}

fn answer(response: proto::ExplainStreamResponse) -> Answer {
    let result = match response.result {
        Some(Item::Response(response)) => response.try_into(),
        Some(Item::Error(error)) => Err(Error::of_item(error)),
        None => Err(missing("result")),
    };
    Answer { id: response.id, result }
}
