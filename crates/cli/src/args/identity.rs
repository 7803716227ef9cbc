//! Which images containers must be of.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

// What the images of containers must be, as somebody says who is not this host.
#[derive(Debug, Default, Args)]
pub(crate) struct IdentityArgs {
    /// Digests that images must have: YAML, what skopeo inspect printed, or an OCI layout; NAME=FILE where
    /// it does not say the name of its image. May be given several times
    #[arg(long, value_name = "FILE", help_heading = "Which image it must be")]
    pub(crate) reference: Vec<OsString>,
    /// Signatures of which each image must have one over its manifest: Sigstore bundles as cosign writes
    /// them, or payloads with the signature in FILE.sig. May be given several times
    #[arg(
        long,
        value_name = "FILE",
        requires = "key",
        help_heading = "Which image it must be"
    )]
    pub(crate) signature: Vec<PathBuf>,
    /// The public key that signatures must be by (PEM, as cosign makes them)
    #[arg(
        long,
        value_name = "FILE",
        requires = "signature",
        help_heading = "Which image it must be"
    )]
    pub(crate) key: Option<PathBuf>,
}
