//! A registry of images for one test, on this machine's loopback interface.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest wait for it to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ports that are tried.
const TRIES: usize = 5;

/// A running registry, which ends on drop.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: String,
    _dir: TempDir,
}

impl Registry {
    /// Starts an empty one: see [`crate::next`].
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start() -> Self {
        for _ in 0..TRIES {
            let mut registry = Self::spawn();
            let start = Instant::now();
            // Somebody may have taken the port meanwhile.
            while registry.child.try_wait().expect("registry").is_none() {
                if TcpStream::connect(&registry.address).is_ok() {
                    return registry;
                }
                assert!(start.elapsed() < PATIENCE, "the registry does not come up");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("the registry ends");
    }

    fn spawn() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-registry-")
            .tempdir()
            .expect("temporary directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its address").to_string();
        drop(free);
        let conf = dir.path().join("registry.yml");
        let mut file = std::fs::File::create(&conf).expect("configuration");
        write!(
            file,
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \"{address}\"}}\n",
            dir.path().join("images").display()
        )
        .expect("configuration");
        let conf = conf.display().to_string();
        let child = crate::next::command(&["docker-registry", "serve", &conf])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv");
        Self {
            child,
            address,
            _dir: dir,
        }
    }

    /// Returns how images of it are named: `127.0.0.1:5000/NAME`.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
