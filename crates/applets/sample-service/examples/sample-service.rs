//! The applet alone, for trying and measuring it without the rest of the binary.

fn main() -> std::process::ExitCode {
    gantry_applet_sample_service::run(&gantry_applet_sample_service::command().get_matches())
}
