//! The committed JSON schemas of the report and of what `image verify` writes.

use std::path::Path;

use plimsoll_core::report::v1;

/// Makes a schema.
type Make = fn() -> schemars::Schema;

/// Where each lies, and how it is made.
const SCHEMAS: &[(&str, Make)] = &[
    ("docs/reference/report.schema.json", v1::schema),
    ("docs/reference/images.schema.json", v1::images::schema),
];

fn generated(schema: Make) -> Result<String, Vec<String>> {
    let text = serde_json::to_string_pretty(&schema());
    text.map(|text| text + "\n")
        .map_err(|error| vec![error.to_string()])
}

/// Writes the schemas where they are committed.
pub(crate) fn write(root: &Path) -> Result<(), Vec<String>> {
    for (place, schema) in SCHEMAS {
        std::fs::write(root.join(place), generated(*schema)?)
            .map_err(|error| vec![format!("{place}: {error}")])?;
    }
    Ok(())
}

/// Fails when a committed schema is not the generated one.
pub(crate) fn check(root: &Path) -> Result<(), Vec<String>> {
    for (place, schema) in SCHEMAS {
        let committed = std::fs::read_to_string(root.join(place))
            .map_err(|error| vec![format!("{place}: {error}")])?;
        if committed != generated(*schema)? {
            return Err(vec![format!("{place} is stale: run cargo xtask schema")]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_schema_is_current() {
        super::check(&crate::root()).unwrap();
    }
}
