//! Stub.
pub(super) async fn handle(
    _: &super::Proxy,
    _: super::exchange::Exchange,
) -> super::reply::Outcome {
    todo!()
}
