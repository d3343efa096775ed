mod suites {
    pub struct Case {
        pub name: String,
        pub failure: Option<String>,
    }
    impl Case {
        pub fn new(name: impl Into<String>, outcome: Result<(), String>) -> Case {
            Case { name: name.into(), failure: outcome.err() }
        }
    }
    #[path = "../../../conformance/src/suites/kong_model.rs"]
    pub mod kong_model;
}
use suites::*;
fn main() {
    let data = std::path::Path::new("/work/shared/conformance");
    let only = std::env::args().nth(1).unwrap_or_default();
    for (n, f) in [
        ("entities", kong_model::entities as fn(&std::path::Path) -> Option<Vec<Case>>),
        ("plugins", kong_model::plugin_configs),
        ("declarative", kong_model::declarative),
        ("flatten", kong_model::flatten_errors),
    ] {
        let c = f(data).unwrap();
        println!("{n} {}/{}", c.iter().filter(|c| c.failure.is_none()).count(), c.len());
        if only == n {
            for c in c {
                if let Some(f) = c.failure {
                    println!("  {}\n     {}", c.name, f.chars().take(700).collect::<String>());
                }
            }
        }
    }
}
