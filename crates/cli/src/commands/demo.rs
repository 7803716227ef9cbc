//! `plimsoll demo`
use crate::{args::DemoArgs, error::CliError, talk::Talk};
pub(crate) fn run(_: &DemoArgs, _: &Talk) -> Result<u8, CliError> {
    Err(CliError::new("not built yet"))
}
