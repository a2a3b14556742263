//! Subprotocol `waystation.v1.proto`: the same frames as protobuf messages.

mod decode;
mod encode;

pub use decode::decode;
pub use encode::encode;
pub(crate) use encode::encode_feed_event;
