//! The files by which a pod with a network of its own finds names: `resolv.conf`, `hosts`, `hostname`, and an
//! `nsswitch.conf` that asks nobody else.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use super::mounts::Mount;
use super::{HOST, NAME_SERVER};

const CLUSTER_DOMAIN: &str = "cluster.local";
/// Names of this machine for a pod, the second one as container engines have it.
const HOST_NAMES: &str = "host.gantry.internal host.docker.internal";
/// A host name may be no longer (RFC 1035), and the kernel takes one byte more.
const HOSTNAME_BYTES: usize = 63;
/// Beside DNS the C library asks this daemon, which knows nothing of a pod's names.
const NAME_CACHE: &str = "/run/nscd";

/// What `hostname` prints in the pod.
pub(crate) fn hostname(pod: &Pod) -> String {
    let named = pod.spec.as_ref().and_then(|spec| spec.hostname.as_deref());
    let name = named.or(pod.metadata.name.as_deref()).unwrap_or_default();
    let mut end = name.len().min(HOSTNAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

/// Writes the files into `dir` and says where they are mounted.
pub(crate) fn write(pod: &Pod, address: Ipv4Addr, dir: &Path) -> io::Result<Vec<Mount>> {
    std::fs::create_dir_all(dir)?;
    let mut mounts = Vec::new();
    let mut add = |name: &str, text: &str| -> io::Result<()> {
        let source = dir.join(name);
        // Replaced in place: it may be mounted.
        std::fs::write(&source, text)?;
        mounts.push(Mount { source, target: Path::new("/etc").join(name), read_only: false });
        Ok(())
    };
    add("resolv.conf", &resolv_conf(pod))?;
    add("hosts", &hosts(pod, address))?;
    add("hostname", &format!("{}\n", hostname(pod)))?;
    if let Ok(text) = std::fs::read_to_string("/etc/nsswitch.conf") {
        add("nsswitch.conf", &nsswitch(&text))?;
    }
    if Path::new(NAME_CACHE).is_dir() {
        let empty = dir.join("empty");
        std::fs::create_dir_all(&empty)?;
        mounts.push(Mount { source: empty, target: PathBuf::from(NAME_CACHE), read_only: true });
    }
    Ok(mounts)
}

fn resolv_conf(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut servers = Vec::new();
    let mut searches = Vec::new();
    let mut options: Vec<(String, Option<String>)> = Vec::new();
    if policy != "None" {
        // The machine's own servers may be behind its loopback address, which is not the pod's; ours asks them.
        servers.push(NAME_SERVER.to_string());
    }
    if policy.starts_with("ClusterFirst") {
        searches.push(format!("{namespace}.svc.{CLUSTER_DOMAIN}"));
        searches.push(format!("svc.{CLUSTER_DOMAIN}"));
        searches.push(CLUSTER_DOMAIN.to_owned());
        options.push(("ndots".to_owned(), Some("5".to_owned())));
    }
    if let Some(PodDNSConfig { nameservers, options: more, searches: also }) =
        spec.and_then(|spec| spec.dns_config.as_ref())
    {
        let new = |list: &[String], item: &String| !list.contains(item);
        for server in nameservers.iter().flatten() {
            if new(&servers, server) {
                servers.push(server.clone());
            }
        }
        for search in also.iter().flatten() {
            if new(&searches, search) {
                searches.push(search.clone());
            }
        }
        for option in more.iter().flatten() {
            let Some(name) = option.name.clone() else { continue };
            options.retain(|(known, _)| *known != name);
            options.push((name, option.value.clone()));
        }
    }
    let mut text = String::new();
    if !searches.is_empty() {
        let _ = writeln!(text, "search {}", searches.join(" "));
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !options.is_empty() {
        let options: Vec<String> = options
            .into_iter()
            .map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}:{value}")))
            .collect();
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

fn hosts(pod: &Pod, address: Ipv4Addr) -> String {
    let spec = pod.spec.as_ref();
    let own = hostname(pod);
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref()).filter(|name| !name.is_empty());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let _ = match subdomain {
        Some(subdomain) => {
            writeln!(text, "{address}\t{own}.{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}\t{own}")
        }
        None => writeln!(text, "{address}\t{own}"),
    };
    let _ = writeln!(text, "{HOST}\t{HOST_NAMES}");
    for alias in spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten()) {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        if !names.is_empty() {
            let _ = writeln!(text, "{}\t{}", alias.ip, names.join("\t"));
        }
    }
    text
}

/// The machine's own file, with host names taken from files and DNS only.
fn nsswitch(text: &str) -> String {
    let mut own = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !line.trim_start().starts_with("hosts:")) {
        own.push_str(line);
        own.push('\n');
    }
    own.push_str("hosts: files dns\n");
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn names_are_searched_as_in_a_cluster() {
        let text = resolv_conf(&pod(json!({})));
        assert_eq!(
            text,
            "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 169.254.20.10\noptions ndots:5\n"
        );
        let text = resolv_conf(&pod(json!({"dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["192.0.2.1"], "searches": ["x.test"], "options": [{"name": "ndots", "value": "1"}, {"name": "rotate"}]}})));
        assert_eq!(text, "search x.test\nnameserver 192.0.2.1\noptions ndots:1 rotate\n");
        let text = resolv_conf(&pod(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}})));
        assert!(text.ends_with("options ndots:2\n"), "{text}");
        assert_eq!(resolv_conf(&pod(json!({"dnsPolicy": "Default"}))), "nameserver 169.254.20.10\n");
    }

    #[test]
    fn hosts_has_the_pod_its_aliases_and_the_machine() {
        let text = hosts(
            &pod(json!({"subdomain": "db", "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["a", "b"]}]})),
            Ipv4Addr::new(10, 77, 0, 5),
        );
        for line in [
            "10.77.0.5\tweb-0.db.shop.svc.cluster.local\tweb-0\n",
            "192.0.2.7\ta\tb\n",
            "host.docker.internal",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn a_host_name_is_one_the_kernel_takes() {
        let mut long = pod(json!({}));
        long.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b".repeat(20)));
        assert_eq!(hostname(&long), "a".repeat(62));
        assert_eq!(hostname(&pod(json!({"hostname": "db"}))), "db");
    }

    #[test]
    fn only_files_and_dns_are_asked() {
        let text = nsswitch("passwd: files\nhosts: files resolve [!UNAVAIL=return] dns\n");
        assert_eq!(text, "passwd: files\nhosts: files dns\n");
    }
}
