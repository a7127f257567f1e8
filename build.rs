//! Lets the program find libtorch at run time.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // torch-sys tells its dependents where it found libtorch. Without an rpath every start would need LD_LIBRARY_PATH.
    match std::env::var("DEP_TCH_LIBTORCH_LIB") {
        Ok(dir) => println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}"),
        Err(_) => println!("cargo:warning=torch-sys did not say where libtorch is: set LD_LIBRARY_PATH to run"),
    }
}
