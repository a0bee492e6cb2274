//! What the system's libraries need to connect to a server: files to look up names, and
//! certificates.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::server_url::ServerUrl;

/// DNS, for answers that are too long for UDP.
pub(super) const DNS_PORT: u16 = 53;

/// What the C library reads, in any order and none of them always there.
const NAME_FILES: [&str; 6] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
];

/// Files by which names are looked up. All of their folders have to stay open, since `resolv.conf`
/// is often replaced by a new file, when an address is leased again; who cannot read it then asks a
/// server on this machine, where there is none.
pub(super) fn name_files() -> Vec<PathBuf> {
    NAME_FILES.iter().map(PathBuf::from).collect()
}

/// Where systems keep certificates of authorities.
const CERTIFICATE_PLACES: [&str; 9] = [
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/security/certificates",
    "/etc/pki/ca-trust/extracted/pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cacert.pem",
    "/opt/etc/ssl/certs",
    "/var/lib/ca-certificates",
];

/// One file out of each folder with certificates of the system's authorities. The library reads
/// these for each connection that is encrypted, and makes none if it cannot.
pub(super) fn certificate_files() -> Vec<PathBuf> {
    let of_environment = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .filter_map(env::var_os)
        .flat_map(|paths| env::split_paths(&paths).collect::<Vec<_>>());
    let places = CERTIFICATE_PLACES.iter().map(PathBuf::from);
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for place in places.chain(of_environment) {
        let entries = fs::read_dir(&place).into_iter().flatten().flatten();
        let in_folder = entries.map(|entry| entry.path());
        let is_folder = place.is_dir();
        let in_folder = in_folder.chain((!is_folder).then_some(place));
        for file in in_folder {
            // Most are links to other folders.
            let resolved = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
            let folders = [&file, &resolved].map(|file| file.parent().map(PathBuf::from));
            if seen.insert(folders) {
                files.push(file);
            }
        }
    }
    files
}

/// How long a start waits for names.
const NAMES_WAIT: Duration = Duration::from_secs(2);

/// Has the C library look up a name of each server, so that it has loaded what it needs for that:
/// in the sandbox it cannot load libraries. (Newer ones need none for hosts and DNS.) Nothing is
/// done with the answers, so a start does not wait for long.
pub(super) fn load_name_services(urls: &[ServerUrl]) {
    let names = urls.iter().filter(|url| url.address().is_none());
    let names: Vec<_> = names.map(|url| (url.host.clone(), url.port)).collect();
    if names.is_empty() {
        return;
    }
    let (done, wait) = mpsc::channel();
    let look_up = move || {
        for name in names {
            let _ = name.to_socket_addrs();
        }
        let _ = done.send(());
    };
    // Without the thread, names are looked up by what the library has got.
    if thread::Builder::new()
        .name("cluster-names".to_owned())
        .spawn(look_up)
        .is_ok()
    {
        let _ = wait.recv_timeout(NAMES_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_with_certificates_is_named_once() {
        let files = certificate_files();
        let mut resolved = BTreeSet::new();
        for file in &files {
            let real = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
            let folders = (
                file.parent().unwrap().to_owned(),
                real.parent().unwrap().to_owned(),
            );
            assert!(resolved.insert(folders), "{file:?}");
        }
        let real = rustls_native_certs::load_native_certs();
        assert!(real.certs.is_empty() || !files.is_empty());
    }
}
