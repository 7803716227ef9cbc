//! Checks and generators of this repository: `cargo xtask tidy|schema|man|conformance|runtimes`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of the terminal, for whoever works on this repository"
)]

mod conformance;
mod generated;
mod man;
mod runtimes;
mod schema;
mod source;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  tidy            check what no lint checks: sizes, names, module docs, one-way uses
  schema          write docs/reference/report.schema.json from the types
  schema --check  fail when it is stale
  man [DIR]       write the manual pages, into target/man when no DIR is given
  conformance     run the scenarios everywhere and write docs/reference/conformance.{json,md} (root)
  conformance --check     fail when the page is not that of its results
  conformance --from DIR  write both from what tests wrote into DIR
  runtimes        look at containers of every runtime and write docs/reference/runtimes.{json,md} (root)
  runtimes --check        fail when the page is not that of its results, or leaves a cell open
  runtimes --from DIR     write both from what tests wrote into DIR";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["tidy"] => tidy::check(&root()),
        ["schema"] => schema::write(&root()),
        ["schema", "--check"] => schema::check(&root()),
        ["man"] => man::write(&root(), &root().join("target/man")),
        ["man", directory] => man::write(&root(), Path::new(directory)),
        ["conformance"] => conformance::CONFORMANCE.make(&root()),
        ["conformance", "--check"] => conformance::CONFORMANCE.check(&root()),
        ["conformance", "--from", directory] => {
            conformance::CONFORMANCE.from(&root(), Path::new(directory))
        }
        ["runtimes"] => runtimes::RUNTIMES.make(&root()),
        ["runtimes", "--check"] => runtimes::RUNTIMES.check(&root()),
        ["runtimes", "--from", directory] => runtimes::RUNTIMES.from(&root(), Path::new(directory)),
        _ => Err(vec![USAGE.to_owned()]),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(findings) => {
            for finding in findings {
                eprintln!("{finding}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Returns the kernel's version, without what a distribution appends to it.
fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version = release.split('-').next().unwrap_or_default();
    format!("Linux {}", version.trim())
}

/// Returns the top of the repository.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}
