//! Real servers: one nginx each for the workstation, every guest and every node. Each says who it is and what it saw. And one for
//! UDP, by perl: an echo that shares no code with what is tested.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use super::machine::failed;
use super::tools::is_there;
use super::{Error, Lab, Machine};
use crate::net::ByFamily;

/// Both ends of the UDP service.
const UDP: &str = include_str!("udp.pl");

/// Starts all of them; without nginx or perl, those that there are.
pub(crate) fn start(lab: &Lab) -> Result<(), Error> {
    let layout = &lab.layout;
    random_file(lab)?;
    lab.write("udp.pl", UDP)?;
    if is_there("nginx") {
        let client =
            ByFamily::new(|family| layout.choice.families.has(family).then(|| layout.at(family).client));
        nginx(lab, layout.client, layout.client_port, layout.client, &client)?;
        for guest in &layout.guests {
            nginx(lab, &guest.name, guest.port, &guest.name, &guest.address)?;
        }
        for node in &layout.nodes {
            nginx(lab, &node.name, layout.node_port, &format!("{} itself", node.name), &node.public)?;
        }
    }
    if is_there("perl") {
        let guest = &layout.guests[0];
        for address in guest.address.iter() {
            let mut serve = udp(lab, lab.on(&guest.name));
            super::run(serve.args(["serve", &address.to_string(), &layout.echo_port.to_string()]))?;
        }
    }
    Ok(())
}

/// The UDP service on a machine; its arguments say which end.
pub(crate) fn udp(lab: &Lab, machine: Machine<'_>) -> Command {
    let mut perl = machine.command("perl");
    perl.arg(lab.file("udp.pl"));
    perl
}

/// Random bytes, so that no two pieces of the file are alike and a mix-up shows in the hash.
fn random_file(lab: &Lab) -> Result<(), Error> {
    let path = lab.file("random");
    let len = lab.pace.sized(20_000_000, 5_000_000);
    let copy = || {
        let mut random = File::open("/dev/urandom")?.take(len);
        io::copy(&mut random, &mut File::create(&path)?).map(drop)
    };
    copy().map_err(|source| Error::File { path: path.clone(), source })
}

fn nginx(lab: &Lab, name: &str, port: u16, greeting: &str, at: &ByFamily<IpAddr>) -> Result<(), Error> {
    let home = lab.file("servers").join(name);
    let upload = home.join("upload");
    fs::create_dir_all(&upload).map_err(|source| Error::File { path: upload, source })?;
    let mut listen = String::new();
    for address in at.iter() {
        let _ = write!(listen, "listen {}; ", SocketAddr::new(*address, port));
    }
    let (dir, state) = (home.display(), lab.place.dir());
    let state = state.display();
    // One process without a master: a lab of nine nodes has twelve of these. It detaches once it listens.
    let text = format!(
        r#"user root;
daemon on;
master_process off;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log {dir}/access.log;
    client_max_body_size 64m;
    client_body_temp_path {dir}/tmp-body;
    proxy_temp_path {dir}/tmp-proxy;
    fastcgi_temp_path {dir}/tmp-fastcgi;
    uwsgi_temp_path {dir}/tmp-uwsgi;
    scgi_temp_path {dir}/tmp-scgi;
    default_type text/plain;
    sendfile on;
    server {{
        {listen}
        location / {{ return 200 "{greeting} saw $remote_addr:$remote_port -> $server_addr:$server_port\n"; }}
        location /random {{ root {state}; }}
        location /upload/ {{ root {dir}; dav_methods PUT; }}
    }}
}}
"#
    );
    let conf = home.join("nginx.conf");
    fs::write(&conf, text).map_err(|source| Error::File { path: conf.clone(), source })?;
    // What goes on in the background would keep a pipe open.
    let log = home.join("start.log");
    let stderr = File::create(&log).map_err(|source| Error::File { path: log.clone(), source })?;
    let mut nginx = lab.on(name).command("nginx");
    nginx.arg("-p").arg(&home).arg("-e").arg(home.join("error.log")).arg("-c").arg(&conf);
    nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let status = nginx.status().map_err(|error| failed(&nginx, &error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    Err(failed(&nginx, &format!("the web server of {name} does not start ({status}): {}", said.trim())))
}
