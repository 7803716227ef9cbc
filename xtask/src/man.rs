//! Manual pages: the program writes them itself, from the definition of its command line.

use std::path::Path;
use std::process::Command;

/// Writes the pages into `directory`.
pub(crate) fn write(root: &Path, directory: &Path) -> Result<(), Vec<String>> {
    std::fs::create_dir_all(directory)
        .map_err(|error| vec![format!("{}: {error}", directory.display())])?;
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["run", "--quiet", "--package", "plimsoll", "--", "man"])
        .arg(directory)
        .status()
        .map_err(|error| vec![format!("cargo: {error}")])?;
    if !status.success() {
        return Err(vec![format!("plimsoll man: {status}")]);
    }
    println!("{}", directory.display());
    Ok(())
}
