//! Wrong invocations and damaged files: each ends with its exit code, names the cause and leaves no trace.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Sandbox, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, finish, idx, is_root, skip, small_mnist};

/// A wrong invocation and the expected outcome.
struct Mistake {
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    setup: Box<dyn Fn(&Sandbox) + Sync>,
    code: i32,
    says: Vec<String>,
}

/// A mistake whose arguments contain no spaces.
fn mistake(arguments: &str, code: i32, says: &[&str]) -> Mistake {
    Mistake {
        arguments: arguments.split_whitespace().map(OsString::from).collect(),
        environment: Vec::new(),
        setup: Box::new(|_| {}),
        code,
        says: says.iter().map(|&text| text.to_owned()).collect(),
    }
}

impl Mistake {
    fn argument(mut self, argument: impl Into<OsString>) -> Mistake {
        self.arguments.push(argument.into());
        self
    }

    fn with(mut self, variable: &'static str, value: impl Into<OsString>) -> Mistake {
        self.environment.push((variable, value.into()));
        self
    }

    fn in_a_place_where(mut self, setup: impl Fn(&Sandbox) + Sync + 'static) -> Mistake {
        self.setup = Box::new(setup);
        self
    }

    /// Differences from the expected outcome.
    fn faults(&self) -> Vec<String> {
        let sandbox = Sandbox::new();
        (self.setup)(&sandbox);
        let before = sandbox.tree();
        let outcome = finish(sandbox.trainer(&self.arguments).envs(self.environment.iter().map(|(k, v)| (k, v))));
        let mut faults = Vec::new();
        if outcome.code() != self.code {
            faults.push(format!("exit code {}, want {}", outcome.code(), self.code));
        }
        for text in self.says.iter().filter(|text| !outcome.says(text)) {
            faults.push(format!("does not say {text:?}"));
        }
        if outcome.stderr.trim().is_empty() && outcome.stdout.trim().is_empty() {
            faults.push("says nothing".to_owned());
        }
        if outcome.says("panicked") || outcome.says("this is a bug") {
            faults.push("panics".to_owned());
        }
        let after = sandbox.tree();
        for path in before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)) {
            faults.push(format!("changes {}", path.display()));
        }
        if !faults.is_empty() {
            let words: Vec<_> = self.arguments.iter().map(|word| word.to_string_lossy()).collect();
            faults.insert(0, format!("\ntrainer {} {:?}", words.join(" "), self.environment));
            faults.push(format!("stderr: {}", outcome.stderr.trim()));
        }
        faults
    }
}

/// Runs all mistakes, two at a time, and reports all differences together.
fn check(mistakes: &[Mistake]) {
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(mistake) = mistakes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = mistake.faults();
                    faults.lock().unwrap().extend(found);
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n  "));
}

/// Valid flags of a run, to which each test adds a mistake.
const RUN: &str = "--dataset synthetic --logdir run --threads 1";

#[test]
fn wrong_command_lines() {
    let value = |flag: &str, value: &str| {
        let key = flag.trim_start_matches('-');
        mistake(RUN, 64, &[&format!("{key} from command line: got `{value}`, want ")]).argument(flag).argument(value)
    };
    check(&[
        value("--epochs", "0"),
        value("--epochs", "-1"),
        value("--epochs", "1.5"),
        value("--epochs", "99999999999999999999999"),
        value("--batch-size", "0"),
        value("--batch-size", "1048577"),
        value("--learning-rate", "0"),
        value("--learning-rate", "-1e-3"),
        value("--learning-rate", "NaN"),
        value("--learning-rate", "inf"),
        value("--learning-rate", "1e30"),
        value("--momentum", "1"),
        value("--momentum", "-0.5"),
        value("--weight-decay", "-1"),
        value("--seed", "18446744073709551616"),
        value("--limit-train", "0"),
        value("--limit-validation", "some"),
        value("--kernel-size", "65"),
        value("--dense-units", "0"),
        value("--conv-filters", "32,,64"),
        value("--conv-filters", ""),
        value("--update-freq", "0"),
        value("--histogram-freq", "-1"),
        value("--image-freq", "often"),
        value("--observe", "everything"),
        value("--observe", "gradcam=start"),
        value("--observe", "scalars=every:5steps"),
        value("--probes", "0"),
        value("--probe-seed", "-1"),
        mistake("--logdir run --observe gradcm=every:1epoch", 64, &["observe", "did you mean `gradcam`?"]),
        value("--device", "cuda:-1"),
        value("--precision", "fp16"),
        value("--data-dir", ""),
        value("--log-format", "yaml"),
        mistake("--dataset synthetic --logdir run --threads 0", 64, &["threads from command line: got `0`"]),
        mistake(RUN, 78, &["precision bf16 requires CUDA", "--precision f32", "--device cuda"])
            .with("TRAINER_PRECISION", "bf16")
            .with("TRAINER_DEVICE", "cpu"),
        mistake("--logdir run --dataset minst", 64, &["dataset", "`minst`", "did you mean `mnist`?"]),
        mistake(RUN, 64, &["optimizer", "`adma`", "did you mean `adam`?"]).argument("--optimizer").argument("adma"),
        mistake(RUN, 64, &["'--epoch'", "'--epochs'"]).argument("--epoch").argument("3"),
        mistake(RUN, 64, &["--epochs"]).argument("--epochs"),
        mistake("--logdir run --epochs 1 --epochs zero", 64, &["epochs", "`zero`"]),
        mistake("--dataset synthetic", 64, &["no log directory", "--logdir"]),
        mistake("--dataset synthetic --logdir", 64, &["no log directory", "--logdir"]).argument(""),
        mistake("trian", 64, &["'trian'", "'train'"]),
        mistake("inspect run --epochs 3", 64, &["'--epochs'"]),
        mistake("--logdir run inspect run", 64, &["'inspect'", "'--logdir <DIR>'"]),
        mistake("inspect", 64, &["<PATH>"]),
        mistake("data", 64, &["fetch", "verify"]),
        mistake("data verify minst", 64, &["`minst`", "did you mean `mnist`?"]),
        mistake("data fetch synthetic", 64, &["synthetic", "nothing to fetch"]),
        mistake("data fetch mnist --mirror ftp://mirror.example", 64, &["`ftp://mirror.example`", "https://"]),
        mistake("summary --input 28x28", 64, &["input", "`28x28`"]),
        mistake("summary --input 0x28x1", 64, &["input", "`0x28x1`"]),
        mistake("summary --classes 0", 64, &["classes", "`0`"]),
        mistake(RUN, 64, &["argument `\\xff` is not UTF-8"])
            .argument("--dataset")
            .argument(OsString::from_vec(vec![0xff])),
    ]);
}

#[test]
fn paths_that_lead_nowhere_on_this_machine() {
    let mut mistakes = Vec::new();
    let places = ["s3://b/x", "gs://b/x", "hdfs://h/x", "https://h/x", "file://host/x", "~nobody-here/x"];
    for place in places {
        for flag in ["--logdir", "--data-dir", "--warm-start", "--metrics-textfile", "--profile"] {
            let key = flag.trim_start_matches('-');
            let place = if key == "metrics-textfile" { format!("{place}.prom") } else { place.to_owned() };
            let says = format!("{key} from command line: got `{place}`, want ");
            mistakes.push(mistake("--dataset synthetic --logdir run", 64, &[&says]).argument(flag).argument(place));
        }
        for line in [
            format!("--logdir run --config {place}"),
            format!("--logdir run --fork-from {place}"),
            format!("predict --run {place} a.png"),
            format!("explain --run run --indices 0 --out {place}"),
            format!("runs {place}"),
            format!("prune {place} --keep 1"),
            format!("unnest {place} a"),
        ] {
            mistakes.push(mistake(&line, 64, &[&format!("invalid value '{place}' for ")]));
        }
    }
    check(&mistakes);
}

#[test]
fn a_message_repeats_no_more_than_can_be_read() {
    let long = "x".repeat(100_000);
    let sandbox = Sandbox::new();
    sandbox.write("run.toml", format!("epochs = \"{long}\"\n"));
    for flags in [
        ["--epochs", &long],
        ["--observe", &long],
        ["--logdir", &long],
        ["--run-name", &long],
        ["--device", &long],
        ["--config", &long],
        ["--config", "run.toml"],
        ["summary", &long],
        ["inspect", &long],
        ["--nonsense", &long],
        [&format!("--{long}"), "1"],
        ["runs", &long],
        ["--fork-from", &long],
    ] {
        let outcome = finish(&mut sandbox.trainer(flags));
        let said = outcome.stdout.len() + outcome.stderr.len();
        assert!(outcome.code() > 0 && said < 10_000, "{:.30} {:.30}: {said} bytes", flags[0], flags[1]);
    }
    let outcome = finish(sandbox.trainer(["--dataset", "synthetic"]).env("TRAINER_EPOCHS", &long));
    assert!(outcome.code() == 78 && outcome.stderr.len() < 1000);
}

#[test]
fn paths_are_taken_as_they_are_meant() {
    let sandbox = Sandbox::new();
    let small = "--dataset synthetic --conv-filters 2 --dense-units 2 --epochs 1 --limit-train 32 --limit-validation 10 \
                 --observe none --quiet";
    let train = |logdir: OsString| {
        let flags = small.split_whitespace().map(OsString::from).chain(["--logdir".into(), logdir]);
        finish(sandbox.trainer(flags).env("HOME", sandbox.path("home"))).succeeded()
    };
    sandbox.create_dir("home");
    train("~/a".into());
    train(format!("file://{}", sandbox.path("home/b").display()).into());
    let odd = || OsString::from_vec(b"home/c\xff".to_vec());
    train(odd());
    train(odd()); // reports that it is finished
    for name in ["a", "b"] {
        let config = String::from_utf8(sandbox.read(&format!("home/{name}/config.toml"))).unwrap();
        let logdir = sandbox.path("home").join(name);
        assert!(config.contains(&format!("logdir = \"{}\"", logdir.display())), "{config}");
    }
    let config = std::fs::read_to_string(sandbox.path(odd()).join("config.toml")).unwrap();
    assert!(config.contains("home/c%FF\""), "{config}");
    assert!(!sandbox.path("~").exists() && !sandbox.path("file:").exists());
    // Every option and argument that takes a path.
    let from_file = sandbox.path(odd()).join("config.toml");
    for line in [
        vec!["--config".into(), from_file.into_os_string(), "--quiet".into()],
        vec!["runs".into(), odd()],
        vec!["--logdir".into(), "home/d".into(), "--warm-start".into(), odd(), "--quiet".into()],
        vec!["--logdir".into(), "home/e".into(), "--fork-from".into(), odd(), "--epochs".into(), "2".into()],
        vec!["predict".into(), "--run".into(), odd(), "home/none.png".into()],
    ] {
        let is_training = !["runs", "predict"].iter().any(|word| line[0] == *word);
        let small = small.split_whitespace().map(OsString::from).filter(|_| is_training);
        let words: Vec<OsString> = small.chain(line).collect();
        let outcome = finish(&mut sandbox.trainer(&words));
        let want = if words[0] == "predict" { 66 } else { 0 };
        assert_eq!(outcome.code(), want, "{words:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("UTF-8"), "{words:?}: {}", outcome.stderr);
    }
    let flags = small.split_whitespace().map(OsString::from);
    finish(sandbox.trainer(flags).env("TRAINER_LOGDIR", odd())).succeeded();
}

#[test]
fn a_setting_of_any_length_is_printed_and_trained_with() {
    let sandbox = Sandbox::new();
    let epochs: Vec<String> = (0..20_000).map(|epoch| epoch.to_string()).collect();
    let observe = format!("none,scalars=at:{}", epochs.join(","));
    let outcome = finish(&mut sandbox.trainer(["config", "--observe", &observe])).succeeded();
    assert!(outcome.stdout.contains(&observe));
    let flags = "--dataset synthetic --conv-filters 2 --dense-units 2 --epochs 1 --limit-train 32 --limit-validation 10 \
                 --quiet --logdir run --observe";
    finish(&mut sandbox.trainer(flags.split_whitespace().chain([observe.as_str()]))).succeeded();
    // The error abbreviates a long setting to a readable length.
    let outcome = sandbox.run(&flags.replace("--observe", "--observe none"));
    assert!(outcome.code() == 78 && outcome.stderr.len() < 2000, "{}", outcome.stderr.len());
}

#[test]
fn figures_and_profiles_may_lie_in_the_directory_that_the_run_makes() {
    let sandbox = Sandbox::new();
    let small = "--dataset synthetic --conv-filters 2 --dense-units 2 --epochs 1 --limit-train 320 --batch-size 8 \
                 --limit-validation 10 --observe none --quiet";
    for place in ["new/run", "new/run/train", "new", "./new/../new/run"] {
        let line = format!(
            "{small} --logdir new --run-name run --profile {place}/trace.json --metrics-textfile {place}/run.prom"
        );
        sandbox.run(&line).succeeded();
        assert!(sandbox.path(place).join("trace.json").exists() && sandbox.path(place).join("run.prom").exists());
        std::fs::remove_dir_all(sandbox.path("new")).unwrap();
    }
}

#[test]
fn wrong_configuration_files() {
    let file = |content: &'static [u8], code, says: &[&str]| {
        let mut mistake = mistake(RUN, code, says).argument("--config").argument("run.toml");
        mistake.says.push("run.toml".to_owned());
        mistake.in_a_place_where(move |s| {
            s.write("run.toml", content);
        })
    };
    check(&[
        file(b"learning-rat = 0.1\n", 78, &["unknown key `learning-rat`", "did you mean `learning-rate`?"]),
        file(b"batchsize = 3\n", 78, &["`batchsize`", "`batch-size`"]),
        file(b"[train]\nepochs = 3\n", 78, &["unknown key `train`"]),
        file(b"epochs = [1, 2\n", 78, &["is not TOML", "line 1"]),
        file(b"epochs = 1\nepochs = 2\n", 78, &["is not TOML", "duplicate key"]),
        file(b"batch_size = 1\nbatch-size = 2\n", 78, &["`batch_size`", "`batch-size`"]),
        file(b"epochs = 0\n", 78, &["epochs from file run.toml: got `0`, want "]),
        file(b"optimizer = \"SGD\"\n", 78, &["optimizer from file run.toml: got `SGD`, want "]),
        file(b"epochs = 2026-01-01\n", 78, &["key `epochs`", "got a date"]),
        file(b"conv-filters = [\"a\"]\n", 78, &["key `conv-filters`"]),
        file(b"\xff\xfe\n", 78, &["UTF-8"]),
        mistake(RUN, 66, &["none.toml", "No such file"]).argument("--config").argument("none.toml"),
        mistake(RUN, 66, &["configuration file .:", "directory"]).argument("--config").argument("."),
        mistake(RUN, 66, &["configuration file /dev/zero: it is a device"]).argument("--config").argument("/dev/zero"),
    ]);
}

#[test]
fn wrong_environment_variables() {
    check(&[
        mistake(RUN, 78, &["epochs from environment variable TRAINER_EPOCHS: got `many`, want "])
            .with("TRAINER_EPOCHS", "many"),
        mistake(RUN, 78, &["quiet", "TRAINER_QUIET", "`yes`"]).with("TRAINER_QUIET", "yes"),
        mistake(RUN, 66, &["/no/such/run.toml"]).with("TRAINER_CONFIG", "/no/such/run.toml"),
        mistake("--dataset synthetic", 78, &["TRAINER_OPTIMIZER", "UTF-8"])
            .with("TRAINER_OPTIMIZER", OsString::from_vec(vec![b'a', 0xff])),
        mistake("--dataset synthetic", 78, &["TRAINER_LOGDIR: got `s3://bucket/a`, want a path on this machine"])
            .with("TRAINER_LOGDIR", "s3://bucket/a\n"),
        mistake(
            RUN,
            78,
            &["config from environment variable TRAINER_CONFIG: got `gs://a`, want a path on this machine"],
        )
        .with("TRAINER_CONFIG", "gs://a\n"),
        mistake("--dataset synthetic", 64, &["--logdir"]).with("TRAINER_LOGDIR", ""),
    ]);
}

#[test]
fn missing_and_damaged_data() {
    /// A data set with one file overwritten or removed.
    fn damaged(name: &'static str, content: Option<Vec<u8>>, code: i32, says: &[&str]) -> Mistake {
        let mut mistake = mistake("--logdir run --epochs 1 --threads 1", code, says);
        mistake.says.push(name.to_owned());
        mistake.in_a_place_where(move |s| {
            small_mnist(s, 12, 6);
            match &content {
                Some(content) => {
                    s.write(name, content);
                }
                None => std::fs::remove_file(s.path(name)).unwrap(),
            }
        })
    }
    let images = |count: u32| idx(&[count, 28, 28], &vec![7; count as usize * 784]);
    let cut = |mut bytes: Vec<u8>, len: usize| {
        bytes.truncate(len);
        Some(bytes)
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut wrong_sum = gzip(&images(12));
    let sum = wrong_sum.len() - 8;
    wrong_sum[sum] ^= 1;
    let mut long = images(12);
    long.push(0);
    let ways_on = ["trainer data fetch mnist", "make data"];
    check(&[
        mistake("--logdir run", 66, &["data/mnist", "train-images-idx3-ubyte", ways_on[0], ways_on[1]]),
        mistake("--logdir run --data-dir elsewhere", 66, &["`trainer data fetch mnist --data-dir elsewhere`"]),
        mistake("--logdir run", 66, &["`trainer data fetch mnist --data-dir elsewhere`"])
            .with("TRAINER_DATA_DIR", "elsewhere"),
        mistake("data verify mnist", 66, &["elsewhere/mnist/train-images-idx3-ubyte: missing"])
            .with("TRAINER_DATA_DIR", "elsewhere"),
        mistake("data verify mnist --data-dir here", 66, &["here/mnist/train-images-idx3-ubyte: missing"])
            .with("TRAINER_DATA_DIR", "elsewhere"),
        mistake("data verify mnist --config run.toml", 66, &["file/mnist/train-images-idx3-ubyte: missing"])
            .in_a_place_where(|s| {
                s.write("run.toml", "data-dir = \"file\"\n");
            }),
        mistake("data verify mnist --config none.toml", 66, &["none.toml"]),
        mistake("--logdir run --dataset fashion-mnist --data-dir elsewhere", 66, &["fashion-mnist"]).in_a_place_where(
            |s| {
                s.write("elsewhere/fashion-mnist/train-images-idx3-ubyte", b"");
            },
        ),
        mistake("--logdir run", 66, &["t10k-labels-idx1-ubyte"]).in_a_place_where(|s| {
            small_mnist(s, 12, 6);
            std::fs::remove_file(s.path(TEST_LABELS)).unwrap();
        }),
        damaged(TRAIN_IMAGES, Some(Vec::new()), 65, &["cut off", "got 0 bytes", "trainer data verify mnist"]),
        damaged(TRAIN_IMAGES, cut(images(12), 15), 65, &["header is cut off", "got 15 bytes, want 16"]),
        damaged(TRAIN_IMAGES, cut(images(12), 9_000), 65, &["cut off", "want 9408 for 12x28x28"]),
        damaged(TRAIN_IMAGES, Some(long), 65, &["1 bytes too many"]),
        damaged(TRAIN_IMAGES, Some(b"PNG, or what".to_vec()), 65, &["not an IDX file", "50 4e"]),
        damaged(TRAIN_IMAGES, Some(idx(&[12], &[1; 12])), 65, &["looks like a label file"]),
        damaged(TRAIN_LABELS, Some(images(12)), 65, &["looks like an image file"]),
        damaged(TRAIN_IMAGES, Some(gzip(&images(12))[..60].to_vec()), 65, &["gzip data is damaged"]),
        damaged(TRAIN_IMAGES, Some(wrong_sum), 65, &["gzip data is damaged"]),
        damaged(TRAIN_IMAGES, Some(gzip(&images(12)[..9_000])), 65, &["cut off"]),
        damaged(TRAIN_IMAGES, Some(idx(&[u32::MAX, 28, 28], &[0; 784])), 65, &["cut off", "4294967295x28x28"]),
        damaged(TRAIN_IMAGES, Some(idx(&[u32::MAX, 99, 28], &[0; 784])), 65, &["too large", "4294967295x99x28"]),
        damaged(TRAIN_IMAGES, Some(idx(&[0, 28, 28], &[])), 65, &["empty"]),
        damaged(TEST_IMAGES, Some(idx(&[6, 32, 32], &[0; 6 * 1024])), 65, &["32x32", "28x28x1"]),
        damaged(TRAIN_IMAGES, Some(images(11)), 65, &["12 labels", "11 images"]),
        damaged(TEST_LABELS, Some(idx(&[5], &[1; 5])), 65, &["5 labels", "6 images"]),
        damaged(TRAIN_LABELS, Some(idx(&[12], &[10; 12])), 65, &["image 0 has label 10", "0 to 9"]),
        mistake("--logdir run", 66, &[TRAIN_IMAGES, "directory"]).in_a_place_where(|s| {
            small_mnist(s, 12, 6);
            std::fs::remove_file(s.path(TRAIN_IMAGES)).unwrap();
            s.create_dir(TRAIN_IMAGES);
        }),
        mistake("--logdir run --data-dir file", 66, &["file/mnist"]).in_a_place_where(|s| {
            s.write("file", "");
        }),
        mistake("data verify mnist", 66, &[TRAIN_IMAGES, TEST_LABELS, "missing"]),
        mistake("data verify mnist", 65, &[TEST_IMAGES, "SHA-256"]).in_a_place_where(|s| small_mnist(s, 12, 6)),
        mistake("data fetch mnist --mirror http://127.0.0.1:1", 69, &["http://127.0.0.1:1/", "make data"])
            .in_a_place_where(|s| s.create_dir("data/mnist")),
    ]);
}

#[test]
fn log_directories_and_profiles_that_cannot_be() {
    let logdir = |path: &str, code: i32, says: &[&str]| {
        mistake("--dataset synthetic --threads 1 --logdir", code, says).argument(path)
    };
    let profile = |path: &str, says: &[&str]| mistake(&format!("{RUN} --profile {path}"), 73, says);
    let mut mistakes = vec![
        logdir("file", 73, &["log directory file: file is a file"]).in_a_place_where(|s| {
            s.write("file", "mine");
        }),
        logdir("file/below/run", 73, &["file is a file"]).in_a_place_where(|s| {
            s.write("file", "mine");
        }),
        logdir("run", 73, &["run/train is a file"]).in_a_place_where(|s| {
            s.write("run/train", "mine");
        }),
        logdir("run", 73, &["run/model.safetensors is a directory"])
            .in_a_place_where(|s| s.create_dir("run/model.safetensors")),
        logdir("/no-such-mount/run", 73, &["/no-such-mount does not exist"]),
        logdir("/", 73, &["root of the file system"]),
        logdir("link", 73, &["link is a symbolic link to nowhere"]).in_a_place_where(|s| s.link("link", "nowhere")),
        logdir("link/run", 73, &["link is a symbolic link to nowhere"]).in_a_place_where(|s| s.link("link", "nowhere")),
        logdir("loop/run", 73, &["loop"]).in_a_place_where(|s| s.link("loop", "loop")),
        logdir(&"long".repeat(100), 73, &["longlong", "too long"]),
        logdir("/dev/null/run", 73, &["/dev/null is a file"]),
        profile("missing/trace.json", &["profile missing/trace.json: there is no directory missing; create it first"]),
        profile(".", &["profile . is a directory"]),
        profile("/dev/null", &["profile /dev/null: something else than a profile is there"]),
        profile("run/result.json", &["profile run/result.json: the run has a file of that name"]),
        profile("mine.toml", &["profile mine.toml: something else than a profile is there"]).in_a_place_where(|s| {
            s.write("mine.toml", "epochs = 5\n");
        }),
        logdir("run", 73, &["a finished run, and its config.toml cannot be read", "--fresh", "--logdir"])
            .in_a_place_where(|s| {
                s.write("run/result.json", "{\"validation_accuracy\": 0.9876}");
            }),
        logdir("run", 73, &["a finished run, and its result.json cannot be read", "--fresh"]).in_a_place_where(|s| {
            s.write("run/config.toml", "");
            s.write("run/result.json", "half a fi");
        }),
        logdir("run", 73, &["a run of 3 epochs, and no checkpoint from which it could go on to 5"]).in_a_place_where(
            |s| {
                s.write("run/config.toml", "dataset = \"synthetic\"");
                s.write("run/result.json", "{\"epochs\": 3}");
            },
        ),
        logdir("run", 78, &["other settings", "  learning-rate: was 0.01, now 1e-3", "--fresh", "--fork-from run"])
            .in_a_place_where(|s| {
                s.write("run/config.toml", "dataset = \"synthetic\"\nlearning-rate = 0.01");
                s.write("run/result.json", "{\"epochs\": 5}");
            }),
        logdir("run", 78, &["  epochs: was 9 done, now 5"]).in_a_place_where(|s| {
            s.write("run/config.toml", "dataset = \"synthetic\"");
            s.write("run/result.json", "{\"epochs\": 9}");
        }),
        // The directory is checked before the data.
        mistake("--logdir file", 73, &["file is a file"]).in_a_place_where(|s| {
            s.write("file", "mine");
        }),
        mistake("--logdir run", 73, &["a finished run, and its config.toml"]).in_a_place_where(|s| {
            s.write("run/result.json", "{}");
        }),
    ];
    // No user can create a directory there, not even root.
    let (code, why) = if is_root() { (73, "/proc/trainer") } else { (77, "/proc") };
    mistakes.push(logdir("/proc/trainer/run", code, &[why, "cannot be written"]));
    check(&mistakes);
}

#[test]
fn a_directory_without_permission_is_found_before_the_data() {
    if is_root() {
        return skip("permission bits do not bind root");
    }
    let sandbox = Sandbox::new();
    sandbox.create_dir("locked");
    std::fs::set_permissions(sandbox.path("locked"), std::fs::Permissions::from_mode(0o555)).unwrap();
    let outcome = sandbox.run("--logdir locked/run");
    std::fs::set_permissions(sandbox.path("locked"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(outcome.code(), 77, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("locked cannot be written: Permission denied"), "{}", outcome.stderr);
}

#[test]
fn a_read_only_file_system_is_found_before_the_data() {
    let sandbox = Sandbox::new();
    sandbox.create_dir("mount");
    let script = "unshare -rm true || exit 200
        exec unshare -rm bash -c 'mount -t tmpfs -o ro none mount || exit 200; exec \"$0\" --logdir mount/run' \"$0\"";
    let outcome = finish(sandbox.command("bash").args(["-c", script, support::program()]));
    if outcome.code() == 200 {
        return skip("no mounting in a namespace of one's own here");
    }
    assert_eq!(outcome.code(), 73, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("mount cannot be written: Read-only file system"), "{}", outcome.stderr);
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let sandbox = Sandbox::new();
    let lock = File::open(sandbox.write("run/run.lock", "4711\n")).unwrap();
    lock.try_lock().unwrap();
    let before = sandbox.tree();
    for fresh in ["", "--fresh"] {
        let outcome = sandbox.run(&format!("{RUN} {fresh}"));
        assert_eq!(outcome.code(), 73, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("run is in use by process 4711"), "{}", outcome.stderr);
        assert_eq!(sandbox.tree(), before);
    }
}

#[test]
fn networks_and_devices_that_are_not_there() {
    check(&[
        mistake(RUN, 69, &["device cuda:99 is not there", "--device cpu"]).argument("--device").argument("cuda:99"),
        mistake(RUN, 78, &["layer `conv2d_3`", "1x1x8", "3x3"]).argument("--conv-filters").argument("8,8,8,8,8"),
        mistake(RUN, 78, &["layer `conv2d`", "28x28x1", "29x29"]).argument("--kernel-size").argument("29"),
        mistake(RUN, 78, &["layer `max_pooling2d`", "1x1x32"]).argument("--kernel-size").argument("28"),
        mistake(RUN, 78, &["layer `dense`", "too large"])
            .argument("--conv-filters=8192")
            .argument("--dense-units=65536"),
        mistake("summary --input 4x4x1", 78, &["layer `conv2d_1`", "1x1x32", "3x3"]),
        mistake("summary --input 16384x16384x16384 --conv-filters 65536 --kernel-size 64", 78, &["layer `conv2d`"]),
    ]);
}

#[test]
fn event_files_that_are_none() {
    check(&[
        mistake("inspect nothing", 66, &["nothing"]),
        mistake("inspect empty", 66, &["empty", "tfevents"]).in_a_place_where(|s| s.create_dir("empty")),
        mistake("inspect run", 65, &["run", "byte 0", "checksum"]).in_a_place_where(|s| {
            s.write("run/events.out.tfevents.1.host", [7; 100]);
        }),
        mistake("inspect run --json", 65, &["run", "length_checksum"]).in_a_place_where(|s| {
            s.write("run/events.out.tfevents.1.host", [7; 100]);
        }),
        mistake("inspect text", 65, &["text, not an event file", "24 of 24 bytes unread"]).in_a_place_where(|s| {
            s.write("text", "not an event file at all");
        }),
    ]);
}

#[test]
fn runs_and_pictures_that_are_none() {
    /// A run with a configuration and no weights yet.
    fn unfinished(s: &Sandbox) {
        s.write("logs/fit/config.toml", "dataset = \"synthetic\"\n");
    }
    let asking = |line: &str, code, says: &[&str]| mistake(&format!("predict {line}"), code, says);
    check(&[
        asking("", 64, &["--run <DIR>", "<FILE>"]),
        asking("--run run", 64, &["<FILE>"]),
        asking("--run run a.png --top 0", 64, &["top from command line: got `0`, want "]),
        asking("--run run a.png --top all", 64, &["top from command line: got `all`, want "]),
        asking("--run run a.png --format yaml", 64, &["format from command line: got `yaml`, want `table` or `json`"]),
        asking("--run run a.png --invert maybe", 64, &["invert from command line: got `maybe`, want "]),
        asking("--run run a.png --epochs 3", 64, &["'--epochs'"]),
        asking("--run run a.png --device cuda:99", 69, &["device cuda:99 is not there"]),
        asking("--run none a.png", 66, &["run none", "No such file"]),
        asking("--run file a.png", 66, &["file is a file", "--logdir"]).in_a_place_where(|s| {
            s.write("file", "mine");
        }),
        asking("--run empty a.png", 66, &["empty is not the directory of a run", "config.toml", "--logdir"])
            .in_a_place_where(|s| s.create_dir("empty")),
        asking("--run logs a.png", 66, &["did you mean logs/fit?"]).in_a_place_where(unfinished),
        asking("--run logs/fit a.png", 66, &["not finished", "model.safetensors", "--config logs/fit/config.toml"])
            .in_a_place_where(unfinished),
        asking("--run logs/fit a.png", 65, &["logs/fit/model.safetensors is no safetensors file"]).in_a_place_where(
            |s| {
                unfinished(s);
                s.write("logs/fit/model.safetensors", "half a fi");
            },
        ),
        asking("--run run a.png", 78, &["run run cannot be used", "run/config.toml is not TOML"]).in_a_place_where(
            |s| {
                s.write("run/config.toml", "[[[");
            },
        ),
        asking("--run run a.png", 78, &["run run cannot be used", "unknown key `layers`"]).in_a_place_where(|s| {
            s.write("run/config.toml", "layers = 3");
        }),
    ]);
}

#[test]
fn pictures_that_are_none() {
    let trained = Sandbox::new();
    let small = "--conv-filters 2 --dense-units 2 --epochs 1 --limit-train 32 --limit-validation 10 --image-freq 0";
    trained.run(&format!("{RUN} {small}")).succeeded();
    let run = trained.path("run");
    let asking = |file: &str, code, says: &[&str]| mistake("predict --run", code, says).argument(&run).argument(file);
    let file = |name: &'static str, content: &'static [u8], code, says: &[&str]| {
        asking(name, code, says).in_a_place_where(move |s| {
            s.write(name, content);
        })
    };
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x1c\0\0\0\x1c\x08\0\0\0\0";
    check(&[
        asking("none.png", 66, &["none.png: cannot read the picture: No such file"]),
        asking(".", 66, &[".: is a directory"]),
        asking("/dev/zero", 66, &["/dev/zero: cannot read the picture: it is a device"]),
        file("empty.png", b"", 65, &["empty.png: is empty"]),
        file("text.png", b"hello", 65, &["text.png: is no PNG, JPEG or BMP picture"]),
        file("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0", 65, &["phone.heic: is a HEIC file", "convert it first"]),
        file("cut.png", png, 65, &["cut.png: is "]),
        file("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", 65, &["cut.jpg: is cut off"]),
        asking("-", 65, &["stdin: is empty"]),
    ]);
}

#[test]
fn a_setting_of_any_length_is_printed() {
    let sandbox = Sandbox::new();
    let steps: Vec<String> = (1..20_000u32).map(|step| step.to_string()).collect();
    let observe = format!("scalars=at:{}", steps.join(","));
    let printed = finish(&mut sandbox.trainer(["config", "--observe", &observe])).succeeded().stdout;
    assert!(printed.lines().any(|line| line.len() > 65_536), "{}", printed.len());
    assert!(printed.lines().filter(|line| line.len() > 200).count() == 1, "one long line widens no other");
}

#[test]
fn a_changed_byte_in_an_event_file_is_found() {
    let sandbox = Sandbox::new();
    sandbox.run(&format!("{RUN} --epochs 1 --limit-train 32 --limit-validation 10 --image-freq 0")).succeeded();
    sandbox.run("inspect run").succeeded();
    let name = sandbox.tree().into_keys().find(|path| path.to_string_lossy().starts_with("run/validation/")).unwrap();
    let name = name.to_str().unwrap();
    let mut bytes = sandbox.read(name);
    let last = bytes.len() - 5;
    bytes[last] ^= 0x10;
    sandbox.write(name, bytes);
    let outcome = sandbox.run("inspect run");
    assert_eq!(outcome.code(), 65);
    assert!(outcome.says("payload checksum"), "{}{}", outcome.stdout, outcome.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn memory_comes_from_jemalloc() {
    let sandbox = Sandbox::new();
    // The program also builds without jemalloc, and no code calls it, so only its own message proves that it is in
    // use.
    let outcome = finish(sandbox.trainer(["--version"]).env("MALLOC_CONF", "nonsense:1"));
    assert!(outcome.says("Invalid conf pair"), "{}{}", outcome.stdout, outcome.stderr);
}

#[test]
fn no_argument_steers_the_terminal_through_an_error() {
    let sandbox = Sandbox::new();
    let steering = "\u{1b}]0;title\u{7}\u{202e}x";
    for arguments in [
        &["predict", "--run", steering, "a.png"][..],
        &["--dataset", steering],
        &["--logdir", steering, "--dataset", "synthetic", "--epochs", steering],
        &[steering],
        &[&format!("--{steering}")],
        &["data", "verify", steering],
        &["data", "fetch", "mnist", "--mirror", steering],
    ] {
        let outcome = finish(&mut sandbox.trainer(arguments));
        assert_ne!(outcome.code(), 0);
        assert!(!outcome.stderr.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{arguments:?}: {:?}", outcome.stderr);
        // clap drops complete escape sequences and escapes the rest.
        assert!(outcome.stderr.contains(r"\u{202e}x"), "{arguments:?}: {}", outcome.stderr);
    }
}

/// Flags, the file found with them, and the changes to the usual layout.
type Layout<'a> = (&'a str, &'a str, &'a dyn Fn(&Sandbox));

#[test]
fn data_sets_are_found_in_the_layouts_of_other_programs() {
    let layouts: [Layout<'_>; 6] = [
        // Kaggle's archive: a file under its name with a dot, beside a directory of the usual name, which may hold
        // the file instead.
        ("", "data/mnist/train-images.idx3-ubyte", &|s| {
            for (path, dotted) in [(TRAIN_IMAGES, "train-images.idx3-ubyte"), (TEST_LABELS, "t10k-labels.idx1-ubyte")] {
                std::fs::rename(s.path(path), s.path(format!("data/mnist/{dotted}"))).unwrap();
                s.create_dir(path);
            }
        }),
        ("", "data/mnist/train-images-idx3-ubyte/train-images-idx3-ubyte", &|s| {
            std::fs::rename(s.path(TRAIN_IMAGES), s.path("images")).unwrap();
            s.create_dir(TRAIN_IMAGES);
            std::fs::rename(s.path("images"), s.path(format!("{TRAIN_IMAGES}/train-images-idx3-ubyte"))).unwrap();
        }),
        ("", "data/MNIST/raw/train-images-idx3-ubyte", &|s| {
            s.create_dir("data/MNIST");
            std::fs::rename(s.path("data/mnist"), s.path("data/MNIST/raw")).unwrap();
        }),
        ("--data-dir data/mnist", "data/mnist/train-images-idx3-ubyte", &|_| {}),
        ("--data-dir data/MNIST", "data/MNIST/raw/train-images-idx3-ubyte", &|s| {
            s.create_dir("data/MNIST");
            std::fs::rename(s.path("data/mnist"), s.path("data/MNIST/raw")).unwrap();
        }),
        ("", "data/mnist/TRAIN-IMAGES-IDX3-UBYTE", &|s| {
            std::fs::rename(s.path(TRAIN_IMAGES), s.path("data/mnist/TRAIN-IMAGES-IDX3-UBYTE")).unwrap();
        }),
    ];
    for (flags, found, arrange) in layouts {
        let sandbox = Sandbox::new();
        small_mnist(&sandbox, 12, 6);
        arrange(&sandbox);
        // The files are found, and differ from the published ones.
        let outcome = sandbox.run(&format!("data verify mnist {flags}"));
        assert_eq!(outcome.code(), 65);
        assert!(outcome.says(&format!("{found}: not the published file")), "{}", outcome.stdout);
        sandbox.run(&format!("--logdir run --epochs 1 --observe none {flags}")).succeeded();
    }
}

#[test]
fn files_of_another_data_set_or_form_are_named_where_a_data_set_is_missing() {
    let sandbox = Sandbox::new();
    sandbox.write("data/mnist/mnist.npz", b"PK");
    sandbox.write("data/mnist/train-images-idx3-ubyte/notes.txt", b"");
    let outcome = sandbox.run("--logdir run");
    assert_eq!(outcome.code(), 66);
    for said in [
        "data/mnist/mnist.npz is a NumPy archive, which is not read",
        "data/mnist/train-images-idx3-ubyte is a directory without that file in it",
    ] {
        assert!(outcome.says(said), "{}", outcome.stderr);
    }
    let published = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist");
    sandbox.link("other", published.to_str().unwrap());
    if sandbox.run("data verify mnist --data-dir other").code() != 0 {
        return skip("the data set is not fetched yet");
    }
    let outcome = sandbox.run("--logdir run --dataset fashion-mnist --data-dir other");
    assert_eq!(outcome.code(), 66);
    assert!(outcome.says("other holds the files of mnist"), "{}", outcome.stderr);
    let outcome = sandbox.run("data verify fashion-mnist --data-dir other");
    assert_eq!(outcome.code(), 65);
    assert!(outcome.says("not the published file: it is that of mnist"), "{}", outcome.stdout);
}

#[test]
fn a_changed_byte_in_the_published_data_is_found() {
    let published = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist");
    let sandbox = Sandbox::new();
    sandbox.create_dir("data/mnist");
    let Ok(files) = std::fs::read_dir(&published) else { return skip("the data set is not fetched yet") };
    for file in files.flatten() {
        std::fs::copy(file.path(), sandbox.path("data/mnist").join(file.file_name())).unwrap();
    }
    if sandbox.run("data verify mnist").code() != 0 {
        return skip("the data set is not fetched yet");
    }
    let name = sandbox.tree().into_keys().find(|path| path.to_string_lossy().contains("t10k-labels")).unwrap();
    let mut bytes = std::fs::read(sandbox.path(&name)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(sandbox.path(&name), bytes).unwrap();
    let outcome = sandbox.run("data verify mnist");
    assert_eq!(outcome.code(), 65);
    assert!(outcome.says("t10k-labels") && outcome.says("SHA-256 is"), "{}", outcome.stdout);
}
