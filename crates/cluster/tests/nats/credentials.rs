//! Who may connect.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use aquatic_cluster::bus::{Channel, Destination};
use aquatic_cluster::config::ClusterConfig;
use aquatic_test_support::nats::{self, NatsServer};
use aquatic_test_support::wait::until;

use crate::lines::Lines;
use crate::node::{Node, config};

const PEERS: Destination = Destination::All(Channel::Peers);

/// Made for these tests, and good for nothing else.
const OPERATOR: &str = "\
    eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJqdGkiOiJBIiwiaWF0IjoxNzAwMDAwMDAwLCJpc\
    3MiOiJPQ1RIR0tWV001QVU0UVE1Q05PTEYyR0kzNU1XT0hKWFA0NVZBNTdST1RZUUFDRVhFN1JFWDRVMyIsIm5hb\
    WUiOiJ0ZXN0Iiwic3ViIjoiT0NUSEdLVldNNUFVNFFRNUNOT0xGMkdJMzVNV09ISlhQNDVWQTU3Uk9UWVFBQ0VYR\
    TdSRVg0VTMiLCJuYXRzIjp7InR5cGUiOiJvcGVyYXRvciIsInZlcnNpb24iOjJ9fQ.v4earRicgW_BZCiSYG121F\
    sfQABcT4cBVFQ_Ni_XgKpf1JbAVC6iOCPtvVXnpYiHNOURkbBnG71jUffDqdlpBw";

const ACCOUNT_ID: &str = "AALANHOJPVP7FHLPTAI7EJWWHIAHSPPJEFWDBXJRBYSW3ZCRWQQIGY2E";

const ACCOUNT: &str = "\
    eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJqdGkiOiJCIiwiaWF0IjoxNzAwMDAwMDAwLCJpc\
    3MiOiJPQ1RIR0tWV001QVU0UVE1Q05PTEYyR0kzNU1XT0hKWFA0NVZBNTdST1RZUUFDRVhFN1JFWDRVMyIsIm5hb\
    WUiOiJ0ZXN0Iiwic3ViIjoiQUFMQU5IT0pQVlA3RkhMUFRBSTdFSldXSElBSFNQUEpFRldEQlhKUkJZU1czWkNSV\
    1FRSUdZMkUiLCJuYXRzIjp7ImxpbWl0cyI6eyJzdWJzIjotMSwiY29ubiI6LTEsImxlYWYiOi0xLCJpbXBvcnRzI\
    jotMSwiZXhwb3J0cyI6LTEsImRhdGEiOi0xLCJwYXlsb2FkIjotMSwid2lsZGNhcmRzIjp0cnVlfSwidHlwZSI6I\
    mFjY291bnQiLCJ2ZXJzaW9uIjoyfX0.1NO_iw8UfPCMjdFX03qu5gu_s16Fm6zViBP35KeFAa5K50yHJUdV8uXWv\
    A-ZyZdtjmHqk7HX-g6PYa3y0JklDQ";

/// JWT of a user, and the seed of its key.
const USER: &str = "\
    eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJqdGkiOiJDIiwiaWF0IjoxNzAwMDAwMDAwLCJpc\
    3MiOiJBQUxBTkhPSlBWUDdGSExQVEFJN0VKV1dISUFIU1BQSkVGV0RCWEpSQllTVzNaQ1JXUVFJR1kyRSIsIm5hb\
    WUiOiJ0ZXN0Iiwic3ViIjoiVUFFMjVQSkw2R0ZZTEE0RFBTV1lJUkc3QVJXTkxOR0FXVFQ0WTNQWEQySE9XUkJDN\
    lZXQUwySzMiLCJuYXRzIjp7InB1YiI6e30sInN1YiI6e30sInN1YnMiOi0xLCJkYXRhIjotMSwicGF5bG9hZCI6L\
    TEsInR5cGUiOiJ1c2VyIiwidmVyc2lvbiI6Mn19.aaJ3XRdEDnRlpIgAe0n7k0egFAODoNKUygE-0V7Sm2hZrK1s\
    32sOptvYJJ0LnaSG1y7sCjxZcysjUngjwmzLCw";

const USER_SEED: &str = "SUAO7RTTJRC7S3BNAMQCSYZKPUCSSF2WYIREK73PHS26U6AQ255UYQ6PCE";

/// An NKey: its seed, and what the server knows it by.
const SEED: &str = "SUANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY";
const NKEY: &str = "UAMMBNV2EYR65NYZZ7IAK5SIR5ODNTTERJOBOF4KJLMWI45YOXOSWULM";

fn creds() -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{USER}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         NKEY Seed printed below can be used to sign and prove identity.\n\n\
         -----BEGIN USER NKEY SEED-----\n{USER_SEED}\n------END USER NKEY SEED------\n"
    )
}

fn with_credentials(server: &NatsServer, content: &str) -> ClusterConfig {
    let path: PathBuf = server.path("credentials");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    ClusterConfig {
        credentials_file: path,
        ..config(&[server])
    }
}

#[test]
fn each_kind_of_credentials_lets_a_tracker_in_and_none_does_not() {
    if !nats::is_there() {
        return;
    }
    let _lines = Lines::begin();
    let operator = format!(
        "operator: {OPERATOR}\nresolver: MEMORY\nresolver_preload: {{ {ACCOUNT_ID}: {ACCOUNT} }}"
    );
    let nkey = format!("authorization {{ users: [ {{ nkey: {NKEY} }} ] }}");
    for (configuration, content) in [
        (operator, creds()),
        (nkey, SEED.to_owned()),
        (
            "authorization { user: \"a user\", password: \"a password\" }".to_owned(),
            "a user\na password\n".to_owned(),
        ),
        (
            "authorization { token: \"a token of mine\" }".to_owned(),
            "a token of mine\n".to_owned(),
        ),
    ] {
        let server = NatsServer::start_with(&configuration);
        let config = with_credentials(&server, &content);
        let [a, b] = ["a", "b"].map(|name| Node::start_with(name, &config));
        for node in [&a, &b] {
            node.expect_connected();
        }
        a.publish(&PEERS, b"x");
        b.expect_heard(Channel::Peers, "a", b"x");
        let stranger = Node::start("stranger", &[&server]);
        stranger.expect_silence(Duration::from_millis(300));
    }
}

#[test]
fn who_is_refused_says_so_once_and_is_let_in_later() {
    if !nats::is_there() {
        return;
    }
    let lines = Lines::begin();
    let allow =
        |password: &str| format!("authorization {{ user: \"a\", password: \"{password}\" }}");
    let server = NatsServer::start_with(&allow("right"));
    let node = Node::start_with("a", &with_credentials(&server, "a\nwrong password\n"));
    let reason = format!("127.0.0.1:{}: it refuses the credentials", server.port());
    until("the reason is told", || {
        (!lines.with(&reason).is_empty()).then_some(())
    });
    node.expect_silence(Duration::from_secs(2));
    assert_eq!(lines.with(&reason).len(), 1);
    assert_eq!(lines.with("wrong password"), [] as [&str; 0], "a secret");
    server.reload(&allow("wrong password"));
    node.expect_connected();
}

#[test]
fn files_that_others_can_read_are_refused() {
    let _lines = Lines::begin();
    let server = NatsServer::stopped("");
    let config = with_credentials(&server, "a\nb\n");
    let path = &config.credentials_file;
    fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
    let error = crate::node::load_error(&config);
    assert!(
        error.starts_with("cluster.credentials_file: cannot use "),
        "{error}"
    );
    assert!(
        error.contains("others than its owner may use it"),
        "{error}"
    );
}
