//! Pods by the Container Runtime Interface, as a kubelet asks for them: the few calls that the tests need,
//! with their messages made by hand (`k8s.io/cri-api`, `runtime/v1/api.proto`).
//!
//! One call is one connection: gRPC over HTTP/2 (RFC 9113) with no header compressed.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime that is asked by its socket.
#[derive(Debug)]
pub struct Cri {
    socket: PathBuf,
}

/// A pod, as it is asked for.
#[derive(Debug, Clone)]
pub struct Pod<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace in the cluster.
    pub namespace: &'a str,
    /// Its identifier in the cluster.
    pub uid: &'a str,
    /// The control group that its containers are put beneath.
    pub group: String,
}

/// Texts that belong together.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

impl Cri {
    /// Returns a client; nothing is asked yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Starts the sandbox of a pod that shares the network of the host, and returns its id.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub fn run_sandbox(&self, pod: &Pod<'_>) -> Result<String, String> {
        let request = Message::new().message(1, &pod.config());
        // That there is a new image reaches the CRI plugin a little later.
        let mut tries = 20;
        loop {
            std::thread::sleep(Duration::from_millis(50));
            tries -= 1;
            match self.call("RunPodSandbox", &request) {
                Err(_) if tries > 0 => {}
                answer => return answer?.text(1),
            }
        }
    }

    /// Creates a container that waits, and returns its id. A container that is restarted is created once
    /// more, as the next `attempt`; `more` are labels, and paths inside with those of the host that are
    /// mounted there.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub fn create(
        &self,
        sandbox: &str,
        pod: &Pod<'_>,
        (name, attempt): (&str, u64),
        image: &str,
        (labels, mounts): (Pairs<'_>, Pairs<'_>),
    ) -> Result<String, String> {
        let mut config = Message::new()
            .message(1, &Message::new().string(1, name).number(2, attempt))
            .message(2, &Message::new().string(1, image));
        for word in ["/bin/busybox", "sleep", "100000"] {
            config = config.string(3, word);
        }
        for (inside, host) in mounts {
            config = config.message(7, &Message::new().string(1, inside).string(2, host));
        }
        for (key, value) in labels {
            config = config.message(9, &Message::new().string(1, key).string(2, value));
        }
        let request = Message::new()
            .string(1, sandbox)
            .message(2, &config)
            .message(3, &pod.config());
        self.call("CreateContainer", &request)?.text(1)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub fn start(&self, id: &str) -> Result<(), String> {
        let request = Message::new().string(1, id);
        self.call("StartContainer", &request).map(|_| ())
    }

    /// Stops a container at once.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub fn stop(&self, id: &str) -> Result<(), String> {
        let request = Message::new().string(1, id);
        self.call("StopContainer", &request).map(|_| ())
    }

    /// Writes what a container's processes hold to an archive; they go on.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub fn checkpoint(&self, id: &str, archive: &Path) -> Result<(), String> {
        let archive = archive.display().to_string();
        let request = Message::new().string(1, id).string(2, &archive);
        self.call("CheckpointContainer", &request).map(|_| ())
    }

    /// Runs a script in a container to its end.
    ///
    /// # Errors
    /// What is wrong with the answer, or that the script failed.
    pub fn exec(&self, id: &str, script: &str) -> Result<(), String> {
        let mut request = Message::new().string(1, id);
        for word in ["/bin/busybox", "sh", "-euc", script] {
            request = request.string(2, word);
        }
        let answer = self.call("ExecSync", &request)?;
        // Field 3 is the exit code, left out when it is 0.
        match answer.0.iter().any(|(field, _)| *field == 3) {
            true => Err(format!(
                "the script failed: {}",
                answer.text(2).unwrap_or_default()
            )),
            false => Ok(()),
        }
    }

    fn call(&self, method: &str, request: &Message) -> Result<Answer, String> {
        let failed = |what: &str| format!("{method}: {what}");
        let body = self
            .exchange(method, request)
            .map_err(|e| failed(&e.to_string()))?;
        let message = body.and_then(|body| Some(Answer::decode(body.get(5..)?)));
        message.ok_or_else(|| failed("the runtime refuses: its log says why"))
    }

    /// Returns the body of the answer; `None` when there is none, which is how gRPC tells of an error.
    fn exchange(&self, method: &str, request: &Message) -> std::io::Result<Option<Vec<u8>>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        frame(&mut stream, SETTINGS, 0, 0, &[])?;
        let path = format!("/runtime.v1.RuntimeService/{method}");
        let mut headers = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path.as_str()),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            // A literal that is not to be indexed, and of which nothing is compressed (RFC 7541, 6.2.2).
            headers.push(0);
            for text in [name, value] {
                headers.push(
                    u8::try_from(text.len())
                        .ok()
                        .filter(|n| *n < 127)
                        .expect("a short text"),
                );
                headers.extend(text.as_bytes());
            }
        }
        frame(&mut stream, HEADERS, END_HEADERS, 1, &headers)?;
        let length = u32::try_from(request.0.len()).expect("a short message");
        let body = [&[0][..], &length.to_be_bytes(), &request.0].concat();
        frame(&mut stream, DATA, END_STREAM, 1, &body)?;
        let mut answer = Vec::new();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).expect("length")];
            stream.read_exact(&mut payload)?;
            let (kind, flags) = (head[3], head[4]);
            match kind {
                DATA => answer.extend(payload),
                SETTINGS if flags & ACK == 0 => frame(&mut stream, SETTINGS, ACK, 0, &[])?,
                PING if flags & ACK == 0 => frame(&mut stream, PING, ACK, 0, &payload)?,
                GOAWAY | RST_STREAM => return Ok(None),
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return Ok((!answer.is_empty()).then_some(answer));
            }
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(
    stream: &mut UnixStream,
    kind: u8,
    flags: u8,
    of: u32,
    payload: &[u8],
) -> std::io::Result<()> {
    let length = u32::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    let head = [&length[1..], &[kind, flags], &of.to_be_bytes()].concat();
    stream.write_all(&head)?;
    stream.write_all(payload)
}

impl Pod<'_> {
    /// `PodSandboxConfig`.
    fn config(&self) -> Message {
        const NODE: u64 = 2;
        let metadata = Message::new()
            .string(1, self.name)
            .string(2, self.uid)
            .string(3, self.namespace);
        let namespaces = Message::new().number(1, NODE);
        let security = Message::new().message(1, &namespaces);
        let linux = Message::new().string(1, &self.group).message(2, &security);
        Message::new().message(1, &metadata).message(8, &linux)
    }
}

/// A message of Protocol Buffers that is being put together.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn new() -> Self {
        Self::default()
    }

    fn string(self, field: u8, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u8, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    fn bytes(mut self, field: u8, bytes: &[u8]) -> Self {
        self.0.push(field << 3 | 2);
        self.varint(u64::try_from(bytes.len()).expect("length"));
        self.0.extend(bytes);
        self
    }

    fn number(mut self, field: u8, value: u64) -> Self {
        self.0.push(field << 3);
        self.varint(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0
                .push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).expect("seven bits"));
    }
}

/// The fields of a message: numbers stand as no bytes.
#[derive(Debug, Default)]
struct Answer(Vec<(u64, Vec<u8>)>);

impl Answer {
    fn decode(mut rest: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let tag = take(&mut rest);
            let length = take(&mut rest);
            let bytes = match tag & 7 {
                2 => rest.split_off(..usize::try_from(length).expect("length")),
                _ => None,
            };
            fields.push((tag >> 3, bytes.unwrap_or_default().to_vec()));
        }
        Self(fields)
    }

    fn text(&self, field: u64) -> Result<String, String> {
        let found = self.0.iter().find(|(of, _)| *of == field);
        let found = found.ok_or_else(|| format!("the answer lacks field {field}"))?;
        Ok(String::from_utf8_lossy(&found.1).into_owned())
    }
}

fn take(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for n in 0..10 {
        let Some(byte) = rest.split_off_first() else {
            break;
        };
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
