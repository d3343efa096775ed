//! Which of several routes wins, in both flavours.

use super::*;
use crate::entities::Route;

fn route(id: &str, hosts: &[&str], paths: &[&str]) -> Route {
    let list = |texts: &[&str]| {
        (!texts.is_empty()).then(|| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    };
    Route { id: id.into(), hosts: list(hosts), paths: list(paths), ..Route::default() }
}

fn winner(routes: &[Route], flavour: Flavour, host: &str, path: &str) -> Option<String> {
    let router = Router::new(routes, flavour).unwrap();
    let headers: &[(&str, &str)] = &[("version", "v2")];
    let request = Request {
        method: b"GET",
        path: path.as_bytes(),
        host: Some(host),
        scheme: "http",
        sni: None,
        src_ip: None,
        src_port: None,
        dst_ip: None,
        dst_port: None,
        query: b"",
        headers: &headers,
    };
    let found = router.select(&request, &mut Scratch::default())?;
    Some(routes[found.route].id.clone())
}

#[test]
fn a_priority_of_its_own_and_query_parameters_decide() {
    let of = |name: &str, value: &str, is_pattern: bool| {
        vec![crate::entities::QueryMatch { name: name.into(), value: value.into(), is_pattern }]
    };
    let mut one = route("one", &[], &["/"]);
    one.extras.queries = of("color", "dark blue", false);
    one.extras.priority = Some(3);
    let mut many = route("many", &[], &["/"]);
    many.extras.queries = of("color", "^r", true);
    many.extras.priority = Some(2);
    let mut rest = route("rest", &[], &["/longer"]);
    rest.extras.priority = Some(1);
    let routes = [rest, many, one, route("plain", &[], &["/"])];
    // The plain route's place is computed, and that is above all small numbers.
    assert_eq!(
        winner(&routes, Flavour::TraditionalCompatible, "x.net", "/longer/a").as_deref(),
        Some("plain")
    );
    let routes = &routes[..3];
    let router = Router::new(routes, Flavour::TraditionalCompatible).unwrap();
    let wins = |query: &str| {
        let headers: &[(&str, &str)] = &[];
        let request = Request {
            method: b"GET",
            path: b"/longer/a",
            host: None,
            scheme: "http",
            sni: None,
            src_ip: None,
            src_port: None,
            dst_ip: None,
            dst_port: None,
            query: query.as_bytes(),
            headers: &headers,
        };
        let found = router.select(&request, &mut Scratch::default()).unwrap();
        routes[found.route].id.clone()
    };
    assert_eq!(wins("a=b&color=dark%20blue"), "one");
    assert_eq!(wins("color=red&color=dark+blue"), "many");
    assert_eq!(wins("colors=red"), "rest");
}

impl Headers for &[(&str, &str)] {
    fn each_value(&self, name: &str, found: &mut dyn FnMut(&[u8])) {
        (**self).each_value(name, found);
    }
}

#[test]
fn both_flavours_agree_on_the_plain_rules() {
    let mut with_header = route("header", &[], &["/shop"]);
    with_header.headers = Some([("Version".to_owned(), vec!["V2".to_owned()])].into());
    let routes = [
        route("prefix", &[], &["/shop"]),
        route("longer", &[], &["/shop/items"]),
        route("pattern", &[], &[r"~/shop/\d+$"]),
        route("host", &["shop.org"], &[]),
        route("host-path", &["shop.org"], &["/"]),
        route("wildcard", &["*.org"], &["/"]),
    ];
    for flavour in [Flavour::Traditional, Flavour::TraditionalCompatible] {
        let wins = |host: &str, path: &str| winner(&routes, flavour, host, path);
        assert_eq!(wins("x.net", "/shop/a").as_deref(), Some("prefix"), "{flavour:?}");
        assert_eq!(wins("x.net", "/shop/items/1").as_deref(), Some("longer"));
        assert_eq!(wins("x.net", "/shop/17").as_deref(), Some("pattern"));
        assert_eq!(wins("shop.org", "/shop/17").as_deref(), Some("host-path"));
        assert_eq!(wins("shop.org:8000", "/").as_deref(), Some("host-path"));
        assert_eq!(wins("a.org", "/shop").as_deref(), Some("wildcard"));
        assert_eq!(wins("x.net", "/other"), None);
        let mut more = routes.to_vec();
        more.push(with_header.clone());
        assert_eq!(winner(&more, flavour, "x.net", "/shop/items/1").as_deref(), Some("header"));
    }
}

#[test]
fn a_route_that_constrains_nothing_is_refused_by_name() {
    let error = Router::new(&[route("empty", &[], &[])], Flavour::Traditional).unwrap_err();
    assert_eq!(error.route, "empty");
    let error = Router::new(&[route("broken", &[], &["~/(a"])], Flavour::Traditional).unwrap_err();
    assert_eq!((error.route.as_str(), error.field.as_str()), ("broken", "paths"));
}

#[test]
fn the_index_finds_what_a_linear_search_finds() {
    let hosts = ["a.org", "b.org", "*.org", "a.*", "a.org:81"];
    let paths = ["/", "/a", "/a/b", "/ab", r"~/a/\d+", "/b"];
    let mut routes = Vec::new();
    for (h, host) in hosts.iter().enumerate() {
        for (p, path) in paths.iter().enumerate() {
            if (h + p) % 2 == 0 {
                routes.push(route(&format!("{h}-{p}"), &[host], &[path]));
            }
        }
    }
    routes.extend(paths.iter().enumerate().map(|(p, path)| route(&format!("any-{p}"), &[], &[path])));
    let router = Router::new(&routes, Flavour::TraditionalCompatible).unwrap();
    let headers: &[(&str, &str)] = &[];
    for host in ["a.org", "b.org", "c.org", "a.net", "a.org:81", "d.net"] {
        for path in ["/", "/a", "/a/1", "/abc", "/a/b/c", "/b", "/c"] {
            let request = Request {
                method: b"GET",
                path: path.as_bytes(),
                host: Some(host),
                scheme: "http",
                sni: None,
                src_ip: None,
                src_port: None,
                dst_ip: None,
                dst_port: None,
                query: b"",
                headers: &headers,
            };
            let view = router.host_view(&request);
            let linear = (0..router.entries.len() as u32).find_map(|id| router.check(id, &request, &view));
            assert_eq!(router.select(&request, &mut Scratch::default()), linear, "{host}{path}");
        }
    }
}
