//! Protocol v1: JSON text frames.

mod decode;
mod encode;

pub use decode::decode;
pub use encode::encode;
pub(crate) use encode::encode_feed_event;
