//! House rules that the compiler does not know: who may use whom, how long a file is, what has to be documented.
//!
//! The dependency table is read from ARCHITECTURE.md, so the document cannot drift from the code.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of code above the first test module.
const LONGEST_FILE: usize = 500;

/// Files that may be longer, up to a limit of their own, and why.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// The section of ARCHITECTURE.md that holds the table.
const TABLE_HEADING: &str = "## Who may use whom";

struct Source {
    /// Relative to the repository, with `/`.
    path: String,
    /// `eventlog` for `src/eventlog/record.rs` and for `src/eventlog.rs`.
    module: String,
    text: String,
}

/// One row of the table.
struct Rule {
    modules: BTreeSet<String>,
    banned_crates: BTreeSet<String>,
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let rules = dependency_table();
    let everyone = &rules["every module"].modules;
    let mut faults = Vec::new();
    for source in sources() {
        let code = code_without_tests(&source);
        let Some(rule) = rules.get(&source.module) else {
            faults.push(format!("{}: module `{}` has no row under \"{TABLE_HEADING}\"", source.path, source.module));
            continue;
        };
        for used in modules_used(&code) {
            let own = used == source.module || source.module == "lib";
            if !own && !everyone.contains(&used) && !rule.modules.contains(&used) {
                faults.push(format!(
                    "{}: `{}` uses `{used}`, the table allows it {}; move the code, or change the table and say why",
                    source.path,
                    source.module,
                    list(&rule.modules)
                ));
            }
        }
        for banned in &rule.banned_crates {
            if uses_crate(&code, banned) {
                faults.push(format!("{}: `{}` must not use the crate `{banned}`", source.path, source.module));
            }
        }
    }
    report(&faults);
}

#[test]
fn the_table_has_no_cycle_and_no_stranger() {
    let rules = dependency_table();
    let mut faults = Vec::new();
    let mut done = BTreeSet::new();
    for (module, rule) in &rules {
        for used in &rule.modules {
            if !rules.contains_key(used) {
                faults.push(format!("ARCHITECTURE.md: `{module}` may use `{used}`, which has no row of its own"));
            }
        }
        find_cycle(module, &rules, &mut Vec::new(), &mut done, &mut faults);
    }
    report(&faults);
}

#[test]
fn the_architecture_names_what_exists() {
    let architecture = read("ARCHITECTURE.md");
    let rules = dependency_table();
    let mut faults = Vec::new();
    let modules: BTreeSet<String> = sources().iter().map(|source| source.module.clone()).collect();
    for documented in rules.keys().filter(|name| *name != "every module" && !modules.contains(*name)) {
        faults.push(format!("ARCHITECTURE.md: there is no module `{documented}` in src/"));
    }
    for source in sources() {
        let file = Path::new(&source.path).file_stem().unwrap().to_str().unwrap();
        let row = architecture.lines().find(|line| {
            line.starts_with(&format!("| `{}.rs`", source.module))
                || line.starts_with(&format!("| `{}/`", source.module))
        });
        match row {
            None => faults.push(format!("ARCHITECTURE.md: the code map has no row for module `{}`", source.module)),
            Some(row) if file != "mod" && file != source.module && !row.contains(&format!("`{file}`")) => {
                faults.push(format!(
                    "ARCHITECTURE.md: the code map's row for `{}` does not name `{file}`",
                    source.module
                ));
            }
            Some(_) => {}
        }
    }
    report(&faults);
}

#[test]
fn a_file_is_one_noun() {
    let mut faults = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            faults
                .push(format!("{}: the first line must be a `//!` header that says what the file holds", source.path));
        }
        let lines = without_tests(&source.text).len();
        let allowance = LONG_FILES.iter().find(|(path, ..)| *path == source.path);
        assert!(allowance.is_none_or(|(.., reason)| !reason.is_empty()), "{}: say why it may be longer", source.path);
        let limit = allowance.map_or(LONGEST_FILE, |(_, limit, _)| *limit);
        if lines > limit {
            faults
                .push(format!("{}: {lines} lines without tests, at most {limit}; look for a second noun", source.path));
        }
        if allowance.is_some() && lines <= LONGEST_FILE {
            faults.push(format!("{}: {lines} lines without tests need no entry in LONG_FILES", source.path));
        }
        if ["utils", "util", "misc", "helpers", "common"]
            .iter()
            .any(|name| source.path.ends_with(&format!("{name}.rs")))
        {
            faults.push(format!("{}: not a noun of the field; put each function beside what it works on", source.path));
        }
    }
    report(&faults);
}

#[test]
fn the_program_does_not_panic_on_purpose() {
    let mut faults = Vec::new();
    for source in sources() {
        let code = code_without_tests(&source);
        for ((number, _), line) in without_tests(&source.text).iter().zip(code.lines()) {
            for word in [".unwrap()", ".expect(", "todo!(", "unimplemented!(", "dbg!("] {
                if line.contains(word) {
                    faults.push(format!("{}:{}: `{word}` outside tests; return a typed error", source.path, number));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn text_files_are_clean() {
    let mut files = Vec::new();
    for dir in ["src", "tests", "benches", "examples", "scripts", "docs", ".ci", "proto"] {
        walk(&root().join(dir), &mut files);
    }
    for name in
        ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "Cargo.toml", "clippy.toml", "deny.toml"]
    {
        files.push(root().join(name));
    }
    let mut faults = Vec::new();
    for path in files {
        let text_like = ["rs", "py", "sh", "md", "toml", "txt", "proto"];
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if !text_like.contains(&extension) || !path.exists() {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else {
            faults.push(format!("{}: not UTF-8", path.display()));
            continue;
        };
        let name = path.strip_prefix(root()).unwrap().display();
        for (number, line) in text.lines().enumerate() {
            if line.contains('\t') {
                faults.push(format!("{name}:{}: a tab", number + 1));
            }
            if line.ends_with(' ') || line.ends_with('\r') {
                faults.push(format!("{name}:{}: space at the end of the line", number + 1));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            faults.push(format!("{name}: no newline at the end"));
        }
    }
    report(&faults);
}

/// Share of comment lines that may open with a question word, in percent: "How many", "What is". Noun phrases are read once.
const MOST_QUESTIONS: usize = 2;

#[test]
fn comments_open_with_nouns_and_verbs() {
    let (mut lines, mut questions, mut headers) = (0, Vec::new(), Vec::new());
    for path in rust_files() {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let Some(text) = comment(line) else { continue };
            lines += 1;
            if opens_with_question(text) && number == 0 {
                headers.push(format!("{name}: the header opens with a question word: {text}"));
            }
            if opens_with_question(text) {
                questions.push(format!("{name}:{}: {text}", number + 1));
            }
        }
    }
    assert!(lines > 1000, "only {lines} lines of comments were found");
    report(&headers);
    if questions.len() * 100 > lines * MOST_QUESTIONS {
        questions.push(format!("of {lines} lines at most {MOST_QUESTIONS} % may open with a question word"));
        report(&questions);
    }
}

#[test]
fn questions_are_told_from_other_openings() {
    for (line, asks) in [
        ("    /// How many rows.", Some(true)),
        ("//! Where the files are.", Some(true)),
        ("// Whenever it fails.", Some(false)),
        ("/// Rows. What is left.", Some(false)),
        ("///", None),
        ("let a = 1; // What", None),
    ] {
        assert_eq!(comment(line).map(opens_with_question), asks, "{line}");
    }
}

#[test]
fn the_reader_of_sources_sees_through_comments_strings_and_groups() {
    let code = code_only(
        r##"
        use crate::{exit::Exit, types};   // crate::comment
        let a = "crate::string"; let b = r#"crate::raw "quoted""#; let c = '"'; let life: &'static str = x;
        /* crate::block /* nested */ crate::still */ use trainer::cli; use super::inside; let d = tch::Kind::Float;
        "##,
    );
    assert_eq!(modules_used(&code).into_iter().collect::<Vec<_>>(), ["cli", "exit", "types"]);
    assert!(uses_crate(&code, "tch"));
    assert!(!uses_crate("let a = my_tch::x; let b = self.tch;", "tch"));
    let text = "#[cfg(test)]\nuse a;\nb\n#[cfg(test)]\nfn c() {\n}\nd\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(without_tests(text), [(3, "b"), (7, "d")]);
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Every Rust file of the repository.
fn rust_files() -> Vec<PathBuf> {
    let mut files = vec![root().join("build.rs")];
    for dir in ["src", "crates", "tests", "benches", "examples"] {
        walk(&root().join(dir), &mut files);
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files
}

/// Text of a line that holds nothing but a comment.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?.trim_start_matches(['/', '!']).trim();
    (!text.is_empty()).then_some(text)
}

fn opens_with_question(text: &str) -> bool {
    let first = text.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    ["What", "How", "Whether", "Who", "Whom", "Whose", "Where", "Which", "When", "Why"].contains(&first)
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    let mut sources = Vec::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs")) {
        let inside = path.strip_prefix(root().join("src")).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        sources.push(Source {
            path: format!("src/{}", inside.to_str().unwrap().replace('\\', "/")),
            module: first.trim_end_matches(".rs").to_owned(),
            text: fs::read_to_string(path).unwrap(),
        });
    }
    assert!(!sources.is_empty(), "no sources found");
    sources
}

/// Rows `| modules | of ours | crates never |`; a name stands in backticks, other words are for the reader.
fn dependency_table() -> BTreeMap<String, Rule> {
    let architecture = read("ARCHITECTURE.md");
    let mut rules = BTreeMap::new();
    let section = architecture.split(TABLE_HEADING).nth(1).expect("ARCHITECTURE.md has the section of the table");
    let section = section.split("\n## ").next().unwrap();
    for line in section.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 3, "ARCHITECTURE.md: a row of three cells: {line}");
        let mut names = quoted(cells[0]);
        if cells[0].trim() == "every module" {
            names.insert("every module".to_owned());
        }
        for name in names {
            let rule = Rule { modules: quoted(cells[1]), banned_crates: quoted(cells[2]) };
            let before = rules.insert(name.clone(), rule);
            assert!(before.is_none(), "ARCHITECTURE.md: `{name}` has two rows");
        }
    }
    assert!(rules.contains_key("every module"), "ARCHITECTURE.md: no row for `every module` under {TABLE_HEADING}");
    rules
}

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn find_cycle(
    module: &str,
    rules: &BTreeMap<String, Rule>,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
    faults: &mut Vec<String>,
) {
    if let Some(start) = path.iter().position(|seen| seen == module) {
        faults.push(format!("ARCHITECTURE.md: a cycle: {} -> {module}", path[start..].join(" -> ")));
        return;
    }
    if !done.contains(module) {
        path.push(module.to_owned());
        for used in rules.get(module).map(|rule| &rule.modules).into_iter().flatten() {
            find_cycle(used, rules, path, done, faults);
        }
        path.pop();
        done.insert(module.to_owned());
    }
}

/// The lines, with their numbers, that are in the program: without items under `#[cfg(test)]`, of which a module stands
/// last in its file.
fn without_tests(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut lines = (1..).zip(text.lines()).peekable();
    while let Some((number, line)) = lines.next() {
        if line != "#[cfg(test)]" {
            kept.push((number, line));
            continue;
        }
        if lines.peek().is_some_and(|(_, next)| next.starts_with("mod ") || next.contains(" mod ")) {
            break;
        }
        // rustfmt puts the end of an item in the first column.
        let mut opened = false;
        for (_, inside) in lines.by_ref() {
            opened |= inside.ends_with('{');
            if inside == "}" || (!opened && inside.ends_with(';')) {
                break;
            }
        }
    }
    kept
}

fn code_without_tests(source: &Source) -> String {
    let lines: Vec<&str> = without_tests(&source.text).into_iter().map(|(_, line)| line).collect();
    code_only(&lines.join("\n"))
}

/// The source with comments, strings and character literals blanked; line numbers stay.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let blank = |out: &mut String, from: usize, to: usize| {
        out.extend(chars[from..to.min(chars.len())].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    };
    while i < chars.len() {
        let start = i;
        let next = chars.get(i + 1).copied();
        let ident_before = i > 0 && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_');
        if chars[i] == '/' && next == Some('/') {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if chars[i] == '/' && next == Some('*') {
            let mut depth = 0;
            while i < chars.len() {
                match (chars[i], chars.get(i + 1)) {
                    ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
                    ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        } else if chars[i] == 'r' && !ident_before && raw_string_hashes(&chars[i + 1..]).is_some() {
            let hashes = raw_string_hashes(&chars[i + 1..]).unwrap();
            i += 2 + hashes;
            while i < chars.len()
                && !(chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes)
            {
                i += 1;
            }
            i += 1 + hashes;
        } else if chars[i] == '"' {
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if chars[i] == '\'' && next == Some('\\') {
            i += 3;
            while i < chars.len() && chars[i] != '\'' {
                i += 1;
            }
            i += 1;
        } else if chars[i] == '\'' && chars.get(i + 2) == Some(&'\'') {
            i += 3;
        } else {
            out.push(chars[i]);
            i += 1;
            continue;
        }
        blank(&mut out, start, i);
    }
    out
}

/// How many `#` stand before the quote of a raw string, if one begins after the `r`.
fn raw_string_hashes(after: &[char]) -> Option<usize> {
    let hashes = after.iter().take_while(|c| **c == '#').count();
    (after.get(hashes) == Some(&'"')).then_some(hashes)
}

/// First path segments after `crate::`, and after `trainer::` in the binary, groups included.
fn modules_used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for prefix in ["crate::", "trainer::"] {
        for (at, _) in code.match_indices(prefix) {
            if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = code[at + prefix.len()..].trim_start();
            match rest.strip_prefix('{') {
                None => used.extend(module_name(rest)),
                Some(group) => {
                    let mut depth = 0;
                    let mut fresh = true;
                    for (i, c) in group.char_indices() {
                        match c {
                            '{' => depth += 1,
                            '}' if depth == 0 => break,
                            '}' => depth -= 1,
                            ',' if depth == 0 => fresh = true,
                            c if fresh && !c.is_whitespace() => {
                                used.extend(module_name(&group[i..]));
                                fresh = false;
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
    }
    used
}

/// A lower-case name: items at the crate's root, such as macros and constants, are not modules.
fn module_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let is_macro = text[name.len()..].starts_with('!');
    (!is_macro && name.starts_with(|c: char| c.is_ascii_lowercase())).then_some(name)
}

fn uses_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.' || c == ':')
            || code[..at].ends_with(" ::");
        let in_use = code[..at].ends_with("use ");
        starts && (after.starts_with("::") || (in_use && after.starts_with(';')))
    })
}

fn list(names: &BTreeSet<String>) -> String {
    match names.len() {
        0 => "nothing but what every module may use".to_owned(),
        _ => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n  {}\n", faults.join("\n  "));
}
