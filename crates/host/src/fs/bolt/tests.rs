//! A reader of databases that are made here, whole and broken, and that change while they are read.

use std::cell::Cell;

use super::*;

const SIZE: usize = 1024;

/// A leaf of these entries; `true` marks buckets. Without the bytes that fill a page.
fn leaf(number: u64, entries: &[(&[u8], &[u8], bool)]) -> Vec<u8> {
    let mut page = number.to_le_bytes().to_vec();
    page.extend(2_u16.to_le_bytes());
    page.extend(u16::try_from(entries.len()).unwrap().to_le_bytes());
    page.extend(0_u32.to_le_bytes());
    let mut at = entries.len() * 16;
    for (key, value, is_bucket) in entries {
        for number in [usize::from(*is_bucket), at, key.len(), value.len()] {
            page.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        at = at + key.len() + value.len() - 16;
    }
    for (key, value, _) in entries {
        page.extend(*key);
        page.extend(*value);
    }
    page
}

fn branch(number: u64, entries: &[(&[u8], u64)]) -> Vec<u8> {
    let mut page = number.to_le_bytes().to_vec();
    page.extend(1_u16.to_le_bytes());
    page.extend(u16::try_from(entries.len()).unwrap().to_le_bytes());
    page.extend(0_u32.to_le_bytes());
    let mut at = entries.len() * 16;
    for (key, child) in entries {
        page.extend(u32::try_from(at).unwrap().to_le_bytes());
        page.extend(u32::try_from(key.len()).unwrap().to_le_bytes());
        page.extend(child.to_le_bytes());
        at = at + key.len() - 16;
    }
    entries.iter().for_each(|(key, _)| page.extend(*key));
    page
}

fn meta(number: u64, root: u64, pages: u64, transaction: u64) -> Vec<u8> {
    let mut page = number.to_le_bytes().to_vec();
    page.extend([4, 0, 0, 0, 0, 0, 0, 0]);
    let mut meta = 0xED0C_DAED_u32.to_le_bytes().to_vec();
    for word in [2, u32::try_from(SIZE).unwrap(), 0] {
        meta.extend(word.to_le_bytes());
    }
    for word in [root, 0, 0, pages, transaction] {
        meta.extend(word.to_le_bytes());
    }
    meta.extend(page::checksum(&meta).to_le_bytes());
    page.extend(meta);
    page
}

/// A database of these pages, the first of which is page 2 and the root.
fn database(pages: &[Vec<u8>]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut tree = Vec::new();
    for page in pages {
        let mut page = page.clone();
        let length = page.len().div_ceil(SIZE) * SIZE;
        let more = u32::try_from(length / SIZE - 1).unwrap();
        page[12..16].copy_from_slice(&more.to_le_bytes());
        page.resize(length, 0);
        tree.extend(page);
    }
    let count = 2 + u64::try_from(tree.len() / SIZE).unwrap();
    for (number, transaction) in [(0, 8), (1, 7)] {
        let mut page = meta(number, 2, count, transaction);
        page.resize(SIZE, 0);
        all.extend(page);
    }
    all.extend(tree);
    all
}

/// Everything in a bucket, as text.
fn told(view: &View<'_>, bucket: &Bucket) -> Result<String, BoltError> {
    let mut out = String::new();
    view.each(bucket, &mut |key, entry| {
        out += &String::from_utf8_lossy(key.bytes());
        match entry {
            Entry::Value(value) => out += &format!("={};", String::from_utf8_lossy(value.bytes())),
            Entry::Bucket(bucket) => out += &format!("{{{}}}", told(view, &bucket)?),
        }
        Ok(())
    })?;
    Ok(out)
}

fn all(database: &Vec<u8>) -> Result<String, BoltError> {
    ask(database, |view| told(view, &view.root()))
}

fn at(root: u64) -> Vec<u8> {
    [root.to_le_bytes(), [0; 8]].concat()
}

fn inline(entries: &[(&[u8], &[u8], bool)]) -> Vec<u8> {
    [at(0), leaf(0, entries)].concat()
}

#[test]
fn every_form_of_a_tree() {
    let long = vec![b'x'; 3 * SIZE];
    let small = inline(&[(b"k", b"v", false)]);
    let pages = [
        leaf(2, &[(b"big", &at(3), true), (b"small", &small, true)]),
        branch(3, &[(b"a", 4), (b"m", 5)]),
        leaf(4, &[(b"a", b"1", false), (b"c", b"", false)]),
        leaf(5, &[(b"m", &long, false), (b"z", b"4", false)]),
    ];
    let database = database(&pages);
    let long = String::from_utf8(long).unwrap();
    assert_eq!(
        all(&database).unwrap(),
        format!("big{{a=1;c=;m={long};z=4;}}small{{k=v;}}")
    );
    ask(&database, |view| {
        let big = view.bucket(&view.root(), &[b"big"])?.unwrap();
        for (key, value) in [
            ("a", Some("1")),
            ("c", Some("")),
            ("m", Some(long.as_str())),
            ("z", Some("4")),
            ("", None),
            ("b", None),
            ("zz", None),
        ] {
            let found = view.value(&big, key.as_bytes())?;
            assert_eq!(
                found.as_ref().map(Slice::bytes),
                value.map(str::as_bytes),
                "{key}"
            );
        }
        assert!(view.bucket(&view.root(), &[b"big", b"a"])?.is_none());
        assert!(view.bucket(&view.root(), &[b"none", b"a"])?.is_none());
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_higher_transaction_that_is_whole() {
    let pages = [
        leaf(2, &[(b"k", b"v", false)]),
        leaf(3, &[(b"k", b"old", false)]),
    ];
    let whole = database(&pages);
    let mut old = meta(1, 3, 4, 7);
    old.resize(SIZE, 0);
    let mut both = whole.clone();
    both[SIZE..2 * SIZE].copy_from_slice(&old);
    assert_eq!(all(&both).unwrap(), "k=v;");
    // The newer one is torn: every byte of it counts.
    for byte in 16..80 {
        let mut torn = both.clone();
        torn[byte] ^= 1;
        assert_eq!(all(&torn).unwrap(), "k=old;", "{byte}");
    }
    both[20] ^= 1;
    both[SIZE + 20] ^= 1;
    assert!(matches!(all(&both), Err(BoltError::Damaged(_))));
    for short in [0, 1, 79, 80, SIZE, 2 * SIZE - 1] {
        let short = whole[..short].to_vec();
        assert!(
            matches!(all(&short), Err(BoltError::Damaged(_))),
            "{short:?}"
        );
    }
}

#[test]
fn what_is_broken_is_refused() {
    let value = |root: u64| at(root);
    let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("itself", vec![branch(2, &[(b"a", 2)])], "more than once"),
        (
            "twice",
            vec![
                branch(2, &[(b"a", 3), (b"b", 3)]),
                leaf(3, &[(b"a", b"1", false)]),
            ],
            "more than once",
        ),
        ("meta", vec![branch(2, &[(b"a", 1)])], "page 1 is not in it"),
        (
            "beyond",
            vec![branch(2, &[(b"a", 3)])],
            "page 3 is not in it",
        ),
        ("huge", vec![branch(2, &[(b"a", u64::MAX)])], "is not in it"),
        (
            "other number",
            vec![branch(2, &[(b"a", 3)]), leaf(4, &[])],
            "says that it is another one",
        ),
        ("no tree", vec![meta(2, 2, 2, 2)], "is no page of a tree"),
        ("no child", vec![branch(2, &[])], "as many entries"),
        (
            "short bucket",
            vec![leaf(2, &[(b"a", &value(3)[..15], true)])],
            "too short",
        ),
        (
            "inline branch",
            vec![leaf(
                2,
                &[(b"a", &[at(0), branch(0, &[(b"a", 2)])].concat(), true)],
            )],
            "has pages beneath",
        ),
    ];
    for (name, pages, why) in cases {
        let error = all(&database(&pages)).unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
    // Every number of a page, too large.
    let good = database(&[leaf(2, &[(b"key", b"value", false)])]);
    for at in [10, 12, 16 + 4, 16 + 8, 16 + 12] {
        let mut bad = good.clone();
        bad[2 * SIZE + at] = 0xff;
        bad[2 * SIZE + at + 1] = 0xff;
        assert!(matches!(all(&bad), Err(BoltError::Damaged(_))), "{at}");
    }
    let cut = good[..2 * SIZE + 100].to_vec();
    assert!(
        all(&cut)
            .unwrap_err()
            .to_string()
            .contains("ends too early")
    );
}

/// A database whose newest transaction is another one after so many questions.
#[derive(Debug)]
struct Moving {
    states: [Vec<u8>; 2],
    reads: Cell<usize>,
    from: usize,
}

impl Source for Moving {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
        self.reads.set(self.reads.get() + 1);
        let state = usize::from(self.reads.get() > self.from);
        self.states[state].read_at(buffer, offset)
    }
}

#[test]
fn what_changed_meanwhile_is_read_again() {
    let first = database(&[leaf(2, &[(b"k", b"first", false)])]);
    // The next transaction has written over a page that the first one's state still had.
    let mut second = database(&[
        branch(2, &[(b"k", 3)]),
        leaf(3, &[(b"k", b"second", false)]),
    ]);
    let mut newer = meta(1, 2, 4, 9);
    newer.resize(SIZE, 0);
    second[SIZE..2 * SIZE].copy_from_slice(&newer);
    for from in 0..5 {
        let moving = Moving {
            states: [first.clone(), second.clone()],
            reads: Cell::new(0),
            from,
        };
        let asked = Cell::new(0);
        let told = ask(&moving, |view| {
            asked.set(asked.get() + 1);
            told(view, &view.root())
        });
        // With all five reads before the change, it was not seen.
        let expected = if from == 5 { "k=first;" } else { "k=second;" };
        assert_eq!(told.as_deref(), Ok(expected), "{from}");
        assert!(asked.get() <= 2);
    }
}
