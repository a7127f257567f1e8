//! Parsed output of `trainer runs`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Outcome, Sandbox};

/// Output of `trainer runs --json`, by path.
pub fn rows(outcome: Outcome) -> BTreeMap<String, Value> {
    let outcome = outcome.succeeded();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        (row["path"].as_str().unwrap().to_owned(), row)
    };
    outcome.stdout.lines().map(row).collect()
}

/// State and note of one run below `logs`.
pub fn state(sandbox: &Sandbox, path: &str) -> (String, String) {
    let rows = rows(sandbox.run("runs logs --json"));
    let row = rows.get(path).unwrap_or_else(|| panic!("no {path} in {rows:?}"));
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("note"))
}
