// SPDX-License-Identifier: Apache-2.0

//! Sends a call again where the published service config says so; tonic has nothing for that built in.
//!
//! The rules are those of gRPC (gRFC A6): exponential backoff with jitter, the server's pushback obeyed, and no retry
//! while too many calls fail.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
    time::Duration,
};

use tonic::Status;

use crate::error::pushback;
use crate::retry_policy::*;

/// How often a call is tried in all, and the tokens that failures take and successes give back.
#[derive(Debug, Clone)]
pub(crate) struct Retry {
    attempts: u32,
    tokens: Arc<Mutex<f64>>,
}

impl Retry {
    /// At most `attempts` tries, and never more than published.
    pub(crate) fn new(attempts: u32) -> Self {
        Self { attempts: attempts.clamp(1, MAX_ATTEMPTS), tokens: Arc::new(Mutex::new(MAX_TOKENS)) }
    }

    pub(crate) fn succeeded(&self) {
        let mut tokens = self.tokens();
        *tokens = (*tokens + TOKEN_RATIO).min(MAX_TOKENS);
    }

    /// How long to wait before `method` is sent again after its `attempt`, counted from 1, failed; `None`: no more.
    pub(crate) fn after(&self, method: &str, attempt: u32, failure: &Status) -> Option<Duration> {
        let pushback = pushback(failure);
        if !RETRYABLE.contains(&failure.code()) && pushback.is_none() {
            return None;
        }
        let throttled = {
            let mut tokens = self.tokens();
            *tokens = (*tokens - 1.0).max(0.0);
            *tokens <= MAX_TOKENS / 2.0
        };
        if throttled || attempt >= self.attempts || !METHODS.contains(&method) || !RETRYABLE.contains(&failure.code()) {
            return None;
        }
        match pushback {
            Some(wait) => wait.ok(),
            None => Some(Duration::from_secs_f64(backoff(attempt) * jitter())),
        }
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, f64> {
        self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn backoff(attempt: u32) -> f64 {
    let exponent = i32::try_from(attempt).unwrap_or(i32::MAX) - 1;
    (INITIAL_BACKOFF * BACKOFF_MULTIPLIER.powi(exponent)).min(MAX_BACKOFF)
}

/// Evenly spread over 0.8 to 1.2.
fn jitter() -> f64 {
    0.8 + 0.4 * (RandomState::new().hash_one(0) as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> Status {
        Status::unavailable("gone")
    }

    #[test]
    fn backs_off_and_gives_up() {
        let retry = Retry::new(5);
        for (attempt, seconds) in [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8)] {
            let wait = retry.after("Explain", attempt, &unavailable()).unwrap().as_secs_f64();
            assert!((0.8 * seconds..=1.2 * seconds).contains(&wait), "{wait} after attempt {attempt}");
        }
        assert_eq!(retry.after("Explain", 5, &unavailable()), None);
        assert_eq!(backoff(60), MAX_BACKOFF);
    }

    #[test]
    fn only_what_changes_nothing_is_sent_again() {
        let retry = Retry::new(5);
        assert_eq!(retry.after("ImportModel", 1, &unavailable()), None);
        assert_eq!(retry.after("Explain", 1, &Status::invalid_argument("no")), None);
        assert_eq!(Retry::new(1).after("Explain", 1, &unavailable()), None);
    }

    #[test]
    fn the_server_decides_when() {
        let mut status = unavailable();
        status.metadata_mut().insert("grpc-retry-pushback-ms", "7".parse().unwrap());
        assert_eq!(Retry::new(5).after("Explain", 1, &status), Some(Duration::from_millis(7)));
        status.metadata_mut().insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
        assert_eq!(Retry::new(5).after("Explain", 1, &status), None);
    }

    #[test]
    fn many_failures_stop_retries_until_calls_succeed() {
        let retry = Retry::new(5);
        let tries = (0..).take_while(|_| retry.after("Explain", 1, &unavailable()).is_some()).count();
        assert_eq!(tries as f64, MAX_TOKENS / 2.0 - 1.0);
        retry.succeeded();
        retry.succeeded();
        assert!(retry.after("Explain", 1, &unavailable()).is_some());
    }
}
