//! `trainer inspect`: reports on and rows from logs in awkward directories.

#![allow(clippy::unwrap_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use prost::Message;
use support::{Entry, Outcome, Sandbox, finish, is_root, program, skip};
use trainer::eventlog::proto::event::What;
use trainer::eventlog::proto::summary::{Value, value::Value as Wire};
use trainer::eventlog::proto::{Event, Summary};
use trainer::eventlog::record::{self, TooLong};

const NAME: &str = "events.out.tfevents.1700000000.host.1.0";

fn scalar(tag: &str, step: i64, number: f32) -> Event {
    let value = Value { tag: tag.to_owned(), value: Some(Wire::SimpleValue(number)), ..Value::default() };
    let what = Some(What::Summary(Summary { value: vec![value] }));
    Event { wall_time: 1_700_000_000.5, step, what, ..Event::default() }
}

fn log(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        record::append(&mut bytes, |buffer| {
            event.encode(buffer).unwrap();
            Ok::<(), TooLong>(())
        })
        .unwrap();
    }
    bytes
}

fn three_points(sandbox: &Sandbox, run: &str) {
    let events = [scalar("loss", 0, 0.1), scalar("loss", 1, f32::NAN), scalar("a,b", 1, 0.5)];
    sandbox.write(&format!("{run}/{NAME}"), log(&events));
}

fn inspect<S: AsRef<OsStr>>(sandbox: &Sandbox, arguments: impl IntoIterator<Item = S>) -> Outcome {
    finish(sandbox.trainer([OsStr::new("inspect")]).args(arguments))
}

#[test]
fn points_are_rows() {
    let sandbox = Sandbox::new();
    three_points(&sandbox, "logs/fit");
    let csv = inspect(&sandbox, ["logs", "--export", "csv"]).succeeded();
    assert_eq!(
        csv.stdout,
        "run,tag,step,wall_time,value\n\
         fit,\"a,b\",1,1700000000.5,0.5\n\
         fit,loss,0,1700000000.5,0.10000000149011612\n\
         fit,loss,1,1700000000.5,NaN\n"
    );
    assert_eq!(csv.stderr, "3 points of 2 scalars\n");
    let jsonl = inspect(&sandbox, ["logs", "--export", "jsonl"]).succeeded();
    let row = r#"{"run":"fit","tag":"loss","step":1,"wall_time":1700000000.5,"value":"NaN"}"#;
    assert_eq!(jsonl.stdout.lines().last(), Some(row));
    assert_eq!(inspect(&sandbox, ["logs", "--export", "csv", "--output", "all.csv"]).succeeded().stdout, "");
    assert_eq!(sandbox.read("all.csv"), csv.stdout.as_bytes());
}

#[test]
fn rows_are_written_whole_or_not_at_all() {
    let sandbox = Sandbox::new();
    three_points(&sandbox, "logs");
    sandbox.write("all.csv", "mine");
    sandbox.link("link", "all.csv");
    let before = sandbox.tree();
    for (output, code, says) in [
        ("link", 73, "cannot write link: it is a symbolic link, want a regular file"),
        ("logs", 73, "cannot write logs: it is a directory, want a regular file"),
        ("none/all.csv", 73, "cannot write none/all.csv: No such file or directory"),
        ("/dev/full", 73, "cannot write /dev/full: it is a device, want a regular file"),
    ] {
        let outcome = inspect(&sandbox, ["logs", "--export", "csv", "--output", output]);
        assert_eq!(outcome.code(), code, "{output}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(says), "{output}: {}", outcome.stderr);
        assert_eq!(sandbox.tree(), before, "{output}");
    }
    let outcome = inspect(&sandbox, ["missing", "--export", "csv", "--output", "all.csv"]);
    assert_eq!((outcome.code(), sandbox.tree() == before), (66, true), "{}", outcome.stderr);
    for (arguments, says) in [
        (&["logs", "--export", "parquet"][..], "export from command line: got `parquet`, want `jsonl` or `csv`"),
        (&["logs", "--output", "all.csv"], "--export <FORMAT>"),
        (&["logs", "--json", "--export", "csv"], "--json"),
    ] {
        let outcome = inspect(&sandbox, arguments);
        assert_eq!((outcome.code(), outcome.stderr.contains(says)), (64, true), "{}", outcome.stderr);
    }
}

#[test]
fn a_damaged_log_gives_the_rows_that_it_has() {
    let sandbox = Sandbox::new();
    let mut bytes = log(&[scalar("loss", 0, 0.5), scalar("loss", 1, 0.25)]);
    bytes.extend([0; 64]);
    sandbox.write(&format!("logs/{NAME}"), bytes);
    let outcome = inspect(&sandbox, ["logs", "--export", "csv", "--output", "all.csv"]);
    assert_eq!(outcome.code(), 65, "{}", outcome.stderr);
    assert_eq!(sandbox.read("all.csv").split(|&byte| byte == b'\n').count(), 4);
    for says in ["nothing but zeros from byte ", "64 of ", "2 points of 1 scalar\n"] {
        assert!(outcome.stderr.contains(says), "{}", outcome.stderr);
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let sandbox = Sandbox::new();
    let events: Vec<Event> = (0..50_000).map(|step| scalar("loss", step, 0.5)).collect();
    sandbox.write(&format!("logs/{NAME}"), log(&events));
    let mut command = sandbox.trainer(["inspect", "logs", "--export", "jsonl"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr)), (Some(0), "".into()));
}

#[test]
fn what_may_not_be_read_does_not_hide_the_rest() {
    let sandbox = Sandbox::new();
    three_points(&sandbox, "logs/a");
    three_points(&sandbox, "logs/locked");
    three_points(&sandbox, "logs/b");
    sandbox.create_dir("logs/lost+found");
    sandbox.write("logs/b/notes.txt", "not ours");
    let mode = |name: &str, mode| {
        std::fs::set_permissions(sandbox.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let file = format!("logs/locked/{NAME}");
    for name in ["logs/lost+found", &file, "logs/b/notes.txt"] {
        mode(name, 0o000);
    }
    mode("", 0o755);
    // Permission bits do not bind root, so another user runs the program.
    let command = |arguments: &[&str]| {
        if !is_root() {
            return sandbox.trainer(arguments);
        }
        let mut command = sandbox.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", program()]).args(arguments);
        command
    };
    let can = finish(&mut command(&["--version"]));
    if can.code() != 0 {
        return skip(&format!("nobody else can run the program here: {}", can.stderr));
    }
    let outcome = finish(&mut command(&["inspect", "logs"]));
    assert_eq!(outcome.code(), 77, "{}{}", outcome.stdout, outcome.stderr);
    for says in [
        "\nrun b\n".to_owned(),
        "left out logs/lost+found: Permission denied (os error 13)\n".to_owned(),
        format!("left out {file}: Permission denied (os error 13)\n"),
        "2 runs, 2 files, 6 records, ".to_owned(),
        "; all checksums are right; 2 left out\n".to_owned(),
    ] {
        assert!(format!("\n{}", outcome.stdout).contains(&says), "{says}: {}", outcome.stdout);
    }
    assert!(outcome.stderr.contains("logs: not all of it could be read, see above"), "{}", outcome.stderr);
    let outcome = finish(&mut command(&["inspect", "logs", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((outcome.code(), report["left_out"].as_array().unwrap().len()), (77, 2));
    let outcome = finish(&mut command(&["inspect", "logs", "--export", "csv"]));
    assert_eq!((outcome.code(), outcome.stdout.lines().count()), (77, 7), "{}", outcome.stderr);
    // A directory that can be listed but not entered.
    mode("logs/a", 0o644);
    let outcome = finish(&mut command(&["inspect", "logs"]));
    assert!(outcome.stdout.contains("; 3 left out\n") && outcome.code() == 77, "{}", outcome.stdout);
    for name in ["logs/a", "logs/lost+found", &file] {
        mode(name, 0o755);
    }
}

#[test]
fn nothing_under_the_name_of_an_event_file_is_waited_for() {
    let sandbox = Sandbox::new();
    three_points(&sandbox, "logs/a");
    for name in ["logs/a/tfevents.pipe", "logs/a/projector_config.pbtxt"] {
        assert!(finish(sandbox.command("mkfifo").arg(name)).status.success());
    }
    sandbox.link("logs/a/tfevents.zero", "/dev/zero");
    sandbox.link("logs/a/tfevents.self", "tfevents.self");
    sandbox.link("logs/a/tfevents.gone", "nowhere");
    sandbox.link("logs/a/round", "..");
    sandbox.create_dir("logs/tfevents.directory");
    let outcome = inspect(&sandbox, ["logs"]);
    assert_eq!(outcome.code(), 66, "{}", outcome.stderr);
    for says in [
        "tfevents.pipe: it is a named pipe, want a regular file\n",
        "tfevents.zero: it is a device, want a regular file\n",
        "; 2 left out\n",
    ] {
        assert!(outcome.stdout.contains(says), "{says}: {}", outcome.stdout);
    }
    let outcome = inspect(&sandbox, ["logs/a/tfevents.pipe"]);
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (66, ""), "{}", outcome.stderr);
}

#[test]
fn a_path_may_be_any_bytes() {
    let sandbox = Sandbox::new();
    three_points(&sandbox, "logs/plain");
    let odd = OsString::from_vec(b"od\xff\nd\xe2\x80\xae".to_vec());
    std::fs::rename(sandbox.path("logs/plain"), sandbox.path(Path::new("logs").join(&odd))).unwrap();
    std::fs::rename(sandbox.path("logs"), sandbox.path(&odd)).unwrap();
    let outcome = inspect(&sandbox, [&odd]).succeeded();
    assert!(outcome.stdout.starts_with("run od\\xff\\nd\\u{202e}\n"), "{}", outcome.stdout);
    let json = inspect(&sandbox, [OsStr::new("--json"), &odd]).succeeded().stdout;
    assert!(json.contains(r#""name": "od\\xff\nd\u202e""#) && !json.contains('\u{202e}'), "{json}");
    let missing = OsString::from_vec(b"\xffx\x1b[2J".to_vec());
    let outcome = inspect(&sandbox, [&missing]);
    assert_eq!(outcome.code(), 66);
    assert!(outcome.stderr.contains("no such file or directory: \\xffx\\u{1b}[2J"), "{}", outcome.stderr);
    let output = OsStr::from_bytes(b"\xff.csv");
    let arguments = [OsStr::new("--export"), OsStr::new("csv"), OsStr::new("--output"), output, &odd];
    inspect(&sandbox, arguments).succeeded();
    assert!(matches!(sandbox.tree().get(Path::new(output)), Some(Entry::File(_))));
}

#[test]
fn a_record_of_any_length_is_read() {
    let sandbox = Sandbox::new();
    let graph = Event { step: 0, what: Some(What::GraphDef(vec![7; 70 << 20])), ..Event::default() };
    let long = graph.encode_to_vec();
    let mut bytes = u64::to_le_bytes(long.len() as u64).to_vec();
    bytes.extend(trainer::eventlog::crc::MaskedCrc::of(&bytes).to_le_bytes());
    bytes.extend(&long);
    bytes.extend(trainer::eventlog::crc::MaskedCrc::of(&long).to_le_bytes());
    bytes.extend(log(&[scalar("loss", 3, 0.5)]));
    sandbox.write(&format!("logs/{NAME}"), &bytes);
    let outcome = inspect(&sandbox, ["logs"]).succeeded();
    for says in ["__run_graph__  graphs ", "70.0 MiB", "loss ", "2 records", "all checksums are right"] {
        assert!(outcome.stdout.contains(says), "{says}: {}", outcome.stdout);
    }
    let outcome = inspect(&sandbox, ["logs", "--export", "csv"]).succeeded();
    assert_eq!(outcome.stdout.lines().count(), 2);
    bytes[50 << 20] ^= 1;
    sandbox.write(&format!("logs/{NAME}"), &bytes);
    let outcome = inspect(&sandbox, ["logs"]);
    assert_eq!(outcome.code(), 65);
    assert!(
        outcome.stdout.contains("damaged: record at byte 0: payload checksum mismatch: got "),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stdout.contains("loss "), "{}", outcome.stdout);
}

#[test]
fn other_files_under_the_name_of_an_event_file_have_names() {
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:aaaa\nsize 12345\n";
    for (content, says) in [
        (
            b"\x1f\x8b\x08\x08\x75\x09\x0e\x6b\x02\xffevents".to_vec(),
            "compressed with gzip, which TensorBoard does not read",
        ),
        (b"\x28\xb5\x2f\xfd\x04\x00\x00\x00\x01\x02\x03\x04".to_vec(), "compressed with zstd"),
        (lfs.into(), "a Git LFS pointer instead of the file; fetch that with `git lfs pull`"),
        (b"I am a text about tfevents\n".to_vec(), "text, not an event file"),
        (vec![0; 100], "nothing but zeros from byte 0 to the end"),
    ] {
        let sandbox = Sandbox::new();
        let len = content.len();
        sandbox.write(&format!("logs/{NAME}"), content);
        let outcome = inspect(&sandbox, ["logs"]);
        assert_eq!(outcome.code(), 65, "{}", outcome.stdout);
        assert!(outcome.stdout.contains(says), "{says}: {}", outcome.stdout);
        assert!(outcome.stdout.contains(&format!("{len} of {len} bytes unread")), "{}", outcome.stdout);
    }
}
