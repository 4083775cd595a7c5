//! What `retort serve` prints: addresses, and commands to paste.

use std::net::SocketAddr;

use super::student_folder::Artifact;
use crate::class_list::shown;

/// The addresses of the service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
    pub admin: SocketAddr,
}

/// The models, the addresses, and how to call the first model.
pub(super) fn text(artifacts: &[Artifact], addresses: &Addresses, has_page: bool) -> String {
    let Addresses {
        http,
        grpc,
        metrics,
        admin,
    } = addresses;
    let mut text = String::new();
    for Artifact { name, manifest, .. } in artifacts {
        let classes = &manifest.class_names;
        text += &format!(
            "{name} is served: {} classes ({})\n",
            classes.len(),
            shown(classes)
        );
    }
    text += &format!(
        "
  HTTP     http://{http}
  gRPC     {grpc}
  metrics  http://{metrics}/metrics
  admin    {admin}
"
    );
    // Holds: there is at least one.
    let name = &artifacts[0].name;
    text += &format!(
        "
Classify pictures:
  curl --data-binary @photo.jpg http://{http}/v1/models/{name}:classify
  retort predict --url {grpc} --model {name} photo.jpg
Serve another version:
  retort models publish {name} FOLDER --admin {admin}
"
    );
    if has_page {
        text += &format!("Drop pictures on a web page:\n  http://{http}/\n");
    }
    text + "\nCtrl-C stops the service."
}
