//! Addresses of models on inference servers.

use std::fmt;

/// `grpc://HOST:PORT/MODEL`, or `grpc://HOST:PORT/MODEL/versions/VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelAddress {
    /// With the scheme `http` or `https`.
    pub server: String,
    pub model: String,
    /// Empty: the version that the server chooses.
    pub version: String,
}

/// An address that names no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "model.path = {address} is no model on an inference server; write grpc://HOST:PORT/MODEL or \
     grpc://HOST:PORT/MODEL/versions/VERSION, with grpcs:// for TLS"
)]
pub struct InvalidModelAddress {
    address: String,
}

impl ModelAddress {
    pub fn parse(address: &str) -> Result<Self, InvalidModelAddress> {
        let invalid = || InvalidModelAddress {
            address: address.to_owned(),
        };
        let (scheme, rest) = address.split_once("://").ok_or_else(invalid)?;
        let scheme = match scheme {
            "grpc" | "http" => "http",
            "grpcs" | "https" => "https",
            _ => return Err(invalid()),
        };
        let (server, path) = rest.split_once('/').ok_or_else(invalid)?;
        let (model, version) = match path.split_once("/versions/") {
            Some((model, version)) if !version.is_empty() => (model, version),
            Some(_) => return Err(invalid()),
            None => (path, ""),
        };
        let is_name = |name: &str| !name.contains('/');
        if server.is_empty() || model.is_empty() || !is_name(model) || !is_name(version) {
            return Err(invalid());
        }
        Ok(Self {
            server: format!("{scheme}://{server}"),
            model: model.to_owned(),
            version: version.to_owned(),
        })
    }
}

impl fmt::Display for ModelAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server, self.model)?;
        if !self.version.is_empty() {
            write!(f, "/versions/{}", self.version)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_server_model_and_version() {
        for (text, server, model, version) in [
            (
                "grpc://triton:8001/resnet",
                "http://triton:8001",
                "resnet",
                "",
            ),
            ("grpcs://h:1/m/versions/3", "https://h:1", "m", "3"),
            ("https://[::1]:8001/a.b", "https://[::1]:8001", "a.b", ""),
        ] {
            let expected = ModelAddress {
                server: server.to_owned(),
                model: model.to_owned(),
                version: version.to_owned(),
            };
            assert_eq!(ModelAddress::parse(text), Ok(expected));
        }
        for text in [
            "grpc://h:1",
            "grpc://h:1/",
            "grpc:///m",
            "ftp://h:1/m",
            "h:1/m",
            "grpc://h:1/a/b",
            "grpc://h:1/m/versions/",
        ] {
            let error = ModelAddress::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("grpcs://"),
                "{error}"
            );
        }
    }
}
