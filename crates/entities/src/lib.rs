//! Room entities.
