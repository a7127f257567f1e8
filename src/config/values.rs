//! From the text that somebody typed to a value in its range, or to what was wanted instead.

use super::DeviceChoice;

pub(super) fn store<T>(place: &mut T, parsed: Result<T, String>) -> Result<(), String> {
    *place = parsed?;
    Ok(())
}

/// A whole number in a range.
pub(super) fn number<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, String> {
    let want = || match most {
        u64::MAX => format!("a whole number, at least {least}"),
        _ => format!("a whole number from {least} to {most}"),
    };
    let value: u64 = text.parse().map_err(|_| want())?;
    if value < least || value > most {
        return Err(want());
    }
    T::try_from(value).map_err(|_| want())
}

pub(super) fn real(text: &str, in_range: fn(f64) -> bool, want: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && in_range(value) => Ok(value),
        _ => Err(want.to_owned()),
    }
}

pub(super) fn optional<T>(
    text: &str,
    none: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text == none { Ok(None) } else { parse(text).map(Some).map_err(|want| format!("`{none}` or {want}")) }
}

pub(super) fn one_of<T: Copy>(text: &str, named: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    named
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| wanted(&names, nearest(text, names.iter().copied())))
}

/// What was wanted, and which of it was probably meant.
pub(super) fn wanted(names: &[&str], near: Option<&str>) -> String {
    let list: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let want = match list.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => list.concat(),
    };
    match near {
        Some(near) => format!("{want}; did you mean `{near}`?"),
        None => want,
    }
}

/// The word most like `text`, if any is like it at all.
pub(super) fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words
        .map(|word| (strsim::jaro_winkler(text, word), word))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

pub(super) fn device(text: &str) -> Result<DeviceChoice, String> {
    match text {
        "auto" => Ok(DeviceChoice::Auto),
        "cpu" => Ok(DeviceChoice::Cpu),
        "cuda" => Ok(DeviceChoice::Cuda(0)),
        _ => text
            .strip_prefix("cuda:")
            .and_then(|index| index.parse().ok())
            .filter(|index| *index < 128)
            .map(DeviceChoice::Cuda)
            .ok_or_else(|| "`auto`, `cpu`, `cuda` or `cuda:N`".to_owned()),
    }
}

pub(super) fn widths(text: &str) -> Result<Vec<usize>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let parsed = text.split(',').map(|part| number(part.trim(), 1, 65_536)).collect::<Result<Vec<usize>, String>>();
    match parsed {
        Ok(widths) if widths.len() <= 64 => Ok(widths),
        _ => Err("`none` or up to 64 whole numbers from 1 to 65536 with commas between, such as `32,64`".to_owned()),
    }
}
