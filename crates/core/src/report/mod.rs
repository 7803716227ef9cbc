//! The report: a measurement and its appraisal as a versioned document for other programs.
//!
//! A version is never changed once it was released, except by adding fields; the committed schema
//! (`docs/reference/report.schema.json`) is generated from the types.

pub mod v1;
