//! From the text that somebody typed to a value in its range, or to what was wanted instead.

use super::DeviceChoice;

pub(super) fn store<T>(place: &mut T, parsed: Result<T, String>) -> Result<(), String> {
    *place = parsed?;
    Ok(())
}

/// Accepted words, and the one that was probably meant.
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
