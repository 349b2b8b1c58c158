//! Room plugins.
