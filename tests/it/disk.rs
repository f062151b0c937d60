//! What a disk holds after a power cut, from a trace of everything a daemon did to it (`disk.c`).
//!
//! A write is on disk for certain once a sync of its file began after it and ended well; a name is once its folder was
//! synced. Whatever else was done before the cut may be there or not: that is the test's to choose.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds the library to preload; `None` where there is no C compiler.
pub(crate) fn library(folder: &Path) -> Option<PathBuf> {
    let path = folder.join("disk.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/disk.c");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&path)
        .args([source, "-ldl", "-lpthread"]);
    let built = compiler.status().ok()?;
    assert!(built.success(), "tests/it/disk.c does not compile");
    Some(path)
}

/// What was done, in order.
#[derive(Debug)]
pub(crate) struct Operation {
    kind: u8,
    offset: u64,
    path: PathBuf,
    data: Vec<u8>,
    /// Where the trace goes on after it.
    pub(crate) end: u64,
}

/// Reads a trace; a record that is not whole ends it.
pub(crate) fn read_trace(path: &Path) -> Vec<Operation> {
    let bytes = fs::read(path).unwrap();
    let mut operations = Vec::new();
    let mut rest = &bytes[..];
    while let Some((mut operation, after)) = operation(rest) {
        rest = after;
        operation.end = (bytes.len() - rest.len()) as u64;
        operations.push(operation);
    }
    operations
}

fn operation(bytes: &[u8]) -> Option<(Operation, &[u8])> {
    let (head, rest) = bytes.split_at_checked(17)?;
    let number = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
    let (path, rest) = rest.split_at_checked(number(13) as usize)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (data, rest) = rest.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
    let operation = Operation {
        kind: head[0],
        offset: u64::from_ne_bytes(head[5..13].try_into().unwrap()),
        path: PathBuf::from(String::from_utf8(path.to_vec()).unwrap()),
        data: data.to_vec(),
        end: 0,
    };
    Some((operation, rest))
}

/// What survives of what was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rest {
    Nothing,
    Everything,
    /// Each write or a part of it, and the names up to some moment.
    Some,
}

/// A file by its number, which it keeps when it is renamed.
#[derive(Default)]
struct Content {
    safe: Vec<u8>,
    /// Writes and resizes that no sync covers.
    loose: Vec<(u64, Option<Vec<u8>>)>,
    /// How many of them the sync under way covers.
    covered: usize,
}

/// A disk in the making.
#[derive(Default)]
pub(crate) struct Disk {
    contents: HashMap<usize, Content>,
    /// The names as a process sees them.
    names: BTreeMap<PathBuf, usize>,
    safe_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that no sync of their folder covers, the oldest first.
    loose_names: Vec<(PathBuf, Option<usize>)>,
    created: usize,
}

impl Disk {
    pub(crate) fn apply(&mut self, operation: &Operation) {
        let Operation {
            kind,
            offset,
            path,
            data,
            ..
        } = operation;
        match kind {
            b'c' => {
                self.created += 1;
                self.name(path, Some(self.created));
            }
            b'z' => self.change(path, 0, None),
            b't' => self.change(path, *offset, None),
            b'w' => self.change(path, *offset, Some(data.clone())),
            b's' => {
                if let Some(content) = self.content(path) {
                    content.covered = content.loose.len();
                }
            }
            b'S' => self.synced(path),
            b'r' => {
                let to = PathBuf::from(String::from_utf8(data.clone()).unwrap());
                let moved: Vec<_> = self
                    .names
                    .iter()
                    .filter(|(name, _)| name.starts_with(path))
                    .map(|(name, file)| (name.clone(), *file))
                    .collect();
                for (name, file) in moved {
                    let below = name.strip_prefix(path).unwrap();
                    let target = if below.as_os_str().is_empty() {
                        to.clone()
                    } else {
                        to.join(below)
                    };
                    self.name(&name, None);
                    self.name(&target, Some(file));
                }
            }
            b'u' => self.name(path, None),
            // Folders come back with their files; a sync that failed promises nothing.
            _ => {}
        }
    }

    fn content(&mut self, path: &Path) -> Option<&mut Content> {
        let file = self.names.get(path)?;
        Some(self.contents.entry(*file).or_default())
    }

    fn change(&mut self, path: &Path, at: u64, data: Option<Vec<u8>>) {
        if let Some(content) = self.content(path) {
            content.loose.push((at, data));
        }
    }

    fn name(&mut self, path: &Path, file: Option<usize>) {
        match file {
            Some(file) => self.names.insert(path.to_owned(), file),
            None => self.names.remove(path),
        };
        self.loose_names.push((path.to_owned(), file));
    }

    fn synced(&mut self, path: &Path) {
        if let Some(content) = self.content(path) {
            for (at, data) in content.loose.drain(..content.covered) {
                write(&mut content.safe, at, data.as_deref());
            }
            content.covered = 0;
            return;
        }
        let (synced, loose) = std::mem::take(&mut self.loose_names)
            .into_iter()
            .partition(|(name, _)| name.parent() == Some(path));
        self.loose_names = loose;
        set_names(&mut self.safe_names, synced);
    }

    /// Writes what the disk may hold now to `to`, for the files below `root`.
    pub(crate) fn cut(&self, rest: Rest, root: &Path, to: &Path) {
        let mut names = self.safe_names.clone();
        let kept = match rest {
            Rest::Nothing => 0,
            Rest::Everything => self.loose_names.len(),
            Rest::Some => fastrand::usize(..=self.loose_names.len()),
        };
        set_names(&mut names, self.loose_names[..kept].to_vec());
        for (name, file) in names {
            let path = to.join(name.strip_prefix(root).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let empty = Content::default();
            let content = self.contents.get(&file).unwrap_or(&empty);
            let mut bytes = content.safe.clone();
            for (at, data) in &content.loose {
                match rest {
                    Rest::Nothing => {}
                    Rest::Everything => write(&mut bytes, *at, data.as_deref()),
                    Rest::Some => write_some(&mut bytes, *at, data.as_deref()),
                }
            }
            fs::write(path, bytes).unwrap();
        }
    }
}

fn set_names(names: &mut BTreeMap<PathBuf, usize>, changes: Vec<(PathBuf, Option<usize>)>) {
    for (name, file) in changes {
        match file {
            Some(file) => names.insert(name, file),
            None => names.remove(&name),
        };
    }
}

/// A write, or a resize where there is no data.
fn write(bytes: &mut Vec<u8>, at: u64, data: Option<&[u8]>) {
    let at = usize::try_from(at).unwrap();
    let Some(data) = data else {
        return bytes.resize(at, 0);
    };
    let end = at + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(data);
}

/// All of a write, none of it, or some sectors.
fn write_some(bytes: &mut Vec<u8>, at: u64, data: Option<&[u8]>) {
    match (fastrand::u8(..4), data) {
        (0, _) => {}
        (1, Some(data)) => {
            for (sector, part) in data.chunks(512).enumerate() {
                if fastrand::bool() {
                    write(bytes, at + 512 * sector as u64, Some(part));
                }
            }
        }
        (2, Some(data)) => write(bytes, at, Some(&data[..fastrand::usize(..data.len())])),
        _ => write(bytes, at, data),
    }
}
