//! Asks the linker to keep one copy of functions that are the same byte for byte.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // The toolchain's own linker there knows the option; others may not.
    let knows =
        (target("ARCH"), target("OS"), target("ENV")) == ("x86_64".into(), "linux".into(), "gnu".into());
    if is_release && knows {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
