//! Proves the store written from nothing: `cargo run -p landfall-testkit --example own_store`.

mod store;

#[tokio::main]
async fn main() {
    let report = landfall_testkit::store::conformance(async || store::OwnStore::default()).await;
    println!("{report:#?}");
}
