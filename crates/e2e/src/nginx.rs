//! nginx, the reverse proxy that most operators have in front of a WebSocket.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::folder::Folder;
use crate::host::Host;
use crate::process::Process;
use crate::{Family, wait};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A reverse proxy that runs.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    _process: Process,
}

impl Nginx {
    /// Starts nginx on `host`, in front of a plain tracker, to which it tells clients' addresses.
    ///
    /// # Errors
    /// When it is not installed or does not listen in time.
    pub fn start(folder: &Folder, host: &Host, tracker: SocketAddr) -> Result<Self> {
        let address = SocketAddr::new(host.ip(Family::V4), host.free_port()?);
        // One process, which is ended with the test and leaves nothing behind.
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr info;\n\
             events {{ }}\n\
             http {{\n\
             access_log off;\n\
             client_body_temp_path nginx-1; proxy_temp_path nginx-2; fastcgi_temp_path nginx-3;\n\
             uwsgi_temp_path nginx-4; scgi_temp_path nginx-5;\n\
             server {{\n\
             listen {address};\n\
             location / {{\n\
             proxy_pass http://{tracker};\n\
             proxy_http_version 1.1;\n\
             proxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header Connection upgrade;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
             }} }} }}\n"
        );
        let config_path = folder.path().join("nginx.conf");
        fs::write(&config_path, config).context("write the configuration of nginx")?;

        // Only root may have /usr/sbin in its PATH.
        let mut command = host.command("/usr/sbin/nginx");
        command.arg("-p").arg(folder.path());
        command.arg("-c").arg(&config_path);
        let mut process = Process::start("nginx", folder, command)?;
        wait::until("nginx listens", START_LIMIT, || {
            process.check_alive()?;
            Ok(TcpStream::connect(address).ok())
        })?;
        Ok(Self {
            address,
            _process: process,
        })
    }

    /// Where it answers for the tracker.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
