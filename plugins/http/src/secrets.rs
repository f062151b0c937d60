//! Reading secrets, and keeping them from being shown again.

use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use profilesync_target::{Mask, OpenContext, Secret};

/// Characters of a body that a reason quotes.
const MAX_EXCERPT: usize = 200;

/// Bytes of a body that they are taken from. To hide secrets in all of it would keep other deliveries waiting.
const MAX_MASKED: usize = 8 << 10;

/// Characters from which on a part is taken for a secret of its own that may as well be a word: a segment of a path, a
/// word of a header.
const LONG: usize = 8;

/// Reads the secrets of a target's settings, and remembers them to mask them where answers are quoted.
#[derive(Clone, Default)]
pub struct Secrets {
    base: PathBuf,
    mask: Mask,
}

impl Secrets {
    /// None yet. Relative paths start where the context says.
    #[must_use]
    pub fn new(context: &OpenContext) -> Self {
        Self {
            base: context.base.clone(),
            mask: Mask::default(),
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
        self.mask.add(secret);
    }

    /// Remembers a URL, or a part of one, that is secret beyond its host: an answer most often tells of parts alone. Those
    /// are its query's values, and the longer segments of its path.
    pub fn keep_url(&mut self, url: &str) {
        let behind_host = match url.split_once("://") {
            Some((_, rest)) => rest.find(['/', '?']).map_or("", |end| &rest[end..]),
            None => url,
        };
        let (path, query) = behind_host.split_once('?').unwrap_or((behind_host, ""));
        for whole in [behind_host, path, query] {
            self.keep_encoded(whole);
        }
        for part in behind_host.split(['/', '?', '&']) {
            // Base64 may end in `=`.
            match part.trim_end_matches('=').split_once('=') {
                Some((_, value)) => self.keep_encoded(value),
                None if is_long(part) => self.keep_encoded(part),
                None => (),
            }
        }
    }

    /// Remembers a value that is no secret by itself, if it is a longer one.
    pub(crate) fn keep_long(&mut self, value: &str) {
        if is_long(value) {
            self.keep(value);
        }
    }

    /// Remembers the longer values of a query, or of a part of one, in a URL that is no secret by itself.
    pub fn keep_query(&mut self, query: &str) {
        for (_, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            if is_long(value) {
                self.keep_encoded(value);
            }
        }
    }

    /// Remembers the value of a header, or a part of one, and in it what follows a scheme (`Bearer …`), the user and the
    /// password of `Basic …`, and longer words (`session=…; id=…`).
    pub fn keep_header(&mut self, value: &str) {
        for whole in [value, value.trim_matches(|c: char| !c.is_alphanumeric())] {
            self.keep(whole);
        }
        if let Some((scheme, token)) = value.trim().split_once(' ') {
            self.keep(token.trim());
            if scheme.eq_ignore_ascii_case("basic") {
                self.keep_pair(token.trim());
            }
        }
        for word in value.split([' ', ',', ';']) {
            let (_, named) = word.split_once('=').unwrap_or_default();
            for word in [word, named.trim_matches('"')] {
                if is_long(word) {
                    self.keep(word);
                }
            }
        }
    }

    /// Remembers the password of a URL, or the user that stands for one, and what both make in a header.
    pub(crate) fn keep_user(&mut self, user: &str, password: &str) {
        self.keep_encoded(if password.is_empty() { user } else { password });
        let pair = [
            percent_decode_str(user).collect::<Vec<_>>(),
            percent_decode_str(password).collect(),
        ];
        self.keep(&BASE64.encode(&pair.join(&b':')));
    }

    /// Where relative paths start.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// A text without secrets.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        self.mask.hide(text)
    }

    /// The first words of a body, on one line, without secrets; nor `also`, which is one as well. `whole` says whether it
    /// was read to its end.
    #[must_use]
    pub fn quote(&self, body: &[u8], whole: bool, also: Option<&str>) -> String {
        let mut mask = self.mask.clone();
        mask.add(also.unwrap_or_default());
        let quoted = &body[..body.len().min(MAX_MASKED)];
        let text = String::from_utf8_lossy(quoted);
        let hidden = match whole && quoted.len() == body.len() {
            true => mask.hide(&text),
            false => mask.hide_cut(&text),
        };
        let words = hidden.split(|c: char| c.is_control() || c.is_whitespace());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let mut words = words.join(" ");
        if let Some((end, _)) = words.char_indices().nth(MAX_EXCERPT) {
            words.truncate(end);
            words.push('…');
        }
        words
    }

    /// Remembers a part of a URL as it is and as it is meant. The mask knows how it is encoded otherwise.
    fn keep_encoded(&mut self, part: &str) {
        self.keep(part);
        for part in [part, &part.replace('+', " ")] {
            self.keep(&percent_decode_str(part).decode_utf8_lossy());
        }
    }

    /// Remembers `user:password` in base64, and both of them.
    fn keep_pair(&mut self, encoded: &str) {
        let pair = BASE64.decode(encoded.as_bytes()).ok();
        if let Some(pair) = pair.and_then(|pair| String::from_utf8(pair).ok()) {
            self.keep(&pair);
            let (user, password) = pair.split_once(':').unwrap_or_default();
            self.keep(user);
            self.keep(password);
        }
    }
}

fn is_long(part: &str) -> bool {
    LONG <= part.chars().count()
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
                true,
                Some("hunter3")
            ),
            "bad [31m key *** *** \u{fffd}"
        );
        assert_eq!(
            secrets.quote("ü".repeat(300).as_bytes(), true, None),
            format!("{}…", "ü".repeat(200))
        );
    }

    #[test]
    fn a_body_that_broke_off_shows_no_half_of_a_secret() {
        let mut secrets = Secrets::default();
        secrets.keep("hunter2");
        assert_eq!(
            secrets.quote(b"   the key hunte", false, None),
            "the key ***"
        );
        assert_eq!(
            secrets.quote(b"token s3c", false, Some("s3cret")),
            "token ***"
        );
    }

    #[track_caller]
    fn check(keep: impl FnOnce(&mut Secrets), text: &str, shown: &str) {
        let mut secrets = Secrets::default();
        keep(&mut secrets);
        assert_eq!(secrets.hide(text), shown);
    }

    #[test]
    fn the_parts_of_a_url_are_hidden() {
        let url = "https://crm.example/hooks/T0123456/c2VjcmV0cw==?key=a%20b%2Fc&x=p+q%21&abcdefgh";
        let keep = |secrets: &mut Secrets| secrets.keep_url(url);
        for (text, shown) in [
            ("crm.example/hooks", "crm.example/hooks"),
            ("no hook T0123456", "no hook ***"),
            ("no c2VjcmV0cw==.", "no ***."),
            ("no c2VjcmV0cw%3D%3D.", "no ***."),
            ("key is 'a b/c'", "key is '***'"),
            ("key is a%20b%2Fc, a+b%2fc", "key is ***, ***"),
            ("x is p q!", "x is ***"),
            ("what is abcdefgh?", "what is ***?"),
            ("GET /hooks/T0123456/c2VjcmV0cw==", "GET ***"),
            (
                "GET /hooks/T0123456/c2VjcmV0cw==?key=a%20b%2Fc&x=p+q%21&abcdefgh",
                "GET ***",
            ),
        ] {
            check(keep, text, shown);
        }
        check(
            |secrets| secrets.keep_url("https://crm.example"),
            "crm.example",
            "crm.example",
        );
        // What stands between the tags of a template.
        check(
            |secrets| secrets.keep_url("&key=hunter2&by="),
            "hunter2 by",
            "*** by",
        );
    }

    #[test]
    fn the_longer_values_of_a_query_are_hidden() {
        check(
            |secrets| secrets.keep_query("key=hunter2hunter3&v=2024&longword"),
            "hunter2hunter3 2024 longword",
            "*** 2024 longword",
        );
    }

    #[test]
    fn the_parts_of_a_header_are_hidden() {
        for (header, text, shown) in [
            ("Bearer s3cret", "token s3cret", "token ***"),
            ("Bearer s3cret", "bearer: Bearer s3cret", "bearer: ***"),
            // `crm1:hunter2`
            (
                "Basic Y3JtMTpodW50ZXIy",
                "crm1, hunter2, Y3JtMTpodW50ZXIy",
                "***, ***, ***",
            ),
            (
                "a=b; session=\"0123456789\"",
                "no session 0123456789",
                "no session ***",
            ),
            (
                "Token token=0123456789, x=y",
                "no 0123456789 x=y",
                "no *** x=y",
            ),
        ] {
            check(|secrets| secrets.keep_header(header), text, shown);
        }
    }
}
