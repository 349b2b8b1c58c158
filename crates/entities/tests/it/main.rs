//! What each core entity takes and refuses.

#![allow(clippy::unwrap_used)]

mod certificates;
mod entities;
