//! The applet alone, for measuring it without the other eight.

fn main() -> std::process::ExitCode {
    gantry_applet_kustomize::run(&gantry_applet_kustomize::command().get_matches())
}
