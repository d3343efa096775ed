//! The page in headless Chromium, driven through chromedriver by `ui/test/browser.mjs`, which also takes the pictures.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use gantry_console::Console;
use gantry_serve::{ListenConfig, Listener};
use tokio_util::sync::CancellationToken;

use crate::load::DemoLoad;
use crate::source::{Demo, Scene};

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

async fn serve(scene: Scene) -> String {
    let listener =
        Listener::bind(ListenConfig::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await.unwrap();
    let address = listener.local_addr();
    let console = Console::new(Arc::new(Demo::start(scene))).with_load(Arc::new(DemoLoad::default()));
    tokio::spawn(listener.serve(console, CancellationToken::new()));
    format!("http://{address}")
}

#[tokio::test]
async fn the_page_works_in_a_browser() {
    for program in ["chromium", "chromedriver", "node"] {
        if !on_path(program) {
            println!("skipped: {program} not found");
            return;
        }
    }
    if !Console::is_built() {
        println!("skipped: the page was not built");
        return;
    }
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/test/browser.mjs");
    let addresses = [serve(Scene::Shop).await, serve(Scene::Trouble).await, serve(Scene::Empty).await];
    let output = tokio::task::spawn_blocking(move || {
        Command::new("node").arg(script).args(addresses).arg(pictures).output()
    });
    let output = output.await.unwrap().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    println!("{text}");
}
