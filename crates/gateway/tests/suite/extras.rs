//! What controllers ask of routes beyond Kong's fields: copies, shares, deadlines.

use crate::support::{Echo, Running, shop};
use gantry_gateway::entities::{Mirror, Service, Share};
use std::time::Duration;

const GET: &str = "GET /a HTTP/1.1\r\nHost: shop.org\r\n\r\n";

#[tokio::test]
async fn a_mirror_gets_its_part_of_the_requests_bodies_included() {
    let (own, mirror) = (Echo::start().await, Echo::start().await);
    let mut snapshot = shop(&[own.address]);
    let host = mirror.address.ip().to_string();
    let (name, port) = (Some("copy".to_owned()), mirror.address.port());
    snapshot.services.push(Service { id: "s2".into(), name, host, port, ..Service::default() });
    snapshot.routes[0].extras.mirrors = vec![Mirror { service: "copy".into(), numerator: 1, denominator: 2 }];
    let running = Running::start(snapshot);
    let mut wire = running.connect().await;
    for _ in 0..3 {
        assert!(wire.exchange(GET).await.0.starts_with("HTTP/1.1 200"));
    }
    let chunked =
        "POST /b HTTP/1.1\r\nHost: shop.org\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nshop\r\n0\r\n\r\n";
    let (head, body) = wire.exchange(chunked).await;
    assert!(head.starts_with("HTTP/1.1 200") && body.ends_with("|shop"), "{head}{body}");
    assert_eq!(own.requests(), 4);
    for _ in 0..1_000 {
        if mirror.requests() == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} requests were copied, not 2", mirror.requests());
}

#[tokio::test]
async fn routes_that_share_another_take_its_requests_by_weight() {
    let (first, second) = (Echo::start().await, Echo::start().await);
    let mut snapshot = shop(&[first.address]);
    let other = shop(&[second.address]);
    snapshot.services.extend(other.services.into_iter().map(|service| Service {
        id: "s2".into(),
        name: Some("other".into()),
        host: "other-upstream".into(),
        ..service
    }));
    snapshot.upstreams.extend(other.upstreams.into_iter().map(|mut upstream| {
        upstream.name = "other-upstream".into();
        upstream
    }));
    for (name, service, weight) in [("one", "shop", 3), ("two", "other", 1)] {
        let mut part = snapshot.routes[0].clone();
        part.id = name.into();
        part.name = Some(name.into());
        part.service = Some(service.into());
        part.extras.is_share = true;
        part.extras.shares.clear();
        snapshot.routes.push(part);
        snapshot.routes[0].extras.shares.push(Share { route: name.into(), weight });
    }
    // They are no routes of their own, wherever they stand.
    snapshot.routes.rotate_left(1);
    let running = Running::start(snapshot);
    let mut wire = running.connect().await;
    for _ in 0..40 {
        assert!(wire.exchange(GET).await.0.starts_with("HTTP/1.1 200"));
    }
    assert_eq!((first.requests(), second.requests()), (30, 10));
}

#[tokio::test]
async fn a_request_ends_at_its_deadline() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut snapshot = shop(&[silent.local_addr().unwrap()]);
    snapshot.routes[0].extras.request_timeout = Some(50);
    let running = Running::start(snapshot.clone());
    let (head, _) = running.connect().await.exchange(GET).await;
    assert!(head.starts_with("HTTP/1.1 504"), "{head}");
    let posted = "POST / HTTP/1.1\r\nHost: shop.org\r\nContent-Length: 4\r\n\r\nsh";
    let (head, _) = running.connect().await.exchange(posted).await;
    assert!(head.starts_with("HTTP/1.1 504") && head.contains("Connection: close\r\n"), "{head}");
}
