//! The applet alone, for trying and measuring it without the rest of the binary.

fn main() -> std::process::ExitCode {
    gantry_applet_locust::run(&gantry_applet_locust::command().get_matches())
}
