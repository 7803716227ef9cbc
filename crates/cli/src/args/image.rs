//! The command line of `plimsoll image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Format, IdentityArgs, Places, jobs};

const AFTER_VERIFY: &str = "\
Exit codes:
  0  every layer is what its digest says
  1  a layer is not
  2  something could not be seen, or the run could not be done

Examples:
  plimsoll image verify                every image on this host
  plimsoll image verify acme/web:1     this one
";

const AFTER_SEAL: &str = "\
Exit codes:
  0  every layer is what its digest says, and sealed
  1  a layer is not what its digest says: it has no new seal
  2  a layer could not be verified or sealed, or the run could not be done

Examples:
  plimsoll image seal                  every image on this host
  plimsoll check --layers sealed       hold each container's layers to their seals
";

/// What to do with images; built only when that is asked for.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum ImageCommand {
    /// Rebuild each layer from what lies on disk, and compare it with its digest
    ///
    /// A layer is looked at once, however many images have it. What differs is named: files that were
    /// changed, planted or taken away, by content and by each attribute.
    #[command(after_help = AFTER_VERIFY)]
    Verify(VerifyArgs),
    /// Verify layers, and remember those that are what their digests say
    ///
    /// Of each layer a seal is kept, of less than 200 bytes: what its file system keeps of it that only
    /// somebody with the raw disk, or the clock, can put back once a file was touched. After that plimsoll
    /// check looks at the seals, in the time that looking at metadata takes. Where one does not hold it
    /// rebuilds the layer and names the files.
    #[command(after_help = AFTER_SEAL)]
    Seal(SealArgs),
}

// Arguments of `image seal`.
#[derive(Debug, Args)]
pub(crate) struct SealArgs {
    #[command(flatten)]
    pub(crate) verify: VerifyArgs,
    /// Keep the seals in this directory [default: /var/lib/plimsoll]
    #[arg(long, value_name = "DIR", env = "PLIMSOLL_STATE", hide_env = true)]
    pub(crate) state: Option<PathBuf>,
}

// Arguments of `image verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Names or ids of images; every one that is found when none is given
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    /// Threads that read layers [default: one a processor]
    #[arg(long, value_name = "N", value_parser = jobs(), env = "PLIMSOLL_JOBS", hide_env = true)]
    pub(crate) jobs: Option<u32>,
    /// Form of the output: table or json
    #[arg(long, value_name = "FORMAT", env = "PLIMSOLL_FORMAT", hide_env = true)]
    pub(crate) format: Option<Format>,
    /// Write to this file, which appears whole or not at all
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) places: Places,
}
