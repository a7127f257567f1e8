//! `--profile`: a trace that Perfetto and Chrome can read, without any effect on the run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use support::{Sandbox, start};

/// Ten steps an epoch, each of two shards; steps 21 to 40 are recorded.
const FLAGS: &str = "--dataset synthetic --conv-filters 4,6 --dense-units 8 --epochs 5 --batch-size 64 --limit-train 640 \
                     --limit-validation 70 --observe none,scalars=every:1epoch,weights=every:1epoch,steps=every:1step";
const LAYERS: [&str; 7] = ["conv2d", "max_pooling2d", "conv2d_1", "max_pooling2d_1", "flatten", "dense", "dense_1"];

/// One `X` event, times in nanoseconds.
#[derive(Debug)]
struct Span {
    name: String,
    part: String,
    begin: u64,
    end: u64,
    thread: String,
    step: u64,
    /// Names of the enclosing spans, the outermost first.
    within: Vec<String>,
}

/// The spans of a trace, each with its enclosing spans. Fails if two overlap without one enclosing the other.
fn spans(text: &[u8]) -> Vec<Span> {
    let trace: serde_json::Value = serde_json::from_slice(text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let named = |what: &str| -> Vec<(u64, String)> {
        let events = events.iter().filter(|event| event["ph"] == "M" && event["name"] == what);
        events
            .map(|event| (event["tid"].as_u64().unwrap(), event["args"]["name"].as_str().unwrap().to_owned()))
            .collect()
    };
    assert_eq!(named("process_name"), [(0, "trainer".to_owned())]);
    let threads: BTreeMap<u64, String> = named("thread_name").into_iter().collect();
    let nanos = |micros: &serde_json::Value| (micros.as_f64().unwrap() * 1000.0).round() as u64;
    let mut spans: Vec<Span> = Vec::new();
    let mut open: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] != "M") {
        assert_eq!((&event["ph"], &event["pid"]), (&"X".into(), &events[0]["pid"]), "{event}");
        let thread = &threads[&event["tid"].as_u64().unwrap()];
        let begin = nanos(&event["ts"]);
        let end = begin + nanos(&event["dur"]);
        let stack = open.entry(thread).or_default();
        while stack.last().is_some_and(|&outer| spans[outer].end <= begin && spans[outer].end < end) {
            stack.pop();
        }
        if let Some(&outer) = stack.last() {
            assert!(spans[outer].begin <= begin && end <= spans[outer].end, "{event} overlaps {:?}", spans[outer]);
        }
        let within = stack.iter().map(|&outer| spans[outer].name.clone()).collect();
        stack.push(spans.len());
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        let (name, part, step) = (text("name"), text("cat"), event["args"]["step"].as_u64().unwrap());
        spans.push(Span { name, part, begin, end, thread: thread.clone(), step, within });
    }
    spans
}

/// Values of `of` for the spans named `name`.
fn seen<T: Ord>(spans: &[Span], name: &str, of: impl Fn(&Span) -> T) -> BTreeSet<T> {
    spans.iter().filter(|span| span.name == name).map(of).collect()
}

#[test]
fn a_profile_shows_every_part_of_a_step_on_its_thread_and_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.run(&format!("{FLAGS} --threads 1 --logdir plain")).succeeded();
    for threads in ["1", "2"] {
        let file = format!("trace-{threads}.json");
        let flags = format!("{FLAGS} --threads {threads} --logdir run-{threads} --profile {file}");
        let outcome = sandbox.run(&flags).succeeded();
        let told = format!("profile of 20 steps in {file}: open it in https://ui.perfetto.dev or chrome://tracing");
        assert!(outcome.says(&told), "{}", outcome.stderr);
        let weights = sandbox.read(&format!("run-{threads}/model.safetensors"));
        assert!(weights == sandbox.read("plain/model.safetensors"), "other weights with --profile");

        let spans = spans(&sandbox.read(&file));
        let workers: BTreeSet<String> = match threads {
            "1" => ["main".to_owned()].into(),
            _ => ["main".to_owned(), "train-1".to_owned()].into(),
        };
        assert_eq!(seen(&spans, "step", |span| span.step), (21..=40).collect());
        assert_eq!(seen(&spans, "step", |span| span.thread.clone()), ["main".to_owned()].into());
        assert_eq!(seen(&spans, "add gradients", |span| span.step), (21..=40).collect());
        assert_eq!(seen(&spans, "optimizer", |span| span.step), (21..=40).collect());
        // Observers without a measured time run in parallel, and so do the operators that they call.
        let looks = |span: &&Span| span.part == "observer" || span.part == "operator";
        let threads_of = |spans: Vec<&Span>| spans.iter().map(|span| span.thread.clone()).collect::<BTreeSet<_>>();
        assert_eq!(threads_of(spans.iter().filter(|span| !looks(span)).collect()), workers);
        let lookers: BTreeSet<String> = ["main".to_owned(), "train-1".to_owned(), "look-1".to_owned()].into();
        assert!(threads_of(spans.iter().filter(looks).collect()).is_subset(&lookers));
        for part in ["forward", "backward"] {
            let layers = || spans.iter().filter(|span| span.part == part);
            let names: BTreeSet<&str> = layers().flat_map(|span| span.name.split('+')).collect();
            assert_eq!(names, LAYERS.into_iter().chain(["loss"]).collect(), "{part}");
            assert_eq!(layers().map(|span| span.step).collect::<BTreeSet<_>>(), (21..=40).collect());
            assert_eq!(layers().map(|span| span.thread.clone()).collect::<BTreeSet<_>>(), workers);
            for layer in layers() {
                let want: &[&str] = if layer.thread == "main" { &["step", "shard", part] } else { &["shard", part] };
                assert_eq!(layer.within, want, "{layer:?}");
            }
        }
        // Observations after a step, and at the ends of epochs: the first epoch, and those within the 20 steps.
        assert_eq!(seen(&spans, "steps", |span| (span.part.clone(), span.step)).len(), 20);
        for (name, part) in [("scalars", "observer"), ("weights", "observer"), ("evaluation", "phase")] {
            let want = [10, 30, 40].map(|step| (part.to_owned(), step)).into();
            assert_eq!(seen(&spans, name, |span| (span.part.clone(), span.step)), want, "{name}");
        }
        assert_eq!(seen(&spans, "checkpoint", |span| span.step), [10, 30, 40].into());
        // Operators that observers call, within the observers' spans.
        let operators = spans.iter().filter(|span| span.part == "operator");
        let observed = operators.clone().filter(|span| span.within.iter().any(|outer| outer == "weights"));
        assert!(observed.clone().any(|span| span.name.starts_with("aten::")), "{observed:?}");
        assert!(operators.map(|span| span.step).all(|step| step <= 10 || (21..=40).contains(&step)));
        let pieces = spans.iter().filter(|span| span.name == "piece" && span.step == 10);
        assert_eq!(pieces.count(), 3, "70 images by 32");
    }
}

#[test]
fn a_run_that_is_stopped_leaves_its_profile_and_goes_on_with_another() {
    let sandbox = Sandbox::new();
    let endless = format!("{FLAGS} --epochs 1000000 --threads 2 --logdir run --profile run/trace.json");
    let run = |until_written: bool| {
        let mut command = sandbox.trainer(endless.split_whitespace());
        let mut running = start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let wanted = if until_written { "run/trace.json" } else { "run/train" };
        running.wait_until(wanted, || sandbox.path(wanted).exists());
        running.signal("TERM");
        let outcome = running.finish();
        assert_eq!(outcome.code(), 75, "{}", outcome.stderr);
        let is_there = sandbox.path("run/trace.json").exists();
        assert!(is_there || outcome.says("run/trace.json: not written, as no step was recorded"), "{}", outcome.stderr);
        if is_there { spans(&sandbox.read("run/trace.json")) } else { Vec::new() }
    };
    let remove = || drop(std::fs::remove_file(sandbox.path("run/trace.json")));
    // A stop at any time leaves a whole file or none; a complete trace is written before the end of the run.
    run(false);
    remove();
    let later = seen(&run(true), "step", |span| span.step);
    assert_eq!(later.len(), 20);
    remove();
    let last = seen(&run(true), "step", |span| span.step);
    assert!(last.first() > later.last(), "{last:?} after {later:?}");
    assert_eq!(last.len(), 20);
}

#[test]
fn a_step_that_a_signal_waits_for_is_in_the_profile() {
    let sandbox = Sandbox::new();
    let flags = "--dataset synthetic --batch-size 6000 --conv-filters 64,64 --epochs 9 --threads 1 --logdir run \
                 --observe none --profile trace.json";
    let mut command = sandbox.trainer(flags.split_whitespace());
    let mut running = start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    running.wait_until("the journal", || sandbox.path("run/metrics.jsonl").exists());
    running.signal("TERM");
    let outcome = running.finish();
    assert_eq!(outcome.code(), 75, "{}", outcome.stderr);
    assert!(outcome.says("profile of 1 step in trace.json: open it in"), "{}", outcome.stderr);
    assert_eq!(seen(&spans(&sandbox.read("trace.json")), "step", |span| span.step), [1].into());
}

#[test]
fn a_run_that_is_finished_has_nothing_to_profile() {
    let sandbox = Sandbox::new();
    let small = format!("{FLAGS} --epochs 1 --logdir run");
    sandbox.run(&small).succeeded();
    let outcome = sandbox.run(&format!("{small} --profile trace.json")).succeeded();
    assert!(outcome.says("profile trace.json: not written, as no step was recorded"), "{}", outcome.stderr);
    assert!(!sandbox.path("trace.json").exists());
}
