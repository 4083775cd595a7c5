//! The ports of an inference service on this machine.

use std::net::SocketAddr;

use super::setting::set;

/// Where an inference service listens, and whether it serves the web page.
#[derive(Debug, Clone)]
pub(crate) struct InferenceSettings {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
    pub admin: SocketAddr,
    pub demo_page: bool,
    /// `host:port` of the teacher that the web page shows too.
    pub demo_page_teacher: Option<String>,
}

impl Default for InferenceSettings {
    /// Free ports that only this machine can reach.
    fn default() -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            http: free,
            grpc: free,
            metrics: free,
            admin: free,
            demo_page: false,
            demo_page_teacher: None,
        }
    }
}

impl InferenceSettings {
    /// All addresses.
    pub(crate) fn addresses(&self) -> [SocketAddr; 4] {
        self.ports().map(|(_, address)| address)
    }

    /// The arguments of `inference-service serve`.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (table, address) in self.ports() {
            arguments.push(set(&format!("{table}.listen"), address));
            if !address.ip().is_loopback() {
                let access = "anyone_who_reaches_the_port";
                arguments.push(set(&format!("{table}.access"), access));
            }
        }
        arguments.push(format!("--set=http.demo_page={}", self.demo_page));
        let teacher = self.demo_page_teacher.iter();
        arguments.extend(teacher.map(|teacher| set("http.demo_page_teacher", teacher)));
        arguments
    }

    /// The addresses with the tables of their settings.
    fn ports(&self) -> [(&'static str, SocketAddr); 4] {
        [
            ("http", self.http),
            ("grpc", self.grpc),
            ("metrics", self.metrics),
            ("admin", self.admin),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_that_other_machines_reach_is_opened_to_them() {
        let here = InferenceSettings::default().arguments().join("\n");
        assert!(!here.contains("access"), "{here}");
        let everywhere = InferenceSettings {
            http: "[::]:8000".parse().unwrap(),
            ..InferenceSettings::default()
        };
        let arguments = everywhere.arguments();
        let opened: Vec<_> = arguments
            .iter()
            .filter(|argument| argument.contains("access"))
            .collect();
        assert_eq!(
            opened,
            ["--set=http.access=\"anyone_who_reaches_the_port\""]
        );
        assert!(arguments.contains(&"--set=http.listen=\"[::]:8000\"".to_owned()));
    }
}
