//! Digest engine: every file of both sides read and hashed.
