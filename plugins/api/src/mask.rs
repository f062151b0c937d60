//! Hides secrets in texts for people: a peer's words may hold what it was sent, in whatever way it writes texts.

use std::fmt;

/// Fewest characters that are hidden, of a secret and of a line of one: shorter ones are easily guessed, and occur
/// everywhere in texts that have nothing to do with them. Not more, for a line can be a password of its own.
const MIN: usize = 4;

/// Hides the secrets it was told of, each of their lines too, and all of them also where they are escaped: as in JSON and
/// `{:?}`, or percent-encoded.
///
/// Hide first; cut or quote then. Of a text that was cut before, [`Mask::hide_cut`] hides the beginning of a secret that
/// it ends with. Prints as `***`.
#[derive(Clone, Default)]
pub struct Mask(Vec<String>);

impl Mask {
    /// Hides this value, and each of its lines, from now on.
    pub fn add(&mut self, secret: &str) {
        for part in [secret].into_iter().chain(secret.lines().map(str::trim)) {
            let long = part.trim().chars().count() >= MIN;
            if long && !self.0.iter().any(|known| known == part) {
                self.0.push(part.to_owned());
            }
        }
    }

    /// The text with `***` for every secret. Secrets that overlap are hidden as one.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        self.hidden(text, false)
    }

    /// The same of a text whose end was cut off, perhaps within a secret.
    #[must_use]
    pub fn hide_cut(&self, text: &str) -> String {
        // What is left of a character that was cut.
        self.hidden(text.trim_end_matches(char::REPLACEMENT_CHARACTER), true)
    }

    fn hidden(&self, text: &str, cut: bool) -> String {
        let styles = Style::of(text);
        let mut shown = String::with_capacity(text.len());
        // Of what is hidden so far.
        let mut end = 0;
        for (at, c) in text.char_indices() {
            let longest = self
                .0
                .iter()
                .flat_map(|secret| styles.iter().map(move |style| (style, secret)))
                .filter_map(|(style, secret)| style.length(secret, &text[at..], cut))
                .max();
            if let Some(length) = longest {
                if end <= at {
                    shown.push_str("***");
                }
                end = end.max(at + length);
            }
            if end <= at {
                shown.push(c);
            }
        }
        shown
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a text writes characters. Undone character by character, for writers differ in which they escape and how.
#[derive(Clone, Copy)]
enum Style {
    /// As they are.
    Plain,
    /// With backslashes: JSON, `{:?}`, and the literals of other languages.
    Backslash,
    /// Percent-encoded; a space may be a plus.
    Percent,
}

impl Style {
    /// Those in which this text may read differently.
    fn of(text: &str) -> Vec<Self> {
        let mut styles = vec![Self::Plain];
        if text.contains('\\') {
            styles.push(Self::Backslash);
        }
        if text.contains(['%', '+']) {
            styles.push(Self::Percent);
        }
        styles
    }

    /// How many bytes the secret takes that the text begins with. When the text is `cut`, the beginning of a secret that
    /// takes all of it will do.
    fn length(self, secret: &str, text: &str, cut: bool) -> Option<usize> {
        let mut length = 0;
        for wanted in secret.chars() {
            let Some((found, taken)) = self.first(&text[length..]) else {
                return cut.then_some(text.len());
            };
            let space = matches!((self, found, wanted), (Self::Percent, '+', ' '));
            if found != wanted && !space {
                return None;
            }
            length += taken;
        }
        Some(length)
    }

    /// The first character that the text stands for, and the bytes it takes; `None` when the text ends before it does.
    fn first(self, text: &str) -> Option<(char, usize)> {
        let c = text.chars().next()?;
        match (self, c) {
            (Self::Backslash, '\\') => escaped(text),
            (Self::Percent, '%') => encoded(text),
            _ => Some((c, c.len_utf8())),
        }
    }
}

/// The character that a backslash begins. One that means nothing stands for what follows it.
fn escaped(text: &str) -> Option<(char, usize)> {
    let name = text[1..].chars().next()?;
    let number = match name {
        '0' => return Some(('\0', 2)),
        'b' => return Some(('\u{8}', 2)),
        'f' => return Some(('\u{c}', 2)),
        'n' => return Some(('\n', 2)),
        'r' => return Some(('\r', 2)),
        't' => return Some(('\t', 2)),
        'x' if text.len() < 4 => return None,
        'x' => hex(&text[2..], 2).map(|code| (code, 4)),
        'u' if text[2..].starts_with('{') => {
            let longest = "\\u{10ffff}".len();
            match text.bytes().take(longest).position(|byte| byte == b'}') {
                Some(end) => hex(&text[3..], end - 3).map(|code| (code, end + 1)),
                None if text.len() < longest => return None,
                None => None,
            }
        }
        'u' if text.len() < 6 => return None,
        'u' => match hex(&text[2..], 4) {
            // Half of a character beyond U+FFFF.
            Some(0xd800..0xdc00) if text.len() < 12 => return None,
            Some(high @ 0xd800..0xdc00) => text[6..]
                .strip_prefix("\\u")
                .and_then(|low| hex(low, 4))
                .and_then(|low| low.checked_sub(0xdc00))
                .map(|low| (0x10000 + ((high - 0xd800) << 10) + low, 12)),
            code => code.map(|code| (code, 6)),
        },
        _ => None,
    };
    let number = number.and_then(|(code, taken)| Some((char::from_u32(code)?, taken)));
    Some(number.unwrap_or((name, 1 + name.len_utf8())))
}

/// The character that a percent sign begins. One that means nothing stands for itself.
fn encoded(text: &str) -> Option<(char, usize)> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(digits) = rest.strip_prefix('%') {
        if digits.len() < 2 {
            return None;
        }
        let Some(byte) = hex(digits, 2) else { break };
        bytes.extend(u8::try_from(byte));
        rest = &digits[2..];
        if let Ok(whole) = str::from_utf8(&bytes) {
            return Some((whole.chars().next()?, 3 * bytes.len()));
        }
        if bytes.len() == 4 {
            break;
        }
    }
    let broken_off =
        rest.is_empty() && str::from_utf8(&bytes).is_err_and(|it| it.error_len().is_none());
    (!broken_off).then_some(('%', 1))
}

/// The number that so many hexadecimal digits are, which the text begins with.
fn hex(text: &str, digits: usize) -> Option<u32> {
    let digits = text.get(..digits)?;
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Mask;

    fn mask<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Mask {
        let mut mask = Mask::default();
        secrets.into_iter().for_each(|secret| mask.add(secret));
        mask
    }

    #[track_caller]
    fn check(secrets: &[&str], text: &str, shown: &str) {
        assert_eq!(mask(secrets.iter().copied()).hide(text), shown);
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        check(
            &["hunter2"],
            "hunter2, not hunter3: hunter2",
            "***, not hunter3: ***",
        );
        check(&["hunter2"], "", "");
        check(&[], "hunter2", "hunter2");
        check(&["hunter2", "hunter2"], "[hunter2]", "[***]");
    }

    #[test]
    fn what_is_too_short_is_shown() {
        check(
            &["abc", "", "a\nb", "      "],
            "abc a b       ",
            "abc a b       ",
        );
        check(&["abcd"], "abcd", "***");
        check(&["éèàù"], "éèàù", "***");
    }

    #[test]
    fn a_secret_that_contains_another_is_hidden_whole() {
        for secrets in [["hunter", "hunter2!"], ["hunter2!", "hunter"]] {
            check(&secrets, "hunter2! hunter", "*** ***");
        }
        check(&["abcd1234", "1234efgh"], "xabcd1234efghx", "x***x");
    }

    #[test]
    fn each_line_is_hidden() {
        let key = "-----BEGIN KEY-----\r\nMIIEvQ\n  indented\nab\n-----END KEY-----\n";
        check(&[key], "at MIIEvQ, indented, ab", "at ***, ***, ab");
        check(&[key], &format!("<{key}>"), "<***>");
        check(&[key], &format!("{key:?}"), "\"***\"");
    }

    #[test]
    fn every_way_to_write_a_secret_is_known() {
        let secret = "a/b \"c\"\\\né😀";
        for written in [
            r#"a/b \"c\"\\\né😀"#,
            r#"a\/b \"c\"\\\n\u00e9\ud83d\ude00"#,
            r#"a/b \x22c\x22\x5c\x0a\xE9😀"#,
            r#"a/b \"c\"\\\n\u{e9}\u{1f600}"#,
            "a%2Fb+%22c%22%5C%0A%C3%A9%F0%9F%98%80",
            "a%2fb%20%22c%22%5c%0a%c3%a9%f0%9f%98%80",
            "%61/b%20\"c\"\\%0Aé😀",
        ] {
            check(&[secret], &format!("<{written}>"), "<***>");
        }
        check(&["p%q+r s"], "p%q+r s p%25q%2Br+s", "*** ***");
    }

    #[test]
    fn what_only_looks_escaped_is_left_alone() {
        let text = r"100% \ \u \u12 \u{zz} \ud800\n \xé %zz %é %ff %e4%bd %";
        check(&["hunter2"], text, text);
        assert_eq!(mask(["hunter2"]).hide_cut("so 50% of it"), "so 50% of it");
    }

    #[test]
    fn the_beginning_of_a_secret_is_hidden_where_a_text_was_cut() {
        let mask = mask(["héllo\nwörld😀"]);
        for cut in [
            "got hé",
            "got héllo",
            "got h\u{fffd}",
            "got héllo\nwö",
            r"got héllo\",
            r"got h\u00",
            r"got h\u{e",
            r"got héllo\nw\u00f6rld\ud83d",
            r"got héllo\nw\u00f6rld\ud83d\ude",
            "got h%C3%A9llo%0Aw%C3",
            "got h%C3%A9llo%",
            "got h%C3%A9llo%0",
        ] {
            assert_eq!(mask.hide_cut(cut), "got ***", "{cut}");
        }
        assert_eq!(mask.hide_cut("got wörld no"), "got wörld no");
        assert_eq!(mask.hide("got hé"), "got hé");
    }

    #[test]
    fn a_mask_does_not_print_what_it_hides() {
        assert_eq!(format!("{:?}", mask(["hunter2"])), "***");
    }

    fn percent_encoded(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    proptest! {
        #[test]
        fn a_secret_is_hidden_in_every_form(
            secret in "[a-zé😀\\\\\"'%+/&= \n\t]{3,20}[a-z]",
            before in "[0-9,]{0,9}",
            after in "[0-9,]{0,9}",
        ) {
            prop_assume!(secret.trim().chars().count() >= 4);
            let json = serde_json::to_string(&secret).unwrap();
            let debug = format!("{secret:?}");
            for written in [
                secret.as_str(),
                &json[1..json.len() - 1],
                &debug[1..debug.len() - 1],
                &percent_encoded(&secret),
            ] {
                let shown = mask([secret.as_str()]).hide(&format!("{before}{written}{after}"));
                prop_assert_eq!(shown, format!("{before}***{after}"));
            }
        }

        #[test]
        fn a_cut_shows_nothing_of_a_secret(secret in "[a-zé😀\\\\\"% ]{3,20}[a-z]", before in "[0-9]{0,9}", at in 0.0..1.0) {
            let mask = mask([secret.as_str()]);
            let debug = format!("{secret:?}");
            for written in [secret.as_str(), &debug[1..debug.len() - 1], &percent_encoded(&secret)] {
                prop_assume!(secret.trim().chars().count() >= 4);
                let bytes = format!("{before}{written}").into_bytes();
                let share = (bytes.len() - before.len()) as f64 * at;
                let cut = String::from_utf8_lossy(&bytes[..before.len() + share as usize]).into_owned();
                let shown = mask.hide_cut(&cut);
                prop_assert!(shown == before || shown == format!("{before}***"), "{}", shown);
            }
        }

        #[test]
        fn nothing_is_hidden_without_a_secret(text in "\\PC{0,80}") {
            prop_assert_eq!(mask(["a secret that no text has"]).hide(&text), text);
        }

        #[test]
        fn any_text_can_be_masked(secret in "\\PC{0,9}", text in "[\\\\%u{}xa-fd8c0é]{0,30}") {
            let mask = mask([secret.as_str()]);
            let _ = (mask.hide(&text), mask.hide_cut(&text));
        }
    }
}
