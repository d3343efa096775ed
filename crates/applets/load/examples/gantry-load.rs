//! The applet alone, for trying and measuring it without the rest of the binary.

fn main() -> std::process::ExitCode {
    gantry_applet_load::run(&gantry_applet_load::command().get_matches())
}
