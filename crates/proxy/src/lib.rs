//! The data plane.

pub mod balancer;
pub mod dns;
pub mod router;
