//! Room plugin.
