//! The requests of a document: where, headers and body, and the same as text with secrets masked.

use std::fmt::Write as _;

use jiff::Timestamp;
use profilesync_http::Request;
use profilesync_target::{Document, Status};
use profilesync_template::Template;
use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};

use crate::{
    body::Body,
    place::Place,
    sign::{self, Key},
};

const REVISION: HeaderName = HeaderName::from_static("profilesync-revision");
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A method and where to use it.
pub(crate) struct Action {
    pub(crate) method: Method,
    pub(crate) place: Place,
}

/// What the requests of a target are made of.
pub(crate) struct Maker {
    pub(crate) update: Action,
    /// What follows an update of an account that the target does not know.
    pub(crate) create: Option<Action>,
    /// What takes the place of an update of a destroyed account.
    pub(crate) delete: Option<Action>,
    /// Secret values are marked sensitive.
    pub(crate) headers: HeaderMap,
    pub(crate) made_headers: Vec<MadeHeader>,
    pub(crate) body: Body,
    pub(crate) keys: Vec<Key>,
    /// Most documents of one body, which then is an array.
    pub(crate) array: Option<usize>,
}

/// A header that differs from document to document.
pub(crate) struct MadeHeader {
    pub(crate) name: HeaderName,
    pub(crate) template: Template,
    pub(crate) is_secret: bool,
}

impl Maker {
    /// What a document asks for first.
    pub(crate) fn action(&self, document: &Document) -> &Action {
        match (&self.delete, document.status) {
            (Some(delete), Status::Destroyed) => delete,
            _ => &self.update,
        }
    }

    /// The URLs it sends to, as far as they are the same for all.
    pub(crate) fn urls(&self) -> Vec<&Url> {
        let more = [&self.create, &self.delete];
        std::iter::once(&self.update)
            .chain(more.into_iter().flatten())
            .map(|action| &action.place.base)
            .collect()
    }

    /// The request that does this for a document, or why there can be none.
    pub(crate) fn make(
        &self,
        action: &Action,
        document: &Document,
        now: Timestamp,
    ) -> Result<Request, String> {
        let body = match action.method {
            Method::DELETE => Vec::new(),
            _ => self.body.make(document)?,
        };
        let mut headers = self.headers.clone();
        if body.is_empty() {
            headers.remove(CONTENT_TYPE);
        }
        for made in &self.made_headers {
            headers.insert(&made.name, made.make(document)?);
        }
        headers.insert(REVISION, HeaderValue::from(document.revision));
        self.sign(&mut headers, || sign::message_id(document), now, &body);
        Ok(Request {
            method: action.method.clone(),
            url: action.place.url(document)?,
            headers,
            body,
        })
    }

    /// The request of many documents, given the body of each.
    pub(crate) fn make_array(
        &self,
        documents: &[&Document],
        bodies: &[Vec<u8>],
        now: Timestamp,
    ) -> Request {
        let body = Body::array(bodies);
        let mut headers = self.headers.clone();
        self.sign(&mut headers, || sign::batch_id(documents), now, &body);
        Request {
            method: self.update.method.clone(),
            url: self.update.place.base.clone(),
            headers,
            body,
        }
    }

    fn sign(
        &self,
        headers: &mut HeaderMap,
        id: impl FnOnce() -> String,
        now: Timestamp,
        body: &[u8],
    ) {
        if self.keys.is_empty() {
            return;
        }
        let id = id();
        let mut signatures = ascii(&sign::signatures(&self.keys, &id, now.as_second(), body));
        signatures.set_sensitive(true);
        headers.insert(ID, ascii(&id));
        headers.insert(TIMESTAMP, HeaderValue::from(now.as_second()));
        headers.insert(SIGNATURE, signatures);
    }

    /// The request as text, without secrets: sensitive headers and the values of the query are masked.
    pub(crate) fn render(
        &self,
        document: &Document,
        has_credentials: bool,
    ) -> Result<String, String> {
        let action = self.action(document);
        let mut request = match self.array {
            None => self.make(action, document, Timestamp::UNIX_EPOCH)?,
            Some(_) => {
                let body = self.body.make(document)?;
                self.make_array(&[document], &[body], Timestamp::UNIX_EPOCH)
            }
        };
        if request.headers.contains_key(TIMESTAMP) {
            let when = HeaderValue::from_static("<the time of sending>");
            request.headers.insert(TIMESTAMP, when);
        }
        if has_credentials {
            let mut masked = HeaderValue::from_static("***");
            masked.set_sensitive(true);
            request.headers.insert(AUTHORIZATION, masked);
        }
        let mut text = format!("{} {}\n", action.method, action.place.shown(&request.url));
        let mut line = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line).expect("a String takes everything");
        };
        for (name, value) in &request.headers {
            let value = match value.is_sensitive() {
                true => "***".into(),
                false => String::from_utf8_lossy(value.as_bytes()),
            };
            line(format_args!("{name}: {value}\n"));
        }
        line(format_args!(
            "\n{}\n",
            String::from_utf8_lossy(&request.body)
        ));
        if let (Some(create), Status::Active) = (&self.create, document.status) {
            let url = create.place.shown(&create.place.url(document)?);
            line(format_args!(
                "\nWhen that is answered 404:\n{} {url}\n",
                create.method
            ));
        }
        Ok(text)
    }
}

impl MadeHeader {
    /// Its value for a document.
    pub(crate) fn make(&self, document: &Document) -> Result<HeaderValue, String> {
        let text = self.template.render(document)?;
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            format!(
                "the header `{}` would hold what no header can: write `| urlencode` behind what is put into it",
                self.name
            )
        })?;
        value.set_sensitive(self.is_secret);
        Ok(value)
    }
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("hexadecimal and base64 are ASCII")
}
