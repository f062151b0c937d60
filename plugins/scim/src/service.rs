//! Bringing one resource to what is wanted: find it by its externalId, compare, change only what differs.

use std::time::Instant;

use profilesync_http::{Reply, Request};
use profilesync_target::{Document, Outcome};
use reqwest::{
    Method, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH},
};
use serde_json::{Map, Value};

use crate::{
    Service,
    path::member,
    resource::{Step, Update},
};

/// How often a resource is looked up anew when it changed between reading and writing.
const ATTEMPTS: usize = 2;

const SCIM: HeaderValue = HeaderValue::from_static("application/scim+json");

impl Service {
    /// Brings the document's resource to what it should be.
    pub(crate) async fn put(&self, document: &Document, deadline: Instant) -> Outcome {
        let wanted = match self.mapping.wanted(document) {
            Ok(wanted) => wanted,
            Err(reason) => return Outcome::Rejected { reason },
        };
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let held = match self.find(&wanted.external_id).await {
                Ok(held) => held,
                Err(outcome) => return outcome,
            };
            let request = match (self.mapping.step(&wanted, held.as_ref()), &held) {
                (Step::Nothing(why), _) => {
                    return Outcome::Delivered { answer: why.into() };
                }
                (Step::Create(body), _) => {
                    Some(self.request(Method::POST, self.url.clone(), Some(&body)))
                }
                (Step::Update(body), Some(held)) => {
                    let method = match self.mapping.update {
                        Update::Patch => Method::PATCH,
                        Update::Put => Method::PUT,
                    };
                    self.change(method, held, Some(&body))
                }
                (_, Some(held)) => self.change(Method::DELETE, held, None),
                (_, None) => None,
            };
            let Some(request) = request else {
                return strange("a resource without an id");
            };
            let reply = match self.http.send(&request, deadline).await {
                Ok(reply) => reply,
                Err(outcome) => return outcome,
            };
            match reply.status {
                StatusCode::NOT_FOUND if request.method == Method::DELETE => {
                    return Outcome::Delivered {
                        answer: "there is no resource".into(),
                    };
                }
                // Another one has a value that must be unique, or somebody created it meanwhile.
                StatusCode::CONFLICT => last = Some(reply),
                // It went, or changed, after it was found.
                StatusCode::PRECONDITION_FAILED => last = Some(reply),
                StatusCode::NOT_FOUND if request.method != Method::POST => last = Some(reply),
                _ => return self.judge(&reply),
            }
        }
        let reply = last.expect("each attempt that does not return leaves an answer");
        match (reply.status, self.http.judge(&reply)) {
            (StatusCode::PRECONDITION_FAILED | StatusCode::NOT_FOUND, outcome) => Outcome::Retry {
                reason: outcome.text().to_owned(),
                after: None,
            },
            (_, outcome) => outcome,
        }
    }

    /// What the answer to a write means. A 400 can be about an odd value, or about an attribute that the service does not
    /// have: how other accounts fare tells.
    fn judge(&self, reply: &Reply) -> Outcome {
        match (reply.status, self.http.judge(reply)) {
            (
                StatusCode::BAD_REQUEST
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Outcome::Rejected { reason },
            ) => Outcome::Denied { reason },
            (_, outcome) => outcome,
        }
    }

    /// The resource with this very externalId.
    pub(crate) async fn find(
        &self,
        external_id: &str,
    ) -> Result<Option<Map<String, Value>>, Outcome> {
        let quoted = Value::from(external_id).to_string();
        let mut url = self.url.clone();
        // A service may ignore what it is asked to leave out (RFC 7644, 3.9).
        let left_out = self.mapping.left_out;
        url.query_pairs_mut()
            .append_pair("filter", &format!("externalId eq {quoted}"))
            .extend_pairs(left_out.map(|name| ("excludedAttributes", name)));
        let reply = self
            .http
            .fetch(&self.request(Method::GET, url, None))
            .await?;
        if reply.status != StatusCode::OK {
            // Nothing was said about the account's data: it was only asked for.
            return Err(match self.http.judge(&reply) {
                Outcome::Rejected { reason } => Outcome::Denied { reason },
                Outcome::Delivered { answer } => strange(&answer),
                outcome => outcome,
            });
        }
        let list: Map<String, Value> = serde_json::from_slice(&reply.body)
            .map_err(|_| strange("an answer that is no SCIM list"))?;
        let listed = match member(&list, "Resources") {
            Some(Value::Array(listed)) => listed.as_slice(),
            _ => &[],
        };
        let id = |resource: &Value| {
            let id = resource
                .as_object()
                .and_then(|one| member(one, "externalId"));
            id.and_then(Value::as_str).map(str::to_owned)
        };
        let mut ours = listed
            .iter()
            .filter(|one| id(one).as_deref() == Some(external_id));
        let found = ours.next().and_then(Value::as_object).cloned();
        if ours.next().is_some() {
            return Err(Outcome::Rejected {
                reason: format!(
                    "several resources have the externalId {quoted}: remove all but one"
                ),
            });
        }
        // A service may find others too, as it folds case and forms of Unicode. When there are more than it lists, ours
        // may be among them.
        let total = member(&list, "totalResults").and_then(Value::as_u64);
        if found.is_none() && total.is_some_and(|total| total > listed.len() as u64) {
            return Err(strange(
                "more resources than can have this externalId: it does not filter by externalId",
            ));
        }
        Ok(found)
    }

    /// Asks for one resource, whichever.
    pub(crate) async fn look(&self) -> Result<(), String> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("count", "1");
        let request = self.request(Method::GET, url, None);
        let reply = self.http.send(&request, self.http.deadline()).await;
        let reply = reply.map_err(|outcome| outcome.text().to_owned())?;
        match reply.status {
            StatusCode::OK => Ok(()),
            _ => Err(self.http.judge(&reply).text().to_owned()),
        }
    }

    fn request(&self, method: Method, url: Url, body: Option<&Value>) -> Request {
        let mut headers = HeaderMap::from_iter([(ACCEPT, SCIM)]);
        if body.is_some() {
            headers.insert(CONTENT_TYPE, SCIM);
        }
        Request {
            method,
            url,
            headers,
            body: body.map_or_else(Vec::new, |body| body.to_string().into_bytes()),
        }
    }

    /// A request about one resource, as long as it is the version that was found. Without an id, or with one that a URL
    /// takes for a folder, it would be about all of them.
    fn change(
        &self,
        method: Method,
        held: &Map<String, Value>,
        body: Option<&Value>,
    ) -> Option<Request> {
        let mut url = self.url.clone();
        let id = member(held, "id")?.as_str()?;
        if matches!(id, "" | "." | "..") {
            return None;
        }
        url.path_segments_mut().ok()?.push(id);
        let mut request = self.request(method, url, body);
        let meta = member(held, "meta").and_then(Value::as_object);
        let version = meta
            .and_then(|meta| member(meta, "version"))
            .and_then(Value::as_str);
        if let Some(Ok(version)) = version.map(HeaderValue::from_str) {
            request.headers.insert(IF_MATCH, version);
        }
        Some(request)
    }
}

fn strange(what: &str) -> Outcome {
    Outcome::Fault {
        reason: format!("the service gave {what}"),
        after: None,
    }
}
