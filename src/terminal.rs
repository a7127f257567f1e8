//! Text for a terminal: nothing from outside steers it, and no column is wider than the caller allows.

use std::ffi::OsStr;

/// One line of printable characters.
///
/// Control characters, bidirectional marks and everything else that cannot be seen are shown as escapes, such as `\n`
/// and `\u{202e}`. Quotes and backslashes stay as they are: the text is for people.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for piece in text.split_inclusive(['\'', '"', '\\']) {
        let body = piece.trim_end_matches(['\'', '"', '\\']);
        // Of a whole piece, so that an accent stays on the letter before it.
        shown.extend(body.escape_debug());
        shown.push_str(&piece[body.len()..]);
    }
    shown
}

/// The same for a text of several lines: its line ends stay.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// A path or a name as a text; a byte that is not UTF-8 becomes `\xff`, so that distinct names stay distinct.
pub fn path_text(path: impl AsRef<OsStr>) -> String {
    let mut text = String::new();
    for chunk in path.as_ref().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

/// A path or a name in printable characters.
pub fn printable_path(path: impl AsRef<OsStr>) -> String {
    printable(&path_text(path))
}

/// The same JSON, with `\u` escapes for what could steer a terminal; line breaks between values stay.
pub fn safe_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, '\n' | '\'' | '"' | '\\') || c.escape_debug().len() == 1 {
            safe.push(c);
        } else {
            safe.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    safe
}

/// At most `most` characters; a longer text loses its middle.
pub fn shortened(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let tail = most.saturating_sub(1) / 2;
    let head = most.saturating_sub(1) - tail;
    text.chars().take(head).chain(['\u{2026}']).chain(text.chars().skip(count - tail)).collect()
}

/// Characters of a value, and of a line, that a message repeats.
const LONGEST_ECHO: usize = 160;

/// A value as a message repeats it: on one line, and no longer than can be read.
pub fn echoed(value: &str) -> String {
    shortened(&printable(value), LONGEST_ECHO)
}

/// A text of several lines as a message repeats it: no line is longer than can be read.
pub fn echoed_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| shortened(line, 2 * LONGEST_ECHO)).collect();
    lines.join("\n")
}

/// Side of a column on which its cells are aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Fills `cell` up to `width` characters, however wide: the widths of `format!` end at 65,535, and a wider one panics.
pub fn padded(cell: &str, width: usize, side: Side) -> String {
    let fill = " ".repeat(width.saturating_sub(cell.chars().count()));
    match side {
        Side::Left => format!("{cell}{fill}"),
        Side::Right => format!("{fill}{cell}"),
    }
}

/// A line for each row, with aligned columns two spaces apart; columns without a side are aligned on the left.
pub fn columns<R: AsRef<[String]>>(rows: &[R], sides: &[Side]) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.as_ref().iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let line = |row: &R| {
        let cells = row.as_ref().iter().zip(&widths).enumerate();
        let cells =
            cells.map(|(column, (cell, &width))| padded(cell, width, *sides.get(column).unwrap_or(&Side::Left)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        for (text, want) in [
            ("epoch_loss", "epoch_loss"),
            ("näm 損失 🙂", "näm 損失 🙂"),
            (r#"it's "C:\new""#, r#"it's "C:\new""#),
            ("a\nb\r\tc\0", r"a\nb\r\tc\0"),
            ("\u{1b}[2J\u{7}\u{9b}2J\u{7f}", r"\u{1b}[2J\u{7}\u{9b}2J\u{7f}"),
            ("\u{202e}gpj.exe\u{2066}\u{2069}\u{200f}\u{61c}", r"\u{202e}gpj.exe\u{2066}\u{2069}\u{200f}\u{61c}"),
            ("\u{200b}\u{feff}\u{2028}\u{2029}\u{e0041}", r"\u{200b}\u{feff}\u{2028}\u{2029}\u{e0041}"),
            // Decomposed, as macOS names files.
            ("e\u{301}te\u{301}", "e\u{301}te\u{301}"),
            ("''\n\"\\\n\\", "''\\n\"\\\\n\\"),
        ] {
            assert_eq!(printable(text), want, "{text:?}");
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(printable_lines("a\n\n\u{1b}[1mb\n"), "a\n\n\\u{1b}[1mb\n");
    }

    #[test]
    fn every_character_of_control_or_direction_is_shown_as_an_escape() {
        let marks = ('\u{200b}'..='\u{200f}').chain('\u{2028}'..='\u{202e}').chain('\u{2060}'..='\u{206f}');
        for mark in ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}').chain(marks).chain(['\u{61c}', '\u{feff}']) {
            assert!(!printable(&format!("a{mark}b")).contains(mark), "{mark:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf8_stay_distinct() {
        use std::os::unix::ffi::OsStrExt;
        let name = |bytes| printable_path(OsStr::from_bytes(bytes));
        assert_eq!(name(b"a\xff\xfe/b\n"), r"a\xff\xfe/b\n");
        assert_eq!(name("näm".as_bytes()), "näm");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let text = "a\"b\\\n\u{202e}\u{9b}\u{e0041}é";
        let json = serde_json::to_string_pretty(&[text]).unwrap();
        let safe = safe_json(&json);
        assert_eq!(safe, "[\n  \"a\\\"b\\\\\\n\\u202e\\u009b\\udb40\\udc41é\"\n]");
        assert_eq!(serde_json::from_str::<Vec<String>>(&safe).unwrap(), [text]);
    }

    #[test]
    fn what_is_repeated_is_short() {
        assert_eq!(echoed("a\nb"), r"a\nb");
        let long = "x".repeat(1 << 20);
        assert_eq!(echoed(&long).chars().count(), LONGEST_ECHO);
        assert_eq!(echoed_lines(&format!("a\n{long}\nb")).lines().count(), 3);
        assert!(echoed_lines(&long).len() < 1000);
    }

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(shortened("0123456789", 10), "0123456789");
        assert_eq!(shortened("0123456789a", 10), "01234…789a");
        assert_eq!(shortened("äöüäöü", 3), "ä…ü");
        assert_eq!(["abc", "ab", ""].map(|text| shortened(text, 0)), ["…", "…", ""]);
        assert_eq!(shortened("abc", 1), "…");
    }

    #[test]
    fn columns_of_any_width_are_aligned() {
        let rows = [["tag".to_owned(), "points".to_owned()], ["ä".to_owned(), "7".to_owned()]];
        assert_eq!(columns(&rows, &[Side::Left, Side::Right]), ["tag  points", "ä         7"]);
        assert_eq!(columns(&rows, &[]), ["tag  points", "ä    7"]);
        let wide = [vec!["x".repeat(70_000), String::new()], vec!["y".to_owned(), "z".to_owned()]];
        let lines = columns(&wide, &[Side::Right]);
        assert_eq!((lines[0].len(), lines[1].len()), (70_000, 70_003));
        assert!(lines[1].ends_with("y  z"));
    }
}
