//! Remote files, from a server on loopback.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_applet_kustomize::doors::Processes;
use gantry_applet_kustomize::outcome_with;
use gantry_kustomize::{Disk, Doors, Options};

use super::{POD, Project};

/// Answers requests by path, and remembers them.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// The pod has an ETag; `/moved` leads to it; all else is not found.
fn serve() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            log.lock().unwrap().push(path.clone());
            let known = head.to_ascii_lowercase().contains("if-none-match: \"one\"");
            let answer = match path.as_str() {
                "/pod.yaml" if known => "HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n".to_owned(),
                "/pod.yaml" => format!(
                    "HTTP/1.1 200 OK\r\netag: \"one\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{POD}",
                    POD.len()
                ),
                "/moved" => "HTTP/1.1 302 Found\r\nlocation: /pod.yaml\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
                _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
            };
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    Server { address, asked }
}

impl Server {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[test]
fn a_file_is_fetched_once_and_then_only_asked_for() {
    let (server, project) = (serve(), Project::new(&[]));
    let url = format!("{}/pod.yaml", server.address);
    project.write("app/a/kustomization.yaml", &format!("namePrefix: a-\nresources: ['{url}']\n"));
    project.write("app/kustomization.yaml", &format!("resources: [a, '{url}']\n"));
    let first = project.build(&project.fetcher(false), &Options::default()).unwrap().to_yaml();
    assert_eq!(server.asked(), ["/pod.yaml"]);
    assert!(first.contains("name: a-p\n") && first.contains("name: p\n"), "{first}");
    let second = project.build(&project.fetcher(false), &Options::default()).unwrap().to_yaml();
    assert_eq!((second, server.asked().len()), (first.clone(), 2));
    let offline = project.build(&project.fetcher(true), &Options::default()).unwrap().to_yaml();
    assert_eq!((offline, server.asked().len()), (first, 2));
}

#[test]
fn redirects_are_followed_and_a_missing_file_is_refused_by_its_place() {
    let (server, project) = (serve(), Project::new(&[]));
    project.write("app/kustomization.yaml", &format!("resources: ['{}/moved']\n", server.address));
    project.build(&project.fetcher(false), &Options::default()).unwrap();
    assert_eq!(server.asked(), ["/moved", "/pod.yaml"]);
    project.write("app/kustomization.yaml", &format!("resources:\n- {}/gone.yaml\n", server.address));
    let refused = project.build(&project.fetcher(false), &Options::default()).unwrap_err();
    assert!(refused.message().contains("HTTP Error: status code 404"), "{refused}");
    assert!(refused.place().is_some_and(|place| place.contains("app/kustomization.yaml:2:3")), "{refused}");
}

#[test]
fn a_lock_file_refuses_other_content() {
    let (server, project) = (serve(), Project::new(&[]));
    let url = format!("{}/pod.yaml", server.address);
    project.write("app/kustomization.yaml", &format!("resources: ['{url}']\n"));
    let fetcher = project.locked();
    project.build(&fetcher, &Options::default()).unwrap();
    fetcher.save_lock().unwrap();
    project.build(&project.locked(), &Options::default()).unwrap();
    assert_eq!(server.asked().len(), 1, "what is pinned and there is not asked for");
    let other = format!("http\t{url}\t-\tsha256:{}\n", "0".repeat(64));
    project.write("remote.lock", &other);
    let refused = project.build(&project.locked(), &Options::default()).unwrap_err();
    assert!(refused.message().contains("remote.lock pins sha256:0000"), "{refused}");
}

#[test]
fn patches_and_data_may_be_remote_too_and_passwords_are_not_shown() {
    let (server, project) = (serve(), Project::new(&[("app/pod.yaml", POD)]));
    let url = format!("{}/pod.yaml", server.address);
    project.write("app/kustomization.yaml", &format!("resources: [pod.yaml]\npatches:\n- path: '{url}'\n"));
    project.build(&project.fetcher(false), &Options::default()).unwrap();
    let secret = server.address.replace("http://", "http://me:s3cret@");
    project.write("app/kustomization.yaml", &format!("resources: ['{secret}/gone.yaml']\n"));
    let refused = project.build(&project.fetcher(false), &Options::default()).unwrap_err().to_string();
    assert!(refused.contains("http://***@127.0.0.1") && !refused.contains("s3cret"), "{refused}");
}

#[test]
fn an_address_is_looked_up_before_it_is_added() {
    let (server, project) = (serve(), Project::new(&[("app/kustomization.yaml", "namePrefix: a-\n")]));
    let add = |path: &str| {
        let url = format!("{}{path}", server.address);
        let line = ["kustomize", "edit", "add", "resource", &url];
        let matches = gantry_applet_kustomize::command().try_get_matches_from(line).unwrap();
        let (fetcher, processes) = (project.fetcher(false), Processes::new(Duration::from_secs(60)));
        let doors = Doors { remote: &fetcher, programs: &processes };
        outcome_with(&Disk, doors, &project.path("app"), &matches)
    };
    let found = add("/pod.yaml").unwrap();
    let expected = format!("namePrefix: a-\nresources:\n- {}/pod.yaml\n", server.address);
    assert_eq!(found.writes[0].1, expected);
    let error = add("/gone.yaml").unwrap_err();
    assert!(error.contains("/gone.yaml has no match: ") && error.contains("404"), "{error}");
    assert_eq!(server.asked(), ["/pod.yaml", "/gone.yaml"]);
}
