//! What is new in every frame of the server.

use waystation_domain::Timestamp;

/// What makes a frame unique.
#[derive(Clone, Copy, Debug)]
pub struct FrameStamp {
    /// Random, one for each connection.
    pub connection: u64,
    /// Counts frames of the connection.
    pub number: u64,
    /// When the frame is made.
    pub now: Timestamp,
}

impl FrameStamp {
    /// A UUID of version 8: 60 random bits of the connection, and the number of the frame.
    pub(crate) fn write_id(self, out: &mut impl std::fmt::Write) {
        let FrameStamp { connection, number, .. } = self;
        let (high, low) = (connection >> 32, connection & 0xffff_ffff);
        let written = write!(
            out,
            "{high:08x}-{:04x}-8{:03x}-8{:03x}-{:012x}",
            low >> 16,
            low >> 4 & 0xfff,
            number >> 48 & 0xfff,
            number & 0xffff_ffff_ffff
        );
        debug_assert!(written.is_ok(), "memory takes everything");
    }

    pub(crate) fn id(self) -> String {
        let mut id = String::with_capacity(36);
        self.write_id(&mut id);
        id
    }
}
