//! Reading secrets, and keeping them from being shown again.

use std::path::{Path, PathBuf};

use profilesync_target::{OpenContext, Secret};

/// Characters of a body that a reason quotes.
const MAX_EXCERPT: usize = 200;

/// Reads the secrets of a target's settings, and remembers them to mask them where answers are quoted.
#[derive(Clone, Default)]
pub struct Secrets {
    base: PathBuf,
    known: Vec<String>,
}

impl Secrets {
    /// None yet. Relative paths start where the context says.
    #[must_use]
    pub fn new(context: &OpenContext) -> Self {
        Self {
            base: context.base.clone(),
            known: Vec::new(),
        }
    }

    /// Reads a secret, without remembering it: not all that is written as a secret is one.
    ///
    /// # Errors
    /// Where it cannot be read from, and why.
    pub fn read(&self, secret: &Secret) -> Result<String, String> {
        let secret = secret.clone().within(&self.base);
        secret.read().map_err(|error| error.to_string())
    }

    /// Reads a secret and remembers it.
    ///
    /// # Errors
    /// Where it cannot be read from, and why.
    pub fn read_and_keep(&mut self, secret: &Secret) -> Result<String, String> {
        let text = self.read(secret)?;
        self.keep(&text);
        Ok(text)
    }

    /// Remembers a secret.
    pub fn keep(&mut self, secret: &str) {
        self.known.push(secret.to_owned());
    }

    /// Where relative paths start.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// The first words of a body, on one line, without secrets; nor `also`, which is one as well.
    #[must_use]
    pub fn quote(&self, body: &[u8], also: Option<&str>) -> String {
        let mut text = String::from_utf8_lossy(body).into_owned();
        for secret in self.known.iter().map(String::as_str).chain(also) {
            text = text.replace(secret, "***");
        }
        let printable: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let mut words: String = printable.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = words.char_indices().nth(MAX_EXCERPT) {
            words.truncate(end);
            words.push('…');
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::Secrets;

    #[test]
    fn a_quote_is_short_printable_and_without_secrets() {
        let mut secrets = Secrets::default();
        secrets.keep("hunter2");
        assert_eq!(
            secrets.quote(
                b"bad\r\n\x1b[31m key\0 hunter2 hunter3 \xff",
                Some("hunter3")
            ),
            "bad [31m key *** *** \u{fffd}"
        );
        assert_eq!(
            secrets.quote("ü".repeat(300).as_bytes(), None),
            format!("{}…", "ü".repeat(200))
        );
    }
}
