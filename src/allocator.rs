//! Keeps freed memory: the allocator's habit of giving large blocks back costs fresh pages in every step.

/// Tells glibc to serve large blocks from the heap and to keep what is freed, so that the activations of each step find
/// their pages mapped. Does nothing on other systems.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the C library's setting has no safe wrapper")]
    // SAFETY: mallopt only sets numbers of the allocator and may be called at any time from any thread.
    unsafe {
        // Before 2.35 glibc takes no more than half its heap size, and refuses the call.
        if libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30) == 0 {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        }
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 16 << 20);
    }
}
