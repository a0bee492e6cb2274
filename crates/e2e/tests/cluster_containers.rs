//! The compose file of a cluster: no container runs here, but all that it would start is started,
//! with the files and the arguments that it names.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::process::Process;
use aquatic_e2e::{wait, workspace};
use aquatic_test_support::nats;

const TOGETHER_LIMIT: Duration = Duration::from_secs(60);

/// A service: its name, what is mounted where, and its arguments.
struct Service {
    name: String,
    mounts: Vec<(String, String)>,
    arguments: Vec<String>,
}

/// Reads what the file consists of: not all of YAML, and whatever else there is, is not overlooked.
fn services(text: &str) -> Vec<Service> {
    let (_, text) = text.split_once("\nservices:\n").unwrap();
    let (text, _) = text.split_once("\nvolumes:\n").unwrap();
    let mut found: Vec<Service> = Vec::new();
    let joined = text.replace(",\n      ", ", ");
    for line in joined.lines().filter(|line| !line.is_empty()) {
        let words = line.trim();
        if let Some(name) = line.strip_prefix("  ").filter(|it| !it.starts_with(' ')) {
            found.push(Service {
                name: name.trim_end_matches(':').to_owned(),
                mounts: Vec::new(),
                arguments: Vec::new(),
            });
            continue;
        }
        let service = found.last_mut().unwrap();
        if let Some(list) = words.strip_prefix("command: ") {
            service.arguments = serde_json::from_str(list).unwrap();
        } else if let Some(mount) = words.strip_prefix("- ") {
            let mut parts = mount.split(':').map(str::to_owned);
            let mount = (parts.next().unwrap(), parts.next().unwrap());
            service.mounts.push(mount);
        } else {
            let template = match service.name.starts_with("tracker-") {
                true => "<<: *tracker",
                false => "<<: *nats",
            };
            assert!([template, "volumes:"].contains(&words), "{line}");
        }
    }
    found
}

/// Copies of the mounted files, in which paths of containers are those of this machine.
fn mount(service: &Service, folder: &Folder) -> Result<Vec<(String, PathBuf)>> {
    let own = folder.make(&service.name)?;
    let mut places = Vec::new();
    for (source, target) in &service.mounts {
        let place = own.join(target.trim_start_matches('/').replace('/', "-"));
        if let Some(file) = source.strip_prefix("./") {
            let file = workspace::root()?.join("docker/cluster").join(file);
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let data = own.join("data").display().to_string();
            fs::write(
                &place,
                text.replace("store_dir: /data,", &format!("store_dir: {data},")),
            )?;
        }
        places.push((target.clone(), place));
    }
    Ok(places)
}

fn command(service: &Service, host: &Host, folder: &Folder) -> Result<Command> {
    let places = mount(service, folder)?;
    let place = |path: &str| {
        let found = places.iter().find(|(target, _)| target == path);
        found.map(|(_, place)| place.clone())
    };
    if service.name.starts_with("tracker-") {
        let mut command = host.command(workspace::binary("aquatic")?);
        // As the image has it.
        let config = place("/etc/aquatic/aquatic.toml").context("no configuration")?;
        command.args(["serve", "-c"]).arg(config);
        return Ok(command);
    }
    ensure!(service.name.starts_with("nats-"), "{}", service.name);
    let mut command = host.command(nats::program());
    for argument in &service.arguments {
        match place(argument) {
            Some(place) => command.arg(place),
            None => command.arg(argument),
        };
    }
    Ok(command)
}

#[test]
fn what_the_compose_file_of_a_cluster_starts_becomes_a_cluster() {
    let Some(lab) = Lab::new(0).unwrap().filter(|_| nats::is_there()) else {
        return;
    };
    let (folder, host) = (Folder::new().unwrap(), lab.hub());
    let file = workspace::root()
        .unwrap()
        .join("docker/cluster/compose.yaml");
    let services = services(&fs::read_to_string(file).unwrap());
    let names: Vec<_> = services.iter().map(|it| &*it.name).collect();
    let expected = [
        "tracker-1",
        "tracker-2",
        "tracker-3",
        "nats-1",
        "nats-2",
        "nats-3",
    ];
    assert_eq!(names, expected);
    let mut programs: Vec<Process> = Vec::new();
    for service in &services {
        let command = command(service, host, &folder).unwrap();
        programs.push(Process::start(&service.name, &folder, command).unwrap());
    }
    for number in 1..=3 {
        let url = format!("http://127.0.0.1:900{number}/metrics");
        wait::until("three nodes that know each other", TOGETHER_LIMIT, || {
            programs.iter_mut().try_for_each(Process::check_alive)?;
            let page = host
                .command("curl")
                .args(["--silent", &url])
                .output()?
                .stdout;
            let page = String::from_utf8_lossy(&page).into_owned();
            let wanted = ["nodes 3", "complete 1"].map(|it| format!("\naquatic_cluster_{it}\n"));
            Ok(wanted.iter().all(|line| page.contains(line)).then_some(()))
        })
        .unwrap();
    }
    let logs: String = programs.iter().map(|it| it.log().unwrap()).collect();
    assert!(
        logs.contains("AQUATIC_main in the NATS servers, in 3 copies"),
        "{logs}"
    );
}
