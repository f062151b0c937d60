//! What a child says, made fit for people: without secrets, control characters and excess.

use std::time::Duration;

use profilesync_target::{Mask, Period};

/// Most characters of an answer's text, and of a line that is quoted.
const MAX_TEXT: usize = 1000;
const MAX_QUOTE: usize = 200;

/// Most bytes of a text that are looked at for them.
const MAX_BYTES: usize = 16 * 1024;

/// A text for outcomes.
pub(crate) fn text(mask: &Mask, said: &str) -> String {
    line(&beginning(mask, said), MAX_TEXT)
}

/// The beginning of a line, as a literal.
pub(crate) fn quote(mask: &Mask, said: &str) -> String {
    let beginning: String = beginning(mask, said).chars().take(MAX_QUOTE).collect();
    format!("{beginning:?}")
}

/// A masked text as one line of at most so many characters.
pub(crate) fn line(masked: &str, most: usize) -> String {
    let mut line: String = masked
        .trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if let Some((end, _)) = line.char_indices().nth(most) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// A time as people write it: what is left of a time limit is never a round number.
pub(crate) fn rounded(time: Duration) -> Period {
    let step = match time.as_secs() {
        0 => 10,
        1..10 => 100,
        _ => 1000,
    };
    let millis = (time.as_millis() + step / 2) / step * step;
    Period(Duration::from_millis(millis.try_into().unwrap_or(u64::MAX)))
}

/// As much of a text as anyone wants to read, masked.
fn beginning(mask: &Mask, said: &str) -> String {
    match said.len() <= MAX_BYTES {
        true => mask.hide(said),
        false => mask.hide_cut(&said[..said.floor_char_boundary(MAX_BYTES)]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use profilesync_target::Mask;

    use super::{MAX_BYTES, line, quote, rounded, text};

    fn mask() -> Mask {
        let mut mask = Mask::default();
        mask.add("hunter2\"hunter3");
        mask
    }

    #[test]
    fn texts_are_masked_cleaned_and_cut() {
        assert_eq!(
            text(&mask(), "no\u{1b}[31m hunter2\"hunter3\there\n"),
            "no [31m *** here"
        );
        assert_eq!(line("abcdef", 3), "abc…");
        assert_eq!(text(&mask(), &"x".repeat(2000)).chars().count(), 1001);
    }

    #[test]
    fn times_are_rounded() {
        for (micros, text) in [
            (0, "0s"),
            (716_238, "720ms"),
            (749_999, "750ms"),
            (999_999, "1s"),
            (7_498_613, "7s 500ms"),
            (22_499_871, "22s"),
        ] {
            assert_eq!(rounded(Duration::from_micros(micros)).to_string(), text);
        }
    }

    #[test]
    fn no_cut_leaves_half_a_secret() {
        for before in 180..200 {
            let quoted = quote(&mask(), &format!("{}hunter2\"hunter3", "x".repeat(before)));
            assert!(!quoted.contains('h'), "{quoted}");
        }
        let (mut mask, long) = (mask(), "s3cret".repeat(600));
        mask.add(&long);
        assert_eq!(text(&mask, &long.repeat(MAX_BYTES / long.len() + 1)), "***");
    }
}
