//! Runs test scripts and prints passed and failed evaluations.

fn main() {
    let show = std::env::args().any(|arg| arg == "-v");
    let (mut passed, mut total) = (0, 0);
    for path in std::env::args().skip(1).filter(|arg| arg != "-v") {
        let text = std::fs::read_to_string(&path).unwrap();
        match gantry_promql::testing::run_script(&text) {
            Ok(report) => {
                println!("{:5}/{:5} {path}", report.passed, report.total());
                passed += report.passed;
                total += report.total();
                if show {
                    for failure in report.failures {
                        println!("  {}: {}\n      {}", failure.line, failure.query, failure.message);
                    }
                }
            }
            Err(message) => println!("not a script: {path}: {message}"),
        }
    }
    println!("{passed}/{total}");
}
