// SPDX-License-Identifier: Apache-2.0

//! Explains a sentence with the model `sentiment`: `cargo run --example sentiment [HOST:PORT] [SENTENCE]`.

use lstm_explain_client::{Client, Error, Explain};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:50051".into());
    let sentence = arguments.next().unwrap_or("neither funny nor suspenseful nor particularly well-drawn".into());
    let client = Client::new(address)?;

    let request = Explain::new("sentiment").input("tokens", sentence.as_str());
    let result = client.explain(request).await?;

    let words = result.tokens["tokens"].values::<String>().unwrap_or_default();
    let relevance = result.relevance["tokens"].values::<f32>().unwrap_or_default();
    for (word, relevance) in words.iter().zip(relevance) {
        println!("{relevance:+8.3}  {word}");
    }
    println!("explained {:?}", result.explained.to_f64());
    println!("  inputs  {:?}", result.ledger.inputs.to_f64());
    println!("absorbed  {:?}", result.ledger.absorbed.to_f64());
    Ok(())
}
