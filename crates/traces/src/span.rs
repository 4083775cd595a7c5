//! Spans, and the handles with which other spans refer to them.

use std::{
    borrow::Cow,
    fmt,
    ops::Deref,
    time::{Instant, SystemTime},
};

use opentelemetry::{
    Context, ContextGuard, KeyValue, Value,
    context::FutureExt,
    trace::{Link, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer},
};

use crate::{TRACER, TraceContext, is_enabled};

/// Work in progress, which ends when this is dropped. Nothing if the process exports no traces, or the trace
/// is not sampled.
#[derive(Debug, Default)]
#[must_use = "the span ends when this is dropped"]
pub struct Span(Scope);

/// A handle to a span, which may have ended: the parent of other spans. Nothing if there is no span.
#[derive(Debug, Clone, Default)]
pub struct Scope(Option<Context>);

/// While this lives, the span is the current one of the thread.
#[derive(Debug)]
#[must_use = "the span is the current one while this lives"]
pub struct Entered(#[expect(dead_code, reason = "held for its drop")] Option<ContextGuard>);

/// The parent of a span.
#[derive(Debug, Clone, Copy)]
pub enum Parent<'p> {
    /// The current span of the thread or the task; without one, the span begins a trace.
    Current,
    /// A span in another process; without one, the span begins a trace.
    Remote(Option<&'p TraceContext>),
}

/// The time of work that is over.
#[derive(Debug, Clone, Copy)]
pub struct Interval {
    /// The beginning.
    pub began: Instant,
    /// The end.
    pub ended: Instant,
}

/// Returns a future that passes the current span on to `future`, for a task of its own.
pub fn carried<F: Future>(future: F) -> impl Future<Output = F::Output> {
    Scope::current().around(future)
}

impl Span {
    /// Begins a part of the current span's work.
    pub fn begin(name: impl Into<Cow<'static, str>>) -> Self {
        Self::begin_as(SpanKind::Internal, name, Parent::Current)
    }

    /// Begins work of the given kind.
    pub fn begin_as(
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        parent: Parent<'_>,
    ) -> Self {
        if !is_enabled() {
            return Self::default();
        }
        let parent = match parent {
            Parent::Current => Context::current(),
            Parent::Remote(None) => Context::new(),
            Parent::Remote(Some(context)) => match context.span() {
                None => Context::new(),
                Some(span) => Context::new().with_remote_span_context(span),
            },
        };
        Self(start(SpanBuilder::from_name(name).with_kind(kind), &parent))
    }

    /// Sets an attribute.
    pub fn with(self, key: &'static str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }
}

impl Deref for Span {
    type Target = Scope;

    fn deref(&self) -> &Scope {
        &self.0
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0.0 {
            context.span().end();
        }
    }
}

impl Scope {
    /// The current span of the thread or the task.
    pub fn current() -> Self {
        if !is_enabled() {
            return Self::default();
        }
        Self(Context::map_current(|context| {
            context.has_active_span().then(|| context.clone())
        }))
    }

    /// Whether attributes and parts of the span reach the collector.
    pub fn is_recorded(&self) -> bool {
        let context = self.0.as_ref();
        context.is_some_and(|context| context.span().span_context().is_sampled())
    }

    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// Marks the work as failed.
    pub fn fail(&self, reason: impl fmt::Display) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(reason.to_string()));
        }
    }

    /// Makes the span the current one of this thread.
    pub fn enter(&self) -> Entered {
        Entered(self.0.clone().map(Context::attach))
    }

    /// Returns a future in which the span is the current one.
    pub fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let context = self.0.clone();
        async move {
            match context {
                None => future.await,
                Some(context) => future.with_context(context).await,
            }
        }
    }

    /// The headers that name the span in a call.
    pub fn context(&self) -> Option<TraceContext> {
        let context = self.0.as_ref()?;
        let span = context.span().span_context().clone();
        span.is_valid().then(|| TraceContext::of_span(&span))
    }

    /// Adds a part of the span's work that is over. `related` are spans to which it is linked.
    pub fn add<'s>(
        &self,
        name: &'static str,
        interval: Interval,
        attributes: impl IntoIterator<Item = KeyValue>,
        related: impl IntoIterator<Item = &'s Self>,
    ) -> Self {
        let Some(context) = &self.0 else {
            return Self::default();
        };
        let related = related.into_iter().filter_map(|scope| scope.0.as_ref());
        let links =
            related.map(|context| Link::with_context(context.span().span_context().clone()));
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Internal)
            .with_start_time(system_time(interval.began))
            .with_attributes(attributes)
            .with_links(links.collect());
        let part = start(builder, context);
        if let Some(context) = &part.0 {
            let ended = system_time(interval.ended);
            context.span().end_with_timestamp(ended);
        }
        part
    }
}

/// Begins a span; nothing if traces are not exported.
fn start(builder: SpanBuilder, parent: &Context) -> Scope {
    let tracer = TRACER.get();
    let span = tracer.map(|tracer| tracer.build_with_context(builder, parent));
    Scope(span.map(|span| parent.with_span(span)))
}

fn system_time(at: Instant) -> SystemTime {
    SystemTime::now() - at.elapsed()
}
