//! Protocol v1: JSON text frames.

mod decode;
mod encode;
mod item;

pub use decode::decode;
pub use encode::encode;
pub(crate) use encode::encode_feed_event;
pub use encode::encode_payload;
pub(crate) use item::encode_feed_item;
pub use item::{encode_entry_item, encode_feed_gap_item, encode_gap_item};
