//! Reads YAML from stdin and writes it as this crate emits it: for comparing with other programs by hand.

use std::io::Read;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    for document in gantry_yaml::parse_documents(gantry_yaml::FileId(0), &text)? {
        print!("{}", gantry_yaml::emit(&document));
    }
    Ok(())
}
