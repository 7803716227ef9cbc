//! What a running daemon says: the Engine API over its Unix socket, `GET` alone.
//!
//! Only a cross-check and a help in finding the data root: every answer may be missing, late or
//! wrong, and none of them takes the place of what is on disk.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plimsoll_core::model::escape;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Longest time that one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer that is read, in bytes: a list of some 40,000 containers.
const ANSWER_LIMIT: usize = 64 << 20;

/// Most header lines of an answer; Docker sends seven.
const HEADERS_MAX: usize = 64;

/// The Engine API behind one socket.
#[derive(Debug)]
pub(super) struct Api {
    socket: PathBuf,
    /// Longest time that one question may take.
    patience: Duration,
    /// Whether it let a question wait in vain: then it is asked no more.
    silent: Cell<bool>,
}

/// Why the daemon's answer cannot be used.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The socket could not be used.
    Io(std::io::Error),
    /// The daemon answered with this status and said why.
    Status(u16, String),
    /// This is not how a Docker Engine answers.
    Malformed(&'static str),
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Of `GET /info`.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    /// Where the daemon keeps its data, `<uid>.<gid>` of a remapped daemon included.
    #[serde(rename = "DockerRootDir")]
    pub(super) data_root: PathBuf,
    /// The storage driver in use: the daemon knows containers of this one alone.
    #[serde(rename = "Driver", default)]
    pub(super) driver: String,
}

/// One container of `GET /containers/json?all=1`.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "Id")]
    pub(super) id: String,
}

/// Of `GET /containers/ID/json`.
#[derive(Debug, Deserialize)]
pub(super) struct Inspected {
    #[serde(rename = "Id", default)]
    pub(super) id: String,
    /// The container's storage driver.
    #[serde(rename = "Driver", default)]
    pub(super) storage: String,
    /// Files of the container's own directory; empty before it is first started.
    #[serde(rename = "HostnamePath", default)]
    hostname_path: String,
    #[serde(rename = "LogPath", default)]
    log_path: String,
    #[serde(rename = "State")]
    pub(super) state: InspectedState,
    #[serde(rename = "Image", default)]
    pub(super) image: String,
    #[serde(rename = "GraphDriver", default)]
    driver: Option<GraphDriver>,
}

impl Inspected {
    /// Returns the daemon's data root, where the answer tells it: by the path of a file in
    /// `containers/<id>`, or by that of the writable layer.
    pub(super) fn data_root(&self) -> Option<&Path> {
        let own = format!("/containers/{}/", self.id);
        let of_file = [&self.hostname_path, &self.log_path]
            .into_iter()
            .find_map(|path| path.split_once(&own))
            .map(|(root, _)| root);
        let of_layer = || {
            let layers = format!("/{}/", self.storage);
            Some(self.upper_dir()?.rsplit_once(&layers)?.0)
        };
        let root = of_file.or_else(of_layer).map(Path::new)?;
        (!self.id.is_empty() && root.is_absolute()).then_some(root)
    }

    /// Returns the directory of the writable layer, which only `overlay2` tells.
    pub(super) fn upper_dir(&self) -> Option<&str> {
        self.driver.as_ref()?.data.as_ref()?.upper_dir.as_deref()
    }
}

/// What a container is doing, by the daemon.
#[derive(Debug, Deserialize)]
pub(super) struct InspectedState {
    #[serde(rename = "Status", default)]
    pub(super) status: String,
}

#[derive(Debug, Deserialize)]
struct GraphDriver {
    #[serde(rename = "Data", default)]
    data: Option<GraphDriverData>,
}

#[derive(Debug, Deserialize)]
struct GraphDriverData {
    #[serde(rename = "UpperDir", default)]
    upper_dir: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Complaint {
    message: String,
}

impl Api {
    /// Names the socket; nothing is asked yet.
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            patience: PATIENCE,
            silent: Cell::new(false),
        }
    }

    /// Returns the path of the socket, escaped.
    pub(super) fn shown(&self) -> String {
        escape(self.socket.as_os_str().as_bytes()).into_owned()
    }

    /// Asks what the daemon is.
    pub(super) fn info(&self) -> Result<Info, ApiError> {
        self.get("/info")
    }

    /// Asks for all containers, in any state.
    pub(super) fn list(&self) -> Result<Vec<Listed>, ApiError> {
        self.get("/containers/json?all=1")
    }

    /// Whether the daemon (still) has this container.
    pub(super) fn has(&self, id: &str) -> bool {
        self.inspect(id).is_ok()
    }

    /// Asks about one container, by its id or its name. Docker's names are made of characters that
    /// stand for themselves in a URL (moby `daemon/names/names.go`): no other is asked for.
    pub(super) fn inspect(&self, name: &str) -> Result<Inspected, ApiError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if name.starts_with('.') || !name.bytes().all(plain) || name.is_empty() {
            return Err(ApiError::Status(404, "not a name of Docker's".into()));
        }
        self.get(&format!("/containers/{name}/json"))
    }

    /// Returns what went wrong as one sentence with the way out.
    pub(super) fn explain(&self, error: &ApiError) -> String {
        use std::io::ErrorKind;
        let socket = self.shown();
        let disk = "or give --data-root to go by the disk alone";
        match error {
            ApiError::Io(e) => match e.kind() {
                ErrorKind::NotFound => {
                    format!(
                        "there is no socket {socket}: give the daemon's with --docker-host, {disk}"
                    )
                }
                ErrorKind::PermissionDenied => {
                    format!("no permission to ask {socket}: run as root")
                }
                ErrorKind::ConnectionRefused => {
                    format!("nobody answers at {socket}: start the daemon, {disk}")
                }
                ErrorKind::TimedOut | ErrorKind::WouldBlock => format!(
                    "no answer from {socket} within {} seconds: mend the daemon, {disk}",
                    self.patience.as_secs()
                ),
                _ => format!("{socket}: {e}: give the daemon's socket with --docker-host, {disk}"),
            },
            ApiError::Status(status, message) => {
                format!("the daemon at {socket} answers {status}: {message}")
            }
            ApiError::Malformed(what) => format!(
                "{socket} is not the socket of a Docker Engine ({what}): give the daemon's with --docker-host, {disk}"
            ),
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        use std::io::ErrorKind;
        if self.silent.get() {
            return Err(ApiError::Io(ErrorKind::TimedOut.into()));
        }
        let answer = self.exchange(path);
        if let Err(ApiError::Io(e)) = &answer
            && matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
        {
            self.silent.set(true);
        }
        let answer = answer?;
        let (status, body) = parse(&answer)?;
        if status != 200 {
            let message = serde_json::from_slice::<Complaint>(body)
                .map_or_else(|_| "no reason given".into(), |c| c.message);
            let message: String = message.chars().take(200).collect();
            return Err(ApiError::Status(
                status,
                escape(message.as_bytes()).into_owned(),
            ));
        }
        serde_json::from_slice(body).map_err(|_| ApiError::Malformed("unexpected JSON"))
    }

    /// Sends one request and returns the whole answer. HTTP/1.0: the daemon closes the connection
    /// after it, and neither chunks nor compresses it.
    fn exchange(&self, path: &str) -> Result<Vec<u8>, ApiError> {
        let deadline = Instant::now() + self.patience;
        let mut stream = connect(&self.socket, self.patience)?;
        stream.set_write_timeout(Some(self.patience))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ApiError::Io(std::io::ErrorKind::TimedOut.into()));
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(answer),
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
            if answer.len() > ANSWER_LIMIT {
                return Err(ApiError::Malformed("the answer does not end"));
            }
        }
    }
}

/// Connects to a socket: a daemon that hangs takes up no connection, and once its queue is full connecting
/// waits, here for no longer than `patience`.
fn connect(socket: &Path, patience: Duration) -> std::io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(patience))?;
    rustix::net::connect(&fd, &address)?;
    Ok(UnixStream::from(fd))
}

/// Splits an answer into its status and its body, and sees that nothing of the body is missing.
pub(super) fn parse(answer: &[u8]) -> Result<(u16, &[u8]), ApiError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(answer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Err(ApiError::Malformed("the answer was cut off")),
        Err(_) => return Err(ApiError::Malformed("not HTTP")),
    };
    let body = answer.get(length..).unwrap_or_default();
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(ApiError::Malformed("an encoded answer"));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let announced = std::str::from_utf8(header.value)
                .ok()
                .and_then(|value| value.trim().parse::<usize>().ok());
            if announced != Some(body.len()) {
                return Err(ApiError::Malformed("the answer was cut off"));
            }
        }
    }
    Ok((response.code.unwrap_or_default(), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_none() {
        for (answer, why) in [
            (&b""[..], "the answer was cut off"),
            (b"HTTP/1.0 200 OK\r\n", "the answer was cut off"),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP"),
            (
                b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n{}",
                "the answer was cut off",
            ),
            (
                b"HTTP/1.0 200 OK\r\nContent-Length: -5\r\n\r\n{}",
                "the answer was cut off",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                "an encoded answer",
            ),
        ] {
            match parse(answer) {
                Err(ApiError::Malformed(told)) => assert_eq!(told, why, "{}", escape(answer)),
                other => panic!("{}: {other:?}", escape(answer)),
            }
        }
        let many = format!(
            "HTTP/1.0 200 OK\r\n{}\r\n",
            "a: b\r\n".repeat(HEADERS_MAX + 1)
        );
        assert!(parse(many.as_bytes()).is_err());
    }

    #[test]
    fn an_answer_of_docker() {
        let (status, body) =
            parse(b"HTTP/1.0 404 Not Found\r\nApi-Version: 1.41\r\n\r\n{\"message\":\"No such\"}")
                .unwrap();
        assert_eq!((status, body), (404, &b"{\"message\":\"No such\"}"[..]));
    }

    /// One whose queue is full, as that of a daemon that was stopped.
    #[test]
    fn a_socket_that_takes_nobody() {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&listener, 0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        let mut api = Api::new(&path);
        api.patience = Duration::from_secs(1);
        let error = api.info().unwrap_err();
        let told = api.explain(&error);
        assert!(told.contains("within 1 seconds"), "{told}");
        // It is not waited for a second time.
        let start = Instant::now();
        assert!(api.list().is_err() && !api.has("web"));
        assert!(start.elapsed() < api.patience);
    }

    #[test]
    fn a_socket_that_is_not_there() {
        let api = Api::new(Path::new("/nonexistent/docker.sock"));
        let error = api.info().unwrap_err();
        assert_eq!(
            api.explain(&error),
            "there is no socket /nonexistent/docker.sock: give the daemon's with --docker-host, or give --data-root to go by the disk alone"
        );
    }
}
