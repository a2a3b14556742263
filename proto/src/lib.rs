//! The contract between Waystation's services, and with the backends that call them.
//!
//! The `.proto` files beside this crate are the source; `src/gen` is what they generate,
//! checked in so that building needs no generator. A test keeps the two equal.
#![allow(missing_docs, clippy::all, clippy::wildcard_enum_match_arm, rustdoc::all)]

#[cfg(feature = "services")]
pub mod auth {
    pub mod v1 {
        include!("gen/waystation.auth.v1.rs");
    }
}
pub mod common {
    pub mod v1 {
        include!("gen/waystation.common.v1.rs");
    }
}
pub mod daemon {
    pub mod v1 {
        include!("gen/waystation.daemon.v1.rs");
    }
}
#[cfg(feature = "services")]
pub mod federation {
    pub mod v1 {
        include!("gen/waystation.federation.v1.rs");
    }
}
#[cfg(feature = "services")]
pub mod gateway {
    pub mod v1 {
        include!("gen/waystation.gateway.v1.rs");
    }
}
#[cfg(feature = "services")]
pub mod router {
    pub mod v1 {
        include!("gen/waystation.router.v1.rs");
    }
}

/// Every file above with its imports, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");
