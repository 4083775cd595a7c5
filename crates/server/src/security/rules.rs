//! What each path of a port asks of its callers.

use super::Scope;

/// What a path asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing: load balancers and container engines ask for health without a token.
    Nothing,
    /// A token, whatever it allows.
    AnyToken,
    /// A token with one of these scopes.
    OneOf(&'static [Scope]),
}

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// The requirements of one port. A path that no exception names, also one that does not exist, asks
/// for what all others do.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    protocol: Protocol,
    exceptions: &'static [(&'static str, Requirement)],
    otherwise: Requirement,
}

/// What holds on every gRPC port. Reflection tells what could be called: to those who have a token,
/// whichever it is.
const EVERY_GRPC_PORT: &[(&str, Requirement)] = &[
    ("/grpc.health.v1.Health/", Requirement::Nothing),
    ("/grpc.reflection.", Requirement::AnyToken),
];

impl Protocol {
    /// As TLS negotiates it (RFC 7301).
    pub(super) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Grpc => b"h2",
            Self::Http => b"http/1.1",
        }
    }
}

impl Rules {
    /// A gRPC port: health is open, reflection wants any token, paths that begin as one of
    /// `exceptions` want what it says, and all others one of `scopes`.
    pub const fn grpc(
        scopes: &'static [Scope],
        exceptions: &'static [(&'static str, Requirement)],
    ) -> Self {
        Self {
            protocol: Protocol::Grpc,
            exceptions,
            otherwise: Requirement::OneOf(scopes),
        }
    }

    /// An HTTP port: paths that begin as one of `exceptions` want what it says, and all others one
    /// of `scopes`.
    pub const fn http(
        scopes: &'static [Scope],
        exceptions: &'static [(&'static str, Requirement)],
    ) -> Self {
        Self {
            protocol: Protocol::Http,
            exceptions,
            otherwise: Requirement::OneOf(scopes),
        }
    }

    /// A port that serves Prometheus's `/metrics` and nothing else.
    pub const METRICS: Self = Self::http(&[Scope::Metrics], &[]);

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What `path` asks for.
    pub fn requirement(&self, path: &str) -> Requirement {
        let everywhere = match self.protocol {
            Protocol::Grpc => EVERY_GRPC_PORT,
            Protocol::Http => &[],
        };
        let mut exceptions = self.exceptions.iter().chain(everywhere);
        exceptions
            .find(|(beginning, _)| path.starts_with(beginning))
            .map_or(self.otherwise, |(_, requirement)| *requirement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_asks_for_what_all_others_do() {
        const ADMIN: Requirement = Requirement::OneOf(&[Scope::Admin]);
        const PREDICT: Requirement = Requirement::OneOf(&[Scope::Predict]);
        const GRPC: Rules = Rules::grpc(&[Scope::Predict], &[("/a.B/Delete", ADMIN)]);
        const HTTP: Rules = Rules::http(&[Scope::Predict], &[("/health/", Requirement::Nothing)]);
        for (rules, path, expected) in [
            (GRPC, "/a.B/Delete", ADMIN),
            (GRPC, "/a.B/Infer", PREDICT),
            (GRPC, "/", PREDICT),
            (GRPC, "/x/../grpc.health.v1.Health/Check", PREDICT),
            (GRPC, "/grpc.health.v1.Health/Check", Requirement::Nothing),
            (
                GRPC,
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                Requirement::AnyToken,
            ),
            (HTTP, "/health/live", Requirement::Nothing),
            (HTTP, "/%68ealth/live", PREDICT),
            (HTTP, "/grpc.health.v1.Health/Check", PREDICT),
        ] {
            assert_eq!(rules.requirement(path), expected, "{path}");
        }
    }
}
