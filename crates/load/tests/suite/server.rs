//! A small HTTP/1.1 server whose behaviour is told by the path: a delay, a status, a close.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Heads of all requests so far.
pub(crate) type Seen = Arc<Mutex<Vec<String>>>;

pub(crate) fn start() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let log = seen.clone();
    thread::spawn(move || {
        // Connections that are told to hang are kept until the process ends.
        for stream in listener.incoming().flatten() {
            let log = log.clone();
            thread::spawn(move || {
                let _ = answer(stream, &log);
            });
        }
    });
    (address, seen)
}

fn answer(mut stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        seen.lock().unwrap().push(format!("{head}{}", String::from_utf8_lossy(&body)));
        let reply = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok");
        let mut parts = path.trim_start_matches('/').split('/');
        match (parts.next(), parts.next()) {
            (Some("sleep"), Some(ms)) => {
                thread::sleep(Duration::from_millis(ms.parse().unwrap_or(0)));
                stream.write_all(reply("200 OK").as_bytes())?;
            }
            (Some("status"), Some(code)) => {
                stream.write_all(reply(&format!("{code} As Asked")).as_bytes())?
            }
            (Some("hang"), _) => loop {
                thread::sleep(Duration::from_secs(60));
            },
            (Some("cut"), _) => {
                return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
            }
            (Some("garbage"), _) => return stream.write_all(b"220 smtp ready\r\n\r\n"),
            (Some("chunked"), _) => stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")?,
            _ => stream.write_all(reply("200 OK").as_bytes())?,
        }
    }
}
