//! The data plane.

pub mod router;
