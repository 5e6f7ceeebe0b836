// SPDX-License-Identifier: Apache-2.0

//! What a caller sees of a server that is not there, does not answer, or may not be told a token.

use std::time::Duration;

use lstm_explain_client::{Client, ErrorKind, Explain, Tls};
use tokio::net::TcpListener;

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = Client::builder(address).attempts(2).build().unwrap();
    assert_eq!(client.models().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let mut answers = client.explain_stream(tokio_stream::empty(), None);
    assert_eq!(answers.next().await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn nobody_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap().to_string()).unwrap();
    let request = Explain::new("any").timeout(Duration::from_millis(50));
    let unary = client.explain(request).await.unwrap_err();
    assert_eq!(unary.kind(), ErrorKind::DeadlineExceeded, "{unary}");
    let mut answers = client.explain_stream(tokio_stream::pending(), Some(Duration::from_millis(50)));
    let stream = answers.next().await.unwrap().unwrap_err();
    assert_eq!(stream.kind(), ErrorKind::DeadlineExceeded, "{stream}");
}

#[tokio::test]
async fn a_token_does_not_travel_in_the_clear() {
    let kind = |builder: lstm_explain_client::Builder| builder.build().err().map(|error| error.kind());
    let builder = || Client::builder("explain.example:443").token("secret");
    assert_eq!(kind(builder()), Some(ErrorKind::InvalidRequest));
    assert_eq!(kind(builder().plaintext_token(true)), None);
    assert_eq!(kind(builder().tls(Tls::new())), None);
    for own in ["127.0.0.1:1", "localhost:1", "[::1]:1"] {
        assert_eq!(kind(Client::builder(own).token("secret")), None, "{own}");
    }
    for other in ["127.0.0.1.example:1", "127.example:1", "localhost.example:1", "10.0.0.1:1"] {
        assert_eq!(kind(Client::builder(other).token("secret")), Some(ErrorKind::InvalidRequest), "{other}");
    }
    assert_eq!(kind(Client::builder("127.0.0.1:1").token("sec\nret")), Some(ErrorKind::InvalidRequest));
}
