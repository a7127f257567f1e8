//! Paths as somebody gives them, and a path as text that leads to it again, whatever bytes its name has.
//!
//! A `~` that no shell has seen means the home directory, and `file:` URLs mean their path. Where a path has to be text,
//! as in `config.toml`, one that is not UTF-8 is such a URL: `file:///logs/a%FF`.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Bytes of the longest path that Linux takes.
const LONGEST: usize = 4095;
const FILE: &str = "file";
/// Schemes of places outside of the machine that people write without the two slashes, too: `hdfs:/logs`.
const REMOTE: [&str; 14] =
    ["abfs", "abfss", "adl", "az", "ftp", "gcs", "gs", "hdfs", "s3", "s3a", "s3n", "viewfs", "wasb", "wasbs"];

/// The path that an argument or a variable names, or what is wanted instead.
pub fn path_of(given: &OsStr) -> Result<PathBuf, String> {
    match given.to_str() {
        Some(text) => parse(text),
        None => checked(PathBuf::from(given)),
    }
}

/// The path that a text names, or what is wanted instead.
pub fn parse(text: &str) -> Result<PathBuf, String> {
    parse_at(text, std::env::var_os("HOME").map(PathBuf::from).as_deref())
}

fn parse_at(text: &str, home: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(rest) = text.strip_prefix('~') {
        if !rest.is_empty() && !rest.starts_with('/') {
            return Err(format!("a path: only a shell knows the home of another user; `./{text}` is a directory here"));
        }
        let home = home.filter(|home| home.is_absolute());
        let home = home.ok_or("a path without `~`, as the variable HOME does not say where that is")?;
        return checked(home.join(rest.trim_start_matches('/')));
    }
    match scheme(text) {
        None => checked(PathBuf::from(text)),
        Some(scheme) if scheme.eq_ignore_ascii_case(FILE) => {
            let path = path_of_url(&text[FILE.len() + 1..]);
            checked(path.ok_or("file:///, an absolute path, and %XX for bytes that need it")?)
        }
        Some(scheme) => Err(format!(
            "a path on this machine, as nothing is read from or written to {scheme}://; mount it, or copy afterwards"
        )),
    }
}

/// A path of a length and with bytes that the system takes.
fn checked(path: PathBuf) -> Result<PathBuf, String> {
    let bytes = path.as_os_str().as_bytes();
    match bytes {
        [] => Err("a path".to_owned()),
        _ if bytes.contains(&0) => Err("a path".to_owned()),
        [.., b'\n' | b'\r'] => Err("a path without a newline at its end".to_owned()),
        _ if bytes.len() > LONGEST => Err(format!("a path of at most {LONGEST} bytes, not {}", bytes.len())),
        _ => Ok(path),
    }
}

/// `s3` of `s3://bucket`, and `file` of `file:/logs`, which is a URL as well. `run:3` is a path.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    let is_known = scheme.eq_ignore_ascii_case(FILE) || REMOTE.iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let is_one = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (is_known || (is_one && rest.starts_with("//"))).then_some(scheme)
}

/// The path of what follows `file:`.
fn path_of_url(rest: &str) -> Option<PathBuf> {
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.bytes();
    while let Some(byte) = left.next() {
        if byte == b'%' {
            let mut digit = || char::from(left.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let path = PathBuf::from(OsString::from_vec(bytes));
    path.is_absolute().then_some(path)
}

/// A text that [`parse`] takes for `path`: its own wherever it can be.
pub fn text_of(path: &Path) -> String {
    match path.to_str() {
        Some(text) if text.starts_with('~') || scheme(text).is_some() => format!("./{text}"),
        Some(text) => text.to_owned(),
        None => url_of(path),
    }
}

/// A path given as text, made independent of the working directory and the user.
pub(super) fn settled(text: String) -> String {
    if !text.starts_with('~') && scheme(&text).is_none() {
        return text;
    }
    parse(&text).map_or(text, |path| text_of(&path))
}

fn url_of(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut url = format!("{FILE}://");
    for &byte in absolute.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_home(text: &str) -> Result<PathBuf, String> {
        parse_at(text, Some(Path::new("/home/ann")))
    }

    #[test]
    fn a_path_is_what_was_meant() {
        for (text, want) in [
            ("logs/fit", "logs/fit"),
            ("~", "/home/ann/"),
            ("~/logs", "/home/ann/logs"),
            ("~//logs", "/home/ann/logs"),
            ("./~/logs", "./~/logs"),
            ("a/~", "a/~"),
            ("file:///logs/a%20b", "/logs/a b"),
            ("file://localhost/logs", "/logs"),
            ("FILE:/logs", "/logs"),
            ("a://b", "a://b"),
            ("./s3://b", "./s3://b"),
            ("2024:/x", "2024:/x"),
            ("host:/export", "host:/export"),
            ("a\nb", "a\nb"),
        ] {
            let found = at_home(text);
            if text == "a://b" {
                assert!(found.unwrap_err().contains("to a://; mount it"));
                continue;
            }
            assert_eq!(found.as_deref(), Ok(Path::new(want)), "{text}");
        }
        assert_eq!(at_home("file:///a%FF").unwrap().as_os_str().as_bytes(), b"/a\xff");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, want) in [
            ("", "a path"),
            ("a\0b", "a path"),
            ("file:///a%00", "a path"),
            ("x\n", "a path without a newline at its end"),
            ("x\r\n", "a path without a newline at its end"),
            ("~bob/logs", "a path: only a shell knows the home of another user; `./~bob/logs` is a directory here"),
            (
                "gs://bucket/x",
                "a path on this machine, as nothing is read from or written to gs://; mount it, or copy afterwards",
            ),
            ("file://host/x", "file:///, an absolute path, and %XX for bytes that need it"),
            ("file:rel", "file:///, an absolute path, and %XX for bytes that need it"),
            ("file:///a%F", "file:///, an absolute path, and %XX for bytes that need it"),
            ("file:///a%zz", "file:///, an absolute path, and %XX for bytes that need it"),
        ] {
            assert_eq!(at_home(text), Err(want.to_owned()), "{text:?}");
        }
        for url in ["s3://x", "gs://x", "hdfs:///x", "hdfs:/x", "https://x", "az://x", "S3://x", "wasb:x", "viewfs:/x"]
        {
            assert!(at_home(url).unwrap_err().starts_with("a path on this machine"), "{url}");
        }
        assert_eq!(at_home(&"x".repeat(5000)), Err("a path of at most 4095 bytes, not 5000".to_owned()));
        for home in [None, Some(Path::new("")), Some(Path::new("ann"))] {
            let error = parse_at("~/logs", home).unwrap_err();
            assert_eq!(error, "a path without `~`, as the variable HOME does not say where that is");
        }
    }

    #[test]
    fn a_path_leads_back_to_itself_by_its_text() {
        for bytes in [&b"logs/fit"[..], b"/a b", b"~", b"~/x", b"s3://b", b"file:/x", b"/a\xff/b%20", b"a\nb"] {
            let path = Path::new(OsStr::from_bytes(bytes));
            let back = parse(&text_of(path)).unwrap();
            assert_eq!(std::path::absolute(back).unwrap(), std::path::absolute(path).unwrap(), "{path:?}");
        }
        assert_eq!(text_of(Path::new(OsStr::from_bytes(b"/a\xff/b%20 ~"))), "file:///a%FF/b%2520%20~");
        let relative = Path::new(OsStr::from_bytes(b"a\xff"));
        assert_eq!(parse(&text_of(relative)).unwrap(), std::path::absolute(relative).unwrap());
    }
}
