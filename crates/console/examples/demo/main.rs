//! The console over invented data: `cargo run -p gantry-console --example demo -- [shop|empty|trouble] [PORT]`.

mod load;
mod source;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use gantry_console::Console;
use gantry_serve::{ListenConfig, Listener};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let scene = match arguments.next().as_deref() {
        None | Some("shop") => source::Scene::Shop,
        Some("empty") => source::Scene::Empty,
        Some("trouble") => source::Scene::Trouble,
        Some(other) => return Err(format!("no scene {other:?}: shop, empty or trouble").into()),
    };
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let listener = Listener::bind(ListenConfig::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))).await?;
    println!("http://{}", listener.local_addr());
    let console =
        Console::new(Arc::new(source::Demo::start(scene))).with_load(Arc::new(load::DemoLoad::default()));
    listener.serve(console, CancellationToken::new()).await;
    Ok(())
}
