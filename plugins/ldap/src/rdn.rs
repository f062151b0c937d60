//! The first RDN of a DN, taken apart: an entry must hold the values it is named by.

/// Attributes and values of the first RDN.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(crate) fn parse(dn: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = dn;
    loop {
        let (pair, end) = pair(rest)?;
        pairs.push(pair);
        match end {
            Some(after) => rest = after,
            None => return Ok(pairs),
        }
    }
}

/// One `attribute=value`, and what follows its `+`.
fn pair(text: &str) -> Result<((String, String), Option<&str>), String> {
    let (attribute, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is no `attribute=value`"))?;
    let attribute = attribute.trim();
    if !is_attribute(attribute) {
        return Err(format!("{attribute:?} is no name of an attribute"));
    }
    let (value, end) = unescape(value.trim_start_matches(' '))?;
    if value.is_empty() {
        return Err(format!("`{attribute}` has no value"));
    }
    Ok(((attribute.to_owned(), value), end))
}

/// The value up to an unescaped `,` or `+`, and what follows the latter.
fn unescape(text: &str) -> Result<(String, Option<&str>), String> {
    let mut value = Vec::new();
    // Spaces before the end belong to the value only if they are escaped.
    let mut kept = 0;
    let mut rest = text.as_bytes();
    let mut end = None;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b',' => break,
            b'+' => {
                end = Some(&text[text.len() - rest.len()..]);
                break;
            }
            b'\\' => {
                let (byte, after) = escaped(rest).ok_or("it ends in a backslash")?;
                value.push(byte);
                kept = value.len();
                rest = after;
            }
            _ => {
                value.push(byte);
                if byte != b' ' {
                    kept = value.len();
                }
            }
        }
    }
    value.truncate(kept);
    let value = String::from_utf8(value).map_err(|_| "its escapes are not UTF-8")?;
    Ok((value, end))
}

/// The byte that an escape stands for: two hexadecimal digits, or the byte itself.
fn escaped(rest: &[u8]) -> Option<(u8, &[u8])> {
    if let [high, low, after @ ..] = rest
        && let (Some(high), Some(low)) = (digit(*high), digit(*low))
    {
        return Some((high * 16 + low, after));
    }
    rest.split_first().map(|(&byte, after)| (byte, after))
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Whether a text names an attribute, with options or without: `cn`, `description;lang-zh`, `2.5.4.3`.
pub(crate) fn is_attribute(text: &str) -> bool {
    let mut parts = text.split(';');
    let name = parts.next().unwrap_or_default();
    let words = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let descriptor = name.starts_with(|c: char| c.is_ascii_alphabetic()) && words(name);
    let numeric = name.split('.').count() > 1
        && name
            .split('.')
            .all(|arc| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit()));
    (descriptor || numeric) && parts.all(words)
}

#[cfg(test)]
mod tests {
    use ldap3::dn_escape;
    use proptest::prelude::proptest;

    use super::{is_attribute, parse};

    fn pair(attribute: &str, value: &str) -> (String, String) {
        (attribute.to_owned(), value.to_owned())
    }

    #[test]
    fn an_rdn_is_taken_apart() {
        assert_eq!(parse("cn=a,ou=b").unwrap(), [pair("cn", "a")]);
        assert_eq!(
            parse(r"cn = a\2cb\, c\20 + o=1,ou=b").unwrap(),
            [pair("cn", "a,b, c "), pair("o", "1")]
        );
        for (wrong, why) in [
            ("a", "attribute=value"),
            ("c n=a", "no name of an attribute"),
            ("cn=,ou=b", "`cn` has no value"),
            (r"cn=a\", "backslash"),
            (r"cn=\ff", "UTF-8"),
            ("cn=a+", "attribute=value"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn attributes_have_names_and_options() {
        for name in ["cn", "description;lang-zh", "2.5.4.3", "x-y;binary;x"] {
            assert!(is_attribute(name), "{name}");
        }
        for name in ["", "1", "a b", "cn;", "-a", "2..3", "a=b", "\u{e9}", ";x"] {
            assert!(!is_attribute(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_got_back(value in ".{1,20}|[ ,+\\\\#\"=0a]{1,6}") {
            let dn = format!("cn={}+o={},ou=x", dn_escape(&value), dn_escape("1"));
            assert_eq!(parse(&dn).unwrap(), [pair("cn", &value), pair("o", "1")]);
        }
    }
}
