//! What a child says, made fit for people: without secrets, control characters and excess.

/// Most characters of an answer's text.
const MAX_TEXT: usize = 1000;

/// Hides secrets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask(Vec<String>);

impl Mask {
    /// Hides this value from now on.
    pub(crate) fn add(&mut self, secret: &str) {
        // What is hidden everywhere must not be a word that occurs everywhere.
        if secret.chars().count() >= 4 {
            self.0.push(secret.to_owned());
        }
    }

    /// A text for outcomes.
    pub(crate) fn text(&self, text: &str) -> String {
        self.line(text, MAX_TEXT)
    }

    /// One line of at most so many characters.
    pub(crate) fn line(&self, text: &str, most: usize) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret, "***");
        }
        let mut line: String = text
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
}

#[cfg(test)]
mod tests {
    use super::Mask;

    #[test]
    fn texts_are_masked_cleaned_and_cut() {
        let mut mask = Mask::default();
        mask.add("hunter2");
        mask.add("no");
        assert_eq!(
            mask.line("no\u{1b}[31m hunter2\thunter2\n", 80),
            "no [31m *** ***"
        );
        assert_eq!(mask.line("abcdef", 3), "abc…");
        assert_eq!(mask.text(&"x".repeat(2000)).chars().count(), 1001);
    }
}
