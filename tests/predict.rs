//! Guarantees of prediction: images of any kind are understood, and an unusable input is reported with its exit code
//! and does not stop the rest.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: whatever fails, fails the test")]

mod support;

use std::ffi::OsStr;
use std::io::{Cursor, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::LazyLock;

use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use serde_json::Value;
use support::{Outcome, Sandbox, finish, start};
use trainer::data::{DatasetName, Split, synthetic};
use trainer::explain::Method;
use trainer::types::Seed;

/// A run that has learned the drawn shapes, trained once, in its directory `run`.
static TRAINED: LazyLock<Sandbox> = LazyLock::new(|| {
    let sandbox = Sandbox::new();
    sandbox.run(&format!("{TRAINING} --logdir run")).succeeded();
    sandbox
});
const TRAINING: &str = "--dataset synthetic --epochs 4 --conv-filters 8,16 --dense-units 32 --learning-rate 3e-3 \
                        --limit-validation 500 --image-freq 0 --histogram-freq 0 --update-freq epoch";

static VALIDATION: LazyLock<Split> = LazyLock::new(|| synthetic::dataset(Seed(0)).validation);

/// A directory with a link to the trained run, `run`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.link("run", TRAINED.path("run").to_str().unwrap());
    sandbox
}

fn shape(index: usize) -> DynamicImage {
    DynamicImage::ImageLuma8(GrayImage::from_raw(28, 28, VALIDATION.image(index).to_vec()).unwrap())
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn objects(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

#[test]
fn images_of_the_validation_split_are_told_as_in_training() {
    let sandbox = sandbox();
    let mut command = sandbox.trainer(["predict", "--run", "run", "--format", "json"]);
    for index in 0..100 {
        let name = format!("{index}.png");
        sandbox.write(&name, encoded(&shape(index), ImageFormat::Png));
        command.arg(name);
    }
    let outcome = finish(&mut command).succeeded();
    assert_eq!(outcome.stderr, "", "nothing had to be done to these");
    let objects = objects(&outcome);
    assert_eq!(objects.len(), 100);
    let mut right = 0;
    for (index, object) in objects.iter().enumerate() {
        assert_eq!(object["file"], format!("{index}.png"));
        assert_eq!(object["prepared"], Value::Array(vec![]));
        let class = object["class_index"].as_u64().unwrap() as usize;
        assert_eq!(object["class"], DatasetName::Synthetic.classes()[class]);
        let probabilities = object["probabilities"].as_object().unwrap();
        assert_eq!(probabilities.keys().collect::<Vec<_>>(), DatasetName::Synthetic.classes());
        assert_eq!(probabilities[DatasetName::Synthetic.classes()[class]], object["probability"]);
        let values: Vec<f64> = probabilities.values().map(|value| value.as_f64().unwrap()).collect();
        assert!((values.iter().sum::<f64>() - 1.0).abs() < 1e-4);
        assert!(values.iter().all(|value| *value <= object["probability"].as_f64().unwrap()));
        right += usize::from(class == usize::from(VALIDATION.label(index)));
    }
    assert!(right > 85, "{right} of 100");
}

#[test]
fn inverted_enlarged_and_coloured_is_the_same_shape_and_what_was_done_is_said() {
    let sandbox = sandbox();
    let (mut same, mut asked) = (0, 0);
    for index in 0..20 {
        let large = shape(index).resize(280, 280, FilterType::Triangle).into_luma8();
        // Blue ink on yellow paper.
        let tint = |value: u8| image::Rgb([255 - value, 255 - value, 235 - (u16::from(value) * 180 / 255) as u8]);
        let tinted = RgbImage::from_fn(280, 280, |x, y| tint(large.get_pixel(x, y).0[0]));
        sandbox.write("plain.png", encoded(&shape(index), ImageFormat::Png));
        sandbox.write("photo.jpg", encoded(&DynamicImage::ImageRgb8(tinted), ImageFormat::Jpeg));
        let outcome = sandbox.run("predict --run run --format json plain.png photo.jpg").succeeded();
        let done =
            "colours turned to grey, inverted from dark on light to light on dark, resized from 280x280 to 28x28";
        assert_eq!(outcome.stderr, format!("photo.jpg: {done}\n"), "information, no warning");
        let objects = objects(&outcome);
        let prepared: Vec<&str> =
            objects[1]["prepared"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
        assert_eq!(prepared.join(", "), done);
        if objects[0]["probability"].as_f64().unwrap() > 0.9 {
            asked += 1;
            same += usize::from(objects[0]["class"] == objects[1]["class"]);
        }
    }
    assert!(asked >= 10 && same + 1 >= asked, "{same} of {asked}");
}

#[test]
fn only_doubts_are_warnings_and_they_stand_out_when_it_is_quiet() {
    let sandbox = sandbox();
    let large = shape(0).resize(280, 280, FilterType::Triangle);
    sandbox.write("good.png", encoded(&large, ImageFormat::Png));
    sandbox.write("blank.png", encoded(&DynamicImage::new_luma8(50, 40), ImageFormat::Png));
    let jpeg = encoded(&large, ImageFormat::Jpeg);
    sandbox.write("cut.jpg", &jpeg[..jpeg.len() - 40]);
    let outcome = sandbox.run("predict --run run --quiet --format json good.png blank.png cut.jpg").succeeded();
    let objects = objects(&outcome);
    let doubts: Vec<Vec<&str>> = objects
        .iter()
        .map(|object| object["doubts"].as_array().unwrap().iter().map(|doubt| doubt.as_str().unwrap()).collect())
        .collect();
    assert_eq!(doubts[..2], [vec![], vec!["nothing stands out in it"]]);
    assert!(doubts[2].len() == 1 && doubts[2][0].starts_with("its file ends early: the lowest "), "{doubts:?}");
    let want = format!(
        "warning: blank.png: the answer is doubtful: nothing stands out in it\n\
         warning: cut.jpg: the answer is doubtful: {}\n",
        doubts[2][0]
    );
    assert_eq!(outcome.stderr, want);
    let mut command = sandbox.trainer(["explain", "--run", "run", "--quiet", "--method", "gradcam", "--out", "why"]);
    let outcome = finish(command.args(["--image", "good.png", "blank.png", "cut.jpg"])).succeeded();
    assert_eq!(outcome.stderr, want);
}

#[test]
fn a_table_has_a_row_for_each_picture() {
    let sandbox = sandbox();
    sandbox.write("a.png", encoded(&shape(0), ImageFormat::Png));
    sandbox.write("b.bmp", encoded(&shape(1), ImageFormat::Bmp));
    let outcome = sandbox.run("predict --run run a.png b.bmp --top 3").succeeded();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{}", outcome.stdout);
    assert!(lines[0].starts_with("weights: ") && lines[0].ends_with(" %"), "{}", lines[0]);
    assert!(lines[1].starts_with("file   class") && lines[1].ends_with("3rd"), "{}", lines[1]);
    assert!(lines[2].starts_with("a.png  ") && lines[3].starts_with("b.bmp  ") && lines[3].ends_with(" %"));
    assert_eq!(lines[2].matches('%').count(), 3);
}

#[test]
fn a_picture_may_come_through_a_pipe() {
    let sandbox = sandbox();
    let mut command = sandbox.trainer(["predict", "--run", "run", "--format", "json", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&encoded(&shape(5), ImageFormat::Png)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["file"], "stdin");
}

#[test]
fn a_picture_that_cannot_be_used_does_not_stop_the_others() {
    let sandbox = sandbox();
    sandbox.write("good.png", encoded(&shape(0), ImageFormat::Png));
    sandbox.write("text.png", "hello");
    let outcome = sandbox.run("predict --run run --format json none.png text.png good.png");
    assert_eq!(outcome.code(), 66, "the first one's: {}", outcome.stderr);
    let said: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(
        said,
        [
            "error: none.png: cannot read the picture: No such file or directory (os error 2)",
            "error: text.png: is no PNG, JPEG or BMP picture"
        ]
    );
    assert_eq!(objects(&outcome)[0]["file"], "good.png");
    let outcome = sandbox.run("predict --run run text.png none.png");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (65, ""));
}

#[test]
fn names_may_be_any_bytes_and_none_of_them_steers_the_terminal() {
    let sandbox = sandbox();
    let picture = encoded(&shape(0), ImageFormat::Png);
    let names: [&[u8]; 6] =
        [b"caf\xe9.png", b"\xff\xfe", b"a\nb.png", b"\x1b[31mred\x07.png", "\u{202e}gnp.png".as_bytes(), b"plain.png"];
    for name in names {
        std::fs::write(sandbox.path(OsStr::from_bytes(name)), &picture).unwrap();
    }
    // One image that is resized, one file that is no image, one that is missing: a warning and two errors.
    let large = shape(0).resize(100, 100, FilterType::Triangle);
    let names = names.into_iter().chain([&b"\x1blarge\xff.png"[..], b"\x1btext\xff.png", b"\x1bnone\xff.png"]);
    let names: Vec<&OsStr> = names.map(OsStr::from_bytes).collect();
    std::fs::write(sandbox.path(names[6]), encoded(&large, ImageFormat::Png)).unwrap();
    std::fs::write(sandbox.path(names[7]), "hello").unwrap();

    let mut command = sandbox.trainer(["predict", "--run", "run"]);
    let outcome = finish(command.args(&names));
    assert_eq!(outcome.code(), 65, "{}", outcome.stderr);
    let rows: Vec<&str> = outcome.stdout.lines().skip(1).map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(
        rows,
        [
            "file",
            r"caf\xe9.png",
            r"\xff\xfe",
            r"a\nb.png",
            r"\u{1b}[31mred\u{7}.png",
            r"\u{202e}gnp.png",
            "plain.png",
            r"\u{1b}large\xff.png",
        ]
    );
    let said: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(said.len(), 3, "{}", outcome.stderr);
    assert!(said[0].starts_with(r"\u{1b}large\xff.png: "), "{}", said[0]);
    assert_eq!(said[1], r"error: \u{1b}text\xff.png: is no PNG, JPEG or BMP picture");
    assert!(said[2].starts_with(r"error: \u{1b}none\xff.png: cannot read the picture: No such file"), "{}", said[2]);

    // JSON contains Unicode names unchanged.
    let mut command = sandbox.trainer(["predict", "--run", "run", "--format", "json"]);
    let files: Vec<Value> =
        objects(&finish(command.args(&names))).into_iter().map(|object| object["file"].clone()).collect();
    assert_eq!(files[..4], [r"caf\xe9.png", r"\xff\xfe", "a\nb.png", "\u{1b}[31mred\u{7}.png"]);

    let mut command = sandbox.trainer(["explain", "--run", "run", "--out", "why", "--method", "occlusion", "--image"]);
    let outcome = finish(command.args(&names));
    assert_eq!(outcome.code(), 65, "{}", outcome.stderr);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 8, "{}", outcome.stdout);
    assert!(lines[1].starts_with("why/caf-xe9.explanations.png: why "), "{}", lines[1]);
}

#[test]
fn the_best_epoch_answers_unless_the_last_one_is_asked() {
    let sandbox = Sandbox::new();
    sandbox.write("a.png", encoded(&shape(0), ImageFormat::Png));
    // The loss rises after the first epoch.
    let training = "--dataset synthetic --conv-filters 3,4 --dense-units 6 --limit-train 170 --limit-validation 40 \
                    --batch-size 50 --learning-rate 1 --observe none --quiet";
    sandbox.run(&format!("--logdir run --epochs 3 {training}")).succeeded();
    let result: Value = serde_json::from_slice(&sandbox.read("run/result.json")).unwrap();
    let best = &result["best"];
    assert_eq!(best["weights"], "best.safetensors", "{result}");
    let percent = |accuracy: &Value| format!("{:.2} %", accuracy.as_f64().unwrap() * 100.0);
    let best_line = format!(
        "weights: best.safetensors, epoch {} of 3, validation accuracy {}",
        best["epoch"],
        percent(&best["validation_accuracy"])
    );
    let last_line = format!(
        "weights: model.safetensors, epoch 3 of 3, validation accuracy {}",
        percent(&result["validation_accuracy"])
    );
    let ask = |flags: &str| sandbox.run(&format!("predict --run run a.png {flags}")).succeeded();
    for (flags, line) in [("", &best_line), ("--weights best", &best_line), ("--weights last", &last_line)] {
        assert_eq!(ask(flags).stdout.lines().next(), Some(line.as_str()));
        let explained = sandbox.run(&format!("explain --run run --indices 0 --out why --method occlusion {flags}"));
        assert_eq!(explained.succeeded().stdout.lines().next(), Some(line.as_str()));
    }
    let answer = |flags: &str| objects(&ask(&format!("--format json {flags}"))).remove(0);
    assert_eq!((&answer("")["weights"], &answer("")["epoch"]), (&"best.safetensors".into(), &best["epoch"]));
    assert_eq!(
        (&answer("--weights last")["weights"], &answer("--weights last")["epoch"]),
        (&"model.safetensors".into(), &3.into())
    );
    assert_ne!(answer("")["probabilities"], answer("--weights last")["probabilities"]);

    let refused = |flags: &str, code: i32, says: &str| {
        let outcome = sandbox.run(&format!("predict --run run a.png {flags}"));
        assert_eq!(outcome.code(), code, "{}", outcome.stderr);
        assert!(outcome.stderr.contains(says), "{}", outcome.stderr);
    };
    refused("--weights first", 64, "weights from command line: got `first`, want `best` or `last`");
    let whole = sandbox.read("run/best.safetensors");
    let mut damaged = whole.clone();
    let end = damaged.len() - 1;
    damaged[end] ^= 1;
    sandbox.write("run/best.safetensors", &damaged);
    refused("", 65, "best.safetensors are damaged");
    std::fs::remove_file(sandbox.path("run/best.safetensors")).unwrap();
    refused(
        "",
        66,
        "run run: there is no best.safetensors in it, with the weights of the best epoch; ask the last one",
    );
    assert_eq!(ask("--weights last").stdout.lines().next(), Some(last_line.as_str()));
    // A result of an older version, and one manipulated to name another file.
    let text = String::from_utf8(sandbox.read("run/result.json")).unwrap();
    for other in [text.replace("\"best\"", "\"other\""), text.replace("best.safetensors", "../a.png")] {
        sandbox.write("run/result.json", &other);
        assert_eq!(ask("").stdout.lines().next(), Some(last_line.as_str()));
        refused("--weights best", 66, "run run does not say which epoch was the best");
    }
    std::fs::remove_file(sandbox.path("run/result.json")).unwrap();
    assert_eq!(ask("").stdout.lines().next(), Some("weights: model.safetensors, of a run without a result"));
}

#[test]
fn neither_the_data_nor_the_place_of_training_is_needed() {
    let sandbox = sandbox();
    sandbox.write("a.png", encoded(&shape(0), ImageFormat::Png));
    let plain = sandbox.run("predict --run run a.png").succeeded();
    // Environment variables affect only new runs.
    let mut command = sandbox.trainer(["predict", "--run", "run", "a.png"]);
    let said = [("TRAINER_DATASET", "mnist"), ("TRAINER_CONV_FILTERS", "none"), ("TRAINER_LOGDIR", "elsewhere")];
    let outcome = finish(command.envs(said)).succeeded();
    assert_eq!((outcome.stdout, outcome.stderr), (plain.stdout, String::new()));
    assert!(!sandbox.path("elsewhere").exists());
}

#[test]
fn classes_and_shape_are_those_of_the_runs_own_description() {
    // A copy: the others read the original.
    let sandbox = Sandbox::new();
    let copied = sandbox.command("cp").args(["-r", TRAINED.path("run").to_str().unwrap(), "run"]).status();
    assert!(copied.unwrap().success());
    let write = |json: &Value| sandbox.write("run/dataset.json", json.to_string());
    let original: Value = serde_json::from_slice(&sandbox.read("run/dataset.json")).unwrap();
    assert_eq!((&original["name"], &original["height"]), (&Value::from("synthetic"), &Value::from(28)));
    assert_eq!(original["classes"].as_array().unwrap().len(), 10);
    sandbox.write("a.png", encoded(&shape(3), ImageFormat::Png));
    let before = sandbox.run("predict --run run a.png").succeeded().stdout;

    // A run of an older version has none.
    std::fs::remove_file(sandbox.path("run/dataset.json")).unwrap();
    assert_eq!(sandbox.run("predict --run run a.png").succeeded().stdout, before);

    let mut other = original.clone();
    for class in other["classes"].as_array_mut().unwrap() {
        *class = format!("kind of {}", class.as_str().unwrap()).into();
    }
    write(&other);
    let class = DatasetName::Synthetic.classes()[usize::from(VALIDATION.label(3))];
    let outcome = sandbox.run("predict --run run a.png").succeeded();
    assert!(outcome.stdout.contains(&format!("kind of {class}")), "{}", outcome.stdout);
    let outcome = sandbox.run("explain --run run --image a.png --out why --method occlusion").succeeded();
    assert!(outcome.stdout.contains("why kind of "), "{}", outcome.stdout);

    other["classes"].as_array_mut().unwrap().pop();
    write(&other);
    let outcome = sandbox.run("predict --run run a.png");
    assert_eq!(outcome.code(), 65, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("do not fit this network: `dense_1.weight`"), "{}", outcome.stderr);
    sandbox.write("run/dataset.json", b"{");
    let outcome = sandbox.run("predict --run run a.png");
    assert_eq!(outcome.code(), 65, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("run/dataset.json is not the description of a data set"), "{}", outcome.stderr);
}

#[test]
fn asking_changes_nothing_and_gives_the_same_answer_again() {
    let sandbox = sandbox();
    sandbox.write("a.png", encoded(&shape(0), ImageFormat::Png));
    let before = TRAINED.tree();
    let mut running = Vec::new();
    for _ in 0..2 {
        let mut command = sandbox.trainer(["predict", "--run", "run", "--format", "json", "a.png"]);
        running.push(start(command.stdout(Stdio::piped()).stderr(Stdio::piped())));
    }
    let answers: Vec<String> = running.into_iter().map(|one| one.finish().succeeded().stdout).collect();
    assert_eq!(answers[0], answers[1]);
    assert!(TRAINED.tree() == before);
}

#[test]
fn an_explanation_is_pictures_an_event_file_and_numbers() {
    let sandbox = sandbox();
    sandbox.write("a shape.png", encoded(&shape(3), ImageFormat::Png));
    let mut command = sandbox.trainer(["explain", "--run", "run", "--out", "why", "--raw", "--indices", "3,7"]);
    let outcome = finish(command.args(["--image", "a shape.png"])).succeeded();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("weights: "), "{}", lines[0]);
    let class = DatasetName::Synthetic.classes()[usize::from(VALIDATION.label(7))];
    for (line, name) in lines[1..].iter().zip(["a-shape", "validation-3", "validation-7"]) {
        assert!(line.starts_with(&format!("why/{name}.explanations.png: why ")), "{line}");
        for method in Method::ALL {
            let png = sandbox.read(&format!("why/{name}.{method}.png"));
            let picture = image::load_from_memory(&png).unwrap();
            assert_eq!((picture.width(), picture.height()), (336, 336), "{name}: {method}");
        }
        assert_eq!(
            image::load_from_memory(&sandbox.read(&format!("why/{name}.explanations.png"))).unwrap().width(),
            348
        );
    }
    assert!(
        lines[3].contains(&format!("why {class} ")) || lines[3].contains(&format!("it is {class})")),
        "{}",
        lines[3]
    );

    // The same image from a file and from the data set has the same maps.
    let bytes = sandbox.read("why/maps.safetensors");
    let maps = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(maps.len(), 3 * Method::ALL.len());
    for method in Method::ALL {
        let map = |name: &str| maps.tensor(&format!("{name}/{method}")).unwrap();
        assert_eq!(map("a-shape").data(), map("validation-3").data(), "{method}");
        assert_ne!(map("a-shape").data(), map("validation-7").data(), "{method}");
    }
    let report = sandbox.run("inspect why").succeeded().stdout;
    for name in ["a-shape", "validation-3", "validation-7"] {
        assert!(report.contains(&format!("explanations/{name}")), "{report}");
    }

    // The same command gives the same result, to the bit.
    let ask = |flags: &str| {
        sandbox.run(&format!("explain --run run --out why --indices 7 {flags}")).succeeded();
        sandbox.read("why/validation-7.explanations.png")
    };
    let first = ask("");
    assert!(ask("--method gradcam,occlusion --target ring") != first, "other methods, another class");
    assert!(ask("") == first, "the same question");
}

#[test]
fn a_network_without_a_finite_answer_neither_predicts_nor_explains() {
    let sandbox = sandbox();
    sandbox.write("a.png", encoded(&shape(0), ImageFormat::Png));
    for file in ["config.toml", "model.safetensors", "result.json"] {
        sandbox.write(&format!("diverged/{file}"), TRAINED.read(&format!("run/{file}")));
    }
    // Every weight is finite, but their sums are not.
    let mut weights = sandbox.read("diverged/model.safetensors");
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    weights[header..].chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&f32::MAX.to_le_bytes()));
    let mut result: Value = serde_json::from_slice(&sandbox.read("diverged/result.json")).unwrap();
    result["weights_blake3"] = blake3::hash(&weights).to_hex().as_str().into();
    // Without a best epoch the weights of the last one are used.
    result.as_object_mut().unwrap().remove("best");
    sandbox.write("diverged/model.safetensors", weights);
    sandbox.write("diverged/result.json", result.to_string());
    for ask in ["predict --run diverged a.png", "explain --run diverged --out why --image a.png"] {
        let outcome = sandbox.run(ask);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (65, ""), "{ask}: {}", outcome.stderr);
        assert!(outcome.says("a.png: the network's answer is not finite: it has diverged"), "{}", outcome.stderr);
        assert!(!sandbox.path("why").exists(), "{ask} left something behind");
    }
}

#[test]
fn an_explanation_that_singles_out_no_place_has_no_colours() {
    let sandbox = sandbox();
    for value in [0, 128, 255] {
        let blank = DynamicImage::ImageLuma8(GrayImage::from_pixel(28, 28, image::Luma([value])));
        sandbox.write("blank.png", encoded(&blank, ImageFormat::Png));
        sandbox.run("explain --run run --out why --image blank.png --method gradcam,gradcam++").succeeded();
        for method in ["gradcam", "gradcam++"] {
            let map = image::load_from_memory(&sandbox.read(&format!("why/blank.{method}.png"))).unwrap().to_rgb8();
            let colour = map.pixels().find(|pixel| pixel.0.iter().any(|&channel| channel.abs_diff(pixel.0[0]) > 8));
            assert_eq!(colour, None, "{method} of {value}");
        }
    }
}

#[test]
fn an_explanation_that_cannot_be_given_is_refused() {
    let sandbox = sandbox();
    sandbox.write("file", "");
    for (flags, status, words) in [
        ("--out why", 64, "--image"),
        ("--out why --indices 500", 64, "validation image 500 is not there"),
        ("--out why --indices 0 --layer dense", 64, "want one of those with maps: `conv2d`"),
        ("--out why --indices 0 --method gradcm", 64, "did you mean `gradcam`?"),
        ("--out why --indices 0 --target oval", 64, "want one of `disc`"),
        ("--out file --indices 0", 73, "file"),
        ("--out run --indices 0", 73, "is part of run"),
        ("--out run/train/deep --indices 0", 73, "is part of run"),
        ("--out why --image none.png", 66, "none.png"),
        ("--indices 0", 64, "--out"),
    ] {
        let outcome = sandbox.run(&format!("explain --run run {flags}"));
        assert_eq!(outcome.status.code(), Some(status), "{flags}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{flags}: {}", outcome.stderr);
        assert!(!sandbox.path("why").exists(), "{flags} left something behind");
    }
}
