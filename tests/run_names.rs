//! Run names: none leads out of its log directory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::path::Component;
use std::path::Path;

use support::{Sandbox, proof};
use trainer::rng::Purpose;
use trainer::rng::Stream;
use trainer::run_name::RunName;
use trainer::run_name::Template;
use trainer::types::Seed;
use trainer::types::WallTime;

/// True for a safe and portable name; independent of the code under test.
fn is_plain(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let is_component = Path::new(name).components().collect::<Vec<_>>() == [Component::Normal(name.as_ref())];
    (1..=128).contains(&name.len())
        && name.bytes().all(fits)
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && !name.contains("..")
        && !name.ends_with('.')
        && is_component
}

fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "",
        " ",
        ".",
        "..",
        "...",
        "../",
        "../..",
        "../x",
        "a/..",
        "a/../..",
        "a/../../b",
        "./a",
        "a/.",
        "a/./b",
        "/",
        "//",
        "/etc",
        "/etc/passwd",
        "//proc/self/root",
        "/proc/self/fd/3",
        "/dev/null",
        "~",
        "~root",
        "~/x",
        "$HOME",
        "${HOME}",
        "$(id)",
        "`id`",
        "a;b",
        "a&b",
        "a|b",
        "a>b",
        "a<b",
        "a*b",
        "a?b",
        "a[b]",
        "a{b}",
        "a!b",
        "a#b",
        "a#/../../b",
        "a%b",
        "a^b",
        "a(b)",
        "a'b",
        "a\"b",
        "a\\b",
        "a b",
        " a",
        "a ",
        "a,b",
        "a:b",
        "a=b",
        "a+b",
        "a@b",
        "%2e%2e%2f",
        "%2e%2e/x",
        "..%2f",
        "%2f",
        "%00",
        "..%c0%af",
        "..%252f",
        "..;/",
        "..\\",
        "..\\..\\x",
        "C:\\x",
        "C:",
        "\\\\host\\share",
        "a\0b",
        "\0",
        "a\0.txt",
        "a\nb",
        "a\r\nb",
        "a\n",
        "\n",
        "a\tb",
        "\u{7f}",
        "\u{1b}[31m",
        "\u{1b}]0;x\u{7}",
        "-",
        "--",
        "-rf",
        "--help",
        "-a",
        "_",
        "_a",
        ".a",
        ".trash-1-a",
        ".tmp-a",
        ".git",
        "a.",
        "a..",
        "a..b",
        "a...b",
        "..a",
        "a.-.b",
        "a-",
        "a_",
        "a--b",
        "CON",
        "con",
        "NUL",
        "COM1",
        "LPT9",
        "AUX.txt",
        "nul.",
        "train",
        "checkpoints",
        "run.lock",
        "0",
        "1e3",
        "true",
        "null",
        "é",
        "aé",
        "ünï",
        "日本",
        "a\u{301}",
        "\u{202e}gpj.a",
        "a\u{202e}b",
        "\u{200f}a",
        "a\u{200b}b",
        "\u{feff}a",
        "a\u{2028}b",
        "a\u{2029}b",
        "a\u{a0}b",
        "a\u{2024}b",
        "\u{ff0e}\u{ff0e}\u{ff0f}",
        "a\u{2215}b",
        "a\u{2044}b",
        "a\u{ff0f}b",
        "\u{ff21}",
        "\u{430}",
        "a\u{fe0f}",
        "😀",
        "\u{10ffff}",
        "\u{fffd}",
        "Z",
        "z9",
        "9Z",
    ]
    .map(str::to_owned)
    .into();
    // Every control character and punctuation mark, inside and before a name.
    for c in (0..=0x2f).chain(0x3a..=0x40).chain(0x5b..=0x60).chain(0x7b..=0xa0).filter_map(char::from_u32) {
        names.extend([format!("a{c}b"), format!("{c}a")]);
    }
    for length in [127, 128, 129, 255, 256, 4096, 1 << 20] {
        names.extend([".", "a", "../", "é", "a.", "{{"].map(|part| part.repeat(length)[..].to_owned()));
    }
    names
}

#[test]
fn no_name_leads_out_of_the_log_directory() {
    let sandbox = Sandbox::new();
    sandbox.create_dir("above/logs");
    sandbox.write("above/canary/config.toml", "mine");
    sandbox.link("above/logs/away", "../canary");
    let canary = sandbox.tree();
    let logdir = sandbox.path("above/logs");
    let names = hostile_names();
    let (mut points, mut taken) = (0, Vec::new());
    for name in &names {
        let lookup = |_: &str| Some(name.clone());
        let made = [
            RunName::new(name.clone()).ok(),
            Template::parse(name).ok().and_then(|template| template.name(WallTime::default(), &lookup).ok()),
            Template::parse("{host}").unwrap().name(WallTime::default(), &lookup).ok(),
            Template::parse("a{seed}-{host}").unwrap().name(WallTime::default(), &lookup).ok(),
        ];
        for run in made.into_iter().flatten() {
            assert!(is_plain(run.as_str()), "{name:?} gives {:?}", run.as_str());
            let path = run.within(&logdir).unwrap();
            assert_eq!(path.parent(), Some(logdir.as_path()));
            std::fs::create_dir_all(&path).unwrap();
            taken.push(path);
        }
        points += 1;
    }
    assert!(points >= 200, "{points}");
    assert_eq!(RunName::new("CON").unwrap().as_str(), "CON");
    for name in ["../x", "/etc", "%2e%2e%2f", "a\0b", "a\r\nb", "a\u{202e}b", &"a".repeat(4096)] {
        assert!(RunName::new(name).is_err(), "{name:?}");
    }
    assert_eq!(trainer::exit::Classify::exit(&RunName::new("away").unwrap().within(&logdir).unwrap_err()).code(), 73);
    for path in taken {
        let _ = std::fs::remove_dir(path);
    }
    assert_eq!(sandbox.tree(), canary, "something was made elsewhere");
    proof(&format!("X hostile run names: {points} points, 0 failures"));
}

#[test]
fn no_template_makes_a_name_that_is_not_plain() {
    const POINTS: u64 = 100_000;
    let seeds = [
        "{date}-{time}",
        "{datetime}",
        "mnist-s{seed}_lr{learning-rate}",
        "{host}.{dataset}",
        "{{{seed}}}",
        "a{{b}}c",
        "{conv-filters}-{dense-units}",
        "run",
        "{learning_rate}",
    ];
    let parts = [
        "{", "}", "{{", "}}", "{date}", "{seed}", "{host}", "{dat}", "{}", ".", "..", "/", "-", "_", "\0", "é",
        "\u{202e}", "a", "0", " ", "{a", "b}",
    ];
    let values = ["", ".", "..", "../../etc", "1e-3", "a\0", "é", "-", "{date}", "x.", &"y".repeat(200)];
    let mut chance = Stream::new(Seed(1), Purpose::Initialise, 0, 0);
    let (mut accepted, mut named) = (0, 0);
    for point in 0..POINTS {
        let mut below = |n: usize| usize::try_from(chance.below(n as u64)).unwrap();
        let mut text: Vec<char> = seeds[below(seeds.len())].chars().collect();
        for _ in 0..=below(4) {
            let at = below(text.len() + 1);
            match below(3) {
                0 => drop(text.splice(at..at, parts[below(parts.len())].chars())),
                1 => drop(text.drain(at..(at + 1 + below(3)).min(text.len()).max(at))),
                _ => text.extend_from_within(at..),
            }
        }
        let text: String = text.into_iter().collect();
        let (value, now) = (values[below(values.len())], WallTime::from_secs(below(1 << 40) as f64).unwrap());
        let Ok(template) = Template::parse(&text) else { continue };
        accepted += 1;
        assert_eq!(template.to_string(), text);
        let Ok(name) = template.name(now, &|_| Some(value.to_owned())) else { continue };
        named += 1;
        assert!(is_plain(name.as_str()), "point {point}: {text:?} with {value:?} gives {:?}", name.as_str());
    }
    assert!(
        accepted > POINTS / 20 && named > POINTS / 50,
        "{accepted} templates, {named} names: too few to say anything"
    );
    proof(&format!("X run-name templates: {POINTS} points, 0 failures"));
}
