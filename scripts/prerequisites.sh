#!/bin/sh
# Checks the prerequisites before any download, and names all missing ones at once.
missing=0

want() { # COMMAND, what it is for, where it comes from
    if ! command -v "$1" >/dev/null 2>&1; then
        printf 'missing: %s (%s); %s\n' "$1" "$2" "$3" >&2
        missing=1
    fi
}

want "${CARGO:-cargo}" 'the Rust build tool' 'see https://rustup.rs'
want "${CXX:-c++}" 'the C++ compiler that builds the bindings of libtorch' 'Debian and Ubuntu: apt install g++'
want "${PYTHON:-python3}" 'fetches libtorch and runs TensorBoard' 'Debian and Ubuntu: apt install python3 python3-venv'

if command -v rustc >/dev/null 2>&1; then
    want_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    have_rust=$(rustc --version | cut -d' ' -f2)
    oldest=$(printf '%s\n%s\n' "$want_rust" "$have_rust" | sort -V | head -n 1)
    if [ "$oldest" != "$want_rust" ]; then
        printf 'too old: rustc is %s, %s or newer is needed; rustup update stable\n' "$have_rust" "$want_rust" >&2
        missing=1
    fi
fi

exit "$missing"
