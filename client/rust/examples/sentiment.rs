//! Explains the verdict of the model `sentiment` on a sentence: `cargo run --example sentiment [HOST:PORT]`.

use lstm_explain_client::{Client, Error, Explain, Lrp, Target};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:50051".into());
    let client = Client::new(address)?;

    let request = Explain::new("sentiment")
        .input("tokens", "neither funny nor suspenseful nor particularly well-drawn")
        .method(Lrp::default())
        .target(Target::index(0).output("logits")); // "very negative"
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
