//! What containers are made of: no container runs here, but the files that they are given are read
//! by the programs that will read them there.

use std::fs;
use std::process::Command;

use aquatic_e2e::folder::Folder;
use aquatic_e2e::workspace;

const TRACKERS: [&str; 4] = ["aquatic_udp", "aquatic_http", "aquatic_ws", "aquatic"];

fn read(below: &str) -> String {
    let path = workspace::root().unwrap().join(below);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_tracker_accepts_the_configuration_of_the_compose_file() {
    let config = workspace::root()
        .unwrap()
        .join("docker/tracker/aquatic.toml");
    let mut tracker = Command::new(workspace::binary("aquatic").unwrap());
    let output = tracker.args(["serve", "-P", "-c"]).arg(config).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let parsed = String::from_utf8(output.stdout).unwrap();
    // Where Prometheus asks.
    let endpoint = "prometheus_endpoint_address = \"127.0.0.1:9000\"";
    assert!(parsed.contains(endpoint), "{parsed}");
    assert!(read("docker/prometheus/prometheus.yml").contains("\"127.0.0.1:9000\""));
}

/// In the folder in which the compose file puts it, beside its rules.
#[test]
fn prometheus_accepts_its_configuration() {
    let folder = Folder::new().unwrap();
    for source in [
        "docker/prometheus/prometheus.yml",
        "documents/monitoring/prometheus/aquatic.rules.yml",
    ] {
        let name = source.rsplit('/').next().unwrap();
        fs::write(folder.path().join(name), read(source)).unwrap();
        // The compose file has it by its name.
        let mounted = format!("/{name}:/etc/prometheus/{name}:ro");
        assert!(read("docker/compose.yaml").contains(&mounted), "{name}");
    }
    let output = Command::new("promtool")
        .args(["check", "config"])
        .arg(folder.path().join("prometheus.yml"))
        .output()
        .expect("promtool (Debian package prometheus)");
    assert!(output.status.success(), "{output:?}");
}

/// Docker takes the health check and the entry point as they are written.
#[test]
fn each_tracker_has_an_image_that_checks_its_health() {
    let dockerfile = read("docker/Dockerfile");
    for tracker in TRACKERS {
        let command = match tracker {
            "aquatic" => "\"aquatic\", \"serve\"".to_owned(),
            _ => format!("\"{tracker}\""),
        };
        let file = format!("\"-c\", \"/etc/aquatic/{tracker}.toml\"");
        let stages = dockerfile.split("\nFROM ");
        let stage = stages
            .filter(|stage| stage.starts_with(&format!("base AS run-{tracker}\n")))
            .collect::<String>();
        for wanted in [
            format!("CMD [{command}, \"--health\", {file}]\n"),
            format!("ENTRYPOINT [{command}]\n"),
            format!("\nCMD [{file}]\n"),
        ] {
            assert!(stage.contains(&wanted), "{tracker}: {wanted}{stage}");
        }
    }
    assert!(dockerfile.contains("\nUSER 10001:10001\n"));
}
