//! A span in another process, in the format of W3C Trace Context (<https://www.w3.org/TR/trace-context/>).

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use serde::{Deserialize, Serialize};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest state of other tracing systems that is passed on: the standard asks for this many characters.
const LONGEST_STATE: usize = 512;

/// The headers that name a span, from a caller or for a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceContext {
    /// Ids of the trace and the span, and whether they are sampled:
    /// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
    traceparent: String,
    /// The state of other tracing systems; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    tracestate: String,
}

impl TraceContext {
    /// Reads the headers of a call; `None` if they name no span. Ignores a `traceparent` that is invalid or
    /// given twice, as the standard specifies.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else {
            return None;
        };
        let states = headers.get_all(TRACESTATE).iter();
        let states: Vec<_> = states.filter_map(|state| state.to_str().ok()).collect();
        let context = Self {
            traceparent: parent.to_str().ok()?.to_owned(),
            tracestate: states.join(","),
        };
        Some(Self::of_span(&context.span()?))
    }

    /// Adds the headers to a call.
    pub fn insert_into(&self, headers: &mut HeaderMap) {
        for (name, value) in [
            (TRACEPARENT, &self.traceparent),
            (TRACESTATE, &self.tracestate),
        ] {
            if value.is_empty() {
                continue;
            }
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
    }

    /// The headers for `span`, which is valid.
    pub(crate) fn of_span(span: &SpanContext) -> Self {
        let mut headers: HashMap<String, String> = HashMap::new();
        let context = Context::new().with_remote_span_context(span.clone());
        TraceContextPropagator::new().inject_context(&context, &mut headers);
        let mut take = |name: HeaderName| headers.remove(name.as_str()).unwrap_or_default();
        let (traceparent, tracestate) = (take(TRACEPARENT), take(TRACESTATE));
        Self {
            traceparent,
            tracestate: if tracestate.len() <= LONGEST_STATE {
                tracestate
            } else {
                String::new()
            },
        }
    }

    /// The span that the headers name, if they are valid.
    pub(crate) fn span(&self) -> Option<SpanContext> {
        let mut headers = HashMap::from([(TRACEPARENT.to_string(), self.traceparent.clone())]);
        if self.tracestate.len() <= LONGEST_STATE {
            headers.insert(TRACESTATE.to_string(), self.tracestate.clone());
        }
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        let span = context.span().span_context().clone();
        span.is_valid().then_some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_caller_names_its_span_in_the_headers_of_w3c() {
        let received = headers(&[
            (TRACEPARENT, PARENT),
            (TRACESTATE, "congo=t61rcWkgMzE"),
            (TRACESTATE, "rojo=00f067aa0ba902b7"),
        ]);
        let context = TraceContext::of(&received).unwrap();
        let span = context.span().unwrap();
        assert_eq!(
            span.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(span.span_id().to_string(), "b7ad6b7169203331");
        assert!(span.is_sampled() && span.is_remote());
        let mut sent = HeaderMap::new();
        context.insert_into(&mut sent);
        let states = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7";
        assert_eq!(
            sent,
            headers(&[(TRACEPARENT, PARENT), (TRACESTATE, states)])
        );
    }

    #[test]
    fn invalid_headers_name_no_span() {
        for parent in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-zzf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let received = headers(&[(TRACEPARENT, parent)]);
            assert_eq!(TraceContext::of(&received), None, "{parent}");
        }
        let twice = headers(&[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)]);
        assert_eq!(TraceContext::of(&twice), None);
        assert_eq!(TraceContext::of(&HeaderMap::new()), None);
    }

    #[test]
    fn a_state_that_is_too_long_or_invalid_is_left_out() {
        let long = format!("a={}", "x".repeat(LONGEST_STATE));
        for state in [long.as_str(), "no pair"] {
            let received = headers(&[(TRACEPARENT, PARENT), (TRACESTATE, state)]);
            let context = TraceContext::of(&received).unwrap();
            let json = serde_json::to_string(&context).unwrap();
            assert_eq!(json, format!("{{\"traceparent\":\"{PARENT}\"}}"), "{state}");
            assert_eq!(
                serde_json::from_str::<TraceContext>(&json).unwrap(),
                context
            );
        }
    }
}
