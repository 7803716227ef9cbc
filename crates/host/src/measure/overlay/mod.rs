//! Overlay engine: what the upper layer says.
