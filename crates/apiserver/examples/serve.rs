//! An API server alone, for trying clients against it: `serve [--data-dir DIR] [--token TOKEN] KUBECONFIG`.
//! Listens on a free port of 127.0.0.1 and writes the kubeconfig once it serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_apiserver::pki;
use gantry_apiserver::{ApiServer, Authenticator, Config, UserInfo};
use gantry_clock::{Clock, SystemClock};
use gantry_serve::{ConnectInfo, ListenConfig, Listener, TlsConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut data_dir: Option<PathBuf> = None;
    let mut token = String::new();
    let mut kubeconfig = PathBuf::from("kubeconfig");
    let mut address = "127.0.0.1:0".to_owned();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--data-dir" => data_dir = arguments.next().map(PathBuf::from),
            "--token" => token = arguments.next().unwrap_or_default(),
            "--listen" => address = arguments.next().unwrap_or_default(),
            _ => kubeconfig = argument.into(),
        }
    }
    let clock = Arc::new(SystemClock::new());
    let now_ms = clock.now_ms();
    let temporary = std::env::temp_dir().join(format!("gantry-pki-{}", std::process::id()));
    let pki_folder = data_dir.as_deref().unwrap_or(&temporary).join("pki");
    let credentials = pki::credentials(&pki_folder, &["127.0.0.1", "localhost"], now_ms)?;
    let server = ApiServer::open(Config { data_dir, ..Config::ephemeral(clock) }).await?;
    let tls = TlsConfig::from_pem(
        &credentials.server.certificate,
        &credentials.server.key,
        Some(&credentials.authority_certificate),
    )?;
    let listener = Listener::bind(ListenConfig::tls(address.parse()?, tls)).await?;
    let url = format!("https://{}", listener.local_addr());
    write(&kubeconfig, &pki::kubeconfig_yaml("gantry", &url, &credentials))?;
    println!("{url} {}", kubeconfig.display());
    let admin = UserInfo {
        name: "admin".into(),
        uid: "u1".into(),
        groups: vec!["system:masters".into(), "system:authenticated".into()],
        ..UserInfo::default()
    };
    let authenticator = Authenticator::new().with_token(token, admin);
    let service = server.authenticated_service(authenticator, |extensions| {
        extensions.get::<ConnectInfo>()?.client_certificate.as_ref().map(|certificate| certificate.to_vec())
    });
    listener.serve(service, tokio_util::sync::CancellationToken::new()).await;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), pki::PkiError> {
    pki::write_private(path, text)
}
