//! Asks a local teacher what it is.

use proto::teacher::v1::{
    DescribeRequest, DescribeResponse, teacher_service_client::TeacherServiceClient,
};

use crate::{CliError, client::Remote};

/// The description of the teacher at `address`.
pub(super) async fn describe(address: &str) -> Result<DescribeResponse, CliError> {
    let remote = Remote::teacher(address);
    let mut client = TeacherServiceClient::new(remote.connect().await?);
    let response = client.describe(DescribeRequest {}).await;
    Ok(response.map_err(remote.refused())?.into_inner())
}
