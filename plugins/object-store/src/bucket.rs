//! The objects of accounts: which there is to be, and how they are written, removed and read.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::TryStreamExt as _;
use object_store::{
    Error, GetResult, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    UpdateVersion, path::Path,
};
use profilesync_target::{Case, Document, Outcome, State, Status, file_name};
use serde::Deserialize;

use crate::{
    client::{noted, noting},
    fault::Faults,
    folder,
    settings::Destroyed,
};

/// How often an object is looked at anew, when others change it between our reading and writing.
const ROUNDS: usize = 4;

/// Bytes of an object. A larger document is not written, so a larger object is none of ours.
pub(crate) const MAX_OBJECT: usize = 1024 * 1024;

/// What is said of one that is larger.
const OVERSIZED: &str = "more than 1 MiB";

/// Codes of a 404 that speak of an object, not of the bucket or of something that is no store.
const NO_OBJECT: [&str; 3] = ["NoSuchKey", "NoSuchVersion", "BlobNotFound"];

/// How an older revision is kept from replacing a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The store writes only if the object is still the one that was read.
    Conditional,
    /// One delivery at a time reads and writes: a folder is ours alone.
    Alone,
    /// Not at all.
    Blind,
}

/// A place for one object per account.
pub(crate) struct Bucket {
    pub(crate) store: Box<dyn ObjectStore>,
    /// What all names begin with; the folder itself of a local one.
    pub(crate) prefix: Path,
    /// The same as the operator wrote it, without a slash at the end.
    pub(crate) url: String,
    pub(crate) guard: Guard,
    pub(crate) case: Case,
    pub(crate) destroyed: Destroyed,
    pub(crate) faults: Faults,
    /// Whether the last object looked for was not there. A backfill of an empty bucket then takes one request per
    /// account: no look before the first write.
    pub(crate) absent: AtomicBool,
}

/// An object as it was found.
struct Found {
    /// `None` when it is too large to be read.
    content: Option<Vec<u8>>,
    version: UpdateVersion,
}

/// The one member of a document that is looked at.
#[derive(Deserialize)]
struct Head {
    revision: u64,
}

impl Found {
    /// An object that is no document is of no revision, and is replaced.
    fn revision(&self) -> u64 {
        let content = self.content.as_deref().unwrap_or_default();
        serde_json::from_slice::<Head>(content).map_or(0, |head| head.revision)
    }
}

impl Bucket {
    /// Brings one account's object to the document's state.
    pub(crate) async fn keep(&self, document: &Document) -> Outcome {
        let content = self.content(document);
        let size = content.as_ref().map_or(0, String::len);
        if size > MAX_OBJECT {
            let reason = format!("the document has {size} bytes, {OVERSIZED}");
            return Outcome::Rejected { reason };
        }
        noting(async {
            match self.write(document, content).await {
                Ok(answer) => Outcome::Delivered { answer },
                Err(error) => self.faults.judge(&error, noted().as_ref()),
            }
        })
        .await
    }

    /// `wanted` is what the object is to hold; `None` when there is to be none.
    async fn write(&self, document: &Document, wanted: Option<String>) -> Result<String, Error> {
        let path = self.path(document);
        if self.guard == Guard::Blind {
            return match wanted {
                Some(content) => self.put(&path, content, PutMode::Overwrite).await,
                None => self.delete(&path).await,
            };
        }
        let mut rounds = 0;
        let mut expected_absent = self.guard == Guard::Conditional
            && wanted.is_some()
            && self.absent.load(Ordering::Relaxed);
        loop {
            rounds += 1;
            let found = match std::mem::take(&mut expected_absent) {
                true => None,
                false => self.read(&path).await?,
            };
            let revision = found.as_ref().map_or(0, Found::revision);
            if revision > document.revision {
                return Ok(format!("the object holds revision {revision} already"));
            }
            let Some(content) = &wanted else {
                return match found {
                    Some(_) => self.delete(&path).await,
                    None => Ok("there is no object".into()),
                };
            };
            let absent = found.is_none();
            let oversized = matches!(found, Some(Found { content: None, .. }));
            let mode = match found {
                Some(found) if found.content.as_deref() == Some(content.as_bytes()) => {
                    return Ok("the object holds it already".into());
                }
                _ if self.guard == Guard::Alone => PutMode::Overwrite,
                Some(found) => PutMode::Update(found.version),
                None => PutMode::Create,
            };
            let written = self.put(&path, content.clone(), mode).await;
            self.absent
                .store(absent && written.is_ok(), Ordering::Relaxed);
            match written {
                Err(Error::Precondition { .. } | Error::AlreadyExists { .. })
                    if rounds < ROUNDS => {}
                Ok(_) if oversized => {
                    return Ok(format!("written in place of an object of {OVERSIZED}"));
                }
                written => return written,
            }
        }
    }

    async fn read(&self, path: &Path) -> Result<Option<Found>, Error> {
        let result = match self.store.get(path).await {
            Ok(result) => result,
            Err(error) if self.is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let version = UpdateVersion {
            e_tag: result.meta.e_tag.clone(),
            version: result.meta.version.clone(),
        };
        let content = content_of(result).await?;
        Ok(Some(Found { content, version }))
    }

    /// Whether an error says that there is no such object. A bucket that is missing, or a server that knows nothing
    /// of objects, says 404 too.
    fn is_absent(&self, error: &Error) -> bool {
        let of_object = || noted().is_some_and(|noted| NO_OBJECT.contains(&noted.code.as_str()));
        matches!(error, Error::NotFound { .. }) && (self.guard == Guard::Alone || of_object())
    }

    async fn put(&self, path: &Path, content: String, mode: PutMode) -> Result<String, Error> {
        let options = PutOptions::from(mode);
        let payload = PutPayload::from(content);
        self.store.put_opts(path, payload, options).await?;
        Ok("written".into())
    }

    async fn delete(&self, path: &Path) -> Result<String, Error> {
        match self.store.delete(path).await {
            Ok(()) if self.guard == Guard::Alone => folder::sync_parent(path).await?,
            Ok(()) => (),
            Err(error) if self.is_absent(&error) => (),
            Err(error) => return Err(error),
        }
        Ok("removed".into())
    }

    /// What an account's object says, and how many bytes that took; `None` when it is not there.
    pub(crate) async fn held(&self, document: &Document) -> Result<Option<(State, usize)>, String> {
        noting(async {
            match self.read(&self.path(document)).await {
                Ok(found) => Ok(found.map(|found| {
                    let content = found
                        .content
                        .unwrap_or_else(|| OVERSIZED.to_owned().into_bytes());
                    let state = serde_json::from_slice(&content).unwrap_or_else(|_| {
                        let text = String::from_utf8_lossy(&content).into_owned();
                        State::from_iter([("no document".to_owned(), text.into())])
                    });
                    (state, content.len())
                })),
                Err(error) => Err(self.faults.reason(&error, noted().as_ref())),
            }
        })
        .await
    }

    /// What [`Self::held`] is to say; `None` when there is to be no object.
    pub(crate) fn wanted(&self, document: &Document) -> Option<State> {
        let content = self.content(document)?;
        Some(serde_json::from_str(&content).expect("a document is a JSON object"))
    }

    /// Asks for an object that is none of an account's.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        noting(async {
            match self
                .read(&self.prefix.clone().join("profilesync-probe"))
                .await
            {
                Ok(_) => Ok(()),
                Err(error) => Err(self.faults.reason(&error, noted().as_ref())),
            }
        })
        .await
    }

    /// The request in words.
    pub(crate) fn render(&self, document: &Document) -> String {
        let (app, name) = self.names(document);
        let url = format!("{}/{app}/{name}", self.url);
        match self.content(document) {
            Some(content) => format!("PUT {url}\n\n{content}"),
            None => format!("DELETE {url}\n"),
        }
    }

    fn path(&self, document: &Document) -> Path {
        let (app, name) = self.names(document);
        let path = match self.prefix.as_ref() {
            "" => format!("{app}/{name}"),
            prefix => format!("{prefix}/{app}/{name}"),
        };
        Path::parse(path).expect("the prefix is a path, a number and an encoded name are its parts")
    }

    fn names(&self, document: &Document) -> (String, String) {
        let name = file_name(&document.account, self.case);
        (document.sdk_app_id.to_string(), name)
    }

    /// The object's text; `None` when there is to be none.
    fn content(&self, document: &Document) -> Option<String> {
        if document.status == Status::Destroyed && self.destroyed == Destroyed::Delete {
            return None;
        }
        let text = serde_json::to_string(document).expect("a document is JSON");
        Some(text + "\n")
    }
}

/// What an object holds; `None` when that is too large. Whatever size the server names, no more is kept.
async fn content_of(object: GetResult) -> Result<Option<Vec<u8>>, Error> {
    let mut content = Vec::new();
    let mut stream = object.into_stream();
    while let Some(chunk) = stream.try_next().await? {
        if content.len() + chunk.len() > MAX_OBJECT {
            return Ok(None);
        }
        content.extend_from_slice(&chunk);
    }
    Ok(Some(content))
}
