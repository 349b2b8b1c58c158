//! References to secrets in settings: read and resolved as those in entities are.

pub use portcullis_proxy::vault::{Reference, is_reference};
