//! Replaces the system's random numbers and time of day in the simulation: see `system.c`.

fn main() {
    println!("cargo::rerun-if-changed=system.c");
    for object in cc::Build::new().file("system.c").compile_intermediates() {
        println!("cargo::rustc-link-arg-bins={}", object.display());
    }
}
