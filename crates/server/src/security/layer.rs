//! The tower layer that checks the token of each call of a port.

use std::{
    future::{Ready, ready},
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use axum::extract::ConnectInfo;
use bytes::Bytes;
use futures::{
    TryFutureExt,
    future::{Either, MapOk},
};
use http::{HeaderMap, Request, Response, header};
use http_body::Body;
use http_body_util::{Either as EitherBody, Full};
use tonic::transport::server::TcpConnectInfo;
use tower_layer::Layer;
use tower_service::Service;
use tracing::warn;

use super::{Refusal, Requirement, Rules, reload::Reloaded, tokens_file::Tokens};
use crate::listen::Peer;

/// Longest part of a path in the log.
const LOGGED_PATH: usize = 128;

/// Applies a port's [`Rules`] to its services; a layer for tonic's `Server::layer` and axum's
/// `Router::layer`.
///
/// The layer removes the `authorization` header of an accepted call, so that no inner service can log the
/// token, and adds a [`Caller`] to the call's extensions. It answers and logs each refused call once, with
/// the name of the token if the token is known.
#[derive(Debug, Clone)]
pub struct AuthLayer(Arc<Gate>);

/// A service inside an [`AuthLayer`].
#[derive(Debug, Clone)]
pub struct Authorized<S> {
    gate: Arc<Gate>,
    service: S,
}

/// The caller: the name of the token, or `None` if the call needs none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Option<Arc<str>>);

#[derive(Debug)]
struct Gate {
    port: &'static str,
    rules: Rules,
    /// `None`: calls need no token.
    tokens: Option<Reloaded<Tokens>>,
}

/// A refusal, and the name of the token if the token is known.
type Refused = (Refusal, Option<String>);

impl AuthLayer {
    pub(super) fn new(port: &'static str, rules: Rules, tokens: Option<Reloaded<Tokens>>) -> Self {
        Self(Arc::new(Gate {
            port,
            rules,
            tokens,
        }))
    }
}

impl Gate {
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Caller, Refused> {
        let Some(tokens) = &self.tokens else {
            return Ok(Caller(None));
        };
        let requirement = self.rules.requirement(path);
        if requirement == Requirement::Nothing {
            return Ok(Caller(None));
        }
        let shown = bearer_token(headers).ok_or((Refusal::TokenMissing, None))?;
        let tokens = tokens.get();
        let token = tokens.find(shown).ok_or((Refusal::TokenUnknown, None))?;
        let allowed = match requirement {
            Requirement::Nothing | Requirement::AnyToken => true,
            Requirement::OneOf(scopes) => scopes.iter().any(|scope| token.scopes.contains(scope)),
        };
        if allowed {
            Ok(Caller(Some(token.name.as_str().into())))
        } else {
            Err((Refusal::ScopeMissing, Some(token.name.clone())))
        }
    }

    fn log<B>(&self, (refusal, token): &Refused, request: &Request<B>) {
        let path = request.uri().path();
        let method = path.get(..LOGGED_PATH).unwrap_or(path);
        warn!(
            port = self.port,
            reason = refusal.reason(),
            peer = peer(request).map(tracing::field::display),
            method,
            token,
            "call refused"
        );
    }
}

/// The only bearer token of a request; the case of the scheme's name does not matter.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn peer<B>(request: &Request<B>) -> Option<SocketAddr> {
    let extensions = request.extensions();
    let grpc = extensions.get::<TcpConnectInfo>();
    let http = || extensions.get::<ConnectInfo<Peer>>();
    match grpc {
        Some(info) => info.remote_addr(),
        None => http().map(|ConnectInfo(Peer(address))| *address),
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authorized<S>;

    fn layer(&self, service: S) -> Self::Service {
        Authorized {
            gate: Arc::clone(&self.0),
            service,
        }
    }
}

/// The service's own answer, or a refusal.
type Answer<B> = Response<EitherBody<B, Full<Bytes>>>;

impl<S, B, R> Service<Request<B>> for Authorized<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Response = Answer<R>;
    type Error = S::Error;
    type Future =
        Either<MapOk<S::Future, fn(Response<R>) -> Answer<R>>, Ready<Result<Answer<R>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.gate.admit(request.uri().path(), request.headers()) {
            Ok(caller) => {
                request.headers_mut().remove(header::AUTHORIZATION);
                request.extensions_mut().insert(caller);
                let own: fn(Response<R>) -> Answer<R> = |answer| answer.map(EitherBody::Left);
                Either::Left(self.service.call(request).map_ok(own))
            }
            Err(refused) => {
                self.gate.log(&refused, &request);
                let (refusal, _) = refused;
                let response: Response<Full<Bytes>> = if is_grpc(&request) {
                    refusal.grpc_response()
                } else {
                    refusal.http_response()
                };
                Either::Right(ready(Ok(response.map(EitherBody::Right))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_well_formed_header_holds_the_token() {
        let shown = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer_token(&headers).map(str::to_owned)
        };
        assert_eq!(shown(&["Bearer abc"]), Some("abc".to_owned()));
        assert_eq!(shown(&["bearer  abc"]), Some("abc".to_owned()));
        for none in [
            &[][..],
            &["abc"],
            &["Bearer"],
            &["Bearer "],
            &["Basic abc"],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(shown(none), None, "{none:?}");
        }
    }
}
