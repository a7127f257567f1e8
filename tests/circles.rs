//! House rule: files of one module do not use one another in circles. Those that still do are listed, with their reasons,
//! in ARCHITECTURE.md.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The section of ARCHITECTURE.md with the table of known circles.
const HEADING: &str = "## Circles among files";

type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn files_form_no_circles_but_those_that_are_listed() {
    let found: BTreeSet<String> = circles(&uses()).into_iter().map(|files| files.join(", ")).collect();
    let listed = listed();
    let new: Vec<&String> = found.difference(&listed).collect();
    assert!(
        new.is_empty(),
        "files that use one another in a circle: {new:#?}; move the item that closes it to a file of its own"
    );
    let gone: Vec<&String> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md lists circles that are open now: {gone:#?}");
}

#[test]
fn a_circle_is_found_whatever_its_length() {
    let uses = |edges: &[(&str, &str)]| {
        let mut uses = Uses::new();
        for (from, to) in edges {
            uses.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        uses
    };
    assert!(circles(&uses(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    assert_eq!(circles(&uses(&[("a", "b"), ("b", "a"), ("b", "c")])), [["a", "b"]]);
    assert_eq!(circles(&uses(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")])), [["a", "b", "c"]]);
    assert_eq!(
        paths("use super::b::{C, d::{self, E}};\npub use crate::x::Y as Z;\nuse std::fmt;"),
        ["super::b::C", "super::b::d", "super::b::d::E", "crate::x::Y"]
    );
}

/// Rows of the table: the files of a circle, with commas between.
fn listed() -> BTreeSet<String> {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = architecture.split(HEADING).nth(1).expect("ARCHITECTURE.md has the section");
    let rows =
        section.lines().skip(1).take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').nth(1).unwrap().replace('`', "").trim().to_owned()).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// For each file below `src`, by its module path, the files of the same top-level module that it uses.
fn uses() -> Uses {
    let mut files = BTreeMap::new();
    collect(&root().join("src"), &mut Vec::new(), &mut files);
    let mut uses = Uses::new();
    for (module, text) in &files {
        let here: Vec<&str> = module.split("::").collect();
        let own = uses.entry(module.clone()).or_default();
        for path in paths(&code(text)) {
            let mut target = match path.split_once("::") {
                Some(("crate", rest)) => rest.split("::").map(str::to_owned).collect::<Vec<_>>(),
                _ => {
                    let parts: Vec<&str> = path.split("::").collect();
                    let ups = parts.iter().take_while(|part| **part == "super").count();
                    let rest = parts.iter().skip(ups).filter(|part| **part != "self");
                    here[..here.len() - ups].iter().chain(rest).map(|part| (*part).to_owned()).collect()
                }
            };
            // The longest prefix that is a file; what follows is an item in it.
            while !target.is_empty() && !files.contains_key(&target.join("::")) {
                target.pop();
            }
            let target = target.join("::");
            if !target.is_empty() && target != *module && target.split("::").next() == here.first().copied() {
                own.insert(target);
            }
        }
    }
    uses
}

fn collect(dir: &Path, module: &mut Vec<String>, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            module.push(name);
            collect(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let mut own = module.clone();
            own.extend((name != "mod").then_some(name));
            files.insert(own.join("::"), fs::read_to_string(&path).unwrap());
        }
    }
}

/// The text above the first test module, without comments.
fn code(text: &str) -> String {
    let above = text.lines().take_while(|line| *line != "#[cfg(test)]");
    above.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The paths of all `use` items that begin with `crate`, `super` or `self`, groups taken apart.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let begins_item = code[..at].chars().next_back().is_none_or(char::is_whitespace);
        let Some((item, _)) = code[at + 4..].split_once(';') else { continue };
        if begins_item && ["crate::", "super::", "self::"].iter().any(|start| item.starts_with(start)) {
            expand("", item, &mut found);
        }
    }
    found
}

fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((stem, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        found.extend((!path.is_empty()).then(|| format!("{prefix}{path}").trim_end_matches("::self").to_owned()));
        return;
    };
    let group = group.rsplit_once('}').map_or(group, |(inside, _)| inside);
    let (mut depth, mut start) = (0, 0);
    let prefix = format!("{prefix}{stem}");
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &group[start..at], found);
                start = (at + 1).min(group.len());
            }
            _ => {}
        }
    }
}

/// Groups of files of which each reaches each other one.
fn circles(uses: &Uses) -> Vec<Vec<String>> {
    let reach = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = open.pop() {
            for next in uses.get(&file).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = uses.keys().map(|file| (file, reach(file))).collect();
    let circle = |file: &String| -> Vec<String> {
        let own = &reached[file];
        own.iter().filter(|other| reached.get(other).is_some_and(|back| back.contains(file))).cloned().collect()
    };
    let groups: BTreeSet<Vec<String>> = uses.keys().map(circle).filter(|files| files.len() > 1).collect();
    groups.into_iter().collect()
}
