//! The texts of the configuration's files, in one space of byte offsets, so that a position says which file it is of.

use std::{
    ffi::OsStr,
    fs, io,
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::diagnostics::Diagnostic;

/// Everything that was read: the main file first, then the drop-ins in name order.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) files: Vec<Source>,
}

/// One file.
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// The offset of the file's first byte.
    base: usize,
    /// As many spaces as `base` says, then the file. The parser then counts in the common space by itself.
    padded: String,
    /// Whether every user of the machine may read it.
    pub(super) public: bool,
}

/// Where an offset is, for people.
pub(super) struct Place<'a> {
    pub(super) source: &'a Source,
    /// Counted from 1.
    pub(super) line: usize,
    /// In characters, counted from 1.
    pub(super) column: usize,
    /// The offsets of the line, without its end.
    pub(super) span: Range<usize>,
}

impl Sources {
    /// Reads the main file and the drop-ins beside it. A file that cannot be read is reported, and the others are
    /// read all the same.
    pub(super) fn read(main: &Path) -> (Self, Vec<Diagnostic>) {
        let mut sources = Self::default();
        let mut found = Vec::new();
        sources.read_file(main, &mut found);
        if found.is_empty() {
            for path in drop_ins(main, &mut found) {
                sources.read_file(&path, &mut found);
            }
        }
        (sources, found)
    }

    fn read_file(&mut self, path: &Path, found: &mut Vec<Diagnostic>) {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return found.push(unreadable(path, &error)),
        };
        let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        match String::from_utf8(bytes) {
            Ok(text) => self.push(path, &text, mode & 0o004 != 0),
            Err(error) => found.push(not_utf8(path, &error)),
        }
    }

    /// Adds a text as the next file.
    pub(super) fn push(&mut self, path: &Path, text: &str, public: bool) {
        let base = self.files.last().map_or(0, |last| last.padded.len() + 1);
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.files.push(Source {
            path: path.to_owned(),
            base,
            padded: format!("{:base$}{text}", ""),
            public,
        });
    }

    /// The file an offset is of. An end of file counts as its own.
    pub(super) fn source_at(&self, offset: usize) -> Option<&Source> {
        self.files
            .iter()
            .find(|source| (source.base..=source.padded.len()).contains(&offset))
    }

    /// Where an offset is. One behind the last line is counted to that line's end.
    pub(super) fn place(&self, offset: usize) -> Option<Place<'_>> {
        let source = self.source_at(offset)?;
        let text = &source.padded;
        let last = source.base + text[source.base..].trim_end_matches(['\r', '\n']).len();
        let offset = text.floor_char_boundary(offset.min(last.max(source.base)));
        let before = &text[source.base..offset];
        let start = source.base + before.rfind('\n').map_or(0, |end| end + 1);
        let rest = &text[start..];
        let line = rest[..rest.find('\n').unwrap_or(rest.len())].trim_end_matches('\r');
        Some(Place {
            source,
            line: before.matches('\n').count() + 1,
            column: text[start..offset].chars().count() + 1,
            span: start..start + line.len(),
        })
    }
}

impl Source {
    /// What to parse; its offsets are those of the common space.
    pub(super) fn padded(&self) -> &str {
        &self.padded
    }
}

/// `conf.d/*.toml` beside the main file, in name order. Hidden files are left out: editors leave them behind.
fn drop_ins(main: &Path, found: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let folder = main.with_file_name("conf.d");
    let entries = match fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                found.push(unreadable(&folder, &error));
            }
            return Vec::new();
        }
    };
    let mut paths: Vec<_> = entries
        .into_iter()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some(OsStr::new("toml")))
        .collect();
    paths.sort();
    paths
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!(
        "the configuration {} cannot be read: {error}",
        path.display()
    ));
    match error.kind() {
        io::ErrorKind::NotFound => diagnostic.help(format!(
            "`profilesync init {}` writes a starter configuration; `-c FILE` reads another file",
            match path.parent() {
                Some(folder) if folder != Path::new("") => folder.display(),
                _ => Path::new(".").display(),
            }
        )),
        io::ErrorKind::PermissionDenied => diagnostic.help(
            "the user that runs profilesync must be allowed to read it: \
             `chgrp profilesync FILE` and `chmod 0640 FILE`, or run the command with sudo",
        ),
        io::ErrorKind::IsADirectory => diagnostic.help("name the file in it"),
        _ => diagnostic,
    }
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Diagnostic {
    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = valid
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    let column = String::from_utf8_lossy(&valid[start..]).chars().count() + 1;
    Diagnostic::error("the configuration is not UTF-8")
        .in_file(path, line, column)
        .help("save the file as UTF-8")
}
