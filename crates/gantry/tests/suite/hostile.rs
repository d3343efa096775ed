//! What a hostile client or a full disk does to `up`: nothing that others notice, nothing acknowledged that is lost.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Shop, Up, get, wait_until};

const LISTENERS: [&str; 4] = ["apiServer", "gateway", "metrics", "console"];

/// The same bytes on every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

/// Sends `bytes` and waits until the server has closed or answered; either is right.
fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("it still accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    // It may close while we write.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read(&mut [0; 1024]);
}

fn resident_mb(up: &Up) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", up.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    line.split_ascii_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") / 1024
}

#[test]
fn garbage_on_every_listener_disturbs_nobody() {
    let shop = Shop::copy();
    let mut up = shop.up();
    let before = resident_mb(&up);
    for name in LISTENERS {
        let address = up.address(name);
        for seed in 1..=20 {
            throw(address, &noise(seed, 4096));
        }
        let endless_header = [b"GET / HTTP/1.1\r\nHost: x\r\nA: ".as_slice(), &[b'a'; 1 << 20]].concat();
        throw(address, &endless_header);
        throw(address, b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n");
        throw(
            address,
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        );
        throw(
            address,
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        );
        throw(address, b"\x16\x03\x01\xff\xff\x01garbage");
        throw(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    }
    // Connections that never say anything hold nothing up.
    let silent: Vec<TcpStream> = LISTENERS
        .iter()
        .flat_map(|name| std::iter::repeat_n(up.address(name), 100))
        .map(|address| TcpStream::connect(address).expect("it still accepts"))
        .collect();
    assert_eq!(up.get("gateway", "shop.localhost", "/products").0, 200);
    assert_eq!(up.get("metrics", "localhost", "/-/healthy").0, 200);
    assert_eq!(up.get("console", "localhost", "/").0, 200);
    if let Some(output) = up.kubectl(&["get", "pods", "-n", "shop-dev"]) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let after = resident_mb(&up);
    assert!(after < before + 100, "{before} MB before, {after} MB after");
    drop(silent);
    up.signal(Signal::TERM);
    assert!(up.wait().success());
}

#[test]
fn bodies_that_are_no_objects_are_refused_with_a_reason() {
    let shop = Shop::copy();
    let up = shop.up();
    for (body, reason) in [
        ("{", "JSON"),
        ("[[[[[[[[", "JSON"),
        ("{\"kind\":\"ConfigMap\"}", "name or generateName is required"),
        ("{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"A_b\"}}", "name"),
    ] {
        let file = shop.file("body.json");
        std::fs::write(&file, body).expect("the copy is writable");
        let path = file.to_str().expect("UTF-8");
        let create = ["create", "--raw", "/api/v1/namespaces/shop-dev/configmaps", "-f", path];
        let Some(output) = up.kubectl(&create) else { return };
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(reason), "{body} ({reason}): {error}");
    }
    assert_eq!(up.get("gateway", "shop.localhost", "/products").0, 200);
}

/// A folder on a disk of its own of a few megabytes, seen only by the `up` that `command` starts.
fn on_small_disk(command: &Command, folder: &Path) -> Option<Command> {
    let unshare = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(folder);
        unshare
    };
    let mount = "mount -t tmpfs -o size=8m none \"$0\"";
    if !unshare(mount).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no unprivileged user namespaces to mount a small disk in");
        return None;
    }
    let mut wrapped = unshare(&format!("{mount} && exec \"$@\""));
    wrapped.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    Some(wrapped)
}

#[test]
fn a_full_disk_refuses_writes_with_the_reason_and_loses_nothing() {
    let shop = Shop::copy();
    let folder = shop.data_dir();
    std::fs::create_dir_all(&folder).expect("a folder");
    let Some(command) = on_small_disk(&shop.up_command(), &folder) else { return };
    let mut up = shop.up_with(command);
    // The disk is only mounted inside the namespace; /proc leads there.
    let disk =
        Path::new("/proc").join(up.pid().to_string()).join("root").join(folder.strip_prefix("/").unwrap());
    let kubeconfig = shop.file("kubeconfig");
    std::fs::copy(disk.join("kubeconfig"), &kubeconfig).expect("the kubeconfig");
    up.kubeconfig = kubeconfig;
    let create = |name: &str| up.kubectl(&["create", "configmap", name, "--from-literal=key=value"]);
    let Some(output) = create("before") else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let filling = disk.join("filling");
    let mut file = std::fs::File::create(&filling).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let mut taken = 0;
    let refused = wait_until("the disk is full for the store as well", || {
        let output = create(&format!("during-{taken}"))?;
        taken += i32::from(output.status.success());
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    });
    assert!(refused.as_deref().is_some_and(|error| error.contains("No space left on device")), "{refused:?}");
    assert_eq!(get(up.address("gateway"), "shop.localhost", "/products").0, 200, "traffic needs no disk");

    std::fs::remove_file(&filling).expect("space again");
    wait_until("writes are taken again", || create("after")?.status.success().then_some(()));
    let names = up.kubectl(&["get", "configmaps", "-o", "name"]).expect("kubectl is there");
    let names = String::from_utf8_lossy(&names.stdout).into_owned();
    for name in ["configmap/before", "configmap/after"] {
        assert!(names.contains(name), "{name} is lost: {names}");
    }
    let kept = names.matches("configmap/during-").count();
    assert_eq!(kept, usize::try_from(taken).expect("small"), "taken is kept, refused is not: {names}");
    up.signal(Signal::TERM);
    assert!(up.wait().success());
}
