//! Lets the program find libtorch at run time, and turns `proto/` into Rust.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");
    // torch-sys tells its dependents where it found libtorch. Without an rpath every start would need LD_LIBRARY_PATH.
    match std::env::var("DEP_TCH_LIBTORCH_LIB") {
        Ok(dir) => println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}"),
        Err(_) => println!("cargo:warning=torch-sys did not say where libtorch is: set LD_LIBRARY_PATH to run"),
    }
    // protox is a compiler in Rust: nobody has to install protoc. Ordered maps make equal messages equal bytes.
    let messages = protox::compile(["proto/event.proto", "proto/graph.proto"], ["proto"])?;
    prost_build::Config::new().btree_map(["."]).compile_fds(messages)?;
    Ok(())
}
