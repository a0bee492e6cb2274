use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;

use super::super::health::HEALTH_PATH;
use super::*;

/// More than the kernel keeps for a client that does not read.
const LARGE_BYTES: usize = 32 << 20;

const WAIT_MAX: Duration = Duration::from_secs(60);

/// An endpoint whose thread ends with the tests.
fn serve() -> SocketAddr {
    let mut server = Server::bind(Some(([127, 0, 0, 1], 0).into()), None).unwrap();
    let address = server.address().unwrap().unwrap();
    let routes = Routes::default()
        .with("/page", |_| Response::ok("text/plain", "page"))
        .with(HEALTH_PATH, |_| Response::ok("text/plain", "page"))
        .with("/large", |_| {
            Response::ok("text/plain", vec![b'x'; LARGE_BYTES])
        });
    let _worker = server.set_routes(routes);
    thread::spawn(move || server.serve());
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

/// The beginning of what comes, up to the end of the first page.
fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\npage") {
        let mut bytes = [0; 512];
        let size = stream.read(&mut bytes).unwrap();
        assert!(size > 0, "{text}");
        text += str::from_utf8(&bytes[..size]).unwrap();
    }
    text
}

/// Everything up to the end, or to what an abrupt end leaves of it.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    let is_late = |error: io::Error| error.kind() == ErrorKind::WouldBlock;
    assert!(!end.is_err_and(is_late), "no end");
    bytes
}

/// Who comes while the server goes from one thread to another.
#[test]
fn who_comes_at_the_end_of_a_thread_is_answered_by_the_next() {
    let mut server = Server::bind(Some(([127, 0, 0, 1], 0).into()), None).unwrap();
    let address = server.address().unwrap().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let is_over_for_thread = Arc::clone(&is_over);
    let (begun, has_begun) = channel();
    let first = thread::spawn(move || {
        begun.send(()).unwrap();
        server.serve_until(&is_over_for_thread).unwrap();
        server
    });
    has_begun.recv().unwrap();
    // Until it waits, so that the test can fail; it does not depend on that to succeed.
    thread::sleep(Duration::from_millis(50));
    is_over.store(true, Ordering::Release);
    // It ends the wait.
    let mut stream = connect(address);
    let mut server = first.join().unwrap();
    let routes = Routes::default().with("/page", |_| Response::ok("text/plain", "page"));
    let _worker = server.set_routes(routes);
    thread::spawn(move || server.serve());
    ask(&mut stream, "/page");
    assert!(answer(&mut stream).starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_connection_is_asked_again_and_again() {
    let mut stream = connect(serve());
    for _ in 0..3 {
        ask(&mut stream, "/page");
        assert!(answer(&mut stream).starts_with("HTTP/1.1 200 OK\r\n"));
    }
    ask(&mut stream, "/page");
    ask(&mut stream, "/page");
    stream.shutdown(Shutdown::Write).unwrap();
    let both = String::from_utf8(rest(&mut stream)).unwrap();
    assert_eq!(both.matches("200 OK").count(), 2, "{both}");
}

#[test]
fn the_oldest_idle_connection_gives_way() {
    let address = serve();
    let mut held: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(address)).collect();
    for stream in &mut held {
        ask(stream, "/page");
        answer(stream);
    }
    // The first is no longer the one that has been idle for the longest time.
    ask(&mut held[0], "/page");
    answer(&mut held[0]);
    let mut new = connect(address);
    ask(&mut new, "/page");
    answer(&mut new);
    assert!(rest(&mut held[1]).is_empty());
    for place in [0, 2, CONNECTIONS_MAX - 1] {
        ask(&mut held[place], "/page");
        answer(&mut held[place]);
    }
}

#[test]
fn who_takes_an_answer_is_left_alone() {
    let address = serve();
    let mut slow: Vec<_> = (0..LONG_CONNECTIONS_MAX)
        .map(|_| connect(address))
        .collect();
    for stream in &mut slow {
        ask(stream, "/large");
        // The answer is on its way.
        stream.read_exact(&mut [0]).unwrap();
    }
    let mut more: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(address)).collect();
    let mut last = more.pop().unwrap();
    last.write_all(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
        .unwrap();
    let turned_away = String::from_utf8(rest(&mut last)).unwrap();
    assert!(turned_away.starts_with("HTTP/1.1 503 "), "{turned_away}");
    assert!(turned_away.contains("Retry-After: 1"), "{turned_away}");
    // Room is kept for that.
    let mut health = connect(address);
    ask(&mut health, HEALTH_PATH);
    answer(&mut health);
    for stream in &mut slow {
        stream.shutdown(Shutdown::Write).unwrap();
        let bytes = rest(stream);
        assert!(bytes.len() > LARGE_BYTES && bytes.ends_with(b"xxx"));
    }
    let mut new = connect(address);
    ask(&mut new, "/page");
    answer(&mut new);
}

/// Pages that wait for somebody do not wait one after the other.
#[test]
fn all_pages_of_a_round_wait_together() {
    let mut server = Server::bind(Some(([127, 0, 0, 1], 0).into()), None).unwrap();
    let address = server.address().unwrap().unwrap();
    let waited = Arc::new(Mutex::new(Vec::new()));
    let waited_by_page = Arc::clone(&waited);
    let routes = Routes::default().with("/page", move |request| {
        waited_by_page.lock().unwrap().push(request.patience());
        thread::sleep(request.patience());
        Response::ok("text/plain", "page")
    });
    let _worker = server.set_routes(routes);
    let mut clients: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(address)).collect();
    clients.iter_mut().for_each(|client| ask(client, "/page"));
    server.accept(server.clock.elapsed());
    let take_all = || std::mem::take(&mut *waited.lock().unwrap());
    let of_new = take_all();
    clients.iter_mut().for_each(|client| ask(client, "/page"));
    for socket in server.sockets.iter_mut().flatten() {
        socket.is_ready = true;
    }
    let now = server.clock.elapsed();
    server.take_turns(now);
    for all in [of_new, take_all()] {
        let sum: Duration = all.iter().sum();
        assert!(sum <= ROUND_MAX - UNHURRIED_MIN, "{all:?}");
        assert!(
            all.len() > 1,
            "who is behind one that has waited is served: {all:?}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_waits_for_all_who_come_to_the_other_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unix = UnixSocket::bind(&path, None).unwrap();
    let mut server = Server::bind(Some(([127, 0, 0, 1], 0).into()), Some(unix)).unwrap();
    let address = server.address().unwrap().unwrap();
    let routes = Routes::default().with("/page", |_| Response::ok("text/plain", "page"));
    let _worker = server.set_routes(routes);
    let many = 2 * ACCEPTS_PER_ROUND - 10;
    let _many: Vec<_> = (0..many)
        .map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap())
        .collect();
    let mut stream = connect(address);
    ask(&mut stream, "/page");
    server.accept(server.clock.elapsed());
    stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    answer(&mut stream);
}

#[test]
fn an_answer_to_rubbish_arrives() {
    let mut stream = connect(serve());
    stream.write_all(&[b'x'; 64 * 1_024]).unwrap();
    let answer = String::from_utf8(rest(&mut stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn who_asks_for_nothing_is_given_up() {
    let mut stream = connect(serve());
    stream.write_all(b"GET /pa").unwrap();
    assert!(rest(&mut stream).is_empty());
}
