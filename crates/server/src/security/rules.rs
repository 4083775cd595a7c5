//! The credentials that each path of a port requires.

use super::Scope;

/// The credentials that a path requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// None: load balancers and container engines check health without a token.
    Nothing,
    /// A token with any scope.
    AnyToken,
    /// A token with one of these scopes.
    OneOf(&'static [Scope]),
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// The requirements of one port. The default applies to every path without an exception, including paths
/// that do not exist.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    protocol: Protocol,
    exceptions: &'static [(&'static str, Requirement)],
    default: Requirement,
}

/// Exceptions of every gRPC port. Reflection lists the methods, so it requires a token of any scope.
const EVERY_GRPC_PORT: &[(&str, Requirement)] = &[
    ("/grpc.health.v1.Health/", Requirement::Nothing),
    ("/grpc.reflection.", Requirement::AnyToken),
];

impl Protocol {
    /// The name of the protocol in TLS (RFC 7301).
    pub(super) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Grpc => b"h2",
            Self::Http => b"http/1.1",
        }
    }
}

impl Rules {
    /// Rules of a gRPC port. Health requires nothing, reflection any token, paths with a prefix in
    /// `exceptions` the requirement of that exception, and all other paths one of `scopes`.
    pub const fn grpc(
        scopes: &'static [Scope],
        exceptions: &'static [(&'static str, Requirement)],
    ) -> Self {
        Self {
            protocol: Protocol::Grpc,
            exceptions,
            default: Requirement::OneOf(scopes),
        }
    }

    /// Rules of an HTTP port. Paths with a prefix in `exceptions` require what that exception says, all other
    /// paths one of `scopes`.
    pub const fn http(
        scopes: &'static [Scope],
        exceptions: &'static [(&'static str, Requirement)],
    ) -> Self {
        Self {
            protocol: Protocol::Http,
            exceptions,
            default: Requirement::OneOf(scopes),
        }
    }

    /// Rules of a port that serves only Prometheus's `/metrics`.
    pub const METRICS: Self = Self::http(&[Scope::Metrics], &[]);

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The requirement of `path`.
    pub fn requirement(&self, path: &str) -> Requirement {
        let everywhere = match self.protocol {
            Protocol::Grpc => EVERY_GRPC_PORT,
            Protocol::Http => &[],
        };
        let mut exceptions = self.exceptions.iter().chain(everywhere);
        exceptions
            .find(|(prefix, _)| path.starts_with(prefix))
            .map_or(self.default, |(_, requirement)| *requirement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_without_an_exception_have_the_default() {
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
