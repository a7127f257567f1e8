//! Spans of each thread over a few steps, as a trace for Perfetto and Chrome.
//!
//! Trace Event Format: <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Thread, ThreadId};
use std::time::{Duration, Instant};

/// Steps of a process that are passed over: the first ones touch memory for the first time. Fewer where fewer than
/// [`RECORDED`] would be left.
const WARM_UP: u64 = 20;
/// Steps that are recorded after them, at most.
const RECORDED: u64 = 20;
/// Spans from which layers and operators are left out and no further step is recorded: some tens of megabytes of text.
const MOST_SPANS: usize = 1 << 18;
/// How every trace of ours begins.
pub const BEGINNING: &str = "{\"traceEvents\":[\n";

/// Collects spans of a run while something is worth recording: what is looked at before the first step, [`RECORDED`]
/// steps, and the end of the first epoch of this process. One that is [`Trace::default`] collects nothing, ever.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    origin: Instant,
    is_on: AtomicBool,
    /// The step that is running, or has been done last.
    step: AtomicU64,
    count: AtomicUsize,
    /// Layers and operators that there was no room for.
    left_out: AtomicU64,
    spans: Mutex<Vec<Span>>,
    window: Mutex<Window>,
}

/// How far the process is.
#[derive(Debug, Default)]
struct Window {
    /// Steps that are passed over, known from the first one on.
    warm_up: Option<u64>,
    /// Steps of this process that have begun.
    begun: u64,
    recorded: u64,
    /// No further step is recorded.
    is_full: bool,
    first_epoch_is_over: bool,
}

/// What a span is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A step of the program: a training step, or a piece of one, an evaluation, a checkpoint.
    Phase,
    /// A layer in a forward pass.
    Forward,
    /// A layer in a backward pass.
    Backward,
    /// A look of an observer.
    Observer,
    /// An operator of libtorch.
    Operator,
}

/// What a span is called.
#[derive(Clone, Debug)]
pub enum Name {
    Fixed(&'static str),
    Shared(Arc<str>),
}

#[derive(Clone, Debug)]
struct Span {
    name: Name,
    part: Part,
    /// In nanoseconds since the trace began.
    begin: u64,
    end: u64,
    step: u64,
    detail: Option<(&'static str, u64)>,
    thread: Thread,
}

/// Spans of one thread at a time, handed on when there is a moment for it. While nothing is recorded, no clock is read.
#[derive(Debug, Default)]
pub struct Spans {
    shared: Option<Arc<Shared>>,
    waiting: Vec<Span>,
    is_coarse: bool,
}

/// When a span began; nothing where none is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Started(Option<Instant>);

impl Trace {
    /// One that records, and begins now.
    pub fn start() -> Trace {
        let shared = Shared {
            origin: Instant::now(),
            is_on: AtomicBool::new(true),
            step: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            left_out: AtomicU64::new(0),
            spans: Mutex::default(),
            window: Mutex::default(),
        };
        Trace { shared: Some(Arc::new(shared)) }
    }

    /// A place for spans, of whoever has it.
    pub fn spans(&self) -> Spans {
        Spans { shared: self.shared.clone(), waiting: Vec::new(), is_coarse: false }
    }

    /// Step number `step` begins, and with it `left` steps are left in the run.
    pub fn step_begins(&self, step: u64, left: u64) {
        let Some(shared) = &self.shared else { return };
        shared.step.store(step, Ordering::Relaxed);
        let mut window = locked(&shared.window);
        window.warm_up.get_or_insert(WARM_UP.min(left.saturating_sub(RECORDED)));
        window.begun += 1;
        window.is_full |= window.recorded == RECORDED || shared.count.load(Ordering::Relaxed) >= MOST_SPANS;
        window.recorded += u64::from(window.is_open());
        shared.is_on.store(window.is_open(), Ordering::Relaxed);
    }

    /// All steps of an epoch are done: what follows is its evaluation, and what is looked at then.
    pub fn epoch_ends(&self) {
        let Some(shared) = &self.shared else { return };
        let window = locked(&shared.window);
        shared.is_on.store(window.is_open() || !window.first_epoch_is_over, Ordering::Relaxed);
    }

    /// An epoch has ended, all of it.
    pub fn epoch_is_over(&self) {
        let Some(shared) = &self.shared else { return };
        let mut window = locked(&shared.window);
        window.first_epoch_is_over = true;
        shared.is_on.store(window.is_open(), Ordering::Relaxed);
    }

    /// Whether anything is ever recorded.
    pub fn records(&self) -> bool {
        self.shared.is_some()
    }

    /// When an operator begins, in nanoseconds since the trace began and at least 1; 0 where it is not recorded.
    pub fn operator_begins(&self) -> u64 {
        let shared = self.shared.as_ref().filter(|shared| shared.is_on.load(Ordering::Relaxed) && shared.has_room());
        shared.map_or(0, |shared| shared.nanos(Instant::now()).max(1))
    }

    /// Ends the span of an operator that began `began` nanoseconds after the trace.
    pub fn operator_ends(&self, began: u64, name: &str) {
        if let Some(shared) = &self.shared {
            let span = shared.span(Name::Shared(name.into()), Part::Operator, began, None);
            locked(&shared.spans).push(span);
        }
    }

    /// The time of all spans of this kind that have been recorded so far, by name.
    pub fn totals(&self, part: Part) -> BTreeMap<String, Duration> {
        let mut totals = BTreeMap::new();
        for span in self.shared.iter().flat_map(|shared| locked(&shared.spans).clone()).filter(|span| span.part == part)
        {
            let lasted = Duration::from_nanos(span.end.saturating_sub(span.begin));
            *totals.entry(span.name.as_str().to_owned()).or_default() += lasted;
        }
        totals
    }

    /// Whether there is nothing more to record.
    pub fn is_complete(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| {
            let window = locked(&shared.window);
            window.first_epoch_is_over && (window.is_full || window.recorded == RECORDED)
        })
    }

    /// Steps that were recorded so far.
    pub fn steps(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| locked(&shared.window).recorded)
    }

    /// Layers and operators that were left out so far, as there were too many.
    pub fn left_out(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.left_out.load(Ordering::Relaxed))
    }

    /// The file of what has been recorded so far, by the process of this number.
    pub fn to_json(&self, process: u32) -> String {
        let mut spans = self.shared.as_ref().map_or_else(Vec::new, |shared| locked(&shared.spans).clone());
        // What holds others stands before them.
        spans.sort_by_key(|span| (span.begin, std::cmp::Reverse(span.end)));
        render(&spans, process)
    }
}

impl Shared {
    /// Whether one more of many spans is recorded; else it is counted.
    fn has_room(&self) -> bool {
        let has_room = self.count.load(Ordering::Relaxed) < MOST_SPANS;
        if !has_room {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.duration_since(self.origin).as_nanos() as u64
    }

    /// One that ends here and now.
    fn span(&self, name: Name, part: Part, begin: u64, detail: Option<(&'static str, u64)>) -> Span {
        let end = self.nanos(Instant::now());
        self.count.fetch_add(1, Ordering::Relaxed);
        Span { name, part, begin, end, step: self.step.load(Ordering::Relaxed), detail, thread: std::thread::current() }
    }
}

impl Window {
    /// Whether the step that is running is recorded.
    fn is_open(&self) -> bool {
        !self.is_full && self.warm_up.is_some_and(|warm_up| self.begun > warm_up)
    }
}

impl Spans {
    pub fn start(&self) -> Started {
        let is_on = self.shared.as_ref().is_some_and(|shared| shared.is_on.load(Ordering::Relaxed));
        Started(is_on.then(Instant::now))
    }

    /// For a span of which there are many.
    pub fn start_layer(&self) -> Started {
        let started = if self.is_coarse { Started(None) } else { self.start() };
        let has_room = started.is_recorded() && self.shared.as_ref().is_some_and(|shared| shared.has_room());
        if has_room { started } else { Started(None) }
    }

    /// Leaves out layers from now on, or no longer.
    pub fn set_coarse(&mut self, is_coarse: bool) {
        self.is_coarse = is_coarse;
    }

    /// Ends a span here and now.
    pub fn end(&mut self, started: Started, part: Part, name: impl Into<Name>) {
        if let Some(began) = started.0 {
            self.push(began, part, name.into(), None);
        }
    }

    /// As [`Spans::end`], of what `detail` says.
    pub fn end_of(&mut self, started: Started, part: Part, name: impl Into<Name>, detail: (&'static str, usize)) {
        if let Some(began) = started.0 {
            self.push(began, part, name.into(), Some((detail.0, detail.1 as u64)));
        }
    }

    /// Hands on what there is. Dropping does it, too.
    pub fn flush(&mut self) {
        if let Some(shared) = &self.shared
            && !self.waiting.is_empty()
        {
            locked(&shared.spans).append(&mut self.waiting);
        }
    }

    #[cold]
    fn push(&mut self, began: Instant, part: Part, name: Name, detail: Option<(&'static str, u64)>) {
        if let Some(shared) = &self.shared {
            self.waiting.push(shared.span(name, part, shared.nanos(began), detail));
        }
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Started {
    /// Whether there is a span to end.
    pub fn is_recorded(self) -> bool {
        self.0.is_some()
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Name {
        Name::Fixed(name)
    }
}

impl From<&Arc<str>> for Name {
    fn from(name: &Arc<str>) -> Name {
        Name::Shared(Arc::clone(name))
    }
}

impl Name {
    fn as_str(&self) -> &str {
        match self {
            Name::Fixed(name) => name,
            Name::Shared(name) => name,
        }
    }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Phase => "phase",
            Part::Forward => "forward",
            Part::Backward => "backward",
            Part::Observer => "observer",
            Part::Operator => "operator",
        }
    }
}

/// A thread that panicked while it had the lock has left what it had finished.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The events, a line each; threads are numbered in the order in which they come.
fn render(spans: &[Span], process: u32) -> String {
    let mut threads: Vec<ThreadId> = Vec::new();
    let mut lines = vec![metadata("process_name", "trainer", process, 0)];
    for span in spans {
        let known = threads.iter().position(|&id| id == span.thread.id());
        let thread = known.unwrap_or(threads.len()) + 1;
        if known.is_none() {
            threads.push(span.thread.id());
            let name = span.thread.name().map_or_else(|| format!("thread {thread}"), str::to_owned);
            lines.push(metadata("thread_name", &name, process, thread));
        }
        let (name, part, step) = (quoted(span.name.as_str()), span.part.name(), span.step);
        let (at, lasted) = (micros(span.begin), micros(span.end.saturating_sub(span.begin)));
        let mut line = format!(
            "{{\"name\":{name},\"cat\":\"{part}\",\"ph\":\"X\",\"ts\":{at},\"dur\":{lasted},\"pid\":{process},\
             \"tid\":{thread},\"args\":{{\"step\":{step}"
        );
        if let Some((what, value)) = span.detail {
            let _ = write!(line, ",{}:{value}", quoted(what));
        }
        line.push_str("}}");
        lines.push(line);
    }
    format!("{BEGINNING}{}\n],\"displayTimeUnit\":\"ms\"}}\n", lines.join(",\n"))
}

fn metadata(what: &str, name: &str, process: u32, thread: usize) -> String {
    let name = quoted(name);
    format!("{{\"name\":\"{what}\",\"ph\":\"M\",\"pid\":{process},\"tid\":{thread},\"args\":{{\"name\":{name}}}}}")
}

/// To the nanosecond.
fn micros(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1000, nanos % 1000)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn span(name: impl Into<Name>, part: Part, nanos: std::ops::Range<u64>, thread: &Thread) -> Span {
        let (name, begin, end) = (name.into(), nanos.start, nanos.end);
        Span { name, part, begin, end, step: 21, detail: None, thread: thread.clone() }
    }

    #[test]
    fn the_file_is_as_chrome_and_perfetto_read_it() {
        let other = std::thread::Builder::new().name("train-1 \"quoted\"".to_owned()).spawn(|| ()).unwrap();
        let (own, other) = (std::thread::current(), other.thread().clone());
        let layer: Arc<str> = "conv2d".into();
        let spans = [
            span("step", Part::Phase, 1_000..2_000_500, &own),
            Span { detail: Some(("image", 3)), ..span(&layer, Part::Forward, 1_007..1_500_000, &own) },
            span("backward", Part::Phase, 1_200..9_000, &other),
        ];
        let name = own.name().unwrap();
        let text = render(&spans, 7).replace(name, "main");
        expect![[r#"
            {"traceEvents":[
            {"name":"process_name","ph":"M","pid":7,"tid":0,"args":{"name":"trainer"}},
            {"name":"thread_name","ph":"M","pid":7,"tid":1,"args":{"name":"main"}},
            {"name":"step","cat":"phase","ph":"X","ts":1.000,"dur":1999.500,"pid":7,"tid":1,"args":{"step":21}},
            {"name":"conv2d","cat":"forward","ph":"X","ts":1.007,"dur":1498.993,"pid":7,"tid":1,"args":{"step":21,"image":3}},
            {"name":"thread_name","ph":"M","pid":7,"tid":2,"args":{"name":"train-1 \"quoted\""}},
            {"name":"backward","cat":"phase","ph":"X","ts":1.200,"dur":7.800,"pid":7,"tid":2,"args":{"step":21}}
            ],"displayTimeUnit":"ms"}
        "#]]
        .assert_eq(&text);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        assert!(text.starts_with(BEGINNING));
    }

    /// Which of `steps` steps are recorded, where an epoch has `epoch` of them; the epochs whose ends are.
    fn recorded(steps: u64, epoch: u64) -> (Vec<u64>, Vec<u64>) {
        let trace = Trace::start();
        let spans = trace.spans();
        let (mut inside, mut ends) = (Vec::new(), Vec::new());
        for step in 1..=steps {
            trace.step_begins(step, steps - step + 1);
            inside.extend(spans.start().is_recorded().then_some(step));
            if step.is_multiple_of(epoch) {
                trace.epoch_ends();
                ends.extend(spans.start().is_recorded().then_some(step / epoch));
                trace.epoch_is_over();
            }
        }
        assert_eq!(trace.is_complete(), inside.len() as u64 == RECORDED && steps > epoch);
        assert_eq!(trace.steps(), inside.len() as u64);
        (inside, ends)
    }

    #[test]
    fn a_few_steps_are_recorded_after_a_few_others() {
        assert_eq!(recorded(300, 100), ((21..=40).collect(), vec![1]));
        assert_eq!(recorded(35, 10), ((16..=35).collect(), vec![1, 2, 3]), "fewer to warm up");
        assert_eq!(recorded(12, 6), ((1..=12).collect(), vec![1, 2]), "none to warm up");
    }

    #[test]
    fn nothing_is_recorded_where_nothing_is_wanted() {
        let trace = Trace::default();
        trace.step_begins(1, 1);
        let mut spans = trace.spans();
        let started = spans.start();
        spans.end(started, Part::Phase, "step");
        assert!(!started.is_recorded() && spans.waiting.is_empty() && trace.steps() == 0);
        assert!(!trace.is_complete() && !Spans::default().start_layer().is_recorded());
    }

    #[test]
    fn what_there_is_too_much_of_is_left_out() {
        let trace = Trace::start();
        trace.step_begins(1, 20);
        let mut spans = trace.spans();
        spans.set_coarse(true);
        assert!(!spans.start_layer().is_recorded() && spans.start().is_recorded());
        spans.set_coarse(false);
        assert!(spans.start_layer().is_recorded());
        trace.shared.as_ref().unwrap().count.store(MOST_SPANS, Ordering::Relaxed);
        assert_eq!((trace.left_out(), trace.operator_begins()), (0, 0));
        assert!(!spans.start_layer().is_recorded() && spans.start().is_recorded());
        assert_eq!(trace.left_out(), 2);
        trace.step_begins(2, 19);
        assert!(!spans.start().is_recorded());
        assert_eq!(trace.steps(), 1);
    }

    #[test]
    fn spans_of_one_name_add_up() {
        let trace = Trace::start();
        let own = std::thread::current();
        locked(&trace.shared.as_ref().unwrap().spans).extend([
            span("conv2d", Part::Forward, 1_000..4_000, &own),
            span("dense", Part::Forward, 4_000..4_500, &own),
            span("conv2d", Part::Forward, 5_000..6_000, &own),
            span("conv2d", Part::Backward, 6_000..9_000, &own),
        ]);
        let want =
            [("conv2d", 4_000), ("dense", 500)].map(|(name, nanos)| (name.to_owned(), Duration::from_nanos(nanos)));
        assert_eq!(trace.totals(Part::Forward), BTreeMap::from(want));
        assert!(trace.totals(Part::Operator).is_empty() && Trace::default().totals(Part::Forward).is_empty());
    }

    #[test]
    fn spans_come_from_every_thread_with_the_step_they_belong_to() {
        let trace = Trace::start();
        trace.step_begins(5, 1);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut spans = trace.spans();
                    let (outer, inner) = (spans.start(), spans.start_layer());
                    spans.end_of(inner, Part::Backward, "dense", ("image", 1));
                    spans.end(outer, Part::Phase, "backward");
                });
            }
        });
        let spans = locked(&trace.shared.as_ref().unwrap().spans).clone();
        assert_eq!(spans.len(), 6);
        assert!(spans.iter().all(|span| span.step == 5 && span.begin <= span.end));
        assert!(trace.to_json(1).contains("{\"name\":\"thread 3\"}"));
    }
}
