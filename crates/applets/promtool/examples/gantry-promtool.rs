//! The applet alone.

fn main() -> std::process::ExitCode {
    gantry_applet_promtool::run(&gantry_applet_promtool::command().get_matches())
}
