//! The same over S3's protocol, against a server that keeps its buckets in a folder.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use gantry_bucket::{
    Bucket, BucketError, BucketStore, BucketStoreOptions, Endpoint, FanOutOptions, ObjectStorage, Proxy,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::common::{HOUR, T0, fan_out, read, runtime, ship, store};

const BUCKET: &str = "metrics";

/// A server with one bucket, for as long as `runtime` runs.
fn serve(folder: &Path, runtime: &Runtime) -> SocketAddr {
    std::fs::create_dir_all(folder.join(BUCKET)).unwrap();
    let mut builder = S3ServiceBuilder::new(FileSystem::new(folder).unwrap());
    builder.set_auth(SimpleAuth::from_single("reader", "hunter2"));
    let service = builder.build();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(connection), service).await;
            });
        }
    });
    address
}

fn bucket(address: SocketAddr, name: &str, secret: &str, runtime: &Runtime) -> Bucket {
    let text = format!(
        "type: S3\nconfig:\n  bucket: {name}\n  endpoint: {address}\n  insecure: true\n  access_key: reader\n  \
         secret_key: {secret}\n  part_size: 5242880\nprefix: some/where\n"
    );
    let storage = ObjectStorage::parse("bucket.yml", &text).unwrap();
    Bucket::open(&storage, runtime.handle().clone()).unwrap()
}

#[test]
fn blocks_go_to_s3_and_answer_from_there() {
    let (local, remote, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), runtime());
    let bucket = bucket(serve(remote.path(), &runtime), BUCKET, "hunter2", &runtime);
    let db = store(local.path(), 7, |id, minute| (id as i64 * 1000 + minute) as f64);
    let whole = read(&db, None, T0 + 7 * HOUR).unwrap();
    let uploaded = ship(&bucket, local.path(), &[("cluster", "eu")]);
    assert!(uploaded.len() >= 2, "{uploaded:?}");
    assert_eq!(ship(&bucket, local.path(), &[("cluster", "eu")]), Vec::<String>::new(), "uploaded twice");
    let meta = remote.path().join(BUCKET).join("some/where").join(&uploaded[0]).join("meta.json");
    assert!(meta.is_file());
    let store = Arc::new(BucketStore::new(bucket.clone(), BucketStoreOptions::default()));
    assert_eq!(store.sync(T0).unwrap().blocks, uploaded.len());
    let proxy = Arc::new(Proxy::new(vec![Endpoint { store, strict: true }]));
    let answer = read(&fan_out(proxy, FanOutOptions::default()), None, T0 + 7 * HOUR).unwrap();
    assert_eq!(answer.len(), 10);
    for (series, samples) in &answer {
        let whole = &whole[&series.replace("cluster=\"eu\", ", "")];
        assert!(!samples.is_empty() && whole.starts_with(samples), "{series}");
    }
}

#[test]
fn large_files_go_in_parts_and_come_back_whole() {
    let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let bucket = bucket(serve(folder.path(), &runtime), BUCKET, "hunter2", &runtime);
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    let content: Vec<u8> =
        (0..12_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&there, &content).unwrap();
    assert_eq!(bucket.put_file("a/large", &there).unwrap(), 12_000_000);
    assert_eq!(bucket.get_file("a/large", &back).unwrap(), 12_000_000);
    assert!(std::fs::read(&back).unwrap() == content);
    let ranges = bucket.get_ranges("a/large", vec![11_999_990..12_000_000, 0..3]).unwrap();
    assert_eq!((&ranges[0][..], &ranges[1][..]), (&content[11_999_990..], &content[..3]));
    assert!(bucket.exists("a/large").unwrap() && !bucket.exists("a/small").unwrap());
    bucket.delete("a/large").unwrap();
    bucket.delete("a/large").unwrap();
    assert!(!bucket.exists("a/large").unwrap());
}

#[test]
fn what_s3_refuses_is_said_without_the_secret() {
    let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let address = serve(folder.path(), &runtime);
    let wrong = bucket(address, BUCKET, "swordfish", &runtime).put("a", "1").unwrap_err().to_string();
    assert!(wrong.contains("SignatureDoesNotMatch") && !wrong.contains("swordfish"), "{wrong}");
    let missing = bucket(address, BUCKET, "hunter2", &runtime).get("a").unwrap_err();
    assert!(matches!(missing, BucketError::NotFound { .. }), "{missing}");
}
