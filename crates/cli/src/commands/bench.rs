//! `plimsoll bench`
use crate::{args::BenchArgs, error::CliError, talk::Talk};
pub(crate) fn run(_: BenchArgs, _: Option<&std::path::Path>, _: &Talk) -> Result<u8, CliError> {
    Err(CliError::new("not built yet"))
}
