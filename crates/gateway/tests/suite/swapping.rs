//! Configurations that change under load, targets that leave, and the end.

use crate::support::{Echo, Running, shop};
use gantry_gateway::entities::{Route, Service};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.org\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapping_under_load_fails_no_request_and_drops_no_connection() {
    let echoes = [Echo::start().await, Echo::start().await, Echo::start().await];
    let addresses: Vec<SocketAddr> = echoes.iter().map(|echo| echo.address).collect();
    let running = Arc::new(Running::start(shop(&addresses)));
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let (running, stop) = (Arc::clone(&running), Arc::clone(&stop));
        clients.push(tokio::spawn(async move {
            let mut client = running.connect().await;
            let mut count = 0;
            while !stop.load(Ordering::SeqCst) {
                let (head, _) = client.exchange(GET).await;
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                count += 1;
            }
            count
        }));
    }
    for round in 0..100 {
        let leaving = round % 3;
        let staying: Vec<SocketAddr> = (0..3).filter(|i| *i != leaving).map(|i| addresses[i]).collect();
        running.gateway.apply(shop(&staying)).unwrap();
        running.gateway.drained(addresses[leaving]).await;
        let before = echoes[leaving].requests();
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(echoes[leaving].requests(), before, "a drained target gets nothing");
        running.gateway.apply(shop(&addresses)).unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let mut total = 0;
    for client in clients {
        total += client.await.unwrap();
    }
    assert!(total > 100, "{total}");
    assert_eq!(running.gateway.generation(), 201);
}

#[tokio::test]
async fn a_request_at_a_leaving_target_is_waited_for() {
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&release);
    let started = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let begun = Arc::clone(&started);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut wire = crate::support::Wire::over(stream);
        wire.message().await.unwrap();
        begun.fetch_add(1, Ordering::SeqCst);
        gate.acquire().await.unwrap().forget();
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    });
    let running = Running::start(shop(&[address]));
    let mut client = running.connect().await;
    client.send(GET.as_bytes()).await.unwrap();
    while started.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    running.gateway.apply(shop(&[])).unwrap();
    let gateway = running.gateway.clone();
    let drained = tokio::spawn(async move { gateway.drained(address).await });
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(!drained.is_finished());
    release.add_permits(1);
    assert!(client.message().await.unwrap().0.starts_with("HTTP/1.1 200"));
    drained.await.unwrap();
}

#[tokio::test]
async fn shutting_down_finishes_what_was_begun_and_closes_the_rest() {
    let echo = Echo::answering(|_, _| {
        std::thread::sleep(Duration::from_millis(30));
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    })
    .await;
    let running = Running::start(shop(&[echo.address]));
    let mut idle = running.connect().await;
    assert!(idle.exchange(GET).await.0.starts_with("HTTP/1.1 200"));
    let mut busy = running.connect().await;
    busy.send(GET.as_bytes()).await.unwrap();
    while running.metric("kong_nginx_requests_total") != Some(2.0) {
        tokio::task::yield_now().await;
    }
    let cut = running.gateway.shutdown(Duration::from_secs(10)).await;
    assert_eq!(cut, 0);
    let answer = busy.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Connection: close"), "{answer}");
    assert_eq!(idle.rest().await, "");
    assert!(tokio::net::TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn an_invalid_configuration_changes_nothing_and_names_the_culprit() {
    let echo = Echo::start().await;
    let running = Running::start(shop(&[echo.address]));
    let broken = |change: fn(&mut gantry_gateway::entities::Snapshot)| {
        let mut snapshot = shop(&[]);
        change(&mut snapshot);
        running.gateway.apply(snapshot).unwrap_err()
    };
    let error = broken(|snapshot| snapshot.routes[0].service = Some("nobody".into()));
    assert_eq!((error.entity, error.name.as_str(), error.field.as_str()), ("route", "shop-route", "service"));
    let error = broken(|snapshot| snapshot.routes.push(Route { id: "r2".into(), ..Route::default() }));
    assert_eq!((error.entity, error.name.as_str()), ("route", "r2"));
    let error = broken(|snapshot| snapshot.routes[0].paths = Some(vec!["~/(".into()]));
    assert_eq!(error.field, "paths");
    let error =
        broken(|snapshot| snapshot.services.push(Service { name: Some("x".into()), ..Service::default() }));
    assert_eq!((error.entity, error.field.as_str()), ("service", "host"));
    assert_eq!(running.gateway.generation(), 1);
    let (head, _) = running.connect().await.exchange(GET).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}
