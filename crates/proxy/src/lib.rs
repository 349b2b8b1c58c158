//! The data plane.

pub mod dns;
pub mod router;
