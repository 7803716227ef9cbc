//! Records, answers and processes of a real Docker, and a stored baseline of one of its containers.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use plimsoll_e2e::command::shell;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::program;
use plimsoll_e2e::rootfs::small_rootfs;

use super::Seeds;

/// Takes seeds of everything that is decoded of Docker.
pub(super) fn take(seeds: &mut Seeds) {
    for driver in [Driver::Overlay2, Driver::Btrfs] {
        let daemon = Dockerd::start(driver);
        let rootfs = small_rootfs();
        daemon.import("base", rootfs.path());
        daemon.build(
            "image",
            "FROM base\nENV A=b\nWORKDIR /srv/app\nVOLUME /anon\nRUN echo more > /etc/more\nCMD [\"sleep\", \"600\"]\n",
        );
        let scratch = daemon.scratch().display().to_string();
        daemon.create("created", &[], "image", &[]);
        daemon.run(
            "mounts",
            &[
                "-v",
                &format!("{scratch}:/x/y:ro"),
                "-v",
                "volume:/vol/data",
                "--tmpfs",
                "/t/u",
                "--mount",
                "type=volume,dst=/m/v",
                "--init",
                "--workdir",
                "/app/dir",
                "--label",
                "a=\u{fc}\n",
            ],
            "image",
            &[],
        );
        daemon.run("ended", &[], "image", &["true"]);
        daemon.docker(&["wait", "ended"]);
        records(seeds, &daemon.data_root(), driver.as_str());
        for path in [
            "/info",
            "/containers/json?all=1",
            "/containers/mounts/json",
            "/containers/none/json",
            "/_ping",
        ] {
            answer(seeds, &daemon.socket(), path);
        }
        let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", "mounts"]);
        let id = daemon.id("mounts");
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        seeds.add("process_cgroup", format!("{id}\n{groups}"));
        seeds.add(
            "process_stat",
            std::fs::read(format!("/proc/{pid}/stat")).unwrap(),
        );
        let mounts = std::fs::read(format!("/proc/{pid}/mountinfo")).unwrap();
        if mounts.len() <= 8 << 10 {
            seeds.add("mountinfo", &mounts);
        }
        if driver == Driver::Overlay2 {
            baselines(seeds, &daemon);
        }
        drop(daemon);
    }
}

/// Takes what lies in a data root.
fn records(seeds: &mut Seeds, root: &Path, driver: &str) {
    let files = |place: &str| -> Vec<String> {
        let found = shell(&format!(
            "find '{}' -type f -size -60k",
            root.join(place).display()
        ));
        found.lines().map(str::to_owned).collect()
    };
    for path in files("containers") {
        if path.ends_with("config.v2.json") {
            let host = path.replace("config.v2.json", "hostconfig.json");
            let (record, host) = (std::fs::read(&path).unwrap(), std::fs::read(host).unwrap());
            seeds.add("docker_record", [&record[..], b"\0", &host].concat());
        }
    }
    for path in files(&format!("image/{driver}/imagedb/content/sha256")) {
        seeds.add("docker_json", std::fs::read(path).unwrap());
    }
    let mut digests = Vec::new();
    for path in files(&format!("image/{driver}/layerdb")) {
        let name = path.rsplit('/').next().unwrap();
        if ["mount-id", "init-id", "cache-id", "diff", "parent"].contains(&name) {
            let text = std::fs::read(&path).unwrap();
            if name == "diff" {
                digests.push(text.clone());
            }
            seeds.add("docker_layer", text);
        }
    }
    seeds.add("digest", digests.join(&b'\n'));
    for link in std::fs::read_dir(root.join("overlay2/l"))
        .into_iter()
        .flatten()
    {
        let link = link.unwrap();
        let target = std::fs::read_link(link.path()).unwrap();
        let lower = format!("l/{}", link.file_name().display());
        seeds.add("docker_layer", format!("{lower}\0{}", target.display()));
    }
    for text in [
        r#"{"data-root": "/srv/docker", "storage-driver": "overlay2"}"#,
        r#"{"graph": "/srv/docker"}"#,
    ] {
        seeds.add("docker_json", text);
    }
    for text in [
        "/var/lib/docker/overlay2/0123abcd/diff",
        "rw,ssd,subvolid=258,subvol=/btrfs/subvolumes/a",
        "100000.100000",
    ] {
        seeds.add("docker_layer", text);
    }
}

/// Takes a whole answer of the daemon, and its body.
fn answer(seeds: &mut Seeds, socket: &Path, path: &str) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap();
    seeds.add("docker_json", &answer[head + 4..]);
    answer.truncate(head + 4 + 200);
    seeds.add("docker_answer", answer);
}

/// Takes a few lines of each stored baseline.
fn baselines(seeds: &mut Seeds, daemon: &Dockerd) {
    let kept = tempfile::tempdir().unwrap();
    let output = program::command()
        .args(["bench", "--keep"])
        .arg(kept.path())
        .arg("--data-root")
        .arg(daemon.data_root())
        .arg("mounts")
        .output()
        .unwrap();
    assert!(output.status.code().is_some(), "{output:?}");
    for entry in std::fs::read_dir(kept.path()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // The links to busybox are all alike.
        let few = |line: &&&str| !line.contains("\"busybox\"");
        let some: Vec<&str> = lines.iter().filter(few).copied().take(40).collect();
        seeds.add("baseline", some.join("\n"));
        seeds.add("baseline", lines[..lines.len().min(4)].join("\n"));
    }
}
