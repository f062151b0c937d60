//! `format = "json"`: `<path>/<sdk_app_id>/<account>.json`, one document each, replaced as a whole.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use profilesync_target::{Case, Delivery, Document, Status, file_name};
use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::{
    Writer,
    disk::{self, Replacement, Trouble},
};

/// No account's file begins so: a leading dot is encoded.
const PREFIX: &str = ".profilesync-";

pub(crate) struct Folder {
    path: PathBuf,
    /// The apps whose folder exists and is free of leftovers, and what became known of it.
    ready: Mutex<HashMap<u64, Case>>,
}

/// What is to happen with one account's file.
enum Step {
    Nothing,
    Place(Replacement),
    Remove(PathBuf),
}

/// The one member of a file that is looked at.
#[derive(Deserialize)]
struct Held {
    revision: u64,
}

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            ready: Mutex::default(),
        }
    }

    fn app(&self, sdk_app_id: u64) -> PathBuf {
        self.path.join(sdk_app_id.to_string())
    }

    /// Makes an app's folder ready, once.
    fn prepare(&self, sdk_app_id: u64) -> Result<Case, Trouble> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.app(sdk_app_id);
        match ready.get(&sdk_app_id) {
            Some(case) if folder.is_dir() => return Ok(*case),
            _ => (),
        }
        disk::create_folder(&folder)?;
        disk::remove_leftovers(&folder, PREFIX)?;
        let case = case_of(&folder)?;
        ready.insert(sdk_app_id, case);
        Ok(case)
    }

    /// Decides about one document and, if its file is to change, writes the new one beside it.
    fn step(&self, document: &Document) -> Result<(Step, String), Trouble> {
        let case = self.prepare(document.sdk_app_id)?;
        let path = self
            .app(document.sdk_app_id)
            .join(file_name(&document.account, case));
        let held = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Trouble::at("read", &path)(error)),
        };
        // A file that cannot be read as a document is no revision, and is replaced.
        let revision = held
            .as_deref()
            .and_then(|bytes| serde_json::from_slice::<Held>(bytes).ok())
            .map_or(0, |held| held.revision);
        if revision > document.revision {
            return Ok((
                Step::Nothing,
                format!("the file holds revision {revision} already"),
            ));
        }
        if document.status == Status::Destroyed {
            return Ok((Step::Remove(path), "removed".into()));
        }
        let content = content(document);
        if held.as_deref() == Some(content.as_bytes()) {
            return Ok((Step::Nothing, "the file holds it already".into()));
        }
        let replacement = Replacement::new(&path, PREFIX)?;
        replacement
            .file()
            .write_all(content.as_bytes())
            .map_err(Trouble::at("write", &path))?;
        Ok((Step::Place(replacement), "written".into()))
    }
}

impl Writer for Folder {
    fn write(&self, batch: &[Delivery]) -> Result<Vec<String>, Trouble> {
        let mut steps = Vec::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        for delivery in batch {
            let (step, answer) = self.step(&delivery.document)?;
            steps.push((delivery.document.sdk_app_id, step));
            answers.push(answer);
        }
        // All are written before the first is synced: the file system's journal takes them together.
        for (_, step) in &steps {
            if let Step::Place(replacement) = step {
                replacement.sync()?;
            }
        }
        let mut apps = BTreeSet::new();
        for (app, step) in steps {
            match step {
                // It may be there by an attempt that was cut off before it was durable.
                Step::Nothing => {}
                Step::Place(replacement) => replacement.place()?,
                Step::Remove(path) => disk::remove(&path)?,
            }
            apps.insert(app);
        }
        for app in apps {
            disk::sync_folder(&self.app(app))?;
        }
        Ok(answers)
    }

    fn render(&self, document: &Document) -> (String, Option<String>) {
        let path = self
            .app(document.sdk_app_id)
            .join(file_name(&document.account, Case::Kept));
        let content = (document.status == Status::Active).then(|| content(document));
        (path.display().to_string(), content)
    }

    fn place(&self) -> (&Path, Option<&Path>) {
        (&self.path, None)
    }
}

fn content(document: &Document) -> String {
    serde_json::to_string(document).expect("a document is JSON") + "\n"
}

/// Tries whether a folder tells `A` from `a`: a mounted share or USB disk may not.
fn case_of(folder: &Path) -> Result<Case, Trouble> {
    let trial: NamedTempFile = tempfile::Builder::new()
        .prefix(&format!("{PREFIX}Case-"))
        .suffix(".tmp")
        .tempfile_in(folder)
        .map_err(Trouble::at("write into", folder))?;
    let name = trial
        .path()
        .file_name()
        .unwrap_or_default()
        .to_ascii_lowercase();
    if folder.join(name).exists() {
        Ok(Case::Folded)
    } else {
        Ok(Case::Kept)
    }
}
