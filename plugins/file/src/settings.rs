//! The settings of a file target: the keys as written, and the check that picks a writer.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use profilesync_target::{Limits, OpenContext, Period, SettingsError, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use toml::Spanned;

use crate::{
    Writer,
    array::Array,
    csv::Csv,
    folder::Folder,
    log::{Log, Rotation},
    snapshot::Snapshot,
};

/// Each file of a batch is open and synced on its own.
const FOLDER_BATCH: usize = 64;

/// One write and one sync.
const LOG_BATCH: usize = 500;

/// Each batch reads and writes the whole file, and is held in memory.
const SNAPSHOT_BATCH: usize = 20_000;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

const MAX_INTERVAL: Duration = Duration::from_hours(24);

const DEFAULT_KEEP: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

/// Writes profiles to files.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// The folder of `json`, or the file of the other formats. Missing folders are created. A relative path starts
    /// at the folder of the configuration file.
    #[schemars(with = "PathBuf")]
    path: Spanned<PathBuf>,
    /// What is written.
    #[serde(default)]
    format: Format,
    /// `jsonl`: a larger file is renamed to `<path>.1` and a new one begun. Not set, it grows for ever.
    #[schemars(with = "Option<Size>")]
    rotate_bytes: Option<Spanned<Size>>,
    /// `jsonl`: how many old files stay (10).
    #[schemars(with = "Option<NonZeroU32>")]
    rotate_keep: Option<Spanned<NonZeroU32>>,
    /// `csv`, `json-array`: the file is written at most so often (1 s).
    #[schemars(with = "Option<Period>")]
    interval: Option<Spanned<Period>>,
    /// `csv`: a cell that a spreadsheet would take for a formula begins with an apostrophe (true).
    #[schemars(with = "Option<bool>")]
    escape_formulas: Option<Spanned<bool>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Format {
    /// A folder with one JSON file per account.
    #[default]
    Json,
    /// A change log: one JSON document per line.
    Jsonl,
    /// All accounts as CSV.
    Csv,
    /// All accounts as one JSON array.
    JsonArray,
}

/// Settings that cannot be wrong.
pub(crate) struct Checked {
    pub(crate) writer: Arc<dyn Writer>,
    pub(crate) limits: Limits,
    pub(crate) identity: serde_json::Value,
}

impl Raw {
    pub(crate) fn check(self, context: &OpenContext) -> Result<Checked, SettingsError> {
        let target = context.name.as_str();
        self.check_formats()?;
        let escape_formulas = self.escape_formulas.is_none_or(Spanned::into_inner);
        let interval = match self.interval {
            Some(interval) if interval.get_ref().0 > MAX_INTERVAL => {
                let message = "`interval` is longer than a day, the longest it may be";
                return Err(SettingsError::at(interval.span(), message));
            }
            Some(interval) => interval.into_inner().0,
            None => DEFAULT_INTERVAL,
        };
        let rotation = self.rotate_bytes.map(|size| Rotation {
            bytes: size.into_inner().0,
            keep: self.rotate_keep.map_or(DEFAULT_KEEP, Spanned::into_inner),
        });
        let path = context.base.join(self.path.into_inner());
        let identity = json!({
            "path": path,
            "format": self.format,
            "escape_formulas": (self.format == Format::Csv).then_some(escape_formulas),
        });
        let (writer, batch, interval): (Arc<dyn Writer>, _, _) = match self.format {
            Format::Json => (Arc::new(Folder::new(path)), FOLDER_BATCH, Duration::ZERO),
            Format::Jsonl => (
                Arc::new(Log::new(path, rotation)),
                LOG_BATCH,
                Duration::ZERO,
            ),
            Format::Csv => {
                let snapshot = Snapshot::new(path, Csv { escape_formulas }, target);
                (Arc::new(snapshot), SNAPSHOT_BATCH, interval)
            }
            Format::JsonArray => {
                let snapshot = Snapshot::new(path, Array, target);
                (Arc::new(snapshot), SNAPSHOT_BATCH, interval)
            }
        };
        let limits = Limits {
            batch,
            concurrency: Some(1),
            interval,
        };
        Ok(Checked {
            writer,
            limits,
            identity,
        })
    }

    /// Refuses an empty path and keys that the format has no use for.
    fn check_formats(&self) -> Result<(), SettingsError> {
        if self.path.get_ref().as_os_str().is_empty() {
            return Err(SettingsError::at(self.path.span(), "`path` is empty"));
        }
        let snapshots = [Format::Csv, Format::JsonArray];
        for (key, span, formats) in [
            (
                "rotate_bytes",
                self.rotate_bytes.as_ref().map(Spanned::span),
                &[Format::Jsonl][..],
            ),
            (
                "rotate_keep",
                self.rotate_keep.as_ref().map(Spanned::span),
                &[Format::Jsonl],
            ),
            (
                "interval",
                self.interval.as_ref().map(Spanned::span),
                &snapshots,
            ),
            (
                "escape_formulas",
                self.escape_formulas.as_ref().map(Spanned::span),
                &[Format::Csv],
            ),
        ] {
            if let Some(span) = span
                && !formats.contains(&self.format)
            {
                let names: Vec<_> = formats
                    .iter()
                    .map(|format| json!(format).to_string())
                    .collect();
                let message = format!("`{key}` means nothing to this format");
                let help = format!("remove it, or set format = {}", names.join(" or "));
                return Err(SettingsError::at(span, message).help(help));
            }
        }
        if let (Some(keep), None) = (&self.rotate_keep, &self.rotate_bytes) {
            return Err(SettingsError::at(
                keep.span(),
                "`rotate_keep` without `rotate_bytes` does nothing",
            )
            .help(r#"add rotate_bytes = "64MiB""#));
        }
        Ok(())
    }
}
