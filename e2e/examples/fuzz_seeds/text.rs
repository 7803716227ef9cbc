//! What people write, and what this machine's `/proc` says of processes.

use super::Seeds;

/// Takes seeds from the guide and from `/proc`, and a few by hand where nothing real has all forms.
pub(super) fn take(seeds: &mut Seeds) {
    let guide = include_str!("../../../docs/guide/policies.md");
    for example in guide.split("```yaml\n").skip(1) {
        let example = example.split("```").next().unwrap();
        seeds.add("policy", example);
        seeds.add("yaml", example);
        for line in example
            .lines()
            .filter_map(|line| line.split_once("paths: [\""))
        {
            let glob = line.1.trim_end_matches("\"]");
            seeds.add("globs", format!("{glob}\0/srv/www/index.html"));
        }
    }
    for (glob, path) in [
        ("/etc/passwd", "/etc/passwd"),
        ("/var/log/**", "/var/log/a/b"),
        ("**/*.key", "/srv/a/x.key"),
        ("/a/**/b", "/a/b"),
        ("/x[a-z]?", "/xyz"),
        ("/x[!a-z/]", "/x1"),
        ("/{a,b{c,d}}e", "/bde"),
        ("/etc/passwd{,-}", "/etc/passwd"),
        ("/a\\*b", "/a*b"),
        ("**", "/"),
    ] {
        seeds.add("globs", format!("{glob}\0{path}"));
    }
    for text in [
        "engine: digest\nalgorithm: blake3\natomic: true\npolicy: web.yaml\njobs: 2\n",
        "runtime: docker\ndocker-host: /run/docker.sock\nroot: /mnt\ndata-root: docker\n",
        "# nothing\n\n",
        "format: ndjson\nexpand: true\nmax-changes: 10\nconfirm: never\nlayers: sealed\n",
    ] {
        seeds.add("config", text);
        seeds.add("yaml", text);
    }
    seeds.add(
        "yaml",
        "a: &a [1, 2]\nb: *a\nc: {<<: {d: 'e'}}\n--- \"\\x41\"\n",
    );
    for text in [
        "web",
        "docker:web",
        "podman:db",
        "cri-o:db",
        "overlay:/a:b",
        "tree:/a:b",
        "k8s:a/b/c",
        "tree:a",
    ] {
        seeds.add("target", text);
    }
    for name in [
        &b"plain"[..],
        b"a\nb\x1b[2J\xff",
        "\u{202e}gpj\u{200b}\\".as_bytes(),
    ] {
        seeds.add("names", name);
    }
    seeds.add("names", r#"{"b64": "/w=="}"#);
    seeds.add("names", r#""gr\u00fcn""#);
    for path in ["/usr//bin/./sh/", "/etc/passwd", "/", "relative", "/a/../b"] {
        seeds.add("path", path);
    }
    for hex in ["md5:", "sha256:", "blake3:"] {
        let length = if hex == "md5:" { 32 } else { 64 };
        seeds.add("digest", format!("{hex}{}", "0a".repeat(length / 2)));
    }
    for (seconds, nanoseconds) in [
        (1_600_000_000i64, 123_456_789u32),
        (-1, 999_999_999),
        (i64::MAX, 0),
        (253_402_207_200, 1_000_000_000),
    ] {
        let time = [&seconds.to_le_bytes()[..], &nanoseconds.to_le_bytes()].concat();
        seeds.add("timestamp", time.repeat(2));
    }
    for links in [
        "/var/run/x\n/var/run\t/run\n",
        "/a/b\n/a\t../c/./d\n/c/d\te\n",
        "/loop/x\n/loop\tloop\n",
    ] {
        seeds.add("docker_links", links);
    }
    for process in ["self", "1", "2"] {
        seeds.add(
            "process_stat",
            std::fs::read(format!("/proc/{process}/stat")).unwrap(),
        );
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines().step_by(5) {
        seeds.add("process_maps", line);
    }
    seeds.add(
        "process_stat",
        "1 (x) Z) S) Z 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 0\n",
    );
    let id = "48c94983d096b04e83d4a31c44763b2a70396ff0a1f5b186d7f524c2ed21b694";
    for groups in [
        format!("0::/system.slice/docker-{id}.scope\n"),
        format!("12:freezer:/docker/{id}\n3:cpu,cpuacct:/docker/{id}\n0::/docker/{id}\n"),
        format!("0::/../{id}\n"),
    ] {
        seeds.add("process_cgroup", format!("{id}\n{groups}"));
    }
    // Size and mode, then runs of extents: gap, place, length, flags and how many more.
    for mode in 0..4u8 {
        let run = [0, 1, 0, 4, 0, 127];
        let list = |count: u8| [vec![count], run.repeat(usize::from(count))].concat();
        let head = [&4096u32.to_le_bytes()[..], &[mode]].concat();
        seeds.add("fiemap", [head, list(1), vec![128, 0], list(2)].concat());
    }
}
