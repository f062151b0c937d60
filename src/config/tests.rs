//! Loading as a whole: what a text means, and every mistake as it is printed.

mod files;
mod inside;
mod mistakes;
mod peek;
mod values;

use std::path::Path;

use async_trait::async_trait;
use profilesync_target::{
    Answer, Delivery, Document, Kind, OpenContext, Opened, Outcome, Secret, Settings,
    SettingsError, Target,
};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Config, Kinds,
    diagnostics::Diagnostics,
    load::{Loaded, load_sources},
    sources::Sources,
};

/// A kind that has what kinds have, and one that was not built in.
pub(super) const KINDS: Kinds<'static> = Kinds {
    built: &[Kind {
        name: "post",
        open,
        schema: profilesync_target::schema_of::<PostSettings>,
    }],
    names: &["pigeon", "post"],
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PostSettings {
    #[schemars(with = "String")]
    url: Spanned<String>,
    secret: Option<Secret>,
    #[serde(default)]
    style: Style,
    #[expect(dead_code, reason = "its mistakes are what matters")]
    other: Option<Other>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Other {
    #[expect(dead_code, reason = "its mistakes are what matters")]
    url: String,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Style {
    #[default]
    Plain,
    Fancy,
}

struct Post;

#[async_trait]
impl Target for Post {
    async fn deliver(&self, batch: &[Delivery]) -> Answer {
        Answer::Each(vec![
            Outcome::Delivered {
                answer: String::new()
            };
            batch.len()
        ])
    }

    async fn probe(&self) -> Result<(), String> {
        Ok(())
    }

    fn render(&self, _: &Document) -> Result<String, String> {
        Ok(String::new())
    }
}

fn open(context: &OpenContext, settings: Settings<'_>) -> Result<Opened, SettingsError> {
    let settings: PostSettings = settings.parse()?;
    if !settings.url.get_ref().starts_with("https://") {
        let error = SettingsError::at(settings.url.span(), "`url` is no URL");
        return Err(error.help("write it as https://host/path"));
    }
    if let Some(secret) = settings.secret {
        let read = secret.within(&context.base).read();
        read.map_err(|error| SettingsError::whole(error.to_string()))?;
    }
    let _ = matches!(settings.style, Style::Fancy | Style::Plain);
    Ok(Opened {
        target: Box::new(Post),
        identity: serde_json::Value::Null,
    })
}

/// Loads texts as files of these names, in this folder.
fn load_texts(texts: &[(&str, &str)], folder: &Path) -> Result<Loaded<Opened>, Diagnostics> {
    let mut sources = Sources::default();
    for (name, text) in texts {
        sources.push(Path::new(name), text, false);
    }
    load_sources(sources, Vec::new(), folder, KINDS, |target, settings| {
        (target.kind.open)(&target.context(), settings)
    })
}

#[track_caller]
fn loads(text: &str) -> Config {
    match load_texts(&[("a.toml", text)], Path::new("/base")) {
        Ok(loaded) => loaded.config,
        Err(mistakes) => panic!("{}", mistakes.report()),
    }
}

/// What is printed about these files.
fn report(texts: &[(&str, &str)]) -> String {
    match load_texts(texts, Path::new("/base")) {
        Ok(loaded) => loaded.warnings.report(),
        Err(mistakes) => mistakes.report(),
    }
}
