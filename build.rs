//! Lets the program find libtorch at run time, tells it its own version, compiles what talks to libtorch in C++, and turns
//! `proto/` into Rust.

use std::path::Path;
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");
    // torch-sys tells its dependents where it found libtorch. Without an rpath every start would need LD_LIBRARY_PATH.
    let dir = std::env::var("DEP_TCH_LIBTORCH_LIB")
        .map_err(|_| "torch-sys did not say where libtorch is: run `make setup`, or set LIBTORCH")?;
    // Beside the program first: there scripts/rootfs.py puts what the program needs on a machine without a build.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/trainer:{dir}");
    // libtorch.so brings CUDA in, where there is one, by being loaded: no symbol of it is called, so the linker would leave
    // it out.
    println!("cargo:rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch,--pop-state");
    println!("cargo:rustc-env=TRAINER_LIBTORCH_VERSION={}", libtorch_version(Path::new(&dir)));
    compile_operators(Path::new(&dir));
    println!("cargo:rustc-env=TRAINER_REVISION={}", revision());
    // protox is a compiler in Rust: nobody has to install protoc. Ordered maps make equal messages equal bytes.
    let files = ["event", "graph", "hparams", "plugin", "profile"].map(|name| format!("proto/{name}.proto"));
    let messages = protox::compile(files, ["proto"])?;
    prost_build::Config::new().btree_map(["."]).compile_fds(messages)?;
    Ok(())
}

/// With the headers and for the ABI that torch-sys takes.
fn compile_operators(lib: &Path) {
    let set = |name: &str| {
        println!("cargo:rerun-if-env-changed={name}");
        std::env::var(name).ok()
    };
    let include = set("LIBTORCH_INCLUDE").map_or(lib.with_file_name("include"), |dir| Path::new(&dir).join("include"));
    let abi = set("LIBTORCH_CXX11_ABI").unwrap_or_else(|| "1".to_owned());
    println!("cargo:rerun-if-changed=src/operators.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(include)
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file("src/operators.cpp")
        .compile("operators");
}

/// `2.13.0`, from the headers that belong to the libraries.
fn libtorch_version(lib: &Path) -> String {
    let header = lib.with_file_name("include").join("torch/headeronly/version.h");
    let text = std::fs::read_to_string(header).unwrap_or_default();
    let number = |part: &str| {
        let prefix = format!("#define TORCH_VERSION_{part} ");
        text.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::trim)
    };
    match (number("MAJOR"), number("MINOR"), number("PATCH")) {
        (Some(major), Some(minor), Some(patch)) => format!("{major}.{minor}.{patch}"),
        _ => "unknown".to_owned(),
    }
}

/// The commit that this is built from, `unknown` outside a checkout; a build without `.git` is told by a variable.
fn revision() -> String {
    println!("cargo:rerun-if-env-changed=TRAINER_BUILD_REVISION");
    if let Some(told) = std::env::var("TRAINER_BUILD_REVISION").ok().filter(|told| !told.is_empty()) {
        return told;
    }
    // HEAD itself stays the same when a branch moves; its log does not.
    for file in [".git/HEAD", ".git/logs/HEAD"] {
        if Path::new(file).exists() {
            println!("cargo:rerun-if-changed={file}");
        }
    }
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let text =
        output.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
