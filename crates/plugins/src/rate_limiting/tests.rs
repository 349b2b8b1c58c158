//! Behaviour of the plugin.
